// SPDX-License-Identifier: Apache-2.0
//
// Route tables for the probes: a VirtualService with a rule for each condition, compiled as the
// waypoint does it. One thread; what is made lives as long as the program.
#pragma once

#include "bench/tools/load.h"
#include "common/base/arena.h"
#include "common/l7/l7_routes.h"

static struct arena route_arena;

PRINTF_LIKE(1, 2) LOAD_UNUSED static const char *route_text(const char *format, ...) {
    char buf[128];
    va_list args;
    va_start(args, format);
    vsnprintf(buf, sizeof(buf), format, args);
    va_end(args);
    char *copy = arena_strdup(&route_arena, slice_str(buf));
    if (copy == NULL) {
        die("no memory");
    }
    return copy;
}

PRINTF_LIKE(3, 4)
static void route_problem(const struct builder_l7_input *in, const struct kobj *obj,
                          const char *format, ...) {
    (void)in;
    (void)obj;
    die("the compiler objects: %s", format);
}

// The caller unrefs.
LOAD_UNUSED static struct leaf *route_compile(const struct kobj_string_match *uris, size_t n) {
    static const struct mesh_settings mesh = {.cluster_domain = "cluster.local",
                                              .root_namespace = "istio-system"};
    static struct service_port port = {.port = 80, .name = "http", .app_protocol = APP_HTTP11};
    static struct service service = {
        .leaf = {.key = SLICE_LIT("bench/web.bench.svc.cluster.local")},
        .name = "web",
        .ns = "bench",
        .hostname = "web.bench.svc.cluster.local",
        .ports = &port,
        .n_ports = 1,
        .waypoint = ""};
    static const struct kobj_vs_dest dest = {.host = "web", .subset = ""};
    struct kobj_vs_http *rules = arena_array(&route_arena, n, sizeof(*rules));
    struct kobj_vs_match *matches = arena_array(&route_arena, n, sizeof(*matches));
    for (size_t i = 0; i < n; i++) {
        matches[i] =
            (struct kobj_vs_match){.name = "", .stat_prefix = "", .source_ns = "", .uri = &uris[i]};
        rules[i] = (struct kobj_vs_http){.name = "",
                                         .delegate_name = "",
                                         .delegate_ns = "",
                                         .matches = &matches[i],
                                         .n_matches = 1,
                                         .routes = &dest,
                                         .n_routes = 1};
    }
    const struct kobj_virtual_service vs = {.http = rules, .n_http = (uint32_t)n};
    const struct kobj obj = {.kind_name = "VirtualService",
                             .api_version = "",
                             .group = "",
                             .meta = {.name = "vs", .ns = "bench"},
                             .file = "",
                             .virtual_service = &vs};
    const struct kobj *objs[] = {&obj};
    const char *host = service.hostname;
    struct builder_l7_input in = {.mesh = &mesh,
                                  .proxy_ns = "bench",
                                  .service = &service,
                                  .virtual_services = objs,
                                  .virtual_hosts = &host,
                                  .n_virtual_services = 1,
                                  .problem = route_problem};
    struct leaf *leaf = l7_routes_compile(NULL, &in);
    if (leaf == NULL || l7_routes_count(l7_routes_of_leaf(leaf)) != n) {
        die("the table does not have its %zu rules", n);
    }
    return leaf;
}

// SPDX-License-Identifier: Apache-2.0
//
// For tests of L7: messages from text, resources from C literals (in which texts may be left NULL),
// and the compiler's input around them.
#pragma once

#include <stdio.h>
#include <stdlib.h>

#include "common/base/rand.h"
#include "common/l7/l7_policy.h"
#include "common/l7/l7_routes.h"
#include "tests/unit/base/unit.h"

enum { FX_FIELDS_MAX = 32, FX_OBJS_MAX = 16, FX_PROBLEMS_MAX = 4096 };

struct fx_head {
    struct http_head head;
    struct http_field fields[FX_FIELDS_MAX];
    char text[4096];
};
// "GET http authority /path\nname: value\n...", or "200\nname: value" for a response. '-' stands
// for an empty scheme or authority.
void fx_head(struct fx_head *ret, const char *text);

#define FX_EXACT(t) (&(const struct kobj_string_match){.kind = KOBJ_MATCH_EXACT, .text = (t)})
#define FX_PREFIX(t) (&(const struct kobj_string_match){.kind = KOBJ_MATCH_PREFIX, .text = (t)})
#define FX_REGEX(t) (&(const struct kobj_string_match){.kind = KOBJ_MATCH_REGEX, .text = (t)})
#define FX_PRESENT (&(const struct kobj_string_match){.kind = KOBJ_MATCH_PRESENT, .text = ""})
#define FX_NAMED(list, ...)                                                                        \
    .list = (struct kobj_named_match[]){__VA_ARGS__},                                              \
    .n_##list = ARRAY_LEN(((struct kobj_named_match[]){__VA_ARGS__}))
#define FX_IS(n, t)                                                                                \
    {                                                                                              \
        .name = (n), .match = {.kind = KOBJ_MATCH_EXACT, .text = (t) }                             \
    }
#define FX_STARTS(n, t)                                                                            \
    {                                                                                              \
        .name = (n), .match = {.kind = KOBJ_MATCH_PREFIX, .text = (t) }                            \
    }
#define FX_MATCHES(n, t)                                                                           \
    {                                                                                              \
        .name = (n), .match = {.kind = KOBJ_MATCH_REGEX, .text = (t) }                             \
    }
#define FX_HAS(n)                                                                                  \
    {                                                                                              \
        .name = (n), .match = {.kind = KOBJ_MATCH_PRESENT, .text = "" }                            \
    }
#define FX_MAP(...)                                                                                \
    { .items = (struct kobj_kv[]){__VA_ARGS__}, .n = ARRAY_LEN(((struct kobj_kv[]){__VA_ARGS__})) }

// One compilation: objects are added, then compiled. Literals are copied, texts are borrowed.
struct fx {
    struct builder_l7_input in;
    struct mesh_settings mesh;
    struct service service;
    struct service_port ports[4];
    struct kobj objs[FX_OBJS_MAX];
    const struct kobj *virtual_services[FX_OBJS_MAX], *routes[FX_OBJS_MAX], *rules[FX_OBJS_MAX];
    const struct kobj *delegates[FX_OBJS_MAX];
    size_t n_objs, n_delegates;
    struct arena arena;
    char problems[FX_PROBLEMS_MAX];
    struct leaf *leaf;
};
void fx_init(struct fx *fx); // service "web" in "shop", ports 80 and 8080
void fx_fini(struct fx *fx);
void fx_virtual_service(struct fx *fx, const char *name, const struct kobj_vs_http *http,
                        size_t n_http);
void fx_delegate(struct fx *fx, const char *name, const struct kobj_vs_http *http, size_t n_http);
void fx_route(struct fx *fx, const char *kind, const char *name,
              const struct kobj_route_rule *rules, size_t n_rules, uint16_t port);
void fx_destination_rule(struct fx *fx, const struct kobj_destination_rule *rule);
const struct l7_routes *fx_routes(struct fx *fx);
const struct l7_policy *fx_policy(struct fx *fx);
// Literals live as long as the block around the call.
#define FX_VS(fx, name, ...)                                                                       \
    fx_virtual_service((fx), (name), (const struct kobj_vs_http[]){__VA_ARGS__},                   \
                       ARRAY_LEN(((const struct kobj_vs_http[]){__VA_ARGS__})))
#define FX_ROUTE(fx, kind, name, ...)                                                              \
    fx_route((fx), (kind), (name), (const struct kobj_route_rule[]){__VA_ARGS__},                  \
             ARRAY_LEN(((const struct kobj_route_rule[]){__VA_ARGS__})), 0)
#define FX_MATCH(...) .matches = (struct kobj_vs_match[]){{__VA_ARGS__}}, .n_matches = 1
#define FX_TO(h) .routes = (struct kobj_vs_dest[]){{.host = (h)}}, .n_routes = 1

// The route of a request; asserts that a trace comes to the same one.
const struct l7_route *fx_match(const struct l7_routes *routes, struct l7_request *request,
                                struct l7_match *ret_match);

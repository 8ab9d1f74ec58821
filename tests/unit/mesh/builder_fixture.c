// SPDX-License-Identifier: Apache-2.0
#include "tests/unit/mesh/builder_fixture.h"

#include <stdio.h>
#include <stdlib.h>

#include "common/base/arena.h"
#include "common/base/buf.h"
#include "common/mesh/builder_l7.h"
#include "common/mesh/config_doc.h"
#include "common/mesh/config_errors.h"

struct builder_changes fx_changes;

struct decoding {
    struct fx_objects *objects;
    struct arena *arena;
    struct config_errors *errors;
};

static int on_object(void *arg, const struct cfg_node *node) {
    struct decoding *d = arg;
    struct kobj *obj = kobj_decode(node, "test.yaml", KOBJ_LEAN, d->arena, d->errors);
    assert_true(d->objects->n < FX_OBJECTS_MAX);
    if (obj != NULL) {
        d->objects->items[d->objects->n++] = obj;
    }
    return 0;
}

void fx_decode(const char *yaml, struct fx_objects *ret_objects) {
    struct arena arena;
    struct config_errors errors;
    struct config_doc_reader reader;
    struct cfg_node root;
    *ret_objects = (struct fx_objects){0};
    struct decoding d = {.objects = ret_objects, .arena = &arena, .errors = &errors};
    arena_init(&arena, SIZE_MAX);
    config_errors_init(&errors);
    config_doc_reader_init(&reader, "test.yaml", slice_str(yaml), CONFIG_YAML, NULL);
    while (config_doc_next(&reader, &arena, &errors, &root) > 0) {
        config_doc_each(&root, &arena, "test.yaml", &errors, on_object, &d);
    }
    if (errors.n_errors > 0) {
        char *text = config_error_text(&errors.items[0]);
        fail_msg("%s\nin\n%s", text, yaml);
    }
    config_errors_fini(&errors);
    arena_fini(&arena);
}

void fx_objects_free(struct fx_objects *objects) {
    for (size_t i = 0; i < objects->n; i++) {
        kobj_unref(objects->items[i]);
    }
}

struct mesh_builder *fx_builder(const char *node) {
    struct builder_options options = {.mesh = *snapshot_current()->mesh, .node = node};
    return builder_new(&options);
}

// L7: operations that write down what they get

struct text_leaf {
    struct leaf_ext ext;
    char *key, *text;
};

static struct lines {
    char **items;
    size_t n;
} calls;

static void add_call(const char *what, const struct builder_l7_input *in) {
    calls.items = xrealloc(calls.items, (calls.n + 1) * sizeof(char *));
    calls.items[calls.n++] = xasprintf("%s %s", what, (const char *)in->service->leaf.key.ptr);
}

static void text_leaf_free(struct leaf_ext *ext) {
    struct text_leaf *leaf = CONTAINER_OF(ext, struct text_leaf, ext);
    free(leaf->key);
    free(leaf->text);
    free(leaf);
}

static struct leaf *text_leaf(const struct builder_l7_input *in, struct buf *text) {
    size_t len = buf_slice(text).len;
    if (len == 0) {
        buf_fini(text);
        return NULL;
    }
    struct text_leaf *leaf = xcalloc(1, sizeof(*leaf));
    leaf->key = slice_dup(in->service->leaf.key);
    leaf->text = buf_take(text, &(size_t){0});
    buf_fini(text);
    leaf_ext_init(&leaf->ext, slice_str(leaf->key), text_leaf_free);
    return &leaf->ext.leaf;
}

static void put_objects(struct buf *text, const char *what, const struct kobj *const *objs,
                        const char *const *hosts, uint32_t n) {
    for (uint32_t i = 0; i < n; i++) {
        buf_printf(text, "%s%s %s/%s%s%s", buf_slice(text).len > 0 ? "; " : "", what,
                   objs[i]->meta.ns, objs[i]->meta.name, hosts != NULL ? "@" : "",
                   hosts != NULL ? hosts[i] : "");
    }
}

static void put_grants(struct buf *text, const struct builder_l7_input *in) {
    for (uint32_t i = 0; i < in->n_routes; i++) {
        const struct kobj_route *route = in->routes[i]->route;
        for (uint32_t k = 0; k < (route->n_rules > 0 ? route->rules[0].n_backends : 0); k++) {
            const struct kobj_backend *backend = &route->rules[0].backends[k];
            bool is_other = backend->ns[0] != '\0';
            if (is_other && !in->is_granted(in, in->routes[i], backend->ns, backend->name)) {
                buf_printf(text, "; without %s/%s", backend->ns, backend->name);
            }
        }
    }
}

static struct leaf *compile_routes(void *arg, const struct builder_l7_input *in) {
    struct buf text;
    buf_init(&text, 65536);
    add_call("routes", in);
    put_objects(&text, "vs", in->virtual_services, in->virtual_hosts, in->n_virtual_services);
    put_objects(&text, "route", in->routes, NULL, in->n_routes);
    put_grants(&text, in);
    for (uint32_t i = 0; i < in->n_virtual_services; i++) {
        const struct kobj *obj = in->virtual_services[i];
        for (uint32_t k = 0; k < obj->virtual_service->n_http; k++) {
            const struct kobj_vs_http *http = &obj->virtual_service->http[k];
            if (http->delegate_name[0] == '\0') {
                continue;
            }
            const struct kobj *delegate =
                in->delegate(in, obj, http->delegate_ns, http->delegate_name);
            if (delegate == NULL) {
                in->problem(in, obj, "delegate %s is not there", http->delegate_name);
            } else {
                buf_printf(&text, "; delegate %s/%s %s", delegate->meta.ns, delegate->meta.name,
                           delegate->virtual_service->http[0].routes[0].host);
            }
        }
    }
    return text_leaf(in, &text);
}

static struct leaf *compile_policy(void *arg, const struct builder_l7_input *in) {
    struct buf text;
    buf_init(&text, 65536);
    add_call("policy", in);
    put_objects(&text, "dr", in->destination_rules, NULL, in->n_destination_rules);
    put_objects(&text, "authz", in->authz, NULL, in->n_authz);
    if (buf_slice(&text).len > 0) {
        buf_printf(&text, "; %u endpoints", in->service->n_endpoints);
    }
    return text_leaf(in, &text);
}

struct mesh_builder *fx_l7_builder(const char *node, const char *proxy_ns) {
    static const struct builder_l7_ops ops = {.routes = compile_routes, .policy = compile_policy};
    struct builder_options options = {.mesh = *snapshot_current()->mesh,
                                      .node = node,
                                      .has_targeted = true,
                                      .l7 = &ops,
                                      .proxy_namespace = proxy_ns};
    return builder_new(&options);
}

static const char *text_of(const struct leaf *leaf) {
    const struct leaf_ext *ext = (const struct leaf_ext *)leaf;
    return leaf != NULL ? CONTAINER_OF(ext, const struct text_leaf, ext)->text : "-";
}

const char *fx_l7_routes(const char *key) {
    return text_of(snapshot_l7_routes(snapshot_current(), slice_str(key)));
}

const char *fx_l7_policy(const char *key) {
    return text_of(snapshot_l7_policy(snapshot_current(), slice_str(key)));
}

static int by_text(const void *a, const void *b) {
    return strcmp(*(char *const *)a, *(char *const *)b);
}

const char *fx_l7_calls(void) {
    static char text[16384];
    size_t len = 0;
    text[0] = '\0';
    if (calls.n > 1) {
        qsort(calls.items, calls.n, sizeof(char *), by_text);
    }
    for (size_t i = 0; i < calls.n; i++) {
        len += (size_t)snprintf(text + len, sizeof(text) - len, "%s\n", calls.items[i]);
        assert_true(len < sizeof(text));
        free(calls.items[i]);
    }
    free(calls.items);
    calls = (struct lines){0};
    return text;
}

void fx_commit(struct mesh_builder *b) {
    builder_changes_fini(&fx_changes);
    builder_commit(b, &fx_changes);
}

void fx_apply(struct mesh_builder *b, const char *yaml) {
    struct fx_objects objects;
    fx_decode(yaml, &objects);
    for (size_t i = 0; i < objects.n; i++) {
        builder_set(b, objects.items[i]);
    }
    fx_objects_free(&objects);
    fx_commit(b);
}

void fx_remove(struct mesh_builder *b, const char *yaml) {
    struct fx_objects objects;
    fx_decode(yaml, &objects);
    for (size_t i = 0; i < objects.n; i++) {
        builder_del(b, objects.items[i]);
    }
    fx_objects_free(&objects);
    fx_commit(b);
}

void fx_builder_free(struct mesh_builder *b) {
    builder_changes_fini(&fx_changes);
    builder_free(b);
}

static bool append_problem(void *arg, const struct builder_problem *problem) {
    buf_printf(arg, "%s %s/%s: %s\n", problem->obj->kind_name, problem->obj->meta.ns,
               problem->obj->meta.name, problem->text);
    return true;
}

const char *fx_problems(struct mesh_builder *b) {
    static char text[16384];
    struct buf buf;
    buf_init(&buf, sizeof(text) - 1);
    builder_each_problem(b, append_problem, &buf);
    snprintf(text, sizeof(text), "%s", buf_cstr(&buf));
    buf_fini(&buf);
    return text;
}

struct workload *fx_find_workload(const char *uid) {
    return snapshot_workload_by_uid(snapshot_current(), uid);
}

struct service *fx_find_service(const char *key) {
    return snapshot_service(snapshot_current(), key);
}

struct policy *fx_find_policy(const char *key) {
    return snapshot_policy(snapshot_current(), key);
}

// Dump

static void dump_ips(struct buf *out, const struct ip *ips, size_t n) {
    char text[IP_TEXT_MAX];
    for (size_t i = 0; i < n; i++) {
        buf_printf(out, " %s", ip_text(&ips[i], text));
    }
}

static void dump_list(struct buf *out, const char *name, const char *const *list) {
    for (size_t i = 0; list != NULL && list[i] != NULL; i++) {
        buf_printf(out, " %s=%s", name, list[i]);
    }
}

static void dump_workload(struct buf *out, const struct workload *w) {
    buf_printf(out, "workload %s %s/%s id=%s node=%s net=%s canon=%s/%s owner=%s:%s host=%s",
               (const char *)w->leaf.key.ptr, w->ns, w->name, w->common->identity, w->node,
               w->common->network, workload_canonical_name(w), w->common->canonical_revision,
               w->common->owner_type, workload_owner_name(w), w->common->hostname);
    buf_printf(out, " netns=%s place=%s/%s/%s way=%s cap=%u flags=%d%d%d%d%d%d%d",
               w->common->local->netns, w->common->locality.region, w->common->locality.zone,
               w->common->locality.subzone, w->common->waypoint, w->capacity, w->protocol,
               w->is_healthy, w->is_ready, w->is_host_network, w->is_enrolled, w->is_terminating,
               w->is_pod);
    dump_ips(out, w->ips, w->n_ips);
    for (size_t i = 0; i < w->common->n_labels; i++) {
        buf_printf(out, " %s=%s", w->common->labels[i].key, w->common->labels[i].value);
    }
    for (size_t i = 0; i < w->common->n_ports; i++) {
        buf_printf(out, " %s:%u", w->common->ports[i].name, w->common->ports[i].port);
    }
    for (size_t i = 0; i < w->common->n_policies; i++) {
        buf_printf(out, " policy=%s", w->common->policies[i]);
    }
    dump_list(out, "search", w->common->local->dns_search);
    dump_list(out, "ns", w->common->local->nameservers);
}

static void dump_service(struct buf *out, const struct service *s) {
    buf_printf(out, "service %s %s lb=%u way=%s flags=%d%d%d%d%d%d%d%d", s->leaf.key.ptr, s->name,
               s->lb_mode, s->waypoint, s->is_headless, s->is_external, s->allow_not_ready,
               s->is_canonical, s->is_private, s->is_external_local, s->is_uniform, s->is_dynamic);
    for (size_t i = 0; i < s->n_scopes; i++) {
        buf_printf(out, " scope=%u", s->scopes[i]);
    }
    dump_ips(out, s->vips, s->n_vips);
    for (size_t i = 0; i < s->n_ranges; i++) {
        char text[CIDR_TEXT_MAX];
        buf_printf(out, " %s", cidr_text(&s->ranges[i], text));
    }
    for (size_t i = 0; i < s->n_ports; i++) {
        buf_printf(out, " %u:%u:%u:%s:%s:%u", s->ports[i].port, s->ports[i].target_port,
                   s->ports[i].node_port, s->ports[i].name, s->ports[i].target_name,
                   s->ports[i].app_protocol);
    }
    for (size_t i = 0; i < s->n_sans; i++) {
        buf_printf(out, " san=%s", s->sans[i]);
    }
    for (size_t i = 0; i < s->n_endpoints; i++) {
        const struct endpoint *e = &s->endpoints[i];
        // The workload of an endpoint is the one in the table, not an older one.
        assert_ptr_equal(e->workload, fx_find_workload((const char *)e->workload->leaf.key.ptr));
        buf_printf(out, "\n  endpoint %s %d %u", (const char *)e->workload->leaf.key.ptr,
                   e->is_ready, e->weight);
        dump_ips(out, &e->ip, e->ip.family != 0);
        for (size_t k = 0; k < s->n_ports; k++) {
            buf_printf(out, " :%u", e->target_ports[k]);
        }
    }
}

static void dump_policy(struct buf *out, const struct policy *p) {
    buf_printf(out, "policy %s scope=%u action=%u dry=%d", (const char *)p->leaf.key.ptr, p->scope,
               p->action, p->is_dry_run);
    for (size_t i = 0; i < p->n_rules; i++) {
        buf_printf(out, " rule[");
        for (size_t k = 0; k < p->rules[i].n_clauses; k++) {
            const struct policy_clause *clause = &p->rules[i].clauses[k];
            for (size_t m = 0; m < clause->n_matches; m++) {
                const struct policy_match *x = &clause->matches[m];
                buf_printf(out, " (%u %u %u %u)", x->n_principals, x->n_not_principals,
                           x->n_destination_ports, x->n_not_destination_ports);
                for (size_t d = 0; d < x->n_destination_ports; d++) {
                    buf_printf(out, " %u", x->destination_ports[d]);
                }
                for (size_t d = 0; d < x->n_not_destination_ports; d++) {
                    buf_printf(out, " !%u", x->not_destination_ports[d]);
                }
            }
        }
        buf_printf(out, "]");
    }
}

static bool add_line(void *arg, void *value) {
    struct lines *lines = arg;
    struct buf out;
    buf_init(&out, 1 << 20);
    switch (((struct leaf *)value)->kind) {
    case LEAF_WORKLOAD:
        dump_workload(&out, value);
        break;
    case LEAF_SERVICE:
        dump_service(&out, value);
        break;
    case LEAF_POLICY:
        dump_policy(&out, value);
        break;
    case LEAF_EXT:
        buf_printf(&out, "l7 %s: %s", (const char *)((struct leaf *)value)->key.ptr,
                   text_of(value));
        break;
    default: {
        const struct node *node = value;
        buf_printf(&out, "node %s %s", node->name, node->locality.zone);
        dump_ips(&out, node->ips, node->n_ips);
    }
    }
    lines->items = xrealloc(lines->items, (lines->n + 1) * sizeof(char *));
    lines->items[lines->n++] = buf_take(&out, &(size_t){0});
    buf_fini(&out);
    return true;
}

char *fx_dump(void) {
    const struct snapshot *snap = snapshot_current();
    struct lines lines = {0};
    struct buf out;
    buf_init(&out, 1 << 24);
    pmap_each(&snap->workloads, add_line, &lines);
    pmap_each(&snap->services, add_line, &lines);
    pmap_each(&snap->policies, add_line, &lines);
    pmap_each(&snap->nodes, add_line, &lines);
    pmap_each(&snap->l7_routes, add_line, &lines);
    pmap_each(&snap->l7_policies, add_line, &lines);
    if (lines.n > 0) {
        qsort(lines.items, lines.n, sizeof(char *), by_text);
    }
    for (size_t i = 0; i < lines.n; i++) {
        buf_printf(&out, "%s\n", lines.items[i]);
        free(lines.items[i]);
    }
    free(lines.items);
    // Sizes of the indexes: a forgotten entry shows.
    buf_printf(
        &out,
        "by ip %zu, vip %zu, range %zu, host %zu, node port %zu, ns %zu, node ip %zu, root %s\n",
        snap->workloads_by_ip.n_items, snap->services_by_vip.n_items,
        snap->services_by_range.n_items, snap->services_by_host.n_items,
        snap->services_by_node_port.n_items, snap->policies_by_ns.n_items,
        snap->nodes_by_ip.n_items, snap->mesh->root_namespace);
    char *text = buf_take(&out, &(size_t){0});
    buf_fini(&out);
    return text;
}

// SPDX-License-Identifier: Apache-2.0
//
// Compiles what concerns each service, and keeps the results: a service is looked at again when an
// object that names it changed (a touch), and compiled again when the list of its objects is not
// the same as last time.
#include "common/mesh/builder_l7.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/mesh/builder_l7_priv.h"

enum {
    L7_ROUTES = 1, // look at the list
    L7_POLICY = 2,
    L7_FORCE_ROUTES = 4, // compile in any case
    L7_FORCE_POLICY = 8,
};

// A problem of an object, shared by the services that have it.
struct l7_problem {
    struct list in_record;
    unsigned uses;
    char text[];
};

// What a leaf was compiled from, and its problems.
struct l7_use {
    struct kobj **objs; // referenced
    size_t n;
    struct l7_problem **problems;
    size_t n_problems;
    bool is_done, has_leaf;
};

struct bsvc_l7 {
    struct l7_use routes, policy;
};

// Problems

static struct l7_problem *problem_of(struct record *record, const char *text) {
    LIST_EACH(pos, &record->more->l7_problems) {
        struct l7_problem *problem = LIST_ITEM(pos, struct l7_problem, in_record);
        if (strcmp(problem->text, text) == 0) {
            return problem;
        }
    }
    size_t len = strlen(text);
    struct l7_problem *problem = xmalloc(sizeof(*problem) + len + 1);
    problem->uses = 0;
    memcpy(problem->text, text, len + 1);
    list_push_back(&builder_more(record)->l7_problems, &problem->in_record);
    return problem;
}

static void use_problem(struct l7_use *use, struct l7_problem *problem) {
    for (size_t i = 0; i < use->n_problems; i++) {
        if (use->problems[i] == problem) {
            return;
        }
    }
    use->problems = xrealloc(use->problems, (use->n_problems + 1) * sizeof(struct l7_problem *));
    use->problems[use->n_problems++] = problem;
    problem->uses++;
}

static void use_fini(struct l7_use *use) {
    for (size_t i = 0; i < use->n; i++) {
        kobj_unref(use->objs[i]);
    }
    for (size_t i = 0; i < use->n_problems; i++) {
        struct l7_problem *problem = use->problems[i];
        if (--problem->uses == 0) {
            list_del(&problem->in_record);
            free(problem);
        }
    }
    free(use->objs);
    free(use->problems);
    *use = (struct l7_use){0};
}

void builder_l7_forget(struct record *record) {
    LIST_EACH_SAFE(pos, &record->more->l7_problems) {
        list_del(pos); // the services that use it free it
    }
}

bool builder_l7_each_problem(const struct record *record,
                             bool (*fn)(void *arg, const struct builder_problem *problem),
                             void *arg) {
    LIST_EACH(pos, &record->more->l7_problems) {
        const struct l7_problem *item = LIST_ITEM(pos, struct l7_problem, in_record);
        struct builder_problem problem = {.obj = record->obj, .text = item->text};
        if (!fn(arg, &problem)) {
            return false;
        }
    }
    return true;
}

// Touches

static void touch(struct mesh_builder *b, struct bsvc *service, unsigned flags) {
    service->l7_dirty |= (uint8_t)flags;
    if (!list_linked(&service->in_l7)) {
        list_push_back(&b->l7_dirty, &service->in_l7);
    }
}

static void touch_any(struct mesh_builder *b, struct bsvc *service, bool is_delegate) {
    touch(b, service, is_delegate ? L7_FORCE_ROUTES : L7_ROUTES | L7_POLICY);
}

void builder_l7_changed(struct mesh_builder *b, struct record *record) {
    builder_l7_each_touched(b, record, touch_any);
    builder_l7_index(b, record);
    builder_l7_each_touched(b, record, touch_any);
}

void builder_l7_touch_all(struct mesh_builder *b) {
    HMAP_EACH_SAFE(pos, &b->services) {
        touch(b, HMAP_ITEM(pos, struct bsvc, by_host), L7_FORCE_ROUTES | L7_FORCE_POLICY);
    }
}

// All of a service leaf but its endpoints.
static uint64_t shape_of(const struct service *s) {
    uint64_t parts[16] = {hash_bytes(slice_str(s->name)),
                          hash_bytes(slice_str(s->ns)),
                          hash_bytes(slice_str(s->waypoint)),
                          s->lb_mode,
                          (uint64_t)s->is_headless | (uint64_t)s->is_external << 1 |
                              (uint64_t)s->is_canonical << 2 | (uint64_t)s->is_private << 3 |
                              (uint64_t)s->allow_not_ready << 4 | (uint64_t)s->is_waypoint << 5 |
                              (uint64_t)s->is_dynamic << 6,
                          s->n_cluster_vips,
                          hash_bytes(slice_make(s->scopes, sizeof(s->scopes)))};
    uint64_t hash = hash_bytes(slice_make(parts, sizeof(parts)));
    for (size_t i = 0; i < s->n_vips; i++) {
        uint64_t next[2] = {hash, hash_bytes(slice_make(s->vips[i].bytes, 16))};
        hash = hash_bytes(slice_make(next, sizeof(next)));
    }
    for (size_t i = 0; i < s->n_ranges; i++) {
        uint64_t next[3] = {hash, hash_bytes(slice_make(s->ranges[i].ip.bytes, 16)),
                            s->ranges[i].len};
        hash = hash_bytes(slice_make(next, sizeof(next)));
    }
    for (size_t i = 0; i < s->n_ports; i++) {
        const struct service_port *p = &s->ports[i];
        uint64_t next[4] = {hash, hash_bytes(slice_str(p->name)),
                            hash_bytes(slice_str(p->target_name)),
                            (uint64_t)p->port | (uint64_t)p->target_port << 16 |
                                (uint64_t)p->node_port << 32 | (uint64_t)p->app_protocol << 48};
        hash = hash_bytes(slice_make(next, sizeof(next)));
    }
    for (size_t i = 0; i < s->n_sans; i++) {
        uint64_t next[2] = {hash, hash_bytes(slice_str(s->sans[i]))};
        hash = hash_bytes(slice_make(next, sizeof(next)));
    }
    return hash;
}

void builder_l7_built(struct mesh_builder *b, struct bsvc *service, const struct service *spec) {
    uint64_t shape = shape_of(spec);
    bool is_same = service->has_shape && service->shape == shape;
    service->shape = shape;
    service->has_shape = true;
    touch(b, service, L7_ROUTES | L7_FORCE_POLICY | (is_same ? 0 : L7_FORCE_ROUTES));
}

void builder_l7_gone(struct mesh_builder *b, struct bsvc *service) {
    list_del(&service->in_l7);
    if (service->l7 == NULL) {
        return;
    }
    if (b->draft != NULL && service->l7->routes.has_leaf) {
        snapshot_del_l7_routes(b->draft, service->key);
    }
    if (b->draft != NULL && service->l7->policy.has_leaf) {
        snapshot_del_l7_policy(b->draft, service->key);
    }
    use_fini(&service->l7->routes);
    use_fini(&service->l7->policy);
    free(service->l7);
    service->l7 = NULL;
}

// Compiling

struct compile {
    struct builder_l7_input in;
    struct mesh_builder *b;
    struct l7_use use; // what is being put together
};

static struct compile *compile_of(const struct builder_l7_input *in) {
    return (struct compile *)((char *)in - offsetof(struct compile, in)); // ours
}

static void on_problem(const struct builder_l7_input *in, const struct kobj *obj, const char *fmt,
                       ...) PRINTF_LIKE(3, 4);
static void on_problem(const struct builder_l7_input *in, const struct kobj *obj, const char *fmt,
                       ...) {
    struct compile *compile = compile_of(in);
    struct record *record =
        builder_find(compile->b, (enum kobj_kind)obj->kind, obj->meta.ns, obj->meta.name);
    char text[512];
    va_list args;
    va_start(args, fmt);
    vsnprintf(text, sizeof(text), fmt, args);
    va_end(args);
    if (record != NULL) {
        use_problem(&compile->use, problem_of(record, text));
    }
}

static const struct kobj *on_delegate(const struct builder_l7_input *in, const struct kobj *from,
                                      const char *ns, const char *name) {
    return builder_l7_delegate(compile_of(in)->b, from, ns, name);
}

static bool on_granted(const struct builder_l7_input *in, const struct kobj *route, const char *ns,
                       const char *name) {
    return builder_is_granted(compile_of(in)->b, route->kind_name, route->meta.ns, ns, name);
}

static bool same_objs(const struct l7_use *use, const struct l7_list *list) {
    for (size_t i = 0; use->n == list->n && i < list->n; i++) {
        if (use->objs[i] != list->items[i]->obj) {
            return false;
        }
    }
    return use->n == list->n;
}

static void take_objs(struct l7_use *use, const struct l7_list *list) {
    use->objs = xcalloc(list->n + 1, sizeof(struct kobj *));
    for (size_t i = 0; i < list->n; i++) {
        use->objs[i] = kobj_ref(list->items[i]->obj);
    }
    use->n = list->n;
}

// Puts the new use in place of the old one, and the leaf into its table.
static void finish(struct compile *compile, const struct bsvc *service, struct l7_use *use,
                   struct leaf *leaf, bool is_routes) {
    struct mesh_builder *b = compile->b;
    bool had_leaf = use->has_leaf;
    compile->use.has_leaf = leaf != NULL;
    compile->use.is_done = true;
    struct l7_use old = *use;
    *use = compile->use;
    use_fini(&old);
    if (leaf != NULL) {
        CHECK(slice_eq_str(leaf->key, service->key));
        (is_routes ? snapshot_set_l7_routes : snapshot_set_l7_policy)(b->draft, leaf);
    } else if (had_leaf) {
        (is_routes ? snapshot_del_l7_routes : snapshot_del_l7_policy)(b->draft, service->key);
    }
    bool is_change = leaf != NULL || had_leaf;
    b->has_changes = b->has_changes || is_change;
    b->settings_changed = b->settings_changed || (is_change && !is_routes);
}

static const char *proxy_ns_of(const struct mesh_builder *b, const struct record *record) {
    return b->proxy_ns != NULL ? b->proxy_ns : record->ns->name;
}

static struct compile begin(struct mesh_builder *b, const struct bsvc *service,
                            const struct service *leaf) {
    return (struct compile){
        .b = b,
        .in = {.mesh = &b->mesh,
               .config = b->config,
               .proxy_ns = proxy_ns_of(b, service->record),
               .service = leaf,
               .delegate = on_delegate,
               .is_granted = on_granted,
               .problem = on_problem},
    };
}

static void compile_routes(struct mesh_builder *b, struct bsvc *service,
                           const struct service *leaf) {
    struct l7_use *use = &service->l7->routes;
    struct compile compile = begin(b, service, leaf);
    struct l7_list list = {0};
    builder_l7_virtual_services(b, leaf->hostname, leaf->ns, compile.in.proxy_ns, &list);
    size_t n_vs = list.n;
    builder_l7_routes(b, service->record, &list);
    bool is_forced = (service->l7_dirty & L7_FORCE_ROUTES) != 0 || !use->is_done;
    if (is_forced || !same_objs(use, &list)) {
        take_objs(&compile.use, &list);
        const struct kobj *const *objs = (const struct kobj *const *)compile.use.objs;
        compile.in.virtual_services = objs;
        compile.in.virtual_hosts = list.hosts;
        compile.in.n_virtual_services = (uint32_t)n_vs;
        compile.in.routes = objs + n_vs;
        compile.in.n_routes = (uint32_t)(list.n - n_vs);
        finish(&compile, service, use, b->l7->routes(b->l7->arg, &compile.in), true);
    }
    l7_list_fini(&list);
}

static void compile_policy(struct mesh_builder *b, struct bsvc *service,
                           const struct service *leaf) {
    struct l7_use *use = &service->l7->policy;
    struct compile compile = begin(b, service, leaf);
    struct l7_list list = {0};
    builder_l7_destination_rules(b, leaf->hostname, leaf->ns, compile.in.proxy_ns, &list);
    size_t n_rules = list.n;
    builder_l7_authz(b, service->record, &list);
    bool is_forced = (service->l7_dirty & L7_FORCE_POLICY) != 0 || !use->is_done;
    if (is_forced || !same_objs(use, &list)) {
        take_objs(&compile.use, &list);
        const struct kobj *const *objs = (const struct kobj *const *)compile.use.objs;
        compile.in.destination_rules = objs;
        compile.in.n_destination_rules = (uint32_t)n_rules;
        compile.in.authz = objs + n_rules;
        compile.in.n_authz = (uint32_t)(list.n - n_rules);
        finish(&compile, service, use, b->l7->policy(b->l7->arg, &compile.in), false);
    }
    l7_list_fini(&list);
}

void builder_l7_compile(struct mesh_builder *b) {
    while (!list_empty(&b->l7_dirty)) {
        struct bsvc *service = LIST_ITEM(b->l7_dirty.next, struct bsvc, in_l7);
        const struct service *leaf = snapshot_service(b->draft, service->key);
        list_del(&service->in_l7);
        if (b->l7 != NULL && leaf != NULL) {
            if (service->l7 == NULL) {
                service->l7 = xcalloc(1, sizeof(*service->l7));
            }
            if ((service->l7_dirty & (L7_ROUTES | L7_FORCE_ROUTES)) != 0) {
                compile_routes(b, service, leaf);
            }
            if ((service->l7_dirty & (L7_POLICY | L7_FORCE_POLICY)) != 0) {
                compile_policy(b, service, leaf);
            }
        }
        service->l7_dirty = 0;
    }
}

// SPDX-License-Identifier: Apache-2.0
//
// Documents to objects. An object comes out exactly when there was no error, a lean one exactly
// when a full one does, and both have the same identity and hash.
#include <stdlib.h>

#include "common/mesh/config_doc.h"
#include "common/mesh/kobj_l7.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

struct run {
    struct arena *arena;
    struct config_errors errors;
};

static void use(const struct kobj *obj) {
    CHECK(obj->meta.ns != NULL && obj->kind < KOBJ_N_KINDS);
    CHECK(obj->meta.name[0] != '\0' || obj->kind == KOBJ_UNKNOWN || obj->kind == KOBJ_UNUSED);
    CHECK(obj->spec != NULL || obj->kind <= KOBJ_NAMESPACE || obj->kind == KOBJ_SERVICE_ACCOUNT);
    kobj_pos_of(obj, "spec.ports[0].port");
    if (obj->kind == KOBJ_POD) {
        kobj_pod_is_ready(obj);
        CHECK(obj->pod->status.n_pod_ips > 0 || obj->pod->status.pod_ip[0] == '\0');
    }
    if (obj->kind == KOBJ_VIRTUAL_SERVICE) {
        const struct kobj_virtual_service *vs = obj->virtual_service;
        kobj_virtual_service_is_mesh(vs);
        CHECK(vs->n_http + vs->n_tls + vs->n_tcp > 0);
        for (uint32_t i = 0; i < vs->n_http; i++) {
            CHECK(vs->http[i].n_mirrors == 0 || vs->http[i].mirrors[0].ppm <= KOBJ_PPM);
        }
    }
    if (obj->kind == KOBJ_HTTP_ROUTE || obj->kind == KOBJ_GRPC_ROUTE) {
        for (uint32_t i = 0; i < obj->route->n_rules; i++) {
            const struct kobj_route_rule *rule = &obj->route->rules[i];
            for (uint32_t j = 0; j < rule->n_filters; j++) {
                CHECK(rule->filters[j].mirror == NULL || rule->filters[j].mirror->ppm <= KOBJ_PPM);
            }
        }
    }
    if (obj->kind == KOBJ_DEPLOYMENT) {
        CHECK(obj->workload_set->selector != NULL);
    }
}

static int on_object(void *arg, const struct cfg_node *node) {
    struct run *run = arg;
    uint32_t n_before = run->errors.n_errors;
    struct kobj *full = kobj_decode(node, "f", KOBJ_KEEP_TREE, run->arena, &run->errors);
    uint32_t n_errors = run->errors.n_errors - n_before;
    struct kobj *lean = kobj_decode(node, "f", KOBJ_LEAN, run->arena, &run->errors);

    CHECK((full != NULL) == (lean != NULL));
    CHECK(full != NULL ? n_errors == 0 : n_errors > 0 || node->is_bad);
    if (full != NULL) {
        struct kobj_id id = kobj_id(full), lean_id = kobj_id(lean), tree_id;
        CHECK(kobj_id_eq(&id, &lean_id) && full->hash == lean->hash);
        CHECK(kobj_id_of(node, &tree_id) || full->meta.name[0] == '\0');
        use(full);
        use(lean);
    }
    kobj_unref(full);
    kobj_unref(lean);
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len) {
    static const struct config_doc_limits limits = {
        .max_bytes = 1 << 20, .max_depth = 40, .max_nodes = 20000};
    struct config_doc_reader reader;
    struct arena arena;
    struct cfg_node root;
    struct run run = {.arena = &arena};
    int r;

    arena_init(&arena, 64 << 20);
    config_errors_init(&run.errors);
    config_doc_reader_init(&reader, "f", slice_make(data, len), CONFIG_AUTO, &limits);
    while ((r = config_doc_next(&reader, &arena, &run.errors, &root)) != 0) {
        if (r == 1) {
            config_doc_each(&root, &arena, "f", &run.errors, on_object, &run);
        }
        arena_reset(&arena);
    }
    for (uint32_t i = 0; i < run.errors.n; i++) {
        free(config_error_text(&run.errors.items[i]));
    }
    config_errors_fini(&run.errors);
    arena_fini(&arena);
    return 0;
}

// SPDX-License-Identifier: Apache-2.0
//
// Text to objects to a published snapshot, for the probes. Objects that the product would refuse
// end the program. One thread, which is the control thread of the snapshots.
#pragma once

#include "bench/tools/load.h"
#include "common/base/arena.h"
#include "common/mesh/builder.h"
#include "common/mesh/config_doc.h"
#include "common/mesh/config_errors.h"
#include "common/mesh/kobj.h"

struct objects {
    struct kobj **items;
    size_t n;
    struct arena arena;
    struct config_errors errors;
};

static int objects_add(void *arg, const struct cfg_node *node) {
    struct objects *objects = arg;
    struct kobj *obj =
        kobj_decode(node, "scale.yaml", KOBJ_LEAN, &objects->arena, &objects->errors);
    if (obj != NULL) {
        objects->items[objects->n++] = obj;
    }
    return 0;
}

// Replaces what is in `objects`.
LOAD_UNUSED static void objects_decode(struct slice text, struct objects *objects) {
    struct config_doc_reader reader;
    struct cfg_node root;
    objects->n = 0;
    config_doc_reader_init(&reader, "scale.yaml", text, CONFIG_YAML, NULL);
    while (config_doc_next(&reader, &objects->arena, &objects->errors, &root) > 0) {
        config_doc_each(&root, &objects->arena, "scale.yaml", &objects->errors, objects_add,
                        objects);
        arena_reset(&objects->arena);
    }
    if (objects->errors.n_errors > 0) {
        die("%s", config_error_text(&objects->errors.items[0]));
    }
}

LOAD_UNUSED static void objects_init(struct objects *objects, size_t n) {
    *objects = (struct objects){.items = calloc(n, sizeof(struct kobj *))};
    arena_init(&objects->arena, SIZE_MAX);
    config_errors_init(&objects->errors);
    if (objects->items == NULL) {
        die("no memory");
    }
}

// Takes the objects; publishes.
LOAD_UNUSED static void objects_publish(struct mesh_builder *builder, struct objects *objects) {
    for (size_t i = 0; i < objects->n; i++) {
        builder_set(builder, objects->items[i]);
        kobj_unref(objects->items[i]);
    }
    struct builder_changes changes;
    builder_commit(builder, &changes);
    builder_changes_fini(&changes);
}

LOAD_UNUSED static void objects_fini(struct objects *objects) {
    arena_fini(&objects->arena);
    config_errors_fini(&objects->errors);
    free(objects->items);
}

// Never freed: the program ends.
LOAD_UNUSED static struct mesh_builder *objects_builder(void) {
    struct mesh_settings settings = {.cluster_domain = "cluster.local",
                                     .trust_domain = "cluster.local",
                                     .root_namespace = "istio-system",
                                     .cluster_id = "Kubernetes",
                                     .network = ""};
    snapshot_init(&settings);
    snapshot_thread_register();
    struct builder_options options = {.mesh = *snapshot_current()->mesh, .node = "near"};
    return builder_new(&options);
}

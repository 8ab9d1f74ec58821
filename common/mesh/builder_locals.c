// SPDX-License-Identifier: Apache-2.0
#include "common/mesh/builder_locals.h"

#include <stdlib.h>
#include <string.h>

static bool is_local(const char *node, const struct workload *w) {
    return w != NULL && w->is_pod && node[0] != '\0' && strcmp(w->node, node) == 0;
}

void builder_locals_note(struct builder_locals *locals, const char *node, struct workload *old,
                         struct workload *leaf) {
    bool was_local = is_local(node, old);
    bool is_local_now = is_local(node, leaf);
    if (!was_local && !is_local_now) {
        return;
    }
    if (locals->n == locals->cap) {
        locals->cap = MAX(16, locals->cap * 2);
        locals->items = xrealloc(locals->items, locals->cap * sizeof(*locals->items));
    }
    struct builder_local *local = &locals->items[locals->n++];
    *local = (struct builder_local){.event = BUILDER_CHANGED, .workload = leaf, .old = old};
    if (!was_local) {
        *local = (struct builder_local){.event = BUILDER_ADDED, .workload = leaf};
    } else if (!is_local_now) {
        *local = (struct builder_local){.event = BUILDER_REMOVED, .workload = old};
    }
    leaf_ref(local->workload);
    if (local->old != NULL) {
        leaf_ref(local->old);
    }
}

bool workload_same_policies(const struct workload *a, const struct workload *b) {
    // Interned: equal texts have equal pointers.
    return a->common->n_policies == b->common->n_policies &&
           (a->common->n_policies == 0 ||
            memcmp(a->common->policies, b->common->policies,
                   a->common->n_policies * sizeof(*a->common->policies)) == 0);
}

void builder_changes_fini(struct builder_changes *changes) {
    for (size_t i = 0; i < changes->n_locals; i++) {
        leaf_unref(changes->locals[i].workload);
        leaf_unref(changes->locals[i].old);
    }
    free(changes->locals);
    *changes = (struct builder_changes){0};
}

// SPDX-License-Identifier: Apache-2.0
//
// Who selects whom, in a namespace: an index by label pair. A workload is in the list of each of
// its labels; what has a selector is in the list of one of its pairs, the one that the fewest
// others chose. So both questions cost what there is to find, not workloads times selectors.
#include <stdlib.h>

#include "common/mesh/builder_priv.h"

struct label_pair { // lives as long as one of its lists has something
    struct hmap_node
        by_hash; // bns.label_pairs. Pairs of one hash share a list: matches are checked
    struct list workloads, selecting; // label_ref.in_pair
    size_t n_workloads, n_selecting;
};

struct label_ref {
    struct list in_pair;
    struct label_pair *pair;
    struct record *record;
};

static const uint64_t everything = 0; // the pair of empty selectors

static uint64_t pair_hash(const struct kobj_kv *kv) {
    char text[512]; // labels are shorter; what is longer shares a hash
    size_t key_len = MIN(strlen(kv->key), sizeof(text) / 2 - 1);
    size_t value_len = MIN(strlen(kv->value), sizeof(text) / 2);
    memcpy(text, kv->key, key_len);
    text[key_len] = '=';
    memcpy(text + key_len + 1, kv->value, value_len);
    return hash_bytes(slice_make(text, key_len + 1 + value_len)) | 1;
}

static struct label_pair *pair_find(const struct bns *ns, uint64_t hash) {
    struct hmap_node *node = hmap_find(&ns->label_pairs, hash);
    return node != NULL ? HMAP_ITEM(node, struct label_pair, by_hash) : NULL;
}

static struct label_pair *pair_get(struct bns *ns, uint64_t hash) {
    struct label_pair *pair = pair_find(ns, hash);
    if (pair == NULL) {
        pair = xcalloc(1, sizeof(*pair));
        list_init(&pair->workloads);
        list_init(&pair->selecting);
        hmap_insert(&ns->label_pairs, &pair->by_hash, hash);
    }
    return pair;
}

static bool is_workload(const struct record *record) {
    return record->kind == KOBJ_POD || record->kind == KOBJ_WORKLOAD_ENTRY;
}

static const struct kobj_map *selector_of(const struct kobj *obj) {
    switch ((enum kobj_kind)obj->kind) {
    case KOBJ_SERVICE:
        return obj->service->selector.n > 0 ? &obj->service->selector : NULL;
    case KOBJ_SERVICE_ENTRY:
        return obj->service_entry->has_selector ? &obj->service_entry->selector : NULL;
    case KOBJ_AUTHORIZATION_POLICY:
        return obj->authz->has_selector ? &obj->authz->selector : NULL;
    default:
        return NULL;
    }
}

static void leave(struct record *record) {
    for (uint32_t i = 0; i < record->n_label_refs; i++) {
        struct label_pair *pair = record->label_refs[i].pair;
        list_del(&record->label_refs[i].in_pair);
        if (is_workload(record)) {
            pair->n_workloads--;
        } else {
            pair->n_selecting--;
        }
        if (pair->n_workloads == 0 && pair->n_selecting == 0) {
            hmap_remove(&record->ns->label_pairs, &pair->by_hash);
            free(pair);
        }
    }
    free(record->label_refs);
    record->label_refs = NULL;
    record->n_label_refs = 0;
}

static void join(struct record *record, uint64_t hash) {
    struct label_pair *pair = pair_get(record->ns, hash);
    struct label_ref *ref = &record->label_refs[record->n_label_refs++];
    ref->pair = pair;
    ref->record = record;
    list_init(&ref->in_pair);
    if (is_workload(record)) {
        list_push_back(&pair->workloads, &ref->in_pair);
        pair->n_workloads++;
    } else {
        list_push_back(&pair->selecting, &ref->in_pair);
        pair->n_selecting++;
    }
}

// The pair of the selector under which the fewest are listed already.
static uint64_t least_used(const struct bns *ns, const struct kobj_map *selector) {
    uint64_t best = everything;
    size_t best_n = SIZE_MAX;
    for (uint32_t i = 0; i < selector->n && best_n > 0; i++) {
        uint64_t hash = pair_hash(&selector->items[i]);
        const struct label_pair *pair = pair_find(ns, hash);
        size_t n = pair != NULL ? pair->n_selecting : 0;
        if (n < best_n) {
            best = hash;
            best_n = n;
        }
    }
    return best;
}

void builder_index_labels(struct record *record) {
    leave(record);
    if (record->obj == NULL) {
        return;
    }
    const struct kobj_map *selector = selector_of(record->obj);
    const struct kobj_map *labels = record_labels(record);
    if (selector != NULL) {
        record->label_refs = xcalloc(1, sizeof(*record->label_refs));
        join(record, least_used(record->ns, selector));
    } else if (is_workload(record) && labels->n > 0) {
        record->label_refs = xcalloc(labels->n, sizeof(*record->label_refs));
        for (uint32_t i = 0; i < labels->n; i++) {
            join(record, pair_hash(&labels->items[i]));
        }
    }
}

static void each_of_pair(const struct label_pair *pair, const struct kobj_map *labels,
                         void (*fn)(void *arg, struct record *record), void *arg) {
    if (pair == NULL) {
        return;
    }
    LIST_EACH(pos, &pair->selecting) {
        struct record *record = LIST_ITEM(pos, struct label_ref, in_pair)->record;
        const struct kobj_map *selector = selector_of(record->obj);
        if (selector != NULL && kobj_map_matches(selector, labels)) {
            fn(arg, record);
        }
    }
}

void builder_each_selecting(const struct bns *ns, const struct kobj_map *labels,
                            void (*fn)(void *arg, struct record *record), void *arg) {
    each_of_pair(pair_find(ns, everything), labels, fn, arg);
    for (uint32_t i = 0; i < labels->n; i++) {
        each_of_pair(pair_find(ns, pair_hash(&labels->items[i])), labels, fn, arg);
    }
}

void builder_each_selecting_record(const struct record *record,
                                   void (*fn)(void *arg, struct record *record), void *arg) {
    const struct kobj_map *labels = record_labels(record);
    each_of_pair(pair_find(record->ns, everything), labels, fn, arg);
    for (uint32_t i = 0; i < record->n_label_refs; i++) {
        each_of_pair(record->label_refs[i].pair, labels, fn, arg);
    }
}

static void each_record(const struct bns *ns, enum kobj_kind kind,
                        void (*fn)(void *arg, struct record *record), void *arg) {
    LIST_EACH(pos, &ns->records[kind]) {
        fn(arg, LIST_ITEM(pos, struct record, in_ns));
    }
}

void builder_each_selected(const struct bns *ns, const struct kobj_map *selector,
                           void (*fn)(void *arg, struct record *record), void *arg) {
    const struct label_pair *best = NULL;
    if (selector->n == 0) {
        each_record(ns, KOBJ_POD, fn, arg);
        each_record(ns, KOBJ_WORKLOAD_ENTRY, fn, arg);
        return;
    }
    for (uint32_t i = 0; i < selector->n; i++) {
        const struct label_pair *pair = pair_find(ns, pair_hash(&selector->items[i]));
        if (pair == NULL) {
            return; // nobody has that label
        }
        best = best == NULL || pair->n_workloads < best->n_workloads ? pair : best;
    }
    LIST_EACH(pos, &best->workloads) {
        struct record *record = LIST_ITEM(pos, struct label_ref, in_pair)->record;
        if (kobj_map_matches(selector, record_labels(record))) {
            fn(arg, record);
        }
    }
}

// SPDX-License-Identifier: Apache-2.0
//
// Records: one for each object that the builder keeps. There are as many as pods, so what only few
// have is beside them (struct record_more).
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "common/mesh/builder_priv.h"

static const struct record_more nothing = {
    .services = {(struct list *)&nothing.services, (struct list *)&nothing.services},
    .l7_refs = {(struct list *)&nothing.l7_refs, (struct list *)&nothing.l7_refs},
    .l7_problems = {(struct list *)&nothing.l7_problems, (struct list *)&nothing.l7_problems},
};

struct record_more *builder_more(struct record *record) {
    if (record->more == &nothing) {
        struct record_more *more = xcalloc(1, sizeof(*more));
        list_init(&more->services);
        list_init(&more->l7_refs);
        list_init(&more->l7_problems);
        record->more = more;
    }
    return (struct record_more *)record->more; // of our heap
}

uint64_t record_hash(enum kobj_kind kind, const char *ns, const char *name) {
    char text[640]; // what is longer shares a hash
    size_t ns_len = MIN(strlen(ns), sizeof(text) / 2 - 2);
    size_t name_len = MIN(strlen(name), sizeof(text) / 2);
    text[0] = (char)kind;
    memcpy(text + 1, ns, ns_len);
    text[1 + ns_len] = '/';
    memcpy(text + 2 + ns_len, name, name_len);
    return hash_bytes(slice_make(text, 2 + ns_len + name_len));
}

// Labels

// A WorkloadEntry has labels in its metadata and in its spec; the spec's win.
static struct kobj_map merged_labels(const struct kobj *obj) {
    const struct kobj_map *spec = &obj->workload_entry->labels;
    struct kobj_kv *items = xcalloc(spec->n + obj->meta.labels.n + 1, sizeof(*items));
    uint32_t n = 0;
    for (uint32_t i = 0; i < spec->n; i++) {
        items[n++] = spec->items[i];
    }
    for (uint32_t i = 0; i < obj->meta.labels.n; i++) {
        if (kobj_map_get(spec, obj->meta.labels.items[i].key) == NULL) {
            items[n++] = obj->meta.labels.items[i];
        }
    }
    return (struct kobj_map){.items = items, .n = n};
}

const struct kobj_map *record_labels(const struct record *record) {
    static const struct kobj_map none = {0};
    if (record->obj == NULL) {
        return &none;
    }
    return record->kind == KOBJ_WORKLOAD_ENTRY ? &record->more->labels : &record->obj->meta.labels;
}

// Problems

void builder_problem(struct record *record, const char *fmt, ...) {
    char text[512];
    va_list args;
    va_start(args, fmt);
    vsnprintf(text, sizeof(text), fmt, args);
    va_end(args);
    for (size_t i = 0; i < record->more->n_problems; i++) {
        if (strcmp(record->more->problems[i], text) == 0) {
            return;
        }
    }
    struct record_more *more = builder_more(record);
    more->problems = xrealloc(more->problems, (more->n_problems + 1) * sizeof(*more->problems));
    more->problems[more->n_problems++] = xstrdup(text);
}

void record_clear_problems(struct record *record) {
    if (record->more->n_problems == 0) {
        return;
    }
    struct record_more *more = builder_more(record);
    for (size_t i = 0; i < more->n_problems; i++) {
        free(more->problems[i]);
    }
    free(more->problems);
    more->problems = NULL;
    more->n_problems = 0;
}

// Records

static struct record *make(struct mesh_builder *b, struct hmap *map, enum kobj_kind kind,
                           const char *ns, const char *name) {
    struct record *record = xcalloc(1, sizeof(*record));
    record->kind = (uint8_t)kind;
    record->more = &nothing;
    record->ns = builder_ns(b, ns, true);
    record->ns->n_records++;
    list_init(&record->in_ns);
    list_init(&record->in_dirty);
    list_init(&record->workloads);
    b->ns_memo.is_known = b->ns_memo.is_known && kind != KOBJ_NAMESPACE;
    hmap_insert(map, &record->by_key, record_hash(kind, record->ns->name, name));
    return record;
}

struct record *record_new(struct mesh_builder *b, const struct kobj *obj, const char *ns) {
    struct record *record = make(b, &b->records, (enum kobj_kind)obj->kind, ns, obj->meta.name);
    list_push_back(&record->ns->records[record->kind], &record->in_ns);
    return record;
}

struct record *record_new_istiod(struct mesh_builder *b, enum kobj_kind kind, const char *ns,
                                 const char *name) {
    struct record *record = make(b, &b->istiod_services, kind, ns, name);
    record->name = xstrdup(name);
    record->is_istiod = true;
    return record;
}

struct kobj *record_take(struct record *record, struct kobj *obj, struct kobj_map *ret_labels) {
    struct kobj *old = record->obj;
    *ret_labels = *record_labels(record);
    if (old == NULL && obj != NULL) {
        free((char *)record->name); // a copy
    }
    if (obj != NULL) {
        record->name = obj->meta.name;
    } else if (old != NULL) {
        record->name = xstrdup(old->meta.name);
    }
    record->obj = obj != NULL ? kobj_ref(obj) : NULL;
    if (record->kind == KOBJ_WORKLOAD_ENTRY) {
        builder_more(record)->labels = obj != NULL ? merged_labels(obj) : (struct kobj_map){0};
    }
    return old;
}

void record_let_go(const struct record *record, struct kobj *old, const struct kobj_map *labels) {
    if (old != NULL && record->kind == KOBJ_WORKLOAD_ENTRY) {
        free((void *)labels->items);
    }
    kobj_unref(old);
}

void record_free(struct mesh_builder *b, struct record *record) {
    struct bns *ns = record->ns;
    CHECK(record->obj == NULL);
    b->ns_memo.is_known = b->ns_memo.is_known && record->kind != KOBJ_NAMESPACE;
    hmap_remove(record->is_istiod ? &b->istiod_services : &b->records, &record->by_key);
    list_del(&record->in_ns);
    list_del(&record->in_dirty);
    record_clear_problems(record);
    builder_l7_forget(record);
    record_set_gateway(record, NULL, NULL);
    builder_index_labels(record);
    if (record->more != &nothing) {
        free(record->more->policy);
        free(builder_more(record));
    }
    free((char *)record->name); // a copy
    free(record);
    if (--ns->n_records == 0) {
        b->last_ns = b->last_ns == ns ? NULL : b->last_ns;
        hmap_remove(&b->namespaces, &ns->by_name);
        hmap_fini(&ns->label_pairs);
        free(ns->name);
        free(ns);
    }
}

void record_set_gateway(struct record *record, const char *ns, const char *name) {
    if (name == NULL && record->more->gateway == NULL) {
        return;
    }
    struct record_more *more = builder_more(record);
    free(more->gateway_ns);
    free(more->gateway);
    more->gateway_ns = name != NULL ? xstrdup(ns) : NULL;
    more->gateway = name != NULL ? xstrdup(name) : NULL;
}

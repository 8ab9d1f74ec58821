// SPDX-License-Identifier: Apache-2.0
#include "common/mesh/config_store.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/hmap.h"
#include "common/mesh/kobj_kind.h"

struct store_file;

// One document's version of an object.
struct version {
    struct version *next; // of the same object: the one that counts first
    struct kobj *obj; // owns a reference
    struct entry *entry;
    struct store_file *file;
    uint32_t place; // in file->versions
    bool is_kept; // its document is broken now
    bool is_stale; // during a replacement, and since the mark: not seen yet
};

struct entry {
    struct hmap_node node;
    struct version *versions; // NULL only within a transaction
    struct kobj *before; // when touched: a reference on what counted at its begin, or NULL
    bool is_touched;
};

struct store_file {
    struct hmap_node node;
    char *name;
    struct version **versions;
    uint32_t n_versions, cap_versions;
};

struct config_store {
    struct hmap entries, files;
    size_t n_objects, n_versions;
    struct entry **touched;
    uint32_t n_touched, cap_touched;
    struct config_change *changes; // own references
    struct config_diff diff;
    bool is_open;
};

static void *grow(void *items, uint32_t n, uint32_t *cap, size_t size) {
    if (n < *cap) {
        return items;
    }
    *cap = *cap != 0 ? *cap * 2 : 8;
    return xrealloc(items, *cap * size);
}

struct config_store *config_store_new(void) {
    struct config_store *store = xcalloc(1, sizeof(*store));
    hmap_init(&store->entries);
    hmap_init(&store->files);
    return store;
}

static void diff_clear(struct config_store *store) {
    for (uint32_t i = 0; i < store->diff.n_changes; i++) {
        kobj_unref((struct kobj *)store->changes[i].before);
        kobj_unref((struct kobj *)store->changes[i].after);
    }
    free(store->changes);
    store->changes = NULL;
    store->diff = (struct config_diff){0};
}

void config_store_free(struct config_store *store) {
    if (store == NULL) {
        return;
    }
    diff_clear(store);
    HMAP_EACH_SAFE(pos, &store->entries) {
        struct entry *entry = HMAP_ITEM(pos, struct entry, node);
        while (entry->versions != NULL) {
            struct version *version = entry->versions;
            entry->versions = version->next;
            kobj_unref(version->obj);
            free(version);
        }
        kobj_unref(entry->before);
        free(entry);
    }
    HMAP_EACH_SAFE(pos, &store->files) {
        struct store_file *file = HMAP_ITEM(pos, struct store_file, node);
        free(file->versions);
        free(file->name);
        free(file);
    }
    hmap_fini(&store->entries);
    hmap_fini(&store->files);
    free(store->touched);
    free(store);
}

static struct entry *entry_find(const struct config_store *store, const struct kobj_id *id,
                                uint64_t hash) {
    HMAP_EACH_WITH_HASH(pos, &store->entries, hash) {
        struct entry *entry = HMAP_ITEM(pos, struct entry, node);
        const struct kobj *obj = entry->versions != NULL ? entry->versions->obj : entry->before;
        if (obj == NULL) {
            continue;
        }
        struct kobj_id own = kobj_id(obj);
        if (kobj_id_eq(&own, id)) {
            return entry;
        }
    }
    return NULL;
}

static void touch(struct config_store *store, struct entry *entry) {
    if (entry->is_touched) {
        return;
    }
    entry->is_touched = true;
    entry->before = entry->versions != NULL ? kobj_ref(entry->versions->obj) : NULL;
    store->touched =
        grow(store->touched, store->n_touched, &store->cap_touched, sizeof(store->touched[0]));
    store->touched[store->n_touched++] = entry;
}

static struct store_file *file_find(const struct config_store *store, const char *name) {
    HMAP_EACH_WITH_HASH(pos, &store->files, hash_bytes(slice_str(name))) {
        struct store_file *file = HMAP_ITEM(pos, struct store_file, node);
        if (strcmp(file->name, name) == 0) {
            return file;
        }
    }
    return NULL;
}

static struct store_file *file_get(struct config_store *store, const char *name) {
    struct store_file *file = file_find(store, name);

    if (file == NULL) {
        file = xcalloc(1, sizeof(*file));
        file->name = xstrdup(name);
        hmap_insert(&store->files, &file->node, hash_bytes(slice_str(name)));
    }
    return file;
}

static void file_add(struct store_file *file, struct version *version) {
    file->versions =
        grow(file->versions, file->n_versions, &file->cap_versions, sizeof(file->versions[0]));
    version->place = file->n_versions;
    file->versions[file->n_versions++] = version;
}

static bool counts_before(const struct version *a, const struct version *b) {
    int order = strcmp(a->file->name, b->file->name);

    if (order != 0) {
        return order < 0;
    }
    return a->obj->pos.line < b->obj->pos.line ||
           (a->obj->pos.line == b->obj->pos.line && a->obj->pos.col < b->obj->pos.col);
}

static void version_unlink(struct config_store *store, struct version *version) {
    struct entry *entry = version->entry;

    touch(store, entry);
    for (struct version **at = &entry->versions; *at != NULL; at = &(*at)->next) {
        if (*at == version) {
            *at = version->next;
            break;
        }
    }
    store->n_versions--;
    kobj_unref(version->obj);
    free(version);
}

static void version_link(struct config_store *store, struct store_file *file, struct kobj *obj) {
    struct kobj_id id = kobj_id(obj);
    uint64_t hash = kobj_id_hash(&id);
    struct entry *entry = entry_find(store, &id, hash);
    struct version *version = xcalloc(1, sizeof(*version));

    if (entry == NULL) {
        entry = xcalloc(1, sizeof(*entry));
        hmap_insert(&store->entries, &entry->node, hash);
    }
    touch(store, entry);
    *version = (struct version){.obj = kobj_ref(obj), .entry = entry, .file = file};
    struct version **at = &entry->versions;
    while (*at != NULL && counts_before(*at, version)) {
        at = &(*at)->next;
    }
    version->next = *at;
    *at = version;
    store->n_versions++;
    file_add(file, version);
}

void config_store_begin(struct config_store *store) {
    CHECK(!store->is_open);
    store->is_open = true;
    diff_clear(store);
}

static int by_value(const void *a, const void *b) {
    uint64_t left = *(const uint64_t *)a, right = *(const uint64_t *)b;
    return left < right ? -1 : left > right;
}

// The hashes of the ids, sorted: a file of thousands may be broken as a whole.
static uint64_t *kept_hashes(const struct kobj_id *kept, uint32_t n_kept) {
    uint64_t *hashes = xmalloc(MAX(n_kept, 1u) * sizeof(hashes[0]));

    for (uint32_t i = 0; i < n_kept; i++) {
        hashes[i] = kobj_id_hash(&kept[i]);
    }
    qsort(hashes, n_kept, sizeof(hashes[0]), by_value);
    return hashes;
}

static bool has_new_version(const struct version *old) {
    for (const struct version *v = old->entry->versions; v != NULL; v = v->next) {
        if (v->file == old->file && !v->is_stale) {
            return true;
        }
    }
    return false;
}

void config_store_put_file(struct config_store *store, const char *name, struct kobj *const *objs,
                           uint32_t n_objs, const struct kobj_id *kept, uint32_t n_kept,
                           bool keep_missing) {
    struct store_file *file = file_get(store, name);
    struct version **old = file->versions;
    uint32_t n_old = file->n_versions;
    uint64_t *hashes = kept_hashes(kept, n_kept);

    CHECK(store->is_open);
    file->versions = NULL;
    file->n_versions = file->cap_versions = 0;
    for (uint32_t i = 0; i < n_old; i++) {
        old[i]->is_stale = true;
    }
    for (uint32_t i = 0; i < n_objs; i++) {
        if (objs[i]->meta.name[0] != '\0') { // files of other tools: nothing to find them by
            version_link(store, file, objs[i]);
        }
    }
    for (uint32_t i = 0; i < n_old; i++) {
        struct version *version = old[i];
        uint64_t hash = version->entry->node.hash; // its id's
        bool is_named = bsearch(&hash, hashes, n_kept, sizeof(hash), by_value) != NULL;
        bool is_kept = (keep_missing || is_named) && !has_new_version(version);
        if (!is_kept) {
            version_unlink(store, version);
            continue;
        }
        version->is_stale = false;
        version->is_kept = true;
        file_add(file, version);
    }
    free(hashes);
    free(old);
}

void config_store_remove_file(struct config_store *store, const char *name) {
    struct store_file *file = file_find(store, name);

    CHECK(store->is_open);
    if (file == NULL) {
        return;
    }
    for (uint32_t i = 0; i < file->n_versions; i++) {
        version_unlink(store, file->versions[i]);
    }
    hmap_remove(&store->files, &file->node);
    free(file->versions);
    free(file->name);
    free(file);
}

// ---- one object at a time

static struct version *find_version(struct config_store *store, const char *name,
                                    const struct kobj_id *id) {
    struct entry *entry = entry_find(store, id, kobj_id_hash(id));
    for (struct version *v = entry != NULL ? entry->versions : NULL; v != NULL; v = v->next) {
        if (strcmp(v->file->name, name) == 0) {
            return v;
        }
    }
    return NULL;
}

void config_store_put(struct config_store *store, const char *name, struct kobj *obj) {
    struct kobj_id id = kobj_id(obj);
    struct version *version = find_version(store, name, &id);
    CHECK(store->is_open);
    if (version == NULL) {
        version_link(store, file_get(store, name), obj);
        return;
    }
    touch(store, version->entry);
    kobj_ref(obj);
    kobj_unref(version->obj);
    version->obj = obj;
    version->is_kept = version->is_stale = false;
}

bool config_store_keep(struct config_store *store, const char *name, const struct kobj_id *id) {
    struct version *version = find_version(store, name, id);
    if (version == NULL) {
        return false;
    }
    version->is_kept = true;
    version->is_stale = false;
    return true;
}

static void drop(struct config_store *store, struct version *version) {
    struct store_file *file = version->file;
    struct version *last = file->versions[--file->n_versions];
    last->place = version->place;
    file->versions[last->place] = last;
    version_unlink(store, version);
}

void config_store_remove(struct config_store *store, const char *name, const struct kobj_id *id) {
    struct version *version = find_version(store, name, id);
    CHECK(store->is_open);
    if (version != NULL) {
        drop(store, version);
    }
}

void config_store_mark(struct config_store *store, const char *name) {
    struct store_file *file = file_find(store, name);
    for (uint32_t i = 0; file != NULL && i < file->n_versions; i++) {
        file->versions[i]->is_stale = true;
    }
}

void config_store_sweep(struct config_store *store, const char *name) {
    struct store_file *file = file_find(store, name);
    CHECK(store->is_open);
    for (uint32_t i = file != NULL ? file->n_versions : 0; i-- > 0;) {
        if (file->versions[i]->is_stale) {
            drop(store, file->versions[i]); // the last one, which was looked at, takes its place
        }
    }
}

static void report_duplicates(const struct entry *entry, struct config_errors *errors) {
    const struct version *first = entry->versions;

    for (const struct version *v = first->next; v != NULL; v = v->next) {
        char object[640], text[512];
        const struct kobj_meta *meta = &v->obj->meta;
        snprintf(object, sizeof(object), "%.63s %.63s%s%.253s", v->obj->kind_name, meta->ns,
                 meta->ns[0] != '\0' ? "/" : "", meta->name);
        snprintf(text, sizeof(text), "is defined already at %.400s:%u; this one is ignored",
                 first->obj->file, first->obj->pos.line);
        config_errors_add(errors, &(struct config_error){.severity = CONFIG_WARNING,
                                                         .file = v->obj->file,
                                                         .line = v->obj->pos.line,
                                                         .col = v->obj->pos.col,
                                                         .object = object,
                                                         .text = text});
    }
}

void config_store_duplicates(const struct config_store *store, struct config_errors *errors) {
    if (store->n_versions == store->n_objects) {
        return;
    }
    for (struct hmap_node *pos = hmap_first(&store->entries); pos != NULL;
         pos = hmap_next(&store->entries, pos)) {
        report_duplicates(HMAP_ITEM(pos, struct entry, node), errors);
    }
}

static void commit_entry(struct config_store *store, struct entry *entry) {
    struct kobj *before = entry->before;
    struct kobj *after = entry->versions != NULL ? entry->versions->obj : NULL;

    entry->before = NULL;
    entry->is_touched = false;
    store->n_objects += (after != NULL) - (size_t)(before != NULL);
    bool is_same = (before == NULL && after == NULL) ||
                   (before != NULL && after != NULL && before->hash == after->hash);
    if (is_same) {
        kobj_unref(before);
    } else {
        struct config_change *change = &store->changes[store->diff.n_changes++];
        *change = (struct config_change){before, after != NULL ? kobj_ref(after) : NULL};
        store->diff.n_added += before == NULL;
        store->diff.n_removed += after == NULL;
        store->diff.n_changed += before != NULL && after != NULL;
    }
    if (after == NULL) {
        hmap_remove(&store->entries, &entry->node);
        free(entry);
    }
}

const struct config_diff *config_store_commit(struct config_store *store) {
    CHECK(store->is_open);
    store->is_open = false;
    store->changes = xcalloc(MAX(store->n_touched, 1u), sizeof(store->changes[0]));
    for (uint32_t i = 0; i < store->n_touched; i++) {
        commit_entry(store, store->touched[i]);
    }
    free(store->touched);
    store->touched = NULL;
    store->n_touched = store->cap_touched = 0;
    store->diff.changes = store->changes;
    return &store->diff;
}

const struct kobj *config_store_find(const struct config_store *store, const struct kobj_id *id) {
    const struct entry *entry = entry_find(store, id, kobj_id_hash(id));
    return entry != NULL && entry->versions != NULL ? entry->versions->obj : NULL;
}

const struct kobj *config_store_get(const struct config_store *store, enum kobj_kind kind,
                                    const char *ns, const char *name) {
    const struct kobj_type *type = kobj_type_get(kind);

    CHECK(type != NULL);
    struct kobj_id id = {slice_str(type->group), type->name, ns, name};
    return config_store_find(store, &id);
}

size_t config_store_size(const struct config_store *store) {
    return store->n_objects;
}

int config_store_each(const struct config_store *store, enum kobj_kind kind,
                      int (*fn)(void *arg, const struct kobj *obj), void *arg) {
    for (struct hmap_node *pos = hmap_first(&store->entries); pos != NULL;
         pos = hmap_next(&store->entries, pos)) {
        const struct entry *entry = HMAP_ITEM(pos, struct entry, node);
        const struct kobj *obj = entry->versions != NULL ? entry->versions->obj : NULL;
        if (obj != NULL && (kind == KOBJ_N_KINDS || obj->kind == kind)) {
            int r = fn(arg, obj);
            if (r != 0) {
                return r;
            }
        }
    }
    return 0;
}

uint32_t config_store_n_kept(const struct config_store *store, const char *name) {
    const struct store_file *file = file_find(store, name);
    uint32_t n = 0;

    for (uint32_t i = 0; file != NULL && i < file->n_versions; i++) {
        n += file->versions[i]->is_kept;
    }
    return n;
}

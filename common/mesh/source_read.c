// SPDX-License-Identifier: Apache-2.0
//
// From the bytes of a changed file to objects in the store.
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "common/mesh/config_doc.h"
#include "common/mesh/source_file_priv.h"

// Temporary memory of one document.
enum { SCRATCH_MAX = 1 << 30 };

struct reading {
    struct source_file *source;
    struct source_entry *entry;
    struct kobj **objs;
    struct kobj_id *kept;
    uint32_t n_objs, cap_objs, n_kept, cap_kept;
    bool has_lost; // a document was not readable at all
};

static int on_object(void *arg, const struct cfg_node *node) {
    struct reading *r = arg;
    struct kobj_id id;
    struct kobj *obj = kobj_decode(node, r->entry->path, r->source->kobj_flags, &r->source->scratch,
                                   &r->entry->errors);

    if (obj != NULL) {
        if (r->n_objs == r->cap_objs) {
            r->cap_objs = r->cap_objs != 0 ? r->cap_objs * 2 : 16;
            r->objs = xrealloc(r->objs, r->cap_objs * sizeof(r->objs[0]));
        }
        r->objs[r->n_objs++] = obj;
        return 0;
    }
    if (!kobj_id_of(node, &id)) {
        r->has_lost = true; // which object it was meant to be is unknown
        return 0;
    }
    if (r->n_kept == r->cap_kept) {
        r->cap_kept = r->cap_kept != 0 ? r->cap_kept * 2 : 16;
        r->kept = xrealloc(r->kept, r->cap_kept * sizeof(r->kept[0]));
    }
    // The tree goes with its document, so the id needs texts of its own.
    r->kept[r->n_kept++] = (struct kobj_id){{(uint8_t *)slice_dup(id.group), id.group.len},
                                            xstrdup(id.kind),
                                            xstrdup(id.ns),
                                            xstrdup(id.name)};
    return 0;
}

static void parse(struct reading *r, struct slice text) {
    struct source_file *s = r->source;
    struct config_doc_reader reader;
    struct cfg_node root;
    int result;

    config_doc_reader_init(&reader, r->entry->path, text, CONFIG_AUTO, NULL);
    while ((result = config_doc_next(&reader, &s->scratch, &r->entry->errors, &root)) != 0) {
        if (result < 0) {
            r->has_lost = true;
        } else {
            config_doc_each(&root, &s->scratch, r->entry->path, &r->entry->errors, on_object, r);
        }
        arena_reset(&s->scratch);
    }
    arena_fini(&s->scratch);
    arena_init(&s->scratch, SCRATCH_MAX);
}

static void reading_fini(struct reading *r) {
    for (uint32_t i = 0; i < r->n_objs; i++) {
        kobj_unref(r->objs[i]);
    }
    for (uint32_t i = 0; i < r->n_kept; i++) {
        free((void *)r->kept[i].group.ptr);
        free((void *)r->kept[i].kind);
        free((void *)r->kept[i].ns);
        free((void *)r->kept[i].name);
    }
    free(r->objs);
    free(r->kept);
}

static bool has_secret(const struct reading *r) {
    for (uint32_t i = 0; i < r->n_objs; i++) {
        if (r->objs[i]->kind == KOBJ_SECRET) {
            return true;
        }
    }
    return false;
}

static void put(const struct reading *r) {
    config_store_put_file(r->source->store, r->entry->path, r->objs, r->n_objs, r->kept, r->n_kept,
                          r->has_lost);
}

// A file that is broken when the process starts: what it was before may be in the state directory.
// Returns whether it was; errors are those of no text then.
static bool restore(struct source_file *s, struct source_entry *entry) {
    char *text;
    size_t len;
    bool is_known = entry->is_known;

    entry->is_known = true;
    if (is_known || s->state_dir == NULL || !source_state_load(s, entry, &text, &len)) {
        return false;
    }
    struct reading r = {.source = s, .entry = entry};
    parse(&r, slice_make(text, len));
    put(&r);
    reading_fini(&r);
    free(text);
    config_errors_clear(&entry->errors);
    return true;
}

static void keep(struct source_file *s, const struct reading *r, struct slice text) {
    if (s->state_dir == NULL) {
        return;
    }
    if (has_secret(r)) {
        source_state_forget(s, r->entry);
    } else {
        s->state_error = source_state_save(s, r->entry, text);
    }
}

// It keeps what it held.
static void unreadable(struct source_file *s, struct source_entry *entry, int error) {
    char text[160];

    (void)restore(s, entry);
    entry->error = error;
    entry->is_read = false;
    config_errors_clear(&entry->errors);
    snprintf(text, sizeof(text), "cannot be read: %s",
             error == -EFBIG ? "it is too large" : strerror(-error));
    config_errors_add(&entry->errors, &(struct config_error){.file = entry->path, .text = text});
}

static void take(struct source_file *s, struct source_entry *entry, struct slice text) {
    struct reading r = {.source = s, .entry = entry};

    config_errors_clear(&entry->errors);
    parse(&r, text);
    if (entry->errors.n_errors > 0 && restore(s, entry)) {
        reading_fini(&r);
        r = (struct reading){.source = s, .entry = entry};
        parse(&r, text);
    }
    entry->is_known = true;
    entry->n_objects = r.n_objs;
    put(&r);
    if (entry->errors.n_errors == 0) {
        keep(s, &r, text);
    }
    reading_fini(&r);
}

void source_read(struct source_file *s, struct source_entry *entry, uint64_t now_ms) {
    struct stat st;
    char *text;
    size_t len;

    if (entry->writing_since_ms != 0 && now_ms - entry->writing_since_ms < SOURCE_WRITING_MAX_MS) {
        return; // its close is another event
    }
    entry->writing_since_ms = 0;
    if (stat(entry->path, &st) < 0) {
        unreadable(s, entry, -errno);
        return;
    }
    struct file_stamp stamp = file_stamp_from(&st);
    if (entry->is_read && !entry->is_forced && file_stamp_eq(&stamp, &entry->stamp)) {
        return;
    }
    entry->is_forced = false;
    int error = file_read(entry->path, config_doc_default_limits.max_bytes, &text, &len);
    if (error < 0) {
        unreadable(s, entry, error);
        return;
    }
    uint64_t hash = XXH3_64bits(text, len);
    entry->stamp = stamp;
    if (!entry->is_read || hash != entry->hash) {
        entry->is_read = true;
        entry->hash = hash;
        entry->error = 0;
        take(s, entry, slice_make(text, len));
    }
    free(text);
}

// News: the errors of a file by hash, without their place, which moves with every edit.

static uint64_t error_hash(const struct config_error *e) {
    uint64_t parts[3] = {XXH3_64bits(e->object, strlen(e->object)),
                         XXH3_64bits(e->path, strlen(e->path)),
                         XXH3_64bits(e->text, strlen(e->text))};
    return XXH3_64bits(parts, sizeof(parts));
}

static int by_value(const void *a, const void *b) {
    uint64_t left = *(const uint64_t *)a, right = *(const uint64_t *)b;
    return left < right ? -1 : left > right;
}

void source_collect_news(struct source_file *s, struct source_entry *entry) {
    uint32_t n = entry->errors.n + entry->duplicates.n;
    uint64_t *now = xmalloc(MAX(n, 1u) * sizeof(now[0]));

    for (uint32_t i = 0; i < n; i++) {
        const struct config_error *error = i < entry->errors.n
                                               ? &entry->errors.items[i]
                                               : &entry->duplicates.items[i - entry->errors.n];
        now[i] = error_hash(error);
        bool is_known = entry->n_known > 0 && bsearch(&now[i], entry->known, entry->n_known,
                                                      sizeof(now[0]), by_value) != NULL;
        if (!is_known) {
            config_errors_add(&s->news, error);
        }
    }
    qsort(now, n, sizeof(now[0]), by_value);
    free(entry->known);
    entry->known = now;
    entry->n_known = n;
}

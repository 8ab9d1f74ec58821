// SPDX-License-Identifier: Apache-2.0
//
// The objects of all configuration files, by group, kind, namespace and name. Files are replaced in
// transactions; each ends with the list of what was added, changed and removed.
//
// When several documents define one object, the first one counts (by file name, then place in the
// file), and the others are reported. An object whose document is broken keeps its last good
// version. Thread: control.
#pragma once

#include "common/mesh/config_errors.h"
#include "common/mesh/kobj.h"

struct config_store;

struct config_change { // both are valid until the next config_store_begin()
    const struct kobj *before; // NULL: added
    const struct kobj *after; // NULL: removed
};
struct config_diff {
    const struct config_change *changes;
    uint32_t n_changes;
    uint32_t n_added, n_changed, n_removed;
};

struct config_store *config_store_new(void);
void config_store_free(struct config_store *store); // NULL ok

void config_store_begin(struct config_store *store);
// `file` now holds these objects; a reference is taken on each. Objects that it held before and
// holds no longer go, except those with an id in `kept` and, when keep_missing (some documents
// could not even be read), all.
void config_store_put_file(struct config_store *store, const char *file, struct kobj *const *objs,
                           uint32_t n_objs, const struct kobj_id *kept, uint32_t n_kept,
                           bool keep_missing);
void config_store_remove_file(struct config_store *store, const char *file);

// The same one object at a time, for sources that hear of changes (source_kube.h); such a `file` is
// not given to config_store_put_file.
//
// `file` has this object now, in the place of an older version of it.
void config_store_put(struct config_store *store, const char *file, struct kobj *obj);
// It has one that is broken: its last good version stays. False: there is none.
bool config_store_keep(struct config_store *store, const char *file, const struct kobj_id *id);
void config_store_remove(struct config_store *store, const char *file, const struct kobj_id *id);
// A full list of the file's objects begins; what was neither put nor kept goes with the sweep,
// which may be in a later transaction.
void config_store_mark(struct config_store *store, const char *file);
void config_store_sweep(struct config_store *store, const char *file);

// Ends the transaction. What is the same before and after (by hash) is not in the list. Owned by
// the store, valid until the next begin.
const struct config_diff *config_store_commit(struct config_store *store);
// A warning for each document whose object is defined before it.
void config_store_duplicates(const struct config_store *store, struct config_errors *errors);

// NULL when there is none.
const struct kobj *config_store_get(const struct config_store *store, enum kobj_kind kind,
                                    const char *ns, const char *name);
const struct kobj *config_store_find(const struct config_store *store, const struct kobj_id *id);
size_t config_store_size(const struct config_store *store);
// Objects of one kind (KOBJ_N_KINDS: of all), in no order. `fn` must not change the store. Stops
// when it returns nonzero, and returns that.
int config_store_each(const struct config_store *store, enum kobj_kind kind,
                      int (*fn)(void *arg, const struct kobj *obj), void *arg);
// How many of the file's objects are last good versions of broken documents.
uint32_t config_store_n_kept(const struct config_store *store, const char *file);

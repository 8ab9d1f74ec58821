// SPDX-License-Identifier: Apache-2.0
//
// Documents: YAML (libyaml) and JSON (jansson) load into one tree, each node and each map key with
// its line and column. Scalars are typed as Kubernetes types them (sigs.k8s.io/yaml, that is YAML
// 1.1 as go-yaml v2 reads it): `yes` is a bool, `010` is 8, a date is a string.
//
// A file is read document by document: an error in one YAML document does not hide the others.
// Everything a tree points to is in the arena that was given; a tree is read-only, and aliases make
// it a DAG. Limits guard against files that are made to eat memory or stack (deep nesting, alias
// bombs). Thread: the caller's.
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "common/base/arena.h"
#include "common/base/check.h"
#include "common/base/slice.h"
#include "common/mesh/config_errors.h"

enum cfg_type { CFG_NULL, CFG_BOOL, CFG_INT, CFG_FLOAT, CFG_STRING, CFG_LIST, CFG_MAP };

struct cfg_pair;
struct cfg_node {
    uint32_t line, col; // 1-based, col in characters
    uint32_t n; // items of a list, pairs of a map, bytes of a text
    uint8_t type; // enum cfg_type
    uint8_t height; // levels of lists and maps in it; 0 for a scalar
    bool is_merge : 1; // a plain `<<` key; only while a tree is built
    bool is_block : 1; // text of a block scalar (`|`, `>`): it starts on the line below
    bool is_bad : 1; // an error was reported in or below it (duplicate key, unknown tag ...)
    union {
        // Scalars; NUL-terminated, and free of other NULs. Canonical: CFG_BOOL "true" or "false",
        // CFG_INT decimal, CFG_NULL "null".
        const char *text;
        const struct cfg_node *items;
        const struct cfg_pair *pairs; // keys are CFG_STRING; unique
    };
};
struct cfg_pair {
    struct cfg_node key, value;
};

const char *cfg_type_text(uint8_t type); // "a string", "a map" ...
// The value of `key` in a map; NULL when `node` is NULL, not a map, or has no such key.
const struct cfg_node *cfg_get(const struct cfg_node *node, const char *key);
// As cfg_get along "spec.ports[1].name"; NULL when some part is not there. ret_deepest (may be
// NULL) becomes the last node on the way that is there.
const struct cfg_node *cfg_find(const struct cfg_node *root, const char *path,
                                const struct cfg_node **ret_deepest);
// A string's text; `fallback` when the node is NULL or no string.
const char *cfg_str(const struct cfg_node *node, const char *fallback);
// False when it is not an integer that fits.
bool cfg_to_int(const struct cfg_node *node, int64_t *ret_value);
// Deep copy in one heap block, which the caller frees with free(). Shared parts (aliases) are
// copied once for each use.
struct cfg_node *cfg_clone(const struct cfg_node *node);
// XXH3 over the tree. The order of map keys, positions and notation do not count. `skip` names keys
// (NULL-terminated, of the map `metadata` at the root) that are left out; NULL = none.
uint64_t cfg_hash(const struct cfg_node *root, const char *const *skip);

struct config_doc_limits {
    size_t max_bytes; // of a file
    uint32_t max_depth; // <= 250
    uint32_t max_nodes; // of a document, aliases expanded
};
// 256 MiB, 100, 8 million
extern const struct config_doc_limits config_doc_default_limits;

enum config_format { CONFIG_AUTO, CONFIG_YAML, CONFIG_JSON }; // AUTO: by name, then by first byte

struct config_doc_reader {
    const char *file; // borrowed
    const char *object; // for messages, NULL = not known
    struct slice text; // borrowed
    const struct config_doc_limits *limits;
    size_t pos;
    uint32_t line; // of pos, 0-based
    uint32_t col_offset; // added to each column, for a text that is itself indented in a file
    uint8_t format;
    bool is_started;
};

// `file` is the name for messages. `limits` NULL = default.
void config_doc_reader_init(struct config_doc_reader *r, const char *file, struct slice text,
                            enum config_format format, const struct config_doc_limits *limits);
// The next document that is not empty: 1 and *ret_root, 0 at the end, -EINVAL when a document is
// broken (at least one error was added; call again for the next one). Errors that leave a tree
// (duplicate keys ...) are added, too, and mark the nodes around them as is_bad.
MUST_USE int config_doc_next(struct config_doc_reader *r, struct arena *arena,
                             struct config_errors *errors, struct cfg_node *ret_root);

// Calls `fn` for each object of a document: the document itself, or, when its kind is List or ends
// in "List" and it has `items`, each item. Items of a typed list that lack apiVersion and kind get
// them from the list. Something that is no map is an error in `errors`. Stops when fn is nonzero
// and returns that.
int config_doc_each(const struct cfg_node *root, struct arena *arena, const char *file,
                    struct config_errors *errors, int (*fn)(void *arg, const struct cfg_node *obj),
                    void *arg);

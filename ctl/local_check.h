// SPDX-License-Identifier: Apache-2.0
//
// What an API server and Istio's admission webhook would say of a document before it is stored, as
// kubectl's users see it: --validate. The rules are those of `ztunctl validate` for one object.
// Kinds that the mesh does not read pass unchecked. Pure; any thread.
#pragma once

#include <jansson.h>
#include <stdbool.h>

#include "common/base/check.h"
#include "common/mesh/config_doc.h"
#include "ctl/local_text.h"

enum lab_validation {
    LAB_VALIDATE_NONE, // everything is taken as it is
    LAB_VALIDATE_STRICT, // an unknown field is an error
    LAB_VALIDATE_WARN, // it is dropped, and named
    LAB_VALIDATE_IGNORE, // it is dropped
};

struct lab_check {
    enum lab_validation mode;
    const char *action; // "creating", "replacing", "patching"
    struct text
        messages; // a line each: errors, and below each the places and fixes; "Warning: ..."
    uint32_t n_refused;
};

// "strict", "true", "warn", "ignore", "false", as of kubectl's --validate.
bool lab_validation_parse(const char *text, enum lab_validation *ret);
// The document as it would be stored (new reference), or NULL: refused. `file` NULL: it is none's.
json_t *lab_check_doc(struct lab_check *check, const char *file, const struct cfg_node *doc);
// The same of a tree (takes the reference).
json_t *lab_check_json(struct lab_check *check, json_t *doc);
// A document as a JSON tree (new reference).
json_t *lab_json_of(const struct cfg_node *node);

// SPDX-License-Identifier: Apache-2.0
//
// The tables of schema.h as JSON Schema (draft 7), for editors. What the decode refuses by types,
// names, ranges, enumerations, required and exclusive fields and the syntax of single texts is in
// it; rules over several fields (schema_msg.check) are not. So it accepts all that the decode
// accepts.
//
// Thread: the caller's. Texts of words and names of messages are borrowed until _fini.
#pragma once

#include "common/base/json_out.h"
#include "common/mesh/schema.h"

// A key of a map of strings that is known by name; others stay allowed.
struct schema_json_word {
    const struct schema_msg *msg; // of the map
    const char *field, *key;
    const char *values; // with a space between each: for completion; NULL: any
    const char *text; // what it does
};

struct schema_json_def {
    const struct schema_msg *msg;
    char *name;
};

struct schema_json {
    struct json_out *out; // borrowed
    const struct schema_json_word *words;
    size_t n_words;
    struct schema_json_def *defs; // in the order of their first use
    size_t n_defs, n_written, cap;
};

void schema_json_init(struct schema_json *s, struct json_out *out,
                      const struct schema_json_word *words, size_t n_words);
void schema_json_fini(struct schema_json *s);

// Writes the value {"$ref": ...} to a message, which is then among the definitions; `name` is used
// for it and, with a suffix, for those inside.
void schema_json_ref(struct schema_json *s, const struct schema_msg *msg, const char *name);
// Writes, into the open object, what a map has to hold to be this message: "properties" and so on.
// `required` (ends with NULL, or is NULL) names properties that `head` writes instead of the table.
void schema_json_fields(struct schema_json *s, const struct schema_msg *msg, const char *name,
                        void (*head)(void *arg, struct schema_json *s), void *arg,
                        const char *const *required);
// Writes, into the open object "definitions", all messages that were referred to.
void schema_json_defs(struct schema_json *s);

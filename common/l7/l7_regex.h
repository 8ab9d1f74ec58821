// SPDX-License-Identifier: Apache-2.0
//
// Regular expressions of configuration, on RE2: linear in the text whatever the expression, and
// bounded in memory. Everything matches the whole text unless it says otherwise.
//
// A compiled expression is immutable for its users: any thread may match (RE2 guards its own
// caches). Texts come from peers, expressions from configuration.
#pragma once

#include "common/base/buf.h"
#include "common/base/check.h"
#include "common/base/slice.h"

enum {
    // Of one expression, program and caches: a counted repetition in a short text can be large.
    L7_REGEX_MEM_MAX = 4 << 20,
    L7_REGEX_SET_MEM_MAX = 8 << 20, // of one part of a set
    L7_REGEX_SET_PART = 128, // expressions of a part
    L7_REGEX_ERROR_MAX = 128,
};

struct l7_regex;

// NULL when it is not an expression of RE2 or too large; then the reason is in ret_error (NULL ok).
struct l7_regex *l7_regex_new(struct slice pattern, char ret_error[L7_REGEX_ERROR_MAX]) MUST_USE;
void l7_regex_free(struct l7_regex *regex);
bool l7_regex_matches(const struct l7_regex *regex, struct slice text);

// Appends `text` with every match (of any part, leftmost first, not overlapping) replaced by
// `rewrite`, in which \0 is the match, \1 to \9 its groups and \\ a backslash. False, and nothing
// appended: no match, or the result does not fit in the buffer.
bool l7_regex_replace(const struct l7_regex *regex, struct slice text, struct slice rewrite,
                      struct buf *ret) MUST_USE;
// What is wrong with a rewrite for this expression: a group that it lacks, a lone backslash. NULL:
// nothing. A static text.
const char *l7_regex_rewrite_problem(const struct l7_regex *regex, struct slice rewrite);

// For kobj_regex_problem: NULL when it compiles. The text is valid until the thread's next call.
const char *l7_regex_problem(const char *pattern);

// Many expressions matched at once, in parts of L7_REGEX_SET_PART. When a part outgrows its memory
// its expressions are matched one by one, with the same result.
struct l7_regex_set;

// The regexes are borrowed and must live as long as the set.
struct l7_regex_set *l7_regex_set_new(const struct l7_regex *const *items, size_t n) MUST_USE;
void l7_regex_set_free(struct l7_regex_set *set);

// The indices of those that match, in ascending order; a part is matched when the iteration reaches
// it. Start with a zeroed iterator.
struct l7_regex_iter {
    size_t next; // index
    size_t part; // 1 + the part that `bits` are of; 0: none yet
    uint64_t bits[L7_REGEX_SET_PART / 64];
};
bool l7_regex_set_next(const struct l7_regex_set *set, struct slice text,
                       struct l7_regex_iter *iter, size_t *ret_index);

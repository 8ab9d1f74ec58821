// SPDX-License-Identifier: Apache-2.0
//
// What l7_regex needs of RE2, as C. The header stands alone, because C++ includes it. Running out
// of memory ends the process: nobody catches std::bad_alloc.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

struct l7_re2;
struct l7_re2_set;

// NULL and a text in `error` when it does not compile within max_mem bytes.
struct l7_re2 *l7_re2_new(const char *pattern, size_t len, int64_t max_mem, char *error,
                          size_t error_size);
void l7_re2_free(struct l7_re2 *re);
int l7_re2_n_groups(const struct l7_re2 *re);
// The whole text.
bool l7_re2_matches(const struct l7_re2 *re, const char *text, size_t len);

struct l7_re2_group { // of a match: text[start..start+len); nothing: 0, 0
    size_t start, len;
};
// The leftmost match that starts at `from` or behind it.
bool l7_re2_find(const struct l7_re2 *re, const char *text, size_t len, size_t from,
                 struct l7_re2_group *ret_groups, int n_groups);

// NULL when the whole does not compile within max_mem.
struct l7_re2_set *l7_re2_set_new(const struct l7_re2 *const *items, size_t n, int64_t max_mem);
void l7_re2_set_free(struct l7_re2_set *set);
// Sets the bit of each item that matches the whole text. 1: any, 0: none, -1: it takes more memory
// than the set has.
int l7_re2_set_match(const struct l7_re2_set *set, const char *text, size_t len,
                     uint64_t *ret_bits);

#ifdef __cplusplus
}
#endif

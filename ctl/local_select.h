// SPDX-License-Identifier: Apache-2.0
//
// Label selectors as kubectl's -l has them: key=value, key==value, key!=value, key in (a, b),
// key notin (a, b), key, !key; commas mean "and". Pure; any thread.
#pragma once

#include <jansson.h>
#include <stdbool.h>

#include "common/base/check.h"

// False: it is none; *ret_error says what is wrong (caller frees).
MUST_USE bool lab_selector_check(const char *selector, char **ret_error);
// NULL and "" match everything. The selector was checked.
bool lab_selector_matches(const char *selector, const json_t *labels);

// SPDX-License-Identifier: Apache-2.0
//
// `-o jsonpath=TEMPLATE`, as kubectl has it: text, {.paths}, {"literals"}, {range .path}...{end};
// in a path .name, ['name'], [N], [-N], [*], .*, ..name and [?(@.path=="value")] (also !=). A name
// that is not there gives nothing. Pure; any thread.
#pragma once

#include <jansson.h>
#include <stdbool.h>

#include "common/base/check.h"
#include "ctl/local_text.h"

// Adds the result to `out`. False: *ret_error says what is wrong (caller frees).
MUST_USE bool lab_jsonpath(const char *template, const json_t *root, struct text *out,
                           char **ret_error);

// SPDX-License-Identifier: Apache-2.0
//
// The three patches of the Kubernetes API on JSON trees. Pure; any thread.
#pragma once

#include <jansson.h>
#include <stdbool.h>

#include "common/base/check.h"

// RFC 7386. Returns the new tree (new reference); `target` stays as it is.
json_t *patch_merge(const json_t *target, const json_t *patch);
// As merge, but lists of objects that Kubernetes merges by a key (containers, env, ports, volumes
// ...) are merged by it; `$patch: delete` and `$patch: replace` in their items are known.
json_t *patch_strategic(const json_t *target, const json_t *patch);
// RFC 6902: add, remove, replace, move, copy, test. NULL: *ret_error says which operation failed
// (caller frees); nothing is changed then.
MUST_USE json_t *patch_json(const json_t *target, const json_t *operations, char **ret_error);

// SPDX-License-Identifier: Apache-2.0
//
// YAML and JSON files as lists of JSON trees: documents, and the items of Lists.
#pragma once

#include <jansson.h>

#include "common/base/check.h"
#include "ctl/local_check.h"

// Reads a file, or all *.yaml, *.yml and *.json files of a directory in the order of their names.
// "-" is stdin. 0 and a new array; else -errno, and *ret_error says where and what (caller frees).
// What `check` refuses (NULL: it is not asked) is left out, and said there.
MUST_USE int lab_docs_load(const char *path, struct lab_check *check, json_t **ret_docs,
                           char **ret_error);

// SPDX-License-Identifier: Apache-2.0
//
// JSON trees as YAML text in blocks, in the order of their keys.
#pragma once

#include <jansson.h>

#include "ctl/local_text.h"

void yaml_write(const json_t *value, struct text *out);

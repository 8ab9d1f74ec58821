// SPDX-License-Identifier: Apache-2.0
//
// Keyed hash of byte strings for in-memory tables: XXH3 with a secret drawn from the OS once per
// process, so that a peer who chooses keys cannot aim at one bucket (hash flooding). The value
// differs from process to process: never store it, send it, or balance by it.
//
// Thread: any.
#pragma once

#include "common/base/slice.h"

uint64_t hash_bytes(struct slice bytes);

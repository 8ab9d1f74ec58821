// SPDX-License-Identifier: Apache-2.0
//
// What `ztunctl local --help` prints.
#pragma once

#include <stdio.h>

void local_usage(FILE *out);

// SPDX-License-Identifier: Apache-2.0
//
// Elastic tab stops, as Go's text/tabwriter has them and kubectl describes with: cells end in tabs,
// and a column is as wide as the widest cell of the lines around it that have one, and two more.
// Pure; any thread.
#pragma once

#include "common/base/check.h"
#include "ctl/local_text.h"

// Aligns the lines of `text`; the result is added to `out`.
void lab_tabs_align(const char *text, struct text *out);

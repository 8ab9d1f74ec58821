// SPDX-License-Identifier: Apache-2.0
//
// Filter directives of the log ("warn,access=info,mesh::dns=debug"). Pure.
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "common/base/buf.h"
#include "common/base/slice.h"
#include "common/obs/log.h"

enum {
    LOG_FILTER_MAX_RULES = 64, // the admin port adds rules at runtime
    LOG_FILTER_MAX_NAME = 64,
};

struct log_filter_rule {
    char name[LOG_FILTER_MAX_NAME]; // "" = every scope
    enum log_level level;
};

// One rule a name.
struct log_filter {
    struct log_filter_rule rules[LOG_FILTER_MAX_RULES];
    size_t n_rules;
};

const char *log_level_name(enum log_level level);
// Case-insensitive; also "warning". False: not a level.
bool log_level_parse(struct slice text, enum log_level *ret_level);

void log_filter_init(struct log_filter *filter); // no rules: everything is off
// Adds the comma-separated directives; one for a name that has a rule replaces it. On failure the
// filter is unchanged and ret_error (appended to) says what is wrong.
bool log_filter_parse(struct log_filter *filter, struct slice text, struct buf *ret_error);
enum log_level log_filter_level(const struct log_filter *filter, const char *scope_name);
void log_filter_print(const struct log_filter *filter, struct buf *ret_text);

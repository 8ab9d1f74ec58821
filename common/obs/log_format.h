// SPDX-License-Identifier: Apache-2.0
//
// A log line as text or JSON. Pure: the time is an argument.
#pragma once

#include "common/obs/log.h"

enum { LOG_TIME_MAX = 40 };

// RFC 3339 in UTC with microseconds: 2024-08-21T15:32:05.754291Z
void log_format_time(uint64_t wall_ns, char ret_text[LOG_TIME_MAX]);

struct log_line {
    uint64_t wall_ns;
    enum log_level level;
    const char *scope;
    const char *message;
    const struct log_field *fields;
    size_t n_fields;
};

// Replaces what is in `buf` by the line with its newline, at most LOG_LINE_MAX bytes (the maximum
// of `buf` must be that or more). Fields that do not fit are left out, and truncated=true is added.
// Bytes in texts that could fake a line or another field are escaped.
void log_format_line(struct buf *buf, enum log_format format, const struct log_line *line);

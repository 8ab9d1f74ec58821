// SPDX-License-Identifier: Apache-2.0
//
// Formats of access logs: a text with %VARIABLES%, or a JSON object whose strings are such texts
// (l7_template.h), as Envoy has them.
//
// Text: what has no value is "-". Values may come from a peer: quotes, backslashes and control
// characters in them, and what is not UTF-8, are written \xNN, so that a line stays one line and a
// quoted value ends where it should. JSON: a string that is one variable becomes its value, null
// without one, a number where the variable is one.
//
// A value is cut at L7_LOG_VALUE_MAX bytes, and shorter when the line would become too long.
//
// Compiled once, immutable, any thread. Pure.
#pragma once

#include "common/l7/l7_template.h"

enum l7_log_encoding { L7_LOG_TEXT, L7_LOG_JSON };

enum {
    L7_LOG_FORMAT_MAX = 4095, // bytes of a format
    L7_LOG_VARS_MAX = 64, // variables in it
    L7_LOG_DEPTH_MAX = 8, // objects in objects
    L7_LOG_VALUE_MAX = 4096,
    L7_LOG_LINE_MAX = 60 * 1024, // with the newline
};

// Istio's formats, which are used for an empty one.
extern const char l7_log_default_text[], l7_log_default_json[];

struct l7_log_format;

// NULL: the text is no format, and ret_error (appended to) says why. Text formats get a newline at
// their end if they have none.
struct l7_log_format *l7_log_format_new(enum l7_log_encoding encoding, struct slice text,
                                        struct buf *ret_error) MUST_USE;
void l7_log_format_free(struct l7_log_format *format); // NULL ok
// For kobj_access_log_problem: NULL when it is a format. The text is valid until the thread's next
// call.
const char *l7_log_format_problem(bool is_json, const char *text);
// It asks for a field of the response other than x-envoy-upstream-service-time.
bool l7_log_format_wants_response(const struct l7_log_format *format);
// Replaces what is in `out` (which has no maximum) by a line of at most L7_LOG_LINE_MAX bytes.
// `vars->finish` is not used.
void l7_log_format_line(const struct l7_log_format *format, const struct l7_vars *vars,
                        struct buf *out);

// SPDX-License-Identifier: Apache-2.0
//
// Header values with %VARIABLES% (l7_var.def), as Envoy writes them: %NAME%, %NAME(ARGUMENT)%,
// %NAME(ARGUMENT):MAX_LENGTH%, %% for a percent sign. What has no value becomes nothing.
//
// Compiled once, immutable, any thread.
#pragma once

#include "common/base/arena.h"
#include "common/base/buf.h"
#include "common/proto/http_msg.h"

enum l7_var {
#define L7_VAR(name, arg) L7_VAR_##name,
#include "common/l7/l7_var.def"
#undef L7_VAR
    L7_N_VARS,
};
const char *l7_var_name(enum l7_var var);

struct l7_template;

// Where values come from. `request` and `response` answer REQ and RESP; NULL: none. `value` appends
// the value of another variable (nothing when there is none); `format` is START_TIME's, "" when it
// has none (then RFC 3339 with milliseconds is meant). NULL: none has a value. `finish` is called
// behind each variable, whose value begins at `start` (and may be nothing), to put something else
// in its place; NULL: it is made fit for a header.
struct l7_vars {
    const struct http_head *request, *response;
    void (*value)(void *arg, enum l7_var var, struct slice format, struct buf *out);
    void (*finish)(void *arg, struct buf *out, size_t start);
    void *arg;
};

// NULL when the text is not a template: the reason is in ret_error. The result borrows `text` and
// lives in the arena (which has no limit).
const struct l7_template *l7_template_compile(struct arena *arena, struct slice text,
                                              const char **ret_error) MUST_USE;
// A text that is what it is, whatever is in it.
const struct l7_template *l7_template_literal(struct arena *arena, struct slice text);
// The whole value when it has no variables. False: it has some.
bool l7_template_is_literal(const struct l7_template *tmpl, struct slice *ret_text);
// What it is made of, piece by piece. False: there are not so many.
struct l7_template_piece {
    int var; // enum l7_var; -1: text
    struct slice text; // or the argument: a field's name in lower case, a format
    struct slice other; // the name behind '?'
    size_t max_len; // of the value; SIZE_MAX: none
};
bool l7_template_at(const struct l7_template *tmpl, size_t index,
                    struct l7_template_piece *ret_piece);
// Appends the value of a variable of one, cut at its maximum, whatever is in it. vars->finish is
// not called.
void l7_template_value(const struct l7_template_piece *piece, const struct l7_vars *vars,
                       struct buf *out);
// Bytes that no field value may have (RFC 9110 5.5: CR, LF, NUL) become blanks (without
// vars->finish): what is expanded may come from a peer.
void l7_template_expand(const struct l7_template *tmpl, const struct l7_vars *vars,
                        struct buf *out);

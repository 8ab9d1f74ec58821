// SPDX-License-Identifier: Apache-2.0
//
// What is wrong with configuration: a bounded list of errors and warnings, each with its place.
// It owns copies of all texts. Thread: the owner's.
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "common/base/check.h"

// Kept per list; a hostile file must not fill memory with complaints. Beyond it only counts grow.
enum { CONFIG_ERRORS_MAX = 2000 };

enum config_severity {
    CONFIG_ERROR,
    CONFIG_WARNING, // valid, but probably not meant
    CONFIG_NOTE, // valid and common, but often taken for something else
};

struct config_error {
    uint8_t severity;
    bool is_unknown_field; // the API server drops the field, unless it is asked to be strict
    uint32_t line, col; // 1-based; 0 = the file as a whole
    const char *file;
    const char *object; // "Service default/web", "" = not known (yet)
    const char *path; // "spec.ports[0].port", "" = the object
    const char *text; // what is wrong, no full stop
    const char *hint; // the name that was meant, "" = none
};

struct config_errors {
    struct config_error *items;
    uint32_t n, cap;
    uint32_t n_errors, n_warnings, n_notes; // all, also those that were not kept
};

void config_errors_init(struct config_errors *errors);
void config_errors_fini(struct config_errors *errors);
void config_errors_clear(struct config_errors *errors);
// Copies `error`. NULL texts count as "".
void config_errors_add(struct config_errors *errors, const struct config_error *error);
// By file, line, column; stable.
void config_errors_sort(struct config_errors *errors);

// "file:line:col: Kind ns/name: field.path: what is wrong (did you mean `x`?)"; parts that are not
// known are left out, and a warning or a note says so before its object. Caller frees.
char *config_error_text(const struct config_error *error);

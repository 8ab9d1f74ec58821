// SPDX-License-Identifier: Apache-2.0
//
// Objects as kubectl's tables. Client side; pure but for the clock (AGE).
#pragma once

#include <jansson.h>
#include <stdbool.h>

#include "common/base/check.h"
#include "ctl/local_text.h"

enum { LAB_TABLE_COLUMNS_MAX = 16 };

// Rows of cells; zeroed = empty. The first row is the header.
struct lab_table {
    struct strv cells;
    size_t n_columns;
    size_t widths[LAB_TABLE_COLUMNS_MAX]; // of what was printed so far: a watch keeps them
};

// Starts a table for objects of a kind: its header.
void lab_table_init(struct lab_table *table, const char *kind, bool has_ns, bool is_wide);
void lab_table_fini(struct lab_table *table);
// Adds the object's row. `kind` as for lab_table_init.
void lab_table_add(struct lab_table *table, const char *kind, const json_t *doc, bool has_ns,
                   bool is_wide);
// Prints the rows from `first` on (0 = with the header) to stdout.
void lab_table_print(struct lab_table *table, size_t first);
// Cells of a row, joined; changes when the row says something else, apart from its age.
char *lab_table_row_key(const struct lab_table *table, size_t row);

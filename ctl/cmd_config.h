// SPDX-License-Identifier: Apache-2.0
//
// Inside `ztunctl config`: tables as istioctl prints them, and YAML. Pure but for the FILE.
#pragma once

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "common/base/check.h"

// ---- cmd_config_out.c --------------------------------------------------------------------------

// Rows of `n_cols` texts in columns that are as wide as their longest text plus `padding`; the last
// one is not padded.
struct table {
    size_t n_cols, padding;
    char **cells;
    size_t n_cells, cap;
};
void table_init(struct table *table, size_t n_cols, size_t padding);
void table_fini(struct table *table);
void table_add(struct table *table, const char *text); // the next cell; NULL counts as ""
void table_addf(struct table *table, const char *fmt, ...) PRINTF_LIKE(2, 3);
void table_print(const struct table *table, FILE *out);

// A JSON value as YAML, keys sorted.
void yaml_print(const json_t *value, FILE *out);
void json_print(const json_t *value, FILE *out); // four spaces, keys in their order

// ---- cmd_config_table.c ------------------------------------------------------------------------

struct config_filter {
    const char *ns, *workload, *address, *node, *direction; // NULL = any
    bool is_raw; // connections: addresses instead of names
    // L7: the service's host name, a port of it (0 = any) and a subset.
    const char *fqdn, *subset;
    uint16_t port;
};

enum config_noun {
    CONFIG_WORKLOAD,
    CONFIG_SERVICE,
    CONFIG_POLICY,
    CONFIG_CERTIFICATE,
    CONFIG_CONNECTION,
    CONFIG_ALL,
    // Of a waypoint:
    CONFIG_LISTENER,
    CONFIG_ROUTE,
    CONFIG_CLUSTER,
    CONFIG_ENDPOINT,
};
static inline bool config_is_l7(enum config_noun noun) {
    return noun >= CONFIG_LISTENER;
}
// What of a config dump the noun means, filtered and sorted: a new array (workload states for
// connections; not for CONFIG_ALL).
json_t *config_select(const json_t *dump, enum config_noun noun,
                      const struct config_filter *filter);
// The same as a table. `now`: "2026-01-02T03:04:05Z", for the validity of certificates.
void config_print_table(const json_t *dump, enum config_noun noun,
                        const struct config_filter *filter, const char *now, FILE *out);

// ---- cmd_config_l7.c ---------------------------------------------------------------------------

// The same two for the nouns of a waypoint, whose dump is /l7_dump or a whole /config_dump. NULL:
// it is of another program.
json_t *config_select_l7(const json_t *dump, enum config_noun noun,
                         const struct config_filter *filter);
void config_print_l7(const json_t *list, enum config_noun noun, FILE *out);

// ---- cmd_config_table.c ------------------------------------------------------------------------

// A decimal number of any length in hexadecimal; false when it is none.
bool config_decimal_to_hex(const char *decimal, char *ret_hex, size_t cap);

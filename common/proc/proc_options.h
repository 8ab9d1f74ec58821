// SPDX-License-Identifier: Apache-2.0
//
// Command lines of the daemons: a table of settings, each with a flag, an environment name or both.
// Flags win over the environment, which wins over the defaults that the caller has set before.
//
// Flags are written --name=value or --name value; --help and --version are understood. Texts are
// not copied: they live as long as argv and the environment.
//
// Thread: main, before others exist.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/proc/proc_start.h"

enum proc_option_type {
    PROC_TEXT, // const char *
    PROC_U32,
    PROC_BYTES_U32, // "65535", "256Ki", "4Mi", "1Gi", "100k", "1M", "1G"
    PROC_BYTES_U64,
    PROC_BOOL, // true, 1, yes, on; false, 0, no, off
    PROC_TRISTATE, // int: 1, 0; the default stays when it is not set
    PROC_ADDR, // struct addr
    PROC_SECONDS_U32, // "24h", "1h30m", "30s", "1500ms", "90" (seconds)
    PROC_MS_U32,
    PROC_NS, // uint64_t
    PROC_COMPLIANCE, // enum tls_compliance: "", fips-140-2, pqc
    PROC_IO, // enum proc_io: auto, uring, epoll
    PROC_THREADS, // struct proc_threads: number, percentage of the cores, 0 = all cores
    PROC_CPUS, // uint32_t: an amount of CPU as Kubernetes writes it ("2", "1.5", "500m"), rounded
               // up
};

struct proc_threads {
    uint32_t n; // or thousandths of a percent
    bool is_percent, is_set;
};

struct proc_option {
    const char *flag, *env; // NULL = none
    enum proc_option_type type;
    size_t offset; // of the field in the config
    const char *arg, *help; // what --help says; help NULL = nothing
};

struct proc_program {
    const char *name; // "ztun"
    const char *what; // "node proxy of a sidecarless mesh"
    const char *usage; // arguments that are required, "--config DIR --ca-dir DIR"
    const char *heading; // above the options in --help
    const struct proc_option *options;
    size_t n_options;
    // What may stand before the flags, in this order, and means nothing: Istio's charts start
    // "proxy ztunnel".
    const char *const *words;
    size_t n_words;
};

// Environment, then flags. Returns 0; 1 when it printed help or the version (exit 0); 2 when it
// printed a usage error (exit 2).
int proc_options_parse(const struct proc_program *program, void *config, int argc, char **argv);

// How many threads that is: 0 when it is not set.
uint32_t proc_options_threads(const struct proc_threads *threads, uint32_t cores);

const char *proc_options_io_name(enum proc_io io);

// The drain deadline that TERMINATION_GRACE_PERIOD_SECONDS leaves; *ret_ms stays without one.
void proc_options_grace(uint32_t *ret_ms);

// Fields of requests from the environment: PREFIXname=value. The name is used in lower case. The
// list and its names are on the heap, as long as the process. Prints what is wrong: false.
struct http_field;
bool proc_options_headers(const char *program, const char *prefix, struct http_field **ret_fields,
                          size_t *ret_n_fields);

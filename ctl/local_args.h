// SPDX-License-Identifier: Apache-2.0
//
// The command line of `ztunctl local`.
#pragma once

#include <jansson.h>
#include <stdbool.h>

#include "common/base/check.h"
#include "ctl/local_check.h"
#include "ctl/local_cli.h"
#include "ctl/local_lab.h"
#include "ctl/local_verbs.h"

enum { LAB_WAIT_DEFAULT_S = 60 };

struct local_args {
    struct lab_options lab;
    const char *base, *container;
    json_t *files; // -f and positional paths
    int wait_s; // 0 = do not wait
    long grace_s;
    struct lab_logs logs;
    bool is_all; // --all
    enum lab_validation validation;
    struct verb_args verb;
    char **rest; // what is left, NULL-terminated
    int n_rest;
};

// argv[0] is the command; what follows "--" is left alone. False: said why. _fini either way.
bool local_args_init(struct local_args *a, int argc, char **argv);
void local_args_fini(struct local_args *a);

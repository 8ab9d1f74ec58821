// SPDX-License-Identifier: Apache-2.0
//
// For tests of ztunctl: a subcommand as a program.
#pragma once

#include "tests/unit/base/unit.h"

enum { CTL_ARGS_MAX = 32 };

// Runs a subcommand with arguments (behind its name, NULL at the end). What it printed is the
// caller's to free. Returns its exit code.
int ctl_run(int (*command)(int argc, char **argv), const char *name, const char *const *args,
            char **ret_out, char **ret_err);

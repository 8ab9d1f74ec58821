// SPDX-License-Identifier: Apache-2.0
//
// The command line of `ztunctl waypoint`.
#pragma once

#include "ctl/kubectl.h"
#include "ctl/waypoint_gateway.h"

enum waypoint_verb { // bits: an option goes with several
    WAYPOINT_NONE,
    WAYPOINT_GENERATE = 1,
    WAYPOINT_APPLY = 2,
    WAYPOINT_STATUS = 4,
    WAYPOINT_LIST = 8,
    WAYPOINT_DELETE = 16,
};

struct waypoint_args { // texts are argv's
    enum waypoint_verb verb;
    struct kubectl kubectl;
    struct waypoint_spec spec; // without the namespace
    bool is_enrolling, is_overwriting, is_waiting, is_all, is_everywhere, is_json;
    int64_t timeout_ms;
    char **names; // NULL-terminated
    int n_names;
};

// False: *ret_code is what to end with; help was printed, or what is wrong.
bool waypoint_args_parse(struct waypoint_args *a, int argc, char **argv, int *ret_code);

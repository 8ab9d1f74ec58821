// SPDX-License-Identifier: Apache-2.0
//
// Which ztun a command talks to: one at an address (in a network namespace), or those of a lab's
// nodes; or which waypoints.
#pragma once

#include <getopt.h>
#include <jansson.h>
#include <stdio.h>

#include "common/base/addr.h"
#include "common/base/buf.h"

struct http_target {
    char *node; // for output; "" = not known
    char *netns; // "" = own
    struct addr admin;
};
struct http_targets {
    struct http_target *items;
    size_t n;
};

struct http_target_options { // texts of argv
    const char *lab, *node, *netns, *admin, *state_dir;
    const char *waypoint; // of a lab: "NS/NAME" of its Gateway, "" = all; NULL: ztuns
};
// Rows for getopt_long, and what handles them.
enum {
    HTTP_OPT_LAB = 0x1000,
    HTTP_OPT_NODE,
    HTTP_OPT_NETNS,
    HTTP_OPT_ADMIN,
    HTTP_OPT_STATE_DIR,
    HTTP_OPT_WAYPOINT
};
#define HTTP_TARGET_LONGS                                                                          \
    {"lab", required_argument, NULL, HTTP_OPT_LAB},                                                \
        {"node", required_argument, NULL, HTTP_OPT_NODE},                                          \
        {"netns", required_argument, NULL, HTTP_OPT_NETNS},                                        \
        {"waypoint", required_argument, NULL, HTTP_OPT_WAYPOINT},                                  \
        {"admin", required_argument, NULL, HTTP_OPT_ADMIN}, {                                      \
        "state-dir", required_argument, NULL, HTTP_OPT_STATE_DIR                                   \
    }
bool http_target_option(struct http_target_options *options, int opt, const char *arg);
extern const char http_target_help[]; // for usage texts

// The lab that is meant: its status (`ztunctl local status -o json`). NULL: no lab is named and
// none of the usual name runs (*ret_error is NULL), or it cannot be asked (a reason).
json_t *http_target_lab(const struct http_target_options *options, char **ret_error);
// False: *ret_error says why. At least one target else.
MUST_USE bool http_targets_find(const struct http_target_options *options,
                                struct http_targets *ret_targets, char **ret_error);
void http_targets_fini(struct http_targets *targets);

// GET from a target's admin, or from its `port` when that is not 0; prints a failure on stderr
// after `command`. True: status 200.
MUST_USE bool http_target_fetch(const char *command, const struct http_target *target,
                                const char *method, const char *path, uint16_t port,
                                struct buf *body);

// SPDX-License-Identifier: Apache-2.0
//
// Client side of `ztunctl local`: what runs in the user's own process.
#pragma once

#include <jansson.h>
#include <stdbool.h>

#include "common/base/check.h"

// Runs argv in a container's namespaces, or in a node's network namespace when `where` has no
// slash, with this process's stdin, stdout, stderr and terminal. Returns the exit code.
int lab_cli_exec(const char *dir, const char *where, const char *container, char **argv);
struct lab_logs {
    const char *container; // NULL: the first one
    bool is_following;
    bool is_previous; // of the container's start before this one
    long tail; // last lines; < 0: all
};
// Copies the log of a container, or of a node's ztun, to stdout.
int lab_cli_logs(const char *dir, const char *where, const struct lab_logs *logs);
// Waits until all is ready, at most timeout_s. False: it is not; says what is missing on stderr.
bool lab_cli_wait(const char *dir, int timeout_s);
// Ends a lab and removes what it left, whatever state it is in. Returns the exit code.
int lab_cli_down(const char *name, const char *dir);
// Sends a request and prints the answer's text. Returns the exit code.
int lab_cli_simple(const char *dir, json_t *request);
// "NS/NAME" or "NAME" (namespace default) into a request object.
void lab_cli_put_name(json_t *request, const char *where);

// SPDX-License-Identifier: Apache-2.0
//
// The lab's supervisor process: set-up, the turn of its loop, the end.
#pragma once

#include "ctl/local_lab.h"

// Runs the lab in this process until it is told to stop. Reports on report_fd once: "ok", or what
// went wrong (then everything is taken back). Takes Node objects out of docs. Returns the exit
// code.
int lab_super_run(const struct lab_options *options, json_t *docs, int report_fd);
void lab_super_stop(struct lab *lab);

// "<dir>/lock" is held by a living supervisor. True when one lives.
bool lab_super_is_alive(const char *dir);

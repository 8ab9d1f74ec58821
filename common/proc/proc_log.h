// SPDX-License-Identifier: Apache-2.0
//
// The log of a daemon: lines of all threads are written by the control loop, in batches.
//
// Thread: control.
#pragma once

#include "common/rt/watch.h"

struct proc_log {
    struct loop *loop;
    struct watch watch;
    struct timer timer;
};

// Starts asynchronous mode (log.h); at the end log_stop_async.
void proc_log_open(struct proc_log *log, struct loop *loop);

// log_init with the programs' settings: stdout, format "plain" or "json". False: it printed why.
bool proc_log_init(const char *program, const char *format, const char *filter);

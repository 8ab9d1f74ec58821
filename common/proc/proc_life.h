// SPDX-License-Identifier: Apache-2.0
//
// The life of a daemon, as its control thread leads it:
//
//   STARTING    until proc_life_run
//   RUNNING     SIGTERM, SIGINT or proc_life_drain end it
//   DRAINING    connections go on, new ones are still accepted for min(2 s, half the deadline):
//   they
//               were on their way when a successor was not there yet
//   CUTTING     the last 2 s before the deadline: what is left is reset, spread over that time
//
// It ends when nothing is left, at the deadline, or at once with a second signal. Besides, five
// times a second: pressure of memory, the first readiness, old snapshots, series of metrics that
// expired.
//
// Thread: control.
#pragma once

#include "common/base/buf.h"
#include "common/proc/proc_memory.h"
#include "common/rt/signals.h"

struct proc_admin_servers;
struct proc_config;

enum proc_state { PROC_STARTING, PROC_RUNNING, PROC_DRAINING, PROC_CUTTING };

struct proc_life_ops { // what the program does about it
    bool (*has_work)(void *arg); // connections, or tunnels whose clients may still ask for one
    void (*drain)(void *arg, uint32_t accept_ms); // accepting ends after accept_ms
    void (*cut)(void *arg, uint32_t spread_ms); // resets what is left, over spread_ms
    void (*pressure)(void *arg, bool allow_growth, bool refuse_new); // both as proc_memory.h has it
    void (*tick)(void *arg); // NULL ok
    bool (*is_ready)(void *arg, struct buf *ret_reasons); // else why, a line each
};

struct proc_life {
    const struct proc_life_ops *ops;
    void *arg;
    struct loop *loop;
    const struct log_scope *scope;
    struct proc_admin_servers *servers;
    struct proc_memory memory;
    struct signals signals;
    struct timer tick_timer, drain_timer;
    uint64_t deadline, last_expire; // monotonic ns
    uint64_t started; // proc_life_run
    bool has_told_ready, has_told_late; // in the log
    uint32_t termination_ms;
    uint8_t state; // enum proc_state
};

struct proc_life_params {
    const struct proc_life_ops *ops;
    void *arg;
    struct loop *loop;
    int signal_fd; // proc_signals'; -1: none
    const struct log_scope *scope;
    struct proc_admin_servers *servers; // a drain leaves their ports to a successor; NULL ok
    const struct proc_config *config; // memory limit, drain deadline
};

void proc_life_open(struct proc_life *life, const struct proc_life_params *params);
void proc_life_start_ticks(struct proc_life *life); // once snapshots and workers are there
void proc_life_run(struct proc_life *life); // the loop, until the end
void proc_life_drain(struct proc_life *life); // nothing happens when it drains already
const char *proc_life_state(const struct proc_life *life); // "running"
// The program's own answer (is_ready). The first yes is told in the log, where there was none for
// ten seconds, too; readiness that is asked for goes through here, so that log and probe agree.
bool proc_life_is_ready(struct proc_life *life, struct buf *ret_reasons);
// Else false, and the reason is appended as a line.
bool proc_life_is_running(const struct proc_life *life, struct buf *ret_reasons);

// SPDX-License-Identifier: Apache-2.0
#include "common/proc/proc_start.h"

#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

#include "common/obs/log.h"
#include "common/obs/metrics.h"
#include "common/obs/prom.h"
#include "common/rt/sched_slice.h"
#include "common/rt/signals.h"
#include "version.h"

enum { CONTROL_NICE = 5 };

void proc_harden(void) {
    struct rlimit none = {0}, files;
    (void)setrlimit(RLIMIT_CORE, &none);
    (void)prctl(PR_SET_DUMPABLE, 0);
    if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
        files.rlim_cur = files.rlim_max;
        (void)setrlimit(RLIMIT_NOFILE, &files);
    }
}

int proc_signals(int *ret_fd) {
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    return signals_block(&set, ret_fd);
}

static void before_wait(struct loop *loop) {
    uint64_t busy_ns = loop->io->ops->now(loop->io) - loop->awake_at;
    metric_observe(METRIC_CONTROL_TURN, (double)busy_ns / 1e9);
}

int proc_loop_open(struct loop *loop, struct blk_pool *pool, struct io **ret_io, void *owner,
                   const struct log_scope *scope, enum proc_io want, enum io_kind *ret_kind) {
    char error[URING_ERROR_MAX];
    struct uring_options options = {.entries = 64, .n_buffers = 16};
    blk_pool_init(pool, 1);
    *ret_kind = want == PROC_IO_EPOLL ? IO_EPOLL : IO_URING;
    int rc = io_open(*ret_kind, &options, pool, error, ret_io);
    if (rc < 0 && want == PROC_IO_AUTO) {
        log_warn(scope, "io_uring is not usable, epoll is used: it needs more CPU",
                 LOG_STR("reason", error));
        *ret_kind = IO_EPOLL;
        rc = io_open(*ret_kind, &options, pool, error, ret_io);
    }
    if (rc < 0) {
        log_error(scope, "no I/O back end is usable", LOG_STR("reason", error));
        return rc;
    }
    loop_init(loop, *ret_io, pool, owner);
    loop->before_wait = before_wait;
    return 0;
}

void proc_be_nice(void) {
    (void)setpriority(PRIO_PROCESS, (id_t)gettid(), CONTROL_NICE);
    sched_slice_set(SCHED_SLICE_LONG_US);
}

void proc_collect_build(const char *component, const struct io *io) {
    struct slice build[METRIC_N_LABELS(BUILD)] = {slice_str(component),
                                                  slice_str(ZTUN_VERSION_FULL)};
    metric_series_set(metric_series_get(METRIC_LABELS_BUILD, build), METRIC_BUILD, 1);
    struct slice type = slice_str(io->ops->name);
    metric_series_set(metric_series_get(METRIC_LABELS_TYPE, &type), METRIC_IO_BACKEND, 1);
    prom_collector_add(prom_process, NULL);
}

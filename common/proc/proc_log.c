// SPDX-License-Identifier: Apache-2.0
#include "common/proc/proc_log.h"

#include <poll.h>
#include <stdio.h>
#include <unistd.h>

#include "common/obs/log.h"

// Each look costs a wake-up, and so does being told by a worker, which costs the worker too. So
// while lines come it is looked for them unasked: often when there are many.
enum { LOG_BATCH_MS = 5, LOG_FEW_MS = 100, LOG_FEW_BYTES = 64 * 1024 };

static void on_timer(struct timer *timer, uint64_t now) {
    struct proc_log *log = CONTAINER_OF(timer, struct proc_log, timer);
    size_t n_bytes;
    int again_ms = log_drain_some(&n_bytes);
    if (again_ms == 0) {
        again_ms = n_bytes == 0              ? log_drain() // from now on a line wakes us
                   : n_bytes < LOG_FEW_BYTES ? LOG_FEW_MS
                                             : LOG_BATCH_MS;
    }
    if (again_ms > 0) {
        timer_set(&log->loop->timers, timer, now + (uint64_t)again_ms * NS_PER_MS);
    }
}

static void on_wake(struct watch *watch, uint32_t ready) {
    (void)ready;
    struct proc_log *log = CONTAINER_OF(watch, struct proc_log, watch);
    // A few milliseconds later more lines go out in one write; unless it is that much waits.
    bool is_hurried = timer_is_armed(&log->timer);
    timer_set(&log->loop->timers, &log->timer,
              log->loop->now + (is_hurried ? 0 : LOG_BATCH_MS * NS_PER_MS));
}

void proc_log_open(struct proc_log *log, struct loop *loop) {
    log->loop = loop;
    timer_init(&log->timer, on_timer);
    log_start_async();
    watch_init(&log->watch, loop, log_wake_fd(), POLLIN, on_wake);
}

bool proc_log_init(const char *program, const char *format, const char *filter) {
    struct log_config config = {
        .fd = STDOUT_FILENO,
        .format = format[0] == 'j' ? LOG_FORMAT_JSON : LOG_FORMAT_TEXT,
        .filter = filter,
    };
    struct buf error;
    buf_init(&error, 512);
    bool ok = log_init(&config, &error);
    if (!ok) {
        fprintf(stderr, "%s: log filter: %s\n", program, buf_cstr(&error));
    }
    buf_fini(&error);
    return ok;
}

// SPDX-License-Identifier: Apache-2.0
#include "common/proc/proc_life.h"

#include "common/mesh/snapshot.h"
#include "common/obs/log.h"
#include "common/obs/metrics.h"
#include "common/proc/proc_admin.h"
#include "common/proc/proc_config.h"

enum {
    TICK_MS = 200,
    EXPIRE_MS = 30000,
    ACCEPT_MS = 2000, // a stopping process still serves what was on its way to it
    QUEUES_MS = 100, // and what waits in the listeners' queues when that time is over
    CUT_MS = 2000, // what is left is reset over this time
    LOOK_MS = 50,
    LATE_MS = 10000, // then the log says why it is not ready
    REASONS_MAX = 65536,
};

// ---- drain -------------------------------------------------------------------------------------

static void on_drain_timer(struct timer *timer, uint64_t now) {
    struct proc_life *life = CONTAINER_OF(timer, struct proc_life, drain_timer);
    if (!life->ops->has_work(life->arg) || now >= life->deadline) {
        loop_stop(life->loop);
        return;
    }
    if (life->state == PROC_DRAINING && now + CUT_MS * NS_PER_MS >= life->deadline) {
        life->state = PROC_CUTTING;
        uint32_t left_ms = (uint32_t)((life->deadline - now) / NS_PER_MS);
        life->ops->cut(life->arg, left_ms / 4 * 3);
    }
    timer_set(&life->loop->timers, timer, now + LOOK_MS * NS_PER_MS);
}

void proc_life_drain(struct proc_life *life) {
    if (life->state >= PROC_DRAINING) {
        return;
    }
    life->state = PROC_DRAINING;
    uint32_t accept_ms = MIN((uint32_t)ACCEPT_MS, life->termination_ms / 2);
    log_info(life->scope, "draining", LOG_MS("deadline", life->termination_ms));
    if (life->servers != NULL) {
        proc_admin_drain(life->servers);
    }
    life->ops->drain(life->arg, accept_ms);
    life->deadline = life->loop->now + life->termination_ms * NS_PER_MS;
    // Not before the workers have emptied the queues of their listeners.
    timer_set(&life->loop->timers, &life->drain_timer,
              life->loop->now + (accept_ms + QUEUES_MS) * NS_PER_MS);
}

static void on_signal(struct signals *signals, int signo) {
    struct proc_life *life = CONTAINER_OF(signals, struct proc_life, signals);
    if (signo != SIGTERM && signo != SIGINT) {
        return;
    }
    if (life->state >= PROC_DRAINING) {
        loop_stop(life->loop); // the second one: at once
        return;
    }
    proc_life_drain(life);
}

// ---- state -------------------------------------------------------------------------------------

const char *proc_life_state(const struct proc_life *life) {
    static const char *const states[] = {"starting", "running", "draining", "cutting"};
    return states[life->state % ARRAY_LEN(states)];
}

bool proc_life_is_running(const struct proc_life *life, struct buf *ret_reasons) {
    if (life->state == PROC_RUNNING) {
        return true;
    }
    buf_printf(ret_reasons, "%s\n", life->state == PROC_STARTING ? "starting" : "draining");
    return false;
}

static void tell_late(struct proc_life *life, struct buf *reasons) {
    for (size_t i = 0; i < reasons->len; i++) {
        bool is_last = i + 1 == reasons->len;
        reasons->ptr[i] = reasons->ptr[i] != '\n' ? reasons->ptr[i] : is_last ? ' ' : ';';
    }
    log_warn(life->scope, "not ready yet", LOG_SLICE("reason", buf_slice(reasons)));
    life->has_told_late = true;
}

bool proc_life_is_ready(struct proc_life *life, struct buf *ret_reasons) {
    bool is_ready = life->ops->is_ready(life->arg, ret_reasons);
    if (is_ready && !life->has_told_ready) {
        life->has_told_ready = true;
        log_info(life->scope, "ready to serve",
                 LOG_MS("after", (life->loop->now - life->started) / NS_PER_MS));
    }
    return is_ready;
}

static void check_ready(struct proc_life *life, uint64_t now) {
    struct buf reasons;
    if (life->has_told_ready || life->state != PROC_RUNNING) {
        return;
    }
    buf_init(&reasons, REASONS_MAX);
    if (!proc_life_is_ready(life, &reasons) && !life->has_told_late &&
        now - life->started >= LATE_MS * NS_PER_MS) {
        tell_late(life, &reasons);
    }
    buf_fini(&reasons);
}

static void on_tick(struct timer *timer, uint64_t now) {
    struct proc_life *life = CONTAINER_OF(timer, struct proc_life, tick_timer);
    if (proc_memory_check(&life->memory)) {
        life->ops->pressure(life->arg, life->memory.allow_growth, life->memory.refuse_new);
    }
    if (life->ops->tick != NULL) {
        life->ops->tick(life->arg);
    }
    check_ready(life, now);
    snapshot_reclaim();
    metrics_tick();
    if (now - life->last_expire >= EXPIRE_MS * NS_PER_MS) {
        life->last_expire = now;
        metrics_expire(now);
    }
    timer_set(&life->loop->timers, timer, now + TICK_MS * NS_PER_MS);
}

void proc_life_open(struct proc_life *life, const struct proc_life_params *params) {
    *life = (struct proc_life){.ops = params->ops,
                               .arg = params->arg,
                               .loop = params->loop,
                               .scope = params->scope,
                               .servers = params->servers,
                               .termination_ms = params->config->termination_ms};
    proc_memory_init(&life->memory, params->config->memory_limit, params->scope);
    timer_init(&life->tick_timer, on_tick);
    timer_init(&life->drain_timer, on_drain_timer);
    if (params->signal_fd >= 0) {
        signals_init(&life->signals, params->loop, params->signal_fd, on_signal);
    }
}

void proc_life_start_ticks(struct proc_life *life) {
    timer_set(&life->loop->timers, &life->tick_timer, life->loop->now);
}

void proc_life_run(struct proc_life *life) {
    life->state = PROC_RUNNING;
    life->started = life->loop->now;
    loop_run(life->loop);
    log_info(life->scope, "stopped");
}

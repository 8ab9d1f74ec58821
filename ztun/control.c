// SPDX-License-Identifier: Apache-2.0
#include "ztun/control.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>

#include "common/obs/log.h"
#include "common/obs/metrics.h"
#include "common/obs/prom.h"
#include "common/rt/uring.h"
#include "version.h"

#ifdef ZTUN_JEMALLOC
#include <jemalloc/jemalloc.h>
#define ARENAS_ALL "4096" // MALLCTL_ARENAS_ALL as text
_Static_assert(MALLCTL_ARENAS_ALL == 4096, "jemalloc's number for all arenas");
#endif

LOG_SCOPE(log_control, "ztun");
LOG_SCOPE(log_config, "ztun::config");

enum {
    TICK_MS = 200,
    EXPIRE_MS = 30000,
    DRAIN_ACCEPT_MS = 2000, // a stopping process still serves what was on its way to it
    DRAIN_QUEUES_MS = 100, // and what waits in the listeners' queues when that time is over
    DRAIN_SPREAD_MS = 2000, // the last flows are reset over this time
    LOG_BATCH_MS = 5,
    CONTROL_NICE = 5,
};

// ---- configuration -----------------------------------------------------------------------------

static void log_news(struct control *control) {
    const struct config_errors *news = source_file_news(control->source);
    for (uint32_t i = 0; i < news->n; i++) {
        char *text = config_error_text(&news->items[i]);
        if (news->items[i].severity == CONFIG_WARNING) {
            log_warn(&log_config, "configuration", LOG_STR("problem", text));
        } else {
            log_error(&log_config, "configuration rejected, the last good state stays in force",
                      LOG_STR("problem", text));
        }
        free(text);
    }
}

// ---- host names of endpoints

static void on_resolved(void *arg, const char *host, const struct ip *ips, uint32_t n_ips);

struct name_list {
    const char **names;
    size_t n, n_alloc;
};

static bool add_name(void *arg, const char *hostname) {
    struct name_list *list = arg;
    if (list->n == list->n_alloc) {
        list->n_alloc = list->n_alloc == 0 ? 16 : 2 * list->n_alloc;
        list->names = xrealloc(list->names, list->n_alloc * sizeof(*list->names));
    }
    list->names[list->n++] = hostname;
    return true;
}

static void watch_names(struct control *control) {
    struct name_list list = {0};
    builder_each_hostname(control->builder, add_name, &list);
    if (control->dns == NULL && list.n > 0) {
        const char *error = NULL;
        struct dns_client_config config = {
            .loop = &control->loop, .on_change = on_resolved, .arg = control};
        control->dns = dns_client_new(&config, &error);
        if (control->dns == NULL) {
            log_error(&log_config, "host names of endpoints cannot be resolved",
                      LOG_STR("reason", error));
        }
    }
    if (control->dns != NULL) {
        dns_client_set_names(control->dns, list.names, list.n);
    }
    free(list.names);
}

static void commit(struct control *control) {
    struct builder_changes changes;
    builder_commit(control->builder, &changes);
    control_pods_apply(control, &changes);
    builder_changes_fini(&changes);
}

static void on_resolved(void *arg, const char *host, const struct ip *ips, uint32_t n_ips) {
    struct control *control = arg;
    builder_set_resolved(control->builder, host, ips, n_ips);
    commit(control);
}

static void apply(struct control *control, const struct config_diff *diff) {
    if (diff == NULL) {
        return; // no batch has ended: there is no news
    }
    struct source_file_status status;
    source_file_status(control->source, &status);
    metric_series_add(control->reloads[status.n_errors > 0], METRIC_CONFIG_RELOADS, 1);
    log_news(control);
    if (diff->n_changes == 0) {
        return;
    }
    struct builder_changes changes;
    builder_apply(control->builder, diff, &changes);
    log_info(&log_config, "configuration applied", LOG_U64("added", diff->n_added),
             LOG_U64("changed", diff->n_changed), LOG_U64("removed", diff->n_removed),
             LOG_U64("generation", changes.generation));
    control_pods_apply(control, &changes);
    builder_changes_fini(&changes);
    watch_names(control);
}

static void on_source(struct watch *watch, uint32_t ready) {
    (void)ready;
    struct control *control = CONTAINER_OF(watch, struct control, source_watch);
    apply(control, source_file_process(control->source));
}

static int open_source(struct control *control) {
    struct source_file_options options = {.path = control->ztun->config.config_path,
                                          .kobj_flags = KOBJ_LEAN};
    int rc = source_file_new(&options, &control->source);
    if (rc < 0) {
        log_error(&log_control, "cannot watch the configuration", LOG_STR("path", options.path),
                  LOG_ERRNO("error", rc));
        return rc;
    }
    watch_init(&control->source_watch, &control->loop, source_file_fd(control->source), POLLIN,
               on_source);
    apply(control, source_file_load(control->source));
    return 0;
}

// ---- log ---------------------------------------------------------------------------------------

static void on_log_timer(struct timer *timer, uint64_t now) {
    struct control *control = CONTAINER_OF(timer, struct control, log_timer);
    int again_ms = log_drain();
    if (again_ms > 0) {
        timer_set(&control->loop.timers, timer, now + (uint64_t)again_ms * NS_PER_MS);
    }
}

static void on_log(struct watch *watch, uint32_t ready) {
    (void)ready;
    struct control *control = CONTAINER_OF(watch, struct control, log_watch);
    // A few milliseconds later more lines go out in one write.
    if (!timer_is_armed(&control->log_timer)) {
        timer_set(&control->loop.timers, &control->log_timer,
                  control->loop.now + LOG_BATCH_MS * NS_PER_MS);
    }
}

// ---- memory ------------------------------------------------------------------------------------

static uint64_t read_u64(const char *path) {
    char text[64] = "";
    FILE *file = fopen(path, "re");
    if (file == NULL) {
        return 0;
    }
    size_t n = fread(text, 1, sizeof(text) - 1, file);
    (void)fclose(file);
    text[n] = 0;
    return strtoull(text, NULL, 10); // "max" gives 0
}

// The cgroup's memory limit, version 2 or 1; 0 = none that matters.
static uint64_t cgroup_limit(void) {
    char line[512], path[640];
    FILE *file = fopen("/proc/self/cgroup", "re");
    uint64_t limit = 0;
    while (file != NULL && limit == 0 && fgets(line, sizeof(line), file) != NULL) {
        line[strcspn(line, "\n")] = 0;
        const char *dir = strrchr(line, ':');
        if (dir == NULL) {
            continue;
        }
        if (strncmp(line, "0::", 3) == 0) {
            snprintf(path, sizeof(path), "/sys/fs/cgroup%s/memory.max", dir + 1);
            limit = read_u64(path);
            limit = limit != 0 ? limit : read_u64("/sys/fs/cgroup/memory.max");
        } else if (strstr(line, ":memory:") != NULL) {
            snprintf(path, sizeof(path), "/sys/fs/cgroup/memory%s/memory.limit_in_bytes", dir + 1);
            limit = read_u64(path);
            limit = limit != 0 ? limit : read_u64("/sys/fs/cgroup/memory/memory.limit_in_bytes");
        }
    }
    if (file != NULL) {
        (void)fclose(file);
    }
    return limit >= UINT64_C(1) << 60 ? 0 : limit; // version 1 writes "no limit" as a huge number
}

static uint64_t resident_bytes(void) {
    char text[128] = "";
    FILE *file = fopen("/proc/self/statm", "re");
    if (file == NULL) {
        return 0;
    }
    char *line = fgets(text, sizeof(text), file);
    (void)fclose(file);
    const char *second = line != NULL ? strchr(line, ' ') : NULL;
    return second != NULL ? strtoull(second, NULL, 10) * (uint64_t)sysconf(_SC_PAGESIZE) : 0;
}

// The allocator returns freed pages only while a thread allocates: after a crowd has left, idle
// workers would keep them. `all`: at once, not by and by.
static void return_memory(bool all) {
#ifdef ZTUN_JEMALLOC
    (void)mallctl(all ? "arena." ARENAS_ALL ".purge" : "arena." ARENAS_ALL ".decay", NULL, NULL,
                  NULL, 0);
#else
    (void)all;
#endif
}

static void check_memory(struct control *control) {
    return_memory(false);
    if (control->memory_limit == 0) {
        return;
    }
    uint64_t used = resident_bytes();
    if (used >= control->memory_limit / 10 * 8) {
        return_memory(true); // what counts is what is in use
        used = resident_bytes();
    }
    bool allow_growth = used < control->memory_limit / 10 * 8;
    bool refuse_new = used >= control->memory_limit / 10 * 9;
    if (allow_growth == control->allow_growth && refuse_new == control->refuse_new) {
        return;
    }
    if (refuse_new != control->refuse_new) {
        log_warn(&log_control,
                 refuse_new ? "memory is short: new flows are refused"
                            : "memory is enough again: new flows are taken",
                 LOG_U64("resident", used), LOG_U64("limit", control->memory_limit));
    }
    control->allow_growth = allow_growth;
    control->refuse_new = refuse_new;
    for (uint32_t i = 0; i < control->ztun->n_workers; i++) {
        zworker_send_pressure(control->ztun->workers[i], allow_growth, refuse_new);
    }
}

// ---- drain -------------------------------------------------------------------------------------

// Flows, and tunnels whose clients may still ask for one: they close by themselves when idle.
static bool has_flows(const struct control *control) {
    for (uint32_t i = 0; i < control->ztun->n_workers; i++) {
        const struct zworker *worker = control->ztun->workers[i];
        if (worker->n_flows > 0 || worker->n_server_tunnels > 0) {
            return true;
        }
    }
    return false;
}

static void on_drain_timer(struct timer *timer, uint64_t now) {
    struct control *control = CONTAINER_OF(timer, struct control, drain_timer);
    if (!has_flows(control) || now >= control->drain_deadline) {
        loop_stop(&control->loop);
        return;
    }
    if (control->state == CONTROL_DRAINING &&
        now + DRAIN_SPREAD_MS * NS_PER_MS >= control->drain_deadline) {
        control->state = CONTROL_CUTTING;
        uint32_t left_ms = (uint32_t)((control->drain_deadline - now) / NS_PER_MS);
        for (uint32_t i = 0; i < control->ztun->n_workers; i++) {
            zworker_send_cut(control->ztun->workers[i], left_ms / 4 * 3);
        }
    }
    timer_set(&control->loop.timers, timer, now + 50 * NS_PER_MS);
}

void control_drain(struct control *control) {
    if (control->state >= CONTROL_DRAINING) {
        return;
    }
    control->state = CONTROL_DRAINING;
    uint32_t deadline_ms = control->ztun->config.termination_ms;
    uint32_t accept_ms = MIN(DRAIN_ACCEPT_MS, deadline_ms / 2);
    log_info(&log_control, "draining", LOG_MS("deadline", deadline_ms));
    // A successor beside us answers for readiness from now on.
    http_server_close(&control->readiness, NULL);
    for (uint32_t i = 0; i < control->ztun->n_workers; i++) {
        zworker_send_drain(control->ztun->workers[i], accept_ms);
    }
    control->drain_deadline = control->loop.now + deadline_ms * NS_PER_MS;
    // Not before the workers have emptied the queues of their listeners.
    timer_set(&control->loop.timers, &control->drain_timer,
              control->loop.now + (accept_ms + DRAIN_QUEUES_MS) * NS_PER_MS);
}

static void on_signal(struct signals *signals, int signo) {
    struct control *control = CONTAINER_OF(signals, struct control, signals);
    if (signo == SIGTERM || signo == SIGINT) {
        if (control->state >= CONTROL_DRAINING) {
            loop_stop(&control->loop); // the second one: at once
            return;
        }
        control_drain(control);
    }
}

// ---- state -------------------------------------------------------------------------------------

static void add_pending(void *arg, const char *uid, const char *reason) {
    buf_printf(arg, "pod %s: %s\n", uid, reason);
}

bool control_is_ready(const struct control *control, struct buf *ret_reasons) {
    struct inpod_status status;
    inpod_get_status(control->inpod, &status);
    if (control->state != CONTROL_RUNNING) {
        buf_printf(ret_reasons, "%s\n",
                   control->state == CONTROL_STARTING ? "starting" : "draining");
        return false;
    }
    inpod_each_pending(control->inpod, add_pending, ret_reasons);
    if (control->n_waiting_pods > 0) {
        buf_printf(ret_reasons, "%u pods wait for their certificates\n", control->n_waiting_pods);
    }
    return status.n_pending == 0 && control->n_waiting_pods == 0;
}

static void on_tick(struct timer *timer, uint64_t now) {
    struct control *control = CONTAINER_OF(timer, struct control, tick_timer);
    check_memory(control);
    control_pods_settle(control);
    snapshot_reclaim();
    metrics_tick();
    if (now - control->last_expire >= EXPIRE_MS * NS_PER_MS) {
        control->last_expire = now;
        metrics_expire(now);
    }
    timer_set(&control->loop.timers, timer, now + TICK_MS * NS_PER_MS);
}

// ---- start and stop ----------------------------------------------------------------------------

static void collect_build(void) {
    struct slice build[METRIC_N_LABELS(BUILD)] = {SLICE_LIT("ztunnel"),
                                                  slice_str(ZTUN_VERSION_FULL)};
    metric_series_set(metric_series_get(METRIC_LABELS_BUILD, build), METRIC_BUILD, 1);
    struct slice type = SLICE_LIT("io_uring");
    metric_series_set(metric_series_get(METRIC_LABELS_TYPE, &type), METRIC_IO_BACKEND, 1);
    prom_collector_add(prom_process, NULL);
}

// Held for good: series that nobody holds expire, and these must not start anew.
static void open_series(struct control *control) {
    struct slice results[2] = {SLICE_LIT("success"), SLICE_LIT("partial")};
    for (int i = 0; i < 2; i++) {
        control->reloads[i] = metric_series_get(METRIC_LABELS_RESULT, &results[i]);
        metric_series_add(control->reloads[i], METRIC_CONFIG_RELOADS, 0);
    }
}

static void before_wait(struct loop *loop) {
    uint64_t busy_ns = loop->io->ops->now(loop->io) - loop->awake_at;
    metric_observe(METRIC_CONTROL_TURN, (double)busy_ns / 1e9);
}

static int open_loop(struct control *control, int signal_fd) {
    char error[URING_ERROR_MAX];
    struct uring_options options = {.entries = 64, .n_buffers = 16};
    blk_pool_init(&control->pool, 1);
    int rc = uring_new(&options, &control->pool, error, &control->io);
    if (rc < 0) {
        log_error(&log_control, "io_uring is not usable", LOG_STR("reason", error));
        return rc;
    }
    loop_init(&control->loop, control->io, &control->pool, control);
    control->loop.before_wait = before_wait;
    control->ztun->control_loop = &control->loop;
    signals_init(&control->signals, &control->loop, signal_fd, on_signal);
    timer_init(&control->log_timer, on_log_timer);
    timer_init(&control->tick_timer, on_tick);
    timer_init(&control->drain_timer, on_drain_timer);
    log_start_async();
    watch_init(&control->log_watch, &control->loop, log_wake_fd(), POLLIN, on_log);
    return 0;
}

// The control thread gives way to the workers. After them, since a new thread takes over its nice.
static void be_nice(void) {
    (void)setpriority(PRIO_PROCESS, (id_t)gettid(), CONTROL_NICE);
}

static int open_workers(struct control *control) {
    struct ztun *ztun = control->ztun;
    for (uint32_t i = 0; i < ztun->config.n_workers; i++) {
        char *error = NULL;
        ztun->workers[i] = zworker_new(ztun, i, &error);
        if (ztun->workers[i] == NULL) {
            log_error(&log_control, "worker does not start", LOG_STR("reason", error));
            free(error);
            return -EIO;
        }
        ztun->n_workers++;
    }
    return 0;
}

static void mesh_defaults(const struct ztun_config *config, struct mesh_settings *mesh) {
    *mesh = (struct mesh_settings){0};
    snprintf(mesh->trust_domain, sizeof(mesh->trust_domain), "%s", config->trust_domain);
    snprintf(mesh->cluster_domain, sizeof(mesh->cluster_domain), "%s", config->cluster_domain);
    snprintf(mesh->root_namespace, sizeof(mesh->root_namespace), "%s", config->root_namespace);
    snprintf(mesh->cluster_id, sizeof(mesh->cluster_id), "%s", config->cluster_id);
    snprintf(mesh->network, sizeof(mesh->network), "%s", config->network);
    const char *preferred = getenv("PREFERED_SERVICE_NAMESPACE"); // ztunnel's spelling
    snprintf(mesh->preferred_service_ns, sizeof(mesh->preferred_service_ns), "%s",
             preferred != NULL ? preferred : "");
}

static struct inpod *open_inpod(struct control *control) {
    const struct ztun_config *config = &control->ztun->config;
    struct inpod_config inpod = {
        .loop = &control->loop,
        .n_workers = control->ztun->n_workers,
        .outbound_port = config->outbound_port,
        .inbound_port = config->inbound_port,
        .hbone_port = config->hbone_port,
        .dns_port = config->dns_port,
        .mark = config->mark,
        .keepalive_s = config->keepalive ? config->keepalive_s : 0,
        .keepalive_interval_s = config->keepalive_interval_s,
        .keepalive_probes = config->keepalive_probes,
        .dns_capture = config->dns_capture,
        .redirect = config->redirect,
        .ipv6 = config->ipv6,
        .original_source = config->original_source,
        .on_up = control_pod_up,
        .on_down = control_pod_down,
        .arg = control,
    };
    ip_parse(SLICE_LIT("169.254.7.127"), &inpod.probe_v4);
    ip_parse(SLICE_LIT("fd16:9254:7127:1337:ffff:ffff:ffff:ffff"), &inpod.probe_v6);
    return inpod_new(&inpod);
}

static int open_all(struct control *control) {
    struct mesh_settings mesh;
    mesh_defaults(&control->ztun->config, &mesh);
    snapshot_init(&mesh);
    snapshot_thread_register();
    int rc = open_workers(control);
    be_nice();
    if (rc == 0) {
        rc = control_identity_open(control);
    }
    if (rc < 0) {
        return rc;
    }
    struct builder_options builder = {.mesh = mesh, .node = control->ztun->config.node_name};
    control->builder = builder_new(&builder);
    control->inpod = open_inpod(control);
    control_pods_init(control);
    timer_set(&control->loop.timers, &control->tick_timer, control->loop.now);
    rc = admin_open(control);
    return rc < 0 ? rc : open_source(control);
}

static void close_all(struct control *control) {
    struct ztun *ztun = control->ztun;
    for (uint32_t i = 0; i < ztun->n_workers; i++) {
        zworker_free(ztun->workers[i]);
    }
    log_stop_async(LOG_EXIT_TIMEOUT_MS);
}

int control_run(struct ztun *ztun) {
    struct control *control = xcalloc(1, sizeof(*control));
    control->ztun = ztun;
    ztun->control = control;
    control->allow_growth = true;
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    int signal_fd = -1;
    int rc = signals_block(&set, &signal_fd);
    if (rc == 0) {
        rc = open_loop(control, signal_fd);
    }
    if (rc < 0) {
        return 1;
    }
    uint64_t limit = cgroup_limit();
    control->memory_limit =
        ztun->config.memory_limit != 0 ? ztun->config.memory_limit : limit / 10 * 7;
    collect_build();
    open_series(control);
    rc = open_all(control);
    if (rc == 0) {
        control->state = CONTROL_RUNNING;
        log_info(&log_control, "ready to serve", LOG_STR("version", ZTUN_VERSION_FULL),
                 LOG_STR("node", ztun->config.node_name), LOG_U64("workers", ztun->n_workers),
                 LOG_U64("memory_limit", control->memory_limit));
        loop_run(&control->loop);
        log_info(&log_control, "stopped");
    }
    close_all(control);
    // The process ends: sources, tables and the ring go with it. Rules in the pods stay (fail
    // closed).
    return rc == 0 ? 0 : 1;
}

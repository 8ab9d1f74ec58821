// SPDX-License-Identifier: Apache-2.0
#include "ztun/control.h"

#include <errno.h>
#include <stdlib.h>

#include "common/obs/log.h"
#include "common/proc/proc_start.h"
#include "version.h"
#include "ztun/control_demand.h"
#include "ztun/zmove.h"

LOG_SCOPE(log_control, "ztun");
LOG_SCOPE(log_config, "ztun::config");
LOG_SCOPE(log_identity, "ztun::identity");
LOG_SCOPE(log_xds, "ztun::xds");
LOG_SCOPE(log_admin, "ztun::admin");

// ---- life --------------------------------------------------------------------------------------

// Flows, and tunnels whose clients may still ask for one: they close by themselves when idle.
static bool has_flows(void *arg) {
    const struct control *control = arg;
    for (uint32_t i = 0; i < control->ztun->n_workers; i++) {
        const struct place_load *load = control->ztun->workers[i]->load;
        // On its way first: it is there before it is no longer on its way.
        if (atomic_load(&load->n_coming) > 0 || atomic_load(&load->n_flows) > 0 ||
            atomic_load(&load->n_tunnels) > 0) {
            return true;
        }
    }
    return false;
}

static void drain(void *arg, uint32_t accept_ms) {
    const struct ztun *ztun = ((struct control *)arg)->ztun;
    for (uint32_t i = 0; i < ztun->n_workers; i++) {
        zworker_send_drain(ztun->workers[i], accept_ms);
    }
}

static void cut(void *arg, uint32_t spread_ms) {
    const struct ztun *ztun = ((struct control *)arg)->ztun;
    for (uint32_t i = 0; i < ztun->n_workers; i++) {
        zworker_send_cut(ztun->workers[i], spread_ms);
    }
}

static void pressure(void *arg, bool allow_growth, bool refuse_new) {
    const struct ztun *ztun = ((struct control *)arg)->ztun;
    for (uint32_t i = 0; i < ztun->n_workers; i++) {
        zworker_send_pressure(ztun->workers[i], allow_growth, refuse_new);
    }
}

static void tick(void *arg) {
    control_pods_settle(arg);
}

static bool is_ready(void *arg, struct buf *ret_reasons) {
    return control_is_ready(arg, ret_reasons);
}

static const struct proc_life_ops life_ops = {
    .has_work = has_flows,
    .drain = drain,
    .cut = cut,
    .pressure = pressure,
    .is_ready = is_ready,
    .tick = tick,
};

void control_drain(struct control *control) {
    proc_life_drain(&control->life);
}

// ---- state -------------------------------------------------------------------------------------

// Nobody's traffic waits for our own tunnels: what keeps those away does not count.
static void add_pending(void *arg, const char *uid, const char *reason, bool is_self) {
    if (!is_self) {
        buf_printf(arg, "pod %s: %s\n", uid, reason);
    }
}

bool control_is_ready(const struct control *control, struct buf *ret_reasons) {
    struct inpod_status status;
    inpod_get_status(control->inpod, &status);
    if (!proc_life_is_running(&control->life, ret_reasons)) {
        return false;
    }
    inpod_each_pending(control->inpod, add_pending, ret_reasons);
    uint32_t n_waiting = control_pods_n_waiting(control);
    if (n_waiting > 0) {
        buf_printf(ret_reasons, "%u pods wait for their certificates\n", n_waiting);
    }
    bool has_agent = control->zds == NULL || zds_client_is_ready(control->zds, ret_reasons);
    bool is_missing = control->ztun->config.is_dedicated && control->own.served == NULL;
    if (is_missing) {
        buf_printf(ret_reasons, "pod %s/%s: %s\n", control->own.ns, control->own.name,
                   control->own.problem);
    }
    bool has_mesh = control->xds == NULL || proc_xds_is_ready(control->xds, ret_reasons);
    return status.n_pending == 0 && n_waiting == 0 && has_agent && !is_missing && has_mesh;
}

// ---- start and stop ----------------------------------------------------------------------------

static int open_loop(struct control *control, int signal_fd) {
    int rc = proc_loop_open(&control->loop, &control->pool, &control->io, control, &log_control,
                            control->ztun->config.proc.io, &control->ztun->io_kind);
    if (rc < 0) {
        return rc;
    }
    control->ztun->control_loop = &control->loop;
    struct proc_life_params life = {
        .ops = &life_ops,
        .arg = control,
        .loop = &control->loop,
        .signal_fd = signal_fd,
        .scope = &log_control,
        .servers = &control->servers,
        .config = &control->ztun->config.proc,
    };
    proc_life_open(&control->life, &life);
    proc_log_open(&control->log, &control->loop);
    return 0;
}

static int open_workers(struct control *control) {
    struct ztun *ztun = control->ztun;
    ztun->placement = placement_new(ztun->config.proc.n_workers);
    for (uint32_t i = 0; i < ztun->config.proc.n_workers; i++) {
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

static void on_identity_tick(void *arg) {
    control_pods_settle(arg);
}

static void on_trust_changed(void *arg) {
    struct control *control = arg;
    for (uint32_t i = 0; i < control->ztun->n_workers; i++) {
        zworker_send_trust_changed(control->ztun->workers[i]);
    }
}

static int open_identity(struct control *control) {
    const struct ztun_config *config = &control->ztun->config;
    struct proc_identity_params params = {
        .loop = &control->loop,
        .config = &config->proc,
        .mark = config->is_dedicated ? config->mark : 0, // the rules are in our own namespace
        .impersonates = !config->is_dedicated,
        .scope = &log_identity,
        .on_tick = on_identity_tick,
        .on_trust_changed = on_trust_changed,
        .arg = control,
    };
    return proc_identity_open(&control->identity, &params);
}

static void on_changes(void *arg, const struct builder_changes *changes) {
    struct control *control = arg;
    if (changes->mesh_changed) {
        proc_identity_set_mesh(&control->identity, snapshot_current()->mesh);
    }
    control_pods_apply(control, changes);
}

static void init_mesh(struct control *control, const struct mesh_settings *defaults) {
    const struct ztun_config *config = &control->ztun->config;
    struct proc_mesh_params params = {
        .loop = &control->loop,
        .builder = {.mesh = *defaults,
                    .mesh_config = config->proc.mesh_config,
                    .node = config->is_dedicated ? "" : config->node_name},
        .state_dir = config->proc.state_dir,
        .mark = config->is_dedicated ? config->mark : 0, // the rules are in our own namespace
        .scope = &log_config,
        .on_changes = on_changes,
        .arg = control,
    };
    proc_mesh_init(&control->mesh, &params);
}

static int open_xds(struct control *control) {
    const struct ztun_config *config = &control->ztun->config;
    const char *pod = config->is_dedicated ? config->workload_name : config->pod_name;
    const char *ns = config->is_dedicated ? config->workload_ns : config->pod_namespace;
    if (config->proc.xds_address == NULL) {
        return 0;
    }
    struct proc_xds_params params = {
        .loop = &control->loop,
        .mesh = &control->mesh,
        .config = &config->proc,
        .role = "ztunnel",
        .pod = pod != NULL ? pod : "",
        .ns = ns != NULL ? ns : "",
        .node_name = config->node_name,
        .mark = config->is_dedicated ? config->mark : 0, // the rules are in our own namespace
        .scope = &log_xds,
        .answered = control_demand_answered,
        .arg = control,
    };
    proc_mesh_open_xds(&control->mesh);
    control->xds = xcalloc(1, sizeof(*control->xds));
    int rc = proc_xds_open(control->xds, &params);
    if (rc == 0 && control->own.name != NULL) {
        control_pods_want_own(control);
    }
    return rc;
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
        .socks_port = config->socks5 ? config->socks_port : 0,
        .operator_ports = {config->proc.metrics.port, config->proc.readiness.port},
        .mark = config->mark,
        .keepalive_s = config->proc.keepalive ? config->proc.keepalive_s : 0,
        .keepalive_interval_s = config->proc.keepalive_interval_s,
        .keepalive_probes = config->proc.keepalive_probes,
        .dns_capture = config->dns_capture,
        .redirect = config->redirect == 1,
        .ipv6 = config->ipv6,
        .original_source = config->original_source,
        .on_up = control_pod_up,
        .on_kept = control_pod_kept,
        .on_failed = control_pod_failed,
        .on_down = control_pod_down,
        .arg = control,
    };
    ip_parse(SLICE_LIT("169.254.7.127"), &inpod.probe_v4);
    ip_parse(SLICE_LIT("fd16:9254:7127:1337:ffff:ffff:ffff:ffff"), &inpod.probe_v6);
    return inpod_new(&inpod);
}

static int open_admin(struct control *control) {
    struct proc_admin_params params = {
        .loop = &control->loop,
        .config = &control->ztun->config.proc,
        .on_admin = admin_serve,
        .on_readiness = admin_readiness,
        .arg = control,
        .scope = &log_admin,
    };
    return proc_admin_open(&control->servers, &params);
}

static int open_all(struct control *control) {
    const struct ztun_config *config = &control->ztun->config;
    struct mesh_settings mesh;
    proc_mesh_defaults(&control->ztun->config.proc, &mesh);
    snapshot_init(&mesh);
    snapshot_thread_register();
    int rc = open_workers(control);
    proc_be_nice();
    if (rc == 0) {
        rc = open_identity(control);
    }
    if (rc < 0) {
        return rc;
    }
    init_mesh(control, &mesh);
    control->inpod = open_inpod(control);
    control_pods_init(control);
    proc_life_start_ticks(&control->life);
    rc = open_admin(control);
    if (rc == 0) {
        rc = open_xds(control);
    }
    if (rc == 0) {
        rc = proc_mesh_load(&control->mesh, config->proc.config_path);
    }
    if (rc == 0 && config->inpod_uds != NULL) {
        control_handed_open(control); // what the files say of the pods is known
    }
    return rc;
}

static void close_all(struct control *control) {
    struct ztun *ztun = control->ztun;
    zmove_stop(ztun);
    for (uint32_t i = 0; i < ztun->n_workers; i++) {
        zworker_free(ztun->workers[i]);
    }
    placement_free(ztun->placement);
    log_stop_async(LOG_EXIT_TIMEOUT_MS);
}

int control_run(struct ztun *ztun) {
    struct control *control = xcalloc(1, sizeof(*control));
    control->ztun = ztun;
    ztun->control = control;
    hmap_init(&control->wanted);
    int signal_fd = -1;
    int rc = proc_signals(&signal_fd);
    if (rc == 0) {
        rc = open_loop(control, signal_fd);
    }
    if (rc < 0) {
        return 1;
    }
    proc_collect_build("ztunnel", control->io);
    rc = open_all(control);
    if (rc == 0) {
        log_info(&log_control, "started", LOG_STR("version", ZTUN_VERSION_FULL),
                 LOG_STR("node", ztun->config.node_name), LOG_U64("workers", ztun->n_workers),
                 LOG_U64("memory_limit", control->life.memory.limit));
        proc_life_run(&control->life);
    }
    close_all(control);
    // The process ends: sources, tables and the ring go with it. Rules in the pods stay (fail
    // closed).
    return rc == 0 ? 0 : 1;
}

// SPDX-License-Identifier: Apache-2.0
#include "waypoint/control.h"

#include <errno.h>
#include <stdlib.h>

#include "common/l7/l7_log_format.h"
#include "common/l7/l7_policy.h"
#include "common/l7/l7_regex.h"
#include "common/l7/l7_routes.h"
#include "common/obs/log.h"
#include "common/proc/proc_start.h"
#include "common/rt/sock.h"
#include "version.h"
#include "waypoint/kube_control.h"
#include "waypoint/upstream_tls.h"

LOG_SCOPE(log_control, "waypoint");
LOG_SCOPE(log_config, "waypoint::config");
LOG_SCOPE(log_identity, "waypoint::identity");
LOG_SCOPE(log_xds, "waypoint::xds");
LOG_SCOPE(log_kube, "waypoint::kube");
LOG_SCOPE(log_admin, "waypoint::admin");

enum { TUNNEL_USER_TIMEOUT_MS = 30000 };

// ---- listeners ---------------------------------------------------------------------------------

static bool is_any(const struct ip *ip) {
    struct ip any = {.family = 6};
    return ip_eq(ip, &any);
}

static int listen_once(const struct waypoint_config *config, const struct addr *bind) {
    struct sock_listen_params params = {
        .netns_fd = -1,
        .bind = *bind,
        .reuse_port = true,
        .keepalive_s = config->proc.keepalive ? config->proc.keepalive_s : 0,
        .keepalive_interval_s = config->proc.keepalive_interval_s,
        .keepalive_probes = config->proc.keepalive_probes,
        .is_tunnel = true,
        .user_timeout_ms = TUNNEL_USER_TIMEOUT_MS,
    };
    return sock_listen(&params);
}

// One socket each for the workers (SO_REUSEPORT): the kernel spreads tunnels over them, and over
// those of a second process beside.
static int open_listeners(struct control *control) {
    const struct waypoint_config *config = &control->waypoint->config;
    struct addr bind = config->listen;
    for (uint32_t i = 0; i < control->waypoint->n_workers; i++) {
        int fd = listen_once(config, &bind);
        if (fd == -EAFNOSUPPORT && i == 0 && is_any(&bind.ip)) {
            bind.ip = (struct ip){.family = 4}; // a kernel without IPv6
            fd = listen_once(config, &bind);
        }
        if (fd < 0) {
            log_error(&log_control, "cannot listen", LOG_ADDR("address", &bind),
                      LOG_ERRNO("error", fd));
            return fd;
        }
        wworker_send_listen(control->waypoint->workers[i], fd);
    }
    control->is_listening = true;
    return 0;
}

// ---- identity ----------------------------------------------------------------------------------

// The trust domain may come with MeshConfig, later than the flags.
static void want_identity(struct control *control) {
    char text[SPIFFE_TEXT_MAX];
    waypoint_identity_id(&control->waypoint->config, snapshot_current(), text);
    if (control->wanted != NULL && strcmp(control->wanted, text) == 0) {
        return;
    }
    proc_identity_want(&control->identity, text, 1);
    if (control->wanted != NULL) {
        proc_identity_want(&control->identity, control->wanted, -1);
        free(control->wanted);
    }
    control->wanted = xstrdup(text);
}

// Who connects shall find configuration and a certificate: so the listeners open with the first
// one.
static void on_identity_tick(void *arg) {
    struct control *control = arg;
    const struct waypoint_config *config = &control->waypoint->config;
    if (control->is_listening || control->life.state != PROC_RUNNING ||
        !proc_kube_is_ready(&control->kube, NULL) ||
        waypoint_tls(config, snapshot_current()) == NULL) {
        return;
    }
    if (open_listeners(control) < 0) {
        control->has_failed = true;
        loop_stop(&control->loop);
    }
}

static void on_trust_changed(void *arg) {
    struct control *control = arg;
    for (uint32_t i = 0; i < control->waypoint->n_workers; i++) {
        wworker_send_trust_changed(control->waypoint->workers[i]);
    }
}

// ---- configuration -----------------------------------------------------------------------------

static void on_changes(void *arg, const struct builder_changes *changes) {
    struct control *control = arg;
    upstream_tls_refresh();
    if (control->writer != NULL) {
        kube_control_changed(control->writer);
    }
    if (changes->generation == 0) {
        return;
    }
    if (changes->mesh_changed) {
        proc_identity_set_mesh(&control->identity, snapshot_current()->mesh);
    }
    struct wworker_news news = {
        .policies = changes->policies_changed || changes->mesh_changed,
        .services = changes->services_changed || changes->settings_changed,
        .workloads = changes->workloads_changed,
    };
    want_identity(control);
    for (uint32_t i = 0; i < control->waypoint->n_workers; i++) {
        wworker_send_news(control->waypoint->workers[i], news);
    }
}

// ---- life --------------------------------------------------------------------------------------

// Connections, and tunnels whose clients may still ask for one: they close by themselves when idle.
static bool has_conns(void *arg) {
    const struct control *control = arg;
    for (uint32_t i = 0; i < control->waypoint->n_workers; i++) {
        const struct wworker *worker = control->waypoint->workers[i];
        if (worker->n_conns > 0 || worker->n_tunnels > 0) {
            return true;
        }
    }
    return false;
}

static void drain(void *arg, uint32_t accept_ms) {
    const struct control *control = arg;
    const struct waypoint *waypoint = control->waypoint;
    if (control->writer != NULL) {
        kube_control_stop(control->writer);
    }
    for (uint32_t i = 0; i < waypoint->n_workers; i++) {
        wworker_send_drain(waypoint->workers[i], accept_ms);
    }
}

static void cut(void *arg, uint32_t spread_ms) {
    const struct waypoint *waypoint = ((struct control *)arg)->waypoint;
    for (uint32_t i = 0; i < waypoint->n_workers; i++) {
        wworker_send_cut(waypoint->workers[i], spread_ms);
    }
}

static void pressure(void *arg, bool allow_growth, bool refuse_new) {
    const struct waypoint *waypoint = ((struct control *)arg)->waypoint;
    for (uint32_t i = 0; i < waypoint->n_workers; i++) {
        wworker_send_pressure(waypoint->workers[i], allow_growth, refuse_new);
    }
}

static bool is_ready(void *arg, struct buf *ret_reasons) {
    return control_is_ready(arg, ret_reasons);
}

static const struct proc_life_ops life_ops = {
    .has_work = has_conns,
    .drain = drain,
    .cut = cut,
    .pressure = pressure,
    .is_ready = is_ready,
};

void control_drain(struct control *control) {
    proc_life_drain(&control->life);
}

// ---- state -------------------------------------------------------------------------------------

bool control_is_ready(const struct control *control, struct buf *ret_reasons) {
    const struct waypoint_config *config = &control->waypoint->config;
    const struct snapshot *snap = snapshot_current();
    if (!proc_life_is_running(&control->life, ret_reasons)) {
        return false;
    }
    bool is_ready = control->xds == NULL || proc_xds_is_ready(control->xds, ret_reasons);
    is_ready = proc_kube_is_ready(&control->kube, ret_reasons) && is_ready;
    char key[512], id[SPIFFE_TEXT_MAX];
    const struct service *own = snapshot_service(snap, waypoint_service_key(config, snap, key));
    // istiod binds services to the Service; it does not tell of Gateways.
    if (own == NULL || (!own->is_waypoint && control->xds == NULL)) {
        buf_printf(ret_reasons, "Gateway %s/%s, or its Service, is not in the configuration\n",
                   config->ns, config->name);
        is_ready = false;
    }
    if (waypoint_tls(config, snap) == NULL) {
        buf_printf(ret_reasons, "no certificate for %s\n", waypoint_identity_id(config, snap, id));
        is_ready = false;
    }
    if (!control->is_listening) {
        buf_printf(ret_reasons, "the HBONE listener is not open\n");
        is_ready = false;
    }
    return is_ready;
}

// ---- start and stop ----------------------------------------------------------------------------

static int open_loop(struct control *control, int signal_fd) {
    int rc = proc_loop_open(&control->loop, &control->pool, &control->io, control, &log_control,
                            control->waypoint->config.proc.io, &control->waypoint->io_kind);
    if (rc < 0) {
        return rc;
    }
    control->waypoint->control_loop = &control->loop;
    struct proc_life_params life = {
        .ops = &life_ops,
        .arg = control,
        .loop = &control->loop,
        .signal_fd = signal_fd,
        .scope = &log_control,
        .servers = &control->servers,
        .config = &control->waypoint->config.proc,
    };
    proc_life_open(&control->life, &life);
    proc_log_open(&control->log, &control->loop);
    return 0;
}

static int open_workers(struct control *control) {
    struct waypoint *waypoint = control->waypoint;
    for (uint32_t i = 0; i < waypoint->config.proc.n_workers; i++) {
        char *error = NULL;
        waypoint->workers[i] = wworker_new(waypoint, i, &error);
        if (waypoint->workers[i] == NULL) {
            log_error(&log_control, "worker does not start", LOG_STR("reason", error));
            free(error);
            return -EIO;
        }
        waypoint->n_workers++;
    }
    return 0;
}

static int open_identity(struct control *control) {
    struct proc_identity_params params = {
        .loop = &control->loop,
        .config = &control->waypoint->config.proc,
        .scope = &log_identity,
        .on_tick = on_identity_tick,
        .on_trust_changed = on_trust_changed,
        .arg = control,
    };
    return proc_identity_open(&control->identity, &params);
}

static void init_mesh(struct control *control, const struct mesh_settings *defaults) {
    static const struct builder_l7_ops l7 = {.routes = l7_routes_compile,
                                             .policy = l7_policy_compile,
                                             .arg = (void *)(uintptr_t)&upstream_tls_ops};
    const struct waypoint_config *config = &control->waypoint->config;
    struct proc_mesh_params params = {
        .loop = &control->loop,
        .builder = {.mesh = *defaults,
                    .mesh_config = config->proc.mesh_config,
                    .l7 = &l7,
                    .proxy_namespace = config->ns,
                    .has_targeted = true},
        .has_secrets = true,
        .istiod_comes_first = config->proc.xds_address != NULL,
        .state_dir = config->proc.state_dir,
        .scope = &log_config,
        .on_changes = on_changes,
        .arg = control,
    };
    struct upstream_tls_params tls = {
        .loop = &control->loop,
        .mesh = &control->mesh,
        .ns = config->ns,
        .compliance = config->proc.compliance,
    };
    upstream_tls_open(&tls);
    kobj_regex_problem = l7_regex_problem;
    kobj_access_log_problem = l7_log_format_problem;
    proc_mesh_init(&control->mesh, &params);
}

static int open_xds(struct control *control) {
    const struct waypoint_config *config = &control->waypoint->config;
    if (config->proc.xds_address == NULL) {
        return 0;
    }
    struct proc_xds_params params = {
        .loop = &control->loop,
        .mesh = &control->mesh,
        .config = &config->proc,
        .role = "waypoint",
        .pod = config->pod_name,
        .ns = config->ns,
        .node_name = config->node_name,
        .scope = &log_xds,
    };
    proc_mesh_open_xds(&control->mesh);
    control->xds = xcalloc(1, sizeof(*control->xds));
    return proc_xds_open(control->xds, &params);
}

static int open_writer(struct control *control) {
    const struct waypoint_config *config = &control->waypoint->config;
    struct kube_access access;
    if (config->status_api == NULL) {
        return 0;
    }
    char *error = kube_access_find(&access, config->status_api, config->kube.account_dir);
    struct kube_client *client = NULL;
    if (error == NULL) {
        struct kube_client_config params = {
            .loop = &control->loop, .access = &access, .compliance = config->proc.compliance};
        client = kube_client_new(&params, &error);
        kube_access_fini(&access);
    }
    if (client == NULL) {
        log_error(&log_kube, "the Kubernetes API cannot be used",
                  LOG_STR("where", config->status_api), LOG_STR("reason", error));
        free(error);
        return -EINVAL;
    }
    struct kube_control_params params = {.loop = &control->loop,
                                         .client = client,
                                         .mesh = &control->mesh,
                                         .config = config,
                                         .scope = &log_kube};
    control->writer = xcalloc(1, sizeof(*control->writer));
    kube_control_open(control->writer, &params);
    return 0;
}

static int open_admin(struct control *control) {
    struct proc_admin_params params = {
        .loop = &control->loop,
        .config = &control->waypoint->config.proc,
        .on_admin = admin_serve,
        .on_readiness = admin_readiness,
        .arg = control,
        .scope = &log_admin,
    };
    return proc_admin_open(&control->servers, &params);
}

static int open_source(struct control *control) {
    const struct waypoint_config *config = &control->waypoint->config;
    if (config->kube.where == NULL) {
        return proc_mesh_load(&control->mesh, config->proc.config_path);
    }
    struct proc_kube_params params = {
        .loop = &control->loop,
        .mesh = &control->mesh,
        .access = &config->kube_access,
        .ns = config->ns,
        .root_ns = config->proc.root_namespace,
        .mesh_config = config->proc.mesh_config,
        .namespaces = config->kube.namespaces,
        .has_secrets = true,
        .compliance = config->proc.compliance,
        .scope = &log_config,
    };
    return proc_kube_open(&control->kube, &params);
}

static int open_all(struct control *control) {
    struct mesh_settings mesh;
    proc_mesh_defaults(&control->waypoint->config.proc, &mesh);
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
    proc_life_start_ticks(&control->life);
    rc = open_admin(control);
    if (rc == 0) {
        rc = open_xds(control);
    }
    if (rc == 0) {
        rc = open_source(control);
    }
    if (rc == 0) {
        rc = open_writer(control);
    }
    want_identity(control);
    return rc;
}

static void close_all(struct control *control) {
    struct waypoint *waypoint = control->waypoint;
    for (uint32_t i = 0; i < waypoint->n_workers; i++) {
        wworker_free(waypoint->workers[i]);
    }
    log_stop_async(LOG_EXIT_TIMEOUT_MS);
}

int control_run(struct waypoint *waypoint) {
    struct control *control = xcalloc(1, sizeof(*control));
    control->waypoint = waypoint;
    waypoint->control = control;
    int signal_fd = -1;
    int rc = proc_signals(&signal_fd);
    if (rc == 0) {
        rc = open_loop(control, signal_fd);
    }
    if (rc < 0) {
        return 1;
    }
    proc_collect_build("proxy", control->io);
    rc = open_all(control);
    if (rc == 0) {
        log_info(&log_control, "started", LOG_STR("version", ZTUN_VERSION_FULL),
                 LOG_STR("namespace", waypoint->config.ns),
                 LOG_STR("gateway", waypoint->config.name), LOG_U64("workers", waypoint->n_workers),
                 LOG_U64("memory_limit", control->life.memory.limit));
        proc_life_run(&control->life);
    }
    close_all(control);
    // The process ends: sources, tables and the ring go with it.
    return rc == 0 && !control->has_failed ? 0 : 1;
}

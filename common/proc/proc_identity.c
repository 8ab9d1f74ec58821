// SPDX-License-Identifier: Apache-2.0
#include "common/proc/proc_identity.h"

#include <errno.h>
#include <stdlib.h>

#include "common/base/clock.h"
#include "common/base/rand.h"
#include "common/mesh/ca_istiod.h"
#include "common/mesh/ca_local.h"
#include "common/mesh/snapshot.h"
#include "common/obs/log.h"
#include "common/obs/metrics.h"
#include "common/obs/prom.h"
#include "common/proc/proc_config.h"
#include "common/proc/proc_trust.h"
#include "common/rt/file.h"

enum {
    TRUST_POLL_S = 2, // how soon a changed CA or revocation list is seen
    CRL_MAX = 64 << 20,
};

static void on_event(void *arg, const struct identity_event *event) {
    struct proc_identity *own = arg;
    struct slice reason = slice_str(event->label);
    // What waits for this answer's place, or is to be published, does not wait for the timer.
    timer_set(&own->params.loop->timers, &own->timer, own->params.loop->now);
    switch (event->kind) {
    case IDENTITY_EVENT_ISSUED:
        own->trust_changed |= event->has_new_roots;
        log_info(own->params.scope, "certificate issued", LOG_STR("identity", event->spiffe_id),
                 LOG_I64("not_after", event->not_after));
        break;
    case IDENTITY_EVENT_FAILED:
        metric_count(METRIC_CERT_FAILURES, &reason, 1, own->params.loop->now);
        log_warn(own->params.scope, "no certificate from the CA",
                 LOG_STR("identity", event->spiffe_id), LOG_STR("reason", event->text));
        break;
    case IDENTITY_EVENT_EXPIRED:
        log_error(own->params.scope, "certificate expired: new connections of its workloads fail",
                  LOG_STR("identity", event->spiffe_id), LOG_STR("reason", event->text));
        break;
    default:
        log_debug(own->params.scope, "identity forgotten", LOG_STR("identity", event->spiffe_id));
        break;
    }
}

// ---- what peers are trusted --------------------------------------------------------------------

static void poll_ca(struct proc_identity *own, int64_t now_wall_s) {
    char *error = NULL;
    switch (ca_local_poll(own->ca, now_wall_s, &error)) {
    case CA_LOCAL_CHANGED:
        log_info(own->params.scope, "the CA changed: all certificates are issued anew");
        identity_manager_reissue(own->manager);
        own->trust_changed = true;
        break;
    case CA_LOCAL_BROKEN:
        log_error(own->params.scope, "the CA's files are not usable, the old CA stays in force",
                  LOG_STR("reason", error));
        break;
    case CA_LOCAL_SAME:
        break;
    }
    free(error);
}

// False only at start, when a list that is asked for cannot be used.
static bool poll_crl(struct proc_identity *own) {
    if (own->crl == NULL) {
        return true;
    }
    struct slice content;
    char *error = NULL;
    int rc = watched_file_poll(own->crl, &content);
    if (rc == 0) {
        return true;
    }
    if (rc < 0) {
        log_error(own->params.scope, "revocation list not read, the last one stays in force",
                  LOG_ERRNO("error", rc));
        return false;
    }
    if (!identity_manager_set_crl(own->manager, content, &error)) {
        log_error(own->params.scope, "revocation list not usable, the last one stays in force",
                  LOG_STR("reason", error));
        free(error);
        return false;
    }
    log_info(own->params.scope, "revocation list loaded", LOG_U64("bytes", content.len));
    own->trust_changed = true;
    return true;
}

static void on_timer(struct timer *timer, uint64_t now) {
    struct proc_identity *own = CONTAINER_OF(timer, struct proc_identity, timer);
    int64_t now_wall_s = clock_wall_s();
    if (now >= own->next_trust_poll) {
        own->next_trust_poll = now + TRUST_POLL_S * NS_PER_SEC;
        if (own->ca != NULL) {
            poll_ca(own, now_wall_s);
        }
        (void)poll_crl(own);
    }
    uint64_t next = identity_manager_tick(own->manager, now, now_wall_s);
    own->params.on_tick(own->params.arg);
    if (own->trust_changed) {
        own->trust_changed = false;
        own->params.on_trust_changed(own->params.arg);
    }
    timer_set(&own->params.loop->timers, timer, MIN(next, own->next_trust_poll));
}

void proc_identity_want(struct proc_identity *own, const char *spiffe_id, int delta) {
    identity_manager_want(own->manager, spiffe_id, delta);
    timer_set(&own->params.loop->timers, &own->timer, own->params.loop->now);
}

void proc_identity_set_mesh(struct proc_identity *own, const struct mesh_settings *mesh) {
    struct slice aliases[MESH_ALIASES_MAX];
    size_t n = 0;
    const char *alias;
    while (n < MESH_ALIASES_MAX && (alias = mesh_trust_domain(mesh, n + 1)) != NULL) {
        aliases[n++] = slice_str(alias);
    }
    if (identity_manager_set_aliases(own->manager, aliases, n)) {
        own->trust_changed = true;
        timer_set(&own->params.loop->timers, &own->timer, own->params.loop->now);
    }
}

// ---- metrics -----------------------------------------------------------------------------------

static bool write_expiry(void *arg, const struct identity_info *info) {
    struct prom_writer *w = arg;
    if (info->not_after != 0) {
        struct prom_label label = {.name = "identity", .value = slice_str(info->spiffe_id)};
        prom_sample(w, "certificate_expiry_seconds", METRIC_GAUGE, &label, 1,
                    (double)(info->not_after - clock_wall_s()));
    }
    return true;
}

static void collect(void *arg, struct prom_writer *w) {
    struct proc_identity *own = arg;
    prom_family(w, "certificate_expiry_seconds", METRIC_GAUGE, "seconds",
                "Seconds until a workload certificate expires; negative when it did");
    identity_manager_each(own->manager, write_expiry, w);
}

// ---- start -------------------------------------------------------------------------------------

static struct ca *open_local(struct proc_identity *own, char **ret_error) {
    const struct proc_config *config = own->params.config;
    struct ca_local_params params = {
        .dir = config->ca_dir, .org = config->trust_domain, .now_wall_s = clock_wall_s()};
    own->ca = ca_local_open(&params, ret_error);
    return own->ca != NULL ? ca_local_ca(own->ca) : NULL;
}

static struct ca *open_istiod(struct proc_identity *own, char **ret_error) {
    const struct proc_config *config = own->params.config;
    size_t n = 0;
    struct http_field *metadata = xcalloc(config->n_ca_headers + 1, sizeof(*metadata));
    metadata[n++] =
        (struct http_field){.name = SLICE_LIT("clusterid"), .value = slice_str(config->cluster_id)};
    for (size_t i = 0; i < config->n_ca_headers; i++) {
        metadata[n++] = config->ca_headers[i];
    }
    struct ca_istiod_params params = {
        .loop = own->params.loop,
        .address = config->ca_address,
        .roots = proc_trust_roots(config->ca_roots),
        .alt_name = config->ca_hostname,
        .token = proc_trust_token(config->token),
        .metadata = metadata,
        .n_metadata = n,
        .mark = own->params.mark,
        .compliance = config->compliance,
        .impersonates = own->params.impersonates,
    };
    own->istiod = ca_istiod_open(&params, ret_error);
    free(metadata);
    return own->istiod != NULL ? ca_istiod_ca(own->istiod) : NULL;
}

int proc_identity_open(struct proc_identity *own, const struct proc_identity_params *params) {
    const struct proc_config *config = params->config;
    char *error = NULL;
    *own = (struct proc_identity){.params = *params};
    timer_init(&own->timer, on_timer);
    bool is_local = config->ca_dir != NULL;
    struct ca *ca = is_local ? open_local(own, &error) : open_istiod(own, &error);
    if (ca == NULL) {
        log_error(params->scope, "the certificate authority is not usable",
                  LOG_STR("ca", is_local ? config->ca_dir : config->ca_address),
                  LOG_STR("reason", error));
        free(error);
        return -EINVAL;
    }
    struct identity_manager_params manager = {
        .ca = ca,
        .ttl_s = config->secret_ttl_s,
        .compliance = config->compliance,
        .prefer_aes_256 = config->prefer_aes_256,
        .on_event = on_event,
        .arg = own,
    };
    rand_os_bytes(&manager.seed, sizeof(manager.seed));
    own->manager = identity_manager_new(&manager);
    own->crl = config->crl_path != NULL ? watched_file_new(config->crl_path, CRL_MAX) : NULL;
    prom_collector_add(collect, own);
    timer_set(&params->loop->timers, &own->timer, params->loop->now);
    return poll_crl(own) ? 0 : -EINVAL;
}

// SPDX-License-Identifier: Apache-2.0
#include <errno.h>
#include <stdlib.h>

#include "common/base/rand.h"
#include "common/obs/log.h"
#include "common/obs/metrics.h"
#include "common/obs/prom.h"
#include "ztun/control.h"

LOG_SCOPE(log_identity, "ztun::identity");

enum { TRUST_POLL_S = 2 }; // how soon a changed CA or revocation list is seen

static void on_event(void *arg, const struct identity_event *event) {
    struct control *control = arg;
    struct slice reason = SLICE_LIT("ca");
    switch (event->kind) {
    case IDENTITY_EVENT_ISSUED:
        log_info(&log_identity, "certificate issued", LOG_STR("identity", event->spiffe_id),
                 LOG_I64("not_after", event->not_after));
        break;
    case IDENTITY_EVENT_FAILED:
        metric_count(METRIC_CERT_FAILURES, &reason, 1, control->loop.now);
        log_warn(&log_identity, "no certificate from the CA", LOG_STR("identity", event->spiffe_id),
                 LOG_STR("reason", event->text));
        break;
    case IDENTITY_EVENT_EXPIRED:
        log_error(&log_identity, "certificate expired: new connections of its workloads fail",
                  LOG_STR("identity", event->spiffe_id), LOG_STR("reason", event->text));
        break;
    default:
        log_debug(&log_identity, "identity forgotten", LOG_STR("identity", event->spiffe_id));
        break;
    }
}

// ---- what peers are trusted --------------------------------------------------------------------

static void poll_ca(struct control *control, int64_t now_wall_s) {
    char *error = NULL;
    switch (ca_local_poll(control->ca, now_wall_s, &error)) {
    case CA_LOCAL_CHANGED:
        log_info(&log_identity, "the CA changed: all certificates are issued anew");
        identity_manager_reissue(control->identities);
        control->trust_changed = true;
        break;
    case CA_LOCAL_BROKEN:
        log_error(&log_identity, "the CA's files are not usable, the old CA stays in force",
                  LOG_STR("reason", error));
        break;
    case CA_LOCAL_SAME:
        break;
    }
    free(error);
}

// False only at start, when a list that is asked for cannot be used.
static bool poll_crl(struct control *control) {
    if (control->crl == NULL) {
        return true;
    }
    struct slice content;
    char *error = NULL;
    int rc = watched_file_poll(control->crl, &content);
    if (rc == 0) {
        return true;
    }
    if (rc < 0) {
        log_error(&log_identity, "revocation list not read, the last one stays in force",
                  LOG_ERRNO("error", rc));
        return false;
    }
    if (!identity_manager_set_crl(control->identities, content, &error)) {
        log_error(&log_identity, "revocation list not usable, the last one stays in force",
                  LOG_STR("reason", error));
        free(error);
        return false;
    }
    log_info(&log_identity, "revocation list loaded", LOG_U64("bytes", content.len));
    control->trust_changed = true;
    return true;
}

static void tell_workers(struct control *control) {
    control->trust_changed = false;
    for (uint32_t i = 0; i < control->ztun->n_workers; i++) {
        zworker_send_trust_changed(control->ztun->workers[i]);
    }
}

static void on_timer(struct timer *timer, uint64_t now) {
    struct control *control = CONTAINER_OF(timer, struct control, identity_timer);
    int64_t now_wall_s = clock_wall_s();
    if (now >= control->next_trust_poll) {
        control->next_trust_poll = now + TRUST_POLL_S * NS_PER_SEC;
        poll_ca(control, now_wall_s);
        (void)poll_crl(control);
    }
    uint64_t next = identity_manager_tick(control->identities, now, now_wall_s);
    control_pods_settle(control);
    if (control->trust_changed) {
        tell_workers(control);
    }
    timer_set(&control->loop.timers, timer, MIN(next, control->next_trust_poll));
}

void control_identity_want(struct control *control, const char *spiffe_id, int delta) {
    identity_manager_want(control->identities, spiffe_id, delta);
    timer_set(&control->loop.timers, &control->identity_timer, control->loop.now);
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
    struct control *control = arg;
    prom_family(w, "certificate_expiry_seconds", METRIC_GAUGE, "seconds",
                "Seconds until a workload certificate expires; negative when it did");
    identity_manager_each(control->identities, write_expiry, w);
}

// ---- start -------------------------------------------------------------------------------------

int control_identity_open(struct control *control) {
    const struct ztun_config *config = &control->ztun->config;
    char *error = NULL;
    timer_init(&control->identity_timer, on_timer);
    struct ca_local_params ca = {
        .dir = config->ca_dir, .org = config->trust_domain, .now_wall_s = clock_wall_s()};
    control->ca = ca_local_open(&ca, &error);
    if (control->ca == NULL) {
        log_error(&log_identity, "the certificate authority is not usable",
                  LOG_STR("ca_dir", config->ca_dir), LOG_STR("reason", error));
        free(error);
        return -EINVAL;
    }
    struct identity_manager_params params = {
        .ca = ca_local_ca(control->ca),
        .ttl_s = config->secret_ttl_s,
        .compliance = config->compliance,
        .prefer_aes_256 = config->prefer_aes_256,
        .on_event = on_event,
        .arg = control,
    };
    rand_os_bytes(&params.seed, sizeof(params.seed));
    control->identities = identity_manager_new(&params);
    control->crl = config->crl_path != NULL ? watched_file_new(config->crl_path) : NULL;
    prom_collector_add(collect, control);
    timer_set(&control->loop.timers, &control->identity_timer, control->loop.now);
    return poll_crl(control) ? 0 : -EINVAL;
}

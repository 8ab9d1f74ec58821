// SPDX-License-Identifier: Apache-2.0
//
// The control thread: sources, snapshots, identities, enrolment, drain, and the operator's
// endpoints. Workers never wait for it.
#pragma once

#include "common/mesh/builder.h"
#include "common/mesh/ca_local.h"
#include "common/mesh/source_file.h"
#include "common/net/dns_client.h"
#include "common/net/http_server.h"
#include "common/rt/signals.h"
#include "common/rt/watch.h"
#include "ztun/inpod.h"
#include "ztun/ztun.h"

struct metric_series;

enum control_state { CONTROL_STARTING, CONTROL_RUNNING, CONTROL_DRAINING, CONTROL_CUTTING };

struct control {
    struct ztun *ztun;
    struct loop loop;
    struct blk_pool pool;
    struct io *io;
    struct source_file *source;
    struct mesh_builder *builder;
    struct ca_local *ca;
    struct watched_file *crl; // NULL = none
    struct identity_manager *identities;
    struct inpod *inpod;
    struct dns_client *dns; // for endpoints that are host names
    struct hmap pods; // served pods by uid: control_pods.c
    struct list draining; // un-enrolled pods with running flows
    struct signals signals;
    struct watch source_watch, log_watch;
    struct timer log_timer, identity_timer, tick_timer, drain_timer;
    struct http_server admin, metrics, readiness;
    uint64_t drain_deadline, last_expire, next_trust_poll;
    bool trust_changed; // workers are told when the new contexts are published
    uint64_t memory_limit;
    struct metric_series *reloads[2]; // config_reload_total: all well, some rejected
    uint32_t n_servers; // open http servers
    uint32_t n_waiting_pods; // for their certificates
    uint8_t state;
    bool allow_growth, refuse_new;
};

// Runs the control thread on the calling thread until the process shall end. Returns the exit code.
int control_run(struct ztun *ztun);
void control_pod_drained(struct control *control, uint64_t pod_id);
// SIGTERM and /quitquitquit.
void control_drain(struct control *control);
bool control_is_ready(const struct control *control, struct buf *ret_reasons);

// control_identity.c: the CA, the revocation list, and who needs a certificate.
MUST_USE int control_identity_open(struct control *control); // 0 or -errno, logged
void control_identity_want(struct control *control, const char *spiffe_id, int delta);

// control_pods.c: what local workloads mean for identities, enrolment and workers.
void control_pods_init(struct control *control);
void control_pods_apply(struct control *control, const struct builder_changes *changes);
// Serves the pods whose certificates have come meanwhile.
void control_pods_settle(struct control *control);
void control_pods_fini(struct control *control);
// Callbacks of inpod.
void control_pod_up(void *arg, struct pod *pod, struct pod_sockets *sets, uint32_t n_sets);
void control_pod_down(void *arg, struct pod *pod, enum pod_down_reason reason);

// admin.c
MUST_USE int admin_open(struct control *control); // 0 or -errno; logs which address failed

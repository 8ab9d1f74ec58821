// SPDX-License-Identifier: Apache-2.0
//
// The node proxy as a whole: what the control thread owns, and what workers share with it.
#pragma once

#include "common/mesh/snapshot.h"
#include "common/proto/hbone.h"
#include "common/rt/io.h"
#include "ztun/config.h"
#include "ztun/zworker.h"

enum { ZTUN_WORKERS_MAX = PLACE_WORKERS_MAX };

struct control; // control.c: sources, identities, enrolment, admin

struct ztun {
    struct ztun_config config;
    enum io_kind io_kind; // of all loops, once the control thread's is open
    struct loop *control_loop; // mails from workers go here; owner = struct control
    struct control *control;
    struct zworker *workers[ZTUN_WORKERS_MAX];
    uint32_t n_workers;
    struct placement *placement; // made before the first worker
};

// Socket parameters of a connection from the pod's namespace to `to`.
void ztun_socket_params(struct io_socket_params *ret_params, const struct zpod *zpod,
                        const struct addr *to, bool is_tunnel);
// The same to the pod's own application, from the client's address if that is wanted and possible.
void ztun_application_params(struct io_socket_params *ret_params, const struct flow *flow,
                             const struct addr *to, bool as_client);
// Who a connection came from, for logs and metrics; NULL: not known. On demand istiod is asked, for
// the next one: nothing that is decided depends on it.
struct workload *ztun_source(struct zworker *worker, const struct snapshot *snap,
                             const struct ip *ip);
// Workers: an un-enrolled pod has no flow left on this worker.
void ztun_pod_drained(struct ztun *ztun, uint64_t pod_id);

// SPDX-License-Identifier: Apache-2.0
//
// A worker of the node proxy: one thread with its own ring, buffers, tunnels and flows. Workers
// share the snapshot and nothing else; the control thread talks to them by mail.
#pragma once

#include "common/base/hmap.h"
#include "common/base/rand.h"
#include "common/base/slab.h"
#include "common/mesh/route_shun.h"
#include "common/net/hbone_client.h"
#include "common/net/hbone_server.h"
#include "common/net/parked_cap.h"
#include "common/rt/listener.h"
#include "common/rt/turn_clock.h"
#include "common/rt/worker.h"
#include "ztun/config.h"
#include "ztun/demand.h"
#include "ztun/dns_proxy.h"
#include "ztun/placement.h"
#include "ztun/pod.h"

struct ztun;
struct zmove;
struct flow_list;
struct metric_series;

struct zworker {
    struct worker thread;
    struct ztun *ztun; // its config is constant; its other fields are the control thread's
    const struct ztun_config *config;
    struct loop *loop;
    uint32_t index;
    struct tls_queue tls_queue;
    struct parked_cap parked; // of all tunnels
    struct hbone_client client;
    struct h2_config server_h2;
    struct rand rand;
    struct demands demands;
    struct list pods;
    struct slab outbound_slab, inbound_slab, plain_slab;
    uint64_t last_flow_id;
    uint16_t spoof_port; // inbound_plain.c
    struct place_load *load; // live flows, tunnels of peers: ztun->placement
    struct place_memory placed; // keys whose flows went to other workers
    uint64_t busy_at, busy_cpu_ns; // start of the window of placement_busy, CPU time then
    struct turn_clock turn_clock;
    struct metric_series *moved[2]; // by reason
    int fd_high; // connections with a descriptor above are refused: RLIMIT_NOFILE is near
    bool is_draining;
    bool refuse_new; // memory or descriptors are short: new flows are reset
    bool allow_growth; // stream windows may grow
    uint32_t recheck; // changes seen for which running flows are looked at
    bool recheck_policies,
        recheck_paths; // what the last one, if it is not done yet, has to look at
    struct timer recheck_timer; // goes on with the flows of the last one
    struct route_shun shun; // waypoints that could not be reached
    struct list rebinds; // rebind.node: flows whose path has changed
    struct timer rebind_timer;
    struct timer tick_timer; // once a second
    struct timer accept_timer, cut_timer; // drain
    uint64_t cut_end;
    uint32_t cut_share; // thousandths of a flow that the ticks so far have left over
};

// A served pod on one worker. Every worker has one; up to POD_LISTENERS_MAX of them have sockets.
struct zpod {
    struct list node; // zworker->pods
    struct zworker *worker;
    struct pod *pod;
    // has_sockets; our own pod has `hbone` only, `socks` is there with --socks5.
    struct listener outbound, inbound, hbone, socks;
    struct list handshakes; // socks.c
    uint32_t n_handshakes;
    struct dns_proxy *dns;
    struct list flows; // flow.node
    struct hbone_server server; // tunnels to the pod
    uint32_t n_open; // listeners, DNS and arrivals that are not closed yet
    uint32_t n_arrivals; // connections to 15008 that wait for the pod's first certificate
    bool has_sockets;
    bool is_closing; // listeners are being closed
    bool is_removed; // nothing may outlive the deadline
    bool tell_drained; // un-enrolled: control waits for the last flow
    struct timer cut_timer;
    struct timer moving_timer; // zmove.h: waits for connections between workers
};

// Messages from the control thread; each may be called on any thread, runs on the worker's.
// A pod goes up on all workers before any of them gets sockets: flows may move from then on.
void zworker_send_pod_up(struct zworker *worker, struct pod *pod);
void zworker_send_pod_sockets(struct zworker *worker, struct pod *pod,
                              const struct pod_sockets *sockets, const struct addr *dns_servers,
                              uint32_t n_dns_servers);
// removed: streams end, tunnels say goodbye, all is cut after 1 s. Else (un-enrolled): no new
// flows; `ztun_pod_drained` is told when the last one ended.
void zworker_send_pod_down(struct zworker *worker, uint64_t pod_id, bool removed);
// Re-check running flows: inbound ones against policies, outbound ones against bindings.
void zworker_send_mesh_changed(struct zworker *worker, bool policies, bool paths);
void zworker_send_trust_changed(struct zworker *worker); // re-check running tunnels
void zworker_send_workloads_changed(struct zworker *worker); // tunnels to who left are drained
void zworker_send_pod_leaving(struct zworker *worker, uint64_t pod_id); // deletionTimestamp: GOAWAY
void zworker_send_pressure(struct zworker *worker, bool allow_growth, bool refuse_new);
// Drain in two steps: GOAWAY now, accepting stops after accept_ms (a successor may need the time);
// then (cut) what is left is reset, spread over spread_ms.
void zworker_send_drain(struct zworker *worker, uint32_t accept_ms);
void zworker_send_cut(struct zworker *worker, uint32_t spread_ms);
// Appends the worker's live flows to `into` (flow_list.h), then mails `done` to the control loop.
void zworker_send_list(struct zworker *worker, struct mail *done, struct flow_list *into);

struct zworker *zworker_new(struct ztun *ztun, uint32_t index, char **ret_error);
void zworker_free(struct zworker *worker); // stops and joins the thread; flows are cut

// Inside the worker.
void zpod_check_drained(struct zpod *zpod);
void zpod_part_closed(struct zpod *zpod); // n_open less one; may free it
void zpod_stop_accepting(struct zpod *zpod, bool adopt); // adopt: as listener_close
void zpod_cut_flows(struct zpod *zpod, enum flow_end reason);
struct zpod *zworker_pod(struct zworker *worker, uint64_t pod_id);
// False when a new connection must be refused for lack of memory or descriptors; the caller resets
// it. fd: the accepted descriptor, or -1 (a stream of a tunnel).
bool zworker_admits(struct zworker *worker, int fd);

struct flow;

// outbound.c, inbound.c, inbound_plain.c: flow object sizes for the slabs; take over an accepted
// fd. moved: another worker accepted the connection and sent it here; NULL: this one did.
size_t outbound_size(void);
size_t inbound_size(void);
size_t inbound_plain_size(void);
void outbound_accept(struct zpod *zpod, int fd, const struct zmove *moved);
// A client of SOCKS5, which waits for the reply to its request.
void outbound_socks(struct zpod *zpod, int fd, const struct addr *to);
void inbound_accept(struct zpod *zpod, int fd);
void inbound_plain_accept(struct zpod *zpod, int fd);
extern const struct hbone_server_handler inbound_hbone_handler; // of zpod.server
void inbound_recheck_tunnels(struct zpod *zpod); // trust changed
// Policy changed: true when the running flow is no longer allowed (flow->detail says why).
bool inbound_is_denied(struct flow *flow);
bool inbound_plain_is_denied(struct flow *flow);
bool outbound_is_blocked(struct flow *flow); // REGISTRY_ONLY came, and nobody has the destination

// SPDX-License-Identifier: Apache-2.0
//
// The lab supervisor's state: one struct lab per process, shared by the local_*.c files.
//
// Everything is level-triggered: whatever changes an object or a pod sets lab->is_dirty, and the
// next turn of the loop reconciles (controllers, scheduling, endpoints), writes the effective
// objects that changed, and then brings the nodes' rules up to date. One thread.
#pragma once

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "common/base/addr.h"
#include "common/base/list.h"
#include "ctl/local_loop.h"

enum {
    LAB_NAME_MAX = 20,
    LAB_NODES_MAX = 32,
    LAB_PODS_MAX = 1000,
    LAB_OBJECTS_MAX = 20000,
    LAB_NOTES_MAX = 200,
    LAB_LOG_MAX = 32 << 20, // bytes of a container's log; then it starts over
};

struct lab_options { // of `up`; texts live as long as the lab
    const char *name, *dir, *images, *ztun_bin, *cluster_domain;
    const char *waypoint_bin; // NULL = there is none
    json_t *ztun_args; // strings
    json_t *ztun_env; // "K=V" strings
    json_t *waypoint_args, *waypoint_env; // likewise, of waypoints
    json_t *dns; // "name" -> ["ip", ...]
    uint32_t n_nodes; // 0 = from Node objects, else 2
    bool has_mesh, has_host, has_v4, has_v6;
};

struct lab_object {
    struct list link;
    json_t *doc; // as `kubectl get -o json` would print it
    uint64_t written_hash; // of what is in the effective directory, 0 = nothing
    bool is_user; // applied, not made by a controller
    bool is_dirty; // differs from what was written (maybe)
};

struct lab_node {
    struct lab *lab;
    struct lab_object *object;
    const char *name; // of the object
    char *netns;
    int netns_fd;
    struct ip ips[2]; // [0] IPv4, [1] IPv6; family 0 = none
    struct cidr pod_cidrs[2];
    uint32_t next_host[2]; // last pod address given out, per family
    char *rules; // nftables text in effect
    // the node's ztun
    pid_t ztun_pid;
    struct lab_timer ztun_timer;
    uint64_t ztun_started_ns;
    uint32_t ztun_backoff_ms, ztun_restarts;
    // cluster DNS
    struct lab_fd dns_udp[2], dns_tcp[2];
};

enum lab_pod_state {
    POD_PENDING, // waits for a node, a ConfigMap, an image
    POD_INIT, // init containers run
    POD_RUNNING,
    POD_DONE, // all containers ended and none restarts
    POD_STOPPING,
};

struct lab_pod {
    struct list link;
    struct lab *lab;
    struct lab_object *object;
    struct lab_node *node; // NULL until scheduled
    uint8_t state; // enum lab_pod_state
    bool is_host_network, has_sandbox, are_volumes_ready, is_failed, is_initialized;
    char *dir; // state of this pod: volumes, etc files
    char *netns; // name under /run/netns; the node's for host-network pods
    char veth[16]; // node side, "" = none
    int netns_fd;
    struct ip ips[2];
    pid_t pause_pid; // PID 1 of the pod
    int pause_pidfd, pidns_fd;
    struct lab_ctr *ctrs; // init containers first
    uint32_t n_ctrs, n_init, cur_init;
    const char *waiting_reason; // while POD_PENDING; constant text
    char waiting_message[200];
    uint64_t start_order, sandbox_ns; // when the sandbox was complete
    struct lab_timer mesh_timer; // looks again whether the mesh has it
    // deletion
    uint64_t stop_at_ns; // SIGKILL then
    struct lab_timer stop_timer;
    json_t *replacement; // applied while this one goes away; NULL = none
};

enum lab_ctr_state { CTR_WAITING, CTR_RUNNING, CTR_TERMINATED, CTR_BACKOFF };
enum lab_probe_kind { PROBE_STARTUP, PROBE_LIVENESS, PROBE_READINESS, PROBE_N_KINDS };

struct lab_probe {
    struct lab_ctr *ctr;
    const json_t *spec; // NULL = no such probe
    uint8_t kind;
    bool is_ok; // the state that counts, after thresholds
    uint32_t n_ok, n_failed; // in a row
    struct lab_timer timer; // next start, or the deadline of the running one
    struct lab_fd fd;
    pid_t pid; // exec
    char head[16]; // start of the HTTP response
    uint8_t head_len;
    bool is_running, is_connected;
};

struct lab_ctr {
    struct lab_pod *pod;
    const json_t *spec;
    const char *name;
    bool is_init, is_sidecar; // sidecar: init container that is restarted always
    uint8_t state;
    bool has_ended; // at least once
    bool is_ready, is_started;
    pid_t pid;
    struct lab_fd setup; // start-up report of the child: EOF = it runs
    char setup_error[200];
    int exit_status; // wait status of the last end
    int64_t started_s, ended_s;
    uint64_t started_ns;
    uint32_t restarts, backoff_ms;
    struct lab_timer timer; // restart
    struct lab_timer hook_timer; // preStop limit, or `sleep`
    bool is_hook_running, is_term_sent;
    pid_t hook_pid;
    struct lab_fd hook_fd; // preStop httpGet
    void (*hook_done)(void *ctr);
    struct lab_probe probes[PROBE_N_KINDS];
    char *log; // path; all its starts write there, this one and the one before from these places
    int64_t log_from, log_previous; // -1 = it has not been started before
    char **env; // of the last start
    char *cwd;
};

struct lab {
    struct lab_options opt;
    char *config_dir, *state_dir, *ca_dir, *log_dir, *pods_dir, *stage_dir, *tmp_dir;
    char *prefix; // of its names in /run/netns: "zl-NAME."
    char *wire_netns;
    char host_link[16]; // the host's leg, "" = none
    struct list objects, pods;
    uint32_t n_objects, n_pods;
    struct lab_node nodes[LAB_NODES_MAX];
    uint32_t n_nodes;
    bool is_dirty, are_volumes_dirty, is_down;
    struct ip dns_ips[2];
    struct cidr service_cidrs[2], lb_cidrs[2];
    uint32_t next_service[2], next_lb[2], next_node_port;
    uint64_t next_order;
    json_t *notes; // object: text -> true; what is ignored, each once
    json_t *images;
    char *host_rules;
    struct lab_timer log_timer;
    int pidns_fd, lock_fd; // own PID namespace; the lock that says we live
    struct lab_fd listener;
};

// Says something once, in the log and in `status`.
void lab_note(struct lab *lab, const char *fmt, ...) PRINTF_LIKE(2, 3);
void lab_log(const char *fmt, ...) PRINTF_LIKE(1, 2); // time and text, to the supervisor's log
static inline void lab_dirty(struct lab *lab) {
    lab->is_dirty = true;
}
struct lab_node *lab_node_find(struct lab *lab, const char *name);
struct ip lab_ip_add(const struct ip *base, uint32_t n); // base + n, within the last 32 bits

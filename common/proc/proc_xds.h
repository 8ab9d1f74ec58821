// SPDX-License-Identifier: Apache-2.0
//
// istiod as the source of workloads, services and policies: the discovery stream on a connection of
// its own, kept open with back-off, what comes over it in the mesh (proc_mesh), news in log and
// metrics.
//
// While istiod is away, or refuses us, what is known stays in force.
//
// Thread: control.
#pragma once

#include "common/base/arena.h"
#include "common/mesh/xds_client.h"
#include "common/net/grpc_client.h"
#include "common/rt/loop.h"

struct buf;
struct json_out;
struct log_scope;
struct proc_config;
struct proc_mesh;

struct proc_xds_params {
    struct loop *loop;
    struct proc_mesh *mesh; // with proc_mesh_open_xds()
    const struct proc_config *config; // xds_address and what goes with it
    const char *role; // "ztunnel", "waypoint"
    const char *pod, *ns, *node_name; // who we are; "" = not known
    uint32_t mark; // SO_MARK, 0 = none
    const struct log_scope *scope;
    // With xds_on_demand: what was wanted is in the snapshot, or known not to be there. The name is
    // borrowed.
    void (*answered)(void *arg, struct slice name, bool exists);
    void *arg;
};

enum { PROC_XDS_PROBLEM_MAX = GRPC_CLIENT_TEXT_MAX };

struct proc_xds {
    struct proc_xds_params params;
    struct grpc_client *grpc;
    struct grpc_stream stream;
    struct xds_client *client;
    struct timer timer; // to open the stream
    struct arena scratch; // of one resource
    bool is_open;
    char problem[PROC_XDS_PROBLEM_MAX]; // why there is no stream; "" = there is, or none was tried
    char nack[2048]; // what was refused last; "" = nothing since then
    uint64_t n_streams, n_refused;
};

// Opens the stream in a later turn of the loop. 0 or -errno, logged.
MUST_USE int proc_xds_open(struct proc_xds *xds, const struct proc_xds_params *params);
// Each type had its first response. Else a line for readiness.
bool proc_xds_is_ready(const struct proc_xds *xds, struct buf *ret_reasons);
// What istiod knows of workloads and services has come, once.
bool proc_xds_has_addresses(const struct proc_xds *xds);
// With xds_on_demand: as xds_client_want(). answered() is not called within.
enum xds_want proc_xds_want(struct proc_xds *xds, struct slice name);
// "xds": {...}
void proc_xds_dump(struct json_out *out, const struct proc_xds *xds);

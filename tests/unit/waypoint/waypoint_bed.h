// SPDX-License-Identifier: Apache-2.0
//
// The HTTP side of a waypoint on the simulated network (common/rt/fake.h), for tests: workers with
// loops of their own on one thread, a mesh built from YAML, and connections of clients that come
// without a tunnel. Endpoints are plain TCP: the test plays them on descriptors of the net, as it
// plays the clients.
#pragma once

#include "common/mesh/builder.h"
#include "common/net/hbone_server.h"
#include "common/rt/fake.h"
#include "waypoint/waypoint.h"

enum { WBED_WORKERS_MAX = 4 };

struct wbed_conn; // a client's connection

struct wbed {
    struct fake_net *net;
    struct fake_options options; // of the net
    struct waypoint waypoint;
    struct wworker *workers[WBED_WORKERS_MAX];
    struct hbone_tunnel tunnels[WBED_WORKERS_MAX]; // which the connections are said to come from
    uint32_t n_workers;
    struct mesh_builder *builder;
    struct list conns; // wbed_conn.node
    uint64_t n_completions; // seen by wbed_turn
};

// Makes the net, the workers and an empty mesh. The waypoint's configuration may be changed between
// wbed_init and wbed_open.
void wbed_init(struct wbed *bed, const struct fake_options *net, uint32_t n_workers);
void wbed_open(struct wbed *bed, uint64_t seed);
// Adds or replaces the objects of a text; an error of it fails. Workers are told as control does.
void wbed_apply(struct wbed *bed, const char *yaml);
// A client's connection to a port of the service "ns/hostname", accepted by one of the workers. The
// client's end.
int wbed_connect(struct wbed *bed, uint32_t worker, const char *service_key, uint16_t port);
// The same for bytes, to a port of TCP. `client_port`: the client's, for the log.
int wbed_connect_tcp(struct wbed *bed, uint32_t worker, const char *service_key, uint16_t port,
                     uint16_t client_port);
// One turn of each worker. True: something was done.
bool wbed_turn(struct wbed *bed);
uint32_t wbed_n_conns(const struct wbed *bed); // of clients, that are not over
uint32_t wbed_n_mirrors(const struct wbed *bed); // that go on
void wbed_drain(struct wbed *bed); // what workers do when the process is told to end
// The end, when the clients are gone: true when all connections to endpoints are closed too. Call
// it once a turn until then.
bool wbed_stop(struct wbed *bed);
void wbed_print(const struct wbed *bed, FILE *file); // what there is, for a test that hangs
// After that: frees net and workers, and checks that nothing is left: gauges, descriptors, blocks.
// The mesh stays, and wbed_open begins again.
void wbed_close(struct wbed *bed);
void wbed_fini(struct wbed *bed); // the same, then the mesh; checks that no leaf is left

// SPDX-License-Identifier: Apache-2.0
//
// Conversations through a waypoint bed: clients that send requests of HTTP/1.1, and endpoints that
// do what they are told. The network is a healthy one; time is virtual. After fake_set_quiet(net,
// false) each operation takes up to 2 ms.
#pragma once

#include "tests/unit/base/unit.h"
#include "tests/unit/waypoint/h1_reader.h"
#include "tests/unit/waypoint/waypoint_bed.h"

enum { TALK_HOSTS = 4, TALK_CLIENTS = 16, TALK_CONNS = 64 };

enum talk_act {
    TALK_OK, // 200, a body that names the host: "host 0"
    TALK_503,
    TALK_500,
    TALK_404,
    TALK_RESET, // the connection, when the request is complete
    TALK_SILENCE,
    TALK_CLOSE, // TALK_OK with "connection: close"
    TALK_LEAVE, // TALK_OK, and the end when the next request comes
    TALK_DEAF, // not even reads
};

struct talk;
struct talk_conn { // of an endpoint
    struct talk *talk;
    struct talk_host *host;
    int fd; // -1: none
    struct h1_reader reader;
    size_t n_body;
    uint32_t n_requests;
    uint64_t due; // of the answer; 0: none is
};
struct talk_host { // 10.1.0.(1 + index):8080
    struct addr addr;
    int listener; // -1: refuses connections
    uint8_t act; // enum talk_act
    uint64_t delay_ms; // before an answer
    uint32_t n_requests, n_opened, n_open, max_open;
    size_t n_body; // of the last complete request
};

struct talk_client {
    struct talk *talk;
    int fd; // -1: closed by the other side
    struct h1_reader reader;
    uint16_t status; // of the last answer; 0: none yet
    uint32_t n_answers;
    char flags[16]; // x-flags: the response flags that the route tells
    char cookie[256]; // set-cookie
    char body[256];
    size_t n_body;
};

struct talk {
    struct wbed bed;
    struct talk_host hosts[TALK_HOSTS];
    uint32_t n_hosts;
    struct talk_conn conns[TALK_CONNS];
    struct talk_client clients[TALK_CLIENTS];
    uint32_t n_clients;
    const char *called; // key of the service that clients call; NULL: web
};

// Services "web" (all hosts but the last one with `has_shadow`) and "shadow" (that one), and
// `rules` (VirtualServices, DestinationRules; "" = none).
void talk_open(struct talk *talk, uint32_t n_workers, uint32_t n_hosts, bool has_shadow,
               const char *rules);
void talk_rules(struct talk *talk, const char *rules);
// The Pod of host `i` of "web", as YAML; good until the next call.
const char *talk_pod(uint32_t i, bool is_ready);
void talk_close(struct talk *talk); // and checks that nothing is left
struct talk_client *talk_client(struct talk *talk, uint32_t worker);
// The text goes to the waypoint at once, as far as the socket takes it; returns how much that was.
size_t talk_say(struct talk_client *client, const char *text, size_t len);
void talk_get(struct talk_client *client, const char *path); // a GET
void talk_run(struct talk *talk, uint64_t ms);
// Until the client has n answers; returns the last one's status, 0 when it is cut or 20 s passed.
uint16_t talk_wait(struct talk_client *client, uint32_t n);
// GET on a connection of its own; its status.
uint16_t talk_once(struct talk *talk, uint32_t worker, const char *path);
uint64_t talk_now_ms(const struct talk *talk);

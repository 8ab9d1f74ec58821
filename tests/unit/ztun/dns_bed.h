// SPDX-License-Identifier: Apache-2.0
//
// A DNS proxy on sockets of the test, with a mesh and an upstream server.
#pragma once

#include "tests/unit/ztun/netlab.h"
#include "ztun/dns_proxy.h"
#include "ztun/inpod.h"

// A snapshot with services, and with the pod that has this network namespace.
void dns_mesh_up(const char *netns);
void dns_mesh_down(void);

struct dns_bed {
    struct netlab lab;
    struct blk_pool pool;
    struct loop loop;
    struct inpod *inpod;
    struct pod *pod;
    struct addr servers[2];
    uint32_t n_servers;
    struct dns_proxy *dns;
    int server_udp, server_tcp; // beside the pod
    int n_udp, n_tcp; // queries that the server got
    bool is_closed;
};

enum { MARK = 0x539 };

void dns_bed_turn(struct dns_bed *bed);
// A pod that is enrolled, with these families and so many servers, all of them ours.
void dns_bed_up(struct dns_bed *bed, int families, uint32_t n_servers);
void dns_bed_on_closed(void *arg);
void dns_bed_down(struct dns_bed *bed);
size_t dns_make_query(uint8_t *out, uint16_t id, const char *name, uint16_t type);
void dns_send_query(struct dns_bed *bed, int client, uint16_t id, const char *name, uint16_t type);

struct dns_reply {
    uint8_t message[4096];
    size_t len;
    int rcode, n_answers;
};

// The next answer to come, which must come from the server that was asked.
void dns_get_reply(struct dns_bed *bed, int client, unsigned limit_ms, struct dns_reply *ret);
// A query from the pod, over UDP, and its answer.
void dns_ask(struct dns_bed *bed, const char *name, uint16_t type, struct dns_reply *ret);
// From the pod to its server; it is captured.
int dns_tcp_client(struct dns_bed *bed);

// SPDX-License-Identifier: Apache-2.0
//
// Redirection of a pod's traffic to our sockets (ambient-protocols §1.4): nftables rules in one
// table of our own (`inet ztun`, through libnftables) and policy routes (netlink), in the network
// namespace that the calling thread is in (netns_enter). Everything here may block: helper thread,
// or a tool.
//
// Only initial SYNs are redirected, so flows older than the rules go on untouched, also when
// conntrack does not know them. What a call changes, it changes in one nftables transaction.
//
// Ownership: the table's chain `owner` (not hooked, never run) holds one rule whose comment says
// which process wrote the table, from which specification, and how the kernel lists it. A later
// process finds there whether the table is what it wants (then it only signs), and an earlier one
// that it has been succeeded (then it keeps its hands off). Each transaction deletes the owner rule
// by the handle that was read: if another process was faster, the whole transaction fails.
#pragma once

#include "common/base/addr.h"
#include "common/base/buf.h"

enum { REDIRECT_INTERFACES_MAX = 8, REDIRECT_COUNTERS_MAX = 32, REDIRECT_ERROR_MAX = 200 };

struct redirect_params {
    uint16_t outbound_port, inbound_port, hbone_port, dns_port;
    uint32_t mark; // of our own sockets, 12 bits
    bool has_v4, has_v6; // families to capture
    bool dns_v4, dns_v6; // families whose port 53 goes to dns_port
    bool original_source; // mark and route the replies to connections from foreign addresses
    bool track_tunnels; // by conntrack; redirect_install() does so where nft_socket is missing
    uint16_t free_ports[2]; // inbound connections to them are not captured; 0 = none
    bool bypass_inbound; // ambient.istio.io/bypass-inbound-capture
    const char *virtual_interfaces; // istio.io/reroute-virtual-interfaces, comma separated; or NULL
    struct ip probe_v4, probe_v6; // kubelet probes; unset = none
};

enum redirect_status {
    REDIRECT_INSTALLED, // there was nothing
    REDIRECT_KEPT, // all was as it should be
    REDIRECT_CHANGED, // replaced what was made from other parameters
    REDIRECT_REPAIRED, // somebody else had changed the table
    REDIRECT_FOREIGN, // a newer process owns the rules; nothing was changed
};

struct redirect_result {
    enum redirect_status status;
    uint32_t n_old_flows; // INSTALLED: established TCP flows that stay uncaptured
    uint32_t n_bad_interfaces; // names in virtual_interfaces that are none
    char error[REDIRECT_ERROR_MAX]; // when the call failed
};

// This process's mark of ownership; grows from process to process until the machine reboots.
uint64_t redirect_owner(void);

// Makes the rules be as `params` wants them. 0 or -errno with a text in ret->error.
MUST_USE int redirect_install(const struct redirect_params *params, uint64_t owner,
                              struct redirect_result *ret);
// First stage of removal: new connections are no longer captured, running ones work on.
MUST_USE int redirect_remove_nat(uint64_t owner, struct redirect_result *ret);
// Second stage: everything. Also without the first.
MUST_USE int redirect_remove(uint64_t owner, struct redirect_result *ret);

// The nftables generation of the namespace: a cheap way to see that nobody changed any rule.
MUST_USE int redirect_generation(uint32_t *ret_generation);

// Whether any rule, whoever's, redirects to `port`: nftables', or iptables' in either form.
MUST_USE int redirect_find(uint16_t port, bool *ret_found);

struct redirect_counter {
    char chain[24], rule[48]; // "nat_out", "outbound v4"
    uint64_t n_packets, n_bytes; // NAT rules see the first packet of a flow only
};
// The hit counts of our rules, in order. -ENOENT: there are no rules of ours.
MUST_USE int redirect_counters(struct redirect_counter items[REDIRECT_COUNTERS_MAX],
                               uint32_t *ret_n);
// The table as `nft list table inet ztun` prints it.
MUST_USE int redirect_text(struct buf *buf);

// The transaction that makes the table, without the owner rule; for tests and `explain`.
void redirect_script(const struct redirect_params *params, struct buf *buf,
                     uint32_t *ret_n_bad_interfaces);

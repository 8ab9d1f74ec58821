// SPDX-License-Identifier: Apache-2.0
//
// Service addresses for plain clients: nftables rules in every node's namespace and on the host
// that turn cluster IPs, external and load balancer addresses and node ports into a ready endpoint,
// the part that kube-proxy plays. One transaction per namespace, and only when the text changed.
#pragma once

#include "ctl/local_lab.h"

void lab_rules_update(struct lab *lab);
// Removes the host's table of a lab. Returns how many (0 or 1).
int lab_rules_remove_host(const char *lab_name);
// Whether a network namespace has an nftables table, "inet name".
bool lab_rules_has_table(int netns_fd, const char *table);

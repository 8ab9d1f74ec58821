// SPDX-License-Identifier: Apache-2.0
//
// The lab's network. Nodes are namespaces whose eth0 sits on one bridge ("the wire", in a namespace
// of its own); the host has a leg on it unless that is switched off. A pod has a veth pair to its
// node, /32 and /128 addresses, and routes by way of the node, as with the CNI plugin "ptp": two
// pods of one node never see each other on layer 2, so that the node's rules see all packets.
//
// All names start with the lab's prefix; lab_net_sweep() needs nothing but the name.
#pragma once

#include "ctl/local_lab.h"

// 0 or -errno; what went wrong is logged.
MUST_USE int lab_net_up(struct lab *lab); // the wire and the host's leg
MUST_USE int lab_net_add_node(struct lab *lab, struct lab_node *node); // routes of all nodes too
void lab_net_down(struct lab *lab);

// Gives the pod addresses (ips), a namespace (netns, netns_fd) and the veth.
MUST_USE int lab_net_add_pod(struct lab_pod *pod);
void lab_net_del_pod(struct lab_pod *pod); // safe to repeat

// Removes all that a lab of this name left: processes in its namespaces, namespaces, the host's
// leg and rules. Needs no state; nothing left is fine. Returns how many things it found.
int lab_net_sweep(const char *lab_name);
// The host's leg of a lab, "zl" and 8 hex digits.
void lab_net_host_link(const char *lab_name, char ret_name[16]);

// The address kubelet's probes come from (Istio's probe address), per family.
const char *lab_net_probe_address(int family);

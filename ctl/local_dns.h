// SPDX-License-Identifier: Apache-2.0
//
// The cluster DNS: a small responder on the DNS address in every node's namespace, UDP and TCP.
// Services (A, AAAA; no SRV), headless services and their pods, pod addresses, and the
// records of `up --dns NAME=IP`. Nothing else exists: other names are NXDOMAIN.
#pragma once

#include "ctl/local_lab.h"

void lab_dns_open(struct lab_node *node); // what fails is logged
void lab_dns_close(struct lab_node *node);

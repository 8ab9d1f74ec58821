// SPDX-License-Identifier: Apache-2.0

#include "ctl/local_dns.h"

void lab_dns_open(struct lab_node *node) {
}

void lab_dns_close(struct lab_node *node) {
}

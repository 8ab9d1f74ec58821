// SPDX-License-Identifier: Apache-2.0
//
// Who we are, as istiod wants to be told: the Node of the first request of a stream, with the
// metadata of ztunnel and what the environment adds. ISTIO_META_KEY: a text. ISTIO_METAJSON_KEY:
// for ztunnel a value of any type under KEY, for all others, as Istio's agent has it, an object
// whose fields are added.
//
// Pure. Thread: control.
#pragma once

#include "common/base/buf.h"

struct xds_node {
    const char *role; // "ztunnel"
    const char *ip, *pod, *ns; // our own; "" = not known
    const char *node_name, *cluster_id, *cluster_domain;
    const char *const *env; // as environ; NULL ends
};

enum { XDS_NODE_ERROR_MAX = 256 };

// Appends the encoded message. False: `error` names the variable that is not right.
MUST_USE bool xds_node_encode(const struct xds_node *node, struct buf *ret_bytes,
                              char error[XDS_NODE_ERROR_MAX]);

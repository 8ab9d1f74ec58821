// SPDX-License-Identifier: Apache-2.0
//
// Objects of L7 that are wrong, and what is said about them.
#pragma once

#include "tests/unit/mesh/config_fixture.h"

#define HEAD(group, kind)                                                                          \
    "apiVersion: " group "/v1\nkind: " kind "\nmetadata: {name: a, namespace: ns}\n"
#define VS HEAD("networking.istio.io", "VirtualService")
#define DR HEAD("networking.istio.io", "DestinationRule")
#define GW HEAD("gateway.networking.k8s.io", "Gateway")
#define GC HEAD("gateway.networking.k8s.io", "GatewayClass")
#define HR HEAD("gateway.networking.k8s.io", "HTTPRoute")
#define GR HEAD("gateway.networking.k8s.io", "GRPCRoute")
#define RG HEAD("gateway.networking.k8s.io", "ReferenceGrant")

struct kobj_error_row {
    const char *yaml, *messages;
};

// Each object alone: its messages, as lines by place, and whether it is taken.
void check_kobj_errors(const struct kobj_error_row *rows, size_t n);

// SPDX-License-Identifier: Apache-2.0
//
// istiod (or whoever speaks its protocol) as the CA: IstioCertificateService.CreateCertificate over
// gRPC. Keys are made here, one for each request, and never leave the process; istiod gets a
// certificate request for the SPIFFE id. With `impersonates` the id is also named as the one to be
// impersonated: that is how a node's proxy asks for its pods, as a service account that istiod
// trusts to do so (CA_TRUSTED_NODE_ACCOUNTS).
//
// How many requests there are at a time, their order and back-off are identity.h's. A request that
// is not answered in CA_ISTIOD_TIMEOUT_MS fails.
//
// Thread: control.
#pragma once

#include "common/mesh/identity.h"
#include "common/net/http_client.h"

enum {
    CA_ISTIOD_TIMEOUT_MS = 10000,
    CA_ISTIOD_ANSWER_MAX = 1 << 20, // bytes of a chain with its roots
};

struct ca_istiod_params { // texts are copied
    struct loop *loop;
    const char *address, *alt_name; // grpc_client.h
    struct http_client_file roots, token;
    const struct http_field *metadata;
    size_t n_metadata;
    uint32_t mark;
    enum tls_compliance compliance;
    bool impersonates;
};

struct ca_istiod;

// NULL with a heap-allocated reason. istiod need not be there yet, nor the files.
struct ca_istiod *ca_istiod_open(const struct ca_istiod_params *params, char **ret_error);
struct ca *ca_istiod_ca(struct ca_istiod *ca); // for identity_manager_new

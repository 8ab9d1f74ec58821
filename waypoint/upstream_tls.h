// SPDX-License-Identifier: Apache-2.0
//
// Credentials of TLS with servers, as DestinationRules name them: files, or (credentialName) a
// Secret of the waypoint's own namespace. Made and renewed by the control thread: files are looked
// at every 2 s, Secrets when objects changed. What was good stays in force when its successor is
// broken or gone; what never was good refuses connections with its reason.
//
// Nothing of a key is kept here but BoringSSL's own object, and nothing of it is ever written.
//
// Threads: as said below; "any" is under a lock.
#pragma once

#include "common/l7/l7_policy.h"
#include "common/proto/proxy_protocol.h"
#include "common/tls/tls_handshake.h"

enum { UPSTREAM_NAME_MAX = 256 };

struct loop;
struct proc_mesh;

struct upstream_tls_params {
    struct loop *loop; // control's
    const struct proc_mesh *mesh; // where Secrets are
    const char *ns; // in which namespace
    enum tls_compliance compliance;
};
// Control, before the first policy is compiled; for good.
void upstream_tls_open(const struct upstream_tls_params *params);
void upstream_tls_refresh(void); // control: objects changed
extern const struct l7_tls_ops upstream_tls_ops; // for l7_policy_compile

// Any: sets what a connection to a server needs of TLS: SNI and the names that are accepted. `name`
// is what the client called the server (its Host, or the service's host name); the policy's own sni
// and subjectAltNames count before it, the service's subjectAltNames too. Nothing to set when the
// policy has no TLS. False: there is nothing to connect with, `text` says why. Else the caller
// gives it back.
struct upstream_target;
MUST_USE bool upstream_tls_set(const struct l7_settings *settings, const struct service *service,
                               struct slice name, enum tls_alpn alpn,
                               struct upstream_target *target, char *text, size_t size);
void upstream_tls_unset(struct upstream_target *target);
// Writes what goes ahead of all else (proxyProtocol); returns the length, 0: nothing.
size_t upstream_ahead(const struct l7_settings *settings, const struct addr *client,
                      const struct addr *called, uint8_t ret_header[PROXY_HEADER_MAX]);
// "[Host]:port" without its port and brackets, in lower case; returns the length.
size_t upstream_tls_name(struct slice authority, char ret_name[UPSTREAM_NAME_MAX]);

// Control: visits what cannot be used, or is older than its source.
void upstream_tls_each_problem(void (*fn)(void *arg, const char *name, const char *text),
                               void *arg);

// SPDX-License-Identifier: Apache-2.0
//
// The client's half of incremental (delta) aggregated discovery, as ztunnel speaks it with istiod:
// what is subscribed, which versions are known, what is acknowledged and when to try again.
//
// A response is taken as a whole: good resources are applied, bad ones are named in one NACK and
// their last good version stays, known under its version, so that a server that mends one sends it
// again. On a new stream the server is told what is known, and sends what differs. When that would
// be more than it takes in one message, nothing is told, all comes anew, and what is missing in the
// first response is removed.
//
// On demand (Address only): nothing is subscribed but what xds_client_want() named, as
// "NETWORK/IP", "NS/HOSTNAME" or the uid of a workload. What is there stays subscribed, as in
// ztunnel. What is not stays so, too, but istiod tells of a change by the names that things have in
// it, and of an address not at all; nor does it answer what is subscribed already. So a name that
// is wanted again is subscribed along with a marker. When there are XDS_DEMANDS_MAX names, the
// absent one that was wanted the longest ago makes room.
//
// Pure: messages in and out are bytes, time is an argument. Thread: control.
#pragma once

#include "common/base/buf.h"
#include "common/mesh/xds_decode.h"

struct xds_client;

enum {
    XDS_REQUEST_MAX = 3 << 20, // gRPC servers take 4 MiB unless told otherwise
    XDS_DEMANDS_MAX = 16384,
};

// What comes out of xds_client_recv() and _closed(); all arguments are borrowed for the call.
struct xds_client_ops {
    // False: the resource is refused, with a reason. As xds_decode().
    bool (*set)(void *arg, enum xds_type type, struct slice name, struct slice body,
                char error[XDS_ERROR_MAX]);
    void (*del)(void *arg, enum xds_type type, struct slice name);
    // The response is through. `nack` names what was refused; "" = nothing.
    void (*applied)(void *arg, enum xds_type type, const char *nack);
    // Something that was wanted is there, or is known not to be; after applied(), or when the
    // stream ends before the server said again that it is absent. NULL without on_demand.
    void (*answered)(void *arg, struct slice name, bool exists);
};

struct xds_client_params {
    struct slice node; // encoded (xds_node.h); copied
    bool on_demand;
    uint64_t seed; // of the jitter
    size_t request_max; // bytes of a request; 0 = XDS_REQUEST_MAX
    const struct xds_client_ops *ops;
    void *arg;
};

struct xds_client *xds_client_new(const struct xds_client_params *params);
void xds_client_free(struct xds_client *client); // NULL ok

// The stream is open: the first requests are ready to be pulled.
void xds_client_open(struct xds_client *client, uint64_t now);
// The stream ended, or could not be opened. `is_clean`: the server ended it in order.
void xds_client_closed(struct xds_client *client, bool is_clean, uint64_t now);
// When to open the (next) stream: at once after a clean end, with jitter: 5 to 10 ms; else the
// delay doubles, to 15 s, and begins anew after a stream that was good for half a minute.
uint64_t xds_client_retry_at(const struct xds_client *client);

// The next request, false: none. *ret_message is valid until the next call on the client.
bool xds_client_pull(struct xds_client *client, struct slice *ret_message);
// A response, of *ret_type (enum xds_type; -1: of another one, which is refused). False: it is not
// one, and the stream is to be closed; *ret_error (a literal) says why.
MUST_USE bool xds_client_recv(struct xds_client *client, struct slice message, int *ret_type,
                              const char **ret_error);

// Each type had a response, on any stream; on demand Address need not have any.
bool xds_client_is_ready(const struct xds_client *client);
bool xds_client_has_type(const struct xds_client *client, enum xds_type type);
size_t xds_client_n_known(const struct xds_client *client, enum xds_type type);
size_t xds_client_n_demands(const struct xds_client *client);

enum xds_want {
    XDS_WANT_WAIT, // answered() will tell, with this stream or a later one
    XDS_WANT_ABSENT, // the server said so, and there is no stream to ask again
    XDS_WANT_REFUSED, // XDS_DEMANDS_MAX names are there, or waited for; or it is no name
};
// The name was looked up, and is not there or has nothing to offer: the server is asked, also when
// it was before.
enum xds_want xds_client_want(struct xds_client *client, struct slice name);

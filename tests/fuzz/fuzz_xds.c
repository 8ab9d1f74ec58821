// SPDX-License-Identifier: Apache-2.0
//
// A discovery stream: the input is what a server sends, in pieces (three bytes of length, and the
// message; the stream begins anew after one that is no response). Whatever it is, what the client
// knows is what its user has, and every name that was accepted can be removed.
#include <stdlib.h>

#include "common/mesh/model.h"
#include "common/mesh/snapshot.h"
#include "common/mesh/xds_client.h"
#include "common/mesh/xds_store.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

struct run {
    struct xds_store *store;
    struct xds_client *client;
    size_t n_set, n_refused;
};

static bool on_set(void *arg, enum xds_type type, struct slice name, struct slice body,
                   char error[XDS_ERROR_MAX]) {
    struct run *run = arg;
    struct xds_resource resource;
    struct arena arena;
    arena_init(&arena, 16 << 20);
    error[0] = '\0';
    bool is_good = xds_decode(type, name, body, "", &arena, &resource, error);
    CHECK(is_good == (error[0] == '\0'));
    if (is_good) {
        CHECK((type == XDS_AUTHORIZATION) == (resource.kind == XDS_POLICY));
        xds_store_set(run->store, &resource);
        run->n_set++;
    }
    run->n_refused += !is_good;
    arena_fini(&arena);
    return is_good;
}

static void on_del(void *arg, enum xds_type type, struct slice name) {
    xds_store_del(((struct run *)arg)->store, type, name);
}

static void on_applied(void *arg, enum xds_type type, const char *nack) {
    struct run *run = arg;
    struct builder_changes changes;
    (void)type;
    CHECK(run->n_refused == 0 || nack[0] != '\0');
    run->n_refused = 0;
    xds_store_commit(run->store, &changes);
    builder_changes_fini(&changes);
    CHECK(xds_client_n_known(run->client, XDS_AUTHORIZATION) ==
          xds_store_count(run->store, XDS_POLICY));
    CHECK(xds_client_n_known(run->client, XDS_ADDRESS) <=
          xds_store_count(run->store, XDS_WORKLOAD) + xds_store_count(run->store, XDS_SERVICE));
}

static void on_answered(void *arg, struct slice name, bool exists) {
    (void)arg, (void)name, (void)exists;
}

static void open_stream(struct run *run) {
    struct slice message;
    xds_client_open(run->client, 0);
    CHECK(xds_client_pull(run->client, &message) && message.len > 0);
}

static void play(struct run *run, struct slice input) {
    struct slice message;
    const char *error;
    int type;
    open_stream(run);
    while (input.len >= 3) {
        size_t len = (size_t)input.ptr[0] << 16 | (size_t)input.ptr[1] << 8 | input.ptr[2];
        input = slice_skip(input, 3);
        if (!xds_client_recv(run->client, slice_head(input, len), &type, &error)) {
            xds_client_closed(run->client, false, 0);
            open_stream(run);
        }
        while (xds_client_pull(run->client, &message)) {
            CHECK(message.len > 0);
        }
        input = slice_skip(input, len);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len) {
    static const struct xds_client_ops ops = {on_set, on_del, on_applied, on_answered};
    struct mesh_settings mesh = {.trust_domain = "cluster.local"};
    struct run run = {0};
    if (len == 0) {
        return 0;
    }
    snapshot_init(&mesh);
    struct xds_client_params params = {.node = SLICE_LIT("node"),
                                       .on_demand = data[0] % 2 != 0,
                                       .request_max = data[0] % 4 < 2 ? 0 : 1200,
                                       .ops = &ops,
                                       .arg = &run};
    run.store = xds_store_new("node-1");
    run.client = xds_client_new(&params);
    if (params.on_demand) {
        CHECK(xds_client_want(run.client, SLICE_LIT("/10.0.0.7")) == XDS_WANT_WAIT);
    }
    play(&run, slice_make(data + 1, len - 1));
    xds_client_free(run.client);
    xds_store_free(run.store);
    snapshot_fini();
    CHECK(leaf_count() == 0);
    return 0;
}

// SPDX-License-Identifier: Apache-2.0
//
// xds_probe [--services=10000] [--endpoints=100000] [--changes=200]: what the mesh of scale_probe
// costs the control thread when istiod sends it, without the network, in CPU time:
//
//   load_cpu_s  one response with everything, in bytes, to a published root
//   change_us   a response with one endpoint to its published root: mean, and the worst
//   bytes_kb    resident memory that it took, without the response
//
// JSON on stdout.
#include "bench/tools/xds_mesh.h"
#include "common/base/arena.h"
#include "common/mesh/xds_client.h"
#include "common/mesh/xds_store.h"

enum { RESOURCE_MEMORY_MAX = 64 << 20 };

struct probe {
    struct xds_client *client;
    struct xds_store *store;
    struct arena scratch;
};

static bool on_set(void *arg, enum xds_type type, struct slice name, struct slice body,
                   char error[XDS_ERROR_MAX]) {
    struct probe *probe = arg;
    struct xds_resource resource;
    bool is_good = xds_decode(type, name, body, "", &probe->scratch, &resource, error);
    if (is_good) {
        xds_store_set(probe->store, &resource);
    }
    arena_reset(&probe->scratch);
    return is_good;
}

static void on_del(void *arg, enum xds_type type, struct slice name) {
    const struct probe *probe = arg;
    xds_store_del(probe->store, type, name);
}

static void on_applied(void *arg, enum xds_type type, const char *nack) {
    const struct probe *probe = arg;
    struct builder_changes changes;
    if (nack[0] != '\0') {
        die("refused: %s", nack);
    }
    xds_store_commit(probe->store, &changes);
    builder_changes_fini(&changes);
}

static void receive(const struct probe *probe, const struct buf *response) {
    int type;
    const char *error;
    struct slice ack;
    if (!xds_client_recv(probe->client, buf_slice(response), &type, &error)) {
        die("%s", error);
    }
    while (xds_client_pull(probe->client, &ack)) {
    }
}

static void change(const struct probe *probe, const struct xds_mesh *mesh, uint64_t n_changes,
                   double *ret_mean_us, double *ret_max_us) {
    double sum = 0;
    *ret_max_us = 0;
    for (uint64_t i = 0; i < n_changes; i++) {
        struct buf response;
        buf_init(&response, SIZE_MAX);
        xds_mesh_change(&response, mesh, i, i + 2);
        double begin = own_cpu_s();
        receive(probe, &response);
        double us = (own_cpu_s() - begin) * 1e6;
        sum += us;
        *ret_max_us = us > *ret_max_us ? us : *ret_max_us;
        snapshot_quiescent();
        snapshot_reclaim();
        buf_fini(&response);
    }
    *ret_mean_us = n_changes > 0 ? sum / (double)n_changes : 0;
}

static void measure(const struct xds_mesh *mesh, uint64_t n_changes) {
    static const struct xds_client_ops ops = {.set = on_set, .del = on_del, .applied = on_applied};
    struct mesh_settings settings = {.cluster_domain = "cluster.local",
                                     .trust_domain = "cluster.local",
                                     .root_namespace = "istio-system",
                                     .cluster_id = "Kubernetes",
                                     .network = ""};
    struct probe probe = {0};
    struct xds_client_params params = {.ops = &ops, .arg = &probe};
    struct buf response;
    double mean_us, max_us;
    snapshot_init(&settings);
    snapshot_thread_register();
    probe.client = xds_client_new(&params);
    probe.store = xds_store_new("near");
    arena_init(&probe.scratch, RESOURCE_MEMORY_MAX);
    buf_init(&response, SIZE_MAX);
    xds_mesh_all(&response, mesh, 1);
    xds_client_open(probe.client, 0);

    uint64_t before_kb = load_resident_kb();
    double begin = own_cpu_s();
    receive(&probe, &response);
    double load_s = own_cpu_s() - begin;
    uint64_t after_kb = load_resident_kb();
    if (snapshot_current()->workloads.n_items != mesh->n_endpoints ||
        snapshot_current()->services.n_items != mesh->n_services) {
        die("the snapshot has %zu workloads and %zu services",
            (size_t)snapshot_current()->workloads.n_items,
            (size_t)snapshot_current()->services.n_items);
    }
    change(&probe, mesh, n_changes, &mean_us, &max_us);
    printf("{\"services\": %lu, \"endpoints\": %lu, \"response_kb\": %zu, \"load_cpu_s\": %.4f, "
           "\"bytes_kb\": %lu, \"changes\": %lu, \"change_us\": %.1f, \"change_max_us\": %.1f}\n",
           mesh->n_services, mesh->n_endpoints, response.len / 1024, load_s, after_kb - before_kb,
           n_changes, mean_us, max_us);
    fflush(stdout);
    // The program ends: nobody needs the memory back in pieces.
}

int main(int argc, char **argv) {
    struct xds_mesh mesh = {.n_services = 10000, .n_endpoints = 100000};
    uint64_t n_changes = 200;
    const struct load_option options[] = {{"services", &mesh.n_services, 1000000},
                                          {"endpoints", &mesh.n_endpoints, 10000000},
                                          {"changes", &n_changes, 1000000},
                                          {NULL, NULL, 0}};
    const char *usage = "xds_probe [--services=10000] [--endpoints=100000] [--changes=200]";
    if (load_options(argc, argv, options, usage) != 0 || mesh.n_services == 0 ||
        mesh.n_endpoints < mesh.n_services) {
        die("usage: %s", usage);
    }
    measure(&mesh, n_changes);
    return 0;
}

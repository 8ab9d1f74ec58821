// SPDX-License-Identifier: Apache-2.0
//
// micro_probe [--n=200]: the hot pure modules, each as often as asked for, with nothing around
// them. Under callgrind it dumps the instructions of each case under its name, which bench/micro.py
// reads; alone it prints the CPU time of one.
#include <urcu-qsbr.h>
#include <valgrind/callgrind.h>

#include "bench/tools/mesh_objects.h"
#include "bench/tools/route_table.h"
#include "common/l7/l7_lb.h"
#include "common/mesh/rbac.h"
#include "common/proto/h2_conn.h"
#include "common/proto/h2_hpack.h"
#include "common/tls/tls_record.h"

enum { N_RULES = 1000, N_HOSTS = 10, N_PODS = 2000, N_SERVICES = 200, N_POLICIES = 20 };

static uint64_t n_times = 200;
static struct blk_pool pool;

// Work of a case: `i` counts from 0. What it needs is made by its first call, which is not counted.
struct micro {
    const char *name;
    void (*run)(uint64_t i);
};

// ---- Records

static struct { struct tls_record *from, *to; } records;

static void records_init(void) {
    static const uint8_t secret[32] = {1};
    struct slice s = slice_make(secret, sizeof(secret));
    if (records.from == NULL) {
        records.from = tls_record_new(TLS_SUITE_AES_128_GCM_SHA256, s, 0, s, 0);
        records.to = tls_record_new(TLS_SUITE_AES_128_GCM_SHA256, s, 0, s, 0);
    }
}

// Sealed and opened: one without the other would run out of records.
static void record(uint32_t len) {
    struct chain plain, out;
    struct seg seg;
    records_init();
    chain_init(&plain, &pool);
    chain_init(&out, &pool);
    struct blk *blk = blk_new_cold(&pool, BLK_HEADROOM + len + BLK_TAILROOM);
    memset(blk->base + BLK_HEADROOM, 'x', len);
    chain_give_room(&plain, blk, BLK_HEADROOM, len, BLK_HEADROOM, BLK_TAILROOM);
    tls_record_seal(records.from, &plain, &out, SIZE_MAX);
    while (chain_pop(&out, &seg)) {
        size_t used, off, data_len, need;
        if (tls_record_open(records.to, seg_ptr(&seg), seg.len, &used, &off, &data_len, &need) !=
                TLS_OPEN_DATA ||
            data_len != len) {
            die("a record does not open");
        }
        blk_unref(seg.blk);
    }
}

static void record_small(uint64_t i) {
    (void)i;
    record(64);
}

static void record_large(uint64_t i) {
    (void)i;
    record(16384 - 64);
}

// ---- Heads and frames

static const struct http_field request_fields[] = {
    {SLICE_LIT(":method"), SLICE_LIT("GET"), false},
    {SLICE_LIT(":scheme"), SLICE_LIT("http"), false},
    {SLICE_LIT(":authority"), SLICE_LIT("web.shop.svc.cluster.local"), false},
    {SLICE_LIT(":path"), SLICE_LIT("/api/v1/dir77/view?page=2"), false},
    {SLICE_LIT("user-agent"), SLICE_LIT("bench"), false},
    {SLICE_LIT("accept"), SLICE_LIT("*/*"), false},
    {SLICE_LIT("x-request-id"), SLICE_LIT("6b1fe7a2-4b0c-4a4e-9d8e-0f6a1c2d3e4f"), false},
};

static void hpack(uint64_t i) {
    static struct h2_hpack_dec dec;
    uint8_t block[1024];
    struct http_field field;
    size_t n = 0;
    (void)i;
    h2_hpack_dec_init(&dec, 0);
    size_t len = h2_hpack_encode(request_fields, ARRAY_LEN(request_fields), block, sizeof(block));
    struct slice in = slice_make(block, len);
    while (h2_hpack_decode(&dec, &in, true, &field) == H2_HPACK_FIELD) {
        n++;
    }
    if (n != ARRAY_LEN(request_fields)) {
        die("%zu fields", n);
    }
    h2_hpack_dec_fini(&dec);
}

static struct h2_conn *client, *server;

// Everything that one end has to say goes to the other, whose events are looked at.
static bool carry(struct h2_conn *from, struct h2_conn *to, uint64_t *ret_data) {
    struct chain out;
    struct seg seg;
    struct h2_event event;
    bool any = false;
    chain_init(&out, &pool);
    while (h2_conn_wants_write(from) && h2_conn_pull(from, &out, 65536) > 0) {
        any = true;
    }
    while (h2_conn_next(from, &event)) {
    }
    while (chain_pop(&out, &seg)) {
        uint32_t done = 0;
        while (done < seg.len) {
            uint32_t used = 0;
            h2_conn_recv(to, seg.blk, seg.off + done, seg.len - done, 1, &used);
            done += used;
            while (h2_conn_next(to, &event)) {
                if (event.type == H2_EV_CONN_ERROR) {
                    die("%s", h2_err_text(event.err));
                }
                if (event.type == H2_EV_DATA) {
                    *ret_data += event.len;
                    h2_stream_consumed(event.stream, event.len);
                }
                if (event.type == H2_EV_HEADERS && to == server) {
                    static const struct http_field ok = {SLICE_LIT(":status"), SLICE_LIT("200"),
                                                         false};
                    struct chain body;
                    chain_init(&body, &pool);
                    struct blk *blk = blk_new_cold(&pool, BLK_HEADROOM + 1024 + BLK_TAILROOM);
                    memset(blk->base, 'x', BLK_HEADROOM + 1024);
                    chain_give_room(&body, blk, BLK_HEADROOM, 1024, BLK_HEADROOM, BLK_TAILROOM);
                    h2_stream_send_headers(event.stream, &ok, 1, false);
                    h2_stream_send_data(event.stream, &body, true);
                }
            }
        }
        blk_unref(seg.blk);
    }
    return any;
}

// A request without and an answer with a body of 1 KB, both ends.
static void h2_exchange(uint64_t i) {
    uint64_t n_data = 0;
    (void)i;
    if (client == NULL) {
        struct h2_config config;
        h2_config_init_http(&config, false);
        client = h2_conn_new(&config, false, &pool, 1);
        h2_config_init_http(&config, true);
        server = h2_conn_new(&config, true, &pool, 1);
    }
    enum h2_err err;
    if (h2_stream_open(client, request_fields, ARRAY_LEN(request_fields), true, NULL, &err) ==
        NULL) {
        die("no stream: %s", h2_err_text(err));
    }
    bool any = true;
    while (any) {
        any = carry(client, server, &n_data);
        any = carry(server, client, &n_data) || any;
    }
    if (n_data != 1024) {
        die("%lu bytes", (unsigned long)n_data);
    }
}

// ---- Decisions

static void route(uint64_t i) {
    static const struct l7_routes *routes;
    static const char *paths[N_RULES];
    struct l7_request request;
    struct l7_match match;
    if (routes == NULL) {
        static struct kobj_string_match uris[N_RULES];
        arena_init(&route_arena, SIZE_MAX);
        for (int n = 0; n < N_RULES; n++) {
            uris[n] = (struct kobj_string_match){.kind = KOBJ_MATCH_PREFIX,
                                                 .text = route_text("/api/v1/dir%d/", n)};
            paths[n] = route_text("/api/v1/dir%d/view", n);
        }
        routes = l7_routes_of_leaf(route_compile(uris, N_RULES));
    }
    const struct http_head head = {.method = SLICE_LIT("GET"),
                                   .scheme = SLICE_LIT("http"),
                                   .authority = SLICE_LIT("web"),
                                   .path = slice_str(paths[i * 7919 % N_RULES]),
                                   .version = HTTP_11};
    l7_request_init(&request, &head, 80, NULL);
    l7_routes_match(routes, &request, NULL, &match);
    if (match.route == NULL) {
        die("no route");
    }
}

static struct l7_lb *make_lb(void) {
    static struct workload workloads[N_HOSTS];
    static struct endpoint endpoints[N_HOSTS];
    static struct l7_host hosts[N_HOSTS];
    static struct l7_host_cell cells[N_HOSTS];
    static struct l7_lb_cell cell;
    static struct service service;
    static struct l7_settings settings;
    static uint16_t port = 8080;
    static const struct workload_common common = {
        .ns = "shop", .hostname = "", .cluster = "", .network = "", .locality = {"", "", ""}};
    const struct l7_subset *subset;
    settings = *l7_policy_find(NULL, "", 80, &subset);
    for (int i = 0; i < N_HOSTS; i++) {
        workloads[i] = (struct workload){.ns = "shop", .node = "", .common = &common};
        endpoints[i] = (struct endpoint){.workload = &workloads[i],
                                         .target_ports = &port,
                                         .is_ready = true,
                                         .weight = 1,
                                         .ip = {4, {10, 0, 0, (uint8_t)(i + 1)}}};
    }
    service = (struct service){.endpoints = endpoints, .n_endpoints = N_HOSTS, .n_ports = 1};
    if (l7_lb_hosts(&service, NULL, 0, hosts, N_HOSTS) != N_HOSTS) {
        die("no hosts");
    }
    for (int i = 0; i < N_HOSTS; i++) {
        hosts[i].cell = &cells[i];
    }
    return l7_lb_new(&(struct l7_lb_spec){.hosts = hosts,
                                          .n_hosts = N_HOSTS,
                                          .service = &service,
                                          .settings = &settings,
                                          .cell = &cell});
}

static void lb_pick(uint64_t i) {
    static struct l7_lb *lb;
    static struct rand rand;
    if (lb == NULL) {
        lb = make_lb();
        rand_seed(&rand, 4711);
    }
    if (l7_lb_pick(lb, &(struct l7_lb_pick){.rand = &rand, .now_ms = 1000000 + i}) == NULL) {
        die("no host");
    }
}

// ---- A mesh

static struct mesh_builder *builder;

static void mesh_write(FILE *out, uint64_t i, uint64_t version) {
    uint64_t app = i % N_SERVICES;
    fprintf(out,
            "---\napiVersion: v1\nkind: Pod\n"
            "metadata: {name: app%lu-%05lu, namespace: shop, labels: {app: app%lu, v: \"%lu\"}}\n"
            "spec: {nodeName: far, serviceAccountName: app%lu, containers: [{name: c, image: i}]}\n"
            "status: {phase: Running, podIP: 11.0.%lu.%lu}\n",
            app, i, app, version, app, i >> 8, i & 255);
}

static void mesh_init(void) {
    char *text = NULL;
    size_t len = 0;
    struct objects objects;
    FILE *out = builder == NULL ? open_memstream(&text, &len) : NULL;
    if (out == NULL) {
        return;
    }
    for (int i = 0; i < N_SERVICES; i++) {
        fprintf(out,
                "---\napiVersion: v1\nkind: Service\nmetadata: {name: app%d, namespace: shop}\n"
                "spec: {clusterIP: 12.0.0.%d, selector: {app: app%d}, ports: [{port: 80}]}\n",
                i, i + 1, i);
    }
    for (int i = 0; i < N_POLICIES; i++) {
        fprintf(out,
                "---\napiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\n"
                "metadata: {name: p%d, namespace: shop}\nspec: {rules: [{from: [{source: "
                "{principals: [cluster.local/ns/shop/sa/app%d]}}], "
                "to: [{operation: {ports: [\"80\"]}}]}]}\n",
                i, i);
    }
    for (uint64_t i = 0; i < N_PODS; i++) {
        mesh_write(out, i, 0);
    }
    fclose(out);
    builder = objects_builder();
    objects_init(&objects, N_PODS + N_SERVICES + N_POLICIES);
    objects_decode((struct slice){(const uint8_t *)text, len}, &objects);
    objects_publish(builder, &objects);
    objects_fini(&objects);
    free(text);
}

static bool first_workload(void *arg, void *value) {
    *(const struct workload **)arg = value;
    return false;
}

// The last of the policies is the one that allows.
static void policy_check(uint64_t i) {
    static const struct workload *destination;
    (void)i;
    mesh_init();
    if (destination == NULL) {
        pmap_each(&snapshot_current()->workloads, first_workload, &destination);
    }
    struct rbac_request request = {
        .source_ip = {4, {11, 0, 0, 1}},
        .source_identity = SLICE_LIT("spiffe://cluster.local/ns/shop/sa/app19"),
        .destination = {.ip = {4, {11, 0, 0, 2}}, .port = 80},
    };
    struct rbac_verdict verdict;
    rbac_check(snapshot_current(), destination, &request, &verdict);
    if (!verdict.is_allowed || verdict.policy == NULL) {
        die("not allowed: %s", verdict.reason);
    }
}

// One pod's change, decoded before, to the published root.
static struct objects changes;
static uint64_t n_published;

static void changes_decode(void) {
    char *text = NULL;
    size_t len = 0;
    FILE *out = open_memstream(&text, &len);
    mesh_init();
    for (uint64_t i = 0; out != NULL && i <= n_times; i++) {
        mesh_write(out, i * 7919 % N_PODS, i + 1);
    }
    if (out == NULL || fclose(out) != 0) {
        die("no memory");
    }
    objects_init(&changes, n_times + 1);
    objects_decode((struct slice){(const uint8_t *)text, len}, &changes);
    free(text);
}

static void snapshot_update(uint64_t i) {
    if (changes.items == NULL) {
        changes_decode();
    }
    struct objects one = changes;
    one.items = &changes.items[n_published++];
    one.n = 1;
    objects_publish(builder, &one);
    rcu_barrier(); // or it would depend on the machine's load which call frees this root
    snapshot_reclaim();
    (void)i;
}

static const struct micro cases[] = {
    {"record-64", record_small},
    {"record-16k", record_large},
    {"hpack", hpack},
    {"h2-exchange", h2_exchange},
    {"route-match", route},
    {"lb-pick", lb_pick},
    {"policy-check", policy_check},
    {"snapshot-update", snapshot_update},
};

int main(int argc, char **argv) {
    const struct load_option options[] = {{"n", &n_times, 1000000}, {NULL, NULL, 0}};
    if (load_options(argc, argv, options, "micro_probe [--n=200]") != 0 || n_times == 0) {
        die("usage: micro_probe [--n=200]");
    }
    blk_pool_init(&pool, 4);
    printf("{");
    for (size_t c = 0; c < ARRAY_LEN(cases); c++) {
        cases[c].run(0);
        double begin = own_cpu_s();
        CALLGRIND_ZERO_STATS;
        for (uint64_t i = 0; i < n_times; i++) {
            cases[c].run(i);
        }
        CALLGRIND_DUMP_STATS_AT(cases[c].name);
        printf("%s\"%s\": %.1f", c > 0 ? ", " : "", cases[c].name,
               (own_cpu_s() - begin) / (double)n_times * 1e9);
    }
    printf("}\n");
    return 0;
}

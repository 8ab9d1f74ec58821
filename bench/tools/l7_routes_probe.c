// SPDX-License-Identifier: Apache-2.0
//
// l7_routes_probe [--ms=300]: CPU time of one look-up in route tables of a waypoint: with one rule,
// and with thousands. The requests ask for the rules in a random order, so that a table is not
// warmer than its traffic makes it. JSON on stdout.
#include "bench/tools/route_table.h"

enum { N_MANY = 10000, N_REGEX = 1000, N_REQUESTS = 4096, BATCH = 4096 };

static uint64_t random_below(uint64_t n) {
    static uint64_t x = 0x9e3779b97f4a7c15;
    x ^= x << 13;
    x ^= x >> 7;
    x ^= x << 17;
    return x % n;
}

static const struct http_field fields[] = {
    {SLICE_LIT("user-agent"), SLICE_LIT("bench"), false},
    {SLICE_LIT("accept"), SLICE_LIT("*/*"), false},
    {SLICE_LIT("x-forwarded-proto"), SLICE_LIT("http"), false},
    {SLICE_LIT("x-request-id"), SLICE_LIT("6b1fe7a2-4b0c-4a4e-9d8e-0f6a1c2d3e4f"), false},
};

static void measure(const char *name, const struct kobj_string_match *uris, size_t n,
                    const char *const *paths, uint64_t ms, const char *comma) {
    struct leaf *leaf = route_compile(uris, n);
    const struct l7_routes *routes = l7_routes_of_leaf(leaf);
    static struct http_head heads[N_REQUESTS];
    for (size_t i = 0; i < N_REQUESTS; i++) {
        heads[i] = (struct http_head){.method = SLICE_LIT("GET"),
                                      .scheme = SLICE_LIT("http"),
                                      .authority = SLICE_LIT("web"),
                                      .path = slice_str(paths[random_below(n)]),
                                      .fields = (struct http_field *)(uintptr_t)fields,
                                      .n_fields = ARRAY_LEN(fields),
                                      .version = HTTP_11};
    }
    uint64_t n_done = 0;
    double best = 1e9, begin = own_cpu_s();
    do {
        double start = own_cpu_s();
        for (size_t i = 0; i < BATCH; i++) {
            struct l7_request request;
            struct l7_match match;
            l7_request_init(&request, &heads[i % N_REQUESTS], 80, NULL);
            l7_routes_match(routes, &request, NULL, &match);
            if (match.route == NULL) {
                die("%s: no rule for a path", name);
            }
        }
        n_done += BATCH;
        double ns = (own_cpu_s() - start) / BATCH * 1e9;
        best = ns < best ? ns : best;
    } while (own_cpu_s() - begin < (double)ms * 1e-3);
    printf("%s\"%s\": {\"rules\": %zu, \"ns\": %.1f, \"best_ns\": %.1f}", comma, name, n,
           (own_cpu_s() - begin) / (double)n_done * 1e9, best);
    leaf_unref(leaf);
}

int main(int argc, char **argv) {
    uint64_t ms = 300;
    const struct load_option options[] = {{"ms", &ms, 10000}, {NULL, NULL, 0}};
    if (load_options(argc, argv, options, "l7_routes_probe [--ms=300]") != 0) {
        die("usage: l7_routes_probe [--ms=300]");
    }
    static struct kobj_string_match uris[3][N_MANY];
    static const char *paths[3][N_MANY];
    static const struct kobj_string_match all = {.kind = KOBJ_MATCH_PREFIX, .text = "/"};
    arena_init(&route_arena, SIZE_MAX);
    for (int i = 0; i < N_MANY; i++) {
        paths[0][i] = route_text("/api/v1/item%d/view", i);
        paths[1][i] = route_text("/api/v1/dir%d/view", i);
        paths[2][i] = route_text("/api/v12/re%d/view", i);
        uris[0][i] = (struct kobj_string_match){.kind = KOBJ_MATCH_EXACT, .text = paths[0][i]};
        uris[1][i] = (struct kobj_string_match){.kind = KOBJ_MATCH_PREFIX,
                                                .text = route_text("/api/v1/dir%d/", i)};
        uris[2][i] = (struct kobj_string_match){.kind = KOBJ_MATCH_REGEX,
                                                .text = route_text("/api/v[0-9]+/re%d/.*", i)};
    }
    printf("{");
    measure("one", &all, 1, paths[0], ms, "");
    measure("exact", uris[0], N_MANY, paths[0], ms, ", ");
    measure("prefix", uris[1], N_MANY, paths[1], ms, ", ");
    measure("regex", uris[2], N_REGEX, paths[2], ms, ", ");
    printf("}\n");
    return 0;
}

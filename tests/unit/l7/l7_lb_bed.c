// SPDX-License-Identifier: Apache-2.0
#include "tests/unit/l7/l7_lb_bed.h"

#include <stdio.h>

#include "tests/unit/l7/l7_fixture.h"

static const char *or_empty(const char *text) {
    return text != NULL ? text : "";
}

void lb_bed_init(struct lb_bed *bed, size_t n, const struct place *places, uint8_t kind) {
    const struct l7_subset *subset;
    memset(bed, 0, sizeof(*bed));
    bed->settings = *l7_policy_find(NULL, "", 80, &subset);
    bed->settings.lb.kind = kind;
    bed->ports[0] = 8080;
    bed->n = n;
    bed->now_ms = 1000000;
    rand_seed(&bed->rand, 4711);
    for (size_t i = 0; i < n; i++) {
        static const struct place nowhere = {.weight = 1};
        const struct place *place = places != NULL ? &places[i] : &nowhere;
        char text[32];
        snprintf(text, sizeof(text), "10.0.0.%zu", i + 1);
        bed->labels[i] = (struct label){"version", or_empty(place->label)};
        bed->commons[i] = (struct workload_common){
            .ns = "shop",
            .hostname = "",
            .cluster = "",
            .network = or_empty(place->network),
            .locality = {or_empty(place->region), or_empty(place->zone), or_empty(place->subzone)},
            .labels = &bed->labels[i],
            .n_labels = 1};
        bed->workloads[i] = (struct workload){
            .ns = "shop", .node = or_empty(place->node), .common = &bed->commons[i]};
        bed->endpoints[i] = (struct endpoint){.workload = &bed->workloads[i],
                                              .target_ports = bed->ports,
                                              .is_ready = true,
                                              .weight = place->weight};
        assert_true(ip_parse(slice_str(text), &bed->endpoints[i].ip));
    }
    bed->service =
        (struct service){.endpoints = bed->endpoints, .n_endpoints = (uint32_t)n, .n_ports = 1};
}

void lb_bed_start(struct lb_bed *bed, const struct workload *source) {
    size_t n = l7_lb_hosts(&bed->service, NULL, 0, bed->hosts, HOSTS_MAX);
    assert_int_equal(n, bed->n);
    for (size_t i = 0; i < n; i++) {
        bed->hosts[i].cell = &bed->cells[i];
    }
    l7_lb_free(bed->lb);
    bed->lb = l7_lb_new(&(struct l7_lb_spec){.hosts = bed->hosts,
                                             .n_hosts = n,
                                             .service = &bed->service,
                                             .settings = &bed->settings,
                                             .source = source,
                                             .cell = &bed->cell});
}

void lb_eject(struct lb_bed *bed, size_t first, size_t n, bool is_ejected) {
    for (size_t i = first; i < first + n; i++) {
        atomic_store(&bed->cells[i].is_ejected, is_ejected);
    }
    atomic_fetch_add(&bed->cell.generation, 1);
}

int lb_pick(struct lb_bed *bed, const struct l7_lb_pick *more) {
    struct l7_lb_pick request = more != NULL ? *more : (struct l7_lb_pick){0};
    request.rand = &bed->rand;
    request.now_ms = bed->now_ms;
    const struct l7_host *host = l7_lb_pick(bed->lb, &request);
    return host != NULL ? (int)(host->cell - bed->cells) : -1;
}

void lb_count(struct lb_bed *bed, int n_picks, int counts[HOSTS_MAX]) {
    memset(counts, 0, HOSTS_MAX * sizeof(*counts));
    for (int i = 0; i < n_picks; i++) {
        int host = lb_pick(bed, NULL);
        assert_in_range(host, 0, HOSTS_MAX - 1);
        counts[host]++;
    }
}

void assert_shares(const int *counts, const double *shares, size_t n) {
    double chi = 0, total = 0;
    int degrees = -1;
    for (size_t i = 0; i < n; i++) {
        total += counts[i];
    }
    for (size_t i = 0; i < n; i++) {
        double expect = shares[i] * total;
        if (expect == 0) {
            assert_int_equal(counts[i], 0);
            continue;
        }
        chi += (counts[i] - expect) * (counts[i] - expect) / expect;
        degrees++;
    }
    double k = degrees > 0 ? degrees : 1, t = 2.0 / (9 * k);
    double base = 1 - t + 3.09 * __builtin_sqrt(t);
    if (chi > k * base * base * base) {
        fail_msg("chi-square %.1f of %d degrees", chi, degrees);
    }
}

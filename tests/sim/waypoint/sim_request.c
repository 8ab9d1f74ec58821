// SPDX-License-Identifier: Apache-2.0
//
// Requests, and what must hold of what comes back.
#include <stdlib.h>

#include "tests/sim/waypoint/sim_waypoint.h"

static size_t some_len(struct sim *sim) {
    switch (rand_below(&sim->rand, 8)) {
    case 0:
        return (size_t)rand_below(&sim->rand, 150000);
    case 1:
    case 2:
        return (size_t)rand_below(&sim->rand, 20000);
    case 3:
    case 4:
        return (size_t)rand_below(&sim->rand, 300);
    default:
        return 0;
    }
}

struct sim_request *sim_request_new(struct sim *sim, bool can_upgrade) {
    CHECK(sim->n_requests < SIM_REQUESTS_MAX && sim->n_to_start > 0);
    sim->n_to_start--;
    struct sim_request *request = &sim->requests[sim->n_requests];
    *request = (struct sim_request){
        .id = sim->n_requests++,
        .route = (uint8_t)rand_below(&sim->rand, SIM_N_ROUTES),
        .key = rand_u64(&sim->rand),
        .len = some_len(sim),
        .has_length = sim_chance(sim, 1, 2),
        .n_try = -1,
    };
    request->is_head = request->len == 0 && sim_chance(sim, 1, 6);
    request->has_trailers = request->len > 0 && !request->has_length && sim_chance(sim, 1, 4);
    if (rand_chance(&sim->rand, 1, 2)) { // half of them where the most can happen
        request->route = rand_chance(&sim->rand, 1, 2) ? SIM_RETRY : SIM_PLAIN;
    }
    request->expects = request->len > 0 && sim_chance(sim, 1, 5);
    if (can_upgrade && sim_chance(sim, 1, 6)) {
        static const uint8_t routes[] = {SIM_PLAIN, SIM_NO_RETRY, SIM_RETRY, SIM_TIMEOUT};
        request->is_ws = true;
        request->route = routes[rand_below(&sim->rand, ARRAY_LEN(routes))];
        request->ends_first = sim_chance(sim, 1, 2);
        request->is_head = request->has_length = request->has_trailers = request->expects = false;
    }
    return request;
}

void sim_request_on_informational(struct sim_request *request, uint16_t status) {
    CHECK(!request->has_head && (status == 100 || status == 103));
    CHECK(status != 100 || request->expects);
    request->n_informational++;
    request->may_go = request->may_go || status == 100;
}

bool sim_request_may_send_body(struct sim *sim, struct sim_request *request) {
    request->may_go =
        request->may_go || !request->expects || request->has_head || sim_chance(sim, 1, 100);
    return request->may_go;
}

static void check_informational(const struct sim *sim, const struct sim_request *request) {
    uint32_t n = 0;
    for (uint32_t i = 0; i < request->n_tries; i++) {
        n += request->tries[i].n_informational;
    }
    CHECK(request->n_informational <= n && (sim->has_faults || request->n_informational == n));
}

void sim_request_on_head(struct sim_request *request, uint16_t status, const char *try,
                         const char *key, const char *len) {
    CHECK(!request->has_head);
    request->has_head = true;
    request->status = status;
    if (try == NULL || try[0] == '\0') {
        return;
    }
    request->n_try = (int32_t)strtol(try, NULL, 10);
    CHECK((uint32_t)request->n_try < request->n_tries);
    const struct sim_try *from = &request->tries[request->n_try];
    for (uint32_t i = 0; i < request->n_tries; i++) { // it is the last one
        CHECK(request->tries[i].attempt <= from->attempt);
    }
    request->answer_key = strtoull(key, NULL, 10);
    request->answer_len = strtoull(len, NULL, 10);
    CHECK(from->key == request->answer_key && from->len == request->answer_len);
    if (from->is_tunnel) { // 101 or 200, by the version of HTTP
        CHECK(status == 101 || status == 200);
    } else {
        CHECK(from->status == status);
    }
}

bool sim_request_has_tunnel(const struct sim_request *request) {
    return request->n_try >= 0 && request->tries[request->n_try].is_tunnel;
}

void sim_request_on_body(struct sim_request *request, const uint8_t *bytes, size_t len) {
    CHECK(request->has_head && !request->is_head);
    if (request->n_try >= 0) {
        sim_check(request->answer_key, request->n_answer, bytes, len);
    }
    request->n_answer += len;
}

// A complete answer: all of what the one server said, or one of the waypoint's own.
void sim_request_on_end(struct sim *sim, struct sim_request *request) {
    CHECK(request->has_head && !request->has_end);
    sim_tracef(sim, "client: request %u: %u, %zu bytes", request->id, request->status,
               request->n_answer);
    request->has_end = request->is_over = true;
    check_informational(sim, request);
    if (request->n_try >= 0) {
        CHECK(request->n_answer == (request->is_head ? 0 : request->answer_len));
    } else if (request->route == SIM_DIRECT) {
        CHECK(request->status == 200 && (request->is_head || request->n_answer == 15));
    } else {
        CHECK(request->status >= 300);
    }
}

void sim_request_on_cut(struct sim *sim, struct sim_request *request) {
    if (!request->is_over) {
        sim_tracef(sim, "client: request %u is cut, after %zu bytes", request->id,
                   request->n_answer);
        request->is_over = true;
        CHECK(sim->has_faults);
    }
}

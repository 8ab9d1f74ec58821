// SPDX-License-Identifier: Apache-2.0
//
// Endpoints. Each request that comes is a try of one that a client made: what was sent of it before
// has to allow another one. What the server does about it is drawn when its head is there.
#include "tests/sim/waypoint/sim_server.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "waypoint/websocket.h"

enum { PIECE_MAX = 8000, LONG_MS = 2500 };

// ---- tries -------------------------------------------------------------------------------------

// May the waypoint send this request once more, after all that its servers said so far? What one
// has seen and not refused is not sent again unless the route says so, or it may be repeated and
// its connection was lost. (What a server answered may have got lost with it.)
static void check_retry(const struct sim_request *request, uint32_t attempt) {
    bool is_idempotent = request->len == 0 || request->is_ws; // GET, HEAD
    uint32_t max = request->route == SIM_RETRY ? 4 : request->route == SIM_NO_RETRY ? 1 : 3;
    if (is_idempotent && request->route != SIM_NO_RETRY) {
        max += 2;
    }
    for (uint32_t i = 0; i < request->n_tries; i++) {
        CHECK(request->tries[i].attempt != attempt);
    }
    // Never behind an answer that has begun; one before it may come late.
    CHECK(request->n_try < 0 || attempt < request->tries[request->n_try].attempt);
    CHECK(request->n_tries < max);
    for (uint32_t i = 0; i < request->n_tries; i++) {
        CHECK(request->route == SIM_RETRY || is_idempotent ||
              request->tries[i].outcome == SIM_TRY_REFUSED);
        CHECK(request->tries[i].n_read == 0 || !request->is_ws); // bytes have gone
    }
}

static struct sim_try *new_try(struct sim_server_conn *conn, struct sim_request *request,
                               uint32_t attempt) {
    struct sim *sim = conn->sim;
    bool is_mirror = conn->host->is_mirror;
    struct sim_try *try = &request->mirror;
    CHECK(request->is_sent);
    if (is_mirror) {
        CHECK(request->route == SIM_MIRROR && request->n_mirrored++ == 0);
    } else {
        CHECK(request->route != SIM_DIRECT && request->route != SIM_REDIRECT &&
              request->route != SIM_NOWHERE);
        check_retry(request, attempt);
        CHECK(request->n_tries < SIM_TRIES_MAX);
        try = &request->tries[request->n_tries++];
    }
    *try = (struct sim_try){.request = request,
                            .index = is_mirror ? 0 : request->n_tries - 1,
                            .attempt = attempt,
                            .is_mirror = is_mirror,
                            .key = rand_u64(&sim->rand),
                            .status = 200};
    return try;
}

static size_t answer_len(struct sim *sim) {
    switch (rand_below(&sim->rand, 6)) {
    case 0:
        return (size_t)rand_below(&sim->rand, 150000);
    case 1:
    case 2:
        return (size_t)rand_below(&sim->rand, 20000);
    case 3:
        return 0;
    default:
        return (size_t)rand_below(&sim->rand, 300);
    }
}

static void draw_act(struct sim *sim, struct sim_plan *plan) {
    static const uint8_t acts[] = {SIM_REFUSE,  SIM_RESET,   SIM_HALF_HEAD, SIM_CUT,
                                   SIM_SILENCE, SIM_GARBAGE, SIM_GOAWAY,    SIM_REFUSE};
    static const uint16_t statuses[] = {503, 500, 404, 429, 502};
    plan->act = SIM_ANSWER;
    if (sim_is_bad(sim, 2, 5)) {
        plan->act = acts[rand_below(&sim->rand, ARRAY_LEN(acts))];
    } else if (sim_is_bad(sim, 1, 4)) {
        plan->try->status = statuses[rand_below(&sim->rand, ARRAY_LEN(statuses))];
    }
}

// An upgrade is accepted, or answered like any request that is complete with its head.
static void draw_ws(struct sim *sim, struct sim_plan *plan) {
    struct sim_try *try = plan->try;
    try->is_tunnel = try->status == 200 && (plan->act == SIM_ANSWER || plan->act == SIM_CUT);
    try->got_end = !try->is_tunnel;
    plan->waits_for_end = false;
    plan->is_short = try->is_tunnel && sim_is_bad(sim, 1, 6);
    if (try->is_tunnel && plan->act == SIM_CUT) {
        plan->cuts_in_order = false; // that would be an end
    }
    if (!try->is_tunnel && try->status == 200) {
        try->status = 500;
    }
}

struct sim_plan *sim_server_plan(struct sim_server_conn *conn, uint32_t id, uint32_t attempt) {
    struct sim *sim = conn->sim;
    CHECK(id < sim->n_requests);
    struct sim_plan *plan = xcalloc(1, sizeof(*plan));
    plan->conn = conn;
    plan->try = new_try(conn, &sim->requests[id], attempt);
    plan->try->len = answer_len(sim);
    draw_act(sim, plan);
    plan->cut_at = (size_t)rand_below(&sim->rand, plan->try->len + 1);
    plan->waits_for_end = sim_chance(sim, 4, 5);
    plan->has_informational = sim_chance(sim, 1, 10);
    plan->framing = (uint8_t)rand_below(&sim->rand, 3);
    plan->has_trailers = plan->framing == SIM_CHUNKED && sim_chance(sim, 1, 4);
    plan->closes = sim_chance(sim, 1, 5) || plan->framing == SIM_TO_THE_END;
    plan->says_continue = plan->try->request->expects && sim_chance(sim, 2, 3);
    plan->cuts_in_order = plan->framing != SIM_TO_THE_END && sim_chance(sim, 1, 2);
    uint64_t wait_ms = rand_below(&sim->rand, sim_is_bad(sim, 1, 8) ? LONG_MS : 30);
    plan->due = fake_now(sim->bed.net) + wait_ms * NS_PER_MS;
    if (plan->try->request->is_ws) {
        draw_ws(sim, plan);
    }
    conn->plans[conn->n_plans++] = plan;
    sim_tracef(sim, "server %d: request %u, try %u%s: act %u, status %u, %zu bytes", conn->fd, id,
               plan->try->index, plan->try->is_mirror ? " (mirror)" : "", plan->act,
               plan->try->status, plan->try->len);
    return plan;
}

void sim_server_took(struct sim_plan *plan, const uint8_t *bytes, size_t len) {
    struct sim_try *try = plan->try;
    CHECK(!try->got_end && try->n_read + len <= try->request->n_sent);
    sim_check(try->request->key, try->n_read, bytes, len);
    try->n_read += len;
}

// The end of a request's body is the client's, never that of a part of it.
void sim_server_took_end(struct sim_plan *plan) {
    struct sim_try *try = plan->try;
    if (try->request->is_ws && !try->is_tunnel) {
        return; // what was refused was complete
    }
    CHECK(!try->got_end && try->request->sent_end && try->n_read == try->request->n_sent);
    CHECK(try->request->is_ws || try->n_read == try->request->len);
    try->got_end = true;
}

bool sim_server_is_due(const struct sim_plan *plan) {
    return !plan->is_done && fake_now(plan->conn->sim->bed.net) >= plan->due &&
           (!plan->waits_for_end || plan->try->got_end);
}

void sim_server_say(struct sim_plan *plan) {
    plan->try->outcome = SIM_TRY_STATUS;
    plan->try->is_early = !plan->try->got_end && !plan->try->is_tunnel;
}

bool sim_server_says_continue(struct sim_plan *plan) {
    bool says = plan->says_continue && !plan->said_continue && !plan->is_done &&
                plan->try->outcome == SIM_TRY_OPEN && plan->try->n_read == 0;
    plan->said_continue = true;
    plan->try->n_informational += says;
    return says;
}

// The end of what it says through an upgrade waits for all that the client says.
bool sim_server_may_end(const struct sim_plan *plan) {
    const struct sim_try *try = plan->try;
    return !try->is_tunnel || plan->is_short || plan->act == SIM_CUT ||
           try->n_read == try->request->len;
}

void sim_server_drop(struct sim_plan *plan, enum sim_outcome outcome) {
    struct sim_server_conn *conn = plan->conn;
    if (conn->tunnel == plan) {
        conn->tunnel = NULL;
    }
    if (plan->try->outcome == SIM_TRY_OPEN) {
        plan->try->outcome = (uint8_t)outcome;
    }
    for (uint32_t i = 0; i < conn->n_plans; i++) {
        if (conn->plans[i] == plan) {
            conn->plans[i] = conn->plans[--conn->n_plans];
            break;
        }
    }
    free(plan);
}

// ---- connections -------------------------------------------------------------------------------

static void conn_free(struct sim_server_conn *conn) {
    struct sim *sim = conn->sim;
    nghttp2_session_del(conn->h2);
    while (conn->n_plans > 0) {
        sim_server_drop(conn->plans[0], SIM_TRY_LOST);
    }
    for (uint32_t i = 0; i < sim->n_conns; i++) {
        if (sim->conns[i] == conn) {
            sim->conns[i] = sim->conns[--sim->n_conns];
            break;
        }
    }
    free(conn);
}

static void conn_close(struct sim_server_conn *conn, bool is_reset) {
    fake_close(conn->sim->bed.net, conn->fd, is_reset);
    conn_free(conn);
}

// Nothing more is said; what has been said arrives.
static void leave(struct sim_server_conn *conn) {
    conn->is_leaving = true;
    while (conn->n_plans > 0) {
        sim_server_drop(conn->plans[0], SIM_TRY_LOST);
    }
}

// ---- HTTP/1.1 ----------------------------------------------------------------------------------

static void on_head(void *arg, const char *head) {
    struct sim_server_conn *conn = arg;
    char id[16], attempt[16] = "0"; // the head of a mirror has none
    CHECK(conn->n_plans == 0);
    CHECK(h1_reader_field(head, "x-id", id, sizeof(id)));
    (void)h1_reader_field(head, "x-envoy-attempt-count", attempt, sizeof(attempt));
    struct sim_plan *plan = sim_server_plan(conn, (uint32_t)strtoul(id, NULL, 10),
                                            (uint32_t)strtoul(attempt, NULL, 10));
    bool is_bodiless = plan->try->request->is_head || plan->try->len == 0;
    conn->key[0] = '\0';
    (void)h1_reader_field(head, "sec-websocket-key", conn->key, sizeof(conn->key));
    char protocol[16] = "";
    (void)h1_reader_field(head, "upgrade", protocol, sizeof(protocol));
    CHECK(plan->try->request->is_ws == (strcmp(protocol, "websocket") == 0));
    if (is_bodiless && plan->framing != SIM_LENGTH) {
        plan->framing = SIM_LENGTH;
        plan->has_trailers = false;
    }
}

static void on_body(void *arg, const uint8_t *bytes, size_t len) {
    struct sim_server_conn *conn = arg;
    if (conn->n_plans > 0) {
        sim_server_took(conn->plans[0], bytes, len);
    }
}

static void on_end(void *arg) {
    struct sim_server_conn *conn = arg;
    if (conn->n_plans > 0 && !conn->plans[0]->try->request->is_ws) {
        sim_server_took_end(conn->plans[0]);
    }
}

static void put_upgrade(struct sim_plan *plan) {
    struct sim_try *try = plan->try;
    char proof[WEBSOCKET_PROOF_LEN];
    websocket_proof(slice_str(plan->conn->key), proof);
    try->status = 101;
    sim_out_printf(&plan->conn->out,
                   "HTTP/1.1 101 Switching Protocols\r\nconnection: Upgrade\r\nupgrade: "
                   "websocket\r\nsec-websocket-accept: %.*s\r\nx-try: %u\r\nx-key: %llu\r\n"
                   "x-len: %zu\r\n\r\n",
                   (int)sizeof(proof), proof, try->index, (unsigned long long)try->key, try->len);
    plan->conn->tunnel = plan;
    plan->sent_head = true;
    sim_server_say(plan);
}

static void put_head(struct sim_plan *plan) {
    struct sim_out *out = &plan->conn->out;
    struct sim_try *try = plan->try;
    if (plan->has_informational) {
        sim_out_printf(out, "HTTP/1.1 103 Early Hints\r\nlink: </a.css>\r\n\r\n");
        try->n_informational++;
    }
    if (try->is_tunnel) {
        put_upgrade(plan);
        return;
    }
    if (!try->got_end && !sim_is_bad(plan->conn->sim, 1, 2)) { // it reads no further, and says so
        plan->closes = true;
    }
    sim_out_printf(out, "HTTP/1.1 %u Text\r\nx-try: %u\r\nx-key: %llu\r\nx-len: %zu\r\n%s",
                   try->status, try->index, (unsigned long long)try->key, try->len,
                   plan->closes ? "connection: close\r\n" : "");
    if (plan->framing == SIM_LENGTH) {
        sim_out_printf(out, "content-length: %zu\r\n", try->len);
    } else if (plan->framing == SIM_CHUNKED) {
        sim_out_printf(out, "transfer-encoding: chunked\r\n");
    }
    sim_out_printf(out, "\r\n");
    plan->sent_head = true;
    sim_server_say(plan);
}

// The end of what is said: of the answer, or for good.
static void finish(struct sim_plan *plan) {
    struct sim_server_conn *conn = plan->conn;
    bool is_whole = plan->act == SIM_ANSWER;
    if (is_whole && plan->framing == SIM_CHUNKED && !plan->try->is_tunnel) {
        sim_out_printf(&conn->out, plan->has_trailers ? "0\r\nx-end: yes\r\n\r\n" : "0\r\n\r\n");
    }
    bool is_last = !is_whole || plan->closes || !plan->try->got_end || plan->try->is_tunnel;
    conn->resets = !is_whole && !plan->cuts_in_order;
    sim_server_drop(plan, SIM_TRY_LOST);
    if (is_last) {
        leave(conn);
    }
}

static void put_body(struct sim_plan *plan) {
    struct sim *sim = plan->conn->sim;
    struct sim_out *out = &plan->conn->out;
    size_t end = plan->act == SIM_CUT ? plan->cut_at : plan->try->len;
    if (plan->try->request->is_head) {
        end = 0;
    }
    if (sim_out_room(out) < PIECE_MAX + 100) {
        return;
    }
    uint8_t piece[PIECE_MAX];
    size_t n = (size_t)rand_range(&sim->rand, 1, PIECE_MAX);
    n = MIN(n, end - plan->n_sent);
    if (n > 0) {
        sim_fill(plan->try->key, plan->n_sent, piece, n);
        bool is_chunk = plan->framing == SIM_CHUNKED && !plan->try->is_tunnel;
        if (is_chunk) {
            sim_out_printf(out, "%zx\r\n", n);
        }
        sim_out_add(out, piece, n);
        sim_out_printf(out, "%s", is_chunk ? "\r\n" : "");
        plan->n_sent += n;
    }
    if (plan->n_sent == end && sim_server_may_end(plan)) {
        finish(plan);
    }
}

// False: the connection is gone.
static bool act_h1(struct sim_plan *plan) {
    struct sim_server_conn *conn = plan->conn;
    // With its head.
    bool is_whole = (plan->try->request->is_head || plan->try->len == 0) && !plan->try->is_tunnel;
    switch ((enum sim_act)plan->act) {
    case SIM_SILENCE:
        return true;
    case SIM_CUT:
        if (is_whole) {
            plan->act = SIM_ANSWER;
        } else if (plan->cut_at == plan->try->len && plan->framing == SIM_LENGTH &&
                   !plan->try->is_tunnel) {
            plan->cut_at--; // all of it would be an answer
        }
        break;
    case SIM_ANSWER:
        break;
    case SIM_HALF_HEAD:
        sim_out_printf(&conn->out, "HTTP/1.1 200 OK\r\nx-try: 0\r\n");
        leave(conn);
        return true;
    case SIM_GARBAGE:
        sim_out_printf(&conn->out, "220 mail.example ESMTP\r\n\r\n");
        leave(conn);
        return true;
    default:
        conn_close(conn, plan->cuts_in_order);
        return false;
    }
    if (!plan->sent_head) {
        put_head(plan);
    }
    put_body(plan);
    return true;
}

// ---- steps -------------------------------------------------------------------------------------

static bool open_known(struct sim_server_conn *conn) {
    conn->is_known = true;
    conn->is_h2 = memcmp(conn->start, "PRI", 3) == 0;
    if (conn->is_h2) {
        sim_server_h2_open(conn);
        return sim_server_h2_read(conn, conn->start, sizeof(conn->start));
    }
    conn->reader =
        (struct h1_reader){.on_head = on_head, .on_body = on_body, .on_end = on_end, .arg = conn};
    (void)h1_reader_read(&conn->reader, conn->start, sizeof(conn->start));
    return true;
}

static bool take(struct sim_server_conn *conn, const uint8_t *bytes, size_t len) {
    while (!conn->is_known && len > 0) {
        conn->start[conn->n_start++] = *bytes++;
        len--;
        if (conn->n_start == sizeof(conn->start) && !open_known(conn)) {
            return false;
        }
    }
    if (conn->is_leaving || len == 0) {
        return true; // nobody listens
    }
    if (conn->is_h2) {
        return sim_server_h2_read(conn, bytes, len);
    }
    if (conn->tunnel != NULL) {
        sim_server_took(conn->tunnel, bytes, len);
        return true;
    }
    while (len > 0 && !conn->is_leaving) {
        size_t n = h1_reader_read(&conn->reader, bytes, len);
        bytes += n;
        len -= n;
    }
    return true;
}

// False: the connection is gone.
static bool read_some(struct sim_server_conn *conn) {
    uint8_t bytes[16384];
    if (conn->got_end) {
        return true;
    }
    ssize_t n = sim_read(conn->sim, conn->fd, bytes, sizeof(bytes));
    if (n == -2 || (n > 0 && !take(conn, bytes, (size_t)n))) {
        conn_close(conn, n > 0);
        return false;
    }
    if (n == -1 && conn->tunnel != NULL && !conn->is_leaving) { // the client's end
        sim_server_took_end(conn->tunnel);
        conn->got_end = true;
    } else if (n ==
               -1) { // the other side says no more: HTTP/1 may still be answered, but is not here
        conn->got_end = true;
        leave(conn);
    }
    return true;
}

static bool is_out(const struct sim_server_conn *conn) {
    return conn->is_h2 && conn->h2 != NULL && sim_server_h2_is_over(conn);
}

static void step_conn(struct sim_server_conn *conn) {
    struct sim *sim = conn->sim;
    if (!read_some(conn)) {
        return;
    }
    if (conn->is_h2 && !conn->is_leaving) {
        sim_server_h2_write(conn);
    } else if (conn->n_plans > 0 && !conn->is_leaving && !conn->is_h2 &&
               sim_server_says_continue(conn->plans[0])) {
        sim_out_printf(&conn->out, "HTTP/1.1 100 Continue\r\n\r\n");
    } else if (conn->n_plans > 0 && sim_server_is_due(conn->plans[0]) && !conn->is_leaving &&
               !act_h1(conn->plans[0])) {
        return;
    }
    if (!conn->sent_fin && !sim_write(sim, conn->fd, &conn->out)) {
        conn_close(conn, false);
        return;
    }
    if (conn->resets && conn->out.len == 0) {
        conn_close(conn, true);
        return;
    }
    if ((conn->is_leaving || is_out(conn)) && conn->out.len == 0 && !conn->sent_fin) {
        conn->sent_fin = true;
        conn->is_leaving = true;
        (void)fake_shutdown(sim->bed.net, conn->fd);
    }
    if (conn->sent_fin && conn->got_end) {
        conn_close(conn, false);
        return;
    }
    bool is_idle = conn->is_known && conn->n_plans == 0 && conn->out.len == 0 && !conn->is_leaving;
    if (is_idle && sim_is_bad(sim, 1, 2000)) { // just when the next request may be on its way
        leave(conn);
    } else if (conn->n_plans > 0 && sim_is_bad(sim, 1, 8000)) {
        conn_close(conn, true);
    }
}

static void accept_some(struct sim *sim, const struct sim_host *host) {
    struct io *io = sim->bed.workers[0]->loop->io;
    int fd;
    while (host->listener >= 0 && sim->n_conns < SIM_CONNS_MAX &&
           (fd = io->ops->accept_now(io, host->listener)) >= 0) {
        struct sim_server_conn *conn = xcalloc(1, sizeof(*conn));
        conn->sim = sim;
        conn->host = host;
        conn->fd = fd;
        sim->conns[sim->n_conns++] = conn;
    }
}

void sim_server_step(struct sim *sim) {
    for (int kind = 0; kind < SIM_BYTES; kind++) {
        for (uint32_t i = 0; i < sim->n_hosts[kind]; i++) {
            accept_some(sim, &sim->hosts[kind][i]);
        }
    }
    for (uint32_t i = sim->n_conns; i-- > 0;) { // from the back: one that goes is replaced by the
        step_conn(sim->conns[i]); // last
    }
}

void sim_server_open(struct sim *sim) {
    for (int kind = 0; kind < SIM_N_KINDS; kind++) {
        sim->n_hosts[kind] = (uint32_t)rand_range(&sim->rand, 1, kind == 0 ? SIM_HOSTS_MAX : 2);
        for (uint32_t i = 0; i < sim->n_hosts[kind]; i++) {
            struct sim_host *host = &sim->hosts[kind][i];
            char text[ADDR_TEXT_MAX];
            snprintf(text, sizeof(text), "10.1.%d.%u:8080", kind, i + 1);
            CHECK(addr_parse(slice_str(text), &host->addr));
            host->is_mirror = kind == SIM_SHADOW;
            host->is_ready = true;
            host->listener =
                sim_is_bad(sim, 1, 10) ? -1 : fake_listen(sim->bed.net, -1, &host->addr);
        }
    }
}

void sim_server_close(struct sim *sim) {
    while (sim->n_conns > 0) {
        conn_close(sim->conns[0], true);
    }
    for (int kind = 0; kind < SIM_N_KINDS; kind++) {
        for (uint32_t i = 0; i < sim->n_hosts[kind]; i++) {
            if (sim->hosts[kind][i].listener >= 0) {
                fake_close(sim->bed.net, sim->hosts[kind][i].listener, false);
            }
        }
    }
}

bool sim_server_is_idle(const struct sim *sim) {
    return sim->n_conns == 0;
}

// SPDX-License-Identifier: Apache-2.0
#include "ztun/rebind.h"

#include <stdio.h>
#include <stdlib.h>

#include "common/base/hash.h"
#include "common/mesh/route.h"
#include "common/obs/metrics.h"
#include "ztun/ztun.h"

enum {
    SWEEP_MS = 50,
    QUIET_MS = 4000, // at most, and at least half of it; less with a short deadline
    QUIET_MIN_MS = 100,
    END_MS = 1000, // for the ends of both sides
};

static struct zworker *worker_of(const struct rebind *rebind) {
    return rebind->flow->zpod->worker;
}

static uint64_t deadline_of(const struct zworker *worker) {
    return worker->config->proc.rebind_ms * NS_PER_MS;
}

static void count(const struct rebind *rebind, const char *reason) {
    struct slice label = slice_str(reason);
    metric_count(METRIC_FLOWS_REBOUND, &label, 1, worker_of(rebind)->loop->now);
}

// ---- paths -------------------------------------------------------------------------------------

static bool binding_of(const struct rebind *rebind, const struct snapshot *snap,
                       struct route_binding *ret_binding) {
    const struct flow *flow = rebind->flow;
    const struct workload *source = pod_workload(flow->zpod->pod, snap);
    return route_binding(snap, source, &flow->dst, ret_binding);
}

static uint64_t path_id(const char *waypoint) {
    return waypoint[0] != '\0' ? hash_bytes(slice_str(waypoint)) | 1 : 0;
}

void rebind_routed(struct rebind *rebind, const struct snapshot *snap, const char *waypoint) {
    struct route_binding binding;
    if (deadline_of(worker_of(rebind)) == 0) {
        return; // open flows stay where they are
    }
    rebind->is_known = binding_of(rebind, snap, &binding);
    rebind->path = path_id(waypoint);
}

// Whether it goes a way that a new flow might go, whatever the share of a canary is.
static bool is_right(const struct rebind *rebind, const struct route_binding *binding) {
    return rebind->path == path_id(binding->waypoint) ||
           (binding->canary[0] != '\0' && rebind->path == path_id(binding->canary));
}

static void set_detail(struct rebind *rebind, const char *waypoint) {
    char text[200];
    snprintf(text, sizeof(text), waypoint[0] != '\0' ? "now through waypoint %s" : "now direct%s",
             waypoint);
    flow_set_detail(rebind->flow, text);
}

static uint64_t quiet_time(struct zworker *worker) {
    uint64_t most = MIN(QUIET_MS * NS_PER_MS, deadline_of(worker) / 4);
    return most / 2 + rand_below(&worker->rand, most / 2 + 1);
}

static void move_free(struct rebind *rebind) {
    if (rebind->move != NULL) {
        list_del(&rebind->move->node);
        free(rebind->move);
        rebind->move = NULL;
    }
}

static pipe_tap tap;

void rebind_check(struct rebind *rebind, const struct snapshot *snap) {
    struct zworker *worker = worker_of(rebind);
    struct pipe *pipe = &rebind->flow->pipe;
    if (!rebind->is_known || deadline_of(worker) == 0 || pipe->is_leaving || pipe->is_ending) {
        return;
    }
    struct route_binding binding;
    if (!binding_of(rebind, snap, &binding)) {
        return; // it is nobody's any more: the flow lives as long as the destination does
    }
    if (is_right(rebind, &binding)) {
        if (rebind->move != NULL && !rebind->was_told) { // what was told stays told
            flow_set_detail(rebind->flow, NULL);
            move_free(rebind);
        }
        return;
    }
    set_detail(rebind, binding.waypoint);
    if (rebind->move != NULL) {
        return;
    }
    uint64_t now = worker->loop->now;
    struct rebind_move *move = xcalloc(1, sizeof(*move));
    *move = (struct rebind_move){
        .rebind = rebind,
        .since = now,
        .active_at = now,
        .n_seen = pipe->n_bytes[PIPE_DOWN] + pipe->n_bytes[PIPE_UP],
        .quiet_ns = quiet_time(worker),
    };
    rebind->move = move;
    rebind->answer = pipe->last == PIPE_DOWN ? REBIND_ANSWER_DUE : REBIND_ANSWER_LOST;
    if (rebind->protocol == REBIND_HTTP1) {
        pipe->tap = tap;
    }
    list_push_back(&worker->rebinds, &move->node);
    if (!timer_is_armed(&worker->rebind_timer)) {
        timer_set(&worker->loop->timers, &worker->rebind_timer, now);
    }
}

// ---- endings -----------------------------------------------------------------------------------

static void end(struct rebind *rebind, const char *reason) {
    struct zworker *worker = worker_of(rebind);
    count(rebind, reason);
    rebind->move->end_at = worker->loop->now + END_MS * NS_PER_MS;
    pipe_end(&rebind->flow->pipe, FLOW_MOVED);
}

static bool is_idle(const struct pipe *pipe) {
    return pipe->last == PIPE_UP && !pipe->got_fin[PIPE_DOWN] && !pipe->got_fin[PIPE_UP] &&
           !pipe->is_held[PIPE_DOWN] && !pipe->is_held[PIPE_UP];
}

// How long it must be quiet by now.
static uint64_t quiet_needed(const struct rebind *rebind, uint64_t now) {
    uint64_t all = deadline_of(worker_of(rebind)), over = now - rebind->move->since;
    uint64_t left = over < all ? all - over : 0;
    return MAX(rebind->move->quiet_ns / 1000 * (left / (all / 1000 + 1)), QUIET_MIN_MS * NS_PER_MS);
}

static void tell(struct rebind *rebind) {
    uint8_t frame[H2_WALK_GOAWAY_LEN];
    h2_walk_goaway(frame);
    rebind->was_told = true;
    count(rebind, "goaway");
    pipe_inject(&rebind->flow->pipe, slice_make(frame, sizeof(frame)));
}

// May end the flow.
static void look(struct rebind *rebind, uint64_t now) {
    struct flow *flow = rebind->flow;
    struct pipe *pipe = &flow->pipe;
    uint64_t n_bytes = pipe->n_bytes[PIPE_DOWN] + pipe->n_bytes[PIPE_UP];
    if (pipe->is_leaving || pipe->is_ending) {
        if (now >= rebind->move->end_at && pipe->is_leaving && !pipe->is_ending) {
            pipe_end_now(pipe);
        }
        return;
    }
    if (n_bytes != rebind->move->n_seen) {
        rebind->move->n_seen = n_bytes;
        rebind->move->active_at = now;
    }
    uint64_t quiet = now - rebind->move->active_at;
    bool may_end = flow->is_joined && is_idle(pipe) && rebind->answer != REBIND_ANSWER_OPEN &&
                   rebind->answer != REBIND_ANSWER_DUE;
    if (now - rebind->move->since >= deadline_of(worker_of(rebind))) {
        if (may_end && quiet >= QUIET_MIN_MS * NS_PER_MS) {
            end(rebind, "deadline");
        } else {
            count(rebind, "cut");
            flow_cut(flow, FLOW_REBIND);
        }
        return;
    }
    if (rebind->protocol == REBIND_HTTP2 && !rebind->walk.is_lost) {
        if (flow->is_joined && !rebind->was_told && h2_walk_can_insert(&rebind->walk)) {
            tell(rebind);
        }
        return; // which streams wait for an answer is not known: its client ends it
    }
    if (may_end && quiet >= quiet_needed(rebind, now)) {
        end(rebind, "quiet");
    }
}

static void on_timer(struct timer *timer, uint64_t now) {
    struct zworker *worker = CONTAINER_OF(timer, struct zworker, rebind_timer);
    // Pods stay while their flows are ended.
    LIST_EACH(node, &worker->pods) {
        LIST_ITEM(node, struct zpod, node)->n_open++;
    }
    LIST_EACH_SAFE(node, &worker->rebinds) {
        look(LIST_ITEM(node, struct rebind_move, node)->rebind, now);
    }
    LIST_EACH_SAFE(node, &worker->pods) {
        struct zpod *zpod = LIST_ITEM(node, struct zpod, node);
        zpod->n_open--;
        zpod_check_drained(zpod);
    }
    if (!list_empty(&worker->rebinds)) {
        timer_set(&worker->loop->timers, timer, now + SWEEP_MS * NS_PER_MS);
    }
}

// ---- what the bytes are ------------------------------------------------------------------------

static bool is_method(struct slice in) {
    size_t n = 0;
    while (n < in.len && n < 16 && in.ptr[n] >= 'A' && in.ptr[n] <= 'Z') {
        n++;
    }
    return n >= 3 && n < in.len && in.ptr[n] == ' ';
}

// From the client's first bytes.
static void classify(struct rebind *rebind, struct slice in) {
    static const char preface[] = H2_PREFACE;
    size_t n = MIN(in.len, (size_t)(H2_PREFACE_LEN - rebind->n_start));
    bool is_same = memcmp(in.ptr, preface + rebind->n_start, n) == 0;
    rebind->n_start = (uint8_t)(rebind->n_start + n);
    if (is_same && rebind->n_start < H2_PREFACE_LEN) {
        return;
    }
    bool has_spoken = rebind->flow->pipe.n_bytes[PIPE_UP] > 0;
    if (is_same) {
        rebind->protocol = REBIND_HTTP2;
    } else if (n == rebind->n_start && is_method(in) && !has_spoken) {
        rebind->protocol = REBIND_HTTP1;
    } else {
        rebind->protocol = REBIND_OTHER;
    }
    if (rebind->protocol != REBIND_HTTP2 && rebind->move == NULL) {
        rebind->flow->pipe.tap = NULL; // nothing of it is looked at
    }
}

static void walk(struct rebind *rebind, const struct seg *seg) {
    struct pipe *pipe = &rebind->flow->pipe;
    bool wants = rebind->move != NULL && !rebind->was_told && rebind->protocol == REBIND_HTTP2;
    struct slice in = seg_slice(seg);
    size_t n = h2_walk_feed(&rebind->walk, in, wants);
    if (n == in.len) {
        pipe_forward(pipe, PIPE_UP, seg, 0, seg->len);
        return;
    }
    pipe_forward(pipe, PIPE_UP, seg, 0, (uint32_t)n);
    tell(rebind);
    (void)h2_walk_feed(&rebind->walk, slice_make(in.ptr + n, in.len - n), false);
    pipe_forward(pipe, PIPE_UP, seg, (uint32_t)n, (uint32_t)(in.len - n));
}

static bool next_line(struct slice *rest, struct slice *ret_line) {
    const uint8_t *end = rest->len > 0 ? memchr(rest->ptr, '\n', rest->len) : NULL;
    if (end == NULL) {
        return false;
    }
    size_t n = (size_t)(end - rest->ptr);
    *ret_line = slice_make(rest->ptr, n > 0 && rest->ptr[n - 1] == '\r' ? n - 1 : n);
    *rest = slice_make(rest->ptr + n + 1, rest->len - n - 1);
    return true;
}

static bool ends_chunks(struct slice in) {
    return slice_has_suffix(in, SLICE_LIT("\r\n0\r\n\r\n")) || slice_eq_str(in, "0\r\n\r\n");
}

// Content-Length (UINT64_MAX: none) and whether it is chunked. False: no head, or not a whole one.
static bool read_fields(struct slice *rest, uint64_t *ret_length, bool *ret_is_chunked) {
    struct slice line, name, value;
    *ret_length = UINT64_MAX;
    *ret_is_chunked = false;
    while (next_line(rest, &line)) {
        if (line.len == 0) {
            return true;
        }
        if (!slice_split(line, ':', &name, &value)) {
            return false;
        }
        if (slice_eq_nocase(name, SLICE_LIT("transfer-encoding"))) {
            *ret_is_chunked = true;
        } else if (slice_eq_nocase(name, SLICE_LIT("content-length")) &&
                   !slice_to_u64(slice_trim(value), INT64_MAX, ret_length)) {
            return false;
        }
    }
    return false;
}

// What comes behind a request: a head that is whole tells where the response ends.
static enum rebind_answer answer_begins(struct rebind *rebind, struct slice in) {
    struct slice line, status, rest = in;
    uint64_t length;
    bool is_chunked;
    if (!next_line(&rest, &line) || !slice_has_prefix(line, SLICE_LIT("HTTP/1.1 ")) ||
        line.len < 12 || !read_fields(&rest, &length, &is_chunked)) {
        return REBIND_ANSWER_LOST;
    }
    status = slice_make(line.ptr + 9, 3);
    if (status.ptr[0] == '1') { // another head follows, or what is no HTTP any more (101)
        return slice_eq_str(status, "101") ? REBIND_ANSWER_LOST
               : rest.len > 0              ? answer_begins(rebind, rest)
                                           : REBIND_ANSWER_DUE;
    }
    bool is_empty = rebind->is_head || slice_eq_str(status, "204") || slice_eq_str(status, "304");
    if (is_empty || (is_chunked ? ends_chunks(rest) : length == rest.len)) {
        return REBIND_ANSWER_COMPLETE;
    }
    if (!is_chunked && length != UINT64_MAX && length < rest.len) {
        return REBIND_ANSWER_LOST;
    }
    rebind->move->answer_left = is_chunked || length == UINT64_MAX ? UINT64_MAX : length - rest.len;
    return REBIND_ANSWER_OPEN;
}

static enum rebind_answer answer_goes_on(struct rebind *rebind, struct slice in) {
    if (rebind->move->answer_left == UINT64_MAX) {
        return ends_chunks(in) ? REBIND_ANSWER_COMPLETE : REBIND_ANSWER_OPEN;
    }
    if (in.len > rebind->move->answer_left) {
        return REBIND_ANSWER_LOST;
    }
    rebind->move->answer_left -= in.len;
    return rebind->move->answer_left == 0 ? REBIND_ANSWER_COMPLETE : REBIND_ANSWER_OPEN;
}

static void follow_request(struct rebind *rebind, struct slice in) {
    if (rebind->answer != REBIND_ANSWER_DUE) { // else its body goes on
        rebind->is_head = slice_has_prefix(in, SLICE_LIT("HEAD "));
    }
    rebind->answer = REBIND_ANSWER_DUE;
}

static void follow_answer(struct rebind *rebind, struct slice in) {
    struct zworker *worker = worker_of(rebind);
    struct pipe *pipe = &rebind->flow->pipe;
    if (rebind->answer == REBIND_ANSWER_DUE) {
        rebind->answer = (uint8_t)answer_begins(rebind, in);
    } else if (rebind->answer == REBIND_ANSWER_OPEN) {
        rebind->answer = (uint8_t)answer_goes_on(rebind, in);
    }
    bool is_late = worker->loop->now - rebind->move->since >= deadline_of(worker) / 2;
    if (rebind->answer == REBIND_ANSWER_COMPLETE && is_late && is_idle(pipe) && !pipe->is_leaving &&
        !pipe->is_ending) {
        end(rebind, "response");
    }
}

static void tap(struct pipe *pipe, enum pipe_side from, const struct seg *seg) {
    struct rebind *rebind = outbound_rebind(flow_of_pipe(pipe));
    if (from == PIPE_DOWN && rebind->protocol == REBIND_UNKNOWN) {
        classify(rebind, seg_slice(seg));
    }
    if (from == PIPE_DOWN && rebind->protocol == REBIND_HTTP1) {
        follow_request(rebind, seg_slice(seg));
    }
    bool may_be_http2 = rebind->protocol == REBIND_HTTP2 || rebind->protocol == REBIND_UNKNOWN;
    if (from == PIPE_UP && may_be_http2 && !rebind->walk.is_lost) {
        walk(rebind, seg);
        return;
    }
    pipe_forward(pipe, from, seg, 0, seg->len);
    if (from == PIPE_UP && rebind->protocol == REBIND_HTTP1 && rebind->move != NULL) {
        follow_answer(rebind, seg_slice(seg));
    }
}

// ---- life --------------------------------------------------------------------------------------

void rebind_init(struct rebind *rebind, struct flow *flow) {
    *rebind = (struct rebind){.flow = flow};
    h2_walk_init(&rebind->walk);
}

void rebind_fini(struct rebind *rebind) {
    move_free(rebind);
}

void rebind_start(struct rebind *rebind) {
    if (rebind->is_known) {
        rebind->flow->pipe.tap = tap;
    }
}

void rebind_worker_init(struct zworker *worker) {
    list_init(&worker->rebinds);
    timer_init(&worker->rebind_timer, on_timer);
}

void rebind_worker_fini(struct zworker *worker) {
    timer_clear(&worker->loop->timers, &worker->rebind_timer);
}

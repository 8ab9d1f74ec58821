// SPDX-License-Identifier: Apache-2.0
#include "common/net/tls_link.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "common/base/buf.h"
#include "common/base/cur.h"

static struct tls_link *of_link(struct link *link) {
    return CONTAINER_OF(link, struct tls_link, link);
}

static struct loop *loop_of(struct tls_link *tl) {
    return tl->queue->loop;
}

// ---- ending ------------------------------------------------------------------------------------

// Everything but the link itself.
static void release(struct tls_link *tl) {
    list_del(&tl->job.node);
    if (tl->hs != NULL) {
        tl->queue->n_active--;
        tls_handshake_free(tl->hs);
        tl->hs = NULL;
    }
    tls_record_free(tl->record);
    tl->record = NULL;
    chain_clear(&tl->hs_in);
    blk_unref(tl->rest);
    tl->rest = NULL;
    tl->rest_len = 0;
}

static void end_link(struct tls_link *tl) {
    if (tl->is_ended) {
        return;
    }
    tl->is_ended = true;
    list_del(&tl->job.node); // no handshake step of a link that is over
    timer_clear(&loop_of(tl)->timers, &tl->timer);
    if (tl->is_aborted) {
        link_abort(&tl->link);
    } else {
        link_close(&tl->link);
    }
}

// Says why, sends what is queued (an alert), and closes.
static void fail(struct tls_link *tl, enum flow_end reason) {
    if (tl->is_closing) {
        return;
    }
    tl->is_closing = true;
    list_del(&tl->job.node);
    link_read(&tl->link, false);
    if (link_queued(&tl->link) == 0) {
        end_link(tl);
    } else {
        link_fin(&tl->link);
        timer_set(&loop_of(tl)->timers, &tl->timer,
                  loop_of(tl)->now + TLS_LINK_CLOSE_MS * NS_PER_MS);
    }
    tl->handler->on_end(tl, reason);
}

static void on_timer(struct timer *timer, uint64_t now) {
    (void)now;
    struct tls_link *tl = CONTAINER_OF(timer, struct tls_link, timer);
    if (tl->is_closing) {
        tl->is_aborted = true;
        end_link(tl);
    } else { // handshake deadline
        tl->os_err = -ETIMEDOUT;
        tl->is_aborted = true;
        tl->queue->n_failed++;
        fail(tl, FLOW_TLS_FAILURE);
    }
}

// A revoked certificate has its own reason, whichever side says so: the server judges the client's
// when the client's handshake has ended.
static enum flow_end reason_of(enum tls_err err, enum flow_end otherwise) {
    return err == TLS_REVOKED || err == TLS_PEER_CERTIFICATE_REVOKED ? FLOW_REVOKED : otherwise;
}

const char *tls_link_error_text(const struct tls_link *tl, char *buf, size_t size) {
    if (tl->err == TLS_OK) {
        return tl->os_err != 0 ? strerror(-tl->os_err) : "closed during the handshake";
    }
    const char *detail = tl->hs != NULL ? tls_handshake_error_detail(tl->hs) : "";
    snprintf(buf, size, "%s%s%s", tls_err_text(tl->err), detail[0] != 0 ? ": " : "", detail);
    return buf;
}

// ---- records -----------------------------------------------------------------------------------

// The peer's close_notify is answered with ours (RFC 8446 6.1).
static void answer_close(struct tls_link *tl) {
    if (!tls_record_is_write_closed(tl->record)) {
        struct chain out;
        chain_init(&out, tl->link.sendq.pool);
        tls_record_close(tl->record, TLS_OK, &out);
        link_write(&tl->link, &out);
    }
}

static void record_error(struct tls_link *tl) {
    tl->err = tls_record_error(tl->record);
    struct chain out;
    chain_init(&out, tl->link.sendq.pool);
    tls_record_close(tl->record, tl->err, &out);
    link_write(&tl->link, &out);
    fail(tl, reason_of(tl->err, FLOW_TUNNEL_LOST));
}

// Opens the records in blk[off, off+len); returns the bytes consumed.
static uint32_t open_records(struct tls_link *tl, struct blk *blk, uint32_t off, uint32_t len,
                             uint32_t *ret_need) {
    uint32_t pos = 0;
    while (pos < len && !tl->is_closing) {
        size_t used = 0, data_off = 0, data_len = 0, need = 0;
        uint8_t *in = blk->base + off + pos;
        switch (tls_record_open(tl->record, in, len - pos, &used, &data_off, &data_len, &need)) {
        case TLS_OPEN_MORE:
            *ret_need = (uint32_t)need;
            return pos;
        case TLS_OPEN_DATA:
            tl->handler->on_data(tl, blk, (uint32_t)(off + pos + data_off), (uint32_t)data_len);
            break;
        case TLS_OPEN_NONE:
            break;
        case TLS_OPEN_CLOSED:
            answer_close(tl);
            fail(tl, FLOW_OK);
            return len;
        case TLS_OPEN_ERROR:
            record_error(tl);
            return len;
        }
        pos += (uint32_t)used;
    }
    if (!tl->is_closing && tls_record_wants_write(tl->record)) {
        struct chain none;
        chain_init(&none, tl->link.sendq.pool);
        tls_link_write(tl, &none); // the answer to a KeyUpdate
    }
    return tl->is_closing ? len : pos;
}

// The handshake left the beginning of a record: complete it with the first bytes of the input.
static uint32_t finish_rest(struct tls_link *tl, const uint8_t *in, uint32_t len) {
    uint32_t taken = 0;
    while (tl->rest != NULL && !tl->is_closing) {
        uint32_t need = 5;
        bool has_header = tl->rest_len >= need;
        if (has_header) {
            need = 5u + ((uint32_t)tl->rest->base[3] << 8 | tl->rest->base[4]);
        }
        if (need > tl->rest->cap) {
            struct blk *bigger = blk_new_cold(tl->link.sendq.pool, need);
            memcpy(bigger->base, tl->rest->base, tl->rest_len);
            blk_unref(tl->rest);
            tl->rest = bigger;
        }
        uint32_t n = MIN(len - taken, need - tl->rest_len);
        memcpy(tl->rest->base + tl->rest_len, in + taken, n);
        tl->rest_len += n;
        taken += n;
        if (tl->rest_len < need) {
            break; // input exhausted
        }
        if (!has_header) {
            continue;
        }
        struct blk *blk = tl->rest;
        uint32_t blk_len = tl->rest_len, more = 0;
        tl->rest = NULL;
        tl->rest_len = 0;
        (void)open_records(tl, blk, 0, blk_len, &more);
        blk_unref(blk);
    }
    return taken;
}

// Records in memory that is not ours to write: copied, one after the other.
static void feed(struct tls_link *tl, struct slice in) {
    while (in.len > 0 && !tl->is_closing) {
        if (tl->rest == NULL) {
            tl->rest = blk_new_cold(tl->link.sendq.pool, 5);
            tl->rest_len = 0;
        }
        in = slice_skip(in, finish_rest(tl, in.ptr, (uint32_t)in.len));
    }
}

// ---- handshake ---------------------------------------------------------------------------------

static void handshake_failed(struct tls_link *tl) {
    tl->err = tls_handshake_error(tl->hs);
    tl->queue->n_failed++;
    fail(tl, reason_of(tl->err, FLOW_TLS_FAILURE));
}

static void handshake_done(struct tls_link *tl) {
    struct slice rest;
    tl->record = tls_handshake_take(tl->hs, &rest);
    if (tl->record == NULL) {
        handshake_failed(tl);
        return;
    }
    tl->queue->n_done++;
    tl->queue->n_active--;
    timer_clear(&loop_of(tl)->timers, &tl->timer);
    struct tls_handshake *hs = tl->hs;
    tl->hs = NULL;
    tl->handler->on_ready(tl, tls_handshake_peer(hs));
    // What came behind the last handshake message: read by the handshake, then still queued.
    feed(tl, rest);
    tls_handshake_free(hs);
    struct seg seg;
    while (chain_pop(&tl->hs_in, &seg)) {
        feed(tl, seg_slice(&seg));
        blk_unref(seg.blk);
    }
    link_flush_last(&tl->link); // the last flight and what the handler has to say are one send
}

static void handshake_step(struct tls_job *job) {
    struct tls_link *tl = CONTAINER_OF(job, struct tls_link, job);
    struct chain out;
    chain_init(&out, tl->link.sendq.pool);
    enum tls_step step = TLS_STEP_MORE;
    do { // also once with no input: the client's first message
        struct seg seg = {0};
        bool has_input = chain_pop(&tl->hs_in, &seg);
        struct slice in = has_input ? seg_slice(&seg) : slice_make(NULL, 0);
        step = tls_handshake_recv(tl->hs, in, clock_wall_s(), &out);
        if (has_input) {
            blk_unref(seg.blk);
        }
    } while (step == TLS_STEP_MORE && !chain_empty(&tl->hs_in));
    link_write_segments(&tl->link, &out);
    if (step == TLS_STEP_ERROR) {
        handshake_failed(tl);
    } else if (step == TLS_STEP_DONE) {
        handshake_done(tl);
    }
}

static void run_step(struct loop_chore *chore) {
    struct tls_queue *queue = CONTAINER_OF(chore, struct tls_queue, chore);
    struct list *node = list_pop_front(&queue->waiting);
    if (!list_empty(&queue->waiting)) {
        loop_chore_arm(queue->loop, chore);
    }
    if (node != NULL) { // else: its link is over
        struct tls_job *job = LIST_ITEM(node, struct tls_job, node);
        job->run(job);
    }
}

void tls_queue_add(struct tls_queue *queue, struct tls_job *job) {
    if (!list_linked(&job->node)) {
        list_push_back(&queue->waiting, &job->node);
    }
    loop_chore_arm(queue->loop, &queue->chore);
}

void tls_queue_init(struct tls_queue *queue, struct loop *loop) {
    *queue = (struct tls_queue){.loop = loop};
    list_init(&queue->waiting);
    loop_chore_init(&queue->chore, run_step);
}

void tls_queue_fini(struct tls_queue *queue) {
    CHECK(queue->n_active == 0 && list_empty(&queue->waiting));
    loop_chore_disarm(&queue->chore);
}

// The connection is over in the middle of the handshake, and bytes still wait for their step: if
// they can be no more than an alert, they are the reason. More would be work that nobody gets.
static void read_last_words(struct tls_link *tl) {
    enum { ALERTS_MAX = 64 }; // change_cipher_spec and an encrypted alert are 30
    struct seg seg;
    if (chain_empty(&tl->hs_in) || tl->hs_in.len > ALERTS_MAX) {
        return;
    }
    struct chain none;
    chain_init(&none, tl->link.sendq.pool);
    while (tl->err == TLS_OK && chain_pop(&tl->hs_in, &seg)) {
        if (tls_handshake_recv(tl->hs, seg_slice(&seg), clock_wall_s(), &none) == TLS_STEP_ERROR) {
            tl->err = tls_handshake_error(tl->hs);
        }
        blk_unref(seg.blk);
    }
    chain_clear(&none);
}

// ---- link events -------------------------------------------------------------------------------

static uint32_t on_data(struct link *link, struct blk *blk, uint32_t off, uint32_t len,
                        uint16_t head, uint16_t tail, uint32_t *ret_need) {
    (void)head;
    (void)tail;
    struct tls_link *tl = of_link(link);
    if (tl->is_closing) {
        return len;
    }
    if (tl->hs != NULL) {
        if (tl->hs_in.len + len > TLS_LINK_HS_MAX) { // attack: endless handshake input
            tl->is_aborted = true;
            tl->queue->n_failed++;
            fail(tl, FLOW_TLS_FAILURE);
            return len;
        }
        chain_copy(&tl->hs_in, slice_make(blk->base + off, len));
        tls_queue_add(tl->queue, &tl->job);
        return len;
    }
    uint32_t taken = tl->rest != NULL ? finish_rest(tl, blk->base + off, len) : 0;
    if (taken == len || tl->is_closing) {
        return len;
    }
    return taken + open_records(tl, blk, off + taken, len - taken, ret_need);
}

static void on_eof(struct link *link) {
    struct tls_link *tl = of_link(link);
    if (tl->is_lingering) {
        if (link_queued(link) == 0) {
            end_link(tl);
        } else {
            tl->is_lingering = false; // on_sent ends it
        }
        return;
    }
    if (tl->hs != NULL) {
        read_last_words(tl);
        tl->os_err = -ECONNRESET;
        tl->queue->n_failed++;
        fail(tl, reason_of(tl->err, FLOW_TLS_FAILURE));
    } else {
        fail(tl, FLOW_TRUNCATED); // FIN without close_notify (RFC 8446 section 6.1)
    }
}

static void on_sent(struct link *link, size_t len) {
    (void)len;
    struct tls_link *tl = of_link(link);
    if (!tl->is_closing) {
        tl->handler->on_sent(tl);
    } else if (link_queued(link) == 0 && !tl->is_lingering) {
        end_link(tl);
    }
}

static bool minds_sent(const struct link *link) {
    const struct tls_link *tl = CONTAINER_OF(link, const struct tls_link, link);
    return tl->is_closing || tl->hs != NULL || tl->handler->minds_sent == NULL ||
           tl->handler->minds_sent(tl);
}

static void on_error(struct link *link, int err) {
    struct tls_link *tl = of_link(link);
    bool was_closing = tl->is_closing;
    tl->os_err = err;
    tl->is_closing = tl->is_ended = true; // the link closes by itself
    list_del(&tl->job.node);
    timer_clear(&loop_of(tl)->timers, &tl->timer);
    if (was_closing) {
        return;
    }
    if (tl->hs != NULL) {
        read_last_words(tl);
        tl->queue->n_failed++;
        tl->handler->on_end(tl, reason_of(tl->err, FLOW_TLS_FAILURE));
    } else {
        tl->handler->on_end(tl, FLOW_TUNNEL_LOST);
    }
}

static void on_closed(struct link *link) {
    struct tls_link *tl = of_link(link);
    release(tl);
    tl->handler->on_closed(tl);
}

static const struct link_handler link_handler = {
    .on_data = on_data,
    .on_eof = on_eof,
    .on_sent = on_sent,
    .minds_sent = minds_sent,
    .on_error = on_error,
    .on_closed = on_closed,
};

// ---- interface ---------------------------------------------------------------------------------

void tls_link_init(struct tls_link *tl, struct tls_queue *queue, int fd, struct tls_handshake *hs,
                   const struct tls_link_handler *handler) {
    *tl = (struct tls_link){.handler = handler, .queue = queue, .hs = hs};
    list_init(&tl->job.node);
    tl->job.run = handshake_step;
    chain_init(&tl->hs_in, queue->loop->pool);
    timer_init(&tl->timer, on_timer);
    link_init(&tl->link, queue->loop, fd, LINK_CONTIG, &link_handler);
    queue->n_active++;
    timer_set(&queue->loop->timers, &tl->timer,
              queue->loop->now + TLS_LINK_HS_TIMEOUT_MS * NS_PER_MS);
    tls_queue_add(tl->queue, &tl->job);
    link_read(&tl->link, true);
}

void tls_link_write(struct tls_link *tl, struct chain *plain) {
    CHECK(tl->record != NULL);
    if (tl->is_closing) {
        chain_clear(plain);
        return;
    }
    struct chain out;
    chain_init(&out, plain->pool);
    (void)tls_record_seal(tl->record, plain, &out, SIZE_MAX);
    link_write(&tl->link, &out);
}

size_t tls_link_queued(const struct tls_link *tl) {
    return link_queued(&tl->link);
}

void tls_link_close(struct tls_link *tl) {
    if (tl->is_closing) {
        return;
    }
    tl->is_closing = true;
    if (tl->record == NULL) {
        tl->is_aborted = true;
        end_link(tl);
        return;
    }
    struct chain out;
    chain_init(&out, tl->link.sendq.pool);
    tls_record_close(tl->record, TLS_OK, &out);
    link_write(&tl->link, &out);
    link_fin(&tl->link);
    tl->is_lingering = true;
    timer_set(&loop_of(tl)->timers, &tl->timer, loop_of(tl)->now + TLS_LINK_CLOSE_MS * NS_PER_MS);
}

void tls_link_abort(struct tls_link *tl) {
    tl->is_closing = tl->is_aborted = true;
    end_link(tl);
}

// ---- hand-over ---------------------------------------------------------------------------------

enum { EXPORT_VERSION = 1, RECORD_EXPORT_MAX = 512, REST_MAX = 5 + (1 << 14) + 256 };

void tls_link_freeze(struct tls_link *tl) {
    link_freeze(&tl->link);
}

bool tls_link_is_quiet(const struct tls_link *tl) {
    return tl->record != NULL && !tl->is_closing && link_is_quiet(&tl->link);
}

void tls_link_thaw(struct tls_link *tl) {
    link_thaw(&tl->link);
}

bool tls_link_export(const struct tls_link *tl, struct buf *out) {
    if (!tls_link_is_quiet(tl)) {
        return false;
    }
    struct buf record;
    buf_init(&record, RECORD_EXPORT_MAX);
    bool ok = tls_record_export(tl->record, &record);
    buf_put_u8(out, EXPORT_VERSION);
    buf_put_u16(out, (uint16_t)record.len);
    buf_append(out, buf_slice(&record));
    buf_put_u32(out, tl->rest != NULL ? tl->rest_len : 0);
    if (tl->rest != NULL) {
        buf_append(out, slice_make(tl->rest->base, tl->rest_len));
    }
    explicit_bzero(record.ptr, record.len);
    buf_fini(&record);
    return link_export(&tl->link, out) && ok && buf_ok(out);
}

int tls_link_release(struct tls_link *tl) {
    timer_clear(&loop_of(tl)->timers, &tl->timer);
    int fd = link_release(&tl->link);
    release(tl);
    tl->is_closing = tl->is_ended = true;
    return fd;
}

bool tls_link_import(struct tls_link *tl, struct tls_queue *queue, int fd, struct cur *in,
                     const struct tls_link_handler *handler) {
    uint8_t version = cur_u8(in);
    struct slice record = cur_bytes(in, cur_u16(in));
    struct slice rest = cur_bytes(in, cur_u32(in));
    if (!cur_ok(in) || version != EXPORT_VERSION || rest.len > REST_MAX) {
        return false;
    }
    *tl = (struct tls_link){.handler = handler, .queue = queue};
    list_init(&tl->job.node);
    tl->job.run = handshake_step;
    chain_init(&tl->hs_in, queue->loop->pool);
    timer_init(&tl->timer, on_timer);
    tl->record = tls_record_import(record);
    if (tl->record == NULL || !link_import(&tl->link, queue->loop, fd, in, &link_handler)) {
        release(tl);
        return false;
    }
    if (tl->link.mode != LINK_CONTIG) {
        (void)link_release(&tl->link);
        release(tl);
        return false;
    }
    if (rest.len > 0) { // begins a record: not more than that, or it would have been opened
        tl->rest = blk_new_cold(queue->loop->pool, rest.len);
        slice_copy(tl->rest->base, rest);
        tl->rest_len = (uint32_t)rest.len;
    }
    return true;
}

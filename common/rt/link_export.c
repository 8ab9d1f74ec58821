// SPDX-License-Identifier: Apache-2.0
//
// A quiet link as bytes. The socket itself, with what the kernel has queued in it, goes beside.
#include "common/base/buf.h"
#include "common/base/cur.h"
#include "common/rt/link_priv.h"

enum {
    EXPORT_VERSION = 1,
    FLAG_RESUMES_READ = 1 << 0,
    FLAG_GOT_EOF = 1 << 1,
    FLAG_WANT_FIN = 1 << 2,
    FLAG_SENT_FIN = 1 << 3,
    FLAG_BULK = 1 << 4,
    FLAG_EOF_HELD = 1 << 5,
    FLAG_WAS_PAUSED = 1 << 6,
    FLAG_HUP = 1 << 7,
    FLAG_SMALL_ONLY = 1 << 8,
    FLAGS_ALL = (1 << 9) - 1,
};

static void put_chain(const struct chain *chain, struct buf *out) {
    for (const struct seg *seg = chain->head; seg != NULL; seg = seg->next) {
        buf_append(out, seg_slice(seg));
    }
}

static uint16_t flags_of(const struct link *link) {
    uint16_t flags = 0;
    flags |= link->resumes_read ? FLAG_RESUMES_READ : 0;
    flags |= link->got_eof ? FLAG_GOT_EOF : 0;
    flags |= link->want_fin ? FLAG_WANT_FIN : 0;
    flags |= link->sent_fin ? FLAG_SENT_FIN : 0;
    flags |= link->is_bulk ? FLAG_BULK : 0;
    flags |= link->is_eof_held ? FLAG_EOF_HELD : 0;
    flags |= link->was_paused ? FLAG_WAS_PAUSED : 0;
    flags |= link->has_hup ? FLAG_HUP : 0;
    flags |= link->is_small_only ? FLAG_SMALL_ONLY : 0;
    return flags;
}

static void set_flags(struct link *link, uint16_t flags) {
    link->resumes_read = (flags & FLAG_RESUMES_READ) != 0;
    link->got_eof = (flags & FLAG_GOT_EOF) != 0;
    link->want_fin = (flags & FLAG_WANT_FIN) != 0;
    link->sent_fin = (flags & FLAG_SENT_FIN) != 0;
    link->is_bulk = (flags & FLAG_BULK) != 0;
    link->is_eof_held = (flags & FLAG_EOF_HELD) != 0;
    link->was_paused = (flags & FLAG_WAS_PAUSED) != 0;
    link->has_hup = (flags & FLAG_HUP) != 0;
    link->is_small_only = (flags & FLAG_SMALL_ONLY) != 0;
}

bool link_export(const struct link *link, struct buf *out) {
    size_t held_len = link->held != NULL ? link->held->len : 0;
    if (!link_is_quiet(link) || link_queued(link) > LINK_EXPORT_MAX || held_len > LINK_EXPORT_MAX) {
        return false;
    }
    buf_put_u8(out, EXPORT_VERSION);
    buf_put_u8(out, link->mode);
    buf_put_u16(out, flags_of(link));
    buf_put_u8(out, link->n_little);
    buf_put_u32(out, link->run_bytes);
    buf_put_u32(out, link->need);
    buf_put_u64(out, link->n_recv);
    buf_put_u64(out, link->n_sent);
    buf_put_u32(out, link->stash_len);
    if (link->stash_len > 0) {
        buf_append(out, slice_make(link->stash->base + link->stash_off, link->stash_len));
    }
    buf_put_u32(out, (uint32_t)held_len);
    if (link->held != NULL) {
        put_chain(link->held, out);
    }
    buf_put_u32(out, (uint32_t)link_queued(link));
    put_chain(&link->inflight, out); // was taken back: goes first
    put_chain(&link->sendq, out);
    return buf_ok(out);
}

static bool is_sane(const struct link *link, struct slice stash, struct slice held,
                    struct slice queue) {
    bool is_contig = link->mode == LINK_CONTIG;
    return link->need <= LINK_EXPORT_MAX && stash.len <= LINK_EXPORT_MAX &&
           held.len <= LINK_EXPORT_MAX && queue.len <= LINK_EXPORT_MAX &&
           (is_contig ? held.len == 0 : stash.len == 0 && link->need == 0) &&
           (!link->sent_fin || (link->want_fin && queue.len == 0)) &&
           !(link->got_eof && link->is_eof_held);
}

bool link_import(struct link *link, struct loop *loop, int fd, struct cur *in,
                 const struct link_handler *handler) {
    uint8_t version = cur_u8(in), mode = cur_u8(in);
    uint16_t flags = cur_u16(in);
    link_init(link, loop, fd, mode == LINK_CONTIG ? LINK_CONTIG : LINK_SLOTS, handler);
    link->is_frozen = true;
    set_flags(link, flags);
    link->n_little = cur_u8(in);
    link->run_bytes = cur_u32(in);
    link->need = cur_u32(in);
    link->n_recv = cur_u64(in);
    link->n_sent = cur_u64(in);
    struct slice stash = cur_bytes(in, cur_u32(in));
    struct slice held = cur_bytes(in, cur_u32(in));
    struct slice queue = cur_bytes(in, cur_u32(in));
    if (!cur_ok(in) || version != EXPORT_VERSION || mode > LINK_CONTIG ||
        (flags & ~FLAGS_ALL) != 0 || !is_sane(link, stash, held, queue)) {
        link->fd = -1;
        link->is_closing = true;
        return false;
    }
    link_read_restore(link, stash, held);
    chain_copy(&link->sendq, queue);
    return true;
}

// SPDX-License-Identifier: Apache-2.0
#include "common/net/link_end.h"

#include <errno.h>

#include "common/base/buf.h"
#include "common/base/cur.h"

static struct link_end *of_link(struct link *link) {
    return CONTAINER_OF(link, struct link_end, link);
}

static struct link_end *of_duplex(const struct duplex *duplex) {
    return CONTAINER_OF((struct duplex *)(uintptr_t)duplex, struct link_end, duplex);
}

static uint32_t on_data(struct link *link, struct blk *blk, uint32_t off, uint32_t len,
                        uint16_t head, uint16_t tail, uint32_t *ret_need) {
    (void)ret_need;
    struct link_end *end = of_link(link);
    struct seg seg = {
        .blk = blk_ref(blk), .off = off, .len = len, .headroom = head, .tailroom = tail};
    end->duplex.events->on_data(&end->duplex, &seg);
    return len;
}

static void on_eof(struct link *link) {
    struct link_end *end = of_link(link);
    end->duplex.events->on_fin(&end->duplex);
}

static void on_sent(struct link *link, size_t len) {
    struct link_end *end = of_link(link);
    end->duplex.events->on_sent(&end->duplex, len);
    if (end->is_finishing) {
        if (!end->is_cut && link_queued(link) == 0) {
            end->is_cut = true;
            link_close(link);
        }
        return;
    }
    if (end->is_full && !end->is_cut && link_queued(link) <= LINK_END_LOW) {
        end->is_full = false;
        end->duplex.events->on_writable(&end->duplex);
    }
}

static bool minds_sent(const struct link *link) {
    const struct link_end *end = CONTAINER_OF(link, const struct link_end, link);
    return end->is_full || end->is_finishing ||
           (end->duplex.reports_sent && link_queued(link) > end->duplex.sent_lag);
}

static void on_error(struct link *link, int err) {
    struct link_end *end = of_link(link);
    bool is_ours = end->is_cut || end->is_finishing;
    end->is_cut = true;
    if (is_ours) {
        return;
    }
    // Whose side it was is the owner's knowledge; it maps the reason (pipe.h).
    end->duplex.events->on_abort(&end->duplex,
                                 err == -ETIMEDOUT ? FLOW_TIMEOUT : FLOW_UPSTREAM_RESET);
}

static void on_closed(struct link *link) {
    struct link_end *end = of_link(link);
    end->duplex.events->on_closed(&end->duplex);
}

static const struct link_handler link_handler = {
    .on_data = on_data,
    .on_eof = on_eof,
    .on_sent = on_sent,
    .minds_sent = minds_sent,
    .on_error = on_error,
    .on_closed = on_closed,
};

static void end_send(struct duplex *duplex, struct chain *data, bool fin) {
    struct link_end *end = of_duplex(duplex);
    if (!chain_empty(data)) {
        link_write(&end->link, data);
        end->is_full = end->is_full || link_queued(&end->link) > LINK_END_HIGH;
    }
    if (fin) {
        link_fin(&end->link);
    }
}

static bool end_can_send(const struct duplex *duplex) {
    return !of_duplex(duplex)->is_full;
}

static void end_consumed(struct duplex *duplex, size_t n) {
    (void)duplex; // the kernel's receive window is the credit: reading stops through hold
    (void)n;
}

static void end_hold(struct duplex *duplex, bool on) {
    link_read(&of_duplex(duplex)->link, !on);
}

static void end_abort(struct duplex *duplex) {
    struct link_end *end = of_duplex(duplex);
    end->is_cut = true;
    link_abort(&end->link);
}

static void end_finish(struct duplex *duplex) {
    struct link_end *end = of_duplex(duplex);
    end->is_finishing = true;
    if (!end->is_cut && link_queued(&end->link) == 0) {
        end->is_cut = true;
        link_close(&end->link);
    } // else: on_sent closes it when the queue has left
}

static const struct duplex_ops link_end_ops = {
    .send = end_send,
    .can_send = end_can_send,
    .consumed = end_consumed,
    .hold = end_hold,
    .abort = end_abort,
    .finish = end_finish,
};

void link_end_init(struct link_end *end, struct loop *loop, int fd) {
    end->duplex = (struct duplex){.ops = &link_end_ops};
    end->is_full = end->is_cut = end->is_finishing = false;
    link_init(&end->link, loop, fd, LINK_SLOTS, &link_handler);
}

// ---- hand-over ---------------------------------------------------------------------------------

enum { EXPORT_VERSION = 1, FLAG_FULL = 1, FLAG_FINISHING = 2, FLAG_REPORTS = 4, FLAGS_ALL = 7 };

void link_end_freeze(struct link_end *end) {
    link_freeze(&end->link);
}

bool link_end_is_quiet(const struct link_end *end) {
    return !end->is_cut && link_is_quiet(&end->link);
}

void link_end_thaw(struct link_end *end) {
    link_thaw(&end->link);
}

bool link_end_export(const struct link_end *end, struct buf *out) {
    if (!link_end_is_quiet(end)) {
        return false;
    }
    buf_put_u8(out, EXPORT_VERSION);
    buf_put_u8(out,
               (uint8_t)((end->is_full ? FLAG_FULL : 0) | (end->is_finishing ? FLAG_FINISHING : 0) |
                         (end->duplex.reports_sent ? FLAG_REPORTS : 0)));
    return link_export(&end->link, out);
}

int link_end_release(struct link_end *end) {
    end->is_cut = true;
    return link_release(&end->link);
}

bool link_end_import(struct link_end *end, struct loop *loop, int fd, struct cur *in) {
    uint8_t version = cur_u8(in), flags = cur_u8(in);
    end->duplex =
        (struct duplex){.ops = &link_end_ops, .reports_sent = (flags & FLAG_REPORTS) != 0};
    end->is_full = (flags & FLAG_FULL) != 0;
    end->is_finishing = (flags & FLAG_FINISHING) != 0;
    end->is_cut = false;
    if (!cur_ok(in) || version != EXPORT_VERSION || (flags & ~FLAGS_ALL) != 0) {
        return false;
    }
    if (!link_import(&end->link, loop, fd, in, &link_handler)) {
        return false;
    }
    // What never waits never closes it (on_sent), and a plain link has no records.
    if (end->link.mode != LINK_SLOTS || (end->is_finishing && link_queued(&end->link) == 0)) {
        (void)link_release(&end->link);
        return false;
    }
    return true;
}

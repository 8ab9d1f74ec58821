// SPDX-License-Identifier: Apache-2.0
//
// A record layer as bytes, for the hand-over of a connection to a successor process. Keys are not
// among them: they follow from the secrets.
#include <stdlib.h>
#include <string.h>

#include "common/base/buf.h"
#include "common/base/cur.h"
#include "common/tls/tls_record_priv.h"

enum { EXPORT_VERSION = 1 };
enum {
    FLAG_SERVER = 1,
    FLAG_READ_CLOSED = 2,
    FLAG_WRITE_CLOSED = 4,
    FLAG_UPDATE_DUE = 8,
    FLAG_UPDATE_REQUEST = 16,
    FLAGS_ALL = 31,
};

static void put_keys(const struct rec_keys *keys, size_t secret_len, struct buf *out) {
    buf_put_u64(out, keys->seq);
    buf_put_u32(out, keys->n_updates);
    buf_append(out, slice_make(keys->secret, secret_len));
}

bool tls_record_export(const struct tls_record *record, struct buf *out) {
    uint8_t flags = 0;
    if (record->err != TLS_OK || record->is_12) {
        return false;
    }
    flags |= record->is_server ? FLAG_SERVER : 0;
    flags |= record->is_read_closed ? FLAG_READ_CLOSED : 0;
    flags |= record->is_write_closed ? FLAG_WRITE_CLOSED : 0;
    flags |= record->is_update_due ? FLAG_UPDATE_DUE : 0;
    flags |= record->is_update_request ? FLAG_UPDATE_REQUEST : 0;
    buf_put_u8(out, EXPORT_VERSION);
    buf_put_u16(out, record->suite);
    buf_put_u8(out, flags);
    buf_put_u64(out, record->update_limit);
    buf_put_u8(out, record->n_idle);
    buf_put_u8(out, record->msg_have);
    buf_append(out, slice_make(record->msg_header, sizeof(record->msg_header)));
    buf_put_u32(out, record->msg_left);
    put_keys(&record->read, record->secret_len, out);
    put_keys(&record->write, record->secret_len, out);
    return buf_ok(out);
}

struct keys_in {
    uint64_t seq;
    uint32_t n_updates;
    struct slice secret;
};

static struct keys_in get_keys(struct cur *cur, size_t secret_len) {
    struct keys_in keys;
    keys.seq = cur_u64(cur);
    keys.n_updates = cur_u32(cur);
    keys.secret = cur_bytes(cur, secret_len);
    return keys;
}

struct tls_record *tls_record_import(struct slice bytes) {
    struct cur cur = cur_make(bytes);
    uint8_t version = cur_u8(&cur);
    uint16_t suite = cur_u16(&cur);
    uint8_t flags = cur_u8(&cur);
    uint64_t limit = cur_u64(&cur);
    uint8_t n_idle = cur_u8(&cur);
    uint8_t msg_have = cur_u8(&cur);
    struct slice msg_header = cur_bytes(&cur, 4);
    uint32_t msg_left = cur_u32(&cur);
    size_t secret_len = rec_secret_len(suite);
    struct keys_in read = get_keys(&cur, secret_len);
    struct keys_in write = get_keys(&cur, secret_len);
    if (!cur_done(&cur) || version != EXPORT_VERSION || secret_len == 0 ||
        (flags & ~FLAGS_ALL) != 0 || limit == 0 || limit > REC_UPDATE_MAX ||
        n_idle > REC_IDLE_MAX || msg_have > 4 || msg_left > REC_TICKET_MAX) {
        return NULL;
    }
    struct tls_record *record =
        tls_record_new((enum tls_suite)suite, read.secret, read.seq, write.secret, write.seq);
    CHECK(record != NULL);
    record->read.n_updates = read.n_updates;
    record->write.n_updates = write.n_updates;
    record->is_server = (flags & FLAG_SERVER) != 0;
    record->is_read_closed = (flags & FLAG_READ_CLOSED) != 0;
    record->is_write_closed = (flags & FLAG_WRITE_CLOSED) != 0;
    record->is_update_due = (flags & FLAG_UPDATE_DUE) != 0;
    record->is_update_request = (flags & FLAG_UPDATE_REQUEST) != 0;
    record->update_limit = limit;
    record->n_idle = n_idle;
    record->msg_have = msg_have;
    memcpy(record->msg_header, msg_header.ptr, sizeof(record->msg_header));
    record->msg_left = msg_left;
    return record;
}

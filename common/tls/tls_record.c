// SPDX-License-Identifier: Apache-2.0
#include "common/tls/tls_record.h"

#include <openssl/err.h>
#include <stdlib.h>
#include <string.h>

#include "common/tls/tls_err_priv.h"
#include "common/tls/tls_record_priv.h"

enum { MSG_NEW_SESSION_TICKET = 4, MSG_KEY_UPDATE = 24 };
enum { ALERT_CLOSE_NOTIFY = 0, ALERT_USER_CANCELED = 90 };

struct tls_record *tls_record_new(enum tls_suite suite, struct slice read_secret, uint64_t read_seq,
                                  struct slice write_secret, uint64_t write_seq) {
    size_t len = rec_secret_len((uint16_t)suite);
    if (len == 0 || read_secret.len != len || write_secret.len != len) {
        return NULL;
    }
    struct tls_record *record = xcalloc(1, sizeof(*record));
    record->suite = (uint16_t)suite;
    record->secret_len = (uint8_t)len;
    record->update_limit = REC_UPDATE_DEFAULT;
    rec_keys_init(&record->read, record->suite, read_secret, read_seq);
    rec_keys_init(&record->write, record->suite, write_secret, write_seq);
    return record;
}

void tls_record_free(struct tls_record *record) {
    if (record != NULL) {
        rec_keys_fini(&record->read);
        rec_keys_fini(&record->write);
        free(record);
    }
}

// ---- Seal

static void put_header(uint8_t *rec, size_t len) {
    size_t body = len + 1 + REC_TAG;
    rec[0] = REC_APPLICATION_DATA;
    rec[1] = 3;
    rec[2] = 3;
    rec[3] = (uint8_t)(body >> 8);
    rec[4] = (uint8_t)body;
}

// Seals len bytes that lie behind a place for the header at rec; content type and tag go behind.
static void seal_in_place(struct tls_record *record, uint8_t *rec, size_t len, enum rec_type type) {
    struct rec_keys *keys = &record->write;
    uint8_t nonce[REC_IV_LEN];
    uint8_t *body = rec + REC_HEADER;
    size_t tag_len;
    put_header(rec, len);
    body[len] = (uint8_t)type;
    rec_nonce(keys, nonce);
    CHECK(EVP_AEAD_CTX_seal_scatter(&keys->aead, body, body + len + 1, &tag_len, REC_TAG, nonce,
                                    sizeof(nonce), body, len + 1, NULL, 0, rec, REC_HEADER) == 1);
    keys->seq++;
}

// Seals len bytes at src into rec: copy and encryption are one pass.
static void seal_copy(struct tls_record *record, uint8_t *rec, const uint8_t *src, size_t len) {
    static const uint8_t type = REC_APPLICATION_DATA;
    struct rec_keys *keys = &record->write;
    uint8_t nonce[REC_IV_LEN];
    uint8_t *body = rec + REC_HEADER;
    size_t tag_len;
    put_header(rec, len);
    rec_nonce(keys, nonce);
    CHECK(EVP_AEAD_CTX_seal_scatter(&keys->aead, body, body + len, &tag_len, 1 + REC_TAG, nonce,
                                    sizeof(nonce), src, len, &type, 1, rec, REC_HEADER) == 1);
    keys->seq++;
}

// One small record of another type than application data.
static void seal_message(struct tls_record *record, struct chain *out, const uint8_t *bytes,
                         size_t len, uint8_t type) {
    struct blk *blk = blk_new_cold(out->pool, len + REC_OVERHEAD);
    memcpy(blk->base + REC_HEADER, bytes, len);
    seal_in_place(record, blk->base, len, (enum rec_type)type);
    chain_give(out, blk, 0, (uint32_t)(len + REC_OVERHEAD));
}

static void seal_key_update(struct tls_record *record, struct chain *out) {
    const uint8_t msg[] = {MSG_KEY_UPDATE, 0, 0, 1, record->is_update_request};
    record->is_update_due = record->is_update_request = false;
    seal_message(record, out, msg, sizeof(msg), REC_HANDSHAKE);
    rec_keys_update(&record->write, record->suite);
}

size_t rec_coalesce_len(const struct chain *plain) {
    const struct seg *seg = plain->head;
    size_t n = seg->len;
    if (seg->next == NULL || n + seg->next->len > REC_COALESCE_MAX) {
        return 0;
    }
    for (seg = seg->next; seg != NULL && n + seg->len <= REC_COALESCE_MAX; seg = seg->next) {
        n += seg->len;
    }
    return n;
}

// Makes one record from the front of `plain`.
static void seal_next(struct tls_record *record, struct chain *plain, struct chain *out) {
    const struct seg *head = plain->head;
    size_t n = rec_coalesce_len(plain);
    if (n == 0 && head->len <= REC_PLAIN_MAX && head->headroom >= REC_HEADER &&
        head->tailroom >= 1 + REC_TAG) {
        struct seg seg;
        CHECK(chain_pop(plain, &seg));
        seg.off -= REC_HEADER;
        seal_in_place(record, seg.blk->base + seg.off, seg.len, REC_APPLICATION_DATA);
        seg.len += REC_OVERHEAD;
        seg.headroom = (uint16_t)(seg.headroom - REC_HEADER);
        seg.tailroom = (uint16_t)(seg.tailroom - (1 + REC_TAG));
        chain_push(out, &seg);
        return;
    }
    bool is_single = n == 0;
    if (is_single) {
        n = MIN(head->len, (uint32_t)REC_PLAIN_MAX);
    }
    struct blk *blk = blk_new_cold(out->pool, n + REC_OVERHEAD);
    if (is_single) {
        seal_copy(record, blk->base, seg_ptr(head), n);
    } else {
        chain_peek(plain, blk->base + REC_HEADER, n);
        seal_in_place(record, blk->base, n, REC_APPLICATION_DATA);
    }
    chain_skip(plain, n);
    chain_give(out, blk, 0, (uint32_t)(n + REC_OVERHEAD));
}

size_t tls_record_seal(struct tls_record *record, struct chain *plain, struct chain *out,
                       size_t budget) {
    size_t before = out->len;
    if (record->is_write_closed) {
        return 0;
    }
    if (UNLIKELY(record->is_12)) {
        rec_12_seal(record, plain, out, budget);
        return out->len - before;
    }
    if (record->is_update_due) {
        seal_key_update(record, out);
    }
    while (!chain_empty(plain) && out->len - before < budget) {
        if (record->write.seq >= record->update_limit) {
            seal_key_update(record, out);
        }
        seal_next(record, plain, out);
    }
    return out->len - before;
}

void tls_record_close(struct tls_record *record, enum tls_err err, struct chain *out) {
    if (record->is_write_closed) {
        return;
    }
    int alert = tls_err_alert(err);
    record->is_write_closed = true;
    record->is_update_due = record->is_update_request = false;
    if (alert >= 0) {
        // Section 6: level 1 (warning) for close_notify, 2 (fatal) for errors.
        const uint8_t msg[] = {alert == ALERT_CLOSE_NOTIFY ? 1 : 2, (uint8_t)alert};
        (record->is_12 ? rec_12_seal_message : seal_message)(record, out, msg, sizeof(msg),
                                                             REC_ALERT);
    }
}

// ---- Open

static enum tls_err open_key_update(struct tls_record *record, uint8_t request, size_t rest) {
    if (request > 1) {
        return TLS_ILLEGAL_PARAMETER;
    }
    if (rest != 0) {
        return TLS_UNEXPECTED_MESSAGE; // section 5.1: no message may follow under the old key
    }
    rec_keys_update(&record->read, record->suite);
    record->is_update_asked = false;
    // Requests that come while an update waits to be sent are all answered by that one.
    if (request == 1 && !record->is_write_closed) {
        record->is_update_due = true;
    }
    return TLS_OK;
}

static enum tls_err open_message_header(struct tls_record *record) {
    const uint8_t *h = record->msg_header;
    size_t len = (size_t)h[1] << 16 | (size_t)h[2] << 8 | h[3];
    switch (h[0]) {
    case MSG_NEW_SESSION_TICKET:
        if (record->is_server) {
            return TLS_UNEXPECTED_MESSAGE;
        }
        if (len == 0 || len > REC_TICKET_MAX) {
            return TLS_DECODE_ERROR;
        }
        break;
    case MSG_KEY_UPDATE:
        if (len != 1) {
            return TLS_DECODE_ERROR;
        }
        break;
    default: // also CertificateRequest: we never offer post_handshake_auth
        return TLS_UNEXPECTED_MESSAGE;
    }
    record->msg_left = (uint32_t)len;
    return TLS_OK;
}

// Post-handshake messages; they may be cut over records. Tickets are skipped, not stored.
static enum tls_err open_handshake(struct tls_record *record, const uint8_t *p, size_t len) {
    if (len == 0) {
        return TLS_UNEXPECTED_MESSAGE; // section 5.1: no zero-length fragments of handshake types
    }
    while (len > 0) {
        if (record->msg_have < sizeof(record->msg_header)) {
            record->msg_header[record->msg_have++] = *p++;
            len--;
            if (record->msg_have == sizeof(record->msg_header)) {
                enum tls_err err = open_message_header(record);
                if (err != TLS_OK) {
                    return err;
                }
            }
            continue;
        }
        size_t n = MIN(len, (size_t)record->msg_left);
        if (record->msg_header[0] == MSG_KEY_UPDATE) {
            record->msg_have = 0;
            return open_key_update(record, *p, len - 1);
        }
        p += n;
        len -= n;
        record->msg_left -= (uint32_t)n;
        if (record->msg_left == 0) {
            record->msg_have = 0;
        }
    }
    return TLS_OK;
}

static enum tls_err open_alert(struct tls_record *record, const uint8_t *p, size_t len) {
    if (len != 2) {
        return TLS_DECODE_ERROR; // section 5.1: alerts are neither cut nor joined
    }
    if (p[1] == ALERT_CLOSE_NOTIFY) {
        record->is_read_closed = true;
        return TLS_OK;
    }
    if (p[1] == ALERT_USER_CANCELED) {
        return TLS_OK; // section 6.1: followed by close_notify
    }
    return tls_err_from_peer_alert(p[1]); // all others are fatal whatever the level says
}

// Decrypts the whole record at `in`; *ret_len = length of the inner plaintext, padding included.
static enum tls_err decrypt(struct tls_record *record, uint8_t *in, size_t len, size_t *ret_len) {
    struct rec_keys *keys = &record->read;
    uint8_t nonce[REC_IV_LEN];
    uint8_t *body = in + REC_HEADER;
    if (len < REC_TAG) {
        return TLS_BAD_RECORD_MAC;
    }
    if (keys->seq == UINT64_MAX) {
        return TLS_SEQUENCE_OVERFLOW;
    }
    len -= REC_TAG;
    rec_nonce(keys, nonce);
    if (EVP_AEAD_CTX_open_gather(&keys->aead, body, nonce, sizeof(nonce), body, len, body + len,
                                 REC_TAG, in, REC_HEADER) != 1) {
        ERR_clear_error();
        return TLS_BAD_RECORD_MAC;
    }
    keys->seq++;
    if (len > REC_PLAIN_MAX + 1) {
        return TLS_RECORD_OVERFLOW;
    }
    *ret_len = len;
    return TLS_OK;
}

static enum tls_open fail(struct tls_record *record, enum tls_err err) {
    record->err = err;
    return TLS_OPEN_ERROR;
}

static enum tls_open open_control(struct tls_record *record, uint8_t type, const uint8_t *p,
                                  size_t len) {
    enum tls_err err;
    if (type == REC_HANDSHAKE) {
        err = open_handshake(record, p, len);
    } else if (record->msg_have != 0) {
        err = TLS_UNEXPECTED_MESSAGE; // section 5.1: nothing comes between parts of a message
    } else if (type == REC_ALERT) {
        err = open_alert(record, p, len);
    } else {
        err = type == REC_APPLICATION_DATA ? TLS_OK : TLS_UNEXPECTED_MESSAGE;
    }
    if (err != TLS_OK) {
        return fail(record, err);
    }
    if (record->is_read_closed) {
        return TLS_OPEN_CLOSED;
    }
    // Floods of records that cost us work and bring nothing: KeyUpdates, tickets, empty records.
    if (++record->n_idle > REC_IDLE_MAX) {
        return fail(record, TLS_EMPTY_RECORD_FLOOD);
    }
    return TLS_OPEN_NONE;
}

// The peer sent many records under one key: ask for a new one, once a key.
static void request_update(struct tls_record *record) {
    if (UNLIKELY(record->read.seq >= record->update_limit) && !record->is_update_asked &&
        !record->is_write_closed) {
        record->is_update_asked = true;
        record->is_update_due = record->is_update_request = true;
    }
}

enum tls_open tls_record_open(struct tls_record *record, uint8_t *in, size_t len, size_t *ret_used,
                              size_t *ret_off, size_t *ret_len, size_t *ret_need) {
    if (record->err != TLS_OK) {
        return TLS_OPEN_ERROR;
    }
    if (record->is_read_closed) {
        *ret_used = len; // section 6.1: what follows close_notify is ignored
        return TLS_OPEN_CLOSED;
    }
    if (UNLIKELY(record->is_12)) {
        return rec_12_open(record, in, len, ret_used, ret_off, ret_len, ret_need);
    }
    if (len > 0 && in[0] != REC_APPLICATION_DATA) {
        return fail(record, TLS_UNEXPECTED_MESSAGE); // also CCS: the handshake is over
    }
    if (len < REC_HEADER) {
        *ret_need = 0;
        return TLS_OPEN_MORE;
    }
    size_t body_len = (size_t)in[3] << 8 | in[4];
    if (body_len > REC_CIPHER_MAX) {
        return fail(record, TLS_RECORD_OVERFLOW);
    }
    if (len < REC_HEADER + body_len) {
        *ret_need = REC_HEADER + body_len;
        return TLS_OPEN_MORE;
    }
    size_t n;
    enum tls_err err = decrypt(record, in, body_len, &n);
    if (err != TLS_OK) {
        return fail(record, err);
    }
    request_update(record);
    const uint8_t *body = in + REC_HEADER;
    while (n > 0 && body[n - 1] == 0) {
        n--; // padding
    }
    if (n == 0) {
        return fail(record, TLS_UNEXPECTED_MESSAGE); // section 5.4: no content type
    }
    uint8_t type = body[--n];
    *ret_used = REC_HEADER + body_len;
    if (LIKELY(type == REC_APPLICATION_DATA && n > 0 && record->msg_have == 0)) {
        record->n_idle = 0;
        *ret_off = REC_HEADER;
        *ret_len = n;
        return TLS_OPEN_DATA;
    }
    return open_control(record, type, body, n);
}

// ---- State

enum tls_err tls_record_error(const struct tls_record *record) {
    return record->err;
}

enum tls_err tls_record_eof(const struct tls_record *record) {
    return record->is_read_closed || record->err != TLS_OK ? TLS_OK : TLS_TRUNCATED;
}

bool tls_record_wants_write(const struct tls_record *record) {
    return record->is_update_due;
}

bool tls_record_is_write_closed(const struct tls_record *record) {
    return record->is_write_closed;
}

void tls_record_key_update(struct tls_record *record, bool request_peer) {
    if (!record->is_write_closed && !record->is_12) {
        record->is_update_due = true;
        record->is_update_request |= request_peer;
    }
}

void tls_record_set_key_update_limit(struct tls_record *record, uint64_t n_records) {
    record->update_limit = MAX(MIN(n_records, REC_UPDATE_MAX), UINT64_C(1));
}

void tls_record_set_server(struct tls_record *record) {
    record->is_server = true;
}

void tls_record_stats(const struct tls_record *record, struct tls_record_stats *ret_stats) {
    *ret_stats = (struct tls_record_stats){
        .read_seq = record->read.seq,
        .write_seq = record->write.seq,
        .n_read_updates = record->read.n_updates,
        .n_write_updates = record->write.n_updates,
    };
}

enum tls_suite tls_record_suite(const struct tls_record *record) {
    return (enum tls_suite)record->suite;
}

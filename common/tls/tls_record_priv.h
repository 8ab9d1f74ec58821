// SPDX-License-Identifier: Apache-2.0
//
// Inside common/tls and its tests: the state of a record layer.
#pragma once

#include <openssl/aead.h>

#include "common/tls/tls_record.h"

enum {
    REC_HEADER = 5,
    REC_TAG = 16,
    REC_OVERHEAD = REC_HEADER + 1 + REC_TAG, // header, inner content type, tag
    REC_PLAIN_MAX = 1 << 14,
    REC_CIPHER_MAX = REC_PLAIN_MAX + 256,
    REC_IV_LEN = 12,
    REC_SECRET_MAX = 48,
    REC_COALESCE_MAX = 4096, // neighbours up to this sum become one record
    REC_IDLE_MAX = 32, // records without data in a row
    REC_TICKET_MAX = 1 << 14, // a NewSessionTicket, which is skipped and never stored
};
#define REC_UPDATE_DEFAULT (UINT64_C(1) << 23)
#define REC_UPDATE_MAX (UINT64_C(1) << 24) // AES-GCM: RFC 8446 section 5.5 allows 2^24.5

enum rec_type { // RFC 8446 section 5.1
    REC_CHANGE_CIPHER_SPEC = 20,
    REC_ALERT = 21,
    REC_HANDSHAKE = 22,
    REC_APPLICATION_DATA = 23,
};

struct rec_keys { // one direction
    uint64_t seq; // of the next record
    uint8_t iv[REC_IV_LEN];
    uint8_t secret[REC_SECRET_MAX]; // application_traffic_secret_N
    uint32_t n_updates;
    EVP_AEAD_CTX aead;
};

struct tls_record {
    struct rec_keys read, write;
    uint64_t update_limit;
    enum tls_err err; // sticky, of the read side
    uint16_t suite;
    uint8_t secret_len;
    uint8_t explicit_len; // is_12: of the nonce, in each record
    bool is_server;
    bool is_12; // TLS 1.2 (tls_record_12.c): no secrets, no updates
    bool is_read_closed, is_write_closed;
    bool is_update_due, is_update_request; // a KeyUpdate waits; it asks the peer for one
    bool is_update_asked; // the peer was asked under its present key
    uint8_t n_idle; // records without data in a row
    uint8_t msg_have; // bytes of msg_header seen
    uint8_t msg_header[4]; // handshake message that is under way
    uint32_t msg_left; // bytes of its body still to come
};

// Key schedule (tls_keys.c), RFC 8446 sections 7.1 to 7.3.
void rec_keys_init(struct rec_keys *keys, uint16_t suite, struct slice secret, uint64_t seq);
void rec_keys_update(struct rec_keys *keys, uint16_t suite); // to the next generation, seq 0
void rec_keys_fini(struct rec_keys *keys); // wipes
size_t rec_secret_len(uint16_t suite); // 0: not a suite of ours
void rec_nonce(const struct rec_keys *keys, uint8_t ret_nonce[REC_IV_LEN]);

// Bytes of the first segments that go together into one record by copy; 0 when the first goes
// alone.
size_t rec_coalesce_len(const struct chain *plain);

// TLS 1.2 (tls_record_12.c), behind the functions of tls_record.h.
void rec_12_seal(struct tls_record *record, struct chain *plain, struct chain *out, size_t budget);
void rec_12_seal_message(struct tls_record *record, struct chain *out, const uint8_t *bytes,
                         size_t len, uint8_t type);
enum tls_open rec_12_open(struct tls_record *record, uint8_t *in, size_t len, size_t *ret_used,
                          size_t *ret_off, size_t *ret_len, size_t *ret_need);

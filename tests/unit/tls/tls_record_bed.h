// SPDX-License-Identifier: Apache-2.0
//
// Two record layers that share their secrets, and a reader of what comes in.
#pragma once

#include "common/base/buf.h"
#include "common/tls/tls_record_priv.h"

// Of the two directions.
extern const uint8_t record_secrets[2][48];

// Two record layers joined, without a handshake.
void record_pair(enum tls_suite suite, struct tls_record **ret_a, struct tls_record **ret_b);

struct reader { // opens what comes in, keeps the plaintext
    struct tls_record *record;
    struct buf in, plain;
    enum tls_open last;
    size_t n_records, n_none;
};

void reader_init(struct reader *r, struct tls_record *record);
void reader_fini(struct reader *r);
// In pieces of at most `chunk` bytes.
void reader_feed(struct reader *r, struct slice bytes, size_t chunk);
void reader_feed_chain(struct reader *r, struct chain *chain, size_t chunk);
// So many bytes more, with room around them.
void put_plain(struct chain *plain, size_t len);

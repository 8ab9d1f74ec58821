// SPDX-License-Identifier: Apache-2.0
#include "tests/unit/tls/tls_record_bed.h"

#include <openssl/err.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "common/base/buf.h"
#include "common/tls/tls_record_priv.h"
#include "tests/unit/tls/tls_fixture.h"

const uint8_t record_secrets[2][48] = {{1, 2, 3}, {4, 5, 6}};

void record_pair(enum tls_suite suite, struct tls_record **ret_a, struct tls_record **ret_b) {
    size_t len = suite == TLS_SUITE_AES_128_GCM_SHA256 ? 32 : 48;
    struct slice one = slice_make(record_secrets[0], len);
    struct slice two = slice_make(record_secrets[1], len);
    *ret_a = tls_record_new(suite, one, 0, two, 0);
    *ret_b = tls_record_new(suite, two, 0, one, 0);
    assert_non_null(*ret_a);
    assert_non_null(*ret_b);
}

void reader_init(struct reader *r, struct tls_record *record) {
    *r = (struct reader){.record = record};
    buf_init(&r->in, 64 << 20);
    buf_init(&r->plain, 64 << 20);
}

void reader_fini(struct reader *r) {
    buf_fini(&r->in);
    buf_fini(&r->plain);
}

// Consumes whole records from r->in; checks what MORE promises.
static void reader_run(struct reader *r) {
    size_t at = 0;
    for (;;) {
        size_t used = 0, off = 0, len = 0, need = 0;
        // A copy of exact size, so that a read past the end is seen by the sanitizer.
        size_t left = r->in.len - at;
        uint8_t *exact = xmalloc(left);
        memcpy(exact, r->in.ptr + at, left);
        r->last = tls_record_open(r->record, exact, left, &used, &off, &len, &need);
        if (r->last == TLS_OPEN_DATA) {
            assert_true(off + len <= used && used <= left);
            buf_append(&r->plain, slice_make(exact + off, len));
        }
        free(exact);
        if (r->last == TLS_OPEN_MORE) {
            assert_true(need == 0 ? left < 5 : left < need);
            break;
        }
        if (r->last == TLS_OPEN_ERROR || r->last == TLS_OPEN_CLOSED) {
            break;
        }
        r->n_records++;
        r->n_none += r->last == TLS_OPEN_NONE;
        at += used;
    }
    if (at > 0) {
        memmove(r->in.ptr, r->in.ptr + at, r->in.len - at);
        buf_truncate(&r->in, r->in.len - at);
    }
}

void reader_feed(struct reader *r, struct slice bytes, size_t chunk) {
    while (bytes.len > 0) {
        struct slice part = slice_head(bytes, chunk != 0 ? chunk : bytes.len);
        buf_append(&r->in, part);
        bytes = slice_skip(bytes, part.len);
        reader_run(r);
        if (r->last == TLS_OPEN_ERROR) {
            return;
        }
    }
}

void reader_feed_chain(struct reader *r, struct chain *chain, size_t chunk) {
    struct seg seg;
    while (chain_pop(chain, &seg)) {
        reader_feed(r, seg_slice(&seg), chunk);
        blk_unref(seg.blk);
    }
}

void put_plain(struct chain *plain, size_t len) {
    struct blk *blk = blk_new_cold(&fix_pool, len + 31);
    memset(blk->base, 'p', len + 31);
    chain_give_room(plain, blk, 14, (uint32_t)len, 14, 17);
}

// SPDX-License-Identifier: Apache-2.0
//
// Header blocks and the rules for their fields. Byte 0: flags (table size, acknowledged, kind of
// list); then records of length and bytes: pieces of blocks, a length of 0 ends a block. Whatever
// decodes is encoded and decoded again, with the same result.
#include <stdlib.h>

#include "common/proto/h2_block.h"
#include "common/proto/h2_hpack.h"
#include "common/proto/h2_rules.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

enum { MAX_LIST = 4000 };

static void must(bool ok) {
    if (!ok) {
        abort();
    }
}

static void check_round_trip(const struct h2_block *block) {
    size_t cap = h2_hpack_bound(block->fields, block->n_fields);
    uint8_t *buf = xmalloc(cap);
    struct h2_hpack_dec dec;
    h2_hpack_dec_init(&dec, 4096);
    size_t len = h2_hpack_encode(block->fields, block->n_fields, buf, cap);
    struct h2_block *again = h2_block_new(1, H2_BLOCK_REQUEST, false);
    must(h2_block_feed(again, &dec, slice_make(buf, len), true, MAX_LIST) == H2_NO_ERROR);
    must(again->n_fields == block->n_fields && again->list_size == block->list_size);
    for (size_t i = 0; i < again->n_fields; i++) {
        must(slice_eq(again->fields[i].name, block->fields[i].name));
        must(slice_eq(again->fields[i].value, block->fields[i].value));
    }
    h2_block_free(again);
    h2_hpack_dec_fini(&dec);
    free(buf);
}

static void check_list(const struct h2_block *block, uint8_t flags) {
    must(block->is_too_big || block->list_size <= MAX_LIST);
    must(h2_block_memory(block) < 16 * MAX_LIST);
    struct h2_list_info info = {0};
    enum h2_list_kind kind = (enum h2_list_kind)(flags >> 4 & 3) % 3;
    if (h2_rules_check(kind, block->fields, block->n_fields, (flags & 0x40) != 0, &info)) {
        must(kind != H2_LIST_RESPONSE || (info.status >= 100 && info.status <= 999));
    }
    if (!block->is_too_big) {
        check_round_trip(block);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len) {
    if (len < 1) {
        return 0;
    }
    uint8_t flags = data[0];
    struct h2_hpack_dec dec;
    h2_hpack_dec_init(&dec, (flags & 1) != 0 ? 0 : 4096);
    if ((flags & 2) != 0) {
        h2_hpack_dec_acked(&dec);
    }
    struct h2_block *block = h2_block_new(1, H2_BLOCK_REQUEST, false);
    for (size_t at = 1; at < len;) {
        size_t n = MIN((size_t)data[at], len - at - 1);
        struct slice piece = slice_make(data + at + 1, n);
        at += 1 + n;
        bool is_last = n == 0 || at == len;
        if (h2_block_feed(block, &dec, piece, is_last, MAX_LIST) != H2_NO_ERROR) {
            break;
        }
        if (is_last) {
            check_list(block, flags);
            h2_block_free(block);
            block = h2_block_new(1, H2_BLOCK_REQUEST, false);
            if ((flags & 4) != 0) {
                h2_hpack_dec_acked(&dec);
            }
        }
    }
    h2_block_free(block);
    h2_hpack_dec_fini(&dec);
    return 0;
}

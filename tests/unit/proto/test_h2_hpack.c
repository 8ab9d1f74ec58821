// SPDX-License-Identifier: Apache-2.0
#include "common/proto/h2_hpack.h"

#include "tests/unit/proto/h2_harness.h"

#include <stdlib.h>

#include "common/proto/h2_block.h"

// Decodes a block in pieces of `chunk` bytes; the fields as text "n=v|..." or NULL for an error.
static char *decode(struct h2_hpack_dec *dec, const uint8_t *bytes, size_t len, size_t chunk) {
    char *text = xstrdup("");
    size_t at = 0;
    for (;;) {
        size_t n = MIN(chunk, len - at);
        struct slice in = slice_make(bytes + at, n);
        at += n;
        for (;;) {
            struct http_field field;
            enum h2_hpack_result result = h2_hpack_decode(dec, &in, at == len, &field);
            if (result == H2_HPACK_ERROR) {
                free(text);
                return NULL;
            }
            if (result == H2_HPACK_DONE) {
                return text;
            }
            if (result == H2_HPACK_MORE) {
                break;
            }
            char *more = xasprintf("%s%s%.*s=%.*s", text, text[0] != 0 ? "|" : "",
                                   SLICE_ARG(field.name), SLICE_ARG(field.value));
            free(text);
            text = more;
        }
    }
}

static void expect(struct h2_hpack_dec *dec, const void *bytes, size_t len, const char *text) {
    for (size_t chunk = 1; chunk <= len + 1; chunk++) {
        struct h2_hpack_dec fresh = *dec;
        // A decoder without state may be copied; others are tried with one chunk size only.
        bool is_stateless = dec->inflater == NULL && dec->table_size == 0;
        char *got = decode(is_stateless ? &fresh : dec, bytes, len, chunk);
        if (text == NULL) {
            assert_null(got);
        } else {
            assert_non_null(got);
            assert_string_equal(got, text);
        }
        free(got);
        if (is_stateless && chunk == len + 1) {
            *dec = fresh;
        } else if (is_stateless) {
            h2_hpack_dec_fini(&fresh);
        } else {
            break;
        }
    }
}

// RFC 7541 C.4: requests with Huffman code and the dynamic table.
static void test_rfc_examples(void **state) {
    (void)state;
    static const uint8_t first[] = {0x82, 0x86, 0x84, 0x41, 0x8c, 0xf1, 0xe3, 0xc2, 0xe5,
                                    0xf2, 0x3a, 0x6b, 0xa0, 0xab, 0x90, 0xf4, 0xff};
    static const uint8_t second[] = {0x82, 0x86, 0x84, 0xbe, 0x58, 0x86,
                                     0xa8, 0xeb, 0x10, 0x64, 0x9c, 0xbf};
    struct h2_hpack_dec dec;
    h2_hpack_dec_init(&dec, 4096);
    expect(&dec, first, sizeof(first),
           ":method=GET|:scheme=http|:path=/|:authority=www.example.com");
    expect(&dec, second, sizeof(second),
           ":method=GET|:scheme=http|:path=/|:authority=www.example.com|cache-control=no-cache");
    assert_true(h2_hpack_dec_memory(&dec) > 0);
    h2_hpack_dec_fini(&dec);
}

// Announced 0: 4096 until the acknowledgement, the update once after it, no state between blocks.
static void test_size_update_rules(void **state) {
    (void)state;
    struct h2_hpack_dec dec;
    h2_hpack_dec_init(&dec, 0);
    assert_int_equal(h2_hpack_dec_memory(&dec), 0);
    static const uint8_t insert[] = {0x40, 1, 'x', 1, 'y'};
    static const uint8_t refer[] = {0xbe};
    static const uint8_t plain[] = {0x82};
    static const uint8_t updated[] = {0x20, 0x82};
    static const uint8_t too_large[] = {0x21, 0x82};
    static const uint8_t late[] = {0x82, 0x20};
    char *text = decode(&dec, insert, sizeof(insert), 9);
    assert_string_equal(text, "x=y");
    free(text);
    expect(&dec, refer, 1, "x=y");
    h2_hpack_dec_acked(&dec);
    assert_int_equal(h2_hpack_dec_memory(&dec), 0);
    struct h2_hpack_dec copy = dec; // an error is final for its decoder
    expect(&copy, plain, 1, NULL);
    h2_hpack_dec_fini(&copy);
    copy = dec;
    expect(&copy, too_large, 2, NULL);
    h2_hpack_dec_fini(&copy);
    expect(&dec, updated, 2, ":method=GET");
    assert_int_equal(h2_hpack_dec_memory(&dec), 0);
    expect(&dec, plain, 1, ":method=GET");
    expect(&dec, updated, 2, ":method=GET");
    copy = dec;
    expect(&copy, refer, 1, NULL); // the table is gone
    h2_hpack_dec_fini(&copy);
    copy = dec;
    expect(&copy, late, 2, NULL);
    h2_hpack_dec_fini(&copy);
    expect(&dec, insert, sizeof(insert), "x=y"); // allowed, and inserts nothing
    copy = dec;
    expect(&copy, refer, 1, NULL);
    h2_hpack_dec_fini(&copy);
    expect(&dec, "", 0, "");
    h2_hpack_dec_fini(&dec);
}

// An encoder that announced size 0 before the acknowledgement need not do so again.
static void test_early_update(void **state) {
    (void)state;
    struct h2_hpack_dec dec;
    h2_hpack_dec_init(&dec, 0);
    static const uint8_t updated[] = {0x20, 0x82};
    expect(&dec, updated, 2, ":method=GET");
    h2_hpack_dec_acked(&dec);
    expect(&dec, updated + 1, 1, ":method=GET");
    h2_hpack_dec_fini(&dec);
}

static void test_encoder_never_indexes(void **state) {
    (void)state;
    struct http_field fields[16];
    size_t n = fields_of(REQ_GET "|cookie=a=b|x-custom=some value|user-agent=me", fields, 16);
    fields[n - 1].sensitive = true;
    uint8_t first[512], again[512];
    size_t len = h2_hpack_encode(fields, n, first, sizeof(first));
    assert_true(len <= h2_hpack_bound(fields, n));
    for (int i = 0; i < 3; i++) {
        assert_int_equal(h2_hpack_encode(fields, n, again, sizeof(again)), len);
        assert_memory_equal(first, again, len);
    }
    assert_true(first[0] != H2_HPACK_UPDATE_ZERO);
    // A decoder whose table was empty all the time reads it.
    struct h2_hpack_dec dec;
    h2_hpack_dec_init(&dec, 0);
    h2_hpack_dec_acked(&dec);
    memmove(first + 1, first, len);
    first[0] = H2_HPACK_UPDATE_ZERO;
    char *text = decode(&dec, first, len + 1, 1);
    assert_string_equal(text, REQ_GET "|cookie=a=b|x-custom=some value|user-agent=me");
    free(text);
    h2_hpack_dec_fini(&dec);
}

// Every index of the static table, as the decoder knows it: name and value in one byte where the
// entry has both, else the name by its index.
static void test_static_table(void **state) {
    (void)state;
    for (uint8_t index = 1; index <= 61; index++) {
        struct h2_hpack_dec dec;
        h2_hpack_dec_init(&dec, 4096);
        uint8_t indexed = 0x80 | index;
        struct slice in = slice_make(&indexed, 1);
        struct http_field field;
        assert_int_equal(h2_hpack_decode(&dec, &in, true, &field), H2_HPACK_FIELD);
        uint8_t buf[200];
        size_t len = h2_hpack_encode(&field, 1, buf, sizeof(buf));
        if (field.value.len > 0) {
            assert_int_equal(len, 1);
            assert_int_equal(buf[0], indexed);
        }
        char *name = slice_dup(field.name);
        struct http_field other = {slice_str(name), SLICE_LIT("other value"), index % 2 == 0};
        len = h2_hpack_encode(&other, 1, buf, sizeof(buf));
        assert_true(len <= 2 + 1 + other.value.len); // no name in it
        assert_int_equal(buf[0] & 0xf0, other.sensitive ? 0x10 : 0);
        h2_hpack_dec_fini(&dec);
        h2_hpack_dec_init(&dec, 4096);
        in = slice_make(buf, len);
        assert_int_equal(h2_hpack_decode(&dec, &in, true, &field), H2_HPACK_FIELD);
        assert_true(slice_eq(field.name, other.name) && slice_eq(field.value, other.value));
        assert_true(field.sensitive == other.sensitive);
        h2_hpack_dec_fini(&dec);
        free(name);
    }
}

// Lengths around every step of the integer code.
static void test_lengths(void **state) {
    (void)state;
    static const size_t lens[] = {0, 1, 126, 127, 128, 254, 255, 256, 16510, 16511, 16512, 60000};
    char *text = xmalloc(60000);
    memset(text, 'v', 60000);
    for (size_t i = 0; i < ARRAY_LEN(lens); i++) {
        struct http_field field = {slice_make(text, MAX(lens[i], (size_t)1)),
                                   slice_make(text, lens[i]), false};
        size_t cap = h2_hpack_bound(&field, 1);
        uint8_t *buf = xmalloc(cap);
        size_t len = h2_hpack_encode(&field, 1, buf, cap);
        struct h2_block *block = h2_block_new(1, H2_BLOCK_REQUEST, false);
        struct h2_hpack_dec dec;
        h2_hpack_dec_init(&dec, 4096);
        assert_int_equal(h2_block_feed(block, &dec, slice_make(buf, len), true, 200000),
                         H2_NO_ERROR);
        assert_int_equal(block->n_fields, 1);
        assert_true(slice_eq(block->fields[0].name, field.name));
        assert_true(slice_eq(block->fields[0].value, field.value));
        h2_block_free(block);
        h2_hpack_dec_fini(&dec);
        free(buf);
    }
    free(text);
}

// Random lists through encoder, block and decoder, cut anywhere.
static void test_random(void **state) {
    (void)state;
    uint64_t seed = 42;
    for (int round = 0; round < 300; round++) {
        struct h2_hpack_dec dec;
        h2_hpack_dec_init(&dec, round % 3 == 0 ? 0 : 4096);
        for (int i = 0; i < 4; i++) {
            static char text[60][2][300];
            struct http_field fields[60];
            size_t n = rnd(&seed) % 60;
            size_t list_size = 0;
            for (size_t f = 0; f < n; f++) {
                size_t len[2] = {1 + rnd(&seed) % 30, rnd(&seed) % 300};
                for (int part = 0; part < 2; part++) {
                    for (size_t k = 0; k < len[part]; k++) {
                        text[f][part][k] = (char)rnd(&seed);
                    }
                }
                fields[f] =
                    (struct http_field){slice_make(text[f][0], len[0]),
                                        slice_make(text[f][1], len[1]), rnd(&seed) % 2 == 0};
                list_size += len[0] + len[1] + 32;
            }
            uint8_t buf[40000];
            assert_true(h2_hpack_bound(fields, n) <= sizeof(buf));
            buf[0] = H2_HPACK_UPDATE_ZERO;
            size_t len = 1 + h2_hpack_encode(fields, n, buf + 1, sizeof(buf) - 1);
            struct h2_block *block = h2_block_new(1, H2_BLOCK_REQUEST, false);
            for (size_t at = 0; at < len;) {
                size_t piece = 1 + rnd(&seed) % MIN(len - at, (size_t)2000);
                struct slice in = slice_make(buf + at, piece);
                at += piece;
                assert_int_equal(h2_block_feed(block, &dec, in, at == len, 65536), H2_NO_ERROR);
            }
            assert_int_equal(block->n_fields, n);
            assert_int_equal(block->list_size, list_size);
            assert_true(h2_block_memory(block) < 100000);
            for (size_t f = 0; f < n; f++) {
                assert_true(slice_eq(block->fields[f].name, fields[f].name));
                assert_true(slice_eq(block->fields[f].value, fields[f].value));
                assert_true(block->fields[f].sensitive == fields[f].sensitive);
            }
            h2_block_free(block);
            if (i == 1) {
                h2_hpack_dec_acked(&dec);
            }
        }
        h2_hpack_dec_fini(&dec);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rfc_examples), cmocka_unit_test(test_size_update_rules),
        cmocka_unit_test(test_early_update), cmocka_unit_test(test_encoder_never_indexes),
        cmocka_unit_test(test_static_table), cmocka_unit_test(test_lengths),
        cmocka_unit_test(test_random),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

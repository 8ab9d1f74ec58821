// SPDX-License-Identifier: Apache-2.0
#include "common/proto/grpc.h"

#include <stdlib.h>

#include "tests/unit/base/unit.h"

enum { MAX = 300 };

// Reads all of `bytes`, `chunk` of them at a time; appends the messages to `out` with a '|' behind
// each. The last result.
static enum grpc_read read_all(struct slice bytes, size_t chunk, struct buf *out, bool *ret_rest) {
    struct grpc_reader reader;
    enum grpc_read result = GRPC_READ_MORE;
    grpc_reader_init(&reader, MAX);
    for (size_t at = 0; at < bytes.len && result == GRPC_READ_MORE; at += chunk) {
        struct slice in = slice_head(slice_skip(bytes, at), chunk), message;
        // A copy of its own: what is read behind it, the sanitizer sees.
        char *copy = slice_dup(in);
        in.ptr = (const uint8_t *)copy;
        while ((result = grpc_reader_next(&reader, &in, &message)) == GRPC_READ_MESSAGE) {
            buf_append(out, message);
            buf_append_byte(out, '|');
        }
        assert_true(result != GRPC_READ_MORE || in.len == 0);
        free(copy);
    }
    *ret_rest = !grpc_reader_is_between(&reader);
    grpc_reader_fini(&reader);
    return result;
}

static void put(struct buf *out, const char *text) {
    uint8_t prefix[GRPC_PREFIX_LEN];
    grpc_prefix_write(prefix, (uint32_t)strlen(text));
    buf_append(out, slice_make(prefix, sizeof(prefix)));
    buf_append_str(out, text);
}

static void test_messages(void **state) {
    char long_text[MAX + 1];
    memset(long_text, 'x', MAX);
    long_text[MAX] = '\0';
    const char *const texts[] = {"hello", "", "a", long_text, "", "end"};
    struct buf bytes, out;
    buf_init(&bytes, 4096);
    buf_init(&out, 4096);
    for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
        put(&bytes, texts[i]);
        buf_append_str(&out, texts[i]);
        buf_append_byte(&out, '|');
    }
    struct slice want = slice_make(slice_dup(buf_slice(&out)), out.len);
    for (size_t chunk = 1; chunk <= bytes.len; chunk++) {
        bool has_rest = true;
        buf_clear(&out);
        assert_int_equal(read_all(buf_slice(&bytes), chunk, &out, &has_rest), GRPC_READ_MORE);
        assert_true(slice_eq(buf_slice(&out), want));
        assert_false(has_rest);
    }
    // Cut anywhere else than behind a message, something is left over.
    bool has_rest = false;
    (void)read_all(slice_head(buf_slice(&bytes), 3), 3, &out, &has_rest);
    assert_true(has_rest);
    (void)read_all(slice_head(buf_slice(&bytes), 8), 8, &out, &has_rest);
    assert_true(has_rest);
    free((void *)(uintptr_t)want.ptr);
    buf_fini(&bytes);
    buf_fini(&out);
}

static void test_refused(void **state) {
    static const struct {
        struct slice bytes;
        enum grpc_read result;
    } cases[] = {
        {SLICE_LIT("\1\0\0\0\1x"), GRPC_READ_COMPRESSED},
        {SLICE_LIT("\2"), GRPC_READ_COMPRESSED},
        {SLICE_LIT("\0\0\0\1\x2d"), GRPC_READ_TOO_LARGE}, // 301, before a byte of it
        {SLICE_LIT("\0\xff\xff\xff\xff"), GRPC_READ_TOO_LARGE},
        {SLICE_LIT("\0\0\0\1\x2c"), GRPC_READ_MORE}, // 300
    };
    struct buf out;
    buf_init(&out, 4096);
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        for (size_t chunk = 1; chunk <= cases[i].bytes.len; chunk++) {
            bool has_rest;
            assert_int_equal(read_all(cases[i].bytes, chunk, &out, &has_rest), cases[i].result);
        }
    }
    assert_int_equal(out.len, 0);
    buf_fini(&out);
}

// What is kept of a message is what has come of it.
static void test_memory(void **state) {
    struct grpc_reader reader;
    struct slice in = SLICE_LIT("\0\x0f\xff\xff\xffx"), message;
    grpc_reader_init(&reader, 1 << 30);
    assert_int_equal(grpc_reader_next(&reader, &in, &message), GRPC_READ_MORE);
    assert_int_equal(reader.message.len, 1);
    assert_true(reader.message.cap < 4096);
    grpc_reader_fini(&reader);
}

// A large message does not leave its memory behind.
static void test_memory_after(void **state) {
    static uint8_t bytes[5 + 100000] = {0, 0, 1, 0x86, 0xa0};
    struct grpc_reader reader;
    struct slice all = slice_make(bytes, sizeof(bytes)), message;
    struct slice head = slice_head(all, 50000), tail = slice_skip(all, 50000);
    grpc_reader_init(&reader, 1 << 20);
    assert_int_equal(grpc_reader_next(&reader, &head, &message), GRPC_READ_MORE);
    assert_int_equal(grpc_reader_next(&reader, &tail, &message), GRPC_READ_MESSAGE);
    assert_int_equal(message.len, 100000);
    assert_int_equal(grpc_reader_next(&reader, &tail, &message), GRPC_READ_MORE);
    assert_int_equal(reader.message.cap, 0);
    head = slice_make(bytes, 9);
    assert_int_equal(grpc_reader_next(&reader, &head, &message), GRPC_READ_MORE);
    assert_int_equal(reader.message.len, 4);
    grpc_reader_fini(&reader);
}

static void test_texts(void **state) {
    static const struct {
        const char *encoded, *text;
    } cases[] = {
        {"", ""},
        {"plain text", "plain text"},
        {"100%25 %C3%A9", "100% \xc3\xa9"},
        {"%", "?"},
        {"%4", "?4"},
        {"%zz", "?zz"},
        {"a%0Ab%00c", "a?b?c"},
    };
    char text[32];
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        grpc_message_decode(slice_str(cases[i].encoded), text, sizeof(text));
        assert_string_equal(text, cases[i].text);
    }
    grpc_message_decode(SLICE_LIT("0123456789"), text, 5);
    assert_string_equal(text, "0123");
    struct buf out;
    buf_init(&out, 100);
    grpc_message_append(SLICE_LIT("50% \n\xff"), &out);
    grpc_message_decode(buf_slice(&out), text, sizeof(text));
    assert_string_equal(text, "50% ?\xff");
    buf_fini(&out);
}

static void test_status(void **state) {
    uint8_t status = 0;
    assert_string_equal(grpc_status_name(GRPC_UNAVAILABLE), "UNAVAILABLE");
    assert_string_equal(grpc_status_name((enum grpc_status)17), "?");
    assert_string_equal(grpc_status_label(GRPC_PERMISSION_DENIED), "permission_denied");
    assert_string_equal(grpc_status_label((enum grpc_status)200), "unknown");
    assert_true(grpc_status_parse(SLICE_LIT("16"), &status));
    assert_int_equal(status, GRPC_UNAUTHENTICATED);
    assert_false(grpc_status_parse(SLICE_LIT("17"), &status));
}

int main(void) {
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_messages), cmocka_unit_test(test_refused),
        cmocka_unit_test(test_memory),   cmocka_unit_test(test_memory_after),
        cmocka_unit_test(test_texts),    cmocka_unit_test(test_status),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

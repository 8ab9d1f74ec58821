// SPDX-License-Identifier: Apache-2.0
#include "common/base/json_out.h"

#include <math.h>

#include "tests/unit/base/unit.h"

static void test_quote(void **state) {
    static const struct {
        const char *in, *out;
    } rows[] = {
        {"", "\"\""},
        {"plain text", "\"plain text\""},
        {"a\"b\\c", "\"a\\\"b\\\\c\""},
        {"\b\f\n\r\t", "\"\\b\\f\\n\\r\\t\""},
        {"\x01\x1f\x7f", "\"\\u0001\\u001f\\u007f\""},
        {"/", "\"/\""},
        {"\xc3\xa9 \xe2\x82\xac \xf0\x9f\x98\x80", "\"\xc3\xa9 \xe2\x82\xac \xf0\x9f\x98\x80\""},
        {"\x80", "\"\xef\xbf\xbd\""}, // stray continuation
        {"\xc3", "\"\xef\xbf\xbd\""}, // cut off
        {"\xe2\x82", "\"\xef\xbf\xbd\xef\xbf\xbd\""},
        {"\xc0\xaf", "\"\xef\xbf\xbd\xef\xbf\xbd\""}, // overlong
        {"\xe0\x80\xaf", "\"\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\""},
        {"\xed\xa0\x80", "\"\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\""}, // surrogate
        {"\xf4\x90\x80\x80", "\"\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\""},
        {"\xf4\x8f\xbf\xbf", "\"\xf4\x8f\xbf\xbf\""},
        {"\xff z", "\"\xef\xbf\xbd z\""},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct buf buf;
        buf_init(&buf, 1000);
        json_out_quote(&buf, slice_str(rows[i].in));
        assert_string_equal(buf_cstr(&buf), rows[i].out);
        buf_fini(&buf);
    }
    struct buf buf;
    buf_init(&buf, 100);
    json_out_quote(&buf, slice_make("a\0b", 3));
    assert_string_equal(buf_cstr(&buf), "\"a\\u0000b\"");
    buf_fini(&buf);
}

// Every byte at every place of a text: escaped or not, as the rules say.
static void test_quote_places(void **state) {
    for (int byte = 1; byte < 256; byte++) {
        bool is_plain = byte >= 0x20 && byte < 0x7f && byte != '"' && byte != '\\';
        for (size_t at = 0; at < 20; at++) {
            char text[21] = "abcdefghijklmnopqrst";
            text[at] = (char)byte;
            struct buf buf;
            buf_init(&buf, 200);
            json_out_quote(&buf, slice_make(text, 20));
            assert_int_equal(buf.len == 22, is_plain);
            assert_memory_equal(buf.ptr + 1, text, at + (is_plain ? 1 : 0));
            assert_memory_equal(buf.ptr + buf.len - 1 - (19 - at), text + at + 1, 19 - at);
            buf_fini(&buf);
        }
    }
}

static void write_sample(struct json_out *out) {
    json_out_begin_object(out);
    json_out_kv_str(out, "s", "x");
    json_out_kv_str(out, "n", NULL);
    json_out_kv_string(out, "t", SLICE_LIT("y"));
    json_out_kv_u64(out, "u", UINT64_MAX);
    json_out_kv_i64(out, "i", -1);
    json_out_kv_bool(out, "b", true);
    json_out_kv_array(out, "a");
    json_out_u64(out, 1);
    json_out_begin_array(out);
    json_out_end(out);
    json_out_begin_object(out);
    json_out_end(out);
    json_out_bool(out, false);
    json_out_null(out);
    json_out_raw(out, SLICE_LIT("{\"r\":1}"));
    json_out_end(out);
    json_out_kv_object(out, "o");
    json_out_key(out, SLICE_LIT("k\""));
    json_out_double(out, 0.1);
    json_out_end(out);
    json_out_end(out);
}

static void test_compact(void **state) {
    struct buf buf;
    struct json_out out;
    buf_init(&buf, 4096);
    json_out_init(&out, &buf, false);
    write_sample(&out);
    assert_string_equal(buf_cstr(&buf),
                        "{\"s\":\"x\",\"n\":null,\"t\":\"y\",\"u\":18446744073709551615,\"i\":-1,"
                        "\"b\":true,\"a\":[1,[],{},false,null,{\"r\":1}],\"o\":{\"k\\\"\":0.1}}");
    buf_fini(&buf);
}

static void test_pretty(void **state) {
    struct buf buf;
    struct json_out out;
    buf_init(&buf, 4096);
    json_out_init(&out, &buf, true);
    write_sample(&out);
    assert_string_equal(buf_cstr(&buf),
                        "{\n  \"s\": \"x\",\n  \"n\": null,\n  \"t\": \"y\",\n"
                        "  \"u\": 18446744073709551615,\n  \"i\": -1,\n  \"b\": true,\n"
                        "  \"a\": [\n    1,\n    [],\n    {},\n    false,\n    null,\n"
                        "    {\"r\":1}\n  ],\n  \"o\": {\n    \"k\\\"\": 0.1\n  }\n}");
    buf_fini(&buf);
}

static void test_numbers(void **state) {
    static const struct {
        double value;
        const char *text;
    } rows[] = {
        {0, "0"},     {1.5, "1.5"},  {1e300, "1e+300"},  {1.0 / 3, "0.33333333333333331"},
        {-2.0, "-2"}, {NAN, "null"}, {INFINITY, "null"},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct buf buf;
        struct json_out out;
        buf_init(&buf, 100);
        json_out_init(&out, &buf, false);
        json_out_double(&out, rows[i].value);
        assert_string_equal(buf_cstr(&buf), rows[i].text);
        buf_fini(&buf);
    }
}

static void test_depth(void **state) {
    struct buf buf;
    struct json_out out;
    buf_init(&buf, 4096);
    json_out_init(&out, &buf, false);
    for (int i = 0; i < JSON_OUT_MAX_DEPTH; i++) {
        if (i % 2 != 0) {
            json_out_key(&out, SLICE_LIT("k"));
        }
        if (i % 2 == 0) {
            json_out_begin_object(&out);
        } else {
            json_out_begin_array(&out);
        }
    }
    for (int i = 0; i < JSON_OUT_MAX_DEPTH; i++) {
        json_out_end(&out);
    }
    assert_int_equal(out.depth, 0);
    assert_int_equal(buf.len, JSON_OUT_MAX_DEPTH / 2 * 8);
    buf_fini(&buf);
}

// At every maximum the writer ends, and says that the result is cut.
static void test_caps(void **state) {
    struct buf buf;
    struct json_out out;
    buf_init(&buf, SIZE_MAX);
    json_out_init(&out, &buf, false);
    write_sample(&out);
    size_t whole = buf.len;
    buf_fini(&buf);
    for (size_t max = 0; max <= whole + 1; max++) {
        buf_init(&buf, max);
        json_out_init(&out, &buf, false);
        write_sample(&out);
        assert_true(buf.len <= max);
        assert_int_equal(buf_ok(&buf), max >= whole);
        buf_fini(&buf);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_quote),   cmocka_unit_test(test_quote_places),
        cmocka_unit_test(test_compact), cmocka_unit_test(test_pretty),
        cmocka_unit_test(test_numbers), cmocka_unit_test(test_depth),
        cmocka_unit_test(test_caps),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

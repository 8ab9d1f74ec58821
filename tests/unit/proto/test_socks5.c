// SPDX-License-Identifier: Apache-2.0
#include "common/proto/socks5.h"
#include "tests/unit/base/unit.h"

#define HELLO "\5\1\0"
#define REQUEST HELLO "\5\1\0"
#define BYTES(text)                                                                                \
    { (const uint8_t *)(text), sizeof(text) - 1 }

// Feeds `in` in pieces of at most `step` bytes. Returns the last event, and how much was taken.
static enum socks5_event feed(struct socks5 *socks, struct slice in, size_t step, size_t *ret_taken,
                              int *ret_n_methods) {
    enum socks5_event event = SOCKS5_MORE;
    size_t at = 0;
    socks5_init(socks);
    *ret_n_methods = 0;
    while (at < in.len && event != SOCKS5_REQUEST && event != SOCKS5_REFUSED) {
        size_t n = MIN(MIN(socks5_need(socks), step), in.len - at);
        assert_true(n > 0);
        event = socks5_recv(socks, slice_make(in.ptr + at, n));
        at += n;
        if (event == SOCKS5_METHOD) {
            ++*ret_n_methods;
            assert_int_equal(socks->n_reply, 2);
            assert_memory_equal(socks->reply, "\5\0", 2);
        }
    }
    *ret_taken = at;
    return event;
}

static void test_requests(void **state) {
    static const struct {
        struct slice in;
        const char *to, *host;
    } cases[] = {
        {BYTES(REQUEST "\1\12\1\2\3\0\120"), "10.1.2.3:80", ""},
        {BYTES(REQUEST "\1\12\1\2\3\0\120GET / HTTP/1.1"), "10.1.2.3:80", ""},
        {BYTES("\5\3\2\1\0\5\1\0\1\1\1\1\1\377\377"), "1.1.1.1:65535", ""},
        {BYTES(REQUEST "\4\375\0\0\0\0\0\0\0\0\0\0\0\0\0\0\1\37\220"), "[fd00::1]:8080", ""},
        {BYTES(REQUEST "\4\0\0\0\0\0\0\0\0\0\0\377\377\1\2\3\4\0\1"), "1.2.3.4:1", ""},
        {BYTES(REQUEST "\3\10web.shop\0\120"), ":80", "web.shop"},
        {BYTES(REQUEST "\3\14_A-z.Example\0\120"), ":80", "_a-z.example"},
        {BYTES(REQUEST "\3\2a.\0\120"), ":80", "a"},
        {BYTES(REQUEST "\3\010"
                       "127.0.0.\0\120"),
         ":80", "127.0.0"},
        {BYTES(REQUEST "\3\0111.2.3.123\0\120"), "1.2.3.123:80", ""},
        {BYTES(REQUEST "\3\3::1\0\120"), "[::1]:80", ""},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        for (size_t step = 1; step < 300; step += step < 20 ? 1 : 40) {
            struct socks5 socks;
            struct addr to = {0};
            size_t taken;
            int n_methods;
            assert_int_equal(feed(&socks, cases[i].in, step, &taken, &n_methods), SOCKS5_REQUEST);
            assert_int_equal(n_methods, 1);
            assert_int_equal(socks5_need(&socks), 0);
            assert_string_equal(socks.host, cases[i].host);
            assert_int_equal(ip_is_set(&socks.to.ip), cases[i].host[0] == '\0');
            if (cases[i].host[0] == '\0') {
                assert_true(addr_parse(slice_str(cases[i].to), &to));
                assert_true(addr_eq(&to, &socks.to));
            } else {
                assert_int_equal(socks.to.port, 80);
            }
            // What comes behind stays where it is.
            bool is_early = cases[i].in.ptr[cases[i].in.len - 1] == '1' && i == 1;
            assert_int_equal(taken, cases[i].in.len - (is_early ? strlen("GET / HTTP/1.1") : 0));
        }
    }
}

static void test_refusals(void **state) {
    static const struct {
        struct slice in;
        const char *error;
        uint8_t n_reply, code; // 2 bytes: the method, 10: the reply to the request
    } cases[] = {
        {BYTES("\4\1"), "not version 5", 0, 0},
        {BYTES("GE"), "not version 5", 0, 0},
        {BYTES("\26\3"), "not version 5", 0, 0},
        {BYTES("\5\0"), "no authentication method", 2, 0xff},
        {BYTES("\5\2\1\2"), "the client insists on authentication", 2, 0xff},
        {BYTES(HELLO "\4\1\0\1"), "malformed request", 10, 1},
        {BYTES(HELLO "\5\1\1\1"), "malformed request", 10, 1},
        {BYTES(HELLO "\5\2\0\1"), "not the command CONNECT", 10, 7},
        {BYTES(HELLO "\5\3\0\1"), "not the command CONNECT", 10, 7},
        {BYTES(HELLO "\5\0\0\1"), "not the command CONNECT", 10, 7},
        {BYTES(HELLO "\5\1\0\2"), "unknown type of address", 10, 8},
        {BYTES(HELLO "\5\1\0\0"), "unknown type of address", 10, 8},
        {BYTES(HELLO "\5\1\0\5"), "unknown type of address", 10, 8},
        {BYTES(REQUEST "\3\0"), "empty host name", 10, 1},
        {BYTES(REQUEST "\3\1.\0\120"), "not a host name", 10, 1},
        {BYTES(REQUEST "\3\4a..b\0\120"), "not a host name", 10, 1},
        {BYTES(REQUEST "\3\2.a\0\120"), "not a host name", 10, 1},
        {BYTES(REQUEST "\3\3a..\0\120"), "not a host name", 10, 1},
        {BYTES(REQUEST "\3\3a\0b\0\120"), "not a host name", 10, 1},
        {BYTES(REQUEST "\3\3a b\0\120"), "not a host name", 10, 1},
        {BYTES(REQUEST "\3\3a\303\244\0\120"), "not a host name", 10, 1},
        {BYTES(REQUEST "\3\5[::1]\0\120"), "not a host name", 10, 1},
        {BYTES(REQUEST "\1\1\1\1\1\0\0"), "no port", 10, 1},
        {BYTES(REQUEST "\3\1a\0\0"), "no port", 10, 1},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        for (size_t step = 1; step <= cases[i].in.len; step++) {
            struct socks5 socks;
            size_t taken;
            int n_methods;
            assert_int_equal(feed(&socks, cases[i].in, step, &taken, &n_methods), SOCKS5_REFUSED);
            assert_int_equal(taken, cases[i].in.len);
            assert_int_equal(socks5_need(&socks), 0);
            assert_string_equal(socks.error, cases[i].error);
            assert_int_equal(socks.n_reply, cases[i].n_reply);
            if (cases[i].n_reply != 0) {
                assert_int_equal(socks.reply[0], 5);
                assert_int_equal(socks.reply[1], cases[i].code);
            }
        }
    }
}

// The longest of each: 255 methods, names of 253 characters, labels of 63.
static void test_limits(void **state) {
    static const struct {
        int n_labels, label, last; // labels of one length, then one more
        enum socks5_event want;
    } cases[] = {
        {3, 63, 61, SOCKS5_REQUEST}, {3, 63, 62, SOCKS5_REFUSED}, {3, 63, 63, SOCKS5_REFUSED},
        {0, 0, 63, SOCKS5_REQUEST},  {0, 0, 64, SOCKS5_REFUSED},  {126, 1, 1, SOCKS5_REQUEST},
        {127, 1, 1, SOCKS5_REFUSED},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        uint8_t in[1024] = {5, 255};
        size_t len = 2 + 255, name = len + 5;
        memset(in + 2, 0x80, 254); // and 0 as the last one
        memcpy(in + len, "\5\1\0\3", 4);
        len = name;
        for (int k = 0; k <= cases[i].n_labels; k++) {
            int n = k < cases[i].n_labels ? cases[i].label : cases[i].last;
            memset(in + len, 'x', (size_t)n);
            len += (size_t)n;
            in[len++] = '.';
        }
        len--;
        in[name - 1] = (uint8_t)(len - name);
        in[len++] = 1;
        in[len++] = 2;
        struct socks5 socks;
        size_t taken;
        int n_methods;
        assert_int_equal(feed(&socks, slice_make(in, len), SIZE_MAX, &taken, &n_methods),
                         cases[i].want);
        assert_int_equal(taken, len);
        if (cases[i].want == SOCKS5_REQUEST) {
            assert_int_equal(strlen(socks.host), len - 2 - name);
            assert_int_equal(socks.to.port, 258);
        }
    }
}

static void test_reply(void **state) {
    uint8_t reply[SOCKS5_REPLY_LEN];
    socks5_reply(SOCKS5_SUCCEEDED, reply);
    assert_memory_equal(reply, "\5\0\0\1\0\0\0\0\0\0", sizeof(reply));
    socks5_reply(SOCKS5_HOST_UNREACHABLE, reply);
    assert_memory_equal(reply, "\5\4\0\1\0\0\0\0\0\0", sizeof(reply));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_requests),
        cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_limits),
        cmocka_unit_test(test_reply),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

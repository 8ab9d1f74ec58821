// SPDX-License-Identifier: Apache-2.0
#include "common/proto/tls_hello.h"

#include "common/base/check.h"
#include "common/base/cur.h"

enum {
    RECORD_HANDSHAKE = 22,
    MSG_CLIENT_HELLO = 1,
    EXT_SERVER_NAME = 0,
    NAME_HOST = 0,
};

// The handshake bytes of the records in `in`, put together. False: it is not TLS.
static bool join_records(struct slice in, uint8_t ret_bytes[TLS_HELLO_MAX], size_t *ret_len) {
    struct cur cur = cur_make(in);
    *ret_len = 0;
    while (cur_rest(&cur).len >= 5) {
        uint8_t type = cur_u8(&cur), major = cur_u8(&cur);
        (void)cur_u8(&cur);
        size_t len = cur_u16(&cur);
        if (type != RECORD_HANDSHAKE || major != 3 || len == 0 || len > 1 << 14) {
            return false;
        }
        struct slice body = cur_bytes(&cur, MIN(len, cur_rest(&cur).len));
        size_t n = MIN(body.len, TLS_HELLO_MAX - *ret_len);
        memcpy(ret_bytes + *ret_len, body.ptr, n);
        *ret_len += n;
    }
    // A beginning of a header, too, must be one.
    struct slice rest = cur_bytes(&cur, cur_rest(&cur).len);
    return (rest.len < 1 || rest.ptr[0] == RECORD_HANDSHAKE) && (rest.len < 2 || rest.ptr[1] == 3);
}

static enum tls_hello read_names(struct slice list, char ret_name[TLS_NAME_MAX + 1]) {
    struct cur cur = cur_make(list);
    struct cur names = cur_make(cur_bytes(&cur, cur_u16(&cur)));
    while (cur_ok(&names) && cur_rest(&names).len > 0) {
        uint8_t type = cur_u8(&names);
        struct slice name = cur_bytes(&names, cur_u16(&names));
        if (cur_ok(&names) && type == NAME_HOST && name.len > 0 && name.len <= TLS_NAME_MAX &&
            memchr(name.ptr, 0, name.len) == NULL) {
            for (size_t i = 0; i < name.len; i++) {
                uint8_t c = name.ptr[i];
                ret_name[i] = (char)(c >= 'A' && c <= 'Z' ? c | 0x20 : c);
            }
            ret_name[name.len] = '\0';
            return TLS_HELLO_NAME;
        }
    }
    return TLS_HELLO_NO_NAME;
}

// RFC 8446 4.1.2
static enum tls_hello read_hello(struct slice body, char ret_name[TLS_NAME_MAX + 1]) {
    struct cur cur = cur_make(body);
    (void)cur_bytes(&cur, 2 + 32); // version, random
    (void)cur_bytes(&cur, cur_u8(&cur)); // session id
    (void)cur_bytes(&cur, cur_u16(&cur)); // cipher suites
    (void)cur_bytes(&cur, cur_u8(&cur)); // compression
    if (!cur_ok(&cur)) {
        return TLS_HELLO_NOT_TLS;
    }
    if (cur_rest(&cur).len == 0) {
        return TLS_HELLO_NO_NAME;
    }
    struct cur extensions = cur_make(cur_bytes(&cur, cur_u16(&cur)));
    while (cur_ok(&extensions) && cur_rest(&extensions).len > 0) {
        uint16_t type = cur_u16(&extensions);
        struct slice data = cur_bytes(&extensions, cur_u16(&extensions));
        if (cur_ok(&extensions) && type == EXT_SERVER_NAME) {
            return read_names(data, ret_name);
        }
    }
    return cur_ok(&cur) && cur_ok(&extensions) ? TLS_HELLO_NO_NAME : TLS_HELLO_NOT_TLS;
}

enum tls_hello tls_hello_name(struct slice in, char ret_name[TLS_NAME_MAX + 1]) {
    uint8_t bytes[TLS_HELLO_MAX];
    size_t len = 0;
    if (!join_records(in, bytes, &len)) {
        return TLS_HELLO_NOT_TLS;
    }
    if (len >= 1 && bytes[0] != MSG_CLIENT_HELLO) {
        return TLS_HELLO_NOT_TLS;
    }
    size_t body_len = len >= 4 ? (size_t)bytes[1] << 16 | (size_t)bytes[2] << 8 | bytes[3] : 0;
    if (body_len > TLS_HELLO_MAX - 64) {
        return TLS_HELLO_NO_NAME;
    }
    if (len < 4 || len < 4 + body_len) {
        return in.len >= TLS_HELLO_MAX ? TLS_HELLO_NO_NAME : TLS_HELLO_MORE;
    }
    return read_hello(slice_make(bytes + 4, body_len), ret_name);
}

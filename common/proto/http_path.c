// SPDX-License-Identifier: Apache-2.0
#include "common/proto/http_path.h"

// What a byte of a path becomes (the classes of the URL canonicaliser that Envoy uses).
enum {
    P_PASS, // stays, escaped or not
    P_ESCAPE, // must be escaped, stays so
    P_UNESCAPE, // unreserved: its escape is decoded
    P_SPECIAL, // '.', '%', '\' and '/': looked at one by one
};

static const uint8_t path_class[256] = {
    [0 ... ' '] = P_ESCAPE,     ['"'] = P_ESCAPE,           ['#'] = P_ESCAPE,
    ['%'] = P_SPECIAL,          ['-'] = P_UNESCAPE,         ['.'] = P_SPECIAL,
    ['/'] = P_SPECIAL,          ['0' ... '9'] = P_UNESCAPE, ['<'] = P_ESCAPE,
    ['>'] = P_ESCAPE,           ['?'] = P_ESCAPE,           ['A' ... 'Z'] = P_UNESCAPE,
    ['\\'] = P_SPECIAL,         ['^'] = P_ESCAPE,           ['_'] = P_UNESCAPE,
    ['`'] = P_ESCAPE,           ['a' ... 'z'] = P_UNESCAPE, ['{'] = P_ESCAPE,
    ['|'] = P_ESCAPE,           ['}'] = P_ESCAPE,           ['~'] = P_UNESCAPE,
    [0x7f ... 0xff] = P_ESCAPE,
};

static const char hex_digits[] = "0123456789ABCDEF";

struct slice http_path_without_fragment(struct slice path) {
    ptrdiff_t at = slice_find(path, '#');
    return at < 0 ? path : slice_head(path, (size_t)at);
}

struct slice http_path_without_query(struct slice path) {
    ptrdiff_t at = slice_find(path, '?');
    return at < 0 ? path : slice_head(path, (size_t)at);
}

bool http_path_is_valid(struct slice path) {
    for (size_t i = 0; i < path.len; i++) {
        if (path.ptr[i] <= ' ' || path.ptr[i] == 0x7f) {
            return false;
        }
    }
    return path.len > 0 && (path.ptr[0] == '/' || (path.ptr[0] == '*' && path.len == 1));
}

static int hex_value(uint8_t c) {
    if (c >= '0' && c <= '9') {
        return c - '0';
    }
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

// The byte that an escape at the beginning of `text` stands for, -1: it is none.
static int escaped_byte(struct slice text) {
    if (text.len < 3 || text.ptr[0] != '%') {
        return -1;
    }
    int high = hex_value(text.ptr[1]);
    int low = hex_value(text.ptr[2]);
    return high < 0 || low < 0 ? -1 : high << 4 | low;
}

// Nothing to do for most paths. *ret_extra: bytes that escaping adds.
static bool is_normal(struct slice path, size_t *ret_extra) {
    size_t extra = 0;
    bool is_normal = true;
    for (size_t i = 0; i < path.len; i++) {
        uint8_t class = path_class[path.ptr[i]];
        if (class == P_ESCAPE) {
            extra += 2;
            is_normal = false;
        } else if (class == P_SPECIAL) {
            bool is_plain_slash = path.ptr[i] == '/' && (i == 0 || path.ptr[i - 1] != '/');
            // A dot within a name is none of a segment.
            bool is_plain_dot = path.ptr[i] == '.' && i > 0 && path.ptr[i - 1] != '/';
            is_normal &= is_plain_slash | is_plain_dot;
        }
    }
    *ret_extra = extra;
    return is_normal;
}

// %2f and %5c, decoded. Returns the new length.
static size_t decode_slashes(uint8_t *text, size_t len) {
    size_t n = 0;
    for (size_t i = 0; i < len; i++) {
        int byte = escaped_byte(slice_make(text + i, len - i));
        if (byte == '/' || byte == '\\') {
            text[n++] = (uint8_t)byte;
            i += 2;
        } else {
            text[n++] = text[i];
        }
    }
    return n;
}

struct writer {
    uint8_t *text;
    size_t len;
};

static void put(struct writer *out, uint8_t byte) {
    out->text[out->len++] = byte;
}

// A literal or escaped dot takes that many bytes, 0: there is none.
static size_t dot_len(struct slice text) {
    if (text.len > 0 && text.ptr[0] == '.') {
        return 1;
    }
    return escaped_byte(text) == '.' ? 3 : 0;
}

static bool is_slash_or_end(struct slice text) {
    return text.len == 0 || text.ptr[0] == '/' || text.ptr[0] == '\\';
}

// Back to behind the slash before the last segment; the output ends in a slash.
static void up(struct writer *out) {
    if (out->len > 1) {
        out->len--;
        while (out->text[out->len - 1] != '/') {
            out->len--;
        }
    }
}

// A dot at the beginning of a segment (RFC 3986 5.2.4). Returns the bytes taken.
static size_t take_dot(struct writer *out, struct slice text, size_t len) {
    struct slice rest = slice_skip(text, len);
    if (is_slash_or_end(rest)) {
        return len + MIN(rest.len, (size_t)1);
    }
    size_t second = dot_len(rest);
    rest = slice_skip(rest, second);
    if (second > 0 && is_slash_or_end(rest)) {
        up(out);
        return len + second + MIN(rest.len, (size_t)1);
    }
    put(out, '.');
    return len;
}

// '%' that does not begin a dot. 0: not an escape that may be.
static size_t take_escape(struct writer *out, struct slice text) {
    int byte = escaped_byte(text);
    if (byte <= 0) {
        return 0;
    }
    if (path_class[byte] == P_UNESCAPE) {
        put(out, (uint8_t)byte);
        return 3;
    }
    for (size_t i = 0; i < 3; i++) { // whoever reads it may care for the case of the digits
        put(out, text.ptr[i]);
    }
    return 3;
}

static void put_escaped(struct writer *out, uint8_t byte) {
    put(out, '%');
    put(out, (uint8_t)hex_digits[byte >> 4]);
    put(out, (uint8_t)hex_digits[byte & 15]);
}

static bool canonicalize(struct writer *out, struct slice path) {
    while (path.len > 0) {
        size_t used = 1;
        uint8_t c = path.ptr[0];
        size_t dot = dot_len(path);
        if (dot > 0 && out->len > 0 && out->text[out->len - 1] == '/') {
            used = take_dot(out, path, dot);
        } else if (dot > 0) {
            put(out, '.');
            used = dot;
        } else if (c == '\\') {
            put(out, '/');
        } else if (c == '%') {
            used = take_escape(out, path);
        } else if (path_class[c] == P_ESCAPE) {
            put_escaped(out, c);
        } else {
            put(out, c);
        }
        if (used == 0) {
            return false;
        }
        path = slice_skip(path, used);
    }
    return true;
}

static void merge_slashes(struct writer *out) {
    size_t n = 0;
    for (size_t i = 0; i < out->len; i++) {
        if (out->text[i] != '/' || n == 0 || out->text[n - 1] != '/') {
            out->text[n++] = out->text[i];
        }
    }
    out->len = n;
}

enum http_err http_path_normalize(enum http_path_mode mode, struct slice path, struct arena *arena,
                                  struct slice *ret_path) {
    struct slice bare = http_path_without_query(path);
    struct slice query = slice_skip(path, bare.len);
    size_t extra = 0;
    if (mode == HTTP_PATH_NONE || path.len == 0 || path.ptr[0] != '/' || is_normal(bare, &extra)) {
        *ret_path = path;
        return HTTP_ERR_OK;
    }
    bool has_decode = mode == HTTP_PATH_DECODE_AND_MERGE_SLASHES;
    uint8_t *text = arena_alloc(arena, path.len + extra);
    if (text == NULL) {
        return HTTP_ERR_HEAD_TOO_LARGE;
    }
    if (has_decode) {
        uint8_t *decoded = arena_alloc(arena, bare.len);
        if (decoded == NULL) {
            return HTTP_ERR_HEAD_TOO_LARGE;
        }
        slice_copy(decoded, bare);
        bare = slice_make(decoded, decode_slashes(decoded, bare.len));
    }
    struct writer out = {.text = text};
    if (!canonicalize(&out, bare)) {
        return HTTP_ERR_BAD_PATH;
    }
    if (mode != HTTP_PATH_BASE) {
        merge_slashes(&out);
    }
    slice_copy(out.text + out.len, query);
    *ret_path = slice_make(out.text, out.len + query.len);
    return HTTP_ERR_OK;
}

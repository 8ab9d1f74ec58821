// SPDX-License-Identifier: Apache-2.0
#include "common/proto/http_rules.h"

#include "common/proto/http_path.h"

enum {
    OPTIONS_MAX = 9, // members of Connection, as Envoy
    PORT_MAX = 65535,
};

// ---- characters

#define LOWER(c) [c] = (c)
#define UPPER(c) [c] = (c) | 0x20

const uint8_t http_rules_lower[256] = {
    LOWER('!'), LOWER('#'), LOWER('$'), LOWER('%'), LOWER('&'), LOWER('\''), LOWER('*'), LOWER('+'),
    LOWER('-'), LOWER('.'), LOWER('^'), LOWER('_'), LOWER('`'), LOWER('|'),  LOWER('~'), LOWER('0'),
    LOWER('1'), LOWER('2'), LOWER('3'), LOWER('4'), LOWER('5'), LOWER('6'),  LOWER('7'), LOWER('8'),
    LOWER('9'), LOWER('a'), LOWER('b'), LOWER('c'), LOWER('d'), LOWER('e'),  LOWER('f'), LOWER('g'),
    LOWER('h'), LOWER('i'), LOWER('j'), LOWER('k'), LOWER('l'), LOWER('m'),  LOWER('n'), LOWER('o'),
    LOWER('p'), LOWER('q'), LOWER('r'), LOWER('s'), LOWER('t'), LOWER('u'),  LOWER('v'), LOWER('w'),
    LOWER('x'), LOWER('y'), LOWER('z'), UPPER('A'), UPPER('B'), UPPER('C'),  UPPER('D'), UPPER('E'),
    UPPER('F'), UPPER('G'), UPPER('H'), UPPER('I'), UPPER('J'), UPPER('K'),  UPPER('L'), UPPER('M'),
    UPPER('N'), UPPER('O'), UPPER('P'), UPPER('Q'), UPPER('R'), UPPER('S'),  UPPER('T'), UPPER('U'),
    UPPER('V'), UPPER('W'), UPPER('X'), UPPER('Y'), UPPER('Z'),
};

// RFC 3986 3.2.2: reg-name. '%' stands for any escape.
static const bool host_char[256] = {
    ['a' ... 'z'] = true, ['A' ... 'Z'] = true, ['0' ... '9'] = true, ['-'] = true, ['.'] = true,
    ['_'] = true,         ['~'] = true,         ['!'] = true,         ['$'] = true, ['&'] = true,
    ['\''] = true,        ['('] = true,         [')'] = true,         ['*'] = true, ['+'] = true,
    [','] = true,         [';'] = true,         ['='] = true,         ['%'] = true,
};

bool http_rules_is_token(struct slice text) {
    for (size_t i = 0; i < text.len; i++) {
        if (http_rules_lower[text.ptr[i]] == 0) {
            return false;
        }
    }
    return text.len > 0;
}

bool http_rules_is_name(struct slice name) {
    for (size_t i = 0; i < name.len; i++) {
        if (http_rules_lower[name.ptr[i]] != name.ptr[i] || name.ptr[i] == 0) {
            return false;
        }
    }
    return name.len > 0;
}

static bool is_blank(uint8_t c) {
    return c == ' ' || c == '\t';
}

bool http_rules_is_value(struct slice value) {
    if (value.len == 0) {
        return true;
    }
    if (is_blank(value.ptr[0]) || is_blank(value.ptr[value.len - 1])) {
        return false;
    }
    unsigned bad = 0;
    for (size_t i = 0; i < value.len; i++) { // no branches: compilers vectorise it
        uint8_t c = value.ptr[i];
        bad |= (unsigned)(c < 0x20) & (unsigned)(c != '\t');
        bad |= (unsigned)(c == 0x7f);
    }
    return bad == 0;
}

static bool is_ip_literal_char(uint8_t c) {
    return host_char[c] || c == ':';
}

// Cuts the host off; what remains is empty or begins with ':'.
static bool skip_host(struct slice *rest) {
    size_t i = 0;
    if (rest->len > 0 && rest->ptr[0] == '[') {
        for (i = 1; i < rest->len && is_ip_literal_char(rest->ptr[i]); i++) {
        }
        if (i < 2 || i == rest->len || rest->ptr[i] != ']') {
            return false;
        }
        i++;
    } else {
        while (i < rest->len && host_char[rest->ptr[i]]) {
            i++;
        }
        if (i == 0) {
            return false;
        }
    }
    *rest = slice_skip(*rest, i);
    return rest->len == 0 || rest->ptr[0] == ':';
}

bool http_rules_is_authority(struct slice authority) {
    uint64_t port;
    if (!skip_host(&authority)) {
        return false;
    }
    struct slice digits = slice_skip(authority, 1);
    return digits.len == 0 || slice_to_u64(digits, PORT_MAX, &port);
}

// ---- fields

const struct http_field *http_rules_find(const struct http_head *head, struct slice name) {
    for (size_t i = 0; i < head->n_fields; i++) {
        if (slice_eq(head->fields[i].name, name)) {
            return &head->fields[i];
        }
    }
    return NULL;
}

bool http_rules_next_member(struct slice *list, struct slice *ret_member) {
    while (list->len > 0) {
        struct slice member = *list, rest = {0};
        if (!slice_split(*list, ',', &member, &rest)) {
            rest = (struct slice){0};
        }
        *list = rest;
        member = slice_trim(member);
        if (member.len > 0) {
            *ret_member = member;
            return true;
        }
    }
    return false;
}

bool http_rules_has_member(struct slice list, struct slice member) {
    struct slice one;
    while (http_rules_next_member(&list, &one)) {
        if (slice_eq_nocase(one, member)) {
            return true;
        }
    }
    return false;
}

bool http_rules_is_hop_by_hop(struct slice name) {
    switch (name.len) {
    case 7:
        return slice_eq(name, SLICE_LIT("upgrade"));
    case 10:
        return slice_eq(name, SLICE_LIT("connection")) || slice_eq(name, SLICE_LIT("keep-alive"));
    case 14:
        return slice_eq(name, SLICE_LIT("http2-settings"));
    case 16:
        return slice_eq(name, SLICE_LIT("proxy-connection"));
    case 17:
        return slice_eq(name, SLICE_LIT("transfer-encoding"));
    default:
        return false;
    }
}

static bool is_one_of(struct slice name, const struct slice *names, size_t n) {
    for (size_t i = 0; i < n; i++) {
        if (name.len == names[i].len && slice_eq_nocase(name, names[i])) { // seldom a call
            return true;
        }
    }
    return false;
}

#define NAME(text)                                                                                 \
    { (const uint8_t *)(text), sizeof(text) - 1 }

bool http_rules_is_barred_trailer(struct slice name) {
    static const struct slice barred[] = {
        NAME("content-length"),
        NAME("host"),
        NAME("te"),
        NAME("trailer"),
        NAME("authorization"),
        NAME("proxy-authorization"),
        NAME("cookie"),
        NAME("set-cookie"),
        NAME("expect"),
        NAME("max-forwards"),
        NAME("range"),
        NAME("cache-control"),
        NAME("content-encoding"),
        NAME("content-type"),
        NAME("content-range"),
        NAME("location"),
        NAME("x-forwarded-for"),
        NAME("x-forwarded-host"),
        NAME("x-forwarded-proto"),
    };
    return http_rules_is_hop_by_hop(name) || is_one_of(name, barred, ARRAY_LEN(barred));
}

bool http_rules_content_length(struct slice value, uint64_t *ret_len) {
    uint64_t first = 0;
    bool has_first = false;
    struct slice member, rest = value;
    do {
        member = rest;
        if (!slice_split(rest, ',', &member, &rest)) {
            rest = (struct slice){0};
        }
        uint64_t len;
        if (!slice_to_u64(slice_trim(member), HTTP_LENGTH_MAX, &len) ||
            (has_first && len != first)) {
            return false;
        }
        first = len;
        has_first = true;
    } while (member.ptr + member.len < value.ptr + value.len);
    *ret_len = first;
    return true;
}

// ---- the connection's own words

struct options {
    struct slice names[OPTIONS_MAX];
    size_t n;
    bool has_upgrade;
};

// Their removal would change what those behind us decide by.
static bool is_undroppable(struct slice name) {
    static const struct slice names[] = {
        NAME("host"),
        NAME("content-length"),
        NAME("x-forwarded-for"),
        NAME("x-forwarded-host"),
        NAME("x-forwarded-proto"),
    };
    return is_one_of(name, names, ARRAY_LEN(names));
}

static enum http_err read_options(struct slice list, struct options *options,
                                  struct http_hop *hop) {
    struct slice option;
    while (http_rules_next_member(&list, &option)) {
        // A flood of options costs their number times that of the fields.
        if (options->n == OPTIONS_MAX) {
            return HTTP_ERR_BAD_CONNECTION;
        }
        options->names[options->n++] = option;
        if (slice_eq_nocase(option, SLICE_LIT("keep-alive"))) { // the usual one
            hop->keep_alive = true;
            continue;
        }
        if (!http_rules_is_token(option) || is_undroppable(option)) {
            return HTTP_ERR_BAD_CONNECTION;
        }
        hop->close |= slice_eq_nocase(option, SLICE_LIT("close"));
        options->has_upgrade |= slice_eq_nocase(option, SLICE_LIT("upgrade"));
    }
    return HTTP_ERR_OK;
}

static struct slice first_upgrade(struct slice list) {
    struct slice member;
    while (http_rules_next_member(&list, &member)) {
        bool is_http = slice_eq_nocase(slice_head(member, 5), SLICE_LIT("HTTP/"));
        if (!is_http && !slice_eq_nocase(member, SLICE_LIT("h2c"))) {
            return member;
        }
    }
    return (struct slice){0};
}

// False: the field goes.
static bool keep_field(struct http_field *field, const struct options *options) {
    if (http_rules_is_hop_by_hop(field->name)) {
        return false;
    }
    if (slice_eq(field->name, SLICE_LIT("te"))) {
        // The only member that an intermediary can promise for those behind it.
        field->value = SLICE_LIT("trailers");
        return true;
    }
    return !is_one_of(field->name, options->names, options->n);
}

enum http_err http_rules_strip(struct http_field *fields, size_t *n_fields,
                               struct http_hop *ret_hop) {
    struct options options;
    options.n = 0; // the rest is not looked at
    options.has_upgrade = false;
    struct http_hop hop = {0};
    for (size_t i = 0; i < *n_fields; i++) {
        if (slice_eq(fields[i].name, SLICE_LIT("connection"))) {
            enum http_err err = read_options(fields[i].value, &options, &hop);
            if (err != HTTP_ERR_OK) {
                return err;
            }
        }
    }
    size_t n = 0;
    bool has_te = false;
    for (size_t i = 0; i < *n_fields; i++) {
        struct http_field *field = &fields[i];
        if (options.has_upgrade && hop.upgrade.len == 0 &&
            slice_eq(field->name, SLICE_LIT("upgrade"))) {
            hop.upgrade = first_upgrade(field->value);
        }
        if (slice_eq(field->name, SLICE_LIT("te"))) {
            if (has_te || !http_rules_has_member(field->value, SLICE_LIT("trailers"))) {
                continue;
            }
            has_te = true;
        }
        if (keep_field(field, &options)) {
            if (n != i) {
                fields[n] = *field;
            }
            n++;
        }
    }
    *n_fields = n;
    *ret_hop = hop;
    return HTTP_ERR_OK;
}

// ---- methods

bool http_rules_is_idempotent(struct slice method) {
    static const struct slice methods[] = {
        NAME("GET"), NAME("HEAD"), NAME("OPTIONS"), NAME("TRACE"), NAME("PUT"), NAME("DELETE"),
    };
    for (size_t i = 0; i < ARRAY_LEN(methods); i++) {
        if (slice_eq(method, methods[i])) { // methods have case
            return true;
        }
    }
    return false;
}

// ---- status

bool http_rules_status_is_informational(uint16_t status) {
    return status >= 100 && status < 200;
}

bool http_rules_has_no_body(uint16_t status, bool is_head_request) {
    return is_head_request || status < 200 || status == 204 || status == 304;
}

struct slice http_rules_reason(uint16_t status) {
    // clang-format off
    static const struct {
        uint16_t status;
        struct slice text;
    } reasons[] = {
        {100, NAME("Continue")}, {101, NAME("Switching Protocols")}, {102, NAME("Processing")},
        {103, NAME("Early Hints")},
        {200, NAME("OK")}, {201, NAME("Created")}, {202, NAME("Accepted")},
        {203, NAME("Non-Authoritative Information")}, {204, NAME("No Content")},
        {205, NAME("Reset Content")}, {206, NAME("Partial Content")}, {207, NAME("Multi-Status")},
        {208, NAME("Already Reported")}, {226, NAME("IM Used")},
        {300, NAME("Multiple Choices")}, {301, NAME("Moved Permanently")}, {302, NAME("Found")},
        {303, NAME("See Other")}, {304, NAME("Not Modified")}, {305, NAME("Use Proxy")},
        {307, NAME("Temporary Redirect")}, {308, NAME("Permanent Redirect")},
        {400, NAME("Bad Request")}, {401, NAME("Unauthorized")}, {402, NAME("Payment Required")},
        {403, NAME("Forbidden")}, {404, NAME("Not Found")}, {405, NAME("Method Not Allowed")},
        {406, NAME("Not Acceptable")}, {407, NAME("Proxy Authentication Required")},
        {408, NAME("Request Timeout")}, {409, NAME("Conflict")}, {410, NAME("Gone")},
        {411, NAME("Length Required")}, {412, NAME("Precondition Failed")},
        {413, NAME("Payload Too Large")}, {414, NAME("URI Too Long")},
        {415, NAME("Unsupported Media Type")}, {416, NAME("Range Not Satisfiable")},
        {417, NAME("Expectation Failed")}, {421, NAME("Misdirected Request")},
        {422, NAME("Unprocessable Entity")}, {423, NAME("Locked")},
        {424, NAME("Failed Dependency")}, {425, NAME("Too Early")},
        {426, NAME("Upgrade Required")}, {428, NAME("Precondition Required")},
        {429, NAME("Too Many Requests")}, {431, NAME("Request Header Fields Too Large")},
        {451, NAME("Unavailable For Legal Reasons")},
        {500, NAME("Internal Server Error")}, {501, NAME("Not Implemented")},
        {502, NAME("Bad Gateway")}, {503, NAME("Service Unavailable")},
        {504, NAME("Gateway Timeout")}, {505, NAME("HTTP Version Not Supported")},
        {506, NAME("Variant Also Negotiates")}, {507, NAME("Insufficient Storage")},
        {508, NAME("Loop Detected")}, {510, NAME("Not Extended")},
        {511, NAME("Network Authentication Required")},
    };
    // clang-format on
    if (status == 200) {
        return SLICE_LIT("OK");
    }
    for (size_t i = 0; i < ARRAY_LEN(reasons); i++) {
        if (reasons[i].status == status) {
            return reasons[i].text;
        }
    }
    return SLICE_LIT("Unknown");
}

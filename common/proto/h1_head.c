// SPDX-License-Identifier: Apache-2.0
#include "common/proto/h1_head.h"

#include <stdlib.h>

#include "common/proto/h1_scan.h"
#include "common/proto/http_path.h"

enum {
    FIRST_CAP = 2048, // most heads; also how much of a body is copied in vain
    FIRST_FIELDS = 24,
    EMPTY_LINES_MAX = 4,
};

enum { ST_START, ST_FIELDS, ST_DONE };

// ---- life

void h1_head_init(struct h1_head *head, enum h1_head_kind kind,
                  const struct h1_head_limits *limits) {
    *head = (struct h1_head){.kind = (uint8_t)kind, .limits = *limits};
    head->state = kind == H1_HEAD_TRAILERS ? ST_FIELDS : ST_START;
}

void h1_head_fini(struct h1_head *head) {
    if (head->text == NULL && head->head.fields == NULL) {
        return; // most often: asked after each event
    }
    free(head->text);
    free(head->head.fields);
    head->text = NULL;
    head->head.fields = NULL;
    head->head.n_fields = 0;
    head->cap = head->cap_fields = 0;
}

void h1_head_reset(struct h1_head *head) {
    struct h1_head_limits limits = head->limits;
    enum h1_head_kind kind = (enum h1_head_kind)head->kind;
    h1_head_fini(head);
    h1_head_init(head, kind, &limits);
}

void h1_head_answers(struct h1_head *head, bool is_head_request, bool asked_upgrade) {
    head->is_head_request = is_head_request;
    head->asked_upgrade = asked_upgrade;
}

bool h1_head_is_started(const struct h1_head *head) {
    return head->state != ST_START || head->len > head->line;
}

// ---- memory

static void rebase(struct slice *slice, const uint8_t *from, const uint8_t *to) {
    if (slice->ptr != NULL) {
        slice->ptr = to + (slice->ptr - from);
    }
}

static void grow_text(struct h1_head *head) {
    struct http_head *msg = &head->head;
    uint32_t cap = head->cap == 0 ? FIRST_CAP : head->cap * 2;
    cap = MIN(cap, head->limits.max_bytes);
    uint8_t *text = xmalloc((size_t)cap + H1_SCAN_SLACK);
    if (head->len > 0) {
        memcpy(text, head->text, head->len);
    }
    struct slice *const slices[] = {&msg->method, &msg->scheme, &msg->authority, &msg->path,
                                    &head->host};
    for (size_t i = 0; i < ARRAY_LEN(slices); i++) {
        rebase(slices[i], head->text, text);
    }
    for (size_t i = 0; i < msg->n_fields; i++) {
        rebase(&msg->fields[i].name, head->text, text);
        rebase(&msg->fields[i].value, head->text, text);
    }
    free(head->text);
    head->text = text;
    head->cap = cap;
}

static void add_field(struct h1_head *head, struct slice name, struct slice value) {
    struct http_head *msg = &head->head;
    if (msg->n_fields == head->cap_fields) {
        uint32_t cap = head->cap_fields == 0 ? FIRST_FIELDS : head->cap_fields * 2;
        head->cap_fields = MIN(cap, head->limits.max_fields);
        msg->fields = xrealloc(msg->fields, head->cap_fields * sizeof(*msg->fields));
    }
    msg->fields[msg->n_fields++] = (struct http_field){.name = name, .value = value};
}

// ---- request line

// RFC 9112 3.2.2. `rest` begins behind "://".
static enum http_err parse_absolute(struct http_head *msg, uint8_t *rest, const uint8_t *end) {
    uint8_t *at = rest;
    while (at < end && *at != '/' && *at != '?' && *at != '#') {
        at++;
    }
    struct slice authority = slice_make(rest, (size_t)(at - rest));
    if (!http_rules_is_authority(authority)) {
        return HTTP_ERR_BAD_TARGET;
    }
    if (at < end && *at == '?') {
        // The path that is not there needs a byte: "://" gives one up.
        memmove(rest - 1, rest, authority.len);
        authority.ptr--;
        *--at = '/';
    }
    msg->authority = authority;
    msg->path = http_path_without_fragment(slice_make(at, (size_t)(end - at)));
    if (msg->path.len == 0) {
        bool is_options = slice_eq(msg->method, SLICE_LIT("OPTIONS")); // RFC 9112 3.2.4
        at = rest - 1; // in the text, as all slices have to be until the end
        *at = is_options ? '*' : '/';
        msg->path = slice_make(at, 1);
    }
    return HTTP_ERR_OK;
}

static enum http_err parse_target(struct http_head *msg, uint8_t *target, size_t len) {
    struct slice text = slice_make(target, len);
    for (size_t i = 0; i < len; i++) {
        if (target[i] <= ' ' || target[i] == 0x7f) {
            return HTTP_ERR_BAD_TARGET;
        }
    }
    if (slice_eq(msg->method, SLICE_LIT("CONNECT"))) {
        msg->authority = text;
        return http_rules_is_authority(text) ? HTTP_ERR_OK : HTTP_ERR_BAD_TARGET;
    }
    if (target[0] == '/') {
        msg->path = http_path_without_fragment(text);
        return HTTP_ERR_OK;
    }
    if (len == 1 && target[0] == '*') {
        msg->path = text;
        return slice_eq(msg->method, SLICE_LIT("OPTIONS")) ? HTTP_ERR_OK : HTTP_ERR_BAD_TARGET;
    }
    size_t scheme = 0;
    while (scheme < len && target[scheme] != ':') {
        target[scheme] |= target[scheme] >= 'A' && target[scheme] <= 'Z' ? 0x20 : 0;
        scheme++;
    }
    if (len < scheme + 3 || memcmp(target + scheme, "://", 3) != 0) {
        return HTTP_ERR_BAD_TARGET;
    }
    msg->scheme = slice_head(text, scheme);
    if (!slice_eq(msg->scheme, SLICE_LIT("http")) && !slice_eq(msg->scheme, SLICE_LIT("https"))) {
        return HTTP_ERR_BAD_SCHEME;
    }
    return parse_absolute(msg, target + scheme + 3, target + len);
}

static bool parse_version(const uint8_t *text, uint8_t *ret_version) {
    if (memcmp(text, "HTTP/1.", 7) != 0 || (text[7] != '0' && text[7] != '1')) {
        return false;
    }
    *ret_version = text[7] == '1' ? HTTP_11 : HTTP_10;
    return true;
}

static enum http_err parse_request_line(struct http_head *msg, uint8_t *line, uint8_t *end) {
    uint8_t *at = line;
    while (at < end && http_rules_lower[*at] != 0) {
        at++;
    }
    if (at == end || *at != ' ' || at == line) {
        return at == end || at == line ? HTTP_ERR_BAD_REQUEST_LINE : HTTP_ERR_BAD_METHOD;
    }
    msg->method = slice_make(line, (size_t)(at - line));
    uint8_t *target = at + 1;
    uint8_t *space = memchr(target, ' ', (size_t)(end - target));
    if (space == NULL || space == target || memchr(space + 1, ' ', (size_t)(end - space - 1))) {
        return HTTP_ERR_BAD_REQUEST_LINE; // HTTP/0.9, blanks in the target or around it
    }
    if (end - space != 9 || !parse_version(space + 1, &msg->version)) {
        return HTTP_ERR_BAD_VERSION;
    }
    return parse_target(msg, target, (size_t)(space - target));
}

// The blank before an empty reason is often missing.
static enum http_err parse_status_line(struct http_head *msg, const uint8_t *line,
                                       const uint8_t *end) {
    uint64_t status;
    if (end - line < 12 || line[8] != ' ' || (end - line > 12 && line[12] != ' ')) {
        return HTTP_ERR_BAD_STATUS_LINE;
    }
    if (!parse_version(line, &msg->version)) {
        return HTTP_ERR_BAD_VERSION;
    }
    if (!slice_to_u64(slice_make(line + 9, 3), 999, &status) || status < 100) {
        return HTTP_ERR_BAD_STATUS_LINE;
    }
    msg->status = (uint16_t)status;
    return HTTP_ERR_OK;
}

// ---- field lines

static enum http_err take_length(struct h1_head *head, struct slice name, struct slice value) {
    uint64_t len;
    if (!http_rules_content_length(value, &len) || (head->has_length && len != head->length)) {
        return HTTP_ERR_BAD_LENGTH;
    }
    if (!head->has_length) {
        struct slice rest;
        (void)slice_split(value, ',', &value, &rest);
        value = slice_trim(value);
        while (value.len > 1 && value.ptr[0] == '0') {
            value = slice_skip(value, 1);
        }
        add_field(head, name, value);
    }
    head->has_length = true;
    head->length = len;
    return HTTP_ERR_OK;
}

// RFC 9112 6.1: "chunked" is the last coding and applied once. Nothing may come behind it, not even
// an empty member.
static enum http_err take_coding(struct h1_head *head, struct slice value) {
    head->has_coding = true;
    for (bool has_more = true; has_more;) {
        struct slice member = value;
        has_more = slice_split(value, ',', &member, &value);
        member = slice_trim(member);
        if (head->is_chunked || member.len == 0) {
            return HTTP_ERR_NOT_CHUNKED;
        }
        head->is_chunked = slice_eq_nocase(member, SLICE_LIT("chunked"));
        head->has_unknown_coding |= !head->is_chunked;
    }
    return HTTP_ERR_OK;
}

static enum http_err take_host(struct h1_head *head, struct slice value) {
    if (head->has_host) {
        return HTTP_ERR_TWO_HOSTS;
    }
    head->has_host = true;
    head->host = value;
    return HTTP_ERR_OK;
}

static enum http_err take_field(struct h1_head *head, struct slice name, struct slice value) {
    switch (name.len) {
    case 2:
        head->has_hop |= slice_eq(name, SLICE_LIT("te"));
        break;
    case 4:
        if (head->kind == H1_HEAD_REQUEST && slice_eq(name, SLICE_LIT("host"))) {
            return take_host(head, value);
        }
        break;
    case 6:
        head->expects_continue |= slice_eq(name, SLICE_LIT("expect")) &&
                                  slice_eq_nocase(value, SLICE_LIT("100-continue"));
        break;
    case 14:
        if (slice_eq(name, SLICE_LIT("content-length"))) {
            return take_length(head, name, value);
        }
        break;
    case 17:
        if (slice_eq(name, SLICE_LIT("transfer-encoding"))) {
            return take_coding(head, value);
        }
        break;
    default:
        break;
    }
    head->has_hop |= http_rules_is_hop_by_hop(name);
    add_field(head, name, value);
    return HTTP_ERR_OK;
}

// What is wrong with a name that does not end in ':'.
static enum http_err judge_name(const uint8_t *at, const uint8_t *end) {
    const uint8_t *colon = memchr(at, ':', (size_t)(end - at));
    if (colon == NULL) {
        return HTTP_ERR_NO_COLON;
    }
    // RFC 9112 5.1: servers differ in whether the blank belongs to the name.
    while (at < colon && (*at == ' ' || *at == '\t')) {
        at++;
    }
    return at == colon ? HTTP_ERR_SPACE_BEFORE_COLON : HTTP_ERR_BAD_NAME;
}

static enum http_err parse_field(struct h1_head *head, uint8_t *line, const uint8_t *end) {
    if (*line == ' ' || *line == '\t') {
        return HTTP_ERR_OBS_FOLD; // RFC 9112 5.2, and a first line that would be folded into
                                  // nothing
    }
    uint8_t *at = line + h1_scan_lower_name(line);
    uint8_t low;
    while (at < end && (low = http_rules_lower[*at]) != 0) {
        *at++ = low;
    }
    if (at == end || *at != ':') {
        return judge_name(at, end);
    }
    if (at == line) {
        return HTTP_ERR_BAD_NAME;
    }
    if (head->n_lines++ == head->limits.max_fields) {
        return head->kind == H1_HEAD_TRAILERS ? HTTP_ERR_TOO_MANY_TRAILERS
                                              : HTTP_ERR_TOO_MANY_FIELDS;
    }
    struct slice name = slice_make(line, (size_t)(at - line));
    struct slice value = slice_trim(slice_make(at + 1, (size_t)(end - at - 1)));
    if (head->kind == H1_HEAD_TRAILERS) {
        if (!http_rules_is_barred_trailer(name)) {
            add_field(head, name, value);
        }
        return HTTP_ERR_OK;
    }
    return take_field(head, name, value);
}

// ---- the end of the head

// RFC 9112 6.3, points 3 to 5, and what both kinds of message share.
static enum http_err check_coding(const struct h1_head *head) {
    if (!head->has_coding) {
        return HTTP_ERR_OK;
    }
    if (head->head.version == HTTP_10) {
        return HTTP_ERR_CODING_IN_10;
    }
    if (head->has_length) {
        return HTTP_ERR_LENGTH_AND_CODING;
    }
    if (!head->is_chunked) {
        return HTTP_ERR_NOT_CHUNKED;
    }
    return head->has_unknown_coding ? HTTP_ERR_UNKNOWN_CODING : HTTP_ERR_OK;
}

static void set_body(struct h1_head *head, enum h1_body_kind otherwise) {
    head->body = (uint8_t)otherwise;
    if (head->is_chunked) {
        head->body = H1_BODY_CHUNKED;
    } else if (head->has_length) {
        head->body = head->length > 0 ? H1_BODY_LENGTH : H1_BODY_NONE;
        head->body_len = head->length;
    }
}

static bool is_protocol(struct slice text) {
    struct slice name = text, version = SLICE_LIT("1");
    (void)slice_split(text, '/', &name, &version);
    return http_rules_is_token(name) && http_rules_is_token(version);
}

static enum http_err check_host(struct h1_head *head) {
    struct http_head *msg = &head->head;
    if (head->host.len > 0 && !http_rules_is_authority(head->host)) {
        return HTTP_ERR_BAD_HOST;
    }
    if (msg->authority.len == 0) { // else the target's, RFC 9112 3.2.2
        msg->authority = head->host;
    }
    bool is_missing = !head->has_host || msg->authority.len == 0;
    return msg->version != HTTP_10 && is_missing ? HTTP_ERR_NO_HOST : HTTP_ERR_OK;
}

static enum http_err finish_request(struct h1_head *head, const struct http_hop *hop) {
    struct http_head *msg = &head->head;
    enum http_err err = check_host(head);
    if (err != HTTP_ERR_OK) {
        return err;
    }
    set_body(head, H1_BODY_NONE);
    head->expects_continue &= msg->version == HTTP_11 && head->body != H1_BODY_NONE;
    // RFC 9110 7.8: not in HTTP/1.0; ignoring it is always allowed.
    if (hop->upgrade.len > 0 && msg->version == HTTP_11 && head->body == H1_BODY_NONE &&
        slice_eq(msg->method, SLICE_LIT("GET")) && is_protocol(hop->upgrade)) {
        msg->protocol = hop->upgrade;
    }
    return HTTP_ERR_OK;
}

static void drop_length(struct http_head *msg) {
    size_t n = 0;
    for (size_t i = 0; i < msg->n_fields; i++) {
        if (!slice_eq(msg->fields[i].name, SLICE_LIT("content-length"))) {
            msg->fields[n++] = msg->fields[i];
        }
    }
    msg->n_fields = n;
}

static enum http_err finish_response(struct h1_head *head, const struct http_hop *hop) {
    struct http_head *msg = &head->head;
    if (msg->status < 200 || msg->status == 204) {
        if (head->has_coding) {
            return HTTP_ERR_CODING_NOT_ALLOWED;
        }
        if (head->length > 0) {
            return HTTP_ERR_LENGTH_NOT_ALLOWED;
        }
        drop_length(msg);
    }
    if (msg->status == 101) {
        if (!head->asked_upgrade || msg->version == HTTP_10 || !is_protocol(hop->upgrade)) {
            return HTTP_ERR_BAD_SWITCH;
        }
        msg->protocol = hop->upgrade;
    }
    if (!http_rules_has_no_body(msg->status, head->is_head_request)) {
        set_body(head, H1_BODY_UNTIL_CLOSE);
    }
    head->expects_continue = false;
    return HTTP_ERR_OK;
}

static enum http_err finish(struct h1_head *head) {
    struct http_head *msg = &head->head;
    struct http_hop hop = {0};
    if (head->kind == H1_HEAD_TRAILERS) {
        return HTTP_ERR_OK;
    }
    enum http_err err = check_coding(head);
    if (err == HTTP_ERR_OK && head->has_hop) {
        err = http_rules_strip(msg->fields, &msg->n_fields, &hop);
    }
    if (err != HTTP_ERR_OK) {
        return err;
    }
    // RFC 9112 9.3.
    head->keep_alive = !hop.close && (msg->version == HTTP_11 || hop.keep_alive);
    return head->kind == H1_HEAD_REQUEST ? finish_request(head, &hop) : finish_response(head, &hop);
}

// ---- lines

static enum http_err take_line(struct h1_head *head, uint8_t *line, uint8_t *end) {
    struct http_head *msg = &head->head;
    if (head->state == ST_START) {
        if (line == end && head->kind == H1_HEAD_REQUEST) {
            return head->n_empty_lines++ < EMPTY_LINES_MAX ? HTTP_ERR_OK
                                                           : HTTP_ERR_BAD_REQUEST_LINE;
        }
        head->state = ST_FIELDS;
        return head->kind == H1_HEAD_REQUEST ? parse_request_line(msg, line, end)
                                             : parse_status_line(msg, line, end);
    }
    if (line == end) {
        head->state = ST_DONE;
        return finish(head);
    }
    return parse_field(head, line, end);
}

static enum http_err too_long(const struct h1_head *head) {
    if (head->kind == H1_HEAD_TRAILERS) {
        return HTTP_ERR_TRAILERS_TOO_LARGE;
    }
    return head->state == ST_START ? HTTP_ERR_LINE_TOO_LONG : HTTP_ERR_HEAD_TOO_LARGE;
}

// Takes the lines that are complete. Other control characters are refused as soon as they are seen:
// a TLS client that speaks to a plain port gets an answer instead of a time-out.
static enum http_err take_lines(struct h1_head *head) {
    const uint8_t *end = head->text + head->len;
    while (head->state != ST_DONE) {
        const uint8_t *at = h1_scan(head->text + head->scan, end);
        head->scan = (uint32_t)(at - head->text);
        if (at == end || (*at == '\r' && at + 1 == end)) {
            return head->len == head->limits.max_bytes ? too_long(head) : HTTP_ERR_OK;
        }
        if (*at == '\n') {
            return HTTP_ERR_BARE_LF;
        }
        if (*at != '\r') {
            return HTTP_ERR_BAD_CHARACTER;
        }
        if (at[1] != '\n') {
            return HTTP_ERR_BARE_CR;
        }
        enum http_err err = take_line(head, head->text + head->line, head->text + head->scan);
        if (err != HTTP_ERR_OK) {
            return err;
        }
        head->scan += 2;
        head->line = head->scan;
    }
    return HTTP_ERR_OK;
}

enum http_err h1_head_recv(struct h1_head *head, struct slice in, size_t *ret_used,
                           bool *ret_is_done) {
    size_t used = 0;
    while (used < in.len && head->state != ST_DONE && head->err == HTTP_ERR_OK) {
        if (head->len == head->cap) {
            grow_text(head);
        }
        size_t n = MIN(in.len - used, (size_t)(head->cap - head->len));
        memcpy(head->text + head->len, in.ptr + used, n);
        head->len += (uint32_t)n;
        used += n;
        head->err = take_lines(head);
    }
    if (head->state == ST_DONE && head->err == HTTP_ERR_OK) {
        used -= head->len - head->line; // belongs to what comes behind the head
        head->len = head->line;
    }
    *ret_used = used;
    *ret_is_done = head->state == ST_DONE && head->err == HTTP_ERR_OK;
    return head->err;
}

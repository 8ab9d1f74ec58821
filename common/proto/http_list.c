// SPDX-License-Identifier: Apache-2.0
//
// The half of http_rules.h between a head and a field list of HTTP/2.
#include "common/proto/http_path.h"
#include "common/proto/http_rules.h"

enum {
    N_PSEUDO_MAX = 5, // :method, :scheme, :authority, :path, :protocol
};

// ---- from a list

struct reader {
    struct http_head head;
    struct slice host, protocol;
    struct http_field *cookie; // the first crumb; the others are joined to it
    size_t n_crumbs, cookie_len;
    bool has_length;
    uint64_t length;
};

// A valid value without list and leading zeros.
static struct slice canonical_length(struct slice value) {
    struct slice first = value, rest;
    (void)slice_split(value, ',', &first, &rest);
    first = slice_trim(first);
    while (first.len > 1 && first.ptr[0] == '0') {
        first = slice_skip(first, 1);
    }
    return first;
}

static bool is_pseudo(const struct http_field *field) {
    return field->name.len > 0 && field->name.ptr[0] == ':';
}

static enum http_err read_length(struct reader *reader, struct http_field field) {
    uint64_t len;
    if (!http_rules_content_length(field.value, &len) ||
        (reader->has_length && len != reader->length)) {
        return HTTP_ERR_BAD_LENGTH;
    }
    if (!reader->has_length) {
        field.value = canonical_length(field.value);
        reader->head.fields[reader->head.n_fields++] = field;
        reader->has_length = true;
        reader->length = len;
    }
    return HTTP_ERR_OK;
}

static enum http_err read_field(struct reader *reader, const struct http_field *field,
                                bool is_request) {
    if (!http_rules_is_value(field->value)) {
        return HTTP_ERR_BAD_VALUE;
    }
    if (slice_eq(field->name, SLICE_LIT("content-length"))) {
        return read_length(reader, *field);
    }
    if (is_request && slice_eq(field->name, SLICE_LIT("host"))) {
        // Two opinions and no :authority to decide: one for us, the other for those behind.
        if (reader->host.len > 0 && !slice_eq(reader->host, field->value) &&
            reader->head.authority.len == 0) {
            return HTTP_ERR_TWO_HOSTS;
        }
        reader->host = field->value;
        return HTTP_ERR_OK;
    }
    if (is_request && slice_eq(field->name, SLICE_LIT("cookie"))) {
        reader->cookie_len += field->value.len;
        reader->n_crumbs++;
        if (reader->cookie != NULL) {
            return HTTP_ERR_OK;
        }
        reader->cookie = &reader->head.fields[reader->head.n_fields];
    }
    if (!http_rules_is_hop_by_hop(field->name)) {
        reader->head.fields[reader->head.n_fields++] = *field;
    }
    return HTTP_ERR_OK;
}

// RFC 9113 8.2.3.
static bool join_cookies(struct reader *reader, const struct http_field *list, size_t n_list,
                         struct arena *arena) {
    if (reader->n_crumbs < 2) {
        return true;
    }
    uint8_t *text = arena_alloc(arena, reader->cookie_len + 2 * (reader->n_crumbs - 1));
    if (text == NULL) {
        return false;
    }
    size_t len = 0;
    for (size_t i = 0; i < n_list; i++) {
        if (!slice_eq(list[i].name, SLICE_LIT("cookie"))) {
            continue;
        }
        if (len > 0) {
            text[len++] = ';';
            text[len++] = ' ';
        }
        slice_copy(text + len, list[i].value);
        len += list[i].value.len;
    }
    reader->cookie->value = slice_make(text, len);
    return true;
}

static enum http_err read_fields(struct reader *reader, const struct http_field *list,
                                 size_t n_list, bool is_request, struct arena *arena) {
    reader->head.version = HTTP_2;
    reader->head.fields = arena_alloc(arena, MAX(n_list, (size_t)1) * sizeof(*list));
    if (reader->head.fields == NULL) {
        return HTTP_ERR_HEAD_TOO_LARGE;
    }
    for (size_t i = 0; i < n_list; i++) {
        if (is_pseudo(&list[i])) {
            continue;
        }
        enum http_err err = read_field(reader, &list[i], is_request);
        if (err != HTTP_ERR_OK) {
            return err;
        }
    }
    return join_cookies(reader, list, n_list, arena) ? HTTP_ERR_OK : HTTP_ERR_HEAD_TOO_LARGE;
}

static void drop_length(struct http_head *head) {
    size_t n = 0;
    for (size_t i = 0; i < head->n_fields; i++) {
        if (!slice_eq(head->fields[i].name, SLICE_LIT("content-length"))) {
            head->fields[n++] = head->fields[i];
        }
    }
    head->n_fields = n;
}

static void read_pseudo(struct reader *reader, const struct http_field *field) {
    struct http_head *head = &reader->head;
    if (slice_eq(field->name, SLICE_LIT(":method"))) {
        head->method = field->value;
    } else if (slice_eq(field->name, SLICE_LIT(":scheme"))) {
        head->scheme = field->value;
    } else if (slice_eq(field->name, SLICE_LIT(":authority"))) {
        head->authority = field->value;
    } else if (slice_eq(field->name, SLICE_LIT(":path"))) {
        head->path = http_path_without_fragment(field->value);
    } else if (slice_eq(field->name, SLICE_LIT(":protocol"))) {
        head->protocol = field->value;
    }
}

static enum http_err check_request(struct reader *reader) {
    struct http_head *head = &reader->head;
    bool is_connect = slice_eq(head->method, SLICE_LIT("CONNECT")) && head->protocol.len == 0;
    if (head->authority.len == 0) {
        head->authority = reader->host;
    }
    if (head->authority.len == 0) {
        return HTTP_ERR_NO_HOST;
    }
    if (!http_rules_is_authority(head->authority)) {
        return HTTP_ERR_BAD_HOST;
    }
    if (is_connect) {
        return HTTP_ERR_OK;
    }
    if (!slice_eq_nocase(head->scheme, SLICE_LIT("http")) &&
        !slice_eq_nocase(head->scheme, SLICE_LIT("https"))) {
        return HTTP_ERR_BAD_SCHEME;
    }
    // A blank in the path would be a request line of its own in HTTP/1.
    if (!http_path_is_valid(head->path)) {
        return HTTP_ERR_BAD_HEAD;
    }
    if (head->protocol.len > 0) {
        struct slice name = head->protocol, version = SLICE_LIT("1");
        (void)slice_split(head->protocol, '/', &name, &version);
        if (!http_rules_is_token(name) || !http_rules_is_token(version)) {
            return HTTP_ERR_BAD_HEAD;
        }
        head->method = SLICE_LIT("GET");
        drop_length(head);
    }
    return HTTP_ERR_OK;
}

enum http_err http_rules_request_from_list(const struct http_field *list, size_t n_list,
                                           struct arena *arena, struct http_head *ret_head) {
    struct reader reader = {0};
    for (size_t i = 0; i < n_list && is_pseudo(&list[i]); i++) {
        read_pseudo(&reader, &list[i]);
    }
    enum http_err err = read_fields(&reader, list, n_list, true, arena);
    if (err == HTTP_ERR_OK) {
        err = check_request(&reader);
    }
    if (err == HTTP_ERR_OK) {
        *ret_head = reader.head;
    }
    return err;
}

enum http_err http_rules_response_from_list(const struct http_field *list, size_t n_list,
                                            struct slice upgrade, struct arena *arena,
                                            struct http_head *ret_head) {
    struct reader reader = {0};
    uint64_t status = 0;
    if (n_list == 0 || !slice_eq(list[0].name, SLICE_LIT(":status")) ||
        !slice_to_u64(list[0].value, 999, &status) || status < 100 || status == 101) {
        return HTTP_ERR_BAD_HEAD;
    }
    enum http_err err = read_fields(&reader, list, n_list, false, arena);
    if (err != HTTP_ERR_OK) {
        return err;
    }
    reader.head.status = (uint16_t)status;
    if (upgrade.len > 0 && status == 200) { // RFC 8441 section 5
        reader.head.status = 101;
        reader.head.protocol = upgrade;
        drop_length(&reader.head);
    }
    *ret_head = reader.head;
    return HTTP_ERR_OK;
}

// ---- to a list

static void put(struct http_field *list, size_t *n, struct slice name, struct slice value) {
    list[(*n)++] = (struct http_field){.name = name, .value = value};
}

static void put_request(const struct http_head *head, struct slice scheme, struct http_field *list,
                        size_t *n) {
    bool is_upgrade = head->protocol.len > 0;
    put(list, n, SLICE_LIT(":method"), is_upgrade ? SLICE_LIT("CONNECT") : head->method);
    if (head->path.len > 0) {
        put(list, n, SLICE_LIT(":scheme"), head->scheme.len > 0 ? head->scheme : scheme);
    }
    put(list, n, SLICE_LIT(":authority"), head->authority);
    if (head->path.len > 0) {
        put(list, n, SLICE_LIT(":path"), head->path);
    }
    if (is_upgrade) {
        put(list, n, SLICE_LIT(":protocol"), head->protocol);
    }
}

static bool put_status(uint16_t status, struct arena *arena, struct http_field *list, size_t *n) {
    char *text = arena_alloc(arena, 3);
    if (text == NULL) {
        return false;
    }
    text[0] = (char)('0' + status / 100 % 10);
    text[1] = (char)('0' + status / 10 % 10);
    text[2] = (char)('0' + status % 10);
    put(list, n, SLICE_LIT(":status"), slice_make(text, 3));
    return true;
}

bool http_rules_to_list(const struct http_head *head, struct slice scheme, struct arena *arena,
                        struct http_field **ret_list, size_t *ret_n_list) {
    size_t n = 0;
    struct http_field *list = arena_alloc(arena, (head->n_fields + N_PSEUDO_MAX) * sizeof(*list));
    if (list == NULL) {
        return false;
    }
    if (head->status == 0) {
        put_request(head, scheme, list, &n);
    } else {
        uint16_t status = head->status == 101 ? 200 : head->status;
        if (!put_status(status, arena, list, &n)) {
            return false;
        }
    }
    for (size_t i = 0; i < head->n_fields; i++) {
        const struct http_field *field = &head->fields[i];
        // A tunnel has no length.
        bool is_length =
            head->protocol.len > 0 && slice_eq(field->name, SLICE_LIT("content-length"));
        if (!is_length && !http_rules_is_hop_by_hop(field->name)) {
            list[n++] = *field;
        }
    }
    *ret_list = list;
    *ret_n_list = n;
    return true;
}

// ---- copy

static struct slice copy_to(uint8_t **at, struct slice text) {
    struct slice copy = slice_make(*at, text.len);
    slice_copy(*at, text);
    *at += text.len;
    return copy;
}

bool http_rules_copy(const struct http_head *head, struct arena *arena,
                     struct http_head *ret_head) {
    size_t len = head->method.len + head->scheme.len + head->authority.len + head->path.len +
                 head->protocol.len;
    for (size_t i = 0; i < head->n_fields; i++) {
        len += head->fields[i].name.len + head->fields[i].value.len;
    }
    // Fields first: they are what needs the alignment.
    size_t fields_len = head->n_fields * sizeof(struct http_field);
    struct http_field *fields = arena_alloc(arena, fields_len + len);
    if (fields == NULL) {
        return false;
    }
    uint8_t *at = (uint8_t *)fields + fields_len;
    struct http_head copy = *head;
    copy.method = copy_to(&at, head->method);
    copy.scheme = copy_to(&at, head->scheme);
    copy.authority = copy_to(&at, head->authority);
    copy.path = copy_to(&at, head->path);
    copy.protocol = copy_to(&at, head->protocol);
    copy.fields = fields;
    for (size_t i = 0; i < head->n_fields; i++) {
        fields[i] = head->fields[i];
        fields[i].name = copy_to(&at, head->fields[i].name);
        fields[i].value = copy_to(&at, head->fields[i].value);
    }
    *ret_head = copy;
    return true;
}

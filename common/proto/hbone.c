// SPDX-License-Identifier: Apache-2.0
#include "common/proto/hbone.h"

static const struct {
    uint16_t status;
    const char *label, *text;
} errs[] = {
#define HBONE_ERR(name, status, label, text) [HBONE_##name] = {status, label, text},
#include "common/proto/hbone.def"
#undef HBONE_ERR
};

uint16_t hbone_err_status(enum hbone_err err) {
    CHECK((size_t)err < ARRAY_LEN(errs));
    return errs[err].status;
}

const char *hbone_err_label(enum hbone_err err) {
    CHECK((size_t)err < ARRAY_LEN(errs));
    return errs[err].label;
}

const char *hbone_err_text(enum hbone_err err) {
    CHECK((size_t)err < ARRAY_LEN(errs));
    return errs[err].text;
}

// ---- characters

static bool is_host_char(uint8_t c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' ||
           c == '-' || c == '_';
}

static bool is_host(struct slice host) {
    if (host.len == 0 || host.len > HBONE_HOST_MAX) {
        return false;
    }
    for (size_t i = 0; i < host.len; i++) {
        if (!is_host_char(host.ptr[i])) {
            return false;
        }
    }
    return true;
}

// baggage-octet of the W3C baggage format, without the escape character itself.
static bool is_baggage_char(uint8_t c) {
    return c > 0x20 && c < 0x7f && c != '"' && c != ',' && c != ';' && c != '\\' && c != '%';
}

static int hex_value(uint8_t c) {
    if (c >= '0' && c <= '9') {
        return c - '0';
    }
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static const char hex_digits[] = "0123456789abcdef";

// ---- writing

static bool has_room(const struct hbone_head *head, size_t len) {
    return sizeof(head->text) - head->text_len >= len;
}

// Callers check the room: a field's texts are all bounded.
static void put(struct hbone_head *head, struct slice text) {
    CHECK(has_room(head, text.len));
    if (text.len > 0) {
        memcpy(head->text + head->text_len, text.ptr, text.len);
    }
    head->text_len += text.len;
}

static void put_port(struct hbone_head *head, uint16_t port) {
    char digits[6];
    size_t n = 0;
    do {
        digits[sizeof(digits) - ++n] = (char)('0' + port % 10);
        port /= 10;
    } while (port > 0);
    put(head, SLICE_LIT(":"));
    put(head, slice_make(digits + sizeof(digits) - n, n));
}

static void put_hex(struct hbone_head *head, const uint8_t *bytes, size_t len) {
    for (size_t i = 0; i < len; i++) {
        char digits[2] = {hex_digits[bytes[i] >> 4], hex_digits[bytes[i] & 15]};
        put(head, slice_make(digits, 2));
    }
}

// Turns what was put since `start` into a field; nothing if that is empty.
static void add_field(struct hbone_head *head, struct slice name, size_t start) {
    if (head->text_len > start) {
        CHECK(head->n_fields < HBONE_FIELDS_MAX);
        head->fields[head->n_fields++] = (struct http_field){
            .name = name,
            .value = slice_make(head->text + start, head->text_len - start),
        };
    }
}

static void add_fixed(struct hbone_head *head, struct slice name, struct slice value) {
    size_t start = head->text_len;
    put(head, value);
    add_field(head, name, start);
}

static bool put_target(struct hbone_head *head, const struct hbone_target *target) {
    if (target->addr.port == 0) {
        return false;
    }
    if (ip_is_set(&target->addr.ip)) {
        char text[ADDR_TEXT_MAX];
        put(head, slice_str(addr_text(&target->addr, text)));
        return true;
    }
    if (!is_host(target->host)) {
        return false;
    }
    put(head, target->host);
    put_port(head, target->addr.port);
    return true;
}

// One item, in full or not at all. ztunnel writes values as they are; ours differ only where those
// would not be a list item.
static void put_item(struct hbone_head *head, size_t start, struct slice key, struct slice value) {
    size_t len = 1 + key.len + 1;
    for (size_t i = 0; i < value.len; i++) {
        len += is_baggage_char(value.ptr[i]) ? 1 : 3;
    }
    if (value.len == 0 || head->text_len - start + len > HBONE_BAGGAGE_MAX) {
        return;
    }
    if (head->text_len > start) {
        put(head, SLICE_LIT(","));
    }
    put(head, key);
    put(head, SLICE_LIT("="));
    for (size_t i = 0; i < value.len; i++) {
        uint8_t c = value.ptr[i];
        if (is_baggage_char(c)) {
            put(head, slice_make(&c, 1));
        } else {
            char escape[3] = {'%', hex_digits[c >> 4], hex_digits[c & 15]};
            put(head, slice_make(escape, 3));
        }
    }
}

static struct slice workload_key(struct slice type) {
    static const struct {
        struct slice type, key;
    } keys[] = {
        {{(const uint8_t *)"deployment", 10}, {(const uint8_t *)"k8s.deployment.name", 19}},
        {{(const uint8_t *)"cronjob", 7}, {(const uint8_t *)"k8s.cronjob.name", 16}},
        {{(const uint8_t *)"pod", 3}, {(const uint8_t *)"k8s.pod.name", 12}},
        {{(const uint8_t *)"job", 3}, {(const uint8_t *)"k8s.job.name", 12}},
    };
    for (size_t i = 0; i < ARRAY_LEN(keys); i++) {
        if (slice_eq(type, keys[i].type)) {
            return keys[i].key;
        }
    }
    return SLICE_LIT("k8s.deployment.name");
}

static void add_baggage(struct hbone_head *head, const struct hbone_baggage *baggage) {
    size_t start = head->text_len;
    put_item(head, start, SLICE_LIT("k8s.cluster.name"), baggage->cluster);
    put_item(head, start, SLICE_LIT("k8s.namespace.name"), baggage->ns);
    put_item(head, start, workload_key(baggage->workload_type), baggage->workload);
    put_item(head, start, SLICE_LIT("service.name"), baggage->service);
    put_item(head, start, SLICE_LIT("service.version"), baggage->revision);
    put_item(head, start, SLICE_LIT("cloud.region"), baggage->region);
    put_item(head, start, SLICE_LIT("cloud.availability_zone"), baggage->zone);
    add_field(head, SLICE_LIT("baggage"), start);
}

static void add_forwarded(struct hbone_head *head, const struct hbone_connect *connect) {
    size_t start = head->text_len;
    if (ip_is_set(&connect->source.ip)) {
        char text[ADDR_TEXT_MAX];
        put(head, SLICE_LIT("for=\""));
        if (connect->source.port != 0) {
            put(head, slice_str(addr_text(&connect->source, text)));
        } else { // RFC 7239 6: the port is optional, an IPv6 address has brackets
            bool is_v6 = connect->source.ip.family == 6;
            put(head, is_v6 ? SLICE_LIT("[") : SLICE_LIT(""));
            put(head, slice_str(ip_text(&connect->source.ip, text)));
            put(head, is_v6 ? SLICE_LIT("]") : SLICE_LIT(""));
        }
        put(head, SLICE_LIT("\""));
    }
    if (is_host(connect->host)) {
        if (head->text_len > start) {
            put(head, SLICE_LIT(";"));
        }
        put(head, SLICE_LIT("host="));
        put(head, connect->host);
    }
    add_field(head, SLICE_LIT("forwarded"), start);
}

static void add_traceparent(struct hbone_head *head, const struct hbone_connect *connect) {
    if (!connect->has_trace) {
        return;
    }
    size_t start = head->text_len;
    put(head, SLICE_LIT("00-"));
    put_hex(head, connect->trace_id, sizeof(connect->trace_id));
    put(head, SLICE_LIT("-"));
    put_hex(head, connect->span_id, sizeof(connect->span_id));
    put(head, SLICE_LIT("-"));
    put_hex(head, &connect->trace_flags, 1);
    add_field(head, SLICE_LIT("traceparent"), start);
}

bool hbone_connect_build(const struct hbone_connect *connect, struct hbone_head *ret_head) {
    struct hbone_head *head = ret_head;
    head->n_fields = 0;
    head->text_len = 0;
    add_fixed(head, SLICE_LIT(":method"), SLICE_LIT("CONNECT"));
    size_t start = head->text_len;
    if (!put_target(head, &connect->target)) {
        return false;
    }
    add_field(head, SLICE_LIT(":authority"), start);
    add_baggage(head, &connect->baggage);
    add_forwarded(head, connect);
    add_traceparent(head, connect);
    if (is_host(connect->network)) {
        add_fixed(head, SLICE_LIT("x-forwarded-network"), connect->network);
    }
    return true;
}

void hbone_response_build(enum hbone_err err, const struct hbone_baggage *baggage,
                          struct hbone_head *ret_head) {
    uint16_t status = hbone_err_status(err);
    char digits[3] = {(char)('0' + status / 100), (char)('0' + status / 10 % 10),
                      (char)('0' + status % 10)};
    ret_head->n_fields = 0;
    ret_head->text_len = 0;
    add_fixed(ret_head, SLICE_LIT(":status"), slice_make(digits, 3));
    if (err == HBONE_OK && baggage != NULL) {
        add_baggage(ret_head, baggage);
    }
}

// ---- reading

bool hbone_target_parse(struct slice authority, struct hbone_target *ret_target) {
    struct hbone_target target = {0};
    if (addr_parse(authority, &target.addr)) {
        if (target.addr.port == 0) {
            return false;
        }
        *ret_target = target;
        return true;
    }
    struct slice port;
    uint64_t value;
    if (!slice_split(authority, ':', &target.host, &port) || !is_host(target.host) ||
        !slice_to_u64(port, UINT16_MAX, &value) || value == 0) {
        return false;
    }
    target.addr.port = (uint16_t)value;
    *ret_target = target;
    return true;
}

static bool is_printable(struct slice text) {
    for (size_t i = 0; i < text.len; i++) {
        if (text.ptr[i] < 0x20 || text.ptr[i] > 0x7e) {
            return false;
        }
    }
    return true;
}

// False when an escape is cut or the text does not fit.
static bool unescape(struct slice text, char scratch[HBONE_BAGGAGE_MAX], size_t *used,
                     struct slice *ret_text) {
    size_t at = *used;
    for (size_t i = 0; i < text.len; i++, at++) {
        if (at >= HBONE_BAGGAGE_MAX) {
            return false;
        }
        uint8_t c = text.ptr[i];
        if (c == '%') {
            if (text.len - i < 3 || hex_value(text.ptr[i + 1]) < 0 ||
                hex_value(text.ptr[i + 2]) < 0) {
                return false;
            }
            c = (uint8_t)(hex_value(text.ptr[i + 1]) << 4 | hex_value(text.ptr[i + 2]));
            i += 2;
        }
        scratch[at] = (char)c;
    }
    *ret_text = slice_make(scratch + *used, at - *used);
    *used = at;
    return true;
}

// Cuts off and returns what is before the next separator.
static struct slice next_part(struct slice *rest, uint8_t separator) {
    struct slice part = *rest;
    if (!slice_split(*rest, separator, &part, rest)) {
        *rest = slice_skip(*rest, rest->len);
    }
    return part;
}

static struct slice *baggage_member(struct hbone_baggage *baggage, struct slice key,
                                    struct slice *ret_type) {
    static const struct {
        struct slice key;
        size_t offset;
    } members[] = {
        {{(const uint8_t *)"k8s.cluster.name", 16}, offsetof(struct hbone_baggage, cluster)},
        {{(const uint8_t *)"k8s.namespace.name", 18}, offsetof(struct hbone_baggage, ns)},
        {{(const uint8_t *)"service.name", 12}, offsetof(struct hbone_baggage, service)},
        {{(const uint8_t *)"service.version", 15}, offsetof(struct hbone_baggage, revision)},
        {{(const uint8_t *)"cloud.region", 12}, offsetof(struct hbone_baggage, region)},
        {{(const uint8_t *)"cloud.availability_zone", 23}, offsetof(struct hbone_baggage, zone)},
    };
    for (size_t i = 0; i < ARRAY_LEN(members); i++) {
        if (slice_eq(key, members[i].key)) {
            return (struct slice *)((char *)baggage + members[i].offset);
        }
    }
    static const struct slice types[] = {{(const uint8_t *)"deployment", 10},
                                         {(const uint8_t *)"cronjob", 7},
                                         {(const uint8_t *)"pod", 3},
                                         {(const uint8_t *)"job", 3}};
    for (size_t i = 0; i < ARRAY_LEN(types); i++) {
        if (slice_eq(key, workload_key(types[i]))) {
            *ret_type = types[i];
            return &baggage->workload;
        }
    }
    return NULL;
}

void hbone_baggage_parse(struct slice value, char scratch[HBONE_BAGGAGE_MAX], size_t *used,
                         struct hbone_baggage *baggage) {
    struct slice rest = slice_head(value, HBONE_BAGGAGE_MAX);
    while (rest.len < value.len && rest.len > 0 && rest.ptr[rest.len - 1] != ',') {
        rest.len--; // not half an item
    }
    while (rest.len > 0) {
        struct slice item = next_part(&rest, ',');
        struct slice key, text;
        item = next_part(&item, ';'); // properties behind it mean nothing here
        if (!slice_split(item, '=', &key, &text)) {
            continue;
        }
        struct slice type = {0};
        struct slice *member = baggage_member(baggage, slice_trim(key), &type);
        text = slice_trim(text);
        if (member == NULL || text.len == 0) {
            continue;
        }
        if (slice_find(text, '%') >= 0 && !unescape(text, scratch, used, &text)) {
            continue;
        }
        if (!is_printable(text)) {
            continue; // it ends up in logs and metrics
        }
        *member = text;
        if (type.len > 0) {
            baggage->workload_type = type;
        }
    }
}

static struct slice unquote(struct slice text) {
    if (text.len >= 2 && text.ptr[0] == '"' && text.ptr[text.len - 1] == '"') {
        return slice_make(text.ptr + 1, text.len - 2);
    }
    return text;
}

static bool source_parse(struct slice text, struct addr *ret_addr) {
    if (addr_parse(text, ret_addr)) {
        return true;
    }
    if (text.len >= 2 && text.ptr[0] == '[' && text.ptr[text.len - 1] == ']') {
        text = slice_make(text.ptr + 1, text.len - 2);
    }
    struct addr addr = {0};
    if (!ip_parse(text, &addr.ip)) {
        return false;
    }
    *ret_addr = addr;
    return true;
}

// RFC 7239, the first element: that of the proxy nearest to the client.
static void forwarded_parse(struct slice value, struct hbone_connect *connect) {
    struct slice rest = next_part(&value, ',');
    while (rest.len > 0) {
        struct slice pair = next_part(&rest, ';');
        struct slice name, text;
        if (!slice_split(pair, '=', &name, &text)) {
            continue;
        }
        name = slice_trim(name);
        text = unquote(slice_trim(text));
        if (slice_eq_nocase(name, SLICE_LIT("for")) && !ip_is_set(&connect->source.ip)) {
            (void)!source_parse(text, &connect->source);
        } else if (slice_eq_nocase(name, SLICE_LIT("host")) && connect->host.len == 0 &&
                   is_host(text)) {
            connect->host = text;
        }
    }
}

static bool hex_parse(struct slice text, uint8_t *out, size_t len) {
    for (size_t i = 0; i < len; i++) {
        int high = hex_value(text.ptr[2 * i]);
        int low = hex_value(text.ptr[2 * i + 1]);
        if (high < 0 || low < 0) {
            return false;
        }
        out[i] = (uint8_t)(high << 4 | low);
    }
    return true;
}

static void traceparent_parse(struct slice value, struct hbone_connect *connect) {
    uint8_t trace_id[16], span_id[8], flags;
    if (value.len != HBONE_TRACEPARENT_LEN || !slice_has_prefix(value, SLICE_LIT("00-")) ||
        value.ptr[35] != '-' || value.ptr[52] != '-' ||
        !hex_parse(slice_skip(value, 3), trace_id, sizeof(trace_id)) ||
        !hex_parse(slice_skip(value, 36), span_id, sizeof(span_id)) ||
        !hex_parse(slice_skip(value, 53), &flags, 1)) {
        return;
    }
    connect->has_trace = true;
    memcpy(connect->trace_id, trace_id, sizeof(trace_id));
    memcpy(connect->span_id, span_id, sizeof(span_id));
    connect->trace_flags = flags;
}

enum hbone_err hbone_connect_parse(const struct http_field *fields, size_t n_fields,
                                   char scratch[HBONE_BAGGAGE_MAX],
                                   struct hbone_connect *ret_connect) {
    struct hbone_connect connect = {0};
    struct slice method = {0}, authority = {0};
    bool is_plain = true;
    size_t used = 0;
    for (size_t i = 0; i < n_fields; i++) {
        struct slice name = fields[i].name, value = fields[i].value;
        if (slice_eq(name, SLICE_LIT(":method"))) {
            method = value;
        } else if (slice_eq(name, SLICE_LIT(":authority"))) {
            is_plain &= authority.len == 0;
            authority = value;
        } else if (name.len > 0 && name.ptr[0] == ':') {
            is_plain = false; // extended CONNECT
        } else if (slice_eq(name, SLICE_LIT("baggage"))) {
            hbone_baggage_parse(value, scratch, &used, &connect.baggage);
        } else if (slice_eq(name, SLICE_LIT("forwarded"))) {
            forwarded_parse(value, &connect);
        } else if (slice_eq(name, SLICE_LIT("traceparent"))) {
            traceparent_parse(value, &connect);
        } else if (slice_eq(name, SLICE_LIT("x-forwarded-network"))) {
            connect.network = is_host(value) ? value : connect.network;
        }
    }
    if (!slice_eq(method, SLICE_LIT("CONNECT"))) {
        return HBONE_NOT_CONNECT;
    }
    if (!is_plain) {
        return HBONE_BAD_HEAD;
    }
    if (!hbone_target_parse(authority, &connect.target)) {
        return HBONE_BAD_AUTHORITY;
    }
    *ret_connect = connect;
    return HBONE_OK;
}

uint16_t hbone_response_parse(const struct http_field *fields, size_t n_fields,
                              char scratch[HBONE_BAGGAGE_MAX], struct hbone_baggage *ret_baggage) {
    *ret_baggage = (struct hbone_baggage){0};
    uint64_t status = 0;
    size_t used = 0;
    for (size_t i = 0; i < n_fields; i++) {
        if (slice_eq(fields[i].name, SLICE_LIT(":status"))) {
            if (fields[i].value.len != 3 || !slice_to_u64(fields[i].value, 999, &status)) {
                return 0;
            }
        } else if (slice_eq(fields[i].name, SLICE_LIT("baggage"))) {
            hbone_baggage_parse(fields[i].value, scratch, &used, ret_baggage);
        }
    }
    return status >= 100 ? (uint16_t)status : 0;
}

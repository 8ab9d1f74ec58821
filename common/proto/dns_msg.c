// SPDX-License-Identifier: Apache-2.0
#include "common/proto/dns_msg.h"

#include "common/base/cur.h"

enum {
    FLAG_QR = 0x8000,
    FLAG_AA = 0x0400,
    FLAG_TC = 0x0200,
    FLAG_RD = 0x0100,
    FLAG_RA = 0x0080,
    FLAG_CD = 0x0010,
    OPCODE_MASK = 0x7800,
    RCODE_MASK = 0x000f,
    POINTER = 0xc0,
    POINTER_OFFSET_MAX = 0x3fff,
    OPTION_EDE = 15,
    OPT_LEN = 11, // an OPT record without options
    EDE_TEXT_MAX = 120,
    RECORD_HEAD_LEN = 12, // of a record whose name is a pointer
};

uint16_t dns_msg_id(struct slice message) {
    CHECK(message.len >= DNS_HEADER_LEN);
    return (uint16_t)(message.ptr[0] << 8 | message.ptr[1]);
}

void dns_msg_set_id(uint8_t *message, uint16_t id) {
    message[0] = (uint8_t)(id >> 8);
    message[1] = (uint8_t)id;
}

static uint16_t read_u16(struct slice message, size_t at) {
    return (uint16_t)(message.ptr[at] << 8 | message.ptr[at + 1]);
}

bool dns_msg_is_truncated(struct slice message) {
    return message.len >= DNS_HEADER_LEN && (read_u16(message, 2) & FLAG_TC) != 0;
}

static char host_char(uint8_t c) {
    if (c >= 'A' && c <= 'Z') {
        return (char)(c - 'A' + 'a');
    }
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '_' || c == '*'
               ? (char)c
               : '?';
}

// Reads a name at message[at]; returns where it ends there, 0 when it is malformed. `text` (may be
// NULL) gets it as dns_query.name.
static size_t read_name(struct slice message, size_t at, char text[DNS_NAME_MAX]) {
    size_t end = 0; // known once a pointer was followed
    size_t limit = at; // pointers go to before this: each one further back, so there is no loop
    size_t wire_len = 1;
    size_t text_len = 0;
    for (;;) {
        if (at >= message.len) {
            return 0;
        }
        uint8_t len = message.ptr[at];
        if (len >= POINTER) {
            if (message.len - at < 2) {
                return 0;
            }
            size_t target = read_u16(message, at) & POINTER_OFFSET_MAX;
            if (target >= limit || target < DNS_HEADER_LEN) {
                return 0;
            }
            end = end != 0 ? end : at + 2;
            at = limit = target;
            continue;
        }
        if (len > DNS_LABEL_MAX || message.len - at <= len) {
            return 0;
        }
        at++;
        if (len == 0) {
            break;
        }
        wire_len += (size_t)len + 1;
        if (wire_len > DNS_NAME_MAX) {
            return 0;
        }
        if (text != NULL) {
            if (text_len > 0) {
                text[text_len++] = '.';
            }
            for (size_t i = 0; i < len; i++) {
                text[text_len++] = host_char(message.ptr[at + i]);
            }
        }
        at += len;
    }
    if (text != NULL) {
        text[text_len] = '\0'; // wire_len <= 255 leaves room
    }
    return end != 0 ? end : at;
}

// The additional section: OPT is read, the rest is passed over. False when malformed.
static bool read_additional(struct slice message, size_t at, uint16_t n, struct dns_query *query) {
    for (uint16_t i = 0; i < n; i++) {
        bool is_root = at < message.len && message.ptr[at] == 0;
        at = read_name(message, at, NULL);
        if (at == 0) {
            return false;
        }
        struct cur cur = cur_make(slice_skip(message, at));
        uint16_t type = cur_u16(&cur);
        uint16_t class_ = cur_u16(&cur);
        uint32_t ttl = cur_u32(&cur);
        uint16_t len = cur_u16(&cur);
        cur_skip(&cur, len);
        if (!cur_ok(&cur)) {
            return false;
        }
        at = message.len - cur.len;
        if (type == DNS_OPT) {
            if (query->has_edns || !is_root) { // RFC 6891 section 6.1.1
                return false;
            }
            query->has_edns = true;
            query->udp_size = MAX(class_, (uint16_t)DNS_UDP_MIN);
            query->edns_version = (uint8_t)(ttl >> 16);
        }
    }
    return true;
}

enum dns_query_result dns_query_parse(struct slice message, struct dns_query *ret_query) {
    struct dns_query query = {.udp_size = DNS_UDP_MIN};
    if (message.len < DNS_HEADER_LEN) {
        return DNS_QUERY_IGNORE;
    }
    struct cur cur = cur_make(message);
    query.id = cur_u16(&cur);
    query.flags = cur_u16(&cur);
    uint16_t n_questions = cur_u16(&cur);
    uint16_t n_answers = cur_u16(&cur);
    uint16_t n_authorities = cur_u16(&cur);
    uint16_t n_additional = cur_u16(&cur);
    *ret_query = query;
    if ((query.flags & FLAG_QR) != 0) {
        return DNS_QUERY_IGNORE; // answering answers makes loops
    }
    if ((query.flags & OPCODE_MASK) != 0) {
        return DNS_QUERY_OTHER;
    }
    if (n_questions != 1) {
        return DNS_QUERY_BAD; // RFC 9619
    }
    size_t at = read_name(message, DNS_HEADER_LEN, query.name);
    if (at == 0 || message.len - at < 4) {
        return DNS_QUERY_BAD;
    }
    query.type = read_u16(message, at);
    query.class_ = read_u16(message, at + 2);
    query.question = slice_make(message.ptr + DNS_HEADER_LEN, at + 4 - DNS_HEADER_LEN);
    // Records before the additional section (an IXFR has one) are no business of ours.
    bool is_plain = n_answers == 0 && n_authorities == 0;
    if (is_plain && !read_additional(message, at + 4, n_additional, &query)) {
        return DNS_QUERY_BAD;
    }
    *ret_query = query;
    return is_plain ? DNS_QUERY_OK : DNS_QUERY_OTHER;
}

size_t dns_udp_limit(const struct dns_query *query) {
    return MIN(query->udp_size, (uint16_t)DNS_UDP_OURS);
}

// Appends `name` label by label; empty labels are left out.
static void put_name(struct buf *buf, const char *name) {
    struct slice rest = slice_str(name);
    while (rest.len > 0) {
        struct slice label = rest;
        if (!slice_split(rest, '.', &label, &rest)) {
            rest = slice_skip(rest, rest.len);
        }
        label = slice_head(label, DNS_LABEL_MAX);
        if (label.len > 0) {
            buf_put_u8(buf, (uint8_t)label.len);
            buf_append(buf, label);
        }
    }
    buf_put_u8(buf, 0);
}

static void put_record_head(struct buf *buf, size_t name_offset, uint16_t type, uint32_t ttl,
                            size_t len) {
    buf_put_u16(buf, (uint16_t)(POINTER << 8 | name_offset));
    buf_put_u16(buf, type);
    buf_put_u16(buf, DNS_IN);
    buf_put_u32(buf, ttl);
    buf_put_u16(buf, (uint16_t)len);
}

static void put_opt(struct buf *buf, const struct dns_answer *answer, size_t room) {
    const char *text = answer->ede_text != NULL ? answer->ede_text : "";
    size_t text_len = MIN(strlen(text), (size_t)EDE_TEXT_MAX);
    bool has_ede = answer->ede >= 0 && room >= OPT_LEN + 6 + text_len;
    buf_put_u8(buf, 0);
    buf_put_u16(buf, DNS_OPT);
    buf_put_u16(buf, DNS_UDP_OURS);
    buf_put_u32(buf, (uint32_t)(answer->rcode >> 4) << 24);
    buf_put_u16(buf, has_ede ? (uint16_t)(6 + text_len) : 0);
    if (has_ede) {
        buf_put_u16(buf, OPTION_EDE);
        buf_put_u16(buf, (uint16_t)(2 + text_len));
        buf_put_u16(buf, (uint16_t)answer->ede);
        buf_append(buf, slice_make(text, text_len));
    }
}

// The answer section, as much as there is room for. Returns the number of records, and whether all
// are there.
static uint16_t put_answers(struct buf *buf, size_t start, size_t max_len,
                            const struct dns_answer *answer, bool *ret_is_whole) {
    size_t owner = DNS_HEADER_LEN; // the question's name
    uint16_t n = 0;
    *ret_is_whole = true;
    if (answer->cname != NULL) {
        struct buf name;
        buf_init(&name, DNS_NAME_MAX + 1);
        put_name(&name, answer->cname);
        bool fits = buf_ok(&name) && buf->len - start + RECORD_HEAD_LEN + name.len <= max_len;
        if (fits) {
            put_record_head(buf, owner, DNS_CNAME, answer->ttl_s, name.len);
            owner = buf->len - start;
            buf_append(buf, buf_slice(&name));
            n++;
        }
        buf_fini(&name);
        if (!fits) {
            *ret_is_whole = false;
            return n;
        }
    }
    for (uint32_t i = 0; i < answer->n_ips; i++) {
        const struct ip *ip = &answer->ips[i];
        size_t len = ip->family == 4 ? 4 : 16;
        if (buf->len - start + RECORD_HEAD_LEN + len > max_len || n == UINT16_MAX) {
            *ret_is_whole = false;
            break;
        }
        put_record_head(buf, owner, ip->family == 4 ? DNS_A : DNS_AAAA, answer->ttl_s, len);
        buf_append(buf, slice_make(ip->bytes, len));
        n++;
    }
    return n;
}

void dns_answer_build(const struct dns_query *query, const struct dns_answer *answer,
                      size_t max_len, struct buf *buf) {
    size_t start = buf->len;
    uint16_t flags =
        (uint16_t)(FLAG_QR | FLAG_RA | (query->flags & (FLAG_RD | FLAG_CD | OPCODE_MASK)));
    flags |= answer->rcode & RCODE_MASK;
    if (answer->is_authoritative) {
        flags |= FLAG_AA;
    }
    buf_put_u16(buf, query->id);
    buf_put_u16(buf, flags);
    buf_put_u16(buf, query->question.len > 0);
    buf_put_u16(buf, 0);
    buf_put_u16(buf, 0);
    buf_put_u16(buf, query->has_edns);
    buf_append(buf, query->question);
    size_t room = query->has_edns ? max_len - OPT_LEN : max_len;
    bool is_whole;
    uint16_t n = put_answers(buf, start, room, answer, &is_whole);
    if (query->has_edns) {
        put_opt(buf, answer, max_len - (buf->len - start));
    }
    if (!buf_ok(buf)) {
        return;
    }
    uint8_t *header = buf->ptr + start;
    header[2] |= is_whole ? 0 : FLAG_TC >> 8;
    header[6] = (uint8_t)(n >> 8);
    header[7] = (uint8_t)n;
}

bool dns_msg_answers(struct slice message, struct slice query) {
    if (message.len < DNS_HEADER_LEN || query.len < DNS_HEADER_LEN ||
        dns_msg_id(message) != dns_msg_id(query) || (read_u16(message, 2) & FLAG_QR) == 0) {
        return false;
    }
    uint16_t n_asked = read_u16(query, 4);
    uint16_t n_repeated = read_u16(message, 4);
    if (n_repeated == 0) { // some servers refuse without a question
        return n_asked == 0 || (read_u16(message, 2) & RCODE_MASK) != DNS_NOERROR;
    }
    size_t end = read_name(message, DNS_HEADER_LEN, NULL);
    if (n_asked != 1 || n_repeated != 1 || end == 0 || message.len - end < 4) {
        return false;
    }
    // No compression is possible in a first name, so the bytes are the same but for the case.
    size_t name_len = end - DNS_HEADER_LEN;
    struct slice asked = slice_skip(query, DNS_HEADER_LEN);
    struct slice repeated = slice_skip(message, DNS_HEADER_LEN);
    return asked.len >= name_len + 4 &&
           slice_eq_nocase(slice_head(asked, name_len), slice_head(repeated, name_len)) &&
           memcmp(asked.ptr + name_len, repeated.ptr + name_len, 4) == 0;
}

uint8_t dns_msg_rcode(struct slice message) {
    CHECK(message.len >= DNS_HEADER_LEN);
    return (uint8_t)(read_u16(message, 2) & RCODE_MASK);
}

void dns_query_build(const char *name, enum dns_type type, uint16_t id, struct buf *buf) {
    buf_put_u16(buf, id);
    buf_put_u16(buf, FLAG_RD);
    buf_put_u16(buf, 1);
    buf_put_u16(buf, 0);
    buf_put_u16(buf, 0);
    buf_put_u16(buf, 1);
    put_name(buf, name);
    buf_put_u16(buf, (uint16_t)type);
    buf_put_u16(buf, DNS_IN);
    put_opt(buf, &(struct dns_answer){.ede = DNS_EDE_NONE}, OPT_LEN);
}

bool dns_msg_first_ip(struct slice message, enum dns_type type, struct ip *ret_ip) {
    if (message.len < DNS_HEADER_LEN) {
        return false;
    }
    uint16_t n_questions = read_u16(message, 4), n_answers = read_u16(message, 6);
    size_t at = DNS_HEADER_LEN;
    for (uint32_t i = 0; i < (uint32_t)n_questions + n_answers; i++) {
        at = read_name(message, at, NULL);
        if (at == 0) {
            return false;
        }
        struct cur cur = cur_make(slice_skip(message, at));
        bool is_match = cur_u16(&cur) == (uint16_t)type;
        is_match = cur_u16(&cur) == DNS_IN && is_match;
        if (i >= n_questions) {
            cur_skip(&cur, 4); // TTL
            struct slice data = cur_bytes(&cur, cur_u16(&cur));
            if (cur_ok(&cur) && is_match && data.len == (type == DNS_A ? 4U : 16U)) {
                return ip_from_bytes(data, ret_ip);
            }
        }
        if (!cur_ok(&cur)) {
            return false;
        }
        at = message.len - cur.len;
    }
    return false;
}

const char *dns_type_text(uint16_t type) {
    static const struct {
        uint16_t type;
        const char *text;
    } names[] = {
        {DNS_A, "A"},         {DNS_AAAA, "AAAA"}, {DNS_ANY, "ANY"},     {DNS_CAA, "CAA"},
        {DNS_CNAME, "CNAME"}, {DNS_DS, "DS"},     {DNS_HTTPS, "HTTPS"}, {DNS_MX, "MX"},
        {DNS_NAPTR, "NAPTR"}, {DNS_NS, "NS"},     {DNS_OPT, "OPT"},     {DNS_PTR, "PTR"},
        {DNS_SOA, "SOA"},     {DNS_SRV, "SRV"},   {DNS_SVCB, "SVCB"},   {DNS_TXT, "TXT"},
    };
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        if (names[i].type == type) {
            return names[i].text;
        }
    }
    return NULL;
}

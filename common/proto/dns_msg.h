// SPDX-License-Identifier: Apache-2.0
//
// DNS messages (RFC 1035, EDNS(0) of RFC 6891), pure: reading queries, writing answers, and what a
// relay has to know of messages that it hands on unchanged. UDP payloads, or TCP messages without
// their two length bytes.
#pragma once

#include "common/base/addr.h"
#include "common/base/buf.h"
#include "common/base/slice.h"

enum {
    DNS_HEADER_LEN = 12,
    DNS_NAME_MAX = 255, // on the wire, with the root label
    DNS_LABEL_MAX = 63,
    DNS_MESSAGE_MAX = 65535,
    DNS_UDP_MIN = 512, // what every client takes
    DNS_UDP_OURS = 4096, // the most that we send, and say that we take, over UDP
};

enum dns_type {
    DNS_A = 1,
    DNS_NS = 2,
    DNS_CNAME = 5,
    DNS_SOA = 6,
    DNS_PTR = 12,
    DNS_MX = 15,
    DNS_TXT = 16,
    DNS_AAAA = 28,
    DNS_SRV = 33,
    DNS_NAPTR = 35,
    DNS_OPT = 41,
    DNS_DS = 43,
    DNS_SVCB = 64,
    DNS_HTTPS = 65,
    DNS_ANY = 255,
    DNS_CAA = 257,
};
enum { DNS_IN = 1 };

enum dns_rcode {
    DNS_NOERROR = 0,
    DNS_FORMERR = 1,
    DNS_SERVFAIL = 2,
    DNS_NXDOMAIN = 3,
    DNS_NOTIMP = 4,
    DNS_REFUSED = 5,
    DNS_BADVERS = 16, // extended: the upper bits are in OPT
};

// Extended errors (RFC 8914).
enum dns_ede {
    DNS_EDE_NONE = -1,
    DNS_EDE_OTHER = 0,
    DNS_EDE_NO_REACHABLE = 22,
    DNS_EDE_NETWORK = 23
};

struct dns_query {
    uint16_t id, flags, type, class_;
    // The question's name, in lower case, with dots and without the last one; "" is the root. Bytes
    // that cannot be in a host name are written as '?', so that no such name matches anything.
    char name[DNS_NAME_MAX];
    bool has_edns;
    uint16_t udp_size; // advertised; DNS_UDP_MIN without EDNS
    uint8_t edns_version;
    struct slice question; // name, type and class as sent; borrowed from the message
};

enum dns_query_result {
    DNS_QUERY_OK, // a standard query with one question
    DNS_QUERY_OTHER, // well formed as far as one can say, but of another kind: relay it
    DNS_QUERY_BAD, // answer FORMERR; id and flags are set
    DNS_QUERY_IGNORE, // no query at all: say nothing
};

// Reads a query. Never follows a compression pointer that does not go backwards.
enum dns_query_result dns_query_parse(struct slice message, struct dns_query *ret_query);

struct dns_answer {
    uint8_t rcode; // enum dns_rcode
    bool is_authoritative;
    const char *cname; // not NULL: the name asked for is an alias of this one, which owns the ips
    const struct ip *ips; // A or AAAA by their family
    uint32_t n_ips;
    uint32_t ttl_s;
    int ede; // enum dns_ede; shown to clients that speak EDNS
    const char *ede_text; // or NULL
};

// Appends the answer to `query`, at most `max_len` bytes long; with records that do not fit left
// out and TC set. max_len: dns_udp_limit(), or DNS_MESSAGE_MAX. cname: at most 253 characters of a
// host name.
void dns_answer_build(const struct dns_query *query, const struct dns_answer *answer,
                      size_t max_len, struct buf *buf);
// How long an answer to this query over UDP may be.
size_t dns_udp_limit(const struct dns_query *query);

// The id of a message of at least DNS_HEADER_LEN bytes.
uint16_t dns_msg_id(struct slice message);
void dns_msg_set_id(uint8_t *message, uint16_t id);
bool dns_msg_is_truncated(struct slice message);
// True when `message` can be the answer to `query` (both as on the wire; the ids are compared): a
// response that repeats the question, or an error without a question. RFC 5452 section 4.
bool dns_msg_answers(struct slice message, struct slice query);

// Appends a query of our own, with recursion and EDNS. name: at most 253 characters of a host name.
void dns_query_build(const char *name, enum dns_type type, uint16_t id, struct buf *buf);
// The first address of this type (A or AAAA) in a response: whoever owns it, since an alias stands
// in front of it. False: there is none, or the message is malformed.
bool dns_msg_first_ip(struct slice message, enum dns_type type, struct ip *ret_ip);
uint8_t dns_msg_rcode(struct slice message); // of a message of at least DNS_HEADER_LEN bytes

// "A", "AAAA" ...; NULL for types without a name here.
const char *dns_type_text(uint16_t type);

// SPDX-License-Identifier: Apache-2.0
//
// Strict decode of a document tree into C structs, driven by tables. Every field that the API has
// is named by its table: what we read has a type and a place, what we do not read is known by name
// only. Anything else is an error, with the nearest name as a hint. All errors of an object are
// collected, none stops the decode.
//
// Null counts as absent, as in Kubernetes. Tables are constant and not recursive, so the depth of
// the decode is bounded. Thread: the caller's.
//
// An object is decoded twice: the first run reports and measures (schema_check), the second one
// fills a block of exactly that size (schema_fill). Both must see the same tree.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/arena.h"
#include "common/mesh/config_doc.h"

enum schema_type {
    SCHEMA_ANY, // its name is known, its value is not looked at
    SCHEMA_STRING, // const char *
    SCHEMA_BOOL, // bool
    SCHEMA_TRI, // enum tri
    SCHEMA_INT, // signed or unsigned integer of `size` bytes, min..max
    SCHEMA_DOUBLE, // double, min..max
    SCHEMA_PPM, // uint32_t parts per million, written in percent, min..max; 0.0001 is the least
    SCHEMA_DURATION, // int64_t milliseconds, at least min; "1.5s", "1h30m"
    SCHEMA_ENUM, // uint8_t
    SCHEMA_QUANTITY, // const char *, as written; "1", "500m", or a bare number
    SCHEMA_INT_OR_STRING, // struct kobj_int_or_string
    SCHEMA_SLICE, // struct slice, of a text
    SCHEMA_BASE64, // struct slice, of a base64 text
    SCHEMA_INTS, // const uint32_t * + uint32_t, each min..max
    SCHEMA_STRINGS, // const char *const * + uint32_t
    SCHEMA_STRINGS_POS, // struct kobj_strings
    SCHEMA_MAP, // struct kobj_map, of strings
    SCHEMA_MESSAGE, // a struct in place
    SCHEMA_FLAT, // a message whose fields are members of the struct around it
    SCHEMA_POINTER, // const struct *, NULL when absent
    SCHEMA_ONE, // a message as a list of one: const struct * + uint32_t
    SCHEMA_LIST, // list of messages: const struct * + uint32_t
    SCHEMA_KEYED, // map of messages or scalars as a list: the key goes to the item's field "<key>",
                  // a scalar to its field "<value>"
    SCHEMA_QUANTITIES, // map of quantities: const struct kobj_quantity * + uint32_t
    SCHEMA_BYTES, // map of base64 texts: const struct kobj_bytes * + uint32_t
    SCHEMA_TEXT_BYTES, // map of texts, appended to what SCHEMA_BYTES left
};

enum {
    SCHEMA_REQUIRED = 1, // must be there, and not be empty
    SCHEMA_LAUNCH = 2, // left out of lean objects
    SCHEMA_NONEMPTY = 4, // when it is there, it is not empty
};

struct schema_name { // ends with text NULL
    const char *text;
    uint8_t value;
};

struct schema_note { // ends with name NULL
    const char *name, *text;
};

struct schema_msg;
struct schema_ctx;

struct schema_field {
    const char *name;
    uint8_t type, size, flags;
    uint8_t oneof; // fields of the same nonzero number exclude each other
    uint8_t tag; // nonzero: written to the byte at tag_off when the field is there
    uint16_t off, off_n, tag_off;
    uint16_t name_off; // nonzero: `name` is written to the const char * at name_off - 1
    int64_t min, max; // numbers; max of a list, when it is not 0: of its items
    int64_t absent; // numbers, durations, enums: value when it is absent
    const char *absent_text; // SCHEMA_STRING: same; NULL: ""
    const char *old; // not NULL: a deprecated field, and what to do; a warning
    const struct schema_msg *msg;
    const struct schema_name *names; // SCHEMA_ENUM
    // Syntax of a string, of each of a list, of each value of a map: what is wrong, or NULL.
    const char *(*check)(const char *text);
    const char *(*check_key)(const char *text); // SCHEMA_MAP, SCHEMA_KEYED
    // SCHEMA_LIST: the items that lean objects keep (which must be maps); NULL = all.
    bool (*is_kept)(const struct cfg_node *item);
};

struct schema_msg {
    const char *name;
    const struct schema_field *fields;
    // Names that are accepted and dropped, with a space between each.
    const char *known;
    // Names that it does not have, and what to write instead. Others that a message around or
    // inside of this one has are found without.
    const struct schema_note *notes;
    size_t size;
    uint16_t n_fields;
    uint16_t pos_off; // nonzero: a struct kobj_pos at pos_off - 1 takes the place of the message
    bool is_snake_ok; // names with underscores are accepted too (protobuf JSON)
    // What to say about a name that it does not have; NULL = nothing special.
    const char *(*unknown)(const struct cfg_node *node, const struct cfg_pair *pair);
    // Rules beyond types, after the fields were decoded (also when some had errors). Runs once.
    void (*check)(struct schema_ctx *ctx, const struct cfg_node *node, const void *out);
};

struct schema_path {
    const struct schema_path *parent;
    const char *name; // NULL: an index
    uint32_t index;
};

struct schema_around { // the messages that are being decoded
    const struct schema_around *parent;
    const struct schema_msg *msg;
    const struct schema_path *path;
};

// What a field is that its message does not have. A warning and silence leave it out.
enum schema_unknown { SCHEMA_UNKNOWN_ERROR, SCHEMA_UNKNOWN_WARNING, SCHEMA_UNKNOWN_SILENT };

struct schema_ctx {
    const char *file;
    const char *object; // "Kind ns/name" for messages
    struct config_errors *errors;
    struct arena *scratch;
    const struct schema_path *path; // of what is being decoded
    const struct schema_around *around;
    uint32_t n_errors;
    bool is_lean, is_final;
    uint8_t unknown; // enum schema_unknown
    bool is_full; // scratch refused memory
    size_t n_structs, n_texts; // bytes counted (first run) or used (second)
    char *structs, *texts; // second run
};

// First run. Returns the decoded message in ctx->scratch (its texts point into the tree), NULL only
// when scratch is full. ctx->n_errors says how many errors there were; ctx->n_structs and n_texts
// what the second run needs. The path of messages starts at `path`.
const void *schema_check(struct schema_ctx *ctx, const struct schema_msg *msg,
                         const struct cfg_node *node);
// Second run, into the block at ctx->structs / ctx->texts.
const void *schema_fill(struct schema_ctx *ctx, const struct schema_msg *msg,
                        const struct cfg_node *node);

// As schema_check and schema_fill, for a message in the caller's storage, which is not counted.
void schema_check_at(struct schema_ctx *ctx, const struct schema_msg *msg,
                     const struct cfg_node *node, void *out);
void schema_fill_at(struct schema_ctx *ctx, const struct schema_msg *msg,
                    const struct cfg_node *node, void *out);

// A complaint at `node`, about the current path plus `sub` ("" = itself, "ports[1]"). Nothing in
// the second run.
void schema_error(struct schema_ctx *ctx, const struct cfg_node *node, const char *sub,
                  const char *fmt, ...) PRINTF_LIKE(4, 5);
void schema_warn(struct schema_ctx *ctx, const struct cfg_node *node, const char *sub,
                 const char *fmt, ...) PRINTF_LIKE(4, 5);
// With a hint: what was probably meant ("" = none).
void schema_report(struct schema_ctx *ctx, enum config_severity severity,
                   const struct cfg_node *node, const char *sub, const char *text,
                   const char *hint);

// Edit distance without case, the swap of two neighbours counts 1; more than `max`: max + 1.
unsigned schema_distance(const char *a, const char *b, unsigned max);
// How far a word may be from what was meant.
unsigned schema_max_distance(const char *word);

// Syntax checks for tables.
const char *schema_check_ip(const char *text);
const char *schema_check_cidr(const char *text); // or a bare address
const char *schema_check_dns_label(const char *text); // RFC 1123
const char *schema_check_dns_name(const char *text); // RFC 1123 subdomain
const char *schema_check_port_name(const char *text); // IANA service name, <= 15
const char *schema_check_label_key(const char *text);
const char *schema_check_label_value(const char *text);
const char *schema_check_quantity(const char *text);
const char *schema_check_host_wildcard(const char *text); // "a.b", "*.b", "*"

bool schema_quantity(struct slice text, int64_t *ret_milli);
bool schema_duration(struct slice text, int64_t *ret_ms);
// Standard base64. ret_len bytes were written to out, which has room for 3/4 of text.
bool schema_base64(struct slice text, uint8_t *out, size_t *ret_len);

// Table rows. S is the struct, m its member.
#define SCHEMA_AT(S, m) .off = offsetof(S, m)
#define SCHEMA_NAT(S, m) .off = offsetof(S, m), .off_n = offsetof(S, n_##m)
#define F_STR(S, m, field, ...)                                                                    \
    { .name = (field), .type = SCHEMA_STRING, SCHEMA_AT(S, m), __VA_ARGS__ }
#define F_BOOL(S, m, field, ...)                                                                   \
    { .name = (field), .type = SCHEMA_BOOL, SCHEMA_AT(S, m), __VA_ARGS__ }
#define F_TRI(S, m, field, ...)                                                                    \
    { .name = (field), .type = SCHEMA_TRI, SCHEMA_AT(S, m), __VA_ARGS__ }
#define F_INT(S, m, field, lo, hi, ...)                                                            \
    {                                                                                              \
        .name = (field), .type = SCHEMA_INT, .size = sizeof(((S *)0)->m), SCHEMA_AT(S, m),         \
        .min = (lo), .max = (hi), __VA_ARGS__                                                      \
    }
#define F_DURATION(S, m, field, ...)                                                               \
    { .name = (field), .type = SCHEMA_DURATION, SCHEMA_AT(S, m), .absent = -1, __VA_ARGS__ }
#define F_DOUBLE(S, m, field, lo, hi, ...)                                                         \
    {                                                                                              \
        .name = (field), .type = SCHEMA_DOUBLE, SCHEMA_AT(S, m), .min = (lo), .max = (hi),         \
        __VA_ARGS__                                                                                \
    }
#define F_PPM(S, m, field, ...)                                                                    \
    { .name = (field), .type = SCHEMA_PPM, SCHEMA_AT(S, m), .max = 100, __VA_ARGS__ }
#define F_INTS(S, m, field, lo, hi, ...)                                                           \
    {                                                                                              \
        .name = (field), .type = SCHEMA_INTS, SCHEMA_NAT(S, m), .min = (lo), .max = (hi),          \
        __VA_ARGS__                                                                                \
    }
#define F_SLICE(S, m, field, ...)                                                                  \
    { .name = (field), .type = SCHEMA_SLICE, SCHEMA_AT(S, m), __VA_ARGS__ }
#define F_BASE64(S, m, field, ...)                                                                 \
    { .name = (field), .type = SCHEMA_BASE64, SCHEMA_AT(S, m), __VA_ARGS__ }
#define F_ENUM(S, m, field, values, ...)                                                           \
    { .name = (field), .type = SCHEMA_ENUM, SCHEMA_AT(S, m), .names = (values), __VA_ARGS__ }
#define F_QUANTITY(S, m, field, ...)                                                               \
    { .name = (field), .type = SCHEMA_QUANTITY, SCHEMA_AT(S, m), __VA_ARGS__ }
#define F_IOS(S, m, field, ...)                                                                    \
    { .name = (field), .type = SCHEMA_INT_OR_STRING, SCHEMA_AT(S, m), __VA_ARGS__ }
#define F_STRS(S, m, field, ...)                                                                   \
    { .name = (field), .type = SCHEMA_STRINGS, SCHEMA_NAT(S, m), __VA_ARGS__ }
#define F_STRS_POS(S, m, field, ...)                                                               \
    { .name = (field), .type = SCHEMA_STRINGS_POS, SCHEMA_AT(S, m), __VA_ARGS__ }
#define F_MAP(S, m, field, ...)                                                                    \
    { .name = (field), .type = SCHEMA_MAP, SCHEMA_AT(S, m), __VA_ARGS__ }
#define F_MSG(S, m, field, message, ...)                                                           \
    { .name = (field), .type = SCHEMA_MESSAGE, SCHEMA_AT(S, m), .msg = (message), __VA_ARGS__ }
#define F_FLAT(field, message, ...)                                                                \
    { .name = (field), .type = SCHEMA_FLAT, .msg = (message), __VA_ARGS__ }
#define F_PTR(S, m, field, message, ...)                                                           \
    { .name = (field), .type = SCHEMA_POINTER, SCHEMA_AT(S, m), .msg = (message), __VA_ARGS__ }
#define F_ONE(S, m, field, message, ...)                                                           \
    { .name = (field), .type = SCHEMA_ONE, SCHEMA_NAT(S, m), .msg = (message), __VA_ARGS__ }
#define F_LIST(S, m, field, message, ...)                                                          \
    { .name = (field), .type = SCHEMA_LIST, SCHEMA_NAT(S, m), .msg = (message), __VA_ARGS__ }
#define F_KEYED(S, m, field, message, ...)                                                         \
    { .name = (field), .type = SCHEMA_KEYED, SCHEMA_NAT(S, m), .msg = (message), __VA_ARGS__ }
#define F_QUANTITIES(S, m, field, ...)                                                             \
    { .name = (field), .type = SCHEMA_QUANTITIES, SCHEMA_NAT(S, m), __VA_ARGS__ }
#define F_ANY(field)                                                                               \
    { .name = (field), .type = SCHEMA_ANY }
#define F_TAG(S, m, value) .tag = (value), .tag_off = offsetof(S, m)
#define F_NAMED(S, m) .name_off = offsetof(S, m) + 1
// The message itself.
#define SCHEMA_MSG(S, table)                                                                       \
    .name = #table, .fields = (table), .n_fields = ARRAY_LEN(table), .size = sizeof(S)
#define SCHEMA_POS(S, m) .pos_off = offsetof(S, m) + 1

// SPDX-License-Identifier: Apache-2.0
//
// What the L7 resources share: matches, header changes, names of hosts and gateways.
#include <ctype.h>
#include <stdio.h>
#include <strings.h>

#include "common/base/addr.h"
#include "common/mesh/kobj_l7_priv.h"

enum { REGEX_MAX = 1024 }; // Istio's

const char *(*kobj_regex_problem)(const char *regex);

const char *kobj_check_regex(const char *text) {
    if (strlen(text) > REGEX_MAX) {
        return "is longer than 1024 bytes, the most a regular expression may have";
    }
    return kobj_regex_problem != NULL ? kobj_regex_problem(text) : NULL;
}

const struct cfg_node *kobj_item(const struct cfg_node *node, const char *list, uint32_t i) {
    const struct cfg_node *items = cfg_get(node, list);
    if (items == NULL) {
        return node;
    }
    return items->type == CFG_LIST && i < items->n ? &items->items[i] : items;
}

const struct cfg_node *kobj_at(const struct cfg_node *node, const char *field) {
    const struct cfg_node *at = cfg_get(node, field);
    return at != NULL ? at : node;
}

bool kobj_has(const struct cfg_node *node, const char *field) {
    const struct cfg_node *at = cfg_get(node, field);
    return at != NULL && at->type != CFG_NULL;
}

// Hosts

const char *kobj_check_host(const char *text) {
    struct ip ip;
    if (ip_parse(slice_str(text), &ip)) {
        return NULL;
    }
    return schema_check_host_wildcard(text);
}

const char *kobj_check_destination(const char *text) {
    if (strcmp(text, "*") == 0) {
        return "cannot be a destination: name one service";
    }
    return kobj_check_host(text);
}

const char *kobj_check_gateway_name(const char *text) {
    struct slice ns, name;

    if (strcmp(text, "mesh") == 0) {
        return NULL;
    }
    if (!slice_split(slice_str(text), '/', &ns, &name)) {
        return schema_check_dns_name(text) == NULL
                   ? NULL
                   : "is not a gateway: `mesh`, NAME or NAMESPACE/NAME";
    }
    char home[64];
    bool is_ok = ns.len < sizeof(home);
    snprintf(home, sizeof(home), "%.*s", (int)MIN(ns.len, sizeof(home) - 1), (const char *)ns.ptr);
    is_ok = is_ok && schema_check_dns_label(home) == NULL &&
            schema_check_dns_name((const char *)name.ptr) == NULL;
    return is_ok ? NULL : "is not a gateway: `mesh`, NAME or NAMESPACE/NAME";
}

const char *kobj_check_export(const char *text) {
    if (strcmp(text, "*") == 0 || strcmp(text, ".") == 0 || schema_check_dns_label(text) == NULL) {
        return NULL;
    }
    return "is none of `*` (everywhere), `.` (this namespace), or a namespace";
}

void kobj_check_exports(struct schema_ctx *ctx, const struct cfg_node *node,
                        const char *const *items, uint32_t n) {
    char path[32];

    for (uint32_t i = 0; i < n; i++) {
        snprintf(path, sizeof(path), "exportTo[%u]", i);
        if (n > 1 && strcmp(items[i], "*") == 0) {
            schema_error(ctx, kobj_item(node, "exportTo", i), path,
                         "`*` is everywhere: it cannot stand beside others");
            return;
        }
        for (uint32_t j = 0; j < i; j++) {
            if (strcmp(items[i], items[j]) == 0) {
                schema_error(ctx, kobj_item(node, "exportTo", i), path, "`%.60s` is there twice",
                             items[i]);
                return;
            }
        }
    }
}

// String matches

#define MATCH(field, value, ...)                                                                   \
    F_STR(struct kobj_string_match, text, field, .oneof = 1,                                       \
          F_TAG(struct kobj_string_match, kind, value), __VA_ARGS__)

// Of a URI the empty prefix is allowed: it is every path.
static const struct schema_field uri_match_fields[] = {
    MATCH("exact", KOBJ_MATCH_EXACT),
    MATCH("prefix", KOBJ_MATCH_PREFIX),
    MATCH("regex", KOBJ_MATCH_REGEX, .flags = SCHEMA_NONEMPTY, .check = kobj_check_regex),
};
const struct schema_msg kobj_uri_match_msg = {
    SCHEMA_MSG(struct kobj_string_match, uri_match_fields),
    SCHEMA_POS(struct kobj_string_match, pos),
};
static const struct schema_field string_match_fields[] = {
    MATCH("exact", KOBJ_MATCH_EXACT),
    MATCH("prefix", KOBJ_MATCH_PREFIX, .flags = SCHEMA_NONEMPTY),
    MATCH("regex", KOBJ_MATCH_REGEX, .flags = SCHEMA_NONEMPTY, .check = kobj_check_regex),
};
const struct schema_msg kobj_string_match_msg = {
    SCHEMA_MSG(struct kobj_string_match, string_match_fields),
    SCHEMA_POS(struct kobj_string_match, pos),
};

// `*` is no regular expression: it stands for any value.
static const char *check_named_regex(const char *text) {
    return strcmp(text, "*") == 0 ? NULL : kobj_check_regex(text);
}
#define NAMED(field, value, ...)                                                                   \
    F_STR(struct kobj_named_match, match.text, field, .oneof = 1,                                  \
          F_TAG(struct kobj_named_match, match.kind, value), __VA_ARGS__)
static const struct schema_field named_match_fields[] = {
    F_STR(struct kobj_named_match, name, "<key>"),
    NAMED("exact", KOBJ_MATCH_EXACT),
    NAMED("prefix", KOBJ_MATCH_PREFIX, .flags = SCHEMA_NONEMPTY),
    NAMED("regex", KOBJ_MATCH_REGEX, .flags = SCHEMA_NONEMPTY, .check = check_named_regex),
};
const struct schema_msg kobj_named_match_msg = {
    SCHEMA_MSG(struct kobj_named_match, named_match_fields),
    SCHEMA_POS(struct kobj_named_match, match.pos),
};

void kobj_named_match_finish(const struct kobj_named_match *matches, uint32_t n) {
    struct kobj_named_match *items = (struct kobj_named_match *)matches; // ours still
    for (uint32_t i = 0; i < n; i++) {
        if (items[i].match.kind == KOBJ_MATCH_REGEX && strcmp(items[i].match.text, "*") == 0) {
            items[i].match = (struct kobj_string_match){
                .kind = KOBJ_MATCH_PRESENT, .text = "", .pos = items[i].match.pos};
        }
    }
}

// Headers

// token of RFC 9110, 5.6.2
bool kobj_is_token(const char *text) {
    for (const char *c = text; *c != '\0'; c++) {
        if (!isalnum((unsigned char)*c) && strchr("!#$%&'*+-.^_`|~", *c) == NULL) {
            return false;
        }
    }
    return text[0] != '\0';
}

const char *kobj_check_header_name(const char *text) {
    return kobj_is_token(text) ? NULL : "is not the name of a header";
}

const char *kobj_check_matched_header(const char *text) {
    static const char *const pseudo[] = {":method", ":scheme", ":authority", ":path", ":status"};

    for (size_t i = 0; i < ARRAY_LEN(pseudo); i++) {
        if (strcmp(text, pseudo[i]) == 0) {
            return NULL;
        }
    }
    if (strncmp(text, "@request.auth.claims", 20) == 0) {
        return "is for gateways only: a waypoint does not route by the claims of a token";
    }
    return kobj_check_header_name(text);
}

static bool is_authority(const char *name) {
    return strcasecmp(name, "host") == 0 || strcasecmp(name, ":authority") == 0;
}

static const char *check_request_name(const char *text) {
    if (is_authority(text)) {
        return NULL;
    }
    return text[0] == ':' ? "cannot be changed: of the pseudo headers only :authority can"
                          : kobj_check_header_name(text);
}

static const char *check_other_name(const char *text) {
    if (text[0] == ':' || strcasecmp(text, "host") == 0) {
        return "cannot be changed or removed here";
    }
    return kobj_check_header_name(text);
}

static const char *check_plain_value(const char *text) {
    for (const unsigned char *c = (const unsigned char *)text; *c != '\0'; c++) {
        if ((*c < ' ' && *c != '\t') || *c == 0x7f) {
            return "holds a control character";
        }
    }
    return NULL;
}

// `%` begins and ends a variable, `%%` is the character.
static const char *check_value(const char *text) {
    for (const char *c = text; *c != '\0'; c++) {
        if (*c != '%') {
            continue;
        }
        const char *end = strchr(c + 1, '%');
        if (end == NULL) {
            return "has a `%` that ends no %VARIABLE%; write `%%` for the character itself";
        }
        c = end;
    }
    return check_plain_value(text);
}

#define OPS struct kobj_header_ops
static const struct schema_field request_fields[] = {
    F_MAP(OPS, set, "set", .check = check_value, .check_key = check_request_name),
    F_MAP(OPS, add, "add", .check = check_value, .check_key = check_request_name),
    F_STRS(OPS, remove, "remove", .check = check_other_name),
};
static const struct schema_field response_fields[] = {
    F_MAP(OPS, set, "set", .check = check_value, .check_key = check_other_name),
    F_MAP(OPS, add, "add", .check = check_value, .check_key = check_other_name),
    F_STRS(OPS, remove, "remove", .check = check_other_name),
};
static const struct schema_msg request_msg = {SCHEMA_MSG(OPS, request_fields)};
static const struct schema_msg response_msg = {SCHEMA_MSG(OPS, response_fields)};
static const struct schema_field headers_fields[] = {
    F_MSG(struct kobj_headers, request, "request", &request_msg),
    F_MSG(struct kobj_headers, response, "response", &response_msg),
};
static const struct schema_note headers_notes[] = {
    {"set", "unknown field here: it belongs into `request` or `response`"},
    {"add", "unknown field here: it belongs into `request` or `response`"},
    {"remove", "unknown field here: it belongs into `request` or `response`"},
    {NULL, NULL},
};
const struct schema_msg kobj_headers_msg = {
    SCHEMA_MSG(struct kobj_headers, headers_fields),
    .notes = headers_notes,
};

// The Gateway API writes them as lists, and has no variables.
static const struct schema_field header_fields[] = {
    F_STR(struct kobj_kv, key, "name", .flags = SCHEMA_REQUIRED, .check = kobj_check_header_name),
    F_STR(struct kobj_kv, value, "value", .check = check_plain_value),
};
static const struct schema_msg header_msg = {SCHEMA_MSG(struct kobj_kv, header_fields)};
static const struct schema_field modifier_fields[] = {
    {.name = "set",
     .type = SCHEMA_LIST,
     .off = offsetof(OPS, set.items),
     .off_n = offsetof(OPS, set.n),
     .max = 16,
     .msg = &header_msg},
    {.name = "add",
     .type = SCHEMA_LIST,
     .off = offsetof(OPS, add.items),
     .off_n = offsetof(OPS, add.n),
     .max = 16,
     .msg = &header_msg},
    F_STRS(OPS, remove, "remove", .check = check_other_name),
};
const struct schema_msg kobj_header_modifier_msg = {SCHEMA_MSG(OPS, modifier_fields)};

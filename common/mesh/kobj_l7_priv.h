// SPDX-License-Identifier: Apache-2.0
//
// Shared by the tables of the L7 kinds.
#pragma once

#include "common/mesh/kobj_l7.h"
#include "common/mesh/kobj_priv.h"

extern const struct schema_msg kobj_uri_match_msg, kobj_string_match_msg, kobj_named_match_msg;
extern const struct schema_msg kobj_headers_msg; // request and response, as maps
extern const struct schema_msg kobj_header_modifier_msg; // of the Gateway API
extern const struct schema_msg kobj_traffic_policy_msg;

// Where to point: item i of a list, or the nearest that is there; a field, or the node.
const struct cfg_node *kobj_item(const struct cfg_node *node, const char *list, uint32_t i);
const struct cfg_node *kobj_at(const struct cfg_node *node, const char *field);
bool kobj_has(const struct cfg_node *node, const char *field); // and it is not null

// For tables: what is wrong, or NULL.
const char *kobj_check_regex(const char *text);
const char *kobj_check_host(const char *text); // name, wildcard, address
const char *kobj_check_destination(const char *text);
const char *kobj_check_gateway_name(const char *text);
const char *kobj_check_export(const char *text);
const char *kobj_check_header_name(const char *text);
const char *kobj_check_matched_header(const char *text);
bool kobj_is_token(const char *text);
void kobj_check_exports(struct schema_ctx *ctx, const struct cfg_node *node,
                        const char *const *items, uint32_t n);

// The regex `*` becomes KOBJ_MATCH_PRESENT.
void kobj_named_match_finish(const struct kobj_named_match *matches, uint32_t n);

// SPDX-License-Identifier: Apache-2.0
//
// The insides of a route table, and how it is built.
#pragma once

#include "common/base/arena.h"
#include "common/l7/l7_routes.h"

enum { L7_NAMES_CACHED = 32 }; // header names whose values are looked up once for a request

enum l7_cond_match { L7_COND_PRESENT, L7_COND_EXACT, L7_COND_PREFIX, L7_COND_REGEX };
struct l7_cond {
    uint8_t miss; // enum l7_miss: what it is about
    uint8_t match; // enum l7_cond_match
    uint16_t name_id; // HEADER, WITHOUT_HEADER: index of the name; L7_NAMES_CACHED: not cached
    struct slice name; // HEADER, WITHOUT_HEADER (lower case), QUERY
    struct slice text;
    const struct l7_regex *regex;
};

// What istiod would decide when it configures a client: which clients have the rule at all.
struct l7_selector {
    uint16_t port; // 0 = any
    const char *const *gateways; // any of them; when there are any, the rest does not count
    const struct label *labels; // all of them
    const char *ns; // "" = any
    uint32_t n_gateways, n_labels;
};

enum l7_path_kind {
    L7_PATH_ANY,
    L7_PATH_IS, // exact
    L7_PATH_STARTS, // prefix of the text
    L7_PATH_UNDER, // prefix of whole segments; the text has no '/' at its end
    L7_PATH_MATCHES, // regex
};

struct l7_entry { // one match of one rule
    const struct l7_route *route;
    struct kobj_pos pos;
    const struct l7_selector *selector; // NULL: for all
    uint8_t path_kind;
    bool ignores_case; // IS, STARTS
    struct slice path; // text of the condition
    const struct l7_regex *regex;
    const struct l7_cond *conds;
    uint32_t n_conds;
};

struct l7_flow_entry { // one match of one `tls` or `tcp` rule
    const struct l7_route *route;
    struct kobj_pos pos;
    const struct l7_selector *selector; // NULL: for all
    bool is_tls, has_to, has_from;
    const struct slice *names; // of TLS
    const struct cidr *to, *from; // the address that was called, the client's
    uint32_t n_names, n_to, n_from;
};

// All exact and prefix texts in order, each linked to the longest other one that it begins with.
// The text that a path begins with, or is, is the last one in order that is not behind the path, or
// one of those that this one begins with.
struct l7_path_node {
    struct slice key;
    uint32_t parent; // L7_NO_NODE: none
    uint32_t first, n_exact, n_prefix; // in `lists`: entries with this text, by index
};
enum { L7_NO_NODE = UINT32_MAX };
struct l7_path_index {
    struct l7_path_node *nodes;
    uint32_t *lists;
    uint32_t n_nodes;
    bool ignores_case;
};

struct l7_routes {
    struct leaf_ext ext;
    struct arena arena;
    struct l7_entry *entries;
    size_t n_entries;
    struct l7_path_index paths, nocase_paths;
    uint32_t *any, *expressions; // entries without a path, and with an expression
    size_t n_any, n_expressions;
    struct l7_regex_set *set; // of `expressions`; NULL: none
    const struct l7_selector *const *selectors; // all that are used; has_open: not by all entries
    size_t n_selectors;
    bool has_open;
    struct l7_regex **regexes; // owned
    size_t n_regexes;
    const struct l7_route *fallback; // where no rule is meant; NULL: l7_routes_default
    struct l7_flow_entry *flows; // in order
    size_t n_flows;
    bool has_names; // some are `tls` rules
};

bool l7_selector_takes(const struct l7_selector *selector, const struct l7_request *request);

// l7_routes_index.c
void l7_routes_index(struct l7_routes *routes);
uint32_t l7_path_index_find(const struct l7_path_index *index, struct slice path); // or L7_NO_NODE

// l7_routes_build.c: a table in the making.
struct l7_build {
    struct l7_routes *routes;
    const struct builder_l7_input *in;
    const struct kobj *obj; // whose rule it is: for problems
    const struct l7_source *source;
    struct slice *names; // of headers, by name_id
    size_t n_names, cap_entries, cap_regexes;
};
void *l7_build_alloc(struct l7_build *build, size_t n, size_t size); // zeroed, never NULL
const char *l7_build_text(struct l7_build *build, const char *text);
struct slice l7_build_slice(struct l7_build *build, struct slice text);
struct slice l7_build_lower(struct l7_build *build, const char *text);
// NULL: not an expression (reported).
const struct l7_regex *l7_build_regex(struct l7_build *build, const char *pattern);
// A host as in a VirtualService: one without dots is in the object's namespace.
const char *l7_build_host(struct l7_build *build, const char *host);
struct l7_headers l7_build_headers(struct l7_build *build, const struct kobj_headers *headers,
                                   bool has_variables);
// Adds the operations of `more` behind those of `ops`.
struct l7_header_ops l7_build_join(struct l7_build *build, struct l7_header_ops ops,
                                   struct l7_header_ops more);
const struct l7_cors *l7_build_cors(struct l7_build *build, const struct kobj_cors *cors,
                                    bool is_gateway_api);
// False: an expression is none; the entry must not be added.
bool l7_build_cond(struct l7_build *build, struct l7_cond *cond, enum l7_miss miss,
                   const char *name, const struct kobj_string_match *match);
void l7_build_path_regex(struct l7_build *build, struct l7_entry *entry, const char *pattern);
void l7_build_add(struct l7_build *build, const struct l7_entry *entry);
struct l7_retry_policy l7_build_retry(struct l7_build *build, const char *retry_on,
                                      int64_t backoff_ms);

// Of a rule; NULL: it says nothing, MeshConfig's default or ours.
struct l7_retry_policy l7_build_retries(struct l7_build *build,
                                        const struct kobj_vs_retry *retries);

// l7_routes_vs.c, l7_routes_gw.c: add the entries of the objects of build->in.
void l7_build_virtual_services(struct l7_build *build);
void l7_build_gateway_routes(struct l7_build *build);

struct l7_cluster l7_build_destination(struct l7_build *build, const struct kobj_vs_dest *dest);
// NULL: the match is for all clients.
const struct l7_selector *l7_build_selector(struct l7_build *build,
                                            const struct kobj_vs_match *match);

// l7_routes_flow.c: adds the rules for connections of one VirtualService.
void l7_build_flows(struct l7_build *build, const struct kobj_vs_l4 *rules, uint32_t n_rules,
                    bool is_tls);

// l7_routes_delegate.c: the rule `child` of a delegate inside the rule `root` (of an object in
// root_ns), in build's arena. False: it cannot match inside of it.
bool l7_build_merge(struct l7_build *build, const char *root_ns, const struct kobj_vs_http *root,
                    const struct kobj_vs_http *child, struct kobj_vs_http *ret_merged);

// SPDX-License-Identifier: Apache-2.0
//
// Matching. The order of the rules decides, but they are not asked in order: each source of
// candidates (texts that the path begins with, rules without a path, expressions) is asked in its
// own order for its first match that is before the best one so far.
#include "common/l7/l7_fields.h"
#include "common/l7/l7_routes_priv.h"

#include <stdlib.h>

#include "common/l7/l7_retry.h"

enum { VALUE_MAX = 64 << 10 }; // header values joined

void l7_request_init(struct l7_request *request, const struct http_head *head, uint16_t port,
                     const struct workload *source) {
    *request = (struct l7_request){.head = head, .port = port, .source = source};
    struct slice target = head->path, fragment;
    slice_split(target, '#', &target, &fragment);
    request->path = target;
    slice_split(target, '?', &request->path, &request->query);
    request->scheme = head->scheme;
    const struct http_field *proto =
        l7_fields_find(head->fields, head->n_fields, SLICE_LIT("x-forwarded-proto"));
    if (proto != NULL) {
        request->scheme = proto->value;
    } else if (head->scheme.len == 0) {
        request->scheme = SLICE_LIT("http");
    }
}

bool l7_request_query(const struct l7_request *request, struct slice name,
                      struct slice *ret_value) {
    struct slice rest = request->query;
    while (rest.len > 0) {
        struct slice pair = rest;
        if (!slice_split(rest, '&', &pair, &rest)) {
            rest = slice_make(NULL, 0);
        }
        struct slice key = pair, value = slice_make("", 0);
        slice_split(pair, '=', &key, &value);
        if (slice_eq(key, name)) {
            *ret_value = value;
            return true;
        }
    }
    return false;
}

const char *l7_miss_text(enum l7_miss miss) {
    static const char *const texts[] = {
#define L7_MISS(name, text) text,
#include "common/l7/l7_miss.def"
#undef L7_MISS
    };
    return (size_t)miss < ARRAY_LEN(texts) ? texts[miss] : "?";
}

const struct l7_route *l7_routes_fallback(const struct l7_routes *routes) {
    return routes != NULL && routes->fallback != NULL ? routes->fallback : l7_routes_default();
}

const struct l7_route *l7_routes_default(void) {
    static const struct l7_cluster self = {.host = "",
                                           .subset = "",
                                           .no_cluster_status = 503,
                                           .weight = 1,
                                           .headers = {.authority = ""}};
    static const struct l7_route route = {
        .name = "default",
        .action = L7_FORWARD,
        .is_default = true,
        .clusters = &self,
        .n_clusters = 1,
        .weight_sum = 1,
        .retry = {.on = L7_RETRY_ON_DEFAULT,
                  .attempts = L7_RETRY_ATTEMPTS,
                  .base_ms = L7_RETRY_BASE_MS,
                  .max_ms = L7_RETRY_BASE_MS * L7_RETRY_MAX_FACTOR,
                  .avoids_tried_hosts = true},
        .headers = {.authority = ""},
    };
    return &route;
}

const struct l7_cluster *l7_route_cluster(const struct l7_route *route, struct rand *rand) {
    if (route->n_clusters == 1) {
        return &route->clusters[0];
    }
    uint64_t at = rand_below(rand, route->weight_sum);
    for (uint32_t i = 0; i + 1 < route->n_clusters; i++) {
        if (at < route->clusters[i].weight) {
            return &route->clusters[i];
        }
        at -= route->clusters[i].weight;
    }
    return &route->clusters[route->n_clusters - 1];
}

uint16_t l7_cluster_port(const struct l7_cluster *cluster, const struct service *service,
                         uint16_t called_port) {
    if (cluster->port != 0) {
        return cluster->port;
    }
    return service->n_ports == 1 ? service->ports[0].port : called_port;
}

// Asking one rule

struct asking { // one request
    const struct l7_request *request;
    struct buf scratch;
    uint8_t has_value[L7_NAMES_CACHED]; // 0: not looked up yet, 1: not there, 2: is there
    struct slice values[L7_NAMES_CACHED];
    // Of the condition that failed, for the trace.
    const struct l7_cond *failed;
    const struct label *failed_label;
};

static bool has_label(const struct workload *workload, const struct label *label) {
    for (size_t i = 0; i < workload->common->n_labels; i++) {
        if (strcmp(workload->common->labels[i].key, label->key) == 0) {
            return strcmp(workload->common->labels[i].value, label->value) == 0;
        }
    }
    return false;
}

static enum l7_miss ask_selector(const struct l7_selector *selector,
                                 const struct l7_request *request, const struct label **ret_label) {
    if (selector->port != 0 && selector->port != request->port) {
        return L7_MISS_PORT;
    }
    const char *gateway = request->gateway != NULL ? request->gateway : "mesh";
    for (size_t i = 0; i < selector->n_gateways; i++) {
        if (strcmp(selector->gateways[i], gateway) == 0) {
            return L7_MISS_NONE;
        }
    }
    if (selector->n_gateways > 0) {
        return L7_MISS_GATEWAY;
    }
    for (size_t i = 0; i < selector->n_labels; i++) {
        if (request->source == NULL || !has_label(request->source, &selector->labels[i])) {
            *ret_label = &selector->labels[i];
            return L7_MISS_SOURCE_LABELS;
        }
    }
    if (selector->ns[0] != '\0' &&
        (request->source == NULL || strcmp(request->source->ns, selector->ns) != 0)) {
        return L7_MISS_SOURCE_NAMESPACE;
    }
    return L7_MISS_NONE;
}

bool l7_selector_takes(const struct l7_selector *selector, const struct l7_request *request) {
    const struct label *label = NULL;
    return ask_selector(selector, request, &label) == L7_MISS_NONE;
}

static bool cached_value(struct asking *asking, const struct l7_cond *cond,
                         struct slice *ret_value) {
    if (cond->name_id >= L7_NAMES_CACHED) {
        return l7_fields_value(asking->request->head, cond->name, &asking->scratch, ret_value);
    }
    uint8_t *state = &asking->has_value[cond->name_id];
    struct slice *value = &asking->values[cond->name_id];
    if (*state == 0) {
        *state =
            l7_fields_value(asking->request->head, cond->name, &asking->scratch, value) ? 2 : 1;
        if (*state == 2 && value->ptr == asking->scratch.ptr) {
            *state = 0; // lives in the scratch: not beyond the next look-up
            *ret_value = *value;
            return true;
        }
    }
    if (*state == 2) {
        *ret_value = *value;
    }
    return *state == 2;
}

static bool find_value(struct asking *asking, const struct l7_cond *cond, struct slice *ret_value) {
    const struct l7_request *request = asking->request;
    switch (cond->miss) {
    case L7_MISS_METHOD:
        *ret_value = request->head->method;
        return true;
    case L7_MISS_SCHEME:
        *ret_value = request->scheme;
        return true;
    case L7_MISS_AUTHORITY:
        *ret_value = request->head->authority;
        return ret_value->len > 0;
    case L7_MISS_QUERY:
        return l7_request_query(request, cond->name, ret_value);
    default:
        return cached_value(asking, cond, ret_value);
    }
}

static bool value_matches(const struct l7_cond *cond, struct slice value) {
    switch (cond->match) {
    case L7_COND_EXACT:
        return slice_eq(value, cond->text);
    case L7_COND_PREFIX:
        return slice_has_prefix(value, cond->text);
    case L7_COND_REGEX:
        return l7_regex_matches(cond->regex, value);
    default:
        return true;
    }
}

static bool cond_matches(struct asking *asking, const struct l7_cond *cond) {
    struct slice value = slice_make("", 0);
    bool is_there = find_value(asking, cond, &value);
    if (cond->miss == L7_MISS_WITHOUT_HEADER) {
        // A missing header is an empty one, but for the condition that there is none.
        return cond->match == L7_COND_PRESENT ? !is_there : !value_matches(cond, value);
    }
    return is_there && value_matches(cond, value);
}

// All but the path.
static enum l7_miss ask(struct asking *asking, const struct l7_entry *entry) {
    if (entry->selector != NULL) {
        enum l7_miss miss = ask_selector(entry->selector, asking->request, &asking->failed_label);
        if (miss != L7_MISS_NONE) {
            return miss;
        }
    }
    for (uint32_t i = 0; i < entry->n_conds; i++) {
        if (!cond_matches(asking, &entry->conds[i])) {
            asking->failed = &entry->conds[i];
            return (enum l7_miss)entry->conds[i].miss;
        }
    }
    return L7_MISS_NONE;
}

static bool ends_segment(struct slice path, size_t len) {
    return path.len == len || path.ptr[len] == '/';
}

static bool path_matches(const struct l7_entry *entry, struct slice path) {
    struct slice head = slice_head(path, entry->path.len);
    bool has_prefix =
        entry->ignores_case ? slice_eq_nocase(head, entry->path) : slice_eq(head, entry->path);
    switch (entry->path_kind) {
    case L7_PATH_IS:
        return has_prefix && path.len == entry->path.len;
    case L7_PATH_STARTS:
        return has_prefix;
    case L7_PATH_UNDER:
        return has_prefix && ends_segment(path, entry->path.len);
    case L7_PATH_MATCHES:
        return l7_regex_matches(entry->regex, path);
    default:
        return true;
    }
}

// Asking many

// The first of `list` (indices in ascending order) that matches and is before `best`; else best.
static size_t first_of(const struct l7_routes *routes, struct asking *asking, const uint32_t *list,
                       size_t n, size_t best) {
    for (size_t i = 0; i < n && list[i] < best; i++) {
        const struct l7_entry *entry = &routes->entries[list[i]];
        struct slice path = asking->request->path;
        if (entry->path_kind == L7_PATH_UNDER && !ends_segment(path, entry->path.len)) {
            continue;
        }
        if (ask(asking, entry) == L7_MISS_NONE) {
            return list[i];
        }
    }
    return best;
}

static size_t first_by_path(const struct l7_routes *routes, const struct l7_path_index *index,
                            struct asking *asking, size_t best) {
    if (index->n_nodes == 0) {
        return best;
    }
    size_t path_len = asking->request->path.len;
    uint32_t at = l7_path_index_find(index, asking->request->path);
    while (at != L7_NO_NODE) {
        const struct l7_path_node *node = &index->nodes[at];
        const uint32_t *list = &index->lists[node->first];
        if (node->key.len == path_len) {
            best = first_of(routes, asking, list, node->n_exact, best);
        }
        best = first_of(routes, asking, list + node->n_exact, node->n_prefix, best);
        at = node->parent;
    }
    return best;
}

static size_t first_by_expression(const struct l7_routes *routes, struct asking *asking,
                                  size_t best) {
    struct slice path = asking->request->path;
    if (routes->set == NULL) {
        for (size_t i = 0; i < routes->n_expressions && routes->expressions[i] < best; i++) {
            const struct l7_entry *entry = &routes->entries[routes->expressions[i]];
            if (ask(asking, entry) == L7_MISS_NONE && l7_regex_matches(entry->regex, path)) {
                return routes->expressions[i];
            }
        }
        return best;
    }
    struct l7_regex_iter iter = {0};
    size_t i;
    while (iter.next < routes->n_expressions && routes->expressions[iter.next] < best &&
           l7_regex_set_next(routes->set, path, &iter, &i)) {
        size_t index = routes->expressions[i];
        if (index >= best) {
            break;
        }
        if (ask(asking, &routes->entries[index]) == L7_MISS_NONE) {
            return index;
        }
    }
    return best;
}

static enum l7_trace_how how_of_path(const struct l7_entry *entry) {
    switch (entry->path_kind) {
    case L7_PATH_IS:
        return L7_HOW_EXACT;
    case L7_PATH_UNDER:
        return L7_HOW_SEGMENTS;
    case L7_PATH_MATCHES:
        return L7_HOW_REGEX;
    default:
        return L7_HOW_PREFIX;
    }
}

static enum l7_trace_how how_of_cond(const struct l7_cond *cond) {
    static const uint8_t how[] = {[L7_COND_PRESENT] = L7_HOW_PRESENT,
                                  [L7_COND_EXACT] = L7_HOW_EXACT,
                                  [L7_COND_PREFIX] = L7_HOW_PREFIX,
                                  [L7_COND_REGEX] = L7_HOW_REGEX};
    return (enum l7_trace_how)how[cond->match];
}

// What decided, for the trace.
static void note_cause(const struct asking *asking, const struct l7_entry *entry,
                       struct l7_trace_step *step) {
    if (step->miss == L7_MISS_PATH) {
        step->how = (uint8_t)how_of_path(entry);
        step->want = (const char *)entry->path.ptr;
    } else if (step->miss == L7_MISS_PORT) {
        step->port = entry->selector->port;
    } else if (step->miss == L7_MISS_SOURCE_NAMESPACE) {
        step->want = entry->selector->ns;
    } else if (asking->failed != NULL) {
        step->how = (uint8_t)how_of_cond(asking->failed);
        step->name = (const char *)asking->failed->name.ptr;
        step->want = (const char *)asking->failed->text.ptr;
    } else if (asking->failed_label != NULL) {
        step->name = asking->failed_label->key;
        step->want = asking->failed_label->value;
    }
}

// One rule after the other, noting why it is passed over. Selectors come first, as in the trace of
// a mesh whose clients do not have the rule at all.
static size_t first_traced(const struct l7_routes *routes, struct asking *asking,
                           struct l7_trace *trace) {
    for (size_t i = 0; i < routes->n_entries; i++) {
        const struct l7_entry *entry = &routes->entries[i];
        struct l7_trace_step step = {
            .route = entry->route, .pos = entry->pos, .name = "", .want = ""};
        asking->failed = NULL;
        asking->failed_label = NULL;
        step.miss = (uint8_t)ask(asking, entry);
        bool is_selected = step.miss == L7_MISS_NONE || step.miss >= L7_MISS_PATH;
        if (is_selected && !path_matches(entry, asking->request->path)) {
            step.miss = L7_MISS_PATH;
        }
        note_cause(asking, entry, &step);
        if (trace->n < trace->cap) {
            trace->steps[trace->n] = step;
        }
        trace->n++;
        if (step.miss == L7_MISS_NONE) {
            return i;
        }
    }
    return routes->n_entries;
}

// Some rule is meant for this client and port, whether it matches or not.
static bool is_any_selected(const struct l7_routes *routes, const struct l7_request *request) {
    const struct label *label;
    bool is_any = routes->has_open;
    for (size_t i = 0; i < routes->n_selectors && !is_any; i++) {
        is_any = ask_selector(routes->selectors[i], request, &label) == L7_MISS_NONE;
    }
    return is_any;
}

static uint32_t match_len(const struct l7_entry *entry, struct slice path) {
    switch (entry->path_kind) {
    case L7_PATH_STARTS:
    case L7_PATH_UNDER:
        return (uint32_t)entry->path.len;
    case L7_PATH_ANY:
        return path.len > 0; // as the prefix '/'
    default:
        return (uint32_t)path.len;
    }
}

void l7_routes_match(const struct l7_routes *routes, const struct l7_request *request,
                     struct l7_trace *trace, struct l7_match *ret_match) {
    *ret_match = (struct l7_match){.route = l7_routes_fallback(routes)};
    if (routes == NULL || routes->n_entries == 0) {
        return;
    }
    struct asking asking;
    asking.request = request;
    memset(asking.has_value, 0, sizeof(asking.has_value));
    buf_init(&asking.scratch, VALUE_MAX);
    size_t best = routes->n_entries;
    if (trace != NULL) {
        best = first_traced(routes, &asking, trace);
    } else {
        best = first_by_path(routes, &routes->paths, &asking, best);
        best = first_by_path(routes, &routes->nocase_paths, &asking, best);
        best = first_of(routes, &asking, routes->any, routes->n_any, best);
        best = first_by_expression(routes, &asking, best);
    }
    buf_fini(&asking.scratch);
    if (best < routes->n_entries) {
        ret_match->route = routes->entries[best].route;
        ret_match->match_len = match_len(&routes->entries[best], request->path);
    } else if (is_any_selected(routes, request)) {
        ret_match->route = NULL;
    }
}

size_t l7_routes_count(const struct l7_routes *routes) {
    return routes != NULL ? routes->n_entries : 0;
}

const struct l7_route *l7_routes_at(const struct l7_routes *routes, size_t index) {
    return index < l7_routes_count(routes) ? routes->entries[index].route : NULL;
}

// SPDX-License-Identifier: Apache-2.0
//
// What both APIs need to become a table, and the table itself.
#include <stdlib.h>

#include "common/l7/l7_retry.h"
#include "common/l7/l7_routes_priv.h"

void *l7_build_alloc(struct l7_build *build, size_t n, size_t size) {
    void *memory = arena_array(&build->routes->arena, n, size);
    CHECK(memory != NULL); // the arena has no limit
    return memory;
}

const char *l7_build_text(struct l7_build *build, const char *text) {
    if (text[0] == '\0') {
        return "";
    }
    char *copy = arena_strdup(&build->routes->arena, slice_str(text));
    CHECK(copy != NULL);
    return copy;
}

struct slice l7_build_slice(struct l7_build *build, struct slice text) {
    struct slice copy;
    CHECK(arena_copy(&build->routes->arena, text, &copy));
    return copy;
}

struct slice l7_build_lower(struct l7_build *build, const char *text) {
    struct slice copy = l7_build_slice(build, slice_str(text));
    uint8_t *bytes = (uint8_t *)(uintptr_t)copy.ptr; // ours, fresh
    for (size_t i = 0; i < copy.len; i++) {
        bytes[i] = bytes[i] >= 'A' && bytes[i] <= 'Z' ? bytes[i] | 0x20 : bytes[i];
    }
    return copy;
}

const struct l7_regex *l7_build_regex(struct l7_build *build, const char *pattern) {
    char error[L7_REGEX_ERROR_MAX];
    struct l7_routes *routes = build->routes;
    struct l7_regex *regex = l7_regex_new(slice_str(pattern), error);
    if (regex == NULL) {
        build->in->problem(build->in, build->obj,
                           "regular expression \"%s\": %s; its rule is left "
                           "out",
                           pattern, error);
        return NULL;
    }
    if (routes->n_regexes == build->cap_regexes) {
        build->cap_regexes = build->cap_regexes * 2 + 8;
        routes->regexes = xrealloc(routes->regexes, build->cap_regexes * sizeof(struct l7_regex *));
    }
    routes->regexes[routes->n_regexes++] = regex;
    return regex;
}

const char *l7_build_host(struct l7_build *build, const char *host) {
    if (strchr(host, '.') != NULL || strchr(host, '*') != NULL) {
        return l7_build_text(build, host);
    }
    char *full =
        xasprintf("%s.%s.svc.%s", host, build->source->ns, build->in->mesh->cluster_domain);
    const char *copy = l7_build_text(build, full);
    free(full);
    return copy;
}

// Header operations

static bool is_authority(const char *name) {
    return slice_eq_nocase(slice_str(name), SLICE_LIT("host")) ||
           slice_eq_nocase(slice_str(name), SLICE_LIT(":authority"));
}

static bool is_plain(const char *name) { // a field, not control data
    return name[0] != ':' && !is_authority(name);
}

static const struct l7_template *value_template(struct l7_build *build, const char *value,
                                                bool has_variables) {
    struct slice text = l7_build_slice(build, slice_str(value));
    const char *error;
    const struct l7_template *tmpl = NULL;
    if (has_variables) {
        tmpl = l7_template_compile(&build->routes->arena, text, &error);
        if (tmpl == NULL) {
            build->in->problem(build->in, build->obj,
                               "header value \"%s\" has %s; it is taken as it is", value, error);
        }
    }
    return tmpl != NULL ? tmpl : l7_template_literal(&build->routes->arena, text);
}

static void add_values(struct l7_build *build, struct l7_header_op *items, uint32_t *n,
                       const struct kobj_map *map, enum l7_header_action action,
                       bool has_variables) {
    for (uint32_t i = 0; i < map->n; i++) {
        const struct kobj_kv *kv = &map->items[i];
        // Envoy leaves out what is empty, so that a `set` of it changes nothing.
        if (is_plain(kv->key) && kv->value[0] != '\0') {
            items[(*n)++] =
                (struct l7_header_op){.action = (uint8_t)action,
                                      .name = l7_build_lower(build, kv->key),
                                      .value = value_template(build, kv->value, has_variables)};
        }
    }
}

static struct l7_header_ops header_ops(struct l7_build *build, const struct kobj_header_ops *ops,
                                       bool has_variables) {
    size_t max = (size_t)ops->n_remove + ops->set.n + ops->add.n;
    struct l7_header_op *items = max > 0 ? l7_build_alloc(build, max, sizeof(*items)) : NULL;
    uint32_t n = 0;
    for (uint32_t i = 0; i < ops->n_remove; i++) {
        if (is_plain(ops->remove[i])) {
            items[n++] = (struct l7_header_op){.action = L7_HEADER_REMOVE,
                                               .name = l7_build_lower(build, ops->remove[i])};
        }
    }
    add_values(build, items, &n, &ops->set, L7_HEADER_SET, has_variables);
    add_values(build, items, &n, &ops->add, L7_HEADER_ADD, has_variables);
    return (struct l7_header_ops){.items = items, .n = n};
}

static const char *authority_of(struct l7_build *build, const struct kobj_header_ops *ops) {
    const struct kobj_map *maps[] = {&ops->set, &ops->add};
    for (size_t m = 0; m < ARRAY_LEN(maps); m++) {
        for (uint32_t i = 0; i < maps[m]->n; i++) {
            if (is_authority(maps[m]->items[i].key)) {
                return l7_build_text(build, maps[m]->items[i].value);
            }
        }
    }
    return "";
}

struct l7_headers l7_build_headers(struct l7_build *build, const struct kobj_headers *headers,
                                   bool has_variables) {
    return (struct l7_headers){.request = header_ops(build, &headers->request, has_variables),
                               .response = header_ops(build, &headers->response, has_variables),
                               .authority = authority_of(build, &headers->request)};
}

struct l7_header_ops l7_build_join(struct l7_build *build, struct l7_header_ops ops,
                                   struct l7_header_ops more) {
    if (ops.n == 0 || more.n == 0) {
        return ops.n == 0 ? more : ops;
    }
    struct l7_header_op *items = l7_build_alloc(build, (size_t)ops.n + more.n, sizeof(*items));
    memcpy(items, ops.items, ops.n * sizeof(*items));
    memcpy(items + ops.n, more.items, more.n * sizeof(*items));
    return (struct l7_header_ops){.items = items, .n = ops.n + more.n};
}

// CORS

static struct slice joined(struct l7_build *build, const char *const *items, uint32_t n) {
    struct buf text;
    buf_init(&text, SIZE_MAX);
    for (uint32_t i = 0; i < n; i++) {
        buf_append_str(&text, i > 0 ? "," : "");
        buf_append_str(&text, items[i]);
    }
    struct slice copy = l7_build_slice(build, buf_slice(&text));
    buf_fini(&text);
    return copy;
}

// An origin of the Gateway API, where '*' stands for any part.
static bool origin_pattern(struct l7_build *build, const char *text,
                           struct l7_cors_origin *origin) {
    struct slice all = slice_str(text);
    ptrdiff_t star = slice_find(all, '*');
    if (star < 0 || (size_t)star + 1 == all.len) {
        origin->kind = star < 0 ? L7_CORS_EXACT : L7_CORS_PREFIX;
        origin->text = l7_build_slice(build, slice_head(all, star < 0 ? all.len : (size_t)star));
        return true;
    }
    struct buf pattern;
    buf_init(&pattern, SIZE_MAX);
    for (size_t i = 0; i < all.len; i++) {
        uint8_t c = all.ptr[i];
        bool is_plain_char =
            (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c >= 0x80;
        if (c == '*') {
            buf_append_str(&pattern, ".*");
        } else {
            buf_append_str(&pattern, is_plain_char ? "" : "\\");
            buf_append_byte(&pattern, c);
        }
    }
    origin->kind = L7_CORS_REGEX;
    origin->regex = l7_build_regex(build, buf_cstr(&pattern));
    buf_fini(&pattern);
    return origin->regex != NULL;
}

static bool origin_match(struct l7_build *build, const struct kobj_string_match *match,
                         struct l7_cors_origin *origin) {
    origin->text = l7_build_slice(build, slice_str(match->text));
    switch (match->kind) {
    case KOBJ_MATCH_EXACT:
        // Envoy asks every matcher for "*" first.
        origin->kind = strcmp(match->text, "*") == 0 ? L7_CORS_ANY : L7_CORS_EXACT;
        return true;
    case KOBJ_MATCH_PREFIX:
        origin->kind = L7_CORS_PREFIX;
        return true;
    case KOBJ_MATCH_REGEX:
        origin->kind = L7_CORS_REGEX;
        origin->regex = l7_build_regex(build, match->text);
        return origin->regex != NULL;
    default:
        origin->kind = L7_CORS_ANY;
        return true;
    }
}

const struct l7_cors *l7_build_cors(struct l7_build *build, const struct kobj_cors *cors,
                                    bool is_gateway_api) {
    size_t max = (size_t)cors->n_allow_origins + cors->n_origins;
    struct l7_cors_origin *origins = l7_build_alloc(build, max, sizeof(*origins));
    struct l7_cors *ret = l7_build_alloc(build, 1, sizeof(*ret));
    ret->origins = origins;
    for (uint32_t i = 0; i < cors->n_allow_origins; i++) {
        ret->n_origins += origin_match(build, &cors->allow_origins[i], &origins[ret->n_origins]);
    }
    // The old field of the VirtualService counts only where the new one is not there.
    for (uint32_t i = 0; i < cors->n_origins && cors->n_allow_origins == 0; i++) {
        struct l7_cors_origin *origin = &origins[ret->n_origins];
        const char *text = cors->origins[i];
        if (strcmp(text, "*") == 0) {
            origin->kind = L7_CORS_ANY;
            ret->n_origins++;
        } else if (is_gateway_api) {
            ret->n_origins += origin_pattern(build, text, origin);
        } else {
            origin->kind = L7_CORS_EXACT;
            origin->text = l7_build_slice(build, slice_str(text));
            ret->n_origins++;
        }
    }
    ret->allow_methods = joined(build, cors->allow_methods, cors->n_allow_methods);
    ret->allow_headers = joined(build, cors->allow_headers, cors->n_allow_headers);
    ret->expose_headers = joined(build, cors->expose_headers, cors->n_expose_headers);
    if (cors->max_age_ms >= 0) {
        char *text = xasprintf("%lld", (long long)(cors->max_age_ms / 1000));
        ret->max_age = l7_build_slice(build, slice_str(text));
        free(text);
    }
    ret->allow_credentials = cors->allow_credentials == TRI_TRUE;
    ret->ignores_unmatched = is_gateway_api || cors->unmatched_preflights == PREFLIGHT_IGNORE;
    return ret;
}

// Retries

struct l7_retry_policy l7_build_retry(struct l7_build *build, const char *retry_on,
                                      int64_t backoff_ms) {
    struct l7_retry_policy policy = l7_retry_default();
    if (backoff_ms > 0) {
        policy.base_ms = (uint64_t)MIN(backoff_ms, (int64_t)INT32_MAX);
        policy.max_ms = policy.base_ms * L7_RETRY_MAX_FACTOR;
    }
    if (retry_on[0] == '\0') {
        return policy;
    }
    struct l7_retry_codes codes = {.n = 0};
    struct slice unknown;
    policy.on = 0;
    bool is_known = l7_retry_parse(slice_str(retry_on), &policy.on, &codes, &unknown);
    if (!is_known && build->obj != NULL) { // MeshConfig's were warned about when they were read
        build->in->problem(build->in, build->obj, "retryOn: \"%.*s\" is no condition that is known",
                           SLICE_ARG(unknown));
    }
    uint16_t *copy = l7_build_alloc(build, codes.n, sizeof(*copy));
    memcpy(copy, codes.items, codes.n * sizeof(*copy));
    policy.codes = copy;
    policy.n_codes = (uint16_t)codes.n;
    return policy;
}

// Entries

static uint16_t name_id(struct l7_build *build, struct slice name) {
    for (size_t i = 0; i < build->n_names; i++) {
        if (slice_eq(build->names[i], name)) {
            return (uint16_t)i;
        }
    }
    if (build->n_names == L7_NAMES_CACHED) {
        return L7_NAMES_CACHED;
    }
    build->names[build->n_names] = name;
    return (uint16_t)build->n_names++;
}

bool l7_build_cond(struct l7_build *build, struct l7_cond *cond, enum l7_miss miss,
                   const char *name, const struct kobj_string_match *match) {
    *cond = (struct l7_cond){.miss = (uint8_t)miss, .name_id = L7_NAMES_CACHED};
    cond->text = l7_build_slice(build, slice_str(match->text));
    bool is_header = miss == L7_MISS_HEADER || miss == L7_MISS_WITHOUT_HEADER;
    cond->name = is_header ? l7_build_lower(build, name) : l7_build_slice(build, slice_str(name));
    if (is_header) {
        cond->name_id = name_id(build, cond->name);
    }
    switch (match->kind) {
    case KOBJ_MATCH_EXACT:
        cond->match = L7_COND_EXACT;
        return true;
    case KOBJ_MATCH_PREFIX:
        cond->match = L7_COND_PREFIX;
        return true;
    case KOBJ_MATCH_REGEX:
        cond->match = L7_COND_REGEX;
        cond->regex = l7_build_regex(build, match->text);
        return cond->regex != NULL;
    default:
        cond->match = L7_COND_PRESENT;
        return true;
    }
}

void l7_build_path_regex(struct l7_build *build, struct l7_entry *entry, const char *pattern) {
    entry->path_kind = L7_PATH_MATCHES;
    entry->path = l7_build_slice(build, slice_str(pattern));
    entry->regex = l7_build_regex(build, pattern);
}

void l7_build_add(struct l7_build *build, const struct l7_entry *entry) {
    struct l7_routes *routes = build->routes;
    CHECK(routes->n_entries < UINT32_MAX);
    if (routes->n_entries == build->cap_entries) {
        build->cap_entries = build->cap_entries * 2 + 8;
        routes->entries = xrealloc(routes->entries, build->cap_entries * sizeof(*routes->entries));
    }
    routes->entries[routes->n_entries++] = *entry;
}

static void routes_free(struct leaf_ext *ext) {
    struct l7_routes *routes = CONTAINER_OF(ext, struct l7_routes, ext);
    l7_regex_set_free(routes->set);
    for (size_t i = 0; i < routes->n_regexes; i++) {
        l7_regex_free(routes->regexes[i]);
    }
    free(routes->regexes);
    free(routes->entries);
    free(routes->flows);
    arena_fini(&routes->arena);
    free(routes);
}

struct leaf *l7_routes_compile(void *arg, const struct builder_l7_input *in) {
    bool has_defaults = in->config != NULL && in->config->default_retry != NULL;
    if (in->n_virtual_services == 0 && in->n_routes == 0 && !has_defaults) {
        return NULL;
    }
    struct l7_routes *routes = xcalloc(1, sizeof(*routes));
    arena_init(&routes->arena, SIZE_MAX);
    struct slice names[L7_NAMES_CACHED];
    struct l7_build build = {.routes = routes, .in = in, .names = names};
    leaf_ext_init(&routes->ext, l7_build_slice(&build, in->service->leaf.key), routes_free);
    if (has_defaults) {
        struct l7_route *fallback = l7_build_alloc(&build, 1, sizeof(*fallback));
        *fallback = *l7_routes_default();
        fallback->retry = l7_build_retries(&build, NULL);
        routes->fallback = fallback;
    }
    l7_build_gateway_routes(&build);
    l7_build_virtual_services(&build);
    l7_routes_index(routes);
    return &routes->ext.leaf;
}

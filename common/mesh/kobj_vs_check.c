// SPDX-License-Identifier: Apache-2.0
#include <stdio.h>
#include <strings.h>

#include "common/base/addr.h"
#include "common/mesh/kobj_vs_priv.h"

enum { BODY_MAX = 1 << 20, DUPLICATES_MAX = 2000 };

// Matches

KOBJ_VS_CHECK(match) {
    const struct kobj_vs_match *match = out;

    if (match->ignore_uri_case && match->uri != NULL && match->uri->kind == KOBJ_MATCH_REGEX) {
        schema_warn(ctx, kobj_at(node, "ignoreUriCase"), "ignoreUriCase",
                    "has no effect on a regex: write `(?i)` in front of it");
    }
    if (match->uri != NULL && match->uri->kind != KOBJ_MATCH_REGEX &&
        strchr(match->uri->text, '?') != NULL) {
        schema_warn(ctx, kobj_at(node, "uri"), "uri",
                    "a query is not part of the uri, so it never matches: use `queryParams`");
    }
    if (match->n_gateways > 0 && match->source_labels.n > 0) {
        schema_warn(ctx, kobj_at(node, "sourceLabels"), "sourceLabels",
                    "is not used where `gateways` is set");
    }
}

// True when it takes every request; one with a field that was not understood does not.
static bool is_everything(const struct kobj_vs_match *m, const struct cfg_node *node) {
    static const char *const harmless[] = {"uri", "name", "statPrefix", "ignoreUriCase"};
    bool is_any_uri = m->uri == NULL || m->uri->kind == KOBJ_MATCH_PRESENT ||
                      (m->uri->kind == KOBJ_MATCH_PREFIX &&
                       (strcmp(m->uri->text, "/") == 0 || m->uri->text[0] == '\0')) ||
                      (m->uri->kind == KOBJ_MATCH_REGEX &&
                       (strcmp(m->uri->text, ".*") == 0 || strcmp(m->uri->text, "*") == 0));

    for (uint32_t i = 0; is_any_uri && node->type == CFG_MAP && i < node->n; i++) {
        const struct cfg_pair *pair = &node->pairs[i];
        bool is_empty =
            pair->value.type == CFG_NULL || (pair->value.type >= CFG_LIST && pair->value.n == 0);
        for (size_t k = 0; !is_empty && k < ARRAY_LEN(harmless); k++) {
            is_empty = strcmp(pair->key.text, harmless[k]) == 0;
        }
        is_any_uri = is_empty;
    }
    return is_any_uri;
}

static bool takes_everything(const struct kobj_vs_http *http, const struct cfg_node *node) {
    for (uint32_t i = 0; i < http->n_matches; i++) {
        if (is_everything(&http->matches[i], kobj_item(node, "match", i))) {
            return true;
        }
    }
    return http->n_matches == 0;
}

struct seen_match {
    uint64_t hash;
    uint32_t rule;
};

// Matches that an earlier rule has word for word.
static void warn_duplicates(struct schema_ctx *ctx, const struct cfg_node *node, uint32_t n_rules) {
    struct seen_match *seen = arena_array(ctx->scratch, DUPLICATES_MAX, sizeof(*seen));
    uint32_t n = 0;
    char path[48];

    if (seen == NULL) {
        return; // what is too large is refused anyway
    }
    for (uint32_t i = 0; i < n_rules; i++) {
        const struct cfg_node *matches = cfg_get(kobj_item(node, "http", i), "match");
        for (uint32_t j = 0; matches != NULL && matches->type == CFG_LIST && j < matches->n; j++) {
            uint64_t hash = cfg_hash(&matches->items[j], NULL);
            uint32_t k = 0;
            while (k < n && (seen[k].hash != hash || seen[k].rule == i)) {
                k++;
            }
            if (k < n) {
                snprintf(path, sizeof(path), "http[%u].match[%u]", i, j);
                schema_warn(ctx, &matches->items[j], path,
                            "never matches: http[%u] has the same match before it", seen[k].rule);
            } else if (n < DUPLICATES_MAX) {
                seen[n++] = (struct seen_match){hash, i};
            }
        }
    }
}

// A match by nothing but a prefix, which takes all that begins with it.
struct wide_match {
    const char *prefix;
    uint64_t hash;
    uint32_t rule, line;
};

static bool is_wide(const struct kobj_vs_match *m, const struct cfg_node *node) {
    static const char *const harmless[] = {"uri", "name", "statPrefix"};
    bool is_it = m->uri != NULL && m->uri->kind == KOBJ_MATCH_PREFIX && node->type == CFG_MAP;

    for (uint32_t i = 0; is_it && i < node->n; i++) {
        is_it = false;
        for (size_t k = 0; !is_it && k < ARRAY_LEN(harmless); k++) {
            is_it = strcmp(node->pairs[i].key.text, harmless[k]) == 0;
        }
    }
    return is_it;
}

static bool is_inside(const struct kobj_vs_match *m, const struct wide_match *wide) {
    return m->uri != NULL && !m->ignore_uri_case &&
           (m->uri->kind == KOBJ_MATCH_EXACT || m->uri->kind == KOBJ_MATCH_PREFIX) &&
           strncmp(m->uri->text, wide->prefix, strlen(wide->prefix)) == 0;
}

// Matches whose paths all begin with a prefix that an earlier rule takes, whatever else they want.
static void warn_shadowed(struct schema_ctx *ctx, const struct cfg_node *node,
                          const struct kobj_virtual_service *vs) {
    struct wide_match *wide = arena_array(ctx->scratch, DUPLICATES_MAX, sizeof(*wide));
    uint32_t n = 0;
    char path[48];

    for (uint32_t i = 0; wide != NULL && i < vs->n_http; i++) {
        const struct kobj_vs_http *http = &vs->http[i];
        for (uint32_t j = 0; j < http->n_matches; j++) {
            const struct kobj_vs_match *m = &http->matches[j];
            const struct cfg_node *match = kobj_item(kobj_item(node, "http", i), "match", j);
            uint64_t hash = cfg_hash(match, NULL);
            uint32_t k = 0;
            while (k < n &&
                   (wide[k].rule == i || wide[k].hash == hash || !is_inside(m, &wide[k]))) {
                k++;
            }
            if (k < n) {
                snprintf(path, sizeof(path), "http[%u].match[%u]", i, j);
                schema_warn(ctx, match, path,
                            "never matches: http[%u] (line %u) before it takes all that begins "
                            "with `%s`; put this rule first",
                            wide[k].rule, wide[k].line, wide[k].prefix);
            } else if (n < DUPLICATES_MAX && is_wide(m, match)) {
                wide[n++] = (struct wide_match){m->uri->text, hash, i, http->pos.line};
            }
        }
    }
}

static void warn_unreachable(struct schema_ctx *ctx, const struct cfg_node *node,
                             const struct kobj_virtual_service *vs) {
    char path[32];

    for (uint32_t i = 0; i < vs->n_http; i++) {
        if (!takes_everything(&vs->http[i], kobj_item(node, "http", i))) {
            continue;
        }
        for (uint32_t j = i + 1; j < vs->n_http; j++) {
            snprintf(path, sizeof(path), "http[%u]", j);
            schema_warn(ctx, kobj_item(node, "http", j), path,
                        "is never reached: http[%u] (line %u) before it takes every request%s", i,
                        vs->http[i].pos.line,
                        vs->http[i].n_matches == 0 ? ", as it has no `match`" : "");
        }
        if (i + 1 < vs->n_http) {
            return;
        }
    }
    warn_duplicates(ctx, node, vs->n_http);
    warn_shadowed(ctx, node, vs);
}

// The blocks of a rule

KOBJ_VS_CHECK(redirect) {
    const struct kobj_vs_redirect *r = out;

    if (r->uri[0] == '\0' && r->prefix_rewrite[0] == '\0' && r->authority[0] == '\0' &&
        r->scheme[0] == '\0' && r->port == 0 && r->derive_port == DERIVE_PORT_UNSET) {
        schema_error(ctx, node, "", "changes nothing: set uri, authority, scheme or port");
    }
    bool is_known =
        r->code == 301 || r->code == 302 || r->code == 303 || r->code == 307 || r->code == 308;
    if (!is_known) {
        schema_warn(ctx, kobj_at(node, "redirectCode"), "redirectCode",
                    "is none of 301, 302, 303, 307, 308: 301 is sent");
    }
}

KOBJ_VS_CHECK(direct) {
    const struct kobj_vs_direct *direct = out;

    if (direct->body.len > BODY_MAX) {
        schema_error(ctx, kobj_at(node, "body"), "body", "has %zu bytes, at most 1 MiB is allowed",
                     direct->body.len);
    }
}

KOBJ_VS_CHECK(rewrite) {
    const struct kobj_vs_rewrite *r = out;

    if (!kobj_has(node, "uri") && !kobj_has(node, "uriRegexRewrite") && r->authority[0] == '\0') {
        schema_error(ctx, node, "", "rewrites nothing: set uri, uriRegexRewrite or authority");
    }
}

static bool is_retry_condition(struct slice text) {
    static const char *const known[] = {"5xx",
                                        "gateway-error",
                                        "reset",
                                        "reset-before-request",
                                        "connect-failure",
                                        "retriable-4xx",
                                        "refused-stream",
                                        "retriable-status-codes",
                                        "retriable-headers",
                                        "envoy-ratelimited",
                                        "http3-post-connect-failure",
                                        "cancelled",
                                        "deadline-exceeded",
                                        "internal",
                                        "resource-exhausted",
                                        "unavailable"};
    uint64_t code;

    if (slice_to_u64(text, 599, &code)) {
        return code >= 100;
    }
    for (size_t i = 0; i < ARRAY_LEN(known); i++) {
        if (slice_eq_str(text, known[i])) {
            return true;
        }
    }
    return false;
}

static void check_retry_on(struct schema_ctx *ctx, const struct cfg_node *node, const char *text) {
    struct slice rest = slice_str(text), head;
    bool is_last = text[0] == '\0';

    while (!is_last) {
        if (!slice_split(rest, ',', &head, &rest)) {
            head = rest;
            is_last = true;
        }
        if (!is_retry_condition(head)) {
            schema_error(ctx, kobj_at(node, "retryOn"), "retryOn",
                         "`%.*s` is no condition: 5xx, gateway-error, reset, connect-failure, "
                         "refused-stream, retriable-4xx, cancelled, unavailable ..., or a status; "
                         "with `,` and no blanks between them",
                         (int)MIN(head.len, 60u), (const char *)head.ptr);
        }
    }
}

KOBJ_VS_CHECK(retry) {
    const struct kobj_vs_retry *retry = out;

    if (retry->attempts == 0 && (retry->per_try_timeout_ms >= 0 || retry->retry_on[0] != '\0' ||
                                 retry->remote_localities != TRI_UNSET || retry->backoff_ms >= 0)) {
        schema_error(ctx, node, "attempts",
                     "is %s, which turns retries off: the other fields have no meaning",
                     kobj_has(node, "attempts") ? "0" : "absent");
    }
    check_retry_on(ctx, node, retry->retry_on);
}

KOBJ_VS_CHECK(delay) {
    const struct kobj_vs_delay *delay = out;

    if (delay->fixed_ms < 0 && !kobj_has(node, "exponentialDelay")) {
        schema_warn(ctx, node, "fixedDelay", "is absent, so nothing is delayed");
    } else if (!kobj_has(node, "percentage") && !kobj_has(node, "percent")) {
        schema_warn(ctx, node, "percentage",
                    "is absent, which is 0 %%: nothing is delayed; write `percentage: {value: "
                    "100}`");
    }
}

KOBJ_VS_CHECK(abort) {
    const struct kobj_vs_abort *abort = out;

    if (abort->http_status == 0 && abort->grpc_status[0] == '\0') {
        schema_warn(ctx, node, "httpStatus", "is absent, so nothing is aborted");
    } else if (!kobj_has(node, "percentage") && !kobj_has(node, "percent")) {
        schema_warn(ctx, node, "percentage",
                    "is absent, which is 0 %%: nothing is aborted; write `percentage: {value: "
                    "100}`");
    }
}

KOBJ_VS_CHECK(fault) {
    const struct kobj_vs_fault *fault = out;

    if (fault->delay == NULL && fault->abort == NULL) {
        schema_error(ctx, node, "", "needs `delay` or `abort`");
    }
}

KOBJ_VS_CHECK(cors) {
    const struct kobj_cors *cors = out;
    char path[32];

    for (uint32_t i = 0; i < cors->n_allow_origins; i++) {
        const struct kobj_string_match *origin = &cors->allow_origins[i];
        if (origin->kind == KOBJ_MATCH_PRESENT || origin->text[0] == '\0') {
            snprintf(path, sizeof(path), "allowOrigins[%u]", i);
            schema_error(ctx, kobj_item(node, "allowOrigins", i), path,
                         "needs one of `exact`, `prefix`, `regex`");
        }
    }
    if (cors->n_allow_origins > 0 && cors->n_origins > 0) {
        schema_warn(ctx, kobj_at(node, "allowOrigin"), "allowOrigin",
                    "is not used where `allowOrigins` is set");
    }
    if (cors->max_age_ms > 0 && cors->max_age_ms % 1000 != 0) {
        schema_error(ctx, kobj_at(node, "maxAge"), "maxAge", "must be whole seconds");
    }
}

// Rules

static void check_weights(struct schema_ctx *ctx, const struct cfg_node *node,
                          const struct kobj_vs_dest *routes, uint32_t n) {
    uint64_t total = 0;
    bool has_percent = false;

    for (uint32_t i = 0; i < n; i++) {
        const struct cfg_node *weight = cfg_get(kobj_item(node, "route", i), "weight");
        total += (uint32_t)routes[i].weight;
        has_percent = has_percent || (weight != NULL && weight->type != CFG_INT); // reported
    }
    if (n < 2 || has_percent) {
        return;
    }
    if (total == 0) {
        schema_error(ctx, kobj_at(node, "route"), "route",
                     "has %u destinations whose weights add up to 0: `weight` stands beside "
                     "`destination`",
                     n);
    } else if (total > UINT32_MAX) {
        schema_error(ctx, kobj_at(node, "route"), "route",
                     "has weights that add up to more than "
                     "4294967295");
    }
    for (uint32_t i = 0; i < n && total > 0; i++) {
        if (!kobj_has(kobj_item(node, "route", i), "weight")) {
            char path[32];
            snprintf(path, sizeof(path), "route[%u].weight", i);
            schema_warn(ctx, kobj_item(node, "route", i), path,
                        "is absent beside others that have one, which is 0: this destination gets "
                        "no requests");
        }
    }
}

static void exclude(struct schema_ctx *ctx, const struct cfg_node *node, const char *field,
                    const char *const *others) {
    if (!kobj_has(node, field)) {
        return;
    }
    for (; *others != NULL; others++) {
        if (kobj_has(node, *others)) {
            schema_error(ctx, cfg_get(node, *others), *others, "cannot be set with `%s`", field);
        }
    }
}

static bool is_authority(const char *name) {
    return strcasecmp(name, "host") == 0 || strcasecmp(name, ":authority") == 0;
}

static void check_authority(struct schema_ctx *ctx, const struct cfg_node *node,
                            const struct kobj_vs_http *http) {
    const struct kobj_map *maps[] = {&http->headers.request.set, &http->headers.request.add};
    uint32_t n = http->rewrite != NULL && http->rewrite->authority[0] != '\0' ? 1 : 0;

    for (size_t i = 0; i < ARRAY_LEN(maps); i++) {
        for (uint32_t j = 0; j < maps[i]->n; j++) {
            n += is_authority(maps[i]->items[j].key) ? 1 : 0;
        }
    }
    if (n > 1) {
        schema_error(ctx, kobj_at(node, "headers"), "headers.request",
                     "the authority is rewritten in more than one place");
    }
}

static void check_action(struct schema_ctx *ctx, const struct cfg_node *node,
                         const struct kobj_vs_http *http) {
    if (http->delegate_name[0] != '\0') {
        return;
    }
    if (http->redirect == NULL && http->direct == NULL && http->n_routes == 0 &&
        (http->routes != NULL || !kobj_has(node, "route")) && !kobj_has(node, "delegate")) {
        schema_error(ctx, node, "route",
                     "is required, or one of `redirect`, `directResponse`, `delegate`");
    }
}

KOBJ_VS_CHECK(http) {
    const struct kobj_vs_http *http = out;

    exclude(ctx, node, "redirect",
            (const char *const[]){"route", "fault", "rewrite", "directResponse", NULL});
    exclude(ctx, node, "directResponse", (const char *const[]){"route", "fault", "rewrite", NULL});
    exclude(ctx, node, "delegate",
            (const char *const[]){"route", "redirect", "directResponse", NULL});
    check_action(ctx, node, http);
    check_weights(ctx, node, http->routes, http->n_routes);
    check_authority(ctx, node, http);
    for (uint32_t i = 0;
         http->redirect != NULL && http->redirect->prefix_rewrite[0] != '\0' && i < http->n_matches;
         i++) {
        const struct kobj_string_match *uri = http->matches[i].uri;
        if (uri != NULL && uri->kind != KOBJ_MATCH_PREFIX) {
            schema_error(ctx, kobj_at(node, "redirect"), "redirect.prefixRewrite",
                         "needs matches whose uri is a `prefix`");
        }
    }
    if (http->retries != NULL && http->timeout_ms > 0 &&
        http->retries->per_try_timeout_ms >= http->timeout_ms) {
        schema_warn(ctx, kobj_at(node, "retries"), "retries.perTryTimeout",
                    "is not used: it is as long as `timeout`, which counts all tries");
    }
    if (!kobj_has(node, "mirror") &&
        (kobj_has(node, "mirrorPercentage") || kobj_has(node, "mirrorPercent"))) {
        schema_warn(ctx, node, "mirrorPercentage", "has no effect without `mirror`%s",
                    kobj_has(node, "mirrors") ? "; `mirrors` has `percentage` in its items" : "");
    }
}

KOBJ_VS_CHECK(l4) {
    const struct kobj_vs_l4 *rule = out;

    check_weights(ctx, node, rule->routes, rule->n_routes);
}

// The object

// One covers the other: equal, or the suffix of a wildcard.
static bool covers(const char *wide, const char *host) {
    if (wide[0] != '*') {
        return strcasecmp(wide, host) == 0;
    }
    size_t len_wide = strlen(wide + 1), len = strlen(host);
    return len >= len_wide && strcasecmp(host + len - len_wide, wide + 1) == 0;
}

static void check_hosts(struct schema_ctx *ctx, const struct cfg_node *node,
                        const struct kobj_virtual_service *vs) {
    char path[32];

    for (uint32_t i = 0; i < vs->n_hosts; i++) {
        const char *host = vs->hosts[i];
        snprintf(path, sizeof(path), "hosts[%u]", i);
        if (strcmp(host, "*") == 0 && kobj_virtual_service_is_mesh(vs)) {
            schema_error(ctx, kobj_item(node, "hosts", i), path,
                         "`*` is for gateways only: name the services, or *.DOMAIN");
        }
        for (uint32_t j = 0; j < i; j++) {
            if (covers(host, vs->hosts[j]) || covers(vs->hosts[j], host)) {
                schema_error(ctx, kobj_item(node, "hosts", i), path,
                             "`%.100s` and `%.100s` are the same or overlap", vs->hosts[j], host);
                break;
            }
        }
    }
}

static void check_sni_hosts(struct schema_ctx *ctx, const struct cfg_node *node,
                            const struct kobj_virtual_service *vs) {
    char path[48];

    for (uint32_t i = 0; i < vs->n_tls; i++) {
        for (uint32_t j = 0; j < vs->tls[i].n_matches; j++) {
            const struct kobj_vs_l4_match *match = &vs->tls[i].matches[j];
            const struct cfg_node *at = kobj_item(kobj_item(node, "tls", i), "match", j);
            snprintf(path, sizeof(path), "tls[%u].match[%u].sniHosts", i, j);
            for (uint32_t k = 0; k < match->n_sni_hosts; k++) {
                bool is_covered = false;
                for (uint32_t h = 0; h < vs->n_hosts; h++) {
                    is_covered = is_covered || covers(vs->hosts[h], match->sni_hosts[k]);
                }
                if (!is_covered) {
                    schema_error(ctx, kobj_item(at, "sniHosts", k), path,
                                 "`%.100s` is in none of `hosts`", match->sni_hosts[k]);
                }
            }
        }
    }
}

static void check_delegate(struct schema_ctx *ctx, const struct cfg_node *node,
                           const struct kobj_virtual_service *vs) {
    static const char *const fields[] = {"gateways", "tls", "tcp"};
    char path[32];

    for (size_t i = 0; i < ARRAY_LEN(fields); i++) {
        if (kobj_has(node, fields[i]) && cfg_get(node, fields[i])->n > 0) {
            schema_error(ctx, cfg_get(node, fields[i]), fields[i],
                         "cannot be set without `hosts`: such an object is a delegate, which has "
                         "`http` only");
        }
    }
    for (uint32_t i = 0; i < vs->n_http; i++) {
        if (vs->http[i].delegate_name[0] != '\0') {
            snprintf(path, sizeof(path), "http[%u].delegate", i);
            schema_error(ctx, kobj_item(node, "http", i), path,
                         "a delegate (no `hosts`) cannot delegate further");
        }
    }
}

// A list with something in it, or of a wrong type, which was reported.
static bool has_items(const struct cfg_node *node, const char *field) {
    return kobj_has(node, field) &&
           (cfg_get(node, field)->type != CFG_LIST || cfg_get(node, field)->n > 0);
}

KOBJ_VS_CHECK(spec) {
    const struct kobj_virtual_service *vs = out;

    if (!has_items(node, "http") && !has_items(node, "tls") && !has_items(node, "tcp")) {
        schema_error(ctx, node, "http", "is required, or `tls` or `tcp`");
    }
    if (!kobj_has(node, "hosts") || (vs->hosts != NULL && vs->n_hosts == 0)) {
        check_delegate(ctx, node, vs);
    }
    check_hosts(ctx, node, vs);
    if (vs->n_hosts > 0) {
        check_sni_hosts(ctx, node, vs);
    }
    kobj_check_exports(ctx, node, vs->export_to, vs->n_export_to);
    warn_unreachable(ctx, node, vs);
}

// SPDX-License-Identifier: Apache-2.0
#include <stdlib.h>
#include <string.h>

#include "common/base/buf.h"
#include "ctl/cmd_explain_http.h"
#include "ctl/local_json.h"

static void line(FILE *out, const char *title, const char *fmt, ...) PRINTF_LIKE(3, 4);

static void line(FILE *out, const char *title, const char *fmt, ...) {
    va_list args;
    fprintf(out, "%-12s ", title);
    va_start(args, fmt);
    vfprintf(out, fmt, args);
    va_end(args);
    fputc('\n', out);
}

// ---- small texts -------------------------------------------------------------------------------

// "VirtualService shop/web, mesh.yaml:12:5", or "default".
static const char *where(const json_t *item, char *buf, size_t cap) {
    const char *object = js_str(item, "object", NULL);
    if (object == NULL) {
        snprintf(buf, cap, "default");
    } else if (js_int(item, "line", 0) == 0) {
        snprintf(buf, cap, "%s, %s", object, js_str(item, "file", ""));
    } else {
        snprintf(buf, cap, "%s, %s:%lld:%lld", object, js_str(item, "file", ""),
                 js_int(item, "line", 0), js_int(item, "column", 0));
    }
    return buf;
}

static const char *time_text(long long ms, char buf[32]) {
    if (ms == 0) {
        return "none";
    }
    snprintf(buf, 32, ms % 1000 == 0 ? "%llds" : "%lldms", ms % 1000 == 0 ? ms / 1000 : ms);
    return buf;
}

static const char *percent_text(const json_t *object, const char *key, char buf[32]) {
    snprintf(buf, 32, "%.6g %%", json_number_value(js_get(object, key)));
    return buf;
}

// ", maxConnections 1" for each number that is there.
static void add_numbers(struct buf *text, const json_t *object, const char *const *keys) {
    for (; *keys != NULL; keys++) {
        const json_t *value = js_get(object, *keys);
        if (value != NULL) {
            char number[32];
            buf_printf(text, ", %s %s", *keys, js_text(value, number, sizeof(number)));
        }
    }
}

// ---- rules -------------------------------------------------------------------------------------

static void print_rules(const json_t *http, FILE *file) {
    size_t i;
    json_t *rule;
    char place[1024];
    json_array_foreach(js_get(http, "rules"), i, rule) {
        bool matches = js_bool(rule, "matches", false);
        const char *name = js_str(rule, "rule", "");
        line(file, i == 0 ? "rules" : "", "%c %s%s%s%s: %s", matches ? '*' : '-',
             where(rule, place, sizeof(place)), name[0] != '\0' ? " (" : "", name,
             name[0] != '\0' ? ")" : "", js_str(rule, "reason", ""));
    }
    const json_t *route = js_get(http, "route");
    if (json_is_null(route)) {
        line(file, "rule", "none matches");
    } else if (js_bool(route, "default", false)) {
        line(file, js_len(http, "rules") == 0 ? "rules" : "",
             "%s: to the service itself, with the default retries",
             js_len(http, "rules") == 0 ? "none" : "none is for this client and port");
    }
}

static void print_answer(const json_t *answer, const char *title, const char *indent, FILE *file) {
    if (answer == NULL) {
        return;
    }
    const char *location = js_str(answer, "location", ""), *body = js_str(answer, "body", "");
    struct buf text;
    buf_init(&text, SIZE_MAX);
    if (js_get(answer, "grpcStatus") != NULL) {
        buf_printf(&text, ", grpc-status %lld", js_int(answer, "grpcStatus", 0));
    }
    if (location[0] != '\0') {
        buf_printf(&text, ", location %s", location);
    }
    if (body[0] != '\0') {
        buf_printf(&text, ", body `%.120s`%s", body, strlen(body) > 120 ? "..." : "");
    }
    line(file, title, "%s%lld %s (%s)%s", indent, js_int(answer, "status", 0),
         js_str(answer, "flags", ""), js_str(answer, "details", ""), buf_cstr(&text));
    buf_fini(&text);
}

static void print_fault(const json_t *fault, FILE *file) {
    char time[32], percent[32];
    const char *title = "fault";
    if (js_get(fault, "delayMs") != NULL) {
        line(file, title, "delay of %s for %s of requests",
             time_text(js_int(fault, "delayMs", 0), time),
             percent_text(fault, "delayPercent", percent));
        title = "";
    }
    if (js_get(fault, "abort") != NULL) {
        char *indent =
            xasprintf("abort of %s of requests: ", percent_text(fault, "abortPercent", percent));
        print_answer(js_get(fault, "abort"), title, indent, file);
        free(indent);
    }
}

static void print_retries(const json_t *retries, FILE *file) {
    char base[32], max[32];
    struct buf on;
    size_t i;
    json_t *item;
    if (retries == NULL) {
        return;
    }
    if (js_int(retries, "attempts", 0) == 0) {
        line(file, "retries", "none");
        return;
    }
    buf_init(&on, SIZE_MAX);
    json_array_foreach(js_get(retries, "on"), i, item) {
        char number[32];
        buf_printf(&on, "%s%s", i > 0 ? "," : "", js_text(item, number, sizeof(number)));
    }
    line(file, "retries", "%lld more on %s; back-off from %s to %s%s",
         js_int(retries, "attempts", 0), buf_cstr(&on),
         time_text(js_int(retries, "backoffMs", 0), base),
         time_text(js_int(retries, "backoffMaxMs", 0), max),
         js_bool(retries, "avoidsTriedHosts", false) ? "; other hosts first" : "");
    buf_fini(&on);
}

// ---- destinations ------------------------------------------------------------------------------

static void print_block(const char *title, const json_t *block, const char *text, FILE *file) {
    char place[1024];
    line(file, "", "    %-18s %s (%s)", title, text, where(block, place, sizeof(place)));
}

static void print_balancer(const json_t *destination, FILE *file) {
    const json_t *lb = js_get(destination, "policy.loadBalancer");
    struct buf text;
    char time[32];
    buf_init(&text, SIZE_MAX);
    buf_append_str(&text, js_str(lb, "kind", ""));
    if (js_get(lb, "hashKey") != NULL) {
        buf_printf(&text, " by %s %s", js_str(lb, "hashKey", ""), js_str(lb, "hashName", ""));
    }
    if (js_get(destination, "hasHashKey") != NULL && !js_bool(destination, "hasHashKey", false)) {
        buf_append_str(&text, ": the request has no key, so any host");
    }
    if (js_int(lb, "warmupMs", 0) > 0) {
        buf_printf(&text, ", warm-up %s", time_text(js_int(lb, "warmupMs", 0), time));
    }
    if (js_get(lb, "locality") != NULL) {
        buf_printf(&text, ", locality %s", js_str(lb, "locality", ""));
    }
    for (size_t i = 0; i < js_len(lb, "preferSame"); i++) {
        buf_printf(&text, "%s%s", i == 0 ? ", prefers the same " : ", ",
                   json_string_value(json_array_get(js_get(lb, "preferSame"), i)));
    }
    print_block("load balancer", lb, buf_cstr(&text), file);
    buf_fini(&text);
}

static void print_limits(const json_t *destination, FILE *file) {
    static const char *const keys[] = {
        "maxConnections",     "http1MaxPendingRequests", "http2MaxRequests",         "maxRetries",
        "retryBudgetPercent", "minRetryConcurrency",     "maxRequestsPerConnection", NULL};
    static const char *const outlier_keys[] = {"consecutive5xx", "consecutiveGatewayErrors", NULL};
    const json_t *pool = js_get(destination, "policy.connectionPool");
    const json_t *outlier = js_get(destination, "policy.outlierDetection");
    const json_t *tls = js_get(destination, "policy.tls");
    char time[3][32];
    struct buf text;
    buf_init(&text, SIZE_MAX);
    buf_printf(&text, "connect timeout %s, idle timeout %s",
               time_text(js_int(pool, "connectTimeoutMs", 0), time[0]),
               time_text(js_int(pool, "idleTimeoutMs", 0), time[1]));
    add_numbers(&text, pool, keys);
    print_block("connection pool", pool, buf_cstr(&text), file);
    buf_clear(&text);
    buf_append_str(&text, js_bool(outlier, "on", false) ? "on" : "off");
    if (js_bool(outlier, "on", false)) {
        add_numbers(&text, outlier, outlier_keys);
        buf_printf(&text, ", every %s, ejects for %s, at most %lld %%",
                   time_text(js_int(outlier, "intervalMs", 0), time[0]),
                   time_text(js_int(outlier, "baseEjectionMs", 0), time[1]),
                   js_int(outlier, "maxEjectionPercent", 0));
    }
    print_block("outlier detection", outlier, buf_cstr(&text), file);
    print_block("tls", tls, js_str(tls, "mode", ""), file);
    buf_fini(&text);
}

static void print_levels(const json_t *destination, FILE *file) {
    size_t i;
    json_t *level;
    json_array_foreach(js_get(destination, "levels"), i, level) {
        const char *name = js_str(level, "name", "");
        char number[32];
        snprintf(number, sizeof(number), "priority %zu", i);
        line(file, "", "    %-18s %lld hosts, %lld %% of the requests",
             name[0] != '\0' ? name : number, js_int(level, "hosts", 0),
             js_int(level, "percent", 0));
    }
}

// What the running waypoint said of it.
static void add_live(const json_t *live, const json_t *destination, struct buf *text) {
    char time[2][32];
    if (live == NULL) {
        return;
    }
    if (js_bool(live, "ejected", false)) {
        buf_printf(text, ", ejected for %s", time_text(js_int(live, "ejectedForMs", 0), time[0]));
    }
    if (js_get(live, "warmupAgeMs") != NULL) {
        buf_printf(text, ", warms up (%s of %s)",
                   time_text(js_int(live, "warmupAgeMs", 0), time[0]),
                   time_text(js_int(destination, "policy.loadBalancer.warmupMs", 0), time[1]));
    }
    buf_printf(text, ", %lld active requests, %lld connections", js_int(live, "activeRequests", 0),
               js_int(live, "connections", 0));
}

static void print_endpoints(const json_t *destination, FILE *file) {
    size_t i;
    json_t *item;
    json_array_foreach(js_get(destination, "endpoints"), i, item) {
        const char *out = js_str(item, "out", ""), *zone = js_str(item, "zone", "");
        struct buf text;
        buf_init(&text, SIZE_MAX);
        buf_printf(&text, "%s %s on %s", js_str(item, "workload", ""), js_str(item, "address", ""),
                   js_str(item, "node", ""));
        if (zone[0] != '\0') {
            buf_printf(&text, " (%s/%s)", js_str(item, "region", ""), zone);
        }
        if (out[0] != '\0') {
            buf_printf(&text, " out: %s", out);
        } else {
            buf_printf(&text, " weight %lld, level %lld%s", js_int(item, "weight", 0),
                       js_int(item, "level", 0), js_bool(item, "ready", true) ? "" : ", not ready");
        }
        add_live(js_get(item, "live"), destination, &text);
        line(file, "", "    %c %s", js_bool(item, "chosen", false) ? '*' : '-', buf_cstr(&text));
        buf_fini(&text);
    }
}

static void print_sent(const json_t *destination, const json_t *http, FILE *file) {
    size_t i;
    json_t *item;
    line(file, "", "    sent on: %s %s, host %s", js_str(http, "request.method", ""),
         js_str(destination, "sent.path", ""), js_str(destination, "sent.authority", ""));
    json_array_foreach(js_get(destination, "sent.set"), i, item) {
        line(file, "", "      + %s", json_string_value(item));
    }
    json_array_foreach(js_get(destination, "sent.removed"), i, item) {
        line(file, "", "      - %s", json_string_value(item));
    }
}

static void print_destination(const json_t *http, const json_t *item, const char *title,
                              FILE *file) {
    char percent[32], place[1024];
    const char *subset = js_str(item, "subset", "");
    const bool is_mirror = js_get(item, "sent") == NULL;
    struct buf text;
    buf_init(&text, SIZE_MAX);
    buf_printf(&text, "%s", js_str(item, "host", ""));
    if (js_int(item, "port", 0) != 0) {
        buf_printf(&text, ":%lld", js_int(item, "port", 0));
    }
    if (subset[0] != '\0') {
        buf_printf(&text, " subset %s", subset);
    }
    if (js_get(item, "subsetIn") != NULL) {
        buf_printf(&text, " (%s)", where(js_get(item, "subsetIn"), place, sizeof(place)));
    }
    percent_text(item, "percent", percent);
    if (is_mirror) {
        buf_printf(&text, ", a copy of %s of the requests as host %s", percent,
                   js_str(item, "authority", ""));
    } else {
        buf_printf(&text, ", weight %lld, %s", js_int(item, "weight", 0), percent);
    }
    line(file, title, "%c %s", js_bool(item, "chosen", is_mirror) ? '*' : '-', buf_cstr(&text));
    buf_fini(&text);
    if (!is_mirror) {
        print_sent(item, http, file);
    }
    if (js_get(item, "missing") != NULL) {
        line(file, "", "    %s", js_str(item, "missing", ""));
    } else {
        if (!is_mirror) {
            print_balancer(item, file);
            print_limits(item, file);
        }
        if (js_get(item, "through") != NULL) {
            line(file, "", "    to %s", js_str(item, "through", ""));
        } else if (!is_mirror) {
            print_levels(item, file);
        }
        print_endpoints(item, file);
    }
    print_answer(js_get(item, "answer"), "", "    answered: ", file);
}

// ---- the whole ---------------------------------------------------------------------------------

static void print_unseen(const json_t *http, FILE *file) {
    size_t i;
    json_t *item;
    char place[1024];
    line(file, "http", "no rule for HTTP applies: %s", js_str(http, "unseenBecause", ""));
    json_array_foreach(js_get(http, "unseen"), i, item) {
        line(file, "", "nobody reads %s", where(item, place, sizeof(place)));
    }
    if (js_len(http, "unseen") == 0) {
        line(file, "", "there is none for this destination either");
    }
}

static void print_policies(const json_t *policies, FILE *file) {
    bool is_allowed = js_bool(policies, "allowed", false);
    line(file, "policies", "%s: %s", is_allowed ? "allowed" : "refused",
         js_str(policies, "reason", ""));
    if (js_str(policies, "dryRunDeniedBy", NULL) != NULL) {
        line(file, "", "dry run: would be denied by %s", js_str(policies, "dryRunDeniedBy", ""));
    }
}

static void print_health(const json_t *health, FILE *file) {
    if (strcmp(js_str(health, "source", ""), "live") == 0) {
        line(file, "health", "live: what waypoint %s knows now", js_str(health, "from", ""));
    } else {
        line(file, "health", "from configuration only: %s", js_str(health, "reason", ""));
    }
}

static void print_forward(const json_t *http, FILE *file) {
    size_t i;
    json_t *item;
    char time[2][32];
    if (js_get(http, "destinations") == NULL) {
        return;
    }
    print_health(js_get(http, "health"), file);
    line(file, "timeout", "%s, of each try %s", time_text(js_int(http, "timeoutMs", 0), time[0]),
         time_text(js_int(http, "perTryTimeoutMs", 0), time[1]));
    print_retries(js_get(http, "retries"), file);
    json_array_foreach(js_get(http, "mirrors"), i, item) {
        print_destination(http, item, i == 0 ? "mirrors" : "", file);
    }
    json_array_foreach(js_get(http, "destinations"), i, item) {
        print_destination(http, item, i == 0 ? "upstreams" : "", file);
    }
}

void explain_print_http(const json_t *http, FILE *file) {
    size_t i;
    json_t *item;
    if (http == NULL) {
        return;
    }
    line(file, "request", "%s %s, host %s", js_str(http, "request.method", ""),
         js_str(http, "request.path", ""), js_str(http, "request.authority", ""));
    json_array_foreach(js_get(http, "request.headers"), i, item) {
        line(file, "", "%s", json_string_value(item));
    }
    if (js_get(http, "unseenBecause") != NULL) {
        print_unseen(http, file);
        return;
    }
    line(file, "read by", "waypoint %s", js_str(http, "waypoint", ""));
    if (js_str(http, "canary", "")[0] != '\0') {
        line(file, "canary", "%s has %" JSON_INTEGER_FORMAT " %% of new flows",
             js_str(http, "canary", ""),
             json_integer_value(json_object_get(http, "canaryPercent")));
    }
    print_policies(js_get(http, "policies"), file);
    if (!js_bool(http, "policies.allowed", true)) {
        return;
    }
    print_rules(http, file);
    print_fault(js_get(http, "fault"), file);
    if (js_get(http, "cors") != NULL) {
        line(file, "cors", "%s", js_str(http, "cors", ""));
    }
    if (js_get(http, "wrongHost") != NULL) {
        line(file, "route", "none: Host is no name under %s", js_str(http, "wrongHost", ""));
    }
    print_answer(js_get(http, "answer"), "answer", "", file);
    print_forward(http, file);
}

// SPDX-License-Identifier: Apache-2.0
#include <string.h>

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

static void print_source(const json_t *out, FILE *file) {
    const json_t *source = js_get(out, "source");
    fprintf(file, "%s -> %s\n\n", js_str(out, "from", ""), js_str(out, "to", ""));
    fprintf(file, "%-12s %s on %s", "source", js_str(source, "workload", ""),
            js_str(source, "node", ""));
    const char *zone = js_str(source, "zone", "");
    fprintf(file, zone[0] != '\0' ? " (%s)" : "%s", zone);
    for (size_t i = 0; i < js_len(source, "ips"); i++) {
        fprintf(file, ", %s", json_string_value(json_array_get(js_get(source, "ips"), i)));
    }
    fputc('\n', file);
    line(file, "identity", "%s", js_str(source, "identity", "none"));
    bool is_captured = js_bool(out, "capture.captured", false);
    line(file, "captured", "%s: %s", is_captured ? "yes" : "no",
         js_str(out, "capture.because", ""));
    if (!is_captured) {
        line(file, "", "the kernel connects; the flow is plain and has no identity");
    }
}

static void print_dns(const json_t *dns, FILE *file) {
    if (dns == NULL) {
        return;
    }
    const char *by = js_str(dns, "by", ""), *service = js_str(dns, "service", NULL);
    if (service == NULL) {
        line(file, "dns", "%s: %s", js_str(dns, "host", ""), js_str(dns, "result", ""));
        return;
    }
    line(file, "dns", "%s is %s (service %s): %s, says %s", js_str(dns, "host", ""),
         js_str(dns, "name", ""), service, js_str(dns, "address", js_str(dns, "result", "")), by);
}

static void print_route(const json_t *route, FILE *file) {
    size_t i;
    json_t *item;
    if (route == NULL) {
        return;
    }
    json_array_foreach(js_get(route, "trace"), i, item) {
        line(file, i == 0 ? "route" : "", "%s", json_string_value(item));
    }
    const char *action = js_str(route, "action", "");
    if (strcmp(action, "HBONE") == 0) {
        line(file, "decision", "tunnel to %s%s, CONNECT %s", js_str(route, "target", ""),
             js_bool(route, "waypoint", false) ? " (a waypoint)" : "",
             js_str(route, "authority", ""));
        json_array_foreach(js_get(route, "peerIdentities"), i, item) {
            line(file, "", "%s %s", i == 0 ? "the peer must show" : "or", json_string_value(item));
        }
    } else if (strcmp(action, "REFUSE") == 0) {
        line(file, "decision", "refused: %s", js_str(route, "reason", ""));
    } else {
        line(file, "decision", "plain TCP to %s", js_str(route, "target", ""));
    }
}

static void print_inbound(const json_t *inbound, FILE *file) {
    size_t i;
    json_t *policy;
    if (js_get(inbound, "connectStatus") != NULL) {
        long long status = js_int(inbound, "connectStatus", 0);
        line(file, "", "    inbound: %lld%s%s", status, status == 200 ? " -> " : " ",
             status == 200 ? js_str(inbound, "upstream", "") : js_str(inbound, "reason", ""));
    } else {
        line(file, "", "    inbound: plaintext, %scaptured by its ztun: %s",
             js_bool(inbound, "captured", false) ? "" : "not ",
             js_str(inbound, "capturedBecause", ""));
    }
    json_array_foreach(js_get(inbound, "policies"), i, policy) {
        fprintf(file, "%-12s     %s %s (%s%s): ", "", js_str(policy, "action", ""),
                js_str(policy, "policy", ""), js_str(policy, "scope", ""),
                js_bool(policy, "dryRun", false) ? ", dry run" : "");
        if (js_bool(policy, "matches", false)) {
            fprintf(file, "rule %lld matches: %s\n", js_int(policy, "rule", 0),
                    js_str(policy, "ruleText", ""));
        } else {
            fputs("no rule matches\n", file);
        }
    }
    if (js_str(inbound, "dryRunDeniedBy", NULL) != NULL) {
        line(file, "", "    dry run: would be denied by %s", js_str(inbound, "dryRunDeniedBy", ""));
    }
    const char *reason = js_str(inbound, "reason", "");
    bool is_allowed = js_bool(inbound, "allowed", false);
    bool says_so = strncmp(reason, "allowed by", strlen("allowed by")) == 0;
    line(file, "", "    %s%s", says_so ? "" : is_allowed ? "allowed: " : "denied: ", reason);
}

static void print_candidates(const json_t *list, FILE *file) {
    size_t i;
    json_t *item;
    json_array_foreach(list, i, item) {
        const char *zone = js_str(item, "zone", ""), *out = js_str(item, "out", "");
        char *place = xasprintf("on %s%s%s%s", js_str(item, "node", ""),
                                zone[0] != '\0' ? " (" : "", zone, zone[0] != '\0' ? ")" : "");
        line(file, i == 0 ? "endpoints" : "", "%c %s %s %s %s%s%s",
             js_bool(item, "chosen", false) ? '*' : '-', js_str(item, "workload", ""),
             js_str(item, "target", js_str(item, "ip", "")), place, js_str(item, "protocol", ""),
             out[0] != '\0' ? " out: " : "", out);
        free(place);
        if (js_get(item, "inbound") != NULL) {
            print_inbound(js_get(item, "inbound"), file);
        }
    }
}

void explain_print(const json_t *out, FILE *file) {
    print_source(out, file);
    print_dns(js_get(out, "dns"), file);
    const char *destination = js_str(out, "destination", NULL);
    if (destination != NULL) {
        line(file, "destination", "%s", destination);
    }
    print_route(js_get(out, "route"), file);
    print_candidates(js_get(out, "candidates"), file);
    explain_print_http(js_get(out, "http"), file);
    const json_t *allowed = js_get(out, "verdict.allowed");
    line(file, "verdict", "%s: %s",
         json_is_null(allowed)   ? "UNKNOWN"
         : json_is_true(allowed) ? "ALLOWED"
                                 : "REFUSED",
         js_str(out, "verdict.text", ""));
    size_t i;
    json_t *hop;
    json_array_foreach(js_get(out, "hops"), i, hop) {
        explain_print_hop(hop, file);
    }
}

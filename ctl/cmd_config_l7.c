// SPDX-License-Identifier: Apache-2.0
//
// What a waypoint serves: columns and words are those of istioctl's proxy-config where it has them,
// followed by what is in use now.
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "common/base/buf.h"
#include "ctl/cmd_config.h"
#include "ctl/local_json.h"

// ---- selecting ---------------------------------------------------------------------------------

static bool is_wanted(const char *wanted, const char *text) {
    return wanted == NULL || strcasecmp(wanted, text) == 0;
}

static bool has_port(const json_t *ports, uint16_t port) {
    size_t i;
    json_t *item;
    json_array_foreach(ports, i, item) {
        if (js_int(item, "port", 0) == port) {
            return true;
        }
    }
    return port == 0;
}

static bool is_selected(const json_t *item, enum config_noun noun,
                        const struct config_filter *filter) {
    if (!is_wanted(filter->ns, js_str(item, "namespace", "")) ||
        !is_wanted(filter->fqdn, js_str(item, "host", ""))) {
        return false;
    }
    if (noun == CONFIG_ROUTE) {
        return has_port(js_get(item, "ports"), filter->port);
    }
    return is_wanted(filter->subset, js_str(item, "subset", "")) &&
           (filter->port == 0 || filter->port == js_int(item, "port", 0));
}

// A row for each port of each service: what a CONNECT may ask for.
static void add_destinations(const json_t *l7, const struct config_filter *filter, json_t *list) {
    size_t i, k, v;
    json_t *service, *port, *vip;
    json_array_foreach(js_get(l7, "routes"), i, service) {
        if (!is_selected(service, CONFIG_ROUTE, filter)) {
            continue;
        }
        json_array_foreach(js_get(service, "ports"), k, port) {
            json_array_foreach(js_get(service, "vips"), v, vip) {
                long long number = js_int(port, "port", 0);
                if (filter->port != 0 && filter->port != number) {
                    continue;
                }
                bool is_v6 = strchr(json_string_value(vip), ':') != NULL;
                char *match =
                    xasprintf(is_v6 ? "[%s]:%lld" : "%s:%lld", json_string_value(vip), number);
                json_array_append_new(list, json_pack("{s:s, s:s, s:s, s:I}", "match", match,
                                                      "protocol", js_str(port, "protocol", ""),
                                                      "host", js_str(service, "host", ""), "port",
                                                      (json_int_t)number));
                free(match);
            }
        }
    }
}

static json_t *select_listeners(const json_t *l7, const struct config_filter *filter) {
    json_t *list = json_deep_copy(js_get(l7, "listeners"));
    size_t i;
    json_t *item;
    bool is_narrow = filter->ns != NULL || filter->fqdn != NULL;
    json_array_foreach(list, i, item) {
        if (strcmp(js_str(item, "protocol", ""), "HBONE") == 0) {
            add_destinations(l7, filter, js_array_at(item, "destinations"));
        } else if (is_narrow || filter->port != 0) {
            json_array_remove(list, i--);
        }
    }
    return list;
}

json_t *config_select_l7(const json_t *dump, enum config_noun noun,
                         const struct config_filter *filter) {
    const json_t *l7 = js_get(dump, "l7");
    size_t i, k;
    json_t *item, *endpoint;
    if (!json_is_object(l7)) {
        return NULL;
    }
    if (noun == CONFIG_LISTENER) {
        return select_listeners(l7, filter);
    }
    json_t *list = json_array();
    json_array_foreach(js_get(l7, noun == CONFIG_ROUTE ? "routes" : "clusters"), i, item) {
        if (!is_selected(item, noun, filter)) {
            continue;
        }
        if (noun != CONFIG_ENDPOINT) {
            json_array_append(list, item);
            continue;
        }
        json_array_foreach(js_get(item, "endpoints"), k, endpoint) {
            if (filter->address == NULL || strncmp(js_str(endpoint, "address", ""), filter->address,
                                                   strlen(filter->address)) == 0) {
                json_t *copy = json_copy(endpoint);
                json_object_set(copy, "cluster", json_object_get(item, "name"));
                json_array_append_new(list, copy);
            }
        }
    }
    return list;
}

// ---- tables ------------------------------------------------------------------------------------

static void begin(struct table *table, const char *const *titles, size_t n) {
    table_init(table, n, 2);
    for (size_t i = 0; i < n; i++) {
        table_add(table, titles[i]);
    }
}

static void fill_listeners(struct table *table, const json_t *list) {
    static const char *const titles[] = {"NAME", "ADDRESS", "STATE", "MATCH", "DESTINATION"};
    size_t i, k;
    json_t *item, *to;
    begin(table, titles, ARRAY_LEN(titles));
    json_array_foreach(list, i, item) {
        bool is_hbone = js_get(item, "destinations") != NULL;
        const char *state = js_bool(item, "open", false) ? "open" : "closed";
        if (!is_hbone || js_len(item, "destinations") == 0) {
            table_add(table, js_str(item, "name", ""));
            table_add(table, js_str(item, "address", ""));
            table_add(table, state);
            table_add(table, is_hbone ? "CONNECT" : "ALL");
            table_add(table, is_hbone ? "nothing is bound here" : "the process itself");
        }
        json_array_foreach(js_get(item, "destinations"), k, to) {
            const char *protocol = js_str(to, "protocol", "");
            bool is_raw = strcmp(protocol, "TCP") == 0 || strcmp(protocol, "TLS") == 0;
            table_add(table, js_str(item, "name", ""));
            table_add(table, js_str(item, "address", ""));
            table_add(table, state);
            table_addf(table, "CONNECT %s", js_str(to, "match", ""));
            table_addf(table, "%s: %s:%lld", is_raw ? protocol : "Route", js_str(to, "host", ""),
                       js_int(to, "port", 0));
        }
    }
}

// "canary.shop" of an object; "" of a default.
static void add_object(struct table *table, const json_t *from) {
    if (from == NULL) {
        table_add(table, "");
        return;
    }
    const char *kind = js_str(from, "kind", "");
    bool is_usual = strcmp(kind, "VirtualService") == 0 || strcmp(kind, "DestinationRule") == 0;
    table_addf(table, "%s%s%s.%s", is_usual ? "" : kind, is_usual ? "" : " ",
               js_str(from, "name", ""), js_str(from, "namespace", ""));
}

// Where requests go: "web v1 90, web v2 10".
static void add_action(struct table *table, const json_t *rule) {
    struct buf text;
    size_t i;
    json_t *item;
    buf_init(&text, SIZE_MAX);
    if (js_get(rule, "fault") != NULL) {
        buf_append_str(&text, "fault, ");
    }
    if (js_get(rule, "status") != NULL) {
        buf_printf(&text, "%s %lld", js_str(rule, "action", ""), js_int(rule, "status", 0));
    }
    json_array_foreach(js_get(rule, "destinations"), i, item) {
        buf_printf(&text, "%s%s", i > 0 ? ", " : "", js_str(item, "host", ""));
        if (js_int(item, "port", 0) != 0) {
            buf_printf(&text, ":%lld", js_int(item, "port", 0));
        }
        if (js_str(item, "subset", NULL) != NULL) {
            buf_printf(&text, " %s", js_str(item, "subset", ""));
        }
        if (js_len(rule, "destinations") > 1) {
            buf_printf(&text, " (%lld)", js_int(item, "weight", 0));
        }
    }
    json_array_foreach(js_get(rule, "mirrors"), i, item) {
        buf_printf(&text, ", mirror %s", js_str(item, "host", ""));
        if (js_str(item, "subset", NULL) != NULL) {
            buf_printf(&text, " %s", js_str(item, "subset", ""));
        }
    }
    table_add(table, buf_cstr(&text));
    buf_fini(&text);
}

static void fill_routes(struct table *table, const json_t *list) {
    static const char *const titles[] = {"NAME", "DOMAIN", "MATCH", "VIRTUAL SERVICE", "ACTION"};
    size_t i, k;
    json_t *service, *rule;
    begin(table, titles, ARRAY_LEN(titles));
    json_array_foreach(list, i, service) {
        json_array_foreach(js_get(service, "rules"), k, rule) {
            table_add(table, js_str(rule, "name", ""));
            table_add(table, js_str(service, "host", ""));
            table_add(table, js_str(rule, "match", ""));
            add_object(table, js_get(rule, "from"));
            add_action(table, rule);
        }
    }
}

// "2/10", "2/-" without a limit.
static void add_use(struct table *table, const json_t *breaker) {
    if (js_get(breaker, "limit") == NULL) {
        table_addf(table, "%lld/-", js_int(breaker, "used", 0));
    } else {
        table_addf(table, "%lld/%lld", js_int(breaker, "used", 0), js_int(breaker, "limit", 0));
    }
}

static void fill_clusters(struct table *table, const json_t *list) {
    static const char *const titles[] = {"SERVICE FQDN", "PORT",      "SUBSET",  "DESTINATION RULE",
                                         "LB",           "CONNS",     "PENDING", "REQUESTS",
                                         "RETRIES",      "ENDPOINTS", "EJECTED"};
    static const char *const breakers[] = {"breakers.connections", "breakers.pending",
                                           "breakers.requests", "breakers.retries"};
    size_t i;
    json_t *item;
    begin(table, titles, ARRAY_LEN(titles));
    json_array_foreach(list, i, item) {
        const char *subset = js_str(item, "subset", "");
        table_add(table, js_str(item, "host", ""));
        table_addf(table, "%lld", js_int(item, "port", 0));
        table_add(table, subset[0] != '\0' ? subset : "-");
        add_object(table, js_get(item, "from"));
        table_add(table, js_str(item, "loadBalancer", ""));
        for (size_t k = 0; k < ARRAY_LEN(breakers); k++) {
            add_use(table, js_get(item, breakers[k]));
        }
        table_addf(table, "%zu", js_len(item, "endpoints"));
        if (js_bool(item, "outlierDetection", false)) {
            table_addf(table, "%lld", js_int(item, "ejected", 0));
        } else {
            table_add(table, "-");
        }
    }
}

static void fill_endpoints(struct table *table, const json_t *list) {
    static const char *const titles[] = {"ENDPOINT", "STATUS",   "OUTLIER CHECK",
                                         "CLUSTER",  "WORKLOAD", "LOCALITY",
                                         "WEIGHT",   "ACTIVE",   "CONNS"};
    size_t i;
    json_t *item;
    begin(table, titles, ARRAY_LEN(titles));
    json_array_foreach(list, i, item) {
        bool is_ejected = js_bool(item, "ejected", false);
        const char *region = js_str(item, "region", ""), *zone = js_str(item, "zone", "");
        table_add(table, js_str(item, "address", ""));
        table_add(table, js_bool(item, "ready", false) && !is_ejected ? "HEALTHY" : "UNHEALTHY");
        table_add(table, is_ejected ? "FAILED" : "OK");
        table_add(table, js_str(item, "cluster", ""));
        const char *workload = js_str(item, "name", "-"), *ns = js_str(item, "namespace", "");
        table_addf(table, "%s%s%s", workload, ns[0] != '\0' ? "." : "", ns);
        table_addf(table, "%s%s%s", region[0] != '\0' ? region : "-", zone[0] != '\0' ? "/" : "",
                   zone);
        table_addf(table, "%lld", js_int(item, "weight", 0));
        table_addf(table, "%lld", js_int(item, "activeRequests", 0));
        table_addf(table, "%lld", js_int(item, "connections", 0));
    }
}

void config_print_l7(const json_t *list, enum config_noun noun, FILE *out) {
    struct table table;
    switch (noun) {
    case CONFIG_LISTENER:
        fill_listeners(&table, list);
        break;
    case CONFIG_ROUTE:
        fill_routes(&table, list);
        break;
    case CONFIG_CLUSTER:
        fill_clusters(&table, list);
        break;
    default:
        fill_endpoints(&table, list);
        break;
    }
    table_print(&table, out);
    table_fini(&table);
}

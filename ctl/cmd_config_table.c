// SPDX-License-Identifier: Apache-2.0
//
// Columns, order and words are those of istioctl's ztunnel-config (its
// istioctl/pkg/writer/ztunnel/configdump), so that habits and scripts carry over.
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "common/base/buf.h"
#include "ctl/cmd_config.h"
#include "ctl/local_json.h"

// ---- selecting ---------------------------------------------------------------------------------

static const char *text_of(const json_t *object, const char *key) {
    const char *text = json_string_value(json_object_get(object, key));
    return text != NULL ? text : "";
}

static bool matches(const char *wanted, const char *text) {
    return wanted == NULL || strcasecmp(wanted, text) == 0;
}

static bool has_text(const json_t *list, const char *text) {
    for (size_t i = 0; i < json_array_size(list); i++) {
        if (matches(text, json_string_value(json_array_get(list, i)))) {
            return true;
        }
    }
    return false;
}

// "NAME" or "NAME.NAMESPACE".
static bool matches_workload(const char *wanted, const char *ns, const char *name) {
    if (wanted == NULL || strcasecmp(wanted, name) == 0) {
        return true;
    }
    size_t len = strlen(name);
    return strncasecmp(wanted, name, len) == 0 && wanted[len] == '.' &&
           strcasecmp(wanted + len + 1, ns) == 0;
}

static bool is_selected(const json_t *item, enum config_noun noun,
                        const struct config_filter *filter) {
    const json_t *info = noun == CONFIG_CONNECTION ? json_object_get(item, "info") : item;
    const char *ns = text_of(info, "namespace"), *name = text_of(info, "name");
    switch (noun) {
    case CONFIG_WORKLOAD:
        return matches(filter->ns, ns) && matches_workload(filter->workload, ns, name) &&
               matches(filter->node, text_of(item, "node")) &&
               (filter->address == NULL ||
                has_text(json_object_get(item, "workloadIps"), filter->address));
    case CONFIG_CONNECTION:
        return matches(filter->ns, ns) && matches_workload(filter->workload, ns, name);
    case CONFIG_SERVICE:
    case CONFIG_POLICY:
        return matches(filter->ns, ns);
    case CONFIG_CERTIFICATE:
    case CONFIG_ALL:
    case CONFIG_LISTENER: // cmd_config_l7.c's
    case CONFIG_ROUTE:
    case CONFIG_CLUSTER:
    case CONFIG_ENDPOINT:
        return true;
    }
    return true;
}

static int compare_fields(const json_t *a, const json_t *b, const char *const keys[3]) {
    int order = 0;
    for (size_t i = 0; i < 3 && keys[i] != NULL && order == 0; i++) {
        order = strcmp(text_of(a, keys[i]), text_of(b, keys[i]));
    }
    return order;
}

static int by_ns_name(const void *a, const void *b) {
    static const char *const keys[3] = {"namespace", "name", "hostname"};
    return compare_fields(*(json_t *const *)a, *(json_t *const *)b, keys);
}

static int by_info(const void *a, const void *b) {
    static const char *const keys[3] = {"namespace", "name", NULL};
    return compare_fields(json_object_get(*(json_t *const *)a, "info"),
                          json_object_get(*(json_t *const *)b, "info"), keys);
}

// Values of an array or an object.
static json_t **values_of(const json_t *list, size_t *ret_n) {
    size_t n = 0;
    json_t **items = xcalloc(json_array_size(list) + json_object_size(list) + 1, sizeof(*items));
    if (json_is_array(list)) {
        for (; n < json_array_size(list); n++) {
            items[n] = json_array_get(list, n);
        }
    } else {
        const char *key;
        json_t *value;
        json_object_foreach((json_t *)list, key, value) {
            items[n++] = value;
        }
    }
    *ret_n = n;
    return items;
}

json_t *config_select(const json_t *dump, enum config_noun noun,
                      const struct config_filter *filter) {
    static const char *const keys[] = {"workloads", "services", "policies", "certificates",
                                       "workloadState"};
    json_t *selected = json_array();
    size_t n = 0;
    CHECK((size_t)noun < ARRAY_LEN(keys));
    json_t **items = values_of(json_object_get(dump, keys[noun]), &n);
    if (noun != CONFIG_CERTIFICATE) { // sorted by the proxy, as istioctl leaves them
        qsort(items, n, sizeof(*items), noun == CONFIG_CONNECTION ? by_info : by_ns_name);
    }
    for (size_t i = 0; i < n; i++) {
        if (is_selected(items[i], noun, filter)) {
            json_array_append(selected, items[i]);
        }
    }
    free(items);
    return selected;
}

// ---- names -------------------------------------------------------------------------------------

static const char *after_slash(const char *text) {
    const char *slash = strchr(text, '/');
    return slash != NULL ? slash + 1 : text;
}

// "ns/hostname" and "network/vip" of every service -> its name: what waypoint.destination says.
static json_t *index_waypoints(const json_t *dump) {
    json_t *names = json_object();
    size_t i, k;
    json_t *service, *vip;
    json_array_foreach(json_object_get(dump, "services"), i, service) {
        json_t *name = json_object_get(service, "name");
        char *key = xasprintf("%s/%s", text_of(service, "namespace"), text_of(service, "hostname"));
        json_object_set(names, key, name);
        free(key);
        json_array_foreach(json_object_get(service, "vips"), k, vip) {
            json_object_set(names, json_string_value(vip), name);
        }
    }
    return names;
}

static const char *waypoint_of(const json_t *item, const json_t *names) {
    const json_t *waypoint = json_object_get(item, "waypoint");
    if (!json_is_object(waypoint)) {
        return "None";
    }
    const char *name = json_string_value(json_object_get(names, text_of(waypoint, "destination")));
    return name != NULL ? name : "NA";
}

static void add_joined(struct table *table, const json_t *list, bool is_network_ip,
                       const char *fallback) {
    struct buf text;
    buf_init(&text, SIZE_MAX);
    for (size_t i = 0; i < json_array_size(list); i++) {
        const char *item = json_string_value(json_array_get(list, i));
        buf_printf(&text, "%s%s", i > 0 ? "," : "", is_network_ip ? after_slash(item) : item);
    }
    table_add(table, text.len > 0 ? buf_cstr(&text) : fallback);
    buf_fini(&text);
}

static void add_head(struct table *table, const char *const *titles) {
    for (size_t i = 0; i < table->n_cols; i++) {
        table_add(table, titles[i]);
    }
}

// ---- the tables --------------------------------------------------------------------------------

static void fill_workloads(struct table *table, const json_t *dump, const json_t *list) {
    static const char *const titles[] = {"NAMESPACE", "POD NAME", "ADDRESS",
                                         "NODE",      "WAYPOINT", "PROTOCOL"};
    json_t *names = index_waypoints(dump);
    size_t i;
    json_t *item;
    table_init(table, ARRAY_LEN(titles), 1);
    add_head(table, titles);
    json_array_foreach(list, i, item) {
        table_add(table, text_of(item, "namespace"));
        table_add(table, text_of(item, "name"));
        add_joined(table, json_object_get(item, "workloadIps"), false, text_of(item, "hostname"));
        table_add(table, text_of(item, "node"));
        table_add(table, waypoint_of(item, names));
        table_add(table, text_of(item, "protocol"));
    }
    json_decref(names);
}

static void fill_services(struct table *table, const json_t *dump, const json_t *list) {
    static const char *const titles[] = {"NAMESPACE", "SERVICE NAME", "SERVICE VIP", "WAYPOINT",
                                         "ENDPOINTS"};
    json_t *names = index_waypoints(dump), *states = json_object();
    size_t i;
    json_t *item, *endpoint;
    const char *uid;
    table_init(table, ARRAY_LEN(titles), 1);
    add_head(table, titles);
    json_array_foreach(json_object_get(dump, "workloads"), i, item) {
        json_object_set(states, text_of(item, "uid"), json_object_get(item, "status"));
    }
    json_array_foreach(list, i, item) {
        json_t *endpoints = json_object_get(item, "endpoints");
        size_t n_healthy = 0;
        json_object_foreach(endpoints, uid, endpoint) {
            n_healthy += strcmp(text_of(states, text_of(endpoint, "workloadUid")), "Healthy") == 0;
        }
        table_add(table, text_of(item, "namespace"));
        table_add(table, text_of(item, "name"));
        add_joined(table, json_object_get(item, "vips"), true, "");
        table_add(table, waypoint_of(item, names));
        table_addf(table, "%zu/%zu", n_healthy, json_object_size(endpoints));
    }
    json_decref(states);
    json_decref(names);
}

static void fill_policies(struct table *table, const json_t *list) {
    static const char *const titles[] = {"NAMESPACE", "POLICY NAME", "ACTION", "SCOPE"};
    size_t i;
    json_t *item;
    table_init(table, ARRAY_LEN(titles), 1);
    add_head(table, titles);
    json_array_foreach(list, i, item) {
        table_add(table, text_of(item, "namespace"));
        table_add(table, text_of(item, "name"));
        table_add(table, text_of(item, "action"));
        table_add(table, text_of(item, "scope"));
    }
}

bool config_decimal_to_hex(const char *decimal, char *ret_hex, size_t cap) {
    uint8_t bytes[64] = {0}; // little end first
    size_t len = 1, n = 0;
    if (*decimal == '\0') {
        return false;
    }
    for (; *decimal != '\0'; decimal++) {
        if (*decimal < '0' || *decimal > '9') {
            return false;
        }
        unsigned carry = (unsigned)(*decimal - '0');
        for (size_t i = 0; i < len; i++) {
            carry += bytes[i] * 10u;
            bytes[i] = (uint8_t)carry;
            carry >>= 8;
        }
        if (carry != 0) {
            if (len == sizeof(bytes)) {
                return false;
            }
            bytes[len++] = (uint8_t)carry;
        }
    }
    for (size_t i = len; i-- > 0;) {
        n += (size_t)snprintf(ret_hex + n, n < cap ? cap - n : 0, n == 0 ? "%x" : "%02x", bytes[i]);
    }
    return n < cap;
}

static void add_cert(struct table *table, const json_t *identity, const char *type,
                     const char *state, const json_t *cert, const char *now) {
    const char *from = text_of(cert, "validFrom"), *to = text_of(cert, "expirationTime");
    char hex[160];
    bool has_serial = config_decimal_to_hex(text_of(cert, "serialNumber"), hex, sizeof(hex));
    // All times are RFC 3339 in UTC: they compare as texts.
    bool is_valid = from[0] != '\0' && strcmp(from, now) < 0 && strcmp(now, to) < 0;
    table_add(table, text_of(identity, "identity"));
    table_add(table, type);
    table_add(table, state);
    table_add(table, is_valid ? "true" : "false");
    table_add(table, has_serial ? hex : "NA");
    table_add(table, to[0] != '\0' ? to : "NA");
    table_add(table, from[0] != '\0' ? from : "NA");
}

static void fill_certificates(struct table *table, const json_t *list, const char *now) {
    static const char *const titles[] = {"CERTIFICATE NAME", "TYPE",      "STATUS",    "VALID CERT",
                                         "SERIAL NUMBER",    "NOT AFTER", "NOT BEFORE"};
    size_t i, k;
    json_t *item, *cert;
    table_init(table, ARRAY_LEN(titles), 5);
    add_head(table, titles);
    json_array_foreach(list, i, item) {
        const char *state = text_of(item, "state");
        state = strstr(state, "Unavailable") != NULL ? "Unavailable" : state;
        json_t *chain = json_object_get(item, "certChain");
        if (json_array_size(chain) == 0) {
            add_cert(table, item, "NA", state, NULL, now);
            continue;
        }
        json_array_foreach(chain, k, cert) {
            add_cert(table, item, k == 0 ? "Leaf" : "Intermediate", state, cert, now);
        }
        json_array_foreach(json_object_get(item, "rootCerts"), k, cert) {
            add_cert(table, item, "Root", state, cert, now);
        }
    }
}

// Address -> name: services by their first VIP, then workloads by their first address.
static json_t *index_addresses(const json_t *dump) {
    json_t *names = json_object();
    size_t i;
    json_t *item;
    json_array_foreach(json_object_get(dump, "workloads"), i, item) {
        const char *ip = json_string_value(json_array_get(json_object_get(item, "workloadIps"), 0));
        char *name = xasprintf("%s.%s", text_of(item, "name"), text_of(item, "namespace"));
        json_object_set_new(names, ip != NULL ? ip : "", json_string(name));
        free(name);
    }
    json_array_foreach(json_object_get(dump, "services"), i, item) {
        const char *vip = json_string_value(json_array_get(json_object_get(item, "vips"), 0));
        json_object_set(names, vip != NULL ? after_slash(vip) : "",
                        json_object_get(item, "hostname"));
    }
    return names;
}

static void add_address(struct table *table, const char *text, const json_t *names) {
    const char *colon = strrchr(text, ':');
    const char *name = NULL;
    if (names != NULL && colon != NULL) {
        bool has_brackets = text[0] == '[' && colon > text + 1 && colon[-1] == ']';
        char *ip = has_brackets ? xstrndup(text + 1, (size_t)(colon - text) - 2)
                                : xstrndup(text, (size_t)(colon - text));
        name = json_string_value(json_object_get(names, ip));
        free(ip);
    }
    if (name != NULL) {
        table_addf(table, "%s%s", name, colon);
    } else {
        table_add(table, text);
    }
}

static void add_flows(struct table *table, const json_t *state, bool is_outbound,
                      const json_t *names) {
    const json_t *info = json_object_get(state, "info");
    size_t i;
    json_t *flow;
    json_array_foreach(js_get(state, is_outbound ? "connections.outbound" : "connections.inbound"),
                       i, flow) {
        const char *src = text_of(flow, "src"), *actual = text_of(flow, "actualDst");
        table_addf(table, "%s.%s", text_of(info, "name"), text_of(info, "namespace"));
        table_add(table, is_outbound ? "Outbound" : "Inbound");
        add_address(table, is_outbound ? src : actual, names);
        add_address(table, is_outbound ? actual : src, names);
        // Inbound: already a service's name.
        add_address(table, text_of(flow, "originalDst"), is_outbound ? names : NULL);
        table_add(table, text_of(flow, "protocol"));
    }
}

static void fill_connections(struct table *table, const json_t *dump, const json_t *list,
                             const struct config_filter *filter) {
    static const char *const titles[] = {"WORKLOAD", "DIRECTION",     "LOCAL",
                                         "REMOTE",   "REMOTE TARGET", "PROTOCOL"};
    json_t *names = filter->is_raw ? NULL : index_addresses(dump);
    size_t i;
    json_t *state;
    table_init(table, ARRAY_LEN(titles), 1);
    add_head(table, titles);
    json_array_foreach(list, i, state) {
        if (filter->direction == NULL || strcmp(filter->direction, "inbound") == 0) {
            add_flows(table, state, false, names);
        }
        if (filter->direction == NULL || strcmp(filter->direction, "outbound") == 0) {
            add_flows(table, state, true, names);
        }
    }
    json_decref(names);
}

void config_print_table(const json_t *dump, enum config_noun noun,
                        const struct config_filter *filter, const char *now, FILE *out) {
    struct table table;
    json_t *list = config_select(dump, noun, filter);
    switch (noun) {
    case CONFIG_WORKLOAD:
        fill_workloads(&table, dump, list);
        break;
    case CONFIG_SERVICE:
        fill_services(&table, dump, list);
        break;
    case CONFIG_POLICY:
        fill_policies(&table, list);
        break;
    case CONFIG_CERTIFICATE:
        fill_certificates(&table, list, now);
        break;
    default:
        fill_connections(&table, dump, list, filter);
        break;
    }
    table_print(&table, out);
    table_fini(&table);
    json_decref(list);
}

// SPDX-License-Identifier: Apache-2.0
//
// What the waypoint does with a request, step by step in its order: which rule, fault, CORS, the
// rule's action.
#include "ctl/cmd_explain_http.h"
#include "ctl/cmd_explain_live.h"

#include <stdlib.h>
#include <string.h>

#include "common/base/buf.h"
#include "common/l7/l7_cors.h"
#include "common/l7/l7_fields.h"
#include "common/l7/l7_name.h"
#include "common/l7/l7_reply.h"
#include "common/l7/l7_retry.h"
#include "common/l7/l7_rewrite.h"
#include "common/l7/l7_timeout.h"
#include "common/mesh/rbac.h"
#include "ctl/local_json.h"

struct http { // one explanation
    struct explain *explain;
    struct arena arena;
    struct service *service; // that is called
    size_t port; // index in service->ports
    const char *waypoint; // that reads the rules
    json_t *out;
    struct http_head head; // as it goes on
    struct l7_fields fields;
    struct l7_request matched;
    struct l7_match match;
    const struct l7_route *route;
};

static void set_text(json_t *object, const char *key, const char *text) {
    json_object_set_new(object, key, json_string(text));
}

static void set_slice(json_t *object, const char *key, struct slice text) {
    json_object_set_new(object, key, json_stringn((const char *)text.ptr, text.len));
}

static void set_number(json_t *object, const char *key, uint64_t number) {
    json_object_set_new(object, key, json_integer((json_int_t)number));
}

static void set_percent(json_t *object, const char *key, uint32_t ppm) {
    json_object_set_new(object, key, json_real(ppm / 1e4));
}

static char *xasprint_object(const struct l7_source *source) {
    return xasprintf("%s %s/%s", source->kind, source->ns, source->name);
}

void explain_put_source(json_t *object, const struct l7_source *source, struct kobj_pos pos) {
    char *name = xasprint_object(source);
    set_text(object, "object", name);
    set_text(object, "file", source->file != NULL ? source->file : "");
    set_number(object, "line", pos.line);
    set_number(object, "column", pos.col);
    free(name);
}

// ---- whether rules apply at all ----------------------------------------------------------------

// Why no waypoint sees the request as HTTP; heap, NULL: one does.
static char *why_unseen(const struct http *http, const struct route *route) {
    const struct service *service = http->service;
    if (route == NULL) {
        return xstrdup("the client is not captured, so its requests go past the mesh");
    }
    if (!route->via_waypoint) {
        return service->waypoint[0] == '\0'
                   ? xasprintf("service %s has no waypoint (label istio.io/use-waypoint)",
                               service->hostname)
                   : xasprintf("the flow does not go to the waypoint of service %s",
                               service->hostname);
    }
    const struct service_port *port = &service->ports[http->port];
    if (port->app_protocol == APP_TCP || port->app_protocol == APP_TLS) {
        return xasprintf("port %u of service %s is declared as %s: its bytes are carried unread",
                         port->port, service->hostname,
                         port->app_protocol == APP_TCP ? "TCP" : "TLS");
    }
    return NULL;
}

static void add_unseen(json_t *list, const struct l7_source *source, struct kobj_pos pos) {
    json_t *item = json_object(), *other;
    size_t i;
    explain_put_source(item, source, pos);
    json_array_foreach(list, i, other) {
        if (strcmp(js_str(other, "object", ""), js_str(item, "object", "")) == 0) {
            json_decref(item);
            return;
        }
    }
    json_array_append_new(list, item);
}

struct unseen {
    const struct service *service;
    json_t *list;
};

// A policy that targets the service: only a waypoint enforces it.
static int add_policy(void *arg, const struct kobj *obj) {
    const struct unseen *unseen = arg;
    const struct kobj_authz_policy *policy = obj->authz;
    for (uint32_t i = 0; strcmp(obj->meta.ns, unseen->service->ns) == 0 && i < policy->n_targets;
         i++) {
        const struct kobj_policy_target *target = &policy->targets[i];
        if (strcmp(target->kind, "Service") == 0 &&
            strcmp(target->name, unseen->service->name) == 0) {
            const struct l7_source source = {.kind = obj->kind_name,
                                             .ns = obj->meta.ns,
                                             .name = obj->meta.name,
                                             .file = obj->file};
            add_unseen(unseen->list, &source, obj->pos);
        }
    }
    return 0;
}

// L7 resources of the service that nobody reads.
static json_t *list_unseen(const struct http *http) {
    const struct snapshot *snap = http->explain->snap;
    struct leaf *routes = snapshot_l7_routes(snap, http->service->leaf.key);
    struct leaf *policy = snapshot_l7_policy(snap, http->service->leaf.key);
    json_t *list = json_array();
    const struct l7_routes *table = routes != NULL ? l7_routes_of_leaf(routes) : NULL;
    for (size_t i = 0; i < l7_routes_count(table); i++) {
        const struct l7_route *route = l7_routes_at(table, i);
        add_unseen(list, route->source, route->pos);
    }
    const struct l7_source *sources;
    size_t n = l7_policy_sources(policy != NULL ? l7_policy_of_leaf(policy) : NULL, &sources);
    for (size_t i = 0; i < n; i++) {
        add_unseen(list, &sources[i], (struct kobj_pos){0});
    }
    struct unseen unseen = {.service = http->service, .list = list};
    (void)config_store_each(http->explain->store, KOBJ_AUTHORIZATION_POLICY, add_policy, &unseen);
    return list;
}

// ---- policies ----------------------------------------------------------------------------------

// What the waypoint's AuthorizationPolicies say of the client and the address, before any rule.
// False: the connection is refused.
static bool put_policies(struct http *http, const struct addr *dst) {
    const struct workload *source = http->explain->source;
    char ns[64], name[256];
    struct slice key = slice_str(http->waypoint), space = SLICE_LIT(""), host = key;
    (void)slice_split(key, '/', &space, &host);
    (void)slice_split(host, '.', &host, &key);
    snprintf(ns, sizeof(ns), "%.*s", SLICE_ARG(space));
    snprintf(name, sizeof(name), "%.*s", SLICE_ARG(host));
    const struct service *own = snapshot_service(http->explain->snap, http->waypoint);
    const struct rbac_target target = {.service = http->service,
                                       .gateway_ns = ns,
                                       .gateway = name,
                                       .gateway_class = own != NULL ? own->gateway_class : ""};
    const struct rbac_request request = {.source_ip =
                                             source->n_ips > 0 ? source->ips[0] : (struct ip){0},
                                         .source_identity = slice_str(source->common->identity),
                                         .destination = *dst};
    struct rbac_verdict verdict;
    rbac_check_waypoint(http->explain->snap, &target, &request, &verdict);
    json_t *out = json_pack("{s:b, s:s}", "allowed", verdict.is_allowed, "reason", verdict.reason);
    if (verdict.dry_run_denies) {
        set_slice(out, "dryRunDeniedBy", verdict.dry_run_policy->leaf.key);
    }
    json_object_set_new(http->out, "policies", out);
    return verdict.is_allowed;
}

// ---- rules -------------------------------------------------------------------------------------

static const char *label_value(const struct workload *workload, const char *key) {
    for (size_t i = 0; i < workload->common->n_labels; i++) {
        if (strcmp(workload->common->labels[i].key, key) == 0) {
            return workload->common->labels[i].value;
        }
    }
    return NULL;
}

// What the request has where a condition looks; false: it is absent.
static bool find_have(const struct http *http, const struct l7_trace_step *step,
                      struct buf *scratch, struct slice *ret_have) {
    switch ((enum l7_miss)step->miss) {
    case L7_MISS_PATH:
        *ret_have = http->matched.path;
        return true;
    case L7_MISS_METHOD:
        *ret_have = http->head.method;
        return true;
    case L7_MISS_SCHEME:
        *ret_have = http->matched.scheme;
        return true;
    case L7_MISS_AUTHORITY:
        *ret_have = http->head.authority;
        return ret_have->len > 0;
    case L7_MISS_QUERY:
        return l7_request_query(&http->matched, slice_str(step->name), ret_have);
    default:
        return l7_fields_value(&http->head, slice_str(step->name), scratch, ret_have);
    }
}

// "prefix /api does not match /": of a condition with a value.
static char *why_value(const struct http *http, const struct l7_trace_step *step) {
    static const char *const subjects[] = {[L7_MISS_PATH] = "path",
                                           [L7_MISS_METHOD] = "method",
                                           [L7_MISS_SCHEME] = "scheme",
                                           [L7_MISS_AUTHORITY] = "authority",
                                           [L7_MISS_HEADER] = "header",
                                           [L7_MISS_WITHOUT_HEADER] = "header",
                                           [L7_MISS_QUERY] = "query parameter"};
    static const char *const ways[] = {"presence", "exact", "prefix", "prefix of whole segments",
                                       "regex"};
    const char *subject = subjects[step->miss], *blank = step->name[0] != '\0' ? " " : "";
    const char *way = ways[step->how % ARRAY_LEN(ways)];
    struct slice have = SLICE_LIT("");
    struct buf scratch;
    char *text;
    buf_init(&scratch, SIZE_MAX);
    bool is_there = find_have(http, step, &scratch, &have);
    if (step->miss == L7_MISS_WITHOUT_HEADER) {
        text = step->how == L7_HOW_PRESENT
                   ? xasprintf("header %s is there (withoutHeaders)", step->name)
                   : xasprintf("withoutHeaders: %s `%s` matches header %s `%.*s`%s", way,
                               step->want, step->name, SLICE_ARG(have),
                               is_there ? "" : " (absent counts as empty)");
    } else if (!is_there) {
        text = xasprintf("%s%s%s is absent", subject, blank, step->name);
    } else {
        text = xasprintf("%s%s%s: %s `%s` does not match `%.*s`", subject, blank, step->name, way,
                         step->want, SLICE_ARG(have));
    }
    buf_fini(&scratch);
    return text;
}

static char *why_missed(const struct http *http, const struct l7_trace_step *step) {
    const struct workload *source = http->explain->source;
    const char *have;
    switch ((enum l7_miss)step->miss) {
    case L7_MISS_NONE:
        return xstrdup("matches");
    case L7_MISS_PORT:
        return xasprintf("is for port %u, not %u", step->port, http->matched.port);
    case L7_MISS_GATEWAY:
        return xstrdup("is for gateways, not for the mesh");
    case L7_MISS_SOURCE_LABELS:
        have = label_value(source, step->name);
        return xasprintf("is for clients with the label %s=%s; this one has %s%s", step->name,
                         step->want, have != NULL ? "" : "none", have != NULL ? have : "");
    case L7_MISS_SOURCE_NAMESPACE:
        return xasprintf("is for clients of namespace %s, not %s", step->want, source->ns);
    default:
        return why_value(http, step);
    }
}

static void put_trace(struct http *http, const struct l7_routes *routes) {
    size_t n = l7_routes_count(routes);
    json_t *list = json_array();
    struct l7_trace trace = {.steps = xcalloc(n + 1, sizeof(*trace.steps)), .cap = n};
    l7_routes_match(routes, &http->matched, &trace, &http->match);
    for (size_t i = 0; i < MIN(trace.n, n); i++) {
        const struct l7_trace_step *step = &trace.steps[i];
        char *reason = why_missed(http, step);
        json_t *item = json_pack("{s:s, s:b, s:s}", "rule", step->route->name, "matches",
                                 step->miss == L7_MISS_NONE, "reason", reason);
        explain_put_source(item, step->route->source, step->pos);
        json_array_append_new(list, item);
        free(reason);
    }
    json_object_set_new(http->out, "rules", list);
    http->route = http->match.route;
    char name[L7_NAME_MAX];
    if (http->service->is_dynamic &&
        !l7_name_under(http->service->hostname, http->explain->request->head.authority, name)) {
        http->route = NULL; // the one kind of service where it is Host that decides
        set_text(http->out, "wrongHost", http->service->hostname);
    }
    free(trace.steps);
}

static void put_route(struct http *http) {
    const struct l7_route *route = http->route;
    if (route == NULL) {
        json_object_set_new(http->out, "route", json_null());
        return;
    }
    json_t *out = json_pack("{s:s, s:b}", "name", route->name, "default", route->is_default);
    if (route->source != NULL) {
        explain_put_source(out, route->source, route->pos);
    }
    json_object_set_new(http->out, "route", out);
}

// ---- answers of the waypoint itself ------------------------------------------------------------

static void put_reply(struct http *http, const struct l7_reply_spec *spec, json_t *out) {
    struct l7_reply_spec copy = *spec;
    struct l7_reply reply;
    struct buf flags;
    copy.is_grpc = http->explain->request->is_grpc;
    CHECK(l7_reply_build(&copy, &http->arena, &reply)); // the arena has no limit
    buf_init(&flags, 256);
    l7_flags_append(reply.flags, &flags);
    set_number(out, "status", reply.status);
    if (reply.grpc_status >= 0) {
        set_number(out, "grpcStatus", (uint64_t)reply.grpc_status);
    }
    set_slice(out, "flags", buf_slice(&flags));
    set_slice(out, "details", reply.details);
    set_slice(out, "body", reply.body);
    if (spec->location.len > 0) {
        set_slice(out, "location", spec->location);
    }
    buf_fini(&flags);
}

static void put_answer(struct http *http, const struct l7_reply_spec *spec) {
    json_t *out = json_object();
    put_reply(http, spec, out);
    json_object_set_new(http->out, "answer", out);
}

static void put_fault(struct http *http) {
    const struct l7_fault *fault = http->route != NULL ? http->route->fault : NULL;
    if (fault == NULL) {
        return;
    }
    json_t *out = json_object();
    if (fault->delay_ppm > 0) {
        set_number(out, "delayMs", fault->delay_ms);
        set_percent(out, "delayPercent", fault->delay_ppm);
    }
    if (fault->abort_ppm > 0) {
        struct l7_reply_spec spec = {.kind = L7_REPLY_FAULT_ABORT,
                                     .status = fault->status,
                                     .grpc_status = fault->status != 0 ? -1 : fault->grpc_status};
        json_t *reply = json_object();
        put_reply(http, &spec, reply);
        json_object_set_new(out, "abort", reply);
        set_percent(out, "abortPercent", fault->abort_ppm);
    }
    json_object_set_new(http->out, "fault", out);
}

// True: a preflight that is answered here.
static bool put_cors(struct http *http) {
    static const char *const verdicts[] = {
        [L7_CORS_NONE] = "the policy does not concern this request",
        [L7_CORS_ACTUAL] = "the response gets the permission's headers",
        [L7_CORS_PREFLIGHT] = "a preflight, answered here with the permission",
        [L7_CORS_REFUSED] = "a preflight, answered here without permission"};
    if (http->route->cors == NULL) {
        return false;
    }
    enum l7_cors_verdict verdict = l7_cors_check(http->route->cors, &http->head);
    set_text(http->out, "cors", verdicts[verdict]);
    return verdict == L7_CORS_PREFLIGHT || verdict == L7_CORS_REFUSED;
}

// ---- forwarding --------------------------------------------------------------------------------

static void put_retries(struct http *http) {
    static const struct {
        uint32_t bit;
        const char *name;
    } conditions[] = {
#define L7_RETRY_ON(name, text) {L7_RETRY_ON_##name, text},
#include "common/l7/l7_retry_on.def"
#undef L7_RETRY_ON
    };
    const struct l7_retry_policy *policy = &http->route->retry;
    struct l7_retry retry;
    l7_retry_init(&retry, policy, &http->explain->request->head);
    json_t *on = json_array();
    for (size_t i = 0; i < ARRAY_LEN(conditions); i++) {
        if ((retry.on & conditions[i].bit) != 0) {
            json_array_append_new(on, json_string(conditions[i].name));
        }
    }
    for (size_t i = 0; i < policy->n_codes; i++) {
        json_array_append_new(on, json_integer(policy->codes[i]));
    }
    json_object_set_new(http->out, "retries",
                        json_pack("{s:i, s:o, s:i, s:i, s:b}", "attempts", (int)retry.n_left, "on",
                                  on, "backoffMs", (int)policy->base_ms, "backoffMaxMs",
                                  (int)policy->max_ms, "avoidsTriedHosts",
                                  policy->avoids_tried_hosts));
}

static void put_mirrors(struct http *http) {
    json_t *list = json_array();
    for (uint32_t i = 0; i < http->route->n_mirrors; i++) {
        const struct l7_mirror *mirror = &http->route->mirrors[i];
        struct explain_upstream upstream = {http->explain, &http->matched, http->service,
                                            http->matched.port};
        const char *host = mirror->cluster.host;
        json_t *item =
            json_pack("{s:s, s:s, s:f}", "host", host[0] != '\0' ? host : http->service->hostname,
                      "subset", mirror->cluster.subset, "percent", mirror->ppm / 1e4);
        set_slice(item, "authority", l7_rewrite_shadow(http->head.authority, &http->arena));
        (void)explain_destination(&upstream, &mirror->cluster, item);
        json_array_append_new(list, item);
    }
    if (http->route->n_mirrors > 0) {
        json_object_set_new(http->out, "mirrors", list);
    } else {
        json_decref(list);
    }
}

static bool has_field(const struct l7_fields *fields, const struct http_field *field) {
    for (size_t i = 0; i < fields->n; i++) {
        if (slice_eq(fields->items[i].name, field->name) &&
            slice_eq(fields->items[i].value, field->value)) {
            return true;
        }
    }
    return false;
}

static void add_fields(const struct l7_fields *of, const struct l7_fields *without, json_t *list) {
    for (size_t i = 0; i < of->n; i++) {
        const struct http_field *field = &of->items[i];
        if (!has_field(without, field)) {
            char *text = xasprintf("%.*s: %.*s", SLICE_ARG(field->name), SLICE_ARG(field->value));
            json_array_append_new(list, json_string(text));
            free(text);
        }
    }
}

// Values that only traffic has stay as they are written.
static void keep_variable(void *arg, enum l7_var var, struct slice format, struct buf *out) {
    (void)arg;
    buf_printf(out, format.len > 0 ? "%%%s(%.*s)%%" : "%%%s%%", l7_var_name(var),
               SLICE_ARG(format));
}

// The request as it leaves for a destination.
static void put_rewritten(struct http *http, const struct l7_cluster *cluster,
                          const struct l7_timeouts *timeouts, json_t *out) {
    struct l7_vars vars = {.request = &http->head, .value = keep_variable};
    struct l7_rewritten rewritten;
    struct l7_fields fields;
    json_t *set = json_array(), *removed = json_array();
    l7_fields_init(&fields, &http->arena, http->fields.items, http->fields.n);
    l7_timeout_consume(&fields);
    l7_timeout_announce(timeouts, http->explain->request->is_grpc, &fields);
    l7_rewrite_request(&http->match, cluster, &http->matched, &vars, &fields, &rewritten);
    add_fields(&fields, &http->fields, set);
    add_fields(&http->fields, &fields, removed);
    json_t *sent = json_pack("{s:o, s:o}", "set", set, "removed", removed);
    set_slice(sent, "path", rewritten.path);
    set_slice(sent, "authority", rewritten.authority);
    json_object_set_new(out, "sent", sent);
}

static void put_destinations(struct http *http, const struct l7_timeouts *timeouts) {
    const struct l7_route *route = http->route;
    struct rand rand = http->explain->rand;
    const struct l7_cluster *drawn = l7_route_cluster(route, &rand);
    json_t *list = json_array();
    for (uint32_t i = 0; i < route->n_clusters; i++) {
        const struct l7_cluster *cluster = &route->clusters[i];
        struct explain_upstream upstream = {http->explain, &http->matched, http->service,
                                            http->matched.port};
        double percent = route->n_clusters == 1
                             ? 100
                             : 100.0 * cluster->weight / (double)MAX(route->weight_sum, 1U);
        json_t *item = json_pack("{s:s, s:s, s:i, s:f, s:b}", "host",
                                 cluster->host[0] != '\0' ? cluster->host : http->service->hostname,
                                 "subset", cluster->subset, "weight", (int)cluster->weight,
                                 "percent", percent, "chosen", cluster == drawn);
        put_rewritten(http, cluster, timeouts, item);
        if (!explain_destination(&upstream, cluster, item)) {
            struct l7_reply_spec spec = {.kind = cluster->no_cluster_status == 500
                                                     ? L7_REPLY_NO_CLUSTER_500
                                                     : L7_REPLY_NO_CLUSTER};
            put_reply(http, &spec, js_object_at(item, "answer"));
        } else if (!js_bool(item, "hasHost", false) && js_get(item, "through") == NULL) {
            struct l7_reply_spec spec = {.kind = L7_REPLY_NO_HEALTHY};
            put_reply(http, &spec, js_object_at(item, "answer"));
        }
        json_array_append_new(list, item);
    }
    json_object_set_new(http->out, "destinations", list);
}

static void forward(struct http *http) {
    const struct explain_request *request = http->explain->request;
    struct l7_timeouts timeouts = l7_timeout_of(http->route, &request->head, request->is_grpc);
    set_number(http->out, "timeoutMs", timeouts.total_ms);
    set_number(http->out, "perTryTimeoutMs", timeouts.per_try_ms);
    put_retries(http);
    put_mirrors(http);
    put_destinations(http, &timeouts);
}

static void act(struct http *http) {
    struct l7_reply_spec spec = {.kind = L7_REPLY_NO_ROUTE, .grpc_status = -1};
    if (http->route == NULL) {
        put_answer(http, &spec);
        return;
    }
    put_fault(http);
    if (put_cors(http)) {
        json_object_set_new(http->out, "answer",
                            json_pack("{s:i, s:s, s:s, s:s}", "status", 200, "flags", "-",
                                      "details", "cors", "body", ""));
        return;
    }
    switch ((enum l7_action)http->route->action) {
    case L7_REDIRECT:
        spec.kind = L7_REPLY_REDIRECT;
        spec.status = http->route->redirect->status;
        spec.location = l7_rewrite_location(&http->match, &http->matched, &http->arena);
        put_answer(http, &spec);
        break;
    case L7_DIRECT:
        spec.kind = L7_REPLY_DIRECT;
        spec.status = http->route->direct->status;
        spec.body = http->route->direct->body;
        put_answer(http, &spec);
        break;
    case L7_FORWARD:
        forward(http);
        break;
    }
}

// ---- the whole ---------------------------------------------------------------------------------

static json_t *describe_request(const struct http_head *head) {
    json_t *out = json_object(), *headers = json_array();
    set_slice(out, "method", head->method);
    set_slice(out, "authority", head->authority);
    set_slice(out, "path", head->path);
    for (size_t i = 0; i < head->n_fields; i++) {
        const struct http_field *field = &head->fields[i];
        char *text = xasprintf("%.*s: %.*s", SLICE_ARG(field->name), SLICE_ARG(field->value));
        json_array_append_new(headers, json_string(text));
        free(text);
    }
    json_object_set_new(out, "headers", headers);
    return out;
}

static void run(struct http *http, const struct addr *dst) {
    struct leaf *routes = snapshot_l7_routes(http->explain->snap, http->service->leaf.key);
    if (!put_policies(http, dst)) {
        return;
    }
    http->head = http->explain->request->head;
    l7_fields_init(&http->fields, &http->arena, http->head.fields, http->head.n_fields);
    if (l7_fields_find(http->fields.items, http->fields.n, SLICE_LIT("x-forwarded-proto")) ==
        NULL) {
        l7_fields_add(&http->fields, SLICE_LIT("x-forwarded-proto"), SLICE_LIT("http"));
    }
    http->head.fields = http->fields.items;
    http->head.n_fields = http->fields.n;
    l7_request_init(&http->matched, &http->head, http->service->ports[http->port].port,
                    http->explain->source);
    put_trace(http, routes != NULL ? l7_routes_of_leaf(routes) : NULL);
    put_route(http);
    act(http);
}

void explain_http(struct explain *explain, const struct addr *dst, const struct route *route) {
    struct http http = {.explain = explain,
                        .service = snapshot_service_by_addr(explain->snap, dst),
                        .out = json_object()};
    json_object_set_new(explain->out, "http", http.out);
    json_object_set_new(http.out, "request", describe_request(&explain->request->head));
    if (http.service != NULL) {
        while (http.port < http.service->n_ports &&
               http.service->ports[http.port].port != dst->port) {
            http.port++;
        }
    }
    if (http.service == NULL || http.port == http.service->n_ports) {
        set_text(http.out, "unseenBecause",
                 http.service == NULL ? "the address is no service's"
                                      : "the service has no such port");
        json_object_set_new(http.out, "unseen", json_array());
        return;
    }
    char *reason = why_unseen(&http, route);
    if (reason != NULL) {
        set_text(http.out, "unseenBecause", reason);
        json_object_set_new(http.out, "unseen", list_unseen(&http));
        free(reason);
        return;
    }
    http.waypoint = route->waypoint;
    set_text(http.out, "waypoint", http.waypoint);
    if (http.service->canary[0] != '\0') {
        set_text(http.out, "canary", http.service->canary);
        set_number(http.out, "canaryPercent", http.service->canary_percent);
    }
    char *pod = xasprintf("%s/%s", route->destination->ns, route->destination->name);
    explain_live_ask(explain->live, pod);
    free(pod);
    json_object_set_new(http.out, "health", explain_live_source(explain->live));
    arena_init(&http.arena, SIZE_MAX);
    run(&http, dst);
    arena_fini(&http.arena);
}

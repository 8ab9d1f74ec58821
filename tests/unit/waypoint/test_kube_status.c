// SPDX-License-Identifier: Apache-2.0
#include "waypoint/kube_status.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/check.h"
#include "tests/unit/base/unit.h"

#define T1 "2026-01-01T00:00:00Z"
#define T2 "2026-02-02T00:00:00Z"

// JSON with ' for ".
static json_t *load(const char *text) {
    char *copy = xstrdup(text);
    for (char *c = copy; *c != '\0'; c++) {
        *c = *c == '\'' ? '"' : *c;
    }
    json_error_t error;
    json_t *json = json_loads(copy, JSON_DECODE_ANY, &error);
    if (json == NULL) {
        fail_msg("%s: %s", error.text, copy);
    }
    free(copy);
    return json;
}

static const char *text_at(const json_t *object, const char *key) {
    const char *text = json_string_value(json_object_get(object, key));
    return text != NULL ? text : "-";
}

// "Type=Status/Reason@YYYY-MM ..." of a list of conditions.
static const char *conditions(const json_t *owner) {
    static char text[2048];
    size_t i, len = 0;
    json_t *c;
    text[0] = '\0';
    json_array_foreach(json_object_get(owner, "conditions"), i, c) {
        len += (size_t)snprintf(text + len, sizeof(text) - len, "%s%s=%s/%s@%.7s", i > 0 ? " " : "",
                                text_at(c, "type"), text_at(c, "status"), text_at(c, "reason"),
                                text_at(c, "lastTransitionTime"));
    }
    return text;
}

static const json_t *first(const json_t *owner, const char *key) {
    return json_array_get(json_object_get(owner, key), 0);
}

// Puts the status into the object, as the API does.
static json_t *apply(json_t *object, json_t *status) {
    assert_non_null(status);
    json_object_set_new(object, "status", status);
    return status;
}

static void test_class(void **state) {
    json_t *ours = load("{'metadata': {'generation': 3}, 'spec': {'controllerName': "
                        "'ztun.io/waypoint-controller'}, 'status': {'conditions': [{'type': "
                        "'Accepted', 'status': 'Unknown', 'reason': 'Pending', 'message': 'm', "
                        "'lastTransitionTime': '1970-01-01T00:00:00Z'}, {'type': 'Else'}]}}");
    const json_t *status = apply(ours, kube_status_class(ours, T1));
    assert_string_equal(conditions(status), "Accepted=True/Accepted@2026-01 Else=-/-@-");
    const json_t *accepted = first(status, "conditions");
    assert_int_equal(json_integer_value(json_object_get(accepted, "observedGeneration")), 3);
    assert_null(kube_status_class(ours, T2)); // nothing has changed
    json_object_set_new(json_object_get(ours, "metadata"), "generation", json_integer(4));
    status = apply(ours, kube_status_class(ours, T2)); // seen, but no transition
    assert_string_equal(conditions(status), "Accepted=True/Accepted@2026-01 Else=-/-@-");
    json_t *others = load("{'spec': {'controllerName': 'istio.io/mesh-controller'}}");
    assert_null(kube_status_class(others, T1));
    json_decref(ours);
    json_decref(others);
}

#define GATEWAY(listeners)                                                                         \
    "{'metadata': {'generation': 1}, 'spec': {'gatewayClassName': 'ztun-waypoint', "               \
    "'listeners': [" listeners "]}, 'status': {'conditions': [{'type': 'Accepted', 'status': "     \
    "'Unknown', 'reason': 'Pending', 'lastTransitionTime': '1970-01-01T00:00:00Z'}]}}"
#define HBONE "{'name': 'mesh', 'port': 15008, 'protocol': 'HBONE'}"

static void test_gateway(void **state) {
    static const char *const ips[] = {"10.96.0.9", "fd96::9"};
    struct kube_status_gateway in = {.now = T1};
    json_t *gateway = load(GATEWAY(HBONE));
    const json_t *status = apply(gateway, kube_status_gateway(gateway, &in));
    assert_string_equal(conditions(status), "Accepted=True/Accepted@2026-01 "
                                            "Programmed=False/AddressNotAssigned@2026-01");
    assert_null(json_object_get(status, "addresses"));
    // Its Service is there, but nobody behind it: istiod is not told of it yet.
    in = (struct kube_status_gateway){
        .now = T2, .hostname = "way.shop.svc.cluster.local", .ips = ips, .n_ips = 2};
    status = apply(gateway, kube_status_gateway(gateway, &in));
    assert_string_equal(conditions(status), "Accepted=True/Accepted@2026-01 "
                                            "Programmed=False/Pending@2026-01");
    assert_null(json_object_get(status, "addresses"));
    in.is_serving = true;
    status = apply(gateway, kube_status_gateway(gateway, &in));
    assert_string_equal(conditions(status), "Accepted=True/Accepted@2026-01 "
                                            "Programmed=True/Programmed@2026-02");
    const json_t *addresses = json_object_get(status, "addresses");
    assert_int_equal(json_array_size(addresses), 3);
    assert_string_equal(text_at(json_array_get(addresses, 0), "type"), "Hostname");
    assert_string_equal(text_at(json_array_get(addresses, 0), "value"),
                        "way.shop.svc.cluster.local");
    assert_string_equal(text_at(json_array_get(addresses, 2), "value"), "fd96::9");
    const json_t *listener = first(status, "listeners");
    assert_string_equal(text_at(listener, "name"), "mesh");
    assert_string_equal(conditions(listener),
                        "Accepted=True/Accepted@2026-01 Conflicted=False/NoConflicts@2026-01 "
                        "ResolvedRefs=True/ResolvedRefs@2026-01 "
                        "Programmed=True/Programmed@2026-02");
    assert_null(kube_status_gateway(gateway, &in));
    // Whoever has been sent there goes on being sent there: nothing goes around its policies.
    in.is_serving = false;
    status = apply(gateway, kube_status_gateway(gateway, &in));
    assert_int_equal(json_array_size(json_object_get(status, "addresses")), 3);
    in = (struct kube_status_gateway){.now = T1};
    status = apply(gateway, kube_status_gateway(gateway, &in));
    assert_int_equal(json_array_size(json_object_get(status, "addresses")), 3);
    json_decref(gateway);
}

static void test_listeners(void **state) {
    struct kube_status_gateway in = {
        .now = T1, .hostname = "way.shop.svc.cluster.local", .is_serving = true};
    json_t *gateway = load(GATEWAY("{'name': 'web', 'port': 80, 'protocol': 'HTTP'}, " HBONE));
    const json_t *status = apply(gateway, kube_status_gateway(gateway, &in));
    assert_string_equal(conditions(status), "Accepted=True/Accepted@2026-01 "
                                            "Programmed=True/Programmed@2026-01");
    assert_string_equal(
        conditions(first(status, "listeners")),
        "Accepted=False/UnsupportedProtocol@2026-01 Conflicted=False/NoConflicts@2026-01 "
        "ResolvedRefs=True/ResolvedRefs@2026-01 Programmed=False/Invalid@2026-01");
    json_decref(gateway);
    gateway = load(GATEWAY("{'name': 'mesh', 'port': 15009, 'protocol': 'HBONE'}"));
    status = apply(gateway, kube_status_gateway(gateway, &in));
    assert_string_equal(conditions(status), "Accepted=False/ListenersNotValid@2026-01 "
                                            "Programmed=False/Invalid@2026-01");
    json_decref(gateway);
}

// Routes

static enum kube_parent parent_of(void *arg, const struct kube_status_ref *ref) {
    if (strcmp(ref->kind, "Gateway") == 0) {
        assert_string_equal(ref->group, "gateway.networking.k8s.io");
        return strcmp(ref->name, "way") == 0 ? KUBE_PARENT_GATEWAY : KUBE_PARENT_OTHERS;
    }
    assert_string_equal(ref->group, "");
    assert_string_equal(ref->ns, "shop");
    return strcmp(ref->name, "web") == 0 ? KUBE_PARENT_SERVED : KUBE_PARENT_OTHERS;
}

static enum kube_backend backend_of(void *arg, const struct kube_status_ref *ref) {
    if (strcmp(ref->kind, "Service") != 0) {
        return KUBE_BACKEND_UNKNOWN_KIND;
    }
    if (strcmp(ref->ns, "shop") != 0) {
        return KUBE_BACKEND_NOT_PERMITTED;
    }
    return strcmp(ref->name, "gone") == 0 ? KUBE_BACKEND_MISSING : KUBE_BACKEND_FOUND;
}

static const struct kube_status_route route_in = {
    .now = T1, .problem = "", .parent = parent_of, .backend = backend_of};

#define WEB "{'group': '', 'kind': 'Service', 'name': 'web', 'port': 80}"
#define OURS "'controllerName': 'ztun.io/waypoint-controller'"
#define ROUTE(parents, backends, status)                                                           \
    "{'metadata': {'generation': 7, 'namespace': 'shop'}, 'spec': {'parentRefs': [" parents        \
    "], 'rules': [{'backendRefs': [" backends "]}]}, 'status': {'parents': [" status "]}}"

static const char *route_conditions(const char *text, const struct kube_status_route *in) {
    json_t *route = load(text);
    const json_t *status = apply(route, kube_status_route(route, in));
    const char *out = conditions(first(status, "parents"));
    assert_int_equal(json_array_size(json_object_get(status, "parents")), 1);
    assert_string_equal(text_at(first(status, "parents"), "controllerName"),
                        "ztun.io/waypoint-controller");
    assert_true(json_equal(json_object_get(first(status, "parents"), "parentRef"),
                           first(json_object_get(route, "spec"), "parentRefs")));
    assert_null(kube_status_route(route, in));
    json_decref(route);
    return out;
}

static void test_routes(void **state) {
    assert_string_equal(route_conditions(ROUTE(WEB, "{'name': 'v1', 'port': 80}", ""), &route_in),
                        "Accepted=True/Accepted@2026-01 ResolvedRefs=True/ResolvedRefs@2026-01");
    assert_string_equal(
        route_conditions(ROUTE(WEB, "{'name': 'gone', 'port': 80}", ""), &route_in),
        "Accepted=True/Accepted@2026-01 ResolvedRefs=False/BackendNotFound@2026-01");
    assert_string_equal(
        route_conditions(ROUTE(WEB, "{'name': 'b', 'kind': 'Bucket', 'group': 'x.io'}", ""),
                         &route_in),
        "Accepted=True/Accepted@2026-01 ResolvedRefs=False/InvalidKind@2026-01");
    assert_string_equal(
        route_conditions(ROUTE(WEB, "{'name': 'gone', 'namespace': 'b', 'port': 80}", ""),
                         &route_in),
        "Accepted=True/Accepted@2026-01 ResolvedRefs=False/RefNotPermitted@2026-01");
    assert_string_equal(
        route_conditions(ROUTE("{'name': 'way'}", "", ""), &route_in),
        "Accepted=False/UnsupportedValue@2026-01 ResolvedRefs=True/ResolvedRefs@2026-01");
    struct kube_status_route in = route_in;
    in.problem = "line 3: what it says is not done";
    assert_string_equal(route_conditions(ROUTE(WEB, "", ""), &in),
                        "Accepted=True/Accepted@2026-01 ResolvedRefs=True/ResolvedRefs@2026-01 "
                        "PartiallyInvalid=True/UnsupportedValue@2026-01");
}

// What cannot be read is not accepted, and says why; what was told before is no transition.
static void test_unread(void **state) {
    struct kube_status_route in = route_in;
    in.problem = "spec.rules[0].matches[0].path.value: is no path";
    in.is_unread = true;
    json_t *route = load(ROUTE(WEB, "", ""));
    apply(route, kube_status_route(route, &route_in));
    json_object_set_new(json_object_get(route, "metadata"), "generation", json_integer(8));
    in.now = T2;
    const json_t *status = apply(route, kube_status_route(route, &in));
    assert_string_equal(conditions(first(status, "parents")),
                        "Accepted=False/UnsupportedValue@2026-02 "
                        "ResolvedRefs=True/ResolvedRefs@2026-01");
    const json_t *accepted = first(first(status, "parents"), "conditions");
    assert_string_equal(text_at(accepted, "message"), in.problem);
    assert_int_equal(json_integer_value(json_object_get(accepted, "observedGeneration")), 8);
    json_decref(route);
    struct kube_status_gateway gateway_in = {
        .now = T1, .hostname = "way.shop.svc.cluster.local", .is_serving = true, .unread = "odd"};
    json_t *gateway = load(GATEWAY(HBONE));
    status = apply(gateway, kube_status_gateway(gateway, &gateway_in));
    assert_string_equal(conditions(status), "Accepted=False/Invalid@2026-01 "
                                            "Programmed=True/Programmed@2026-01");
    assert_string_equal(text_at(first(status, "conditions"), "message"), "odd");
    json_decref(gateway);
}

// Mirrors are references, too.
static void test_mirror(void **state) {
    json_t *route = load("{'metadata': {'namespace': 'shop'}, 'spec': {'parentRefs': [" WEB "], "
                         "'rules': [{'filters': [{'type': 'RequestMirror', 'requestMirror': "
                         "{'backendRef': {'name': 'gone', 'port': 80}}}]}]}}");
    const json_t *status = apply(route, kube_status_route(route, &route_in));
    const json_t *resolved =
        json_array_get(json_object_get(first(status, "parents"), "conditions"), 1);
    assert_string_equal(text_at(resolved, "message"), "Service shop/gone is not there");
    json_decref(route);
}

// Others' entries stay as they are; ours go when the parent is not ours any more.
static void test_entries(void **state) {
    static const char other[] =
        "{'controllerName': 'istio.io/gateway-controller', 'parentRef': " WEB
        ", 'conditions': [{'type': 'Accepted', 'status': 'False'}]}";
    char text[4096];
    snprintf(text, sizeof(text), ROUTE(WEB, "", "%s"), other);
    json_t *route = load(text);
    json_t *kept = load(other);
    json_t *parents = json_object_get(apply(route, kube_status_route(route, &route_in)), "parents");
    assert_int_equal(json_array_size(parents), 2);
    assert_true(json_equal(json_array_get(parents, 0), kept));
    // Later: no transition, another generation.
    json_object_set_new(json_object_get(route, "metadata"), "generation", json_integer(8));
    struct kube_status_route in = route_in;
    in.now = T2;
    parents = json_object_get(apply(route, kube_status_route(route, &in)), "parents");
    assert_string_equal(conditions(json_array_get(parents, 1)),
                        "Accepted=True/Accepted@2026-01 ResolvedRefs=True/ResolvedRefs@2026-01");
    json_object_set_new(json_object_get(route, "spec"), "parentRefs",
                        load("[{'group': '', 'kind': 'Service', 'name': 'elsewhere'}]"));
    parents = json_object_get(apply(route, kube_status_route(route, &in)), "parents");
    assert_int_equal(json_array_size(parents), 1);
    assert_true(json_equal(json_array_get(parents, 0), kept));
    assert_null(kube_status_route(route, &in));
    json_object_del(route, "status"); // nothing to say, and nothing was said
    assert_null(kube_status_route(route, &in));
    json_decref(kept);
    json_decref(route);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_class),     cmocka_unit_test(test_gateway),
        cmocka_unit_test(test_listeners), cmocka_unit_test(test_routes),
        cmocka_unit_test(test_mirror),    cmocka_unit_test(test_entries),
        cmocka_unit_test(test_unread),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

// SPDX-License-Identifier: Apache-2.0
//
// The names of kinds, and messages that have them.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "ctl/local_kind.h"

static void test_find(void **state) {
    static const struct {
        const char *text, *kind; // NULL: there is none
    } rows[] = {
        {"po", "Pod"},
        {"pod", "Pod"},
        {"Pods", "Pod"},
        {"svc", "Service"},
        {"deploy", "Deployment"},
        {"deployments.apps", "Deployment"},
        {"deployment.v1.apps", "Deployment"},
        {"deployments.extensions", NULL},
        {"deployments.apps.x", NULL},
        {"deployments.xapps", NULL}, // the group begins behind a dot
        {"pods.apps", NULL}, // the core group has no name
        {"ns", "Namespace"},
        {"no", "Node"},
        {"cm", "ConfigMap"},
        {"sa", "ServiceAccount"},
        {"rs", "ReplicaSet"},
        {"sts", "StatefulSet"},
        {"ds", "DaemonSet"},
        {"ep", "Endpoints"},
        {"vs", "VirtualService"},
        {"virtualservices.networking.istio.io", "VirtualService"},
        {"dr", "DestinationRule"},
        {"se", "ServiceEntry"},
        {"gtw", "Gateway"},
        {"gateways.gateway.networking.k8s.io", "Gateway"},
        {"httproute", "HTTPRoute"},
        {"", NULL},
        {"thing", NULL},
        {"p", NULL},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        const struct lab_kind *kind = lab_kind_find(rows[i].text);
        if ((kind == NULL) != (rows[i].kind == NULL) ||
            (kind != NULL && strcmp(kind->kind, rows[i].kind) != 0)) {
            fail_msg("%s: %s", rows[i].text, kind != NULL ? kind->kind : "none");
        }
    }
}

static void test_exact(void **state) {
    assert_null(lab_kind_of("pod")); // of a document: exactly as written
    assert_true(lab_kind_of("Namespace")->is_cluster_scoped);
    assert_true(lab_kind_of("Node")->is_cluster_scoped);
    assert_false(lab_kind_of("Pod")->is_cluster_scoped);
    assert_string_equal(lab_kind_of("Deployment")->api_version, "apps/v1");
}

static void test_messages(void **state) {
    static const struct {
        const char *kind, *resource, *name;
    } rows[] = {
        {"Pod", "pods", "pod/x"},
        {"Deployment", "deployments.apps", "deployment.apps/x"},
        {"VirtualService", "virtualservices.networking.istio.io",
         "virtualservice.networking.istio.io/x"},
        {"AuthorizationPolicy", "authorizationpolicies.security.istio.io",
         "authorizationpolicy.security.istio.io/x"},
        {"Gateway", "gateways.gateway.networking.k8s.io", "gateway.gateway.networking.k8s.io/x"},
        {"Widget", "widgets", "widget/x"}, // not known
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        char *resource = lab_kind_resource(rows[i].kind), *name = lab_kind_name(rows[i].kind, "x");
        assert_string_equal(resource, rows[i].resource);
        assert_string_equal(name, rows[i].name);
        free(resource);
        free(name);
    }
    char *text = lab_kind_not_found("Deployment", "web");
    assert_string_equal(text, "Error from server (NotFound): deployments.apps \"web\" not found");
    free(text);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_find), cmocka_unit_test(test_exact),
                                       cmocka_unit_test(test_messages)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

// SPDX-License-Identifier: Apache-2.0
#include "waypoint/auto_bind.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/check.h"
#include "tests/unit/base/unit.h"

static json_t *service(const char *label, const char *manager, const char *operation) {
    json_t *object = json_pack("{s:s, s:s, s:{s:s, s:s}}", "apiVersion", "v1", "kind", "Service",
                               "metadata", "name", "web", "namespace", "shop");
    json_t *meta = json_object_get(object, "metadata");
    if (label != NULL) {
        json_object_set_new(meta, "labels", json_pack("{s:s}", "istio.io/use-waypoint", label));
    }
    if (manager != NULL) {
        json_object_set_new(meta, "managedFields",
                            json_pack("[{s:s, s:s}, {s:s, s:s, s:{s:{s:{s:{}}}}}]", "manager",
                                      "kubectl", "operation", "Update", "manager", manager,
                                      "operation", operation, "fieldsV1", "f:metadata", "f:labels",
                                      "f:istio.io/use-waypoint"));
    }
    return object;
}

static void test_decide(void **state) {
    static const struct {
        const char *label, *manager, *operation, *wanted;
        enum auto_bind_action action;
    } rows[] = {
        {NULL, NULL, NULL, "way", AUTO_BIND_SET},
        {NULL, NULL, NULL, "", AUTO_BIND_NOTHING},
        {"way", "us", "Apply", "way", AUTO_BIND_NOTHING},
        {"way", "them", "Apply", "way", AUTO_BIND_NOTHING}, // as it should be, whoever wrote it
        {"way", "us", "Apply", "", AUTO_BIND_REMOVE},
        {"way", "them", "Apply", "", AUTO_BIND_NOTHING},
        {"way", "us", "Update", "", AUTO_BIND_NOTHING}, // not what we do
        {"way", NULL, NULL, "", AUTO_BIND_NOTHING},
        {"old", "us", "Apply", "way", AUTO_BIND_SET},
        {"old", "them", "Apply", "way", AUTO_BIND_OTHERS},
        {"none", NULL, NULL, "way", AUTO_BIND_OTHERS}, // somebody has opted out
        {NULL, "us", "Apply", "", AUTO_BIND_REMOVE}, // an entry is left over
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        json_t *object = service(rows[i].label, rows[i].manager, rows[i].operation);
        enum auto_bind_action action = auto_bind_decide(object, "us", rows[i].wanted);
        if (action != rows[i].action) {
            fail_msg("row %zu: %d", i, (int)action);
        }
        json_decref(object);
    }
}

// Nothing but who it is, and our label.
static void test_body(void **state) {
    json_t *object = service("old", "us", "Apply");
    json_t *body = auto_bind_body(object, "way");
    char *text = json_dumps(body, JSON_COMPACT | JSON_SORT_KEYS);
    assert_string_equal(text,
                        "{\"apiVersion\":\"v1\",\"kind\":\"Service\",\"metadata\":{\"labels\":"
                        "{\"istio.io/use-waypoint\":\"way\"},\"name\":\"web\",\"namespace\":"
                        "\"shop\"}}");
    free(text);
    json_decref(body);
    body = auto_bind_body(object, "");
    text = json_dumps(body, JSON_COMPACT | JSON_SORT_KEYS);
    assert_string_equal(text,
                        "{\"apiVersion\":\"v1\",\"kind\":\"Service\",\"metadata\":{\"labels\":"
                        "{},\"name\":\"web\",\"namespace\":\"shop\"}}");
    free(text);
    json_decref(body);
    json_decref(object);
}

static void test_pauses(void **state) {
    static const uint32_t rows[][2] = {{0, 60},   {1, 60},   {2, 120},    {3, 240},
                                       {6, 1920}, {7, 3600}, {100, 3600}, {UINT32_MAX, 3600}};
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        assert_int_equal(auto_bind_pause_s(rows[i][0]), rows[i][1]);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_decide),
        cmocka_unit_test(test_body),
        cmocka_unit_test(test_pauses),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

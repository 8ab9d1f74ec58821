// SPDX-License-Identifier: Apache-2.0
#include "waypoint/auto_bind.h"

#include <stdbool.h>
#include <string.h>

#include "common/base/check.h"

#define LABEL "istio.io/use-waypoint"

static const json_t *meta_of(const json_t *object) {
    return json_object_get(object, "metadata");
}

static bool text_is(const json_t *owner, const char *key, const char *text) {
    const char *have = json_string_value(json_object_get(owner, key));
    return have != NULL && strcmp(have, text) == 0;
}

// metadata.managedFields: we have applied the label.
static bool is_ours(const json_t *object, const char *manager) {
    size_t i;
    json_t *entry;
    json_array_foreach(json_object_get(meta_of(object), "managedFields"), i, entry) {
        const json_t *meta = json_object_get(json_object_get(entry, "fieldsV1"), "f:metadata");
        if (text_is(entry, "manager", manager) && text_is(entry, "operation", "Apply") &&
            json_object_get(json_object_get(meta, "f:labels"), "f:" LABEL) != NULL) {
            return true;
        }
    }
    return false;
}

enum auto_bind_action auto_bind_decide(const json_t *object, const char *manager,
                                       const char *wanted) {
    const char *have =
        json_string_value(json_object_get(json_object_get(meta_of(object), "labels"), LABEL));
    bool has_ours = is_ours(object, manager);
    if (wanted[0] == '\0') {
        return has_ours ? AUTO_BIND_REMOVE : AUTO_BIND_NOTHING;
    }
    if (have == NULL) {
        return AUTO_BIND_SET;
    }
    if (strcmp(have, wanted) == 0) {
        return AUTO_BIND_NOTHING;
    }
    return has_ours ? AUTO_BIND_SET : AUTO_BIND_OTHERS;
}

json_t *auto_bind_body(const json_t *object, const char *wanted) {
    json_t *labels = wanted[0] != '\0' ? json_pack("{s:s}", LABEL, wanted) : json_object();
    return json_pack("{s:O, s:O, s:{s:O, s:O, s:o}}", "apiVersion",
                     json_object_get(object, "apiVersion"), "kind", json_object_get(object, "kind"),
                     "metadata", "name", json_object_get(meta_of(object), "name"), "namespace",
                     json_object_get(meta_of(object), "namespace"), "labels", labels);
}

uint32_t auto_bind_pause_s(uint32_t n_losses) {
    uint32_t doublings = MIN(n_losses > 0 ? n_losses - 1 : 0, 16U);
    return MIN((uint32_t)AUTO_BIND_PAUSE_S << doublings, (uint32_t)AUTO_BIND_PAUSE_MAX_S);
}

// SPDX-License-Identifier: Apache-2.0
//
// The kinds that kubectl's users name: short names, plurals, API groups, and the words of the API
// server about them. Pure; any thread.
#pragma once

#include <jansson.h>
#include <stdbool.h>

#include "common/base/check.h"

struct lab_kind {
    const char *kind, *singular, *plural, *group; // group "" = core
    const char *api_version;
    const char *shorts[3];
    bool is_cluster_scoped;
};

// "po", "pods", "Pod", "deployment.apps", "virtualservices.networking.istio.io". NULL: unknown.
const struct lab_kind *lab_kind_find(const char *text);
// By the exact kind of a document. NULL: unknown.
const struct lab_kind *lab_kind_of(const char *kind);
// "deployments.apps", as in error messages. Constant text is not promised: the caller frees.
char *lab_kind_resource(const char *kind);
// "deployment.apps/web", as in messages. The caller frees.
char *lab_kind_name(const char *kind, const char *name);
// Error from server (NotFound): deployments.apps "web" not found. The caller frees.
char *lab_kind_not_found(const char *kind, const char *name);

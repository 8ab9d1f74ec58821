// SPDX-License-Identifier: Apache-2.0
//
// The verbs of `ztunctl local` that work as kubectl's do: same arguments, columns and messages.
// Client side; one request or a few to the supervisor. Each returns the exit code.
#pragma once

#include <jansson.h>
#include <stdbool.h>

#include "common/base/check.h"

struct verb_args {
    const char *dir; // of the lab
    const char *ns; // --namespace; NULL = not given
    const char *selector, *output, *type, *patch, *service, *port, *target_port;
    bool is_all_ns, is_watching, is_overwriting;
    int replicas, timeout_s;
    int grace_s; // --grace; < 0 = not given
    long revision; // --to-revision; 0 = not given
    char **rest;
    int n_rest;
};

int verb_get(const struct verb_args *a);
int verb_describe(const struct verb_args *a); // rest: KIND [NAME...], KIND/NAME...
int verb_create_namespace(const struct verb_args *a); // rest: namespace NAME
int verb_expose(const struct verb_args *a);
int verb_patch(const struct verb_args *a);
int verb_edit(const struct verb_args *a);
int verb_scale(const struct verb_args *a);
int verb_set(const struct verb_args *a); // rest: image KIND/NAME CONTAINER=IMAGE...
int verb_rollout(const struct verb_args *a); // rest: status|history|undo|restart KIND/NAME
// rest: KIND NAME..., KIND/NAME..., or KIND with a selector or `is_all`
int verb_delete(const struct verb_args *a, bool is_all);
int verb_label(const struct verb_args *a);
int verb_annotate(const struct verb_args *a);
// Listens on 127.0.0.1 and connects to the same address in the pod, until it is interrupted.
int verb_port_forward(const struct verb_args *a); // rest: KIND/NAME [LOCAL:]PORT...
// "[KIND/]POD" with a namespace as "NS/POD", the form of exec and logs; of a workload or service
// its first running pod. NULL: said why. The caller frees.
char *verb_pod(const char *dir, const char *ns, const char *where);

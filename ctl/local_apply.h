// SPDX-License-Identifier: Apache-2.0
//
// kubectl apply and delete against the lab's objects.
#pragma once

#include "ctl/local_lab.h"

// Adds or replaces one document; takes the reference. *ret_text says what happened ("pod/x
// created"), or what is wrong; the caller frees it. False: refused.
bool lab_apply(struct lab *lab, json_t *doc, char **ret_text);
// Replaces the document of an object that is there, also of one that a controller made; takes the
// reference. *ret_text: "unchanged" when it was the same; the caller frees it. False: refused.
bool lab_change(struct lab *lab, struct lab_object *object, json_t *doc, char **ret_text);
// Deletes by kind, namespace and name. grace_s < 0: the pod's own.
bool lab_delete(struct lab *lab, const char *kind, const char *ns, const char *name, long grace_s,
                char **ret_text);
// Adds a Pod that a controller (or a replacement) wants; takes the reference. NULL: the cap.
struct lab_pod *lab_apply_pod(struct lab *lab, json_t *doc);

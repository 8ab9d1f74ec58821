// SPDX-License-Identifier: Apache-2.0
//
// What the files of the verbs share.
#pragma once

#include "ctl/local_kind.h"
#include "ctl/local_verbs.h"

struct verb_target { // borrowed from the arguments, but for `ns`
    const char *kind, *name;
    char *ns;
};

// KIND NAME, KIND/NAME, and NS/NAME where `fallback` is not NULL; *at moves behind it. False: said
// why. The caller frees ret->ns.
bool verb_target(const struct verb_args *a, int *at, const char *fallback, struct verb_target *ret);
// Asks; an error is said. NULL then.
json_t *verb_ask(const char *dir, json_t *request);
// The objects of a kind (NULL = all), namespace (NULL = all) and name (NULL = all): new reference.
json_t *verb_items(const char *dir, const char *kind, const char *ns, const char *name);
// The one object; NULL: said that it is not found. New reference.
json_t *verb_object(const char *dir, const struct verb_target *target);
// Sends a patch (takes the reference); prints "deployment.apps/web WORD".
int verb_send_patch(const char *dir, const struct verb_target *target, const char *type,
                    json_t *patch, const char *word);
// False: said that --selector is none.
bool verb_selector_ok(const struct verb_args *a);
int verb_error(const char *fmt, ...) PRINTF_LIKE(1, 2); // "error: ...", and returns 1
const char *verb_ns(const struct verb_args *a); // --namespace, or default

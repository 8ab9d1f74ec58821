// SPDX-License-Identifier: Apache-2.0
//
// What a container runs and with which environment: its own command and args, or those of its image
// by the image map, with $(VAR) expanded. Thread: supervisor.
#pragma once

#include "ctl/local_lab.h"
#include "ctl/local_text.h"

// Reads the image map. -EINVAL with a message that the caller frees.
MUST_USE int lab_images_load(const char *path, json_t **ret_images, char **ret_error);

// A downward API field ("metadata.labels['app']", "status.podIP"). NULL = not known. Caller frees.
char *lab_env_field(const struct lab_pod *pod, const char *path);

// Fills both vectors (the caller frees). -EAGAIN: a ConfigMap, Secret or key is not there (yet);
// -ENOENT: no command is known; -EINVAL: the spec is wrong. pod->waiting_message says what.
MUST_USE int lab_env_build(struct lab_pod *pod, const json_t *container, struct strv *ret_env,
                           struct strv *ret_argv);

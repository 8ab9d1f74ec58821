// SPDX-License-Identifier: Apache-2.0
//
// A cluster as kubectl sees it: the user's own kubectl is run, with the user's credentials and
// plug-ins. Thread: the only one of the process.
#pragma once

#include <getopt.h>
#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "common/base/buf.h"
#include "common/base/check.h"

enum { KUBECTL_TIMEOUT_S = 30 };

struct kubectl { // texts of argv; zeroed = kubectl on the PATH, its current context
    const char *program, *context, *kubeconfig;
    const char *ns; // -n; NULL: not said
};

// Rows for getopt_long with "n:", and what handles them: false for another option.
enum { KUBECTL_OPT_PROGRAM = 0x2000, KUBECTL_OPT_CONTEXT, KUBECTL_OPT_KUBECONFIG };
#define KUBECTL_LONGS                                                                              \
    {"kubectl", required_argument, NULL, KUBECTL_OPT_PROGRAM},                                     \
        {"context", required_argument, NULL, KUBECTL_OPT_CONTEXT},                                 \
        {"kubeconfig", required_argument, NULL, KUBECTL_OPT_KUBECONFIG}, {                         \
        "namespace", required_argument, NULL, 'n'                                                  \
    }
bool kubectl_option(struct kubectl *k, int opt, const char *arg);
extern const char kubectl_help[]; // for usage texts

// Runs it with `args` (ends with NULL) to its end, at most KUBECTL_TIMEOUT_S. `input` goes to its
// stdin (NULL: none), stdout is appended to `out`. False: it failed, and *ret_error (the caller
// frees it) says why, in its own words where it had some.
MUST_USE bool kubectl_run(const struct kubectl *k, const char *const *args, const char *input,
                          struct buf *out, char **ret_error);
// The same, for one JSON value; empty output (--ignore-not-found) is JSON null. NULL: it failed.
MUST_USE json_t *kubectl_json(const struct kubectl *k, const char *const *args, char **ret_error);
// -n, else the namespace of the context, else "default". The caller frees it.
char *kubectl_namespace(const struct kubectl *k);

// A tunnel to a port of a pod, which may listen on its loopback address alone.
struct kubectl_forward {
    pid_t pid;
    int fd; // its stdout
    uint16_t port; // on 127.0.0.1
};
MUST_USE bool kubectl_forward_open(const struct kubectl *k, const char *ns, const char *pod,
                                   uint16_t port, struct kubectl_forward *ret_forward,
                                   char **ret_error);
void kubectl_forward_close(struct kubectl_forward *forward);

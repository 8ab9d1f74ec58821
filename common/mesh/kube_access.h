// SPDX-License-Identifier: Apache-2.0
//
// Where the Kubernetes API is and who we are there: the service account of the pod, a kubeconfig
// file, or an address.
//
// Of a kubeconfig: the current context's cluster (server, certificate-authority, tls-server-name)
// and user (token, tokenFile, client-certificate and client-key), each also as `-data`. What would
// need a program or skip the check of the server's certificate is refused.
//
// Thread: the caller's.
#pragma once

#include <stdbool.h>

#include "common/net/http_client.h"

#define KUBE_ACCOUNT_DIR "/var/run/secrets/kubernetes.io/serviceaccount"

struct kube_access { // all on the heap; NULL: not set
    char *address; // "https://HOST:PORT", "http://HOST:PORT"
    char *server_name; // NULL: HOST
    char *ns; // our namespace
    struct http_client_file roots, token, cert, key; // each a path or a text
};

// where: "in-cluster" (KUBERNETES_SERVICE_HOST and _PORT), "https://HOST:PORT" (both with token,
// ca.crt and namespace of account_dir), "http://HOST:PORT" (plain text, nothing is presented: for
// `kubectl proxy`), else the path of a kubeconfig. NULL or a heap-allocated reason.
MUST_USE char *kube_access_find(struct kube_access *access, const char *where,
                                const char *account_dir);
void kube_access_fini(struct kube_access *access);

// SPDX-License-Identifier: Apache-2.0
//
// The built-in CA over a directory with the file names of Istio's plug-in CA secret: ca-cert.pem,
// ca-key.pem, root-cert.pem, cert-chain.pem. An empty directory gets a new root; files that are
// there are used, also those of an intermediate CA with its chain, and read again when they change.
//
// The directory is made with mode 0700, the key with 0600. Several processes may start with one
// empty directory: a lock (flock on the file .lock) makes one of them create, the others load. The
// files are written under other names and renamed when all are complete; what a crash leaves half
// renamed is completed by the next start.
//
// Thread: control; opening blocks on the lock and on the disk.
#pragma once

#include "common/mesh/identity.h"

struct ca_local;

struct ca_local_params {
    const char *dir;
    const char *org; // of a new root's subject: the trust domain
    int64_t now_wall_s;
};

// NULL with a heap-allocated reason.
struct ca_local *ca_local_open(const struct ca_local_params *params, char **ret_error);
void ca_local_close(struct ca_local *ca); // NULL ok
struct ca *ca_local_ca(struct ca_local *ca); // for identity_manager_new

enum ca_local_news {
    CA_LOCAL_SAME,
    CA_LOCAL_CHANGED, // the caller has all certificates issued anew
    CA_LOCAL_BROKEN, // the files changed but cannot be used: the old CA stays; reason in *ret_error
};
// Looks at the files (four stat calls). BROKEN is told once for each change.
enum ca_local_news ca_local_poll(struct ca_local *ca, int64_t now_wall_s, char **ret_error);

const char *ca_local_roots_pem(const struct ca_local *ca);
int64_t ca_local_not_after(const struct ca_local *ca);
bool ca_local_is_new(const struct ca_local *ca); // this call made the root

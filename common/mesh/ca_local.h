// SPDX-License-Identifier: Apache-2.0
//
// The built-in CA in a directory with the file names of Istio's plug-in CA secret: ca-cert.pem,
// ca-key.pem, root-cert.pem, cert-chain.pem. An empty directory gets a new root; an existing CA, also
// an intermediate with its chain, is used as it is and read again when its files change.
//
// Several processes may start at once on an empty directory: creation is under a lock and through
// temporary names, so that all use one root. Directory 0700, key 0600.
#pragma once

#include "common/mesh/ca.h"

// NULL with a heap-allocated reason that names the file and what to do.
struct ca *ca_local_open(const char *dir, const char *trust_domain, int64_t now_wall_s,
                         char **ret_error);

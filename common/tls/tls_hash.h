// SPDX-License-Identifier: Apache-2.0
//
// SHA-256, for keys of caches and fingerprints, so that no other layer includes BoringSSL.
#pragma once

#include "common/base/slice.h"

enum { TLS_SHA256_LEN = 32 };

void tls_sha256(struct slice in, uint8_t ret_hash[TLS_SHA256_LEN]);
// The hash of the pieces, each with its length in front: no two lists of pieces are alike.
void tls_sha256_list(const struct slice *pieces, size_t n_pieces, uint8_t ret_hash[TLS_SHA256_LEN]);
// Bytes from the operating system's generator, for keys, serials and ids.
void tls_random(void *dst, size_t len);

// SPDX-License-Identifier: Apache-2.0
#include "common/tls/tls_hash.h"

#include <openssl/rand.h>
#include <openssl/sha.h>

#include "common/base/check.h"

_Static_assert(TLS_SHA256_LEN == SHA256_DIGEST_LENGTH, "length of SHA-256");

void tls_sha256(struct slice in, uint8_t ret_hash[TLS_SHA256_LEN]) {
    SHA256(in.ptr, in.len, ret_hash);
}

void tls_sha256_list(const struct slice *pieces, size_t n_pieces,
                     uint8_t ret_hash[TLS_SHA256_LEN]) {
    SHA256_CTX sha;
    SHA256_Init(&sha);
    for (size_t i = 0; i < n_pieces; i++) {
        uint64_t len = pieces[i].len;
        SHA256_Update(&sha, &len, sizeof(len));
        SHA256_Update(&sha, pieces[i].ptr, pieces[i].len);
    }
    SHA256_Final(ret_hash, &sha);
}

void tls_random(void *dst, size_t len) {
    CHECK(RAND_bytes(dst, len) == 1);
}

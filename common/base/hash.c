// SPDX-License-Identifier: Apache-2.0
#include "common/base/hash.h"

#include <sys/random.h>

#include <xxhash.h>

#include "common/base/check.h"

enum { SECRET_LEN = 192 }; // >= XXH3_SECRET_SIZE_MIN (136)

static uint8_t secret[SECRET_LEN];

// Before main(): every thread finds the secret ready, and a lookup needs no "first use" test.
__attribute__((constructor(101))) static void hash_seed(void) {
    // At most 256 bytes are never interrupted or cut short.
    CHECK(getrandom(secret, sizeof(secret), 0) == (ssize_t)sizeof(secret));
}

uint64_t hash_bytes(struct slice bytes) {
    return XXH3_64bits_withSecret(bytes.ptr, bytes.len, secret, sizeof(secret));
}

// SPDX-License-Identifier: Apache-2.0
//
// The traffic secrets of a TLS 1.3 connection, which libssl hands out to C++ only. The header
// stands alone, because C++ includes it.
#pragma once

#include <openssl/ssl.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

struct tls_secrets {
    const uint8_t *read, *write;
    size_t read_len, write_len;
};

// After the handshake. The bytes stay the SSL's: good until it is freed. False: there are none.
bool tls_secrets_of(const SSL *ssl, struct tls_secrets *ret_secrets);

#ifdef __cplusplus
}
#endif

// SPDX-License-Identifier: Apache-2.0
#include "common/tls/tls_secrets.h"

#include <openssl/span.h>

bool tls_secrets_of(const SSL *ssl, struct tls_secrets *ret_secrets) {
    bssl::Span<const uint8_t> read, write;
    if (!bssl::SSL_get_traffic_secrets(ssl, &read, &write)) {
        return false;
    }
    *ret_secrets = {read.data(), write.data(), read.size(), write.size()};
    return true;
}

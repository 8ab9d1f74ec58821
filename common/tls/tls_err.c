// SPDX-License-Identifier: Apache-2.0
#include "common/tls/tls_err_priv.h"

#include "common/base/check.h"

struct entry {
    int alert;
    const char *label;
    const char *text;
};

static const struct entry entries[] = {
#define TLS_ERR(name, alert, label, text) [TLS_##name] = {alert, label, text},
#include "common/tls/tls_err.def"
#undef TLS_ERR
};

static const struct entry *entry(enum tls_err err) {
    CHECK((size_t)err < ARRAY_LEN(entries));
    return &entries[err];
}

const char *tls_err_label(enum tls_err err) {
    return entry(err)->label;
}

const char *tls_err_text(enum tls_err err) {
    return entry(err)->text;
}

int tls_err_alert(enum tls_err err) {
    return entry(err)->alert;
}

enum tls_err tls_err_from_peer_alert(uint8_t alert) {
    static const struct {
        uint8_t alert;
        enum tls_err err;
    } map[] = {
        {10, TLS_PEER_UNEXPECTED_MESSAGE},
        {20, TLS_PEER_BAD_RECORD_MAC},
        {22, TLS_PEER_RECORD_OVERFLOW},
        {40, TLS_PEER_HANDSHAKE_FAILURE},
        {42, TLS_PEER_BAD_CERTIFICATE},
        {43, TLS_PEER_UNSUPPORTED_CERTIFICATE},
        {44, TLS_PEER_CERTIFICATE_REVOKED},
        {45, TLS_PEER_CERTIFICATE_EXPIRED},
        {46, TLS_PEER_CERTIFICATE_UNKNOWN},
        {47, TLS_PEER_ILLEGAL_PARAMETER},
        {48, TLS_PEER_UNKNOWN_CA},
        {49, TLS_PEER_ACCESS_DENIED},
        {50, TLS_PEER_DECODE_ERROR},
        {51, TLS_PEER_DECRYPT_ERROR},
        {70, TLS_PEER_PROTOCOL_VERSION},
        {71, TLS_PEER_INSUFFICIENT_SECURITY},
        {80, TLS_PEER_INTERNAL_ERROR},
        {109, TLS_PEER_MISSING_EXTENSION},
        {116, TLS_PEER_CERTIFICATE_REQUIRED},
        {120, TLS_PEER_NO_APPLICATION_PROTOCOL},
    };
    for (size_t i = 0; i < ARRAY_LEN(map); i++) {
        if (map[i].alert == alert) {
            return map[i].err;
        }
    }
    return TLS_PEER_ALERT;
}

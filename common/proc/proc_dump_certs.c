// SPDX-License-Identifier: Apache-2.0
//
// Certificates in use: public parts only.
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "common/proc/proc_dump_priv.h"
#include "common/tls/tls_cert.h"

static void put_time(struct json_out *out, const char *key, int64_t unix_s) {
    char text[64];
    time_t when = (time_t)unix_s;
    struct tm tm;
    if (gmtime_r(&when, &tm) == NULL ||
        strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%SZ", &tm) == 0) {
        text[0] = '\0';
    }
    json_out_kv_str(out, key, text);
}

static void put_base64(struct json_out *out, const char *key, const char *bytes) {
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    size_t len = strlen(bytes), n = 0;
    char *text = xmalloc(len / 3 * 4 + 5);
    for (size_t i = 0; i < len; i += 3) {
        uint32_t left = (uint32_t)MIN(len - i, (size_t)3);
        uint32_t bits = 0;
        for (uint32_t k = 0; k < 3; k++) {
            bits = bits << 8 | (k < left ? (uint8_t)bytes[i + k] : 0);
        }
        for (uint32_t k = 0; k < 4; k++) {
            text[n++] = k <= left ? digits[bits >> (18 - 6 * k) & 63] : '=';
        }
    }
    json_out_kv_string(out, key, slice_make(text, n));
    free(text);
}

static void put_chain(struct json_out *out, const char *key, const char *pem) {
    struct tls_cert_info *infos = NULL;
    char *error = NULL;
    size_t n = 0;
    if (pem != NULL && pem[0] != '\0') {
        n = tls_cert_parse(slice_str(pem), &infos, &error);
    }
    json_out_kv_array(out, key);
    for (size_t i = 0; i < n; i++) {
        json_out_begin_object(out);
        put_base64(out, "pem", infos[i].pem);
        json_out_kv_str(out, "serialNumber", infos[i].serial);
        put_time(out, "validFrom", infos[i].not_before);
        put_time(out, "expirationTime", infos[i].not_after);
        json_out_end(out);
    }
    json_out_end(out);
    tls_cert_infos_free(infos, n);
    free(error);
}

static void put_state(struct json_out *out, const struct identity *identity) {
    char text[512];
    switch ((enum identity_state)identity->state) {
    case IDENTITY_PENDING:
        json_out_kv_str(out, "state", "Initializing");
        return;
    case IDENTITY_READY:
        json_out_kv_str(out, "state", "Available");
        return;
    case IDENTITY_FAILED:
        snprintf(text, sizeof(text), "Unavailable: %s", identity->error);
        json_out_kv_str(out, "state", text);
        return;
    }
}

void proc_dump_cert(struct json_out *out, const struct identity *identity) {
    json_out_begin_object(out);
    json_out_kv_string(out, "identity", identity->leaf.key);
    put_state(out, identity);
    put_chain(out, "certChain", identity->chain_pem);
    put_chain(out, "rootCerts", identity->roots_pem);
    json_out_end(out);
}

void proc_dump_identities(struct json_out *out, const struct snapshot *snap, int64_t now_wall_s) {
    size_t n = 0;
    struct identity **identities =
        (struct identity **)proc_dump_sorted(&snap->identities, NULL, NULL, &n);
    json_out_begin_array(out);
    for (size_t i = 0; i < n; i++) {
        struct tls_cert_info *infos = NULL;
        char *error = NULL;
        size_t n_certs = 0;
        if (identities[i]->chain_pem != NULL && identities[i]->chain_pem[0] != '\0') {
            n_certs = tls_cert_parse(slice_str(identities[i]->chain_pem), &infos, &error);
        }
        json_out_begin_object(out);
        json_out_kv_string(out, "identity", identities[i]->leaf.key);
        put_state(out, identities[i]);
        if (n_certs > 0) {
            put_time(out, "expirationTime", infos[0].not_after);
            json_out_kv_i64(out, "secondsToExpiry", infos[0].not_after - now_wall_s);
        }
        if (identities[i]->error[0] != '\0') {
            json_out_kv_str(out, "error", identities[i]->error);
        }
        json_out_end(out);
        tls_cert_infos_free(infos, n_certs);
        free(error);
    }
    json_out_end(out);
    free(identities);
}

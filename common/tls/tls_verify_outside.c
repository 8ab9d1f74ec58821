// SPDX-License-Identifier: Apache-2.0
//
// Servers outside of the mesh: is the certificate for one of the names (RFC 9525)? Its subject
// alternative names count, its common name never.
#include <openssl/err.h>
#include <openssl/x509.h>
#include <stdio.h>

#include "common/base/addr.h"
#include "common/tls/tls_verify_priv.h"

// A wildcard is the whole first label, stands for just one, and not right above a top level.
static bool host_matches(struct slice pattern, struct slice name) {
    struct slice label, rest;
    if (slice_eq_nocase(pattern, name)) {
        return true;
    }
    return slice_has_prefix(pattern, SLICE_LIT("*.")) && slice_split(name, '.', &label, &rest) &&
           label.len > 0 && memchr(rest.ptr, '.', rest.len) != NULL &&
           slice_eq_nocase(slice_skip(pattern, 2), rest);
}

static struct slice text_of(const ASN1_STRING *text) {
    return slice_make(ASN1_STRING_get0_data(text), (size_t)ASN1_STRING_length(text));
}

static bool name_matches(const GENERAL_NAME *have, struct slice want) {
    struct ip ip, own;
    switch (have->type) {
    case GEN_DNS:
        return !ip_parse(want, &ip) && host_matches(text_of(have->d.dNSName), want);
    case GEN_IPADD:
        return ip_parse(want, &ip) && ip_from_bytes(text_of(have->d.iPAddress), &own) &&
               ip_eq(&ip, &own);
    case GEN_URI:
        return slice_eq(text_of(have->d.uniformResourceIdentifier), want);
    case GEN_EMAIL:
        return slice_eq(text_of(have->d.rfc822Name), want);
    default:
        return false;
    }
}

static bool is_for(const GENERAL_NAMES *have, const struct slice *names, size_t n_names) {
    for (size_t i = 0; i < sk_GENERAL_NAME_num(have); i++) {
        for (size_t k = 0; k < n_names; k++) {
            if (name_matches(sk_GENERAL_NAME_value(have, i), names[k])) {
                return true;
            }
        }
    }
    return false;
}

// The first names that it is for, for the log.
static void list_names(const GENERAL_NAMES *have, char *ret_text, size_t size) {
    size_t len = 0;
    ret_text[0] = '\0';
    for (size_t i = 0; i < sk_GENERAL_NAME_num(have) && len < size; i++) {
        const GENERAL_NAME *name = sk_GENERAL_NAME_value(have, i);
        char text[IP_TEXT_MAX];
        struct ip ip;
        struct slice shown = {0};
        if (name->type == GEN_DNS || name->type == GEN_URI || name->type == GEN_EMAIL) {
            shown = text_of(name->d.ia5);
        } else if (name->type == GEN_IPADD && ip_from_bytes(text_of(name->d.iPAddress), &ip)) {
            shown = slice_str(ip_text(&ip, text));
        }
        if (shown.len > 0) {
            len += (size_t)snprintf(ret_text + len, size - len, "%s%.*s", len > 0 ? ", " : "",
                                    SLICE_ARG(shown));
        }
    }
}

static enum tls_err check_names(X509 *cert, const struct slice *names, size_t n_names,
                                char *detail) {
    GENERAL_NAMES *have = X509_get_ext_d2i(cert, NID_subject_alt_name, NULL, NULL);
    enum tls_err err = TLS_OK;
    if (!is_for(have, names, n_names)) {
        char text[TLS_DETAIL_MAX];
        list_names(have, text, sizeof(text));
        snprintf(detail, TLS_DETAIL_MAX, "expected %.*s%s, its certificate is for %.100s",
                 (int)MIN(names[0].len, (size_t)60), (const char *)names[0].ptr,
                 n_names > 1 ? " or another" : "", text[0] != '\0' ? text : "no name");
        err = TLS_IDENTITY_MISMATCH;
    }
    GENERAL_NAMES_free(have);
    return err;
}

enum tls_err tls_verify_outside(struct tls_trust *trust, const struct slice *certs, size_t n_certs,
                                int64_t now_s, const struct slice *names, size_t n_names,
                                char *detail) {
    STACK_OF(X509) * list, *path;
    if (n_certs == 0) {
        return TLS_NO_CERTIFICATE;
    }
    if (n_certs > TLS_CHAIN_MAX) {
        snprintf(detail, TLS_DETAIL_MAX, "more than %d certificates", TLS_CHAIN_MAX);
        return TLS_BAD_CERTIFICATE;
    }
    enum tls_err err = tls_verify_path(trust, true, certs, n_certs, now_s, &list, &path, detail);
    if (err == TLS_OK && n_names > 0) {
        err = check_names(sk_X509_value(list, 0), names, n_names, detail);
    }
    sk_X509_pop_free(path, X509_free);
    sk_X509_pop_free(list, X509_free);
    ERR_clear_error();
    return err;
}

// SPDX-License-Identifier: Apache-2.0
#include "common/proc/proc_trust.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static bool is_there(const char *path) {
    struct stat st;
    return stat(path, &st) == 0;
}

const char *proc_trust_system(void) {
    static const char *const paths[] = {
        "/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt",
        "/etc/ssl/ca-bundle.pem", "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
        "/etc/ssl/cert.pem"};
    const char *own = getenv("SSL_CERT_FILE");
    if (own != NULL && own[0] != '\0') {
        return own;
    }
    for (size_t i = 0; i < ARRAY_LEN(paths); i++) {
        if (is_there(paths[i])) {
            return paths[i];
        }
    }
    return paths[0];
}

static bool is_pem(const char *setting) {
    return strstr(setting, "-----BEGIN ") != NULL;
}

// A file of that name counts before the word.
static bool is_system(const char *setting) {
    return strcmp(setting, "SYSTEM") == 0 && !is_there(setting);
}

struct http_client_file proc_trust_roots(const char *setting) {
    if (is_pem(setting)) {
        return (struct http_client_file){.text = slice_str(setting)};
    }
    return (struct http_client_file){.path = is_system(setting) ? proc_trust_system() : setting};
}

const char *proc_trust_name(const char *setting) {
    return is_pem(setting) ? "PEM" : setting;
}

struct http_client_file proc_trust_token(const char *setting) {
    bool is_path = strchr(setting, '/') != NULL || is_there(setting);
    return is_path ? (struct http_client_file){.path = setting}
                   : (struct http_client_file){.text = slice_str(setting)};
}

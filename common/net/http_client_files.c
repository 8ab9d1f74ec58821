// SPDX-License-Identifier: Apache-2.0
//
// The files of an HTTP client: roots, client certificate and token, read again when they have
// changed.
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/net/http_client_priv.h"
#include "common/proto/http_rules.h"

enum {
    PEM_MAX = 1 << 20, // bytes of the files
    TOKEN_MAX = 48 * 1024,
};

static void set_text(char **field, char *text) {
    free(*field);
    *field = text;
}

static char *file_error(const struct watched_file *file, const char *why) {
    return xasprintf("%s: %s", watched_file_path(file), why);
}

// ---- roots and client certificate --------------------------------------------------------------

static void pem_init(struct http_client_pem *pem, const struct http_client_file *file) {
    if (file->path != NULL) {
        pem->file = watched_file_new(file->path, PEM_MAX);
    } else if (file->text.len > 0) {
        pem->own = slice_dup(file->text);
        pem->text = slice_make(pem->own, file->text.len);
    }
}

static void pem_fini(struct http_client_pem *pem) {
    watched_file_free(pem->file);
    if (pem->own != NULL) {
        wipe(pem->own, pem->text.len);
    }
    free(pem->own);
}

// True: it has changed. One that cannot be read sets tls_error, and its last text stays.
static bool poll_pem(struct http_client *client, struct http_client_pem *pem) {
    struct slice text = {0};
    int rc = pem->file != NULL ? watched_file_poll(pem->file, &text) : 0;
    if (rc == 0) {
        return false;
    }
    if (rc < 0 || text.len == 0) {
        set_text(&client->tls_error,
                 file_error(pem->file, rc < 0 ? strerror(-rc) : "the file is empty or gone"));
        if (rc > 0) {
            pem->text = (struct slice){0}; // what it was is freed
        }
        return false;
    }
    pem->text = text;
    return true;
}

static bool is_missing(const struct http_client_pem *pem) {
    return pem->file != NULL && pem->text.len == 0;
}

static void renew(struct http_client *client) {
    char *error = NULL;
    struct tls_outside_params params = {.roots_pem = client->roots.text,
                                        .cert_chain_pem = client->cert.text,
                                        .key_pem = client->key.text,
                                        .compliance = client->compliance};
    struct tls_ctx *tls = tls_ctx_new_outside(&params, &error);
    if (tls == NULL) {
        const struct watched_file *file = client->roots.file;
        set_text(&client->tls_error,
                 file != NULL ? file_error(file, error) : xasprintf("roots: %s", error));
        free(error);
        return;
    }
    tls_ctx_unref(client->tls);
    client->tls = tls;
    client->trust++;
    set_text(&client->tls_error, NULL);
}

void http_client_files_tls(struct http_client *client) {
    bool is_new = poll_pem(client, &client->roots);
    is_new = poll_pem(client, &client->cert) || is_new;
    is_new = poll_pem(client, &client->key) || is_new;
    bool is_first = client->tls == NULL && client->roots.file == NULL; // a text
    bool is_whole =
        !is_missing(&client->roots) && !is_missing(&client->cert) && !is_missing(&client->key);
    if ((is_new || is_first) && is_whole) {
        renew(client);
    }
}

// ---- the token ---------------------------------------------------------------------------------

static void set_token(struct http_client *client, char *text, char *error) {
    if (client->token_text != NULL) {
        wipe(client->token_text, strlen(client->token_text));
    }
    set_text(&client->token_text, text);
    set_text(&client->token_error, error);
}

// A reason why it is none; NULL: it is in force.
static const char *take_token(struct http_client *client, struct slice text) {
    while (text.len > 0 && text.ptr[text.len - 1] <= ' ') { // a line's end
        text.len--;
    }
    if (text.len == 0) {
        return "the file is empty or gone";
    }
    if (!http_rules_is_value(text)) {
        return "this is not a token";
    }
    set_token(client, xasprintf("Bearer %.*s", SLICE_ARG(text)), NULL);
    return NULL;
}

void http_client_files_token(struct http_client *client) {
    struct slice text = {0};
    int rc = client->token != NULL ? watched_file_poll(client->token, &text) : 0;
    if (rc == 0) {
        return;
    }
    const char *why = rc < 0 ? strerror(-rc) : take_token(client, text);
    if (why != NULL) {
        set_token(client, NULL, file_error(client->token, why));
    }
}

// ---- life --------------------------------------------------------------------------------------

void http_client_files_init(struct http_client *client, const struct http_client_config *config) {
    CHECK(config->roots.path != NULL || config->roots.text.len > 0);
    pem_init(&client->roots, &config->roots);
    pem_init(&client->cert, &config->cert);
    pem_init(&client->key, &config->key);
    if (client->roots.file != NULL) {
        client->tls_error = file_error(client->roots.file, strerror(ENOENT));
    }
    if (config->token.path != NULL) {
        client->token = watched_file_new(config->token.path, TOKEN_MAX);
        client->token_error = file_error(client->token, strerror(ENOENT));
    } else if (config->token.text.len > 0) {
        const char *why = take_token(client, config->token.text);
        if (why != NULL) {
            set_token(client, NULL, xstrdup(why));
        }
    }
}

void http_client_files_fini(struct http_client *client) {
    pem_fini(&client->roots);
    pem_fini(&client->cert);
    pem_fini(&client->key);
    free(client->tls_error);
    tls_ctx_unref(client->tls);
    watched_file_free(client->token);
    set_token(client, NULL, NULL);
}

// SPDX-License-Identifier: Apache-2.0
//
// The files of a gRPC client: roots and token, read again when they have changed.
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/net/grpc_client_priv.h"
#include "common/proto/http_rules.h"

enum {
    ROOTS_MAX = 1 << 20, // bytes of the files
    TOKEN_MAX = 48 * 1024,
};

static void set_text(char **field, char *text) {
    free(*field);
    *field = text;
}

static char *file_error(const struct watched_file *file, const char *why) {
    return xasprintf("%s: %s", watched_file_path(file), why);
}

void grpc_files_roots(struct grpc_client *client) {
    struct slice pem = {0};
    int rc = watched_file_poll(client->roots, &pem);
    if (rc == 0) {
        return;
    }
    if (rc < 0 || pem.len == 0) {
        set_text(&client->roots_error,
                 file_error(client->roots, rc < 0 ? strerror(-rc) : "the file is empty or gone"));
        return;
    }
    char *error = NULL;
    struct tls_outside_params params = {.roots_pem = pem, .compliance = client->compliance};
    struct tls_ctx *tls = tls_ctx_new_outside(&params, &error);
    if (tls == NULL) {
        set_text(&client->roots_error, file_error(client->roots, error));
        free(error);
        return;
    }
    tls_ctx_unref(client->tls);
    client->tls = tls;
    client->trust++;
    set_text(&client->roots_error, NULL);
}

static void set_token(struct grpc_client *client, char *text, char *error) {
    if (client->token_text != NULL) {
        wipe(client->token_text, strlen(client->token_text));
    }
    set_text(&client->token_text, text);
    set_text(&client->token_error, error);
}

void grpc_files_token(struct grpc_client *client) {
    struct slice text = {0};
    int rc = watched_file_poll(client->token, &text);
    if (rc == 0) {
        return;
    }
    while (text.len > 0 && text.ptr[text.len - 1] <= ' ') { // a line's end
        text.len--;
    }
    if (rc < 0) {
        set_token(client, NULL, file_error(client->token, strerror(-rc)));
    } else if (text.len == 0) {
        set_token(client, NULL, file_error(client->token, "the file is empty or gone"));
    } else if (!http_rules_is_value(text)) {
        set_token(client, NULL, file_error(client->token, "this is not a token"));
    } else {
        set_token(client, xasprintf("Bearer %.*s", SLICE_ARG(text)), NULL);
    }
}

void grpc_files_init(struct grpc_client *client, const char *roots_path, const char *token_path) {
    CHECK(roots_path != NULL);
    client->roots = watched_file_new(roots_path, ROOTS_MAX);
    client->roots_error = file_error(client->roots, strerror(ENOENT));
    if (token_path != NULL) {
        client->token = watched_file_new(token_path, TOKEN_MAX);
        client->token_error = file_error(client->token, strerror(ENOENT));
    }
}

void grpc_files_fini(struct grpc_client *client) {
    watched_file_free(client->roots);
    free(client->roots_error);
    tls_ctx_unref(client->tls);
    watched_file_free(client->token);
    set_token(client, NULL, NULL);
}

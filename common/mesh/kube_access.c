// SPDX-License-Identifier: Apache-2.0
#include "common/mesh/kube_access.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/mesh/config_doc.h"
#include "common/mesh/schema.h"
#include "common/rt/file.h"

enum { FILE_MAX = 1 << 20 };

static char *join(const char *dir, const char *name) {
    return xasprintf("%s/%s", dir, name);
}

// The port of the scheme where the URL has none.
static char *with_port(const char *url) {
    bool is_plain = strncmp(url, "http://", 7) == 0;
    const char *host = strstr(url, "://") != NULL ? strstr(url, "://") + 3 : url;
    const char *end = strchr(host, ']') != NULL ? strchr(host, ']') : host;
    size_t len = strlen(url);
    while (len > 0 && url[len - 1] == '/') {
        len--;
    }
    return strchr(end, ':') != NULL ? xstrndup(url, len)
                                    : xasprintf("%.*s:%s", (int)len, url, is_plain ? "80" : "443");
}

// ---- the pod's service account -----------------------------------------------------------------

static void take_account(struct kube_access *access, const char *dir) {
    char *path = join(dir, "namespace"), *text = NULL;
    size_t len = 0;
    if (file_read(path, FILE_MAX, &text, &len) == 0) {
        struct slice ns = slice_trim(slice_make(text, strcspn(text, "\n")));
        access->ns = ns.len > 0 ? slice_dup(ns) : NULL;
    }
    free(path);
    free(text);
    access->roots.path = join(dir, "ca.crt");
    access->token.path = join(dir, "token");
}

static char *find_in_cluster(struct kube_access *access, const char *dir) {
    const char *host = getenv("KUBERNETES_SERVICE_HOST"), *port = getenv("KUBERNETES_SERVICE_PORT");
    if (host == NULL || host[0] == '\0' || port == NULL || port[0] == '\0') {
        return xstrdup("in-cluster: KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT are not "
                       "set, so this is no pod");
    }
    bool is_ip6 = strchr(host, ':') != NULL && host[0] != '[';
    access->address =
        xasprintf("https://%s%s%s:%s", is_ip6 ? "[" : "", host, is_ip6 ? "]" : "", port);
    take_account(access, dir);
    return NULL;
}

// ---- a kubeconfig ------------------------------------------------------------------------------

struct reading {
    struct kube_access *access;
    const char *path; // of the file
    char *error;
};

// The one of a list that has the name: its map `what`.
static const struct cfg_node *named(const struct cfg_node *root, const char *list, const char *name,
                                    const char *what) {
    const struct cfg_node *items = cfg_get(root, list);
    for (uint32_t i = 0; items != NULL && items->type == CFG_LIST && i < items->n; i++) {
        if (strcmp(cfg_str(cfg_get(&items->items[i], "name"), ""), name) == 0) {
            return cfg_get(&items->items[i], what);
        }
    }
    return NULL;
}

// A path is relative to the kubeconfig.
static char *resolve(const struct reading *r, const char *path) {
    const char *slash = strrchr(r->path, '/');
    return path[0] == '/' || slash == NULL
               ? xstrdup(path)
               : xasprintf("%.*s/%s", (int)(slash - r->path), r->path, path);
}

static void take_file(struct reading *r, const struct cfg_node *map, const char *key,
                      struct http_client_file *file) {
    char data_key[64];
    snprintf(data_key, sizeof(data_key), "%s-data", key);
    struct slice data = slice_str(cfg_str(cfg_get(map, data_key), ""));
    const char *path = cfg_str(cfg_get(map, key), "");
    if (data.len > 0) { // counts before the file, as kubectl has it
        uint8_t *text = xcalloc(1, data.len);
        size_t len = 0;
        if (!schema_base64(data, text, &len) && r->error == NULL) {
            r->error = xasprintf("%s: %s is not base64", r->path, data_key);
        }
        file->text = slice_make(text, len);
    } else if (path[0] != '\0') {
        file->path = resolve(r, path);
    }
}

static void take_user(struct reading *r, const struct cfg_node *user) {
    static const char *const refused[] = {"exec", "auth-provider", "username", "password"};
    for (size_t i = 0; i < ARRAY_LEN(refused); i++) {
        if (cfg_get(user, refused[i]) != NULL && r->error == NULL) {
            r->error = xasprintf("%s: the user has `%s`, which is not supported: give it a token "
                                 "or a client certificate",
                                 r->path, refused[i]);
        }
    }
    const char *token = cfg_str(cfg_get(user, "token"), "");
    const char *token_file = cfg_str(cfg_get(user, "tokenFile"), "");
    if (token_file[0] != '\0') {
        r->access->token.path = resolve(r, token_file);
    } else if (token[0] != '\0') {
        r->access->token.text = slice_make(xstrdup(token), strlen(token));
    }
    take_file(r, user, "client-certificate", &r->access->cert);
    take_file(r, user, "client-key", &r->access->key);
}

static void take_config(struct reading *r, const struct cfg_node *root) {
    const char *current = cfg_str(cfg_get(root, "current-context"), "");
    const struct cfg_node *context = named(root, "contexts", current, "context");
    const char *cluster_name = cfg_str(cfg_get(context, "cluster"), "");
    const struct cfg_node *cluster = named(root, "clusters", cluster_name, "cluster");
    const char *server = cfg_str(cfg_get(cluster, "server"), "");
    const struct cfg_node *skips = cfg_get(cluster, "insecure-skip-tls-verify");
    if (context == NULL || server[0] == '\0') {
        r->error = xasprintf("%s: the current context (\"%s\") has no cluster with a server",
                             r->path, current);
        return;
    }
    if (skips != NULL && skips->type == CFG_BOOL && strcmp(skips->text, "true") == 0) {
        r->error = xasprintf("%s: insecure-skip-tls-verify is not supported", r->path);
        return;
    }
    r->access->address = with_port(server);
    const char *name = cfg_str(cfg_get(cluster, "tls-server-name"), "");
    r->access->server_name = name[0] != '\0' ? xstrdup(name) : NULL;
    const char *ns = cfg_str(cfg_get(context, "namespace"), "");
    r->access->ns = ns[0] != '\0' ? xstrdup(ns) : NULL;
    take_file(r, cluster, "certificate-authority", &r->access->roots);
    take_user(r, named(root, "users", cfg_str(cfg_get(context, "user"), ""), "user"));
    bool has_roots = r->access->roots.path != NULL || r->access->roots.text.len > 0;
    if (r->error == NULL && !has_roots && strncmp(server, "https://", 8) == 0) {
        r->error =
            xasprintf("%s: the cluster \"%s\" has no certificate-authority", r->path, cluster_name);
    }
}

static char *find_kubeconfig(struct kube_access *access, const char *path) {
    struct reading r = {.access = access, .path = path};
    struct config_doc_reader reader;
    struct config_errors errors;
    struct cfg_node root;
    struct arena arena;
    char *text = NULL;
    size_t len = 0;
    int rc = file_read(path, FILE_MAX, &text, &len);
    if (rc < 0) {
        return xasprintf("%s: %s", path, strerror(-rc));
    }
    arena_init(&arena, 64 << 20);
    config_errors_init(&errors);
    config_doc_reader_init(&reader, path, slice_make(text, len), CONFIG_AUTO, NULL);
    if (config_doc_next(&reader, &arena, &errors, &root) > 0 && !root.is_bad) {
        take_config(&r, &root);
    } else {
        r.error = errors.n > 0 ? config_error_text(&errors.items[0])
                               : xasprintf("%s: this is no kubeconfig", path);
    }
    config_errors_fini(&errors);
    arena_fini(&arena);
    wipe(text, len);
    free(text);
    return r.error;
}

// ---- both --------------------------------------------------------------------------------------

static char *find(struct kube_access *access, const char *where, const char *account_dir) {
    if (strcmp(where, "in-cluster") == 0) {
        return find_in_cluster(access, account_dir);
    }
    if (strncmp(where, "https://", 8) == 0) {
        access->address = with_port(where);
        take_account(access, account_dir);
        return NULL;
    }
    if (strncmp(where, "http://", 7) == 0) {
        access->address = with_port(where);
        return NULL;
    }
    return find_kubeconfig(access, where);
}

char *kube_access_find(struct kube_access *access, const char *where, const char *account_dir) {
    *access = (struct kube_access){0};
    char *error = find(access, where, account_dir);
    if (error != NULL) {
        kube_access_fini(access);
    }
    return error;
}

static void file_fini(struct http_client_file *file) {
    if (file->text.len > 0) {
        wipe((void *)(uintptr_t)file->text.ptr, file->text.len);
    }
    free((void *)(uintptr_t)file->text.ptr);
    free((void *)(uintptr_t)file->path);
}

void kube_access_fini(struct kube_access *access) {
    free(access->address);
    free(access->server_name);
    free(access->ns);
    file_fini(&access->roots);
    file_fini(&access->token);
    file_fini(&access->cert);
    file_fini(&access->key);
    *access = (struct kube_access){0};
}

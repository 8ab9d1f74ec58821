// SPDX-License-Identifier: Apache-2.0
#include "common/proc/proc_proxy_config.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/mesh/config_doc.h"
#include "common/rt/file.h"

#define META "ISTIO_META_"

enum {
    TEXT_MAX = 1 << 20,
    CONCURRENCY_MAX = 1024, // as of --workers
};

// What was said so far: of two documents the first counts, field by field.
struct found {
    char *address;
    int64_t concurrency, admin_port, stats_port; // -1: nothing
};

struct reader {
    struct found *found;
    const char *program;
    const char *name; // of what is read
    bool is_bad;
};

static void complain(struct reader *r, const char *fmt, ...) PRINTF_LIKE(2, 3);
static void complain(struct reader *r, const char *fmt, ...) {
    va_list args;
    va_start(args, fmt);
    fprintf(stderr, "%s: %s: ", r->program, r->name);
    vfprintf(stderr, fmt, args);
    fputc('\n', stderr);
    va_end(args);
    r->is_bad = true;
}

// ---- fields ------------------------------------------------------------------------------------

static bool is_absent(const struct cfg_node *node) {
    return node == NULL || node->type == CFG_NULL;
}

static const char *take_text(struct reader *r, const struct cfg_node *node, const char *key) {
    if (is_absent(node)) {
        return NULL;
    }
    const char *text = cfg_str(node, NULL);
    if (text == NULL) {
        complain(r, "%s: expected a string, found %s", key, cfg_type_text(node->type));
    }
    return text;
}

static void take_number(struct reader *r, const struct cfg_node *map, const char *key, int64_t min,
                        int64_t max, int64_t *at) {
    const struct cfg_node *node = cfg_get(map, key);
    int64_t n = 0;
    if (is_absent(node)) {
        return;
    }
    if (!cfg_to_int(node, &n) || n < min || n > max) {
        complain(r, "%s: expected a number from %lld to %lld", key, (long long)min, (long long)max);
    } else if (*at < 0) {
        *at = n;
    }
}

// The environment is what the options and the node's metadata are read from; what is there stays.
static void take_metadata(struct reader *r, const struct cfg_node *map) {
    if (is_absent(map)) {
        return;
    }
    if (map->type != CFG_MAP) {
        complain(r, "proxyMetadata: expected a map, found %s", cfg_type_text(map->type));
        return;
    }
    for (uint32_t i = 0; i < map->n; i++) {
        const char *key = map->pairs[i].key.text;
        bool has_prefix = strncmp(key, META, strlen(META)) == 0;
        char *name = xasprintf("%s%s", has_prefix ? "" : META, key);
        char *path = xasprintf("proxyMetadata.%s", key);
        const char *text = take_text(r, &map->pairs[i].value, path);
        if (strchr(name, '=') != NULL || strcmp(name, META) == 0) {
            complain(r, "%s: this cannot be a name", path);
        } else if (text != NULL) {
            CHECK(setenv(name, text, 0) == 0);
        }
        free(path);
        free(name);
    }
}

static void take_fields(struct reader *r, const struct cfg_node *map) {
    struct found *found = r->found;
    if (is_absent(map)) {
        return;
    }
    if (map->type != CFG_MAP) {
        complain(r, "expected a map of ProxyConfig, found %s", cfg_type_text(map->type));
        return;
    }
    const char *address = take_text(r, cfg_get(map, "discoveryAddress"), "discoveryAddress");
    if (address != NULL && found->address == NULL) {
        found->address = xstrdup(address);
    }
    take_number(r, map, "concurrency", 0, CONCURRENCY_MAX, &found->concurrency);
    take_number(r, map, "proxyAdminPort", 1, UINT16_MAX, &found->admin_port);
    take_number(r, map, "statsPort", 1, UINT16_MAX, &found->stats_port);
    take_metadata(r, cfg_get(map, "proxyMetadata"));
}

// ---- documents ---------------------------------------------------------------------------------

static void complain_all(struct reader *r, const struct config_errors *errors) {
    for (uint32_t i = 0; i < errors->n; i++) {
        char *text = config_error_text(&errors->items[i]);
        fprintf(stderr, "%s: %s\n", r->program, text);
        free(text);
    }
    r->is_bad = true;
}

// `key`: the part of the document that counts; NULL: all of it.
static void read_document(struct reader *r, struct slice text, const char *key) {
    struct config_doc_reader reader;
    struct config_errors errors;
    struct cfg_node root;
    struct arena arena;
    config_errors_init(&errors);
    arena_init(&arena, SIZE_MAX);
    config_doc_reader_init(&reader, r->name, text, CONFIG_YAML, NULL);
    int rc = config_doc_next(&reader, &arena, &errors, &root);
    if (rc < 0 || errors.n_errors > 0) {
        complain_all(r, &errors);
    } else if (rc > 0 && root.type != CFG_MAP) {
        complain(r, "expected a map, found %s", cfg_type_text(root.type));
    } else if (rc > 0) {
        take_fields(r, key != NULL ? cfg_get(&root, key) : &root);
    }
    arena_fini(&arena);
    config_errors_fini(&errors);
}

static void read_file(struct reader *r, const char *path) {
    char *text = NULL;
    size_t len = 0;
    int rc = file_read(path, TEXT_MAX, &text, &len);
    if (rc == -ENOENT || rc == -ENOTDIR) {
        return;
    }
    if (rc < 0) {
        complain(r, "%s", strerror(-rc));
        return;
    }
    read_document(r, slice_make(text, len), "defaultConfig");
    free(text);
}

static void apply(struct proc_config *config, struct found *found) {
    if (found->address != NULL && getenv("XDS_ADDRESS") == NULL) { // an empty one says: none
        config->xds_address = found->address; // as long as the process
    } else {
        free(found->address);
    }
    if (found->concurrency >= 0) {
        config->workers = (struct proc_threads){.n = (uint32_t)found->concurrency, .is_set = true};
    }
    if (found->admin_port > 0) {
        config->admin.port = (uint16_t)found->admin_port;
    }
    if (found->stats_port > 0) {
        config->metrics.port = (uint16_t)found->stats_port;
    }
}

bool proc_proxy_config(struct proc_config *config, const char *program, const char *mesh_file,
                       const char *text) {
    struct found found = {.concurrency = -1, .admin_port = -1, .stats_port = -1};
    struct reader own = {.found = &found, .program = program, .name = "PROXY_CONFIG"};
    struct reader mesh = {.found = &found, .program = program, .name = mesh_file};
    if (text != NULL && text[0] != '\0') {
        read_document(&own, slice_str(text), NULL);
    }
    read_file(&mesh, mesh_file);
    apply(config, &found);
    return !own.is_bad && !mesh.is_bad;
}

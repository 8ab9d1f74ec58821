// SPDX-License-Identifier: Apache-2.0

#include "ctl/local_docs.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/base/arena.h"
#include "common/mesh/config_doc.h"
#include "ctl/local_text.h"

enum { STDIN_MAX = 16 << 20 };

static json_t *to_json(const struct cfg_node *node) {
    switch (node->type) {
    case CFG_BOOL:
        return json_boolean(node->text[0] == 't');
    case CFG_INT: {
        int64_t value;
        return cfg_to_int(node, &value) ? json_integer(value) : json_string(node->text);
    }
    case CFG_FLOAT:
        return json_real(strtod(node->text, NULL));
    case CFG_STRING: {
        json_t *text = json_stringn(node->text, node->n);
        return text != NULL ? text : json_string(""); // not UTF-8
    }
    case CFG_LIST: {
        json_t *list = json_array();
        for (uint32_t i = 0; i < node->n; i++) {
            json_array_append_new(list, to_json(&node->items[i]));
        }
        return list;
    }
    case CFG_MAP: {
        json_t *map = json_object();
        for (uint32_t i = 0; i < node->n; i++) {
            json_object_set_new(map, node->pairs[i].key.text, to_json(&node->pairs[i].value));
        }
        return map;
    }
    default:
        return json_null();
    }
}

static int add_object(void *arg, const struct cfg_node *object) {
    json_array_append_new(arg, to_json(object));
    return 0;
}

static int parse(const char *file, const char *text, size_t len, json_t *docs, char **ret_error) {
    struct arena arena;
    struct config_errors errors;
    arena_init(&arena, SIZE_MAX);
    config_errors_init(&errors);
    struct config_doc_reader reader;
    config_doc_reader_init(&reader, file, slice_make(text, len), CONFIG_AUTO, NULL);
    struct cfg_node root;
    int rc;
    while ((rc = config_doc_next(&reader, &arena, &errors, &root)) != 0) {
        if (rc > 0) {
            config_doc_each(&root, &arena, file, &errors, add_object, docs);
        }
    }
    struct text message = {0};
    for (uint32_t i = 0; i < errors.n; i++) {
        if (errors.items[i].severity == CONFIG_ERROR) {
            char *line = config_error_text(&errors.items[i]);
            text_add(&message, "%s%s", message.len > 0 ? "\n" : "", line);
            free(line);
        }
    }
    rc = errors.n_errors > 0 ? -EINVAL : 0;
    config_errors_fini(&errors);
    arena_fini(&arena);
    if (rc < 0) {
        *ret_error = text_take(&message);
    }
    return rc;
}

static int load_file(const char *path, json_t *docs, char **ret_error) {
    char *text = NULL;
    size_t len = 0;
    int rc = config_doc_read_file(path, STDIN_MAX, &text, &len);
    if (rc < 0) {
        *ret_error = xasprintf("%s: %s", path, strerror(-rc));
        return rc;
    }
    rc = parse(path, text, len, docs, ret_error);
    free(text);
    return rc;
}

static int load_stdin(json_t *docs, char **ret_error) {
    char *text = xmalloc(STDIN_MAX);
    size_t len = 0;
    ssize_t n;
    while (len < STDIN_MAX && (n = read(0, text + len, STDIN_MAX - len)) > 0) {
        len += (size_t)n;
    }
    int rc = -EFBIG;
    if (len == STDIN_MAX) {
        *ret_error = xstrdup("stdin: too large");
    } else {
        rc = parse("stdin", text, len, docs, ret_error);
    }
    free(text);
    return rc;
}

static int is_document(const struct dirent *entry) {
    const char *dot = strrchr(entry->d_name, '.');
    return entry->d_name[0] != '.' && dot != NULL &&
           (strcmp(dot, ".yaml") == 0 || strcmp(dot, ".yml") == 0 || strcmp(dot, ".json") == 0);
}

static int load_dir(const char *path, json_t *docs, char **ret_error) {
    struct dirent **entries = NULL;
    int n = scandir(path, &entries, is_document, alphasort);
    int rc = n < 0 ? -errno : 0;
    if (rc < 0) {
        *ret_error = xasprintf("%s: %s", path, strerror(-rc));
    }
    for (int i = 0; i < n; i++) {
        char *file = xasprintf("%s/%s", path, entries[i]->d_name);
        if (rc == 0) {
            rc = load_file(file, docs, ret_error);
        }
        free(file);
        free(entries[i]);
    }
    free(entries);
    return rc;
}

int lab_docs_load(const char *path, json_t **ret_docs, char **ret_error) {
    json_t *docs = json_array();
    struct stat st;
    int rc;
    if (strcmp(path, "-") == 0) {
        rc = load_stdin(docs, ret_error);
    } else if (stat(path, &st) == 0 && S_ISDIR(st.st_mode)) {
        rc = load_dir(path, docs, ret_error);
    } else {
        rc = load_file(path, docs, ret_error);
    }
    if (rc < 0) {
        json_decref(docs);
        return rc;
    }
    *ret_docs = docs;
    return 0;
}

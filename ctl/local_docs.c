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
#include "common/rt/file.h"
#include "ctl/local_text.h"

enum { STDIN_MAX = 16 << 20 };

struct loading {
    const char *file;
    struct lab_check *check; // NULL: everything is taken
    json_t *docs;
};

static int add_object(void *arg, const struct cfg_node *object) {
    struct loading *loading = arg;
    json_t *doc = loading->check != NULL ? lab_check_doc(loading->check, loading->file, object)
                                         : lab_json_of(object);
    if (doc != NULL) {
        json_array_append_new(loading->docs, doc);
    }
    return 0;
}

// kubectl's words, and where it is.
static char *parse_error(const char *file, const struct config_errors *errors) {
    struct text message = {0};
    text_add(&message, "error: error parsing %s: error converting YAML to JSON:", file);
    for (uint32_t i = 0; i < errors->n; i++) {
        if (errors->items[i].severity == CONFIG_ERROR) {
            char *line = config_error_text(&errors->items[i]);
            text_add(&message, "\n  %s", line);
            free(line);
        }
    }
    return text_take(&message);
}

static int parse(struct loading *loading, const char *text, size_t len, char **ret_error) {
    const char *file = loading->file;
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
            config_doc_each(&root, &arena, file, &errors, add_object, loading);
        }
    }
    rc = errors.n_errors > 0 ? -EINVAL : 0;
    if (rc < 0) {
        *ret_error = parse_error(file, &errors);
    }
    config_errors_fini(&errors);
    arena_fini(&arena);
    return rc;
}

static int load_file(const char *path, struct loading *loading, char **ret_error) {
    char *text = NULL;
    size_t len = 0;
    int rc = file_read(path, STDIN_MAX, &text, &len);
    if (rc < 0) {
        *ret_error = xasprintf("%s: %s", path, strerror(-rc));
        return rc;
    }
    loading->file = path;
    rc = parse(loading, text, len, ret_error);
    free(text);
    return rc;
}

static int load_stdin(struct loading *loading, char **ret_error) {
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
        loading->file = "STDIN";
        rc = parse(loading, text, len, ret_error);
    }
    free(text);
    return rc;
}

static int is_document(const struct dirent *entry) {
    const char *dot = strrchr(entry->d_name, '.');
    return entry->d_name[0] != '.' && dot != NULL &&
           (strcmp(dot, ".yaml") == 0 || strcmp(dot, ".yml") == 0 || strcmp(dot, ".json") == 0);
}

static int load_dir(const char *path, struct loading *loading, char **ret_error) {
    struct dirent **entries = NULL;
    int n = scandir(path, &entries, is_document, alphasort);
    int rc = n < 0 ? -errno : 0;
    if (rc < 0) {
        *ret_error = xasprintf("%s: %s", path, strerror(-rc));
    }
    for (int i = 0; i < n; i++) {
        char *file = xasprintf("%s/%s", path, entries[i]->d_name);
        if (rc == 0) {
            rc = load_file(file, loading, ret_error);
        }
        free(file);
        free(entries[i]);
    }
    free(entries);
    return rc;
}

int lab_docs_load(const char *path, struct lab_check *check, json_t **ret_docs, char **ret_error) {
    json_t *docs = json_array();
    struct loading loading = {.check = check, .docs = docs};
    struct stat st;
    int rc;
    if (strcmp(path, "-") == 0) {
        rc = load_stdin(&loading, ret_error);
    } else if (stat(path, &st) == 0 && S_ISDIR(st.st_mode)) {
        rc = load_dir(path, &loading, ret_error);
    } else {
        rc = load_file(path, &loading, ret_error);
    }
    if (rc < 0) {
        json_decref(docs);
        return rc;
    }
    *ret_docs = docs;
    return 0;
}

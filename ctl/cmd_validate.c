// SPDX-License-Identifier: Apache-2.0
//
// ztunctl validate PATH...
#include <dirent.h>
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "common/base/json_out.h"
#include "common/mesh/config_doc.h"
#include "common/rt/file.h"
#include "ctl/cmd.h"
#include "ctl/cmd_validate.h"

enum { MAX_DEPTH = 16 };

struct options {
    bool is_json, is_quiet, is_strict;
};

static void usage(FILE *out) {
    fputs(
        "usage: ztunctl validate [-o text|json] [-q] [--strict] PATH...\n"
        "\n"
        "Checks configuration as strictly as possible: the YAML or JSON itself, every field of\n"
        "every object (unknown ones with the name that was probably meant), values, Istio's own\n"
        "rules, and references between the documents.\n"
        "\n"
        "PATH is a file, a directory (its *.yaml, *.yml and *.json files, at any depth), or - for\n"
        "standard input. All paths together are one configuration. `kubectl get -o yaml` output\n"
        "is valid as it is.\n"
        "\n"
        "  -o text|json   text (default): FILE:LINE:COL: KIND NAMESPACE/NAME: FIELD: MESSAGE,\n"
        "                 one a line; json: one object with all messages\n"
        "  -q, --quiet    errors only, no warnings or notes\n"
        "  --strict       warnings make it invalid, too\n"
        "\n"
        "Warnings tell of what is valid but probably not meant: a selector that matches no pod,\n"
        "a port that no container has, rules that L4 cannot enforce, routes that no waypoint\n"
        "reads, subsets that no DestinationRule has. Notes tell of what is common and fine, but\n"
        "does less than many texts say.\n"
        "\n"
        "Exit codes: 0 valid, 1 invalid or unreadable, 2 wrong usage.\n",
        out);
}

// Reading

struct file {
    struct validate *v;
    const char *name;
    struct kobj **objs;
    uint32_t n, cap;
};

static int on_object(void *arg, const struct cfg_node *node) {
    struct file *file = arg;
    struct validate *v = file->v;

    v->n_objects++;
    struct kobj *obj = kobj_decode(node, file->name, KOBJ_KEEP_TREE, &v->arena, &v->errors);
    if (obj == NULL) {
        return 0;
    }
    if (file->n == file->cap) {
        file->cap = file->cap != 0 ? file->cap * 2 : 16;
        file->objs = xrealloc(file->objs, file->cap * sizeof(file->objs[0]));
    }
    file->objs[file->n++] = obj;
    return 0;
}

static void check_text(struct validate *v, const char *name, struct slice text) {
    struct file file = {.v = v, .name = name};
    struct config_doc_reader reader;
    struct cfg_node root;
    int r;

    config_doc_reader_init(&reader, name, text, CONFIG_AUTO, NULL);
    while ((r = config_doc_next(&reader, &v->arena, &v->errors, &root)) != 0) {
        if (r > 0) {
            config_doc_each(&root, &v->arena, name, &v->errors, on_object, &file);
        }
        arena_reset(&v->arena);
    }
    config_store_put_file(v->store, name, file.objs, file.n, NULL, 0, false);
    for (uint32_t i = 0; i < file.n; i++) {
        kobj_unref(file.objs[i]);
    }
    free(file.objs);
    v->n_files++;
}

static void file_error(struct validate *v, const char *name, int error) {
    char text[128];

    snprintf(text, sizeof(text), "cannot be read: %s",
             error == -EFBIG ? "it is too large" : strerror(-error));
    config_errors_add(&v->errors, &(struct config_error){.file = name, .text = text});
}

static void check_file(struct validate *v, const char *path) {
    char *text;
    size_t len;
    int r = file_read(path, config_doc_default_limits.max_bytes, &text, &len);

    if (r < 0) {
        file_error(v, path, r);
        return;
    }
    check_text(v, path, slice_make(text, len));
    free(text);
}

static void check_stdin(struct validate *v) {
    struct buf buf;
    char chunk[65536];
    size_t n;

    buf_init(&buf, config_doc_default_limits.max_bytes);
    while ((n = fread(chunk, 1, sizeof(chunk), stdin)) > 0) {
        buf_append(&buf, slice_make(chunk, n));
    }
    if (!buf_ok(&buf) || ferror(stdin)) {
        file_error(v, "-", buf_ok(&buf) ? -EIO : -EFBIG);
    } else {
        check_text(v, "-", buf_slice(&buf));
    }
    buf_fini(&buf);
}

static bool is_config_name(const char *name) {
    static const char *const suffixes[] = {".yaml", ".yml", ".json"};
    struct slice text = slice_str(name);

    for (size_t i = 0; i < ARRAY_LEN(suffixes); i++) {
        if (slice_has_suffix(text, slice_str(suffixes[i]))) {
            return true;
        }
    }
    return false;
}

static int not_hidden(const struct dirent *item) {
    return item->d_name[0] != '.';
}

static void check_dir(struct validate *v, const char *dir, unsigned depth) {
    struct dirent **items;
    struct stat st;
    int n = depth < MAX_DEPTH ? scandir(dir, &items, not_hidden, alphasort) : 0;

    if (n < 0) {
        file_error(v, dir, -errno);
        return;
    }
    for (int i = 0; i < n; i++) {
        char *path =
            xasprintf("%s%s%s", dir, dir[strlen(dir) - 1] == '/' ? "" : "/", items[i]->d_name);
        if (stat(path, &st) == 0 && S_ISDIR(st.st_mode)) {
            check_dir(v, path, depth + 1);
        } else if (is_config_name(items[i]->d_name)) {
            check_file(v, path);
        }
        free(path);
        free(items[i]);
    }
    if (depth < MAX_DEPTH) {
        free(items);
    }
}

static void check_path(struct validate *v, const char *path) {
    struct stat st;

    if (strcmp(path, "-") == 0) {
        check_stdin(v);
    } else if (stat(path, &st) < 0) {
        file_error(v, path, -errno);
    } else if (S_ISDIR(st.st_mode)) {
        uint32_t n_before = v->n_files, n_errors = v->errors.n_errors;
        check_dir(v, path, 0);
        if (v->n_files == n_before && v->errors.n_errors == n_errors) {
            config_errors_add(&v->errors, &(struct config_error){.severity = CONFIG_WARNING,
                                                                 .file = path,
                                                                 .text = "has no *.yaml, *.yml or "
                                                                         "*.json files"});
        }
    } else {
        check_file(v, path);
    }
}

// Printing

static void print_text(const struct validate *v, const struct options *options) {
    for (uint32_t i = 0; i < v->errors.n; i++) {
        const struct config_error *error = &v->errors.items[i];
        if (error->severity != CONFIG_ERROR && options->is_quiet) {
            continue;
        }
        char *text = config_error_text(error);
        puts(text);
        free(text);
    }
    uint32_t n_errors = v->errors.n_errors, n_warnings = v->errors.n_warnings;
    fprintf(stderr, "%u file%s, %u object%s: ", v->n_files, v->n_files == 1 ? "" : "s",
            v->n_objects, v->n_objects == 1 ? "" : "s");
    if (n_errors == 0) {
        fputs("valid", stderr);
    } else {
        fprintf(stderr, "%u error%s", n_errors, n_errors == 1 ? "" : "s");
    }
    if (n_warnings > 0) {
        fprintf(stderr, ", %u warning%s", n_warnings, n_warnings == 1 ? "" : "s");
    }
    if (v->errors.n_notes > 0) {
        fprintf(stderr, ", %u note%s", v->errors.n_notes, v->errors.n_notes == 1 ? "" : "s");
    }
    fputc('\n', stderr);
}

static void print_message(struct json_out *out, const struct config_error *error) {
    static const char *const severities[] = {
        [CONFIG_ERROR] = "error", [CONFIG_WARNING] = "warning", [CONFIG_NOTE] = "note"};
    json_out_begin_object(out);
    json_out_kv_str(out, "severity", severities[error->severity]);
    json_out_kv_str(out, "file", error->file);
    if (error->line != 0) {
        json_out_kv_u64(out, "line", error->line);
        json_out_kv_u64(out, "column", error->col);
    }
    const struct {
        const char *key, *value;
    } texts[] = {{"object", error->object},
                 {"field", error->path},
                 {"message", error->text},
                 {"suggestion", error->hint}};
    for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
        if (texts[i].value[0] != '\0') {
            json_out_kv_str(out, texts[i].key, texts[i].value);
        }
    }
    json_out_end(out);
}

static void print_json(const struct validate *v, const struct options *options, bool is_valid) {
    struct json_out out;
    struct buf buf;

    buf_init(&buf, SIZE_MAX);
    json_out_init(&out, &buf, true);
    json_out_begin_object(&out);
    json_out_kv_bool(&out, "valid", is_valid);
    json_out_kv_u64(&out, "files", v->n_files);
    json_out_kv_u64(&out, "objects", v->n_objects);
    json_out_kv_u64(&out, "errors", v->errors.n_errors);
    json_out_kv_u64(&out, "warnings", v->errors.n_warnings);
    json_out_kv_u64(&out, "notes", v->errors.n_notes);
    json_out_kv_array(&out, "messages");
    for (uint32_t i = 0; i < v->errors.n; i++) {
        if (!options->is_quiet || v->errors.items[i].severity == CONFIG_ERROR) {
            print_message(&out, &v->errors.items[i]);
        }
    }
    json_out_end(&out);
    json_out_end(&out);
    puts(buf_cstr(&buf));
    buf_fini(&buf);
}

static bool validate(char *const *paths, const struct options *options) {
    struct validate v = {.store = config_store_new()};

    config_errors_init(&v.errors);
    arena_init(&v.arena, SIZE_MAX);
    config_store_begin(v.store);
    for (; *paths != NULL; paths++) {
        check_path(&v, *paths);
    }
    config_store_commit(v.store);
    config_store_duplicates(v.store, &v.errors);
    validate_index_init(&v);
    validate_refs(&v);
    validate_policies(&v);
    validate_l7(&v);
    config_errors_sort(&v.errors);
    bool is_valid = v.errors.n_errors == 0 && !(options->is_strict && v.errors.n_warnings > 0);
    if (options->is_json) {
        print_json(&v, options, is_valid);
    } else {
        print_text(&v, options);
    }
    validate_index_fini(&v);
    config_store_free(v.store);
    config_errors_fini(&v.errors);
    arena_fini(&v.arena);
    return is_valid;
}

int cmd_validate(int argc, char **argv) {
    static const struct option longs[] = {{"output", required_argument, NULL, 'o'},
                                          {"quiet", no_argument, NULL, 'q'},
                                          {"strict", no_argument, NULL, 's'},
                                          {"help", no_argument, NULL, 'h'},
                                          {NULL, 0, NULL, 0}};
    struct options options = {0};
    int c;

    optind = 0;
    while ((c = getopt_long(argc, argv, "o:qh", longs, NULL)) != -1) {
        switch (c) {
        case 'o':
            options.is_json = strcmp(optarg, "json") == 0;
            if (!options.is_json && strcmp(optarg, "text") != 0) {
                fprintf(stderr, "ztunctl validate: -o takes text or json, not `%s`\n", optarg);
                return CMD_USAGE;
            }
            break;
        case 'q':
            options.is_quiet = true;
            break;
        case 's':
            options.is_strict = true;
            break;
        case 'h':
            usage(stdout);
            return CMD_OK;
        default:
            return CMD_USAGE; // getopt has said why
        }
    }
    if (optind == argc) {
        fputs("ztunctl validate: which PATH? (ztunctl help validate)\n", stderr);
        return CMD_USAGE;
    }
    return validate(argv + optind, &options) ? CMD_OK : CMD_FAILED;
}

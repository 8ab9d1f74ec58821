// SPDX-License-Identifier: Apache-2.0
//
// ztunctl schema: JSON Schemas of what is read, for editors.
#include <ctype.h>
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "common/base/json_out.h"
#include "common/mesh/kobj_schema.h"
#include "common/mesh/schema.h"
#include "ctl/cmd.h"
#include "ctl/local_sys.h"

static const char mesh_kind[] = "MeshConfig";

static void usage(FILE *out) {
    fputs("usage: ztunctl schema [KIND]\n"
          "       ztunctl schema --list [-o text|json]\n"
          "       ztunctl schema --dir DIR\n"
          "\n"
          "Prints the JSON Schema (draft 7) of a kind, for editors and linters; without KIND that "
          "of\n"
          "any object and of Lists, where apiVersion and kind decide. It is made from the tables\n"
          "that ztun reads with: names, types, ranges, values, required and exclusive fields.\n"
          "`ztunctl validate` knows more (rules over several fields, references), so what it\n"
          "accepts, a schema accepts.\n"
          "\n"
          "KIND is a name in any case (VirtualService), with its group where that is not clear\n"
          "(gateway.networking.k8s.io/Gateway), or MeshConfig: the text `mesh` in the ConfigMap\n"
          "istio.\n"
          "\n"
          "  --list    what kinds there are, with their versions\n"
          "  --dir     writes all of them into DIR: all.json, KIND.json in lower case, and\n"
          "            index.json, the setting `yaml.schemas` of the YAML language server\n"
          "\n"
          "In a file of its own, a first line `# yaml-language-server: $schema=all.json` does the\n"
          "same as that setting. For kubeconform: -schema-location 'DIR/{{.ResourceKind}}.json'.\n",
          out);
}

static void list_text(void) {
    const char *group, *versions;

    for (int kind = 0; kind < KOBJ_N_KINDS; kind++) {
        if (kobj_schema_info((enum kobj_kind)kind, &group, &versions)) {
            printf("%-22s %-26s %s\n", kobj_kind_text((enum kobj_kind)kind),
                   group[0] != '\0' ? group : "core", versions);
        }
    }
    printf("%-22s %-26s %s\n", mesh_kind, "-", "-");
}

static void list_json(void) {
    const char *group, *versions;
    struct json_out out;
    struct buf buf;

    buf_init(&buf, SIZE_MAX);
    json_out_init(&out, &buf, true);
    json_out_begin_array(&out);
    for (int kind = 0; kind < KOBJ_N_KINDS; kind++) {
        if (!kobj_schema_info((enum kobj_kind)kind, &group, &versions)) {
            continue;
        }
        struct slice rest = slice_str(versions), version;
        json_out_begin_object(&out);
        json_out_kv_str(&out, "kind", kobj_kind_text((enum kobj_kind)kind));
        json_out_kv_str(&out, "group", group);
        json_out_kv_array(&out, "versions");
        while (slice_split(rest, ' ', &version, &rest)) {
            json_out_string(&out, version);
        }
        json_out_string(&out, rest);
        json_out_end(&out);
        json_out_end(&out);
    }
    json_out_end(&out);
    puts(buf_cstr(&buf));
    buf_fini(&buf);
}

// Files

static bool write_file(const char *dir, const char *name, struct buf *text) {
    char *path = xasprintf("%s/%s.json", dir, name);
    int rc = sys_write_file(path, text->ptr, text->len, 0644);

    if (rc < 0) {
        fprintf(stderr, "ztunctl schema: %s: %s\n", path, strerror(-rc));
    }
    free(path);
    buf_fini(text);
    return rc == 0;
}

static bool write_kind(const char *dir, enum kobj_kind kind) {
    char name[64];
    struct buf text;

    snprintf(name, sizeof(name), "%s", kobj_kind_text(kind));
    for (char *c = name; *c != '\0'; c++) {
        *c = (char)tolower((unsigned char)*c);
    }
    buf_init(&text, SIZE_MAX);
    kobj_schema_kind(kind, &text);
    return write_file(dir, name, &text);
}

static bool write_index(const char *dir) {
    char *real = realpath(dir, NULL), *all = xasprintf("%s/all.json", real != NULL ? real : dir);
    struct json_out out;
    struct buf text;

    buf_init(&text, SIZE_MAX);
    json_out_init(&out, &text, true);
    json_out_begin_object(&out);
    json_out_kv_object(&out, "yaml.schemas");
    json_out_kv_array(&out, all);
    json_out_string(&out, SLICE_LIT("*.yaml"));
    json_out_string(&out, SLICE_LIT("*.yml"));
    json_out_end(&out);
    json_out_end(&out);
    json_out_end(&out);
    buf_append_byte(&text, '\n');
    free(all);
    free(real);
    return write_file(dir, "index", &text);
}

static int write_all(const char *dir) {
    const char *group, *versions;
    struct buf text;
    int rc = sys_mkdir_p(dir, 0755);

    if (rc < 0) {
        fprintf(stderr, "ztunctl schema: %s: %s\n", dir, strerror(-rc));
        return CMD_FAILED;
    }
    buf_init(&text, SIZE_MAX);
    kobj_schema_all(&text);
    bool is_ok = write_file(dir, "all", &text);
    if (is_ok) {
        buf_init(&text, SIZE_MAX);
        kobj_schema_mesh(&text);
        is_ok = write_file(dir, "meshconfig", &text) && write_index(dir);
    }
    for (int kind = 0; is_ok && kind < KOBJ_N_KINDS; kind++) {
        if (kobj_schema_info((enum kobj_kind)kind, &group, &versions)) {
            is_ok = write_kind(dir, (enum kobj_kind)kind);
        }
    }
    return is_ok ? CMD_OK : CMD_FAILED;
}

// The command

static int unknown_kind(const char *name) {
    const char *group, *versions, *hint = NULL;
    unsigned best = schema_max_distance(name) + 1;

    for (int kind = 0; kind < KOBJ_N_KINDS; kind++) {
        const char *known = kobj_kind_text((enum kobj_kind)kind);
        unsigned distance = kobj_schema_info((enum kobj_kind)kind, &group, &versions)
                                ? schema_distance(name, known, best)
                                : best;
        if (distance < best) {
            best = distance;
            hint = known;
        }
    }
    fprintf(stderr, "ztunctl schema: no kind `%s` is read", name);
    if (hint != NULL) {
        fprintf(stderr, " (did you mean `%s`?)", hint);
    }
    fputs("; `ztunctl schema --list` tells which ones are\n", stderr);
    return CMD_FAILED;
}

static int print(const char *name) {
    enum kobj_kind kind = name != NULL ? kobj_schema_find(name) : KOBJ_UNKNOWN;
    struct buf text;

    buf_init(&text, SIZE_MAX);
    if (name == NULL) {
        kobj_schema_all(&text);
    } else if (kind != KOBJ_UNKNOWN) {
        kobj_schema_kind(kind, &text);
    } else if (strcasecmp(name, mesh_kind) == 0) {
        kobj_schema_mesh(&text);
    } else {
        return unknown_kind(name);
    }
    fwrite(text.ptr, 1, text.len, stdout);
    buf_fini(&text);
    return CMD_OK;
}

int cmd_schema(int argc, char **argv) {
    static const struct option longs[] = {{"list", no_argument, NULL, 'l'},
                                          {"output", required_argument, NULL, 'o'},
                                          {"dir", required_argument, NULL, 'd'},
                                          {"help", no_argument, NULL, 'h'},
                                          {NULL, 0, NULL, 0}};
    const char *dir = NULL, *output = NULL;
    bool is_list = false;
    int opt;

    optind = 0;
    while ((opt = getopt_long(argc, argv, "o:h", longs, NULL)) != -1) {
        switch (opt) {
        case 'h':
            usage(stdout);
            return CMD_OK;
        case 'l':
            is_list = true;
            break;
        case 'd':
            dir = optarg;
            break;
        case 'o':
            output = optarg;
            break;
        default:
            return CMD_USAGE;
        }
    }
    bool is_json = output != NULL && strcmp(output, "json") == 0;
    if (output != NULL && (!is_list || (!is_json && strcmp(output, "text") != 0))) {
        fputs("ztunctl schema: -o text or -o json goes with --list\n", stderr);
        return CMD_USAGE;
    }
    if (argc - optind + (is_list ? 1 : 0) + (dir != NULL ? 1 : 0) > 1) {
        fputs("ztunctl schema: one of KIND, --list, --dir (ztunctl help schema)\n", stderr);
        return CMD_USAGE;
    }
    if (dir != NULL) {
        return write_all(dir);
    }
    if (is_list) {
        if (is_json) {
            list_json();
        } else {
            list_text();
        }
        return CMD_OK;
    }
    return print(optind < argc ? argv[optind] : NULL);
}

// SPDX-License-Identifier: Apache-2.0
//
// ztunctl local get

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/base/slice.h"
#include "ctl/local_json.h"
#include "ctl/local_jsonpath.h"
#include "ctl/local_select.h"
#include "ctl/local_table.h"
#include "ctl/local_verbs_priv.h"
#include "ctl/local_yaml.h"

enum { WATCH_INTERVAL_US = 100000 };

// Slices, under the names of their Services: the lab's plain clients know no other Endpoints.
static void as_endpoints(json_t *items) {
    for (size_t i = json_array_size(items); i-- > 0;) {
        json_t *doc = json_deep_copy(json_array_get(items, i));
        const char *service = js_label(doc, "kubernetes.io/service-name");
        if (service == NULL || strcmp(js_str(doc, "addressType", ""), "FQDN") == 0) {
            json_array_remove(items, i);
            json_decref(doc);
            continue;
        }
        js_set_str(doc, "metadata.name", service);
        json_array_set_new(items, i, doc);
    }
}

static int by_name(const void *left, const void *right) {
    const json_t *a = *(json_t *const *)left, *b = *(json_t *const *)right;
    int order = strcmp(js_ns(a), js_ns(b));
    return order != 0 ? order : strcmp(js_name(a), js_name(b));
}

static json_t *sorted(json_t *items) {
    size_t n = json_array_size(items), i;
    json_t *result = json_array(), *item;
    json_t **docs = xcalloc(n + 1, sizeof(*docs));
    json_array_foreach(items, i, item) {
        docs[i] = item;
    }
    qsort(docs, n, sizeof(*docs), by_name);
    for (i = 0; i < n; i++) {
        json_array_append(result, docs[i]);
    }
    free(docs);
    json_decref(items);
    return result;
}

// What is asked for, in the order of names. NULL: said why.
static json_t *find(const struct verb_args *a, const struct lab_kind *kind, const char *name) {
    bool is_endpoints = strcmp(kind->kind, "Endpoints") == 0;
    const char *ns = a->is_all_ns || kind->is_cluster_scoped ? NULL : verb_ns(a);
    char *own_ns = NULL;
    const char *slash = name != NULL ? strchr(name, '/') : NULL;
    if (slash != NULL) { // NS/NAME
        ns = own_ns = xstrndup(name, (size_t)(slash - name));
        name = slash + 1;
    }
    json_t *items = verb_items(a->dir, is_endpoints ? "EndpointSlice" : kind->kind, ns,
                               is_endpoints ? NULL : name);
    free(own_ns);
    if (items == NULL) {
        return NULL;
    }
    if (is_endpoints) {
        as_endpoints(items);
    }
    for (size_t i = json_array_size(items); i-- > 0;) {
        const json_t *doc = json_array_get(items, i);
        if (!lab_selector_matches(a->selector, js_get(doc, "metadata.labels")) ||
            (is_endpoints && name != NULL && strcmp(js_name(doc), name) != 0)) {
            json_array_remove(items, i);
        }
    }
    return sorted(items);
}

static void print_document(const json_t *doc, bool is_yaml) {
    if (is_yaml) {
        struct text out = {0};
        yaml_write(doc, &out);
        char *text = text_take(&out);
        fputs(text, stdout);
        free(text);
        return;
    }
    json_dumpf(doc, stdout, JSON_INDENT(4));
    printf("\n");
}

// The object when one was named, else a List of all.
static json_t *as_document(json_t *items, bool is_single) {
    if (is_single && json_array_size(items) == 1) {
        return json_incref(json_array_get(items, 0));
    }
    return json_pack("{s:s, s:s, s:O}", "apiVersion", "v1", "kind", "List", "items", items);
}

static const char *jsonpath_of(const struct verb_args *a) {
    static const char prefix[] = "jsonpath=";
    size_t len = sizeof(prefix) - 1;
    return a->output != NULL && strncmp(a->output, prefix, len) == 0 ? a->output + len : NULL;
}

static int print_jsonpath(json_t *items, bool is_single, const char *template) {
    json_t *doc = as_document(items, is_single);
    struct text out = {0};
    char *error = NULL;
    int code = 0;
    if (lab_jsonpath(template, doc, &out, &error)) {
        fputs(out.ptr, stdout);
    } else {
        code = verb_error("error executing jsonpath \"%s\": %s", template, error);
    }
    free(error);
    text_fini(&out);
    json_decref(doc);
    return code;
}

static void print_list(json_t *items, bool is_single, bool is_yaml) {
    json_t *doc = as_document(items, is_single);
    print_document(doc, is_yaml);
    json_decref(doc);
}

static void print_names(const json_t *items, const char *kind) {
    size_t i;
    json_t *doc;
    json_array_foreach((json_t *)items, i, doc) {
        char *name = lab_kind_name(kind, js_name(doc));
        printf("%s\n", name);
        free(name);
    }
}

static bool is_output(const struct verb_args *a, const char *name) {
    return a->output != NULL && strcmp(a->output, name) == 0;
}

// `kind/` before each name when several kinds are shown.
static json_t *with_prefix(const json_t *doc, const struct lab_kind *kind, bool has_prefix) {
    json_t *shown = json_copy((json_t *)doc);
    if (has_prefix) {
        json_t *meta = json_copy(json_object_get(doc, "metadata"));
        char *name = lab_kind_name(kind->kind, js_name(doc));
        json_object_set_new(meta, "name", json_string(name));
        json_object_set_new(shown, "metadata", meta);
        free(name);
    }
    return shown;
}

static void print_table(const struct verb_args *a, const struct lab_kind *kind, const json_t *items,
                        bool has_prefix) {
    struct lab_table table;
    bool has_ns = a->is_all_ns && !kind->is_cluster_scoped, is_wide = is_output(a, "wide");
    lab_table_init(&table, kind->kind, has_ns, is_wide);
    size_t i;
    json_t *doc;
    json_array_foreach((json_t *)items, i, doc) {
        json_t *shown = with_prefix(doc, kind, has_prefix);
        lab_table_add(&table, kind->kind, shown, has_ns, is_wide);
        json_decref(shown);
    }
    lab_table_print(&table, 0);
    lab_table_fini(&table);
}

// Prints the rows that changed since `seen` (name -> row).
static void print_changes(struct lab_table *printed, const struct verb_args *a,
                          const struct lab_kind *kind, const json_t *items, json_t *seen) {
    bool has_ns = a->is_all_ns && !kind->is_cluster_scoped, is_wide = is_output(a, "wide");
    size_t i;
    json_t *doc;
    json_array_foreach((json_t *)items, i, doc) {
        struct lab_table row;
        lab_table_init(&row, kind->kind, has_ns, is_wide);
        lab_table_add(&row, kind->kind, doc, has_ns, is_wide);
        char *key = xasprintf("%s/%s", js_ns(doc), js_name(doc)), *now = lab_table_row_key(&row, 1);
        const char *before = json_string_value(json_object_get(seen, key));
        if (before == NULL || strcmp(before, now) != 0) {
            bool is_first = json_object_size(seen) == 0 && printed->widths[0] == 0;
            memcpy(row.widths, printed->widths, sizeof(row.widths));
            lab_table_print(&row, is_first ? 0 : 1);
            memcpy(printed->widths, row.widths, sizeof(row.widths));
            json_object_set_new(seen, key, json_string(now));
        }
        free(key);
        free(now);
        lab_table_fini(&row);
    }
    fflush(stdout);
}

static int watch(const struct verb_args *a, const struct lab_kind *kind, const char *name) {
    struct lab_table printed = {0};
    json_t *seen = json_object(), *items;
    // The columns are as wide as the rows that are there at first.
    if ((items = find(a, kind, name)) != NULL) {
        if (json_array_size(items) > 0) {
            bool has_ns = a->is_all_ns && !kind->is_cluster_scoped;
            struct lab_table all;
            lab_table_init(&all, kind->kind, has_ns, is_output(a, "wide"));
            size_t i;
            json_t *doc;
            json_array_foreach(items, i, doc) {
                lab_table_add(&all, kind->kind, doc, has_ns, is_output(a, "wide"));
                char *key = xasprintf("%s/%s", js_ns(doc), js_name(doc));
                char *row = lab_table_row_key(&all, i + 1);
                json_object_set_new(seen, key, json_string(row));
                free(key);
                free(row);
            }
            lab_table_print(&all, 0);
            fflush(stdout);
            memcpy(printed.widths, all.widths, sizeof(printed.widths));
            lab_table_fini(&all);
        }
        json_decref(items);
        usleep(WATCH_INTERVAL_US);
    }
    while ((items = find(a, kind, name)) != NULL) { // until the lab ends, or the user does
        print_changes(&printed, a, kind, items, seen);
        json_decref(items);
        usleep(WATCH_INTERVAL_US);
    }
    json_decref(seen);
    return 1;
}

static int show(const struct verb_args *a, const struct lab_kind *kind, const char *name,
                bool has_prefix, bool is_optional) {
    if (a->is_watching) {
        return watch(a, kind, name);
    }
    json_t *items = find(a, kind, name);
    if (items == NULL) {
        return 1;
    }
    int code = 0;
    bool is_json = is_output(a, "json"), is_yaml = is_output(a, "yaml");
    if (json_array_size(items) == 0 && name != NULL) {
        const char *slash = strchr(name, '/');
        char *text = lab_kind_not_found(kind->kind, slash != NULL ? slash + 1 : name);
        fprintf(stderr, "%s\n", text);
        free(text);
        code = 1;
    } else if (jsonpath_of(a) != NULL) {
        code = print_jsonpath(items, name != NULL, jsonpath_of(a));
    } else if (is_json || is_yaml) {
        print_list(items, name != NULL, is_yaml);
    } else if (json_array_size(items) == 0 && !is_optional) {
        if (a->is_all_ns || kind->is_cluster_scoped) {
            fprintf(stderr, "No resources found\n");
        } else {
            fprintf(stderr, "No resources found in %s namespace.\n", verb_ns(a));
        }
    } else if (is_output(a, "name")) {
        print_names(items, kind->kind);
    } else if (json_array_size(items) > 0) {
        print_table(a, kind, items, has_prefix);
    }
    json_decref(items);
    return code;
}

// `all` and a,b,c.
static int show_kinds(const struct verb_args *a, const char *kinds) {
    if (strcmp(kinds, "all") == 0) {
        kinds = "pods,services,deployments,replicasets,statefulsets";
    }
    bool is_several = strchr(kinds, ',') != NULL, is_first = true;
    int code = 0;
    for (const char *at = kinds; *at != '\0';) {
        size_t len = strcspn(at, ",");
        char *one = xstrndup(at, len);
        const struct lab_kind *kind = lab_kind_find(one);
        if (kind == NULL) {
            code = verb_error("the server doesn't have a resource type \"%s\"", one);
        } else {
            bool is_table = a->output == NULL || is_output(a, "wide");
            if (is_several && !is_first && is_table) {
                printf("\n");
            }
            int result = show(a, kind, NULL, is_several, is_several);
            code = result != 0 ? result : code;
            is_first = false;
        }
        free(one);
        at += len + (at[len] == ',');
    }
    return code;
}

int verb_get(const struct verb_args *a) {
    static const char *const outputs[] = {"wide", "json", "yaml", "name"};
    bool is_known = a->output == NULL || jsonpath_of(a) != NULL;
    for (size_t i = 0; i < ARRAY_LEN(outputs); i++) {
        is_known = is_known || is_output(a, outputs[i]);
    }
    if (!is_known) {
        return verb_error("unable to match a printer suitable for the output format \"%s\", "
                          "allowed formats are: json,jsonpath,name,wide,yaml",
                          a->output);
    }
    if (!verb_selector_ok(a)) {
        return 1;
    }
    if (a->n_rest == 0) {
        return verb_error("you must specify the type of resource to get");
    }
    const char *first = a->rest[0], *slash = strchr(first, '/');
    if (a->n_rest == 1 && slash == NULL) {
        return show_kinds(a, first);
    }
    int code = 0;
    for (int i = slash != NULL ? 0 : 1; i < a->n_rest; i++) {
        const char *name = a->rest[i], *mark = slash != NULL ? strchr(name, '/') : NULL;
        char *type = mark != NULL ? xstrndup(name, (size_t)(mark - name)) : xstrdup(first);
        const struct lab_kind *kind = lab_kind_find(type);
        if (kind == NULL) {
            code = verb_error("the server doesn't have a resource type \"%s\"", type);
        } else {
            int result = show(a, kind, mark != NULL ? mark + 1 : name, false, false);
            code = result != 0 ? result : code;
        }
        free(type);
    }
    return code;
}

// SPDX-License-Identifier: Apache-2.0

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/base/slice.h"
#include "ctl/local_control.h"
#include "ctl/local_docs.h"
#include "ctl/local_json.h"
#include "ctl/local_select.h"
#include "ctl/local_sys.h"
#include "ctl/local_verbs_priv.h"
#include "ctl/local_yaml.h"

enum { PATCH_FILE_MAX = 1 << 20 };

int verb_error(const char *fmt, ...) {
    va_list args;
    va_start(args, fmt);
    fputs("error: ", stderr);
    vfprintf(stderr, fmt, args);
    fputs("\n", stderr);
    va_end(args);
    return 1;
}

const char *verb_ns(const struct verb_args *a) {
    return a->ns != NULL ? a->ns : "default";
}

json_t *verb_ask(const char *dir, json_t *request) {
    char *error = NULL;
    json_t *answer = lab_request(dir, request, &error);
    if (answer == NULL) {
        fprintf(stderr, "ztunctl local: %s\n", error);
        free(error);
    } else if (!js_bool(answer, "ok", false)) {
        fprintf(stderr, "%s\n", js_str(answer, "text", "failed"));
        json_decref(answer);
        return NULL;
    }
    return answer;
}

json_t *verb_items(const char *dir, const char *kind, const char *ns, const char *name) {
    json_t *request = json_pack("{s:s, s:s}", "cmd", "get", "kind", kind);
    if (ns != NULL) {
        js_set_str(request, "ns", ns);
    }
    if (name != NULL) {
        js_set_str(request, "name", name);
    }
    json_t *answer = verb_ask(dir, request);
    json_t *items = answer != NULL ? json_incref(json_object_get(answer, "items")) : NULL;
    json_decref(answer);
    return items;
}

json_t *verb_object(const char *dir, const struct verb_target *target) {
    const struct lab_kind *kind = lab_kind_of(target->kind);
    bool is_cluster = kind != NULL && kind->is_cluster_scoped;
    json_t *items = verb_items(dir, target->kind, is_cluster ? NULL : target->ns, target->name);
    json_t *doc = json_incref(json_array_get(items, 0));
    if (items != NULL && doc == NULL) {
        char *text = lab_kind_not_found(target->kind, target->name);
        fprintf(stderr, "%s\n", text);
        free(text);
    }
    json_decref(items);
    return doc;
}

bool verb_selector_ok(const struct verb_args *a) {
    char *error = NULL;
    if (a->selector == NULL || lab_selector_check(a->selector, &error)) {
        return true;
    }
    verb_error("%s", error);
    free(error);
    return false;
}

bool verb_target(const struct verb_args *a, int *at, const char *fallback,
                 struct verb_target *ret) {
    const char *first = *at < a->n_rest ? a->rest[*at] : NULL;
    if (first == NULL) {
        verb_error("resource(s) were provided, but no name was specified");
        return false;
    }
    const char *slash = strchr(first, '/');
    char *type = slash != NULL ? xstrndup(first, (size_t)(slash - first)) : xstrdup(first);
    const struct lab_kind *kind = lab_kind_find(type);
    *ret = (struct verb_target){0};
    if (slash != NULL && kind == NULL && fallback != NULL) {
        *ret = (struct verb_target){fallback, slash + 1, type}; // NS/NAME
        (*at)++;
        return true;
    }
    free(type);
    if (kind == NULL && slash == NULL && fallback != NULL) {
        *ret = (struct verb_target){fallback, first, xstrdup(verb_ns(a))};
        (*at)++;
        return true;
    }
    if (kind == NULL) {
        verb_error("the server doesn't have a resource type \"%.*s\"", (int)strcspn(first, "/"),
                   first);
        return false;
    }
    const char *name = slash != NULL ? slash + 1 : *at + 1 < a->n_rest ? a->rest[*at + 1] : "";
    if (name[0] == '\0') {
        verb_error("resource(s) were provided, but no name was specified");
        return false;
    }
    *at += slash != NULL ? 1 : 2;
    *ret = (struct verb_target){kind->kind, name, xstrdup(verb_ns(a))};
    return true;
}

int verb_send_patch(const char *dir, const struct verb_target *target, const char *type,
                    json_t *patch, const char *word) {
    json_t *answer = verb_ask(dir, json_pack("{s:s, s:s, s:s, s:s, s:s, s:o}", "cmd", "patch",
                                             "kind", target->kind, "ns", target->ns, "name",
                                             target->name, "type", type, "patch", patch));
    if (answer == NULL) {
        return 1;
    }
    char *name = lab_kind_name(target->kind, target->name);
    bool is_same = strcmp(js_str(answer, "text", ""), "unchanged") == 0;
    printf("%s %s%s\n", name, word, is_same && strcmp(word, "patched") == 0 ? " (no change)" : "");
    free(name);
    json_decref(answer);
    return 0;
}

int verb_create_namespace(const struct verb_args *a) {
    if (a->n_rest != 2) {
        return verb_error("exactly one NAME is required, got %d", MAX(a->n_rest - 1, 0));
    }
    json_t *doc = json_pack("{s:s, s:s, s:{s:s}}", "apiVersion", "v1", "kind", "Namespace",
                            "metadata", "name", a->rest[1]);
    json_t *answer = verb_ask(a->dir, json_pack("{s:s, s:s, s:[o]}", "cmd", "apply", "mode",
                                                "create", "docs", doc));
    if (answer != NULL) {
        fputs(js_str(answer, "text", ""), stdout);
    }
    json_decref(answer);
    return answer != NULL ? 0 : 1;
}

// delete

static int delete_one(const struct verb_args *a, const char *kind, const char *ns,
                      const char *name) {
    json_t *answer =
        verb_ask(a->dir, json_pack("{s:s, s:s, s:s, s:s, s:i}", "cmd", "delete", "kind", kind, "ns",
                                   ns, "name", name, "grace", a->grace_s));
    if (answer != NULL) {
        fputs(js_str(answer, "text", ""), stdout);
    }
    json_decref(answer);
    return answer != NULL ? 0 : 1;
}

static int delete_selected(const struct verb_args *a, const struct lab_kind *kind) {
    const char *ns = kind->is_cluster_scoped || a->is_all_ns ? NULL : verb_ns(a);
    json_t *items = verb_items(a->dir, kind->kind, ns, NULL), *doc;
    size_t i, n = 0;
    int code = items != NULL ? 0 : 1;
    json_array_foreach(items, i, doc) {
        if (lab_selector_matches(a->selector, js_get(doc, "metadata.labels"))) {
            code |= delete_one(a, kind->kind, js_ns(doc), js_name(doc));
            n++;
        }
    }
    if (items != NULL && n == 0) {
        printf("No resources found\n");
    }
    json_decref(items);
    return code;
}

int verb_delete(const struct verb_args *a, bool is_all) {
    const char *first = a->n_rest > 0 ? a->rest[0] : "";
    bool is_list = strchr(first, '/') == NULL;
    const struct lab_kind *kind = is_list ? lab_kind_find(first) : NULL;
    if (is_list && kind == NULL) {
        return verb_error("the server doesn't have a resource type \"%s\"", first);
    }
    if (!verb_selector_ok(a)) {
        return 1;
    }
    if (is_list && a->n_rest == 1) {
        return a->selector != NULL || is_all
                   ? delete_selected(a, kind)
                   : verb_error("resource(s) were provided, but no name was specified");
    }
    int code = 0, at = 0;
    while (at < a->n_rest) {
        struct verb_target target = {kind != NULL ? kind->kind : NULL, a->rest[at], NULL};
        const char *slash = strchr(a->rest[at], '/');
        if (kind != NULL) { // KIND NAME..., of which a name may be NS/NAME
            at += at == 0;
            slash = strchr(a->rest[at], '/');
            target.name = slash != NULL ? slash + 1 : a->rest[at];
            target.ns = slash != NULL ? xstrndup(a->rest[at], (size_t)(slash - a->rest[at]))
                                      : xstrdup(verb_ns(a));
            at++;
        } else if (!verb_target(a, &at, NULL, &target)) {
            return 1;
        }
        code |= delete_one(a, target.kind, target.ns, target.name);
        free(target.ns);
    }
    return code;
}

// expose

static bool port_number(const char *text, long long *ret) {
    char *end = NULL;
    long long value = text != NULL ? strtoll(text, &end, 10) : 0;
    *ret = value;
    return text != NULL && *end == '\0' && value >= 1 && value <= 65535;
}

static json_t *service_for(const struct verb_args *a, const json_t *doc, long long port) {
    const char *kind = js_kind(doc);
    const json_t *labels = js_get(doc, "spec.selector.matchLabels");
    if (strcmp(kind, "Pod") == 0) {
        labels = js_get(doc, "metadata.labels");
    } else if (strcmp(kind, "Service") == 0) {
        labels = js_get(doc, "spec.selector");
    }
    if (json_object_size(labels) == 0) {
        return NULL;
    }
    json_t *service =
        json_pack("{s:s, s:s, s:{s:s, s:s}, s:{s:O}}", "apiVersion", "v1", "kind", "Service",
                  "metadata", "name", a->service != NULL ? a->service : js_name(doc), "namespace",
                  js_ns(doc), "spec", "selector", labels);
    json_t *meta_labels = js_get(doc, "metadata.labels");
    if (meta_labels != NULL) {
        json_object_set(json_object_get(service, "metadata"), "labels", meta_labels);
    }
    long long target;
    const char *target_text = a->target_port;
    json_t *target_port = target_text == NULL                 ? json_integer(port)
                          : port_number(target_text, &target) ? json_integer(target)
                                                              : json_string(target_text);
    js_set(service, "spec.ports",
           json_pack("[{s:I, s:s, s:o}]", "port", port, "protocol", "TCP", "targetPort",
                     target_port));
    js_set_str(service, "spec.type", a->type != NULL ? a->type : "ClusterIP");
    return service;
}

int verb_expose(const struct verb_args *a) {
    struct verb_target target;
    long long port;
    int at = 0;
    if (!verb_target(a, &at, NULL, &target)) {
        return 1;
    }
    json_t *doc = verb_object(a->dir, &target);
    int code = 1;
    if (doc == NULL) {
        // said
    } else if (!port_number(a->port, &port)) {
        verb_error("couldn't find port via --port flag: a number from 1 to 65535");
    } else {
        json_t *service = service_for(a, doc, port);
        if (service == NULL) {
            verb_error("%s \"%s\" has no labels that a Service could select", target.kind,
                       target.name);
        } else {
            char *name = xstrdup(js_name(service));
            json_t *answer = verb_ask(a->dir, json_pack("{s:s, s:s, s:[o]}", "cmd", "apply", "mode",
                                                        "create", "docs", service));
            if (answer != NULL) {
                printf("service/%s exposed\n", name);
                code = 0;
            }
            json_decref(answer);
            free(name);
        }
    }
    json_decref(doc);
    free(target.ns);
    return code;
}

// patch, edit

static json_t *parse_text(const char *text) {
    char path[] = "/tmp/ztunctl-patch-XXXXXX";
    int fd = mkstemp(path);
    json_t *docs = NULL, *result = NULL;
    char *error = NULL;
    if (fd < 0) {
        verb_error("%s: %s", path, strerror(errno));
        return NULL;
    }
    size_t len = strlen(text);
    if (write(fd, text, len) == (ssize_t)len && lab_docs_load(path, NULL, &docs, &error) == 0) {
        result = json_incref(json_array_get(docs, 0));
    }
    close(fd);
    unlink(path);
    free(error);
    json_decref(docs);
    return result;
}

int verb_patch(const struct verb_args *a) {
    struct verb_target target;
    int at = 0;
    const char *type = a->type != NULL ? a->type : "strategic";
    if (a->patch == NULL) {
        return verb_error("must specify --patch (-p)");
    }
    if (strcmp(type, "json") != 0 && strcmp(type, "merge") != 0 && strcmp(type, "strategic") != 0) {
        return verb_error("--type must be one of [json merge strategic], not \"%s\"", type);
    }
    if (!verb_target(a, &at, NULL, &target)) {
        return 1;
    }
    // JSON, or YAML as kubectl also takes.
    json_t *patch = json_loads(a->patch, 0, NULL);
    patch = patch != NULL ? patch : parse_text(a->patch);
    int code = 1;
    if (patch == NULL) {
        verb_error("unable to parse \"%s\": neither JSON nor YAML", a->patch);
    } else {
        code = verb_send_patch(a->dir, &target, type, patch, "patched");
    }
    free(target.ns);
    return code;
}

static int run_editor(const char *path) {
    const char *editor = getenv("KUBE_EDITOR");
    editor = editor != NULL ? editor : getenv("EDITOR");
    char *command = xasprintf("%s %s", editor != NULL ? editor : "vi", path);
    int status = system(command);
    free(command);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 1;
}

// The object after the user's editing; NULL: unchanged, or said what is wrong (*ret_failed).
static json_t *edited(const json_t *doc, bool *ret_failed) {
    char path[] = "/tmp/ztunctl-edit-XXXXXX.yaml";
    int fd = mkstemps(path, 5);
    FILE *file = fd >= 0 ? fdopen(fd, "w") : NULL;
    *ret_failed = true;
    if (file == NULL) {
        verb_error("%s: %s", path, strerror(errno));
        return NULL;
    }
    struct text before = {0};
    yaml_write(doc, &before);
    fputs(before.ptr, file);
    fclose(file);
    json_t *docs = NULL, *result = NULL;
    char *error = NULL, *after = NULL;
    if (run_editor(path) != 0) {
        verb_error("the editor failed");
    } else if ((after = sys_read_file(path, PATCH_FILE_MAX, NULL)) != NULL &&
               strcmp(after, before.ptr) == 0) {
        printf("Edit cancelled, no changes made.\n");
        *ret_failed = false;
    } else if (lab_docs_load(path, NULL, &docs, &error) < 0) {
        verb_error("%s", error);
    } else if (json_array_size(docs) != 1) {
        verb_error("the edited file holds %zu objects, not one", json_array_size(docs));
    } else {
        result = json_incref(json_array_get(docs, 0));
        *ret_failed = false;
    }
    unlink(path);
    free(error);
    free(after);
    text_fini(&before);
    json_decref(docs);
    return result;
}

int verb_edit(const struct verb_args *a) {
    struct verb_target target;
    int at = 0;
    if (!verb_target(a, &at, NULL, &target)) {
        return 1;
    }
    json_t *doc = verb_object(a->dir, &target);
    bool has_failed = true;
    json_t *wanted = doc != NULL ? edited(doc, &has_failed) : NULL;
    int code = has_failed ? 1 : 0;
    if (wanted != NULL) {
        code = verb_send_patch(a->dir, &target, "replace", wanted, "edited");
    }
    json_decref(doc);
    free(target.ns);
    return code;
}

// scale, set image

int verb_scale(const struct verb_args *a) {
    struct verb_target target;
    int at = 0;
    if (a->replicas < 0) {
        return verb_error("required flag(s) \"replicas\" not set");
    }
    if (!verb_target(a, &at, "", &target)) {
        return 1;
    }
    json_t *answer =
        verb_ask(a->dir, json_pack("{s:s, s:s, s:s, s:s, s:i}", "cmd", "scale", "kind", target.kind,
                                   "ns", target.ns, "name", target.name, "replicas", a->replicas));
    if (answer != NULL) {
        fputs(js_str(answer, "text", ""), stdout);
    }
    json_decref(answer);
    free(target.ns);
    return answer != NULL ? 0 : 1;
}

static bool has_container(const json_t *doc, const char *path, const char *name) {
    size_t i;
    json_t *container;
    json_array_foreach(js_get(doc, path), i, container) {
        if (strcmp(js_str(container, "name", ""), name) == 0) {
            return true;
        }
    }
    return false;
}

// {"containers": [{"name", "image"} ...]} of CONTAINER=IMAGE arguments. NULL: said why.
static json_t *images_of(const struct verb_args *a, int at, const json_t *doc, const char *path) {
    json_t *list = json_array();
    for (; at < a->n_rest; at++) {
        const char *equals = strchr(a->rest[at], '=');
        char *name = equals != NULL ? xstrndup(a->rest[at], (size_t)(equals - a->rest[at])) : NULL;
        bool is_ok = name != NULL && has_container(doc, path, name);
        if (name == NULL) {
            verb_error("expected CONTAINER=IMAGE, not \"%s\"", a->rest[at]);
        } else if (!is_ok) {
            verb_error("unable to find container named \"%s\"", name);
        } else {
            json_array_append_new(list, json_pack("{s:s, s:s}", "name", name, "image", equals + 1));
        }
        free(name);
        if (!is_ok) {
            json_decref(list);
            return NULL;
        }
    }
    if (json_array_size(list) == 0) {
        verb_error("at least one image update is required");
        json_decref(list);
        return NULL;
    }
    return list;
}

int verb_set(const struct verb_args *a) {
    struct verb_target target;
    int at = 1;
    if (a->n_rest == 0 || strcmp(a->rest[0], "image") != 0) {
        return verb_error("only `set image` is known here");
    }
    if (!verb_target(a, &at, NULL, &target)) {
        return 1;
    }
    json_t *doc = verb_object(a->dir, &target);
    bool is_pod = strcmp(target.kind, "Pod") == 0;
    json_t *images =
        doc != NULL
            ? images_of(a, at, doc, is_pod ? "spec.containers" : "spec.template.spec.containers")
            : NULL;
    int code = 1;
    if (images != NULL) {
        json_t *patch = json_object();
        js_set(patch, is_pod ? "spec.containers" : "spec.template.spec.containers", images);
        code = verb_send_patch(a->dir, &target, "strategic", patch, "image updated");
    }
    json_decref(doc);
    free(target.ns);
    return code;
}

// label, annotate

// KEY=VALUE sets, KEY- removes. False: said why.
static bool add_pair(const struct verb_args *a, const json_t *have, const char *text, json_t *map,
                     bool *ret_removes) {
    const char *equals = strchr(text, '=');
    size_t len = strlen(text);
    if (equals == NULL && len > 1 && text[len - 1] == '-') {
        char *key = xstrndup(text, len - 1);
        json_object_set_new(map, key, json_null());
        free(key);
        *ret_removes = true;
        return true;
    }
    if (equals == NULL || equals == text) {
        verb_error("expected KEY=VALUE or KEY-, not \"%s\"", text);
        return false;
    }
    char *key = xstrndup(text, (size_t)(equals - text));
    const char *old = json_string_value(json_object_get(have, key));
    bool is_ok = old == NULL || strcmp(old, equals + 1) == 0 || a->is_overwriting;
    if (!is_ok) {
        verb_error("'%s' already has a value (%s), and --overwrite is false", key, old);
    } else {
        json_object_set_new(map, key, json_string(equals + 1));
    }
    free(key);
    return is_ok;
}

// kubectl's words: labeled, unlabeled, not labeled; annotated whatever became of it.
static const char *mark_word(const char *field, bool is_removing, bool is_changed) {
    if (strcmp(field, "annotations") == 0) {
        return "annotated";
    }
    return !is_changed ? "not labeled" : is_removing ? "unlabeled" : "labeled";
}

static bool changes(const json_t *have, const json_t *map) {
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)map, key, value) {
        const json_t *old = json_object_get(have, key);
        if (json_is_null(value) ? old != NULL : !json_equal(old, value)) {
            return true;
        }
        if (json_is_null(value)) {
            printf("label \"%s\" not found.\n", key);
        }
    }
    return false;
}

static int mark(const struct verb_args *a, const char *field) {
    struct verb_target target;
    int at = 0;
    if (!verb_target(a, &at, NULL, &target)) {
        return 1;
    }
    json_t *doc = verb_object(a->dir, &target), *map = json_object();
    bool is_ok = doc != NULL, is_removing = false;
    if (is_ok && at == a->n_rest) {
        verb_error("at least one %s update is required",
                   strcmp(field, "labels") == 0 ? "label" : "annotation");
        is_ok = false;
    }
    const json_t *have = json_object_get(js_get(doc, "metadata"), field);
    for (; is_ok && at < a->n_rest; at++) {
        is_ok = add_pair(a, have, a->rest[at], map, &is_removing);
    }
    int code = 1;
    if (is_ok) {
        json_t *patch = json_pack("{s:{s:O}}", "metadata", field, map);
        const char *word = mark_word(field, is_removing, changes(have, map));
        code = verb_send_patch(a->dir, &target, "merge", patch, word);
    }
    json_decref(doc);
    json_decref(map);
    free(target.ns);
    return code;
}

int verb_label(const struct verb_args *a) {
    return mark(a, "labels");
}

int verb_annotate(const struct verb_args *a) {
    return mark(a, "annotations");
}

// pods by way of their owners

static bool is_running(const json_t *pod) {
    return strcmp(js_str(pod, "status.phase", ""), "Running") == 0 &&
           js_get(pod, "metadata.deletionTimestamp") == NULL;
}

static char *first_pod(const char *dir, const char *ns, const json_t *selector, bool is_labels) {
    json_t *pods = verb_items(dir, "Pod", ns, NULL), *pod;
    char *found = NULL;
    size_t i;
    json_array_foreach(pods, i, pod) {
        const json_t *labels = js_get(pod, "metadata.labels");
        bool is_match = is_labels ? js_selector_matches(selector, labels)
                                  : js_label_selector_matches(selector, labels);
        if (found == NULL && is_match && is_running(pod)) {
            found = xasprintf("%s/%s", ns, js_name(pod));
        }
    }
    json_decref(pods);
    return found;
}

char *verb_pod(const char *dir, const char *ns, const char *where) {
    const char *slash = strchr(where, '/');
    char *head = slash != NULL ? xstrndup(where, (size_t)(slash - where)) : NULL;
    const struct lab_kind *kind = head != NULL ? lab_kind_find(head) : NULL;
    free(head);
    if (ns == NULL && kind == NULL) {
        return xstrdup(where); // NS/POD, or a node
    }
    ns = ns != NULL ? ns : "default";
    if (kind == NULL) {
        return slash != NULL ? xstrdup(where) : xasprintf("%s/%s", ns, where);
    }
    if (strcmp(kind->kind, "Pod") == 0) {
        return xasprintf("%s/%s", ns, slash + 1);
    }
    struct verb_target target = {kind->kind, slash + 1, (char *)ns};
    json_t *doc = verb_object(dir, &target);
    bool is_service = strcmp(kind->kind, "Service") == 0;
    char *pod = doc != NULL ? first_pod(dir, ns, js_get(doc, "spec.selector"), is_service) : NULL;
    if (doc != NULL && pod == NULL) {
        verb_error("no running pod of %s", where);
    }
    json_decref(doc);
    return pod;
}

// SPDX-License-Identifier: Apache-2.0

#include "ctl/local_control.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include "common/base/clock.h"
#include "ctl/local_apply.h"
#include "ctl/local_check.h"
#include "ctl/local_json.h"
#include "ctl/local_kind.h"
#include "ctl/local_patch.h"
#include "ctl/local_pod.h"
#include "ctl/local_status.h"
#include "ctl/local_store.h"
#include "ctl/local_super.h"
#include "ctl/local_sys.h"
#include "ctl/local_text.h"

enum { REQUEST_MAX = 64 << 20, CLIENT_TIMEOUT_S = 30 };

struct connection { // freed with its descriptor
    struct lab *lab;
    struct lab_fd fd;
    char *data;
    size_t len, cap;
};

static json_t *answer(bool is_ok, struct text *text) {
    json_t *result = json_object();
    char *content = text_take(text);
    js_set(result, "ok", json_boolean(is_ok));
    js_set_str(result, "text", content);
    free(content);
    return result;
}

static json_t *answer_text(bool is_ok, const char *what) {
    struct text text = {0};
    text_add(&text, "%s", what);
    return answer(is_ok, &text);
}

// `create` wants a new object, `replace` one that is there. NULL: it may be done.
static char *refusal(struct lab *lab, const char *mode, const json_t *doc) {
    const struct lab_kind *known = lab_kind_of(js_kind(doc));
    bool is_cluster = known != NULL && known->is_cluster_scoped;
    const char *ns = js_ns(doc)[0] != '\0' ? js_ns(doc) : "default";
    bool is_there = lab_store_find(lab, js_kind(doc), is_cluster ? "" : ns, js_name(doc)) != NULL;
    if (strcmp(mode, "replace") == 0 && !is_there) {
        return lab_kind_not_found(js_kind(doc), js_name(doc));
    }
    if (strcmp(mode, "create") != 0 || !is_there) {
        return NULL;
    }
    char *resource = lab_kind_resource(js_kind(doc));
    char *text = xasprintf("Error from server (AlreadyExists): %s \"%s\" already exists", resource,
                           js_name(doc));
    free(resource);
    return text;
}

static json_t *do_apply(struct lab *lab, const json_t *request) {
    struct text out = {0};
    bool is_ok = true;
    const char *mode = js_str(request, "mode", "apply");
    size_t i;
    json_t *doc;
    json_array_foreach(json_object_get(request, "docs"), i, doc) {
        char *text = refusal(lab, mode, doc);
        is_ok = text == NULL && lab_apply(lab, json_deep_copy(doc), &text) && is_ok;
        text_add(&out, "%s\n", text);
        free(text);
    }
    return answer(is_ok, &out);
}

static json_t *do_delete(struct lab *lab, const json_t *request) {
    struct text out = {0};
    bool is_ok = true;
    long grace = (long)js_int(request, "grace", -1);
    char *text = NULL;
    if (js_get(request, "docs") == NULL) {
        is_ok = lab_delete(lab, js_str(request, "kind", ""), js_str(request, "ns", ""),
                           js_str(request, "name", ""), grace, &text);
        text_add(&out, "%s\n", text);
        free(text);
        return answer(is_ok, &out);
    }
    size_t i;
    json_t *doc;
    json_array_foreach(json_object_get(request, "docs"), i, doc) {
        is_ok = lab_delete(lab, js_kind(doc), js_ns(doc), js_name(doc), grace, &text) && is_ok;
        text_add(&out, "%s\n", text);
        free(text);
    }
    return answer(is_ok, &out);
}

static json_t *patched(const json_t *doc, const json_t *request, char **ret_error) {
    const char *type = js_str(request, "type", "");
    const json_t *patch = json_object_get(request, "patch");
    if (strcmp(type, "json") == 0) {
        char *reason = NULL;
        json_t *result = patch_json(doc, patch, &reason);
        if (result == NULL) {
            *ret_error = xasprintf("The request is invalid: %s", reason);
            free(reason);
        }
        return result;
    }
    if (!json_is_object(patch)) {
        *ret_error = xstrdup("error: the patch is not an object");
        return NULL;
    }
    if (strcmp(type, "replace") == 0) {
        return json_deep_copy(patch);
    }
    // The API server, too, knows the keys of lists only of its own kinds.
    const struct lab_kind *known = lab_kind_of(js_kind(doc));
    bool is_custom = known == NULL || strstr(known->group, ".istio.io") != NULL ||
                     strncmp(known->group, "gateway.", 8) == 0;
    if (strcmp(type, "strategic") == 0 && is_custom) {
        *ret_error = xasprintf("error: application/strategic-merge-patch+json is not supported by "
                               "%s: try --type merge",
                               known != NULL ? known->api_version : js_kind(doc));
        return NULL;
    }
    return type[0] == 's' ? patch_strategic(doc, patch) : patch_merge(doc, patch);
}

// What the API server makes of a changed object; NULL: refused, *ret_text says why. Takes `doc`.
static json_t *admitted(json_t *doc, char **ret_text) {
    struct lab_check check = {.mode = LAB_VALIDATE_IGNORE, .action = "patching"};
    json_t *result = doc != NULL ? lab_check_json(&check, doc) : NULL;
    char *said = text_take(&check.messages);
    if (doc != NULL && result == NULL) {
        said[strcspn(said, "\n")] = '\0';
        *ret_text = xstrdup(said);
    }
    free(said);
    return result;
}

static json_t *do_patch(struct lab *lab, const json_t *request) {
    const char *kind = js_str(request, "kind", ""), *name = js_str(request, "name", "");
    const struct lab_kind *known = lab_kind_of(kind);
    bool is_cluster = known != NULL && known->is_cluster_scoped;
    struct lab_object *object =
        lab_store_find(lab, kind, is_cluster ? "" : js_str(request, "ns", "default"), name);
    char *text = NULL;
    bool is_ok = false;
    if (object == NULL) {
        text = lab_kind_not_found(kind, name);
    } else {
        json_t *doc = admitted(patched(object->doc, request, &text), &text);
        is_ok = doc != NULL && lab_change(lab, object, doc, &text);
    }
    json_t *result = answer_text(is_ok, text);
    free(text);
    return result;
}

static struct lab_object *find_workload(struct lab *lab, const json_t *request) {
    static const char *const kinds[] = {"Deployment", "StatefulSet", "ReplicaSet", "DaemonSet"};
    const char *wanted = js_str(request, "kind", "");
    for (size_t i = 0; i < ARRAY_LEN(kinds); i++) {
        struct lab_object *object = lab_store_find(lab, kinds[i], js_str(request, "ns", "default"),
                                                   js_str(request, "name", ""));
        if (object != NULL && (wanted[0] == '\0' || strcasecmp(wanted, kinds[i]) == 0)) {
            return object;
        }
    }
    return NULL;
}

static json_t *no_workload(const json_t *request) {
    const char *kind = js_str(request, "kind", "");
    char *text =
        lab_kind_not_found(kind[0] != '\0' ? kind : "Deployment", js_str(request, "name", ""));
    json_t *result = answer_text(false, text);
    free(text);
    return result;
}

static json_t *done(const struct lab_object *object, const char *word) {
    char *name = lab_kind_name(js_kind(object->doc), js_name(object->doc));
    struct text out = {0};
    text_add(&out, "%s %s\n", name, word);
    free(name);
    return answer(true, &out);
}

static json_t *do_scale(struct lab *lab, const json_t *request) {
    struct lab_object *object = find_workload(lab, request);
    long long n = js_int(request, "replicas", -1);
    if (object == NULL) {
        return no_workload(request);
    }
    if (n < 0 || n > LAB_PODS_MAX) {
        return answer_text(false, "error: a number of replicas that the lab cannot hold");
    }
    js_set(object->doc, "spec.replicas", json_integer(n));
    js_set(object->doc, "metadata.generation",
           json_integer(js_int(object->doc, "metadata.generation", 0) + 1));
    lab_store_touch(lab, object);
    return done(object, "scaled");
}

static json_t *do_restart(struct lab *lab, const json_t *request) {
    struct lab_object *object = find_workload(lab, request);
    if (object == NULL) {
        return no_workload(request);
    }
    json_t *template = js_get(object->doc, "spec.template");
    char when[SYS_TIME_MAX + 24];
    // More than a second's resolution: two restarts in a row are two.
    snprintf(when, sizeof(when), "%llu", (unsigned long long)clock_wall_ns());
    js_set_annotation(template, "kubectl.kubernetes.io/restartedAt", when);
    js_set(object->doc, "metadata.generation",
           json_integer(js_int(object->doc, "metadata.generation", 0) + 1));
    lab_store_touch(lab, object);
    return done(object, "restarted");
}

// Names of the pod's containers, the ones that run to the end behind the others, as kubectl does.
static json_t *container_names(const struct lab_pod *pod) {
    json_t *names = json_array();
    for (uint32_t i = 0; i < pod->n_ctrs; i++) {
        uint32_t at = (i + pod->n_init) % pod->n_ctrs;
        const char *end = pod->ctrs[at].is_init ? " (init)" : "";
        json_array_append_new(names, json_sprintf("%s%s", pod->ctrs[at].name, end));
    }
    return names;
}

static json_t *do_exec(struct lab *lab, const json_t *request) {
    const char *name = js_str(request, "name", ""), *wanted = js_str(request, "container", NULL);
    struct lab_pod *pod = lab_pod_find(lab, js_str(request, "ns", "default"), name);
    struct text text = {0};
    if (pod == NULL) {
        text_add(&text, "Error from server (NotFound): pods \"%s\" not found", name);
        return answer(false, &text);
    }
    if (wanted == NULL) {
        wanted = js_annotation(pod->object->doc, "kubectl.kubernetes.io/default-container");
    }
    struct lab_ctr *ctr = lab_pod_ctr(pod, wanted);
    if (ctr == NULL) {
        text_add(&text, "Error from server (BadRequest): container %s is not valid for pod %s",
                 wanted != NULL ? wanted : "\"\"", name);
        return answer(false, &text);
    }
    json_t *result = json_object();
    json_t *env = json_array();
    for (size_t i = 0; ctr->env != NULL && ctr->env[i] != NULL; i++) {
        json_array_append_new(env, json_string(ctr->env[i]));
    }
    // Not before its set-up is over: its namespaces are not complete.
    bool is_running = ctr->pid > 0 && ctr->setup.fd < 0;
    js_set(result, "ok", json_boolean(is_running));
    js_set(result, "text",
           is_running ? json_string("")
                      : json_sprintf("error: unable to upgrade connection: container not found "
                                     "(\"%s\"): it does not run",
                                     ctr->name));
    js_set(result, "pid", json_integer(ctr->pid));
    js_set(result, "env", env);
    js_set_str(result, "cwd", ctr->cwd != NULL ? ctr->cwd : "/");
    js_set_str(result, "log", ctr->log);
    js_set(result, "logFrom", json_integer(ctr->log_from));
    js_set(result, "logPrevious", json_integer(ctr->log_previous));
    js_set_str(result, "container", ctr->name);
    js_set(result, "containers", container_names(pod));
    return result;
}

static json_t *do_node(struct lab *lab, const json_t *request) {
    struct lab_node *node = lab_node_find(lab, js_str(request, "name", ""));
    if (node == NULL) {
        return answer_text(false, "no such node");
    }
    return json_pack("{s:b, s:s}", "ok", 1, "netns", node->netns);
}

static json_t *do_get(struct lab *lab, const json_t *request) {
    json_t *items = json_array();
    const char *kind = js_str(request, "kind", NULL), *ns = js_str(request, "ns", NULL);
    const char *name = js_str(request, "name", NULL);
    LIST_EACH(node, &lab->objects) {
        json_t *doc = LAB_OBJECT(node)->doc;
        if ((kind == NULL || strcasecmp(js_kind(doc), kind) == 0) &&
            (ns == NULL || strcmp(js_ns(doc), ns) == 0) &&
            (name == NULL || strcmp(js_name(doc), name) == 0)) {
            json_array_append(items, doc);
        }
    }
    return json_pack("{s:b, s:o}", "ok", 1, "items", items);
}

static json_t *handle(struct lab *lab, const json_t *request) {
    static const struct {
        const char *cmd;
        json_t *(*fn)(struct lab *lab, const json_t *request);
    } commands[] = {
        {"apply", do_apply},     {"delete", do_delete},  {"scale", do_scale},
        {"restart", do_restart}, {"exec", do_exec},      {"node", do_node},
        {"get", do_get},         {"status", lab_status}, {"patch", do_patch},
    };
    const char *cmd = js_str(request, "cmd", "");
    for (size_t i = 0; i < ARRAY_LEN(commands); i++) {
        if (strcmp(commands[i].cmd, cmd) == 0) {
            return commands[i].fn(lab, request);
        }
    }
    if (strcmp(cmd, "down") == 0) {
        lab_super_stop(lab);
        return answer_text(true, "");
    }
    return answer_text(false, "unknown command");
}

static bool send_all(int fd, const char *data, size_t len) {
    while (len > 0) {
        ssize_t n = send(fd, data, len, MSG_NOSIGNAL);
        if (n <= 0) {
            return false;
        }
        data += n;
        len -= (size_t)n;
    }
    return true;
}

static void send_json(int fd, json_t *value) {
    char *text = json_dumps(value, JSON_COMPACT);
    if (text != NULL && send_all(fd, text, strlen(text))) {
        send_all(fd, "\n", 1);
    }
    free(text);
    json_decref(value);
}

static void on_request(void *arg, uint32_t events) {
    struct connection *c = arg;
    if (c->cap - c->len < 65536) {
        c->cap = c->cap * 2 + 131072;
        c->data = xrealloc(c->data, c->cap);
    }
    ssize_t n = recv(c->fd.fd, c->data + c->len, c->cap - c->len - 1, MSG_DONTWAIT);
    if (n < 0 && errno == EAGAIN) {
        return;
    }
    c->len += n > 0 ? (size_t)n : 0;
    bool is_complete = c->len > 0 && memchr(c->data, '\n', c->len) != NULL;
    if (n > 0 && !is_complete && c->len < REQUEST_MAX) {
        return;
    }
    if (is_complete) {
        json_t *request = json_loadb(c->data, c->len, 0, NULL);
        // Our own client reads at once; a stopped one must not hold the lab for long.
        struct timeval timeout = {.tv_sec = 2};
        setsockopt(c->fd.fd, SOL_SOCKET, SO_SNDTIMEO, &timeout, sizeof(timeout));
        send_json(c->fd.fd, handle(c->lab, request));
        json_decref(request);
    }
    lab_fd_close(&c->fd);
    free(c->data);
    free(c);
}

static void on_accept(void *arg, uint32_t events) {
    struct lab *lab = arg;
    int fd = accept4(lab->listener.fd, NULL, NULL, SOCK_CLOEXEC);
    if (fd < 0) {
        return;
    }
    struct connection *c = xcalloc(1, sizeof(*c));
    c->lab = lab;
    lab_fd_open(&c->fd, fd, EPOLLIN, on_request, c);
}

static bool socket_address(const char *dir, struct sockaddr_un *ret) {
    *ret = (struct sockaddr_un){.sun_family = AF_UNIX};
    int n = snprintf(ret->sun_path, sizeof(ret->sun_path), "%s/control.sock", dir);
    return n > 0 && (size_t)n < sizeof(ret->sun_path);
}

bool lab_control_open(struct lab *lab, char **ret_error) {
    struct sockaddr_un address;
    if (!socket_address(lab->opt.dir, &address)) {
        *ret_error = xasprintf("%s: the path is too long for a socket", lab->opt.dir);
        return false;
    }
    unlink(address.sun_path);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0 || bind(fd, (struct sockaddr *)&address, sizeof(address)) < 0 ||
        listen(fd, 64) < 0) {
        *ret_error = xasprintf("%s: %s", address.sun_path, strerror(errno));
        if (fd >= 0) {
            close(fd);
        }
        return false;
    }
    lab_fd_open(&lab->listener, fd, EPOLLIN, on_accept, lab);
    return true;
}

void lab_control_close(struct lab *lab) {
    lab_fd_close(&lab->listener);
}

static json_t *receive(int fd) {
    size_t len = 0, cap = 65536;
    char *data = xmalloc(cap);
    ssize_t n;
    while ((n = recv(fd, data + len, cap - len, 0)) > 0) {
        len += (size_t)n;
        if (cap - len < 32768) {
            cap *= 2;
            data = xrealloc(data, cap);
        }
    }
    json_t *result = n == 0 ? json_loadb(data, len, 0, NULL) : NULL;
    free(data);
    return result;
}

json_t *lab_request(const char *dir, json_t *request, char **ret_error) {
    struct sockaddr_un address;
    json_t *result = NULL;
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct timeval timeout = {.tv_sec = CLIENT_TIMEOUT_S};
    if (fd < 0 || !socket_address(dir, &address) ||
        setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof(timeout)) < 0 ||
        connect(fd, (struct sockaddr *)&address, sizeof(address)) < 0) {
        *ret_error = xasprintf("no lab runs in %s (%s)", dir, strerror(errno));
        json_decref(request);
    } else {
        send_json(fd, request);
        result = receive(fd);
        if (result == NULL) {
            *ret_error = xasprintf("the lab in %s does not answer", dir);
        }
    }
    if (fd >= 0) {
        close(fd);
    }
    return result;
}

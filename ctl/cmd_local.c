// SPDX-License-Identifier: Apache-2.0

#include "ctl/cmd_local.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "ctl/local_args.h"
#include "ctl/local_cli.h"
#include "ctl/local_control.h"
#include "ctl/local_docs.h"
#include "ctl/local_json.h"
#include "ctl/local_kind.h"
#include "ctl/local_net.h"
#include "ctl/local_status.h"
#include "ctl/local_super.h"
#include "ctl/local_sys.h"
#include "ctl/local_text.h"
#include "ctl/local_usage.h"
#include "ctl/local_verbs.h"

// --namespace is for the documents that name none.
static bool put_namespace(const struct local_args *a, json_t *docs) {
    size_t i;
    json_t *doc;
    json_array_foreach(docs, i, doc) {
        const struct lab_kind *kind = lab_kind_of(js_kind(doc));
        if (a->verb.ns == NULL || (kind != NULL && kind->is_cluster_scoped)) {
            continue;
        }
        if (js_ns(doc)[0] != '\0' && strcmp(js_ns(doc), a->verb.ns) != 0) {
            fprintf(stderr,
                    "error: the namespace from the provided object \"%s\" does not match the "
                    "namespace \"%s\"\n",
                    js_ns(doc), a->verb.ns);
            return false;
        }
        js_set_str(doc, "metadata.namespace", a->verb.ns);
    }
    return true;
}

// All documents of the files and of the positional paths that `check` (may be NULL) does not
// refuse. NULL: said why.
static json_t *load_all(const struct local_args *a, struct lab_check *check) {
    json_t *all = json_array();
    size_t n_files = json_array_size(a->files);
    for (size_t i = 0; i < n_files + (size_t)a->n_rest; i++) {
        const char *path =
            i < n_files ? json_string_value(json_array_get(a->files, i)) : a->rest[i - n_files];
        json_t *docs = NULL;
        char *error = NULL;
        if (lab_docs_load(path, check, &docs, &error) < 0) {
            fprintf(stderr, "%s\n", error);
            free(error);
            json_decref(all);
            return NULL;
        }
        json_array_extend(all, docs);
        json_decref(docs);
    }
    if (!put_namespace(a, all)) {
        json_decref(all);
        return NULL;
    }
    return all;
}

// Beside this program, or in a directory above it: build/bin/ztunctl and conf/local/images.yaml.
static char *find_file(const char *what, bool is_upward) {
    char self[1024];
    ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);
    if (n <= 0) {
        return NULL;
    }
    self[n] = '\0';
    for (char *slash = strrchr(self, '/'); slash != NULL; slash = strrchr(self, '/')) {
        *slash = '\0';
        char *path = xasprintf("%s/%s", self, what);
        if (access(path, R_OK) == 0) {
            return path;
        }
        free(path);
        if (!is_upward) {
            break;
        }
    }
    return NULL;
}

static void daemonize(const struct local_args *a, int report) {
    setsid();
    if (fork() != 0) {
        _exit(0);
    }
    char *path = xasprintf("%s/supervisor.log", a->lab.dir);
    int log = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    free(path);
    dup2(null, 0);
    dup2(log >= 0 ? log : null, 1);
    dup2(log >= 0 ? log : null, 2);
    setvbuf(stderr, NULL, _IOLBF, 0);
    fcntl(report, F_SETFD, FD_CLOEXEC);
    // Nothing of the caller's: a pipe that it waits on must not stay open with us.
    for (int fd = 3; fd < 1024; fd++) {
        if (fd != report && fd != log && fd != null) {
            close(fd);
        }
    }
    umask(022);
    if (chdir("/") < 0) {
        _exit(1);
    }
}

static int start(const struct local_args *a, json_t *docs) {
    int report[2];
    if (pipe2(report, O_CLOEXEC) < 0) {
        return 1;
    }
    pid_t pid = fork();
    if (pid == 0) {
        close(report[0]);
        daemonize(a, report[1]);
        exit(lab_super_run(&a->lab, docs, report[1]));
    }
    close(report[1]);
    waitpid(pid, NULL, 0);
    char text[4096];
    size_t len = 0;
    ssize_t n;
    while ((n = read(report[0], text + len, sizeof(text) - 1 - len)) > 0) {
        len += (size_t)n;
    }
    text[len] = '\0';
    close(report[0]);
    if (strcmp(text, "ok") == 0) {
        return 0;
    }
    fprintf(stderr, "ztunctl local: %s\n", len > 0 ? text : "the supervisor died");
    char *log = xasprintf("%s/supervisor.log", a->lab.dir);
    char *content = sys_read_file(log, 1 << 20, NULL);
    fprintf(stderr, "%s", content != NULL ? content : "");
    free(content);
    free(log);
    return 1;
}

static char *absolute(const char *path) {
    return realpath(path, NULL);
}

static int do_up(struct local_args *a) {
    if (geteuid() != 0) {
        fprintf(stderr, "ztunctl local: needs root, for namespaces and mounts\n");
        return 1;
    }
    if (lab_super_is_alive(a->lab.dir)) {
        fprintf(stderr, "ztunctl local: lab %s is up already\n", a->lab.name);
        return 1;
    }
    json_t *docs = load_all(a, NULL);
    if (docs == NULL) {
        return 1;
    }
    char *images =
        a->lab.images != NULL ? absolute(a->lab.images) : find_file("conf/local/images.yaml", true);
    if (images == NULL) {
        images = find_file("share/ztun/local/images.yaml", true);
    }
    char *bin = a->lab.ztun_bin != NULL ? absolute(a->lab.ztun_bin) : find_file("ztun", false);
    char *waypoint =
        a->lab.waypoint_bin != NULL ? absolute(a->lab.waypoint_bin) : find_file("waypoint", false);
    int code = 1;
    if (a->lab.waypoint_bin != NULL && waypoint == NULL) {
        fprintf(stderr, "ztunctl local: %s: %s\n", a->lab.waypoint_bin, strerror(errno));
    } else if (images == NULL) {
        fprintf(stderr, "ztunctl local: no image map (conf/local/images.yaml), see --images\n");
    } else if (bin == NULL && a->lab.has_mesh) {
        fprintf(stderr, "ztunctl local: no ztun beside ztunctl, see --ztun-bin and --no-mesh\n");
    } else {
        a->lab.images = images;
        a->lab.ztun_bin = bin;
        a->lab.waypoint_bin = waypoint;
        // What a lab of this name left when it crashed.
        if (lab_net_sweep(a->lab.name) > 0 || access(a->lab.dir, F_OK) == 0) {
            lab_net_sweep(a->lab.name);
            sys_rm_rf(a->lab.dir);
        }
        code = sys_mkdir_p(a->lab.dir, 0755) == 0 ? start(a, docs) : 1;
        if (code != 0) {
            sys_rm_rf(a->lab.dir);
        }
    }
    json_decref(docs);
    free(images);
    free(bin);
    free(waypoint);
    if (code == 0 && a->wait_s > 0 && !lab_cli_wait(a->lab.dir, a->wait_s)) {
        code = 1;
    }
    return code;
}

static int apply_mode(struct local_args *a, const char *mode) {
    struct lab_check check = {.mode = a->validation,
                              .action = strcmp(mode, "replace") == 0 ? "replacing" : "creating"};
    json_t *docs = load_all(a, &check);
    fputs(check.messages.ptr != NULL ? check.messages.ptr : "", stderr);
    text_fini(&check.messages);
    if (docs == NULL) {
        return 1;
    }
    bool has_none = check.n_refused > 0 && json_array_size(docs) == 0;
    json_t *request = json_pack("{s:s, s:s, s:o}", "cmd", "apply", "mode", mode, "docs", docs);
    int code = has_none ? 1 : lab_cli_simple(a->lab.dir, request);
    if (has_none) {
        json_decref(request);
    }
    code = check.n_refused > 0 ? 1 : code;
    if (code == 0 && a->wait_s > 0 && !lab_cli_wait(a->lab.dir, a->wait_s)) {
        code = 1;
    }
    return code;
}

static int do_apply(struct local_args *a) {
    return apply_mode(a, "apply");
}

static int do_replace(struct local_args *a) {
    return apply_mode(a, "replace");
}

static int do_create(struct local_args *a) {
    const char *what = a->n_rest > 0 ? a->rest[0] : "";
    if (strcmp(what, "namespace") == 0 || strcmp(what, "ns") == 0) {
        return verb_create_namespace(&a->verb);
    }
    return apply_mode(a, "create");
}

static int do_delete(struct local_args *a) {
    struct stat st;
    bool has_files = json_array_size(a->files) > 0;
    // `delete PATH...` has been known here for longer than `delete KIND NAME`.
    if (!has_files && a->n_rest > 0 && stat(a->rest[0], &st) < 0) {
        a->verb.grace_s = (int)a->grace_s;
        return verb_delete(&a->verb, a->is_all);
    }
    json_t *docs = load_all(a, NULL);
    if (docs == NULL) {
        return 1;
    }
    return lab_cli_simple(a->lab.dir, json_pack("{s:s, s:i, s:o}", "cmd", "delete", "grace",
                                                (int)a->grace_s, "docs", docs));
}

static int do_status(struct local_args *a) {
    char *error = NULL;
    json_t *status = lab_request(a->lab.dir, json_pack("{s:s}", "cmd", "status"), &error);
    if (status == NULL) {
        fprintf(stderr, "ztunctl local: %s\n", error);
        free(error);
        return 1;
    }
    lab_status_ask_mesh(status);
    if (a->verb.output != NULL && strcmp(a->verb.output, "json") == 0) {
        js_set(status, "isReady", json_boolean(lab_status_is_ready(status)));
        json_dumpf(status, stdout, JSON_INDENT(2));
        printf("\n");
    } else {
        lab_status_print(status, stdout);
    }
    json_decref(status);
    return 0;
}

static int do_exec(struct local_args *a) {
    if (a->n_rest < 2) {
        local_usage(stderr);
        return 2;
    }
    char *where = verb_pod(a->lab.dir, a->verb.ns, a->rest[0]);
    int code = where != NULL ? lab_cli_exec(a->lab.dir, where, a->container, a->rest + 1) : 1;
    free(where);
    return code;
}

static int do_logs(struct local_args *a) {
    if (a->n_rest != 1) {
        local_usage(stderr);
        return 2;
    }
    char *where = verb_pod(a->lab.dir, a->verb.ns, a->rest[0]);
    a->logs.container = a->container;
    int code = where != NULL ? lab_cli_logs(a->lab.dir, where, &a->logs) : 1;
    free(where);
    return code;
}

static int do_restart(struct local_args *a) {
    if (a->n_rest != 1) {
        local_usage(stderr);
        return 2;
    }
    json_t *request = json_pack("{s:s}", "cmd", "restart");
    lab_cli_put_name(request, a->rest[0]);
    return lab_cli_simple(a->lab.dir, request);
}

static int do_wait(struct local_args *a) {
    return lab_cli_wait(a->lab.dir, a->wait_s > 0 ? a->wait_s : LAB_WAIT_DEFAULT_S) ? 0 : 1;
}

static int do_down(struct local_args *a) {
    return lab_cli_down(a->lab.name, a->lab.dir);
}

static const struct {
    const char *name;
    int (*fn)(struct local_args *a);
    int (*verb)(const struct verb_args *a);
} commands[] = {
    {"up", do_up, NULL},
    {"apply", do_apply, NULL},
    {"create", do_create, NULL},
    {"replace", do_replace, NULL},
    {"delete", do_delete, NULL},
    {"get", NULL, verb_get},
    {"describe", NULL, verb_describe},
    {"exec", do_exec, NULL},
    {"logs", do_logs, NULL},
    {"status", do_status, NULL},
    {"scale", NULL, verb_scale},
    {"restart", do_restart, NULL},
    {"expose", NULL, verb_expose},
    {"patch", NULL, verb_patch},
    {"edit", NULL, verb_edit},
    {"set", NULL, verb_set},
    {"rollout", NULL, verb_rollout},
    {"label", NULL, verb_label},
    {"annotate", NULL, verb_annotate},
    {"port-forward", NULL, verb_port_forward},
    {"wait", do_wait, NULL},
    {"down", do_down, NULL},
};

int cmd_local(int argc, char **argv) {
    const char *name = argc > 1 ? argv[1] : "";
    if (strcmp(name, "--help") == 0 || strcmp(name, "help") == 0) {
        local_usage(stdout);
        return 0;
    }
    for (size_t i = 0; i < ARRAY_LEN(commands); i++) {
        if (strcmp(commands[i].name, name) == 0) {
            struct local_args a;
            int code = 2;
            if (local_args_init(&a, argc - 1, argv + 1)) {
                code = commands[i].fn != NULL ? commands[i].fn(&a) : commands[i].verb(&a.verb);
            }
            local_args_fini(&a);
            return code;
        }
    }
    local_usage(stderr);
    return 2;
}

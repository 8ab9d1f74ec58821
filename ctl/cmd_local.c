// SPDX-License-Identifier: Apache-2.0

#include "ctl/cmd_local.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

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

enum { WAIT_DEFAULT_S = 60 };

struct args {
    struct lab_options lab;
    const char *base, *container;
    json_t *files; // -f and positional paths
    int wait_s; // 0 = do not wait
    long grace_s;
    bool is_following;
    struct verb_args verb;
    char **rest; // what is left, NULL-terminated
    int n_rest;
};

enum {
    OPT_NAME = 256,
    OPT_STATE_DIR,
    OPT_NODES,
    OPT_IMAGES,
    OPT_ZTUN_BIN,
    OPT_ZTUN_ARG,
    OPT_ZTUN_ENV,
    OPT_WAYPOINT_BIN,
    OPT_WAYPOINT_ARG,
    OPT_WAYPOINT_ENV,
    OPT_NO_MESH,
    OPT_NO_HOST,
    OPT_FAMILIES,
    OPT_DNS,
    OPT_DOMAIN,
    OPT_WAIT,
    OPT_GRACE,
    OPT_REPLICAS,
    OPT_TYPE,
    OPT_SERVICE,
    OPT_PORT,
    OPT_TARGET_PORT,
    OPT_OVERWRITE,
    OPT_TIMEOUT,
};

static const struct option options[] = {
    {"name", required_argument, NULL, OPT_NAME},
    {"state-dir", required_argument, NULL, OPT_STATE_DIR},
    {"nodes", required_argument, NULL, OPT_NODES},
    {"images", required_argument, NULL, OPT_IMAGES},
    {"ztun-bin", required_argument, NULL, OPT_ZTUN_BIN},
    {"ztun-arg", required_argument, NULL, OPT_ZTUN_ARG},
    {"ztun-env", required_argument, NULL, OPT_ZTUN_ENV},
    {"waypoint-bin", required_argument, NULL, OPT_WAYPOINT_BIN},
    {"waypoint-arg", required_argument, NULL, OPT_WAYPOINT_ARG},
    {"waypoint-env", required_argument, NULL, OPT_WAYPOINT_ENV},
    {"no-mesh", no_argument, NULL, OPT_NO_MESH},
    {"no-host", no_argument, NULL, OPT_NO_HOST},
    {"ip-families", required_argument, NULL, OPT_FAMILIES},
    {"dns", required_argument, NULL, OPT_DNS},
    {"cluster-domain", required_argument, NULL, OPT_DOMAIN},
    {"wait", optional_argument, NULL, OPT_WAIT},
    {"grace", required_argument, NULL, OPT_GRACE},
    {"replicas", required_argument, NULL, OPT_REPLICAS},
    {"filename", required_argument, NULL, 'f'},
    {"container", required_argument, NULL, 'c'},
    {"output", required_argument, NULL, 'o'},
    {"namespace", required_argument, NULL, 'n'},
    {"all-namespaces", no_argument, NULL, 'A'},
    {"selector", required_argument, NULL, 'l'},
    {"watch", no_argument, NULL, 'w'},
    {"patch", required_argument, NULL, 'p'},
    {"stdin", no_argument, NULL, 'i'},
    {"tty", no_argument, NULL, 't'},
    {"type", required_argument, NULL, OPT_TYPE},
    {"service", required_argument, NULL, OPT_SERVICE},
    {"port", required_argument, NULL, OPT_PORT},
    {"target-port", required_argument, NULL, OPT_TARGET_PORT},
    {"overwrite", no_argument, NULL, OPT_OVERWRITE},
    {"timeout", required_argument, NULL, OPT_TIMEOUT},
    {NULL, 0, NULL, 0},
};

static bool parse_number(const char *text, long max, long *ret) {
    char *end = NULL;
    errno = 0;
    long value = strtol(text, &end, 10);
    if (errno != 0 || end == text || *end != '\0' || value < 0 || value > max) {
        fprintf(stderr, "ztunctl local: bad number '%s'\n", text);
        return false;
    }
    *ret = value;
    return true;
}

static bool parse_families(struct args *a, const char *text) {
    a->lab.has_v4 = strstr(text, "IPv4") != NULL;
    a->lab.has_v6 = strstr(text, "IPv6") != NULL;
    if (!a->lab.has_v4 && !a->lab.has_v6) {
        fprintf(stderr, "ztunctl local: --ip-families is IPv4, IPv6 or IPv4,IPv6\n");
        return false;
    }
    return true;
}

static bool parse_dns(struct args *a, const char *text) {
    const char *equals = strchr(text, '=');
    struct ip ip;
    if (equals == NULL || equals == text || !ip_parse(slice_str(equals + 1), &ip)) {
        fprintf(stderr, "ztunctl local: --dns is NAME=ADDRESS\n");
        return false;
    }
    char *name = xstrndup(text, (size_t)(equals - text));
    json_t *list = json_object_get(a->lab.dns, name);
    if (list == NULL) {
        list = json_array();
        json_object_set_new(a->lab.dns, name, list);
    }
    json_array_append_new(list, json_string(equals + 1));
    free(name);
    return true;
}

// Options that are just a text; NULL for the others.
static const char **text_option(struct args *a, int opt) {
    switch (opt) {
    case OPT_NAME:
        return &a->lab.name;
    case OPT_STATE_DIR:
        return &a->base;
    case OPT_IMAGES:
        return &a->lab.images;
    case OPT_ZTUN_BIN:
        return &a->lab.ztun_bin;
    case OPT_WAYPOINT_BIN:
        return &a->lab.waypoint_bin;
    case OPT_DOMAIN:
        return &a->lab.cluster_domain;
    case 'c':
        return &a->container;
    case 'o':
        return &a->verb.output;
    case 'n':
        return &a->verb.ns;
    case 'l':
        return &a->verb.selector;
    case 'p':
        return &a->verb.patch;
    case OPT_TYPE:
        return &a->verb.type;
    case OPT_SERVICE:
        return &a->verb.service;
    case OPT_PORT:
        return &a->verb.port;
    case OPT_TARGET_PORT:
        return &a->verb.target_port;
    default:
        return NULL;
    }
}

// Options without a value; false: it is none of them.
static bool parse_switch(struct args *a, int opt) {
    switch (opt) {
    case OPT_NO_MESH:
        a->lab.has_mesh = false;
        return true;
    case OPT_NO_HOST:
        a->lab.has_host = false;
        return true;
    case OPT_OVERWRITE:
        a->verb.is_overwriting = true;
        return true;
    case 'A':
        a->verb.is_all_ns = true;
        return true;
    case 'w':
        a->verb.is_watching = true;
        return true;
    case 'i': // exec always hands on stdin and the terminal that it has
    case 't':
        return true;
    default:
        return false;
    }
}

// "30", "30s", "2m"
static bool parse_timeout(struct args *a, const char *text) {
    size_t len = strlen(text);
    bool is_minutes = len > 0 && text[len - 1] == 'm';
    char *digits = xstrndup(text, len - (len > 0 && strchr("sm", text[len - 1]) != NULL));
    long number = 0;
    bool is_ok = parse_number(digits, 3600, &number);
    a->verb.timeout_s = (int)number * (is_minutes ? 60 : 1);
    free(digits);
    return is_ok;
}

static bool parse_option(struct args *a, int opt, const char *cmd) {
    long number = 0;
    const char **text = text_option(a, opt);
    if (text != NULL) {
        *text = optarg;
        return true;
    }
    if (parse_switch(a, opt)) {
        return true;
    }
    switch (opt) {
    case OPT_NODES:
        if (!parse_number(optarg, LAB_NODES_MAX, &number)) {
            return false;
        }
        a->lab.n_nodes = (uint32_t)number;
        return true;
    case OPT_ZTUN_ARG:
        json_array_append_new(a->lab.ztun_args, json_string(optarg));
        return true;
    case OPT_ZTUN_ENV:
        json_array_append_new(a->lab.ztun_env, json_string(optarg));
        return true;
    case OPT_WAYPOINT_ARG:
        json_array_append_new(a->lab.waypoint_args, json_string(optarg));
        return true;
    case OPT_WAYPOINT_ENV:
        json_array_append_new(a->lab.waypoint_env, json_string(optarg));
        return true;
    case OPT_TIMEOUT:
        return parse_timeout(a, optarg);
    case OPT_FAMILIES:
        return parse_families(a, optarg);
    case OPT_DNS:
        return parse_dns(a, optarg);
    case OPT_WAIT:
        number = WAIT_DEFAULT_S;
        if (optarg != NULL && !parse_number(optarg, 3600, &number)) {
            return false;
        }
        a->wait_s = (int)number;
        return true;
    case OPT_GRACE:
        return parse_number(optarg, 86400, &a->grace_s);
    case OPT_REPLICAS:
        if (!parse_number(optarg, LAB_PODS_MAX, &number)) {
            return false;
        }
        a->verb.replicas = (int)number;
        return true;
    case 'f':
        if (strcmp(cmd, "logs") == 0) {
            a->is_following = true;
        } else if (optarg != NULL) {
            json_array_append_new(a->files, json_string(optarg));
        }
        return true;
    default:
        return false;
    }
}

static bool is_name_ok(const char *name) {
    size_t len = strlen(name);
    return len > 0 && len <= LAB_NAME_MAX &&
           strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789-") == len;
}

// argv[0] is the command. What follows "--" is left alone.
static bool parse(struct args *a, int argc, char **argv) {
    const char *env = getenv("ZTUN_LAB");
    *a = (struct args){.base = "/run/ztun-lab", .grace_s = -1, .verb.replicas = -1};
    a->lab = (struct lab_options){.name = env != NULL ? env : "lab",
                                  .cluster_domain = "cluster.local",
                                  .ztun_args = json_array(),
                                  .ztun_env = json_array(),
                                  .waypoint_args = json_array(),
                                  .waypoint_env = json_array(),
                                  .dns = json_object(),
                                  .has_mesh = true,
                                  .has_host = true,
                                  .has_v4 = true};
    a->files = json_array();
    const char *shorts = strcmp(argv[0], "logs") == 0 ? "fc:n:" : "f:c:o:n:Al:wp:it";
    optind = 0;
    int opt;
    while ((opt = getopt_long(argc, argv, shorts, options, NULL)) != -1) {
        if (!parse_option(a, opt, argv[0])) {
            return false;
        }
    }
    a->rest = argv + optind;
    a->n_rest = argc - optind;
    if (!is_name_ok(a->lab.name)) {
        fprintf(stderr, "ztunctl local: a lab's name has at most %d of a-z, 0-9 and -\n",
                LAB_NAME_MAX);
        return false;
    }
    a->lab.dir = xasprintf("%s/%s", a->base, a->lab.name);
    a->verb.dir = a->lab.dir;
    a->verb.rest = a->rest;
    a->verb.n_rest = a->n_rest;
    return true;
}

static void args_fini(struct args *a) {
    json_decref(a->lab.ztun_args);
    json_decref(a->lab.ztun_env);
    json_decref(a->lab.waypoint_args);
    json_decref(a->lab.waypoint_env);
    json_decref(a->lab.dns);
    json_decref(a->files);
    free((char *)a->lab.dir);
}

// --namespace is for the documents that name none.
static bool put_namespace(const struct args *a, json_t *docs) {
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

// All documents of the files and of the positional paths. NULL: said why.
static json_t *load_all(const struct args *a) {
    json_t *all = json_array();
    size_t n_files = json_array_size(a->files);
    for (size_t i = 0; i < n_files + (size_t)a->n_rest; i++) {
        const char *path =
            i < n_files ? json_string_value(json_array_get(a->files, i)) : a->rest[i - n_files];
        json_t *docs = NULL;
        char *error = NULL;
        if (lab_docs_load(path, &docs, &error) < 0) {
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

static void daemonize(const struct args *a, int report) {
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

static int start(const struct args *a, json_t *docs) {
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

static int do_up(struct args *a) {
    if (geteuid() != 0) {
        fprintf(stderr, "ztunctl local: needs root, for namespaces and mounts\n");
        return 1;
    }
    if (lab_super_is_alive(a->lab.dir)) {
        fprintf(stderr, "ztunctl local: lab %s is up already\n", a->lab.name);
        return 1;
    }
    json_t *docs = load_all(a);
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

static int apply_mode(struct args *a, const char *mode) {
    json_t *docs = load_all(a);
    if (docs == NULL) {
        return 1;
    }
    int code = lab_cli_simple(a->lab.dir, json_pack("{s:s, s:s, s:o}", "cmd", "apply", "mode", mode,
                                                    "docs", docs));
    if (code == 0 && a->wait_s > 0 && !lab_cli_wait(a->lab.dir, a->wait_s)) {
        code = 1;
    }
    return code;
}

static int do_apply(struct args *a) {
    return apply_mode(a, "apply");
}

static int do_replace(struct args *a) {
    return apply_mode(a, "replace");
}

static int do_create(struct args *a) {
    const char *what = a->n_rest > 0 ? a->rest[0] : "";
    if (strcmp(what, "namespace") == 0 || strcmp(what, "ns") == 0) {
        return verb_create_namespace(&a->verb);
    }
    return apply_mode(a, "create");
}

static int do_delete(struct args *a) {
    json_t *request = json_pack("{s:s, s:i}", "cmd", "delete", "grace", (int)a->grace_s);
    const char *slash = a->n_rest == 1 ? strchr(a->rest[0], '/') : NULL;
    char *head = slash != NULL ? xstrndup(a->rest[0], (size_t)(slash - a->rest[0])) : NULL;
    bool is_single = json_array_size(a->files) == 0 &&
                     (a->n_rest == 2 || (head != NULL && lab_kind_find(head) != NULL));
    if (is_single) {
        js_set_str(request, "kind", a->n_rest == 2 ? a->rest[0] : head);
        lab_cli_put_name(request, a->n_rest == 2 ? a->rest[1] : slash + 1);
        if (a->verb.ns != NULL) {
            js_set_str(request, "ns", a->verb.ns);
        }
        free(head);
        return lab_cli_simple(a->lab.dir, request);
    }
    free(head);
    json_t *docs = load_all(a);
    if (docs == NULL) {
        json_decref(request);
        return 1;
    }
    js_set(request, "docs", docs);
    return lab_cli_simple(a->lab.dir, request);
}

static int do_status(struct args *a) {
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

static int do_exec(struct args *a) {
    if (a->n_rest < 2) {
        local_usage(stderr);
        return 2;
    }
    char *where = verb_pod(a->lab.dir, a->verb.ns, a->rest[0]);
    int code = where != NULL ? lab_cli_exec(a->lab.dir, where, a->container, a->rest + 1) : 1;
    free(where);
    return code;
}

static int do_logs(struct args *a) {
    if (a->n_rest != 1) {
        local_usage(stderr);
        return 2;
    }
    char *where = verb_pod(a->lab.dir, a->verb.ns, a->rest[0]);
    int code = where != NULL ? lab_cli_logs(a->lab.dir, where, a->container, a->is_following) : 1;
    free(where);
    return code;
}

static int do_restart(struct args *a) {
    if (a->n_rest != 1) {
        local_usage(stderr);
        return 2;
    }
    json_t *request = json_pack("{s:s}", "cmd", "restart");
    lab_cli_put_name(request, a->rest[0]);
    return lab_cli_simple(a->lab.dir, request);
}

static int do_wait(struct args *a) {
    return lab_cli_wait(a->lab.dir, a->wait_s > 0 ? a->wait_s : WAIT_DEFAULT_S) ? 0 : 1;
}

static int do_down(struct args *a) {
    return lab_cli_down(a->lab.name, a->lab.dir);
}

static const struct {
    const char *name;
    int (*fn)(struct args *a);
    int (*verb)(const struct verb_args *a);
} commands[] = {
    {"up", do_up, NULL},
    {"apply", do_apply, NULL},
    {"create", do_create, NULL},
    {"replace", do_replace, NULL},
    {"delete", do_delete, NULL},
    {"get", NULL, verb_get},
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
            struct args a;
            int code = 2;
            if (parse(&a, argc - 1, argv + 1)) {
                code = commands[i].fn != NULL ? commands[i].fn(&a) : commands[i].verb(&a.verb);
            }
            args_fini(&a);
            return code;
        }
    }
    local_usage(stderr);
    return 2;
}

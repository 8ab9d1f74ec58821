// SPDX-License-Identifier: Apache-2.0

#include "ctl/local_args.h"

#include <errno.h>
#include <getopt.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ctl/local_json.h"
#include "ctl/local_sys.h"
#include "ctl/local_text.h"

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
    OPT_VALIDATE,
    OPT_TAIL,
    OPT_PREVIOUS,
    OPT_FOLLOW,
    OPT_ALL,
    OPT_REVISION,
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
    {"validate", optional_argument, NULL, OPT_VALIDATE},
    {"tail", required_argument, NULL, OPT_TAIL},
    {"previous", no_argument, NULL, OPT_PREVIOUS},
    {"follow", no_argument, NULL, OPT_FOLLOW},
    {"all", no_argument, NULL, OPT_ALL},
    {"to-revision", required_argument, NULL, OPT_REVISION},
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

static bool parse_families(struct local_args *a, const char *text) {
    a->lab.has_v4 = strstr(text, "IPv4") != NULL;
    a->lab.has_v6 = strstr(text, "IPv6") != NULL;
    if (!a->lab.has_v4 && !a->lab.has_v6) {
        fprintf(stderr, "ztunctl local: --ip-families is IPv4, IPv6 or IPv4,IPv6\n");
        return false;
    }
    return true;
}

static bool parse_dns(struct local_args *a, const char *text) {
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
static const char **text_option(struct local_args *a, int opt) {
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
        return optarg != NULL ? &a->verb.patch : NULL; // not of logs
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
static bool parse_switch(struct local_args *a, int opt) {
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
    case 'p': // of logs
    case OPT_PREVIOUS:
        a->logs.is_previous = true;
        return true;
    case OPT_FOLLOW:
        a->logs.is_following = true;
        return true;
    case OPT_ALL:
        a->is_all = true;
        return true;
    case 'i': // exec always hands on stdin and the terminal that it has
    case 't':
        return true;
    default:
        return false;
    }
}

// "30", "30s", "2m"
static bool parse_timeout(struct local_args *a, const char *text) {
    size_t len = strlen(text);
    bool is_minutes = len > 0 && text[len - 1] == 'm';
    char *digits = xstrndup(text, len - (len > 0 && strchr("sm", text[len - 1]) != NULL));
    long number = 0;
    bool is_ok = parse_number(digits, 3600, &number);
    a->verb.timeout_s = (int)number * (is_minutes ? 60 : 1);
    free(digits);
    return is_ok;
}

static bool parse_validation(struct local_args *a, const char *text) {
    if (lab_validation_parse(text != NULL ? text : "strict", &a->validation)) {
        return true;
    }
    fprintf(stderr,
            "error: invalid argument \"%s\" for \"--validate\" flag: strict, warn or ignore\n",
            text);
    return false;
}

static bool parse_option(struct local_args *a, int opt, const char *cmd) {
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
    case OPT_VALIDATE:
        return parse_validation(a, optarg);
    case OPT_FAMILIES:
        return parse_families(a, optarg);
    case OPT_DNS:
        return parse_dns(a, optarg);
    case OPT_WAIT:
        number = LAB_WAIT_DEFAULT_S;
        if (optarg != NULL && !parse_number(optarg, 3600, &number)) {
            return false;
        }
        a->wait_s = (int)number;
        return true;
    case OPT_TAIL:
        return strcmp(optarg, "-1") == 0 || parse_number(optarg, LONG_MAX, &a->logs.tail);
    case OPT_REVISION:
        return parse_number(optarg, LONG_MAX, &a->verb.revision);
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
            a->logs.is_following = true;
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

bool local_args_init(struct local_args *a, int argc, char **argv) {
    const char *env = getenv("ZTUN_LAB");
    *a = (struct local_args){.base = "/run/ztun-lab",
                             .grace_s = -1,
                             .validation = LAB_VALIDATE_STRICT,
                             .logs.tail = -1,
                             .verb.replicas = -1};
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
    const char *shorts = strcmp(argv[0], "logs") == 0 ? "fpc:n:" : "f:c:o:n:Al:wp:it";
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

void local_args_fini(struct local_args *a) {
    json_decref(a->lab.ztun_args);
    json_decref(a->lab.ztun_env);
    json_decref(a->lab.waypoint_args);
    json_decref(a->lab.waypoint_env);
    json_decref(a->lab.dns);
    json_decref(a->files);
    free((char *)a->lab.dir);
}

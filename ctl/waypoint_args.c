// SPDX-License-Identifier: Apache-2.0
#include "ctl/waypoint_args.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/mesh/schema.h"
#include "ctl/cmd.h"

static void usage(FILE *out) {
    fputs(
        "usage: ztunctl waypoint generate [--name NAME] [--for TYPE] [--revision REV] [WHICH]...\n"
        "       ztunctl waypoint apply [generate's options] [--enroll-namespace [--overwrite]]\n"
        "               [--wait] [--waypoint-timeout TIME]\n"
        "       ztunctl waypoint status [-A] [--wait=false] [--waypoint-timeout TIME] [-o json]\n"
        "       ztunctl waypoint list [-A] [-o json]\n"
        "       ztunctl waypoint delete NAME... | --all | --revision REV\n"
        "\n"
        "The Gateways that make waypoints known to the mesh, as `istioctl waypoint` handles them.\n"
        "A Gateway alone is no waypoint yet: its processes and the Service before them come with\n"
        "ztun's waypoint chart, and the Gateway names that Service as its address.\n"
        "\n"
        "  --name NAME        of the Gateway (waypoint)\n"
        "  --for TYPE         what goes through it: service, workload, all or none\n"
        "  -r, --revision REV the revision of istiod\n"
        "  --class CLASS      istio-waypoint (default): istiod writes its status;\n"
        "                     ztun-waypoint: the waypoint itself does\n"
        "  --service NAME     the Service, when it is not called as the Gateway; or a host name\n"
        "  --cluster-domain D (cluster.local)\n"
        "  --enroll-namespace binds the namespace to it, by label\n"
        "  --overwrite        also one that is bound to a waypoint already\n"
        "  -w, --wait         until it is programmed\n"
        "  --waypoint-timeout at most so long (90s)\n"
        "  -A, --all-namespaces\n",
        out);
    fputs(kubectl_help, out);
    fputs("\nExit codes: 0 done, 1 failed or not programmed in time, 2 wrong usage.\n", out);
}

enum {
    OPT_NAME = 1,
    OPT_FOR,
    OPT_CLASS,
    OPT_SERVICE,
    OPT_DOMAIN,
    OPT_ENROLL,
    OPT_OVERWRITE,
    OPT_TIMEOUT,
    OPT_ALL,
};

// Always false.
static bool PRINTF_LIKE(1, 2) fail(const char *fmt, ...) {
    va_list args;

    fputs("ztunctl waypoint: ", stderr);
    va_start(args, fmt);
    vfprintf(stderr, fmt, args);
    va_end(args);
    fputs(" (ztunctl help waypoint)\n", stderr);
    return false;
}

static bool parse_bool(const char *text, bool *ret_value) {
    bool is_true = text == NULL || strcmp(text, "true") == 0;
    if (!is_true && strcmp(text, "false") != 0) {
        return fail("--wait takes true or false, not `%s`", text);
    }
    *ret_value = is_true;
    return true;
}

static bool check_name(const char *option, const char *text) {
    const char *problem = schema_check_dns_name(text);
    if (problem != NULL) {
        fprintf(stderr, "ztunctl waypoint: %s: `%s` %s\n", option, text, problem);
    }
    return problem == NULL;
}

static bool set_name(struct waypoint_args *a, const char *text) {
    a->spec.name = text[0] != '\0' ? text : "waypoint";
    if (strcmp(text, "none") == 0) {
        return fail("--name: `%s` is what a label says to have no waypoint", text);
    }
    return check_name("--name", a->spec.name);
}

static bool set_traffic(struct waypoint_args *a, const char *text) {
    static const char *const types[] = {"service", "workload", "all", "none"};
    for (size_t i = 0; i < ARRAY_LEN(types); i++) {
        if (strcmp(text, types[i]) == 0) {
            a->spec.traffic = text;
            return true;
        }
    }
    return fail("--for takes service, workload, all or none, not `%s`", text);
}

static bool set_class(struct waypoint_args *a, const char *text) {
    a->spec.class_name = text;
    return strcmp(text, WAYPOINT_CLASS_ISTIO) == 0 || strcmp(text, WAYPOINT_CLASS_ZTUN) == 0 ||
           fail("--class takes " WAYPOINT_CLASS_ISTIO " or " WAYPOINT_CLASS_ZTUN ", not `%s`",
                text);
}

static bool set_revision(struct waypoint_args *a, const char *text) {
    const char *problem = text[0] != '\0' ? schema_check_label_value(text) : NULL;
    a->spec.revision = text[0] != '\0' ? text : NULL;
    return problem == NULL || fail("--revision: `%s` is no label value", text);
}

static bool set_timeout(struct waypoint_args *a, const char *text) {
    return (schema_duration(slice_str(text), &a->timeout_ms) && a->timeout_ms > 0) ||
           fail("--waypoint-timeout: `%s` is not a duration such as 90s", text);
}

static bool set_option(struct waypoint_args *a, int opt, const char *arg) {
    switch (opt) {
    case OPT_NAME:
        return set_name(a, arg);
    case OPT_FOR:
        return set_traffic(a, arg);
    case 'r':
        return set_revision(a, arg);
    case OPT_CLASS:
        return set_class(a, arg);
    case OPT_SERVICE:
        a->spec.service = arg;
        return check_name("--service", arg);
    case OPT_DOMAIN:
        a->spec.cluster_domain = arg;
        return check_name("--cluster-domain", arg);
    case OPT_ENROLL:
        a->is_enrolling = true;
        return true;
    case OPT_OVERWRITE:
        a->is_overwriting = true;
        return true;
    case 'w':
        return parse_bool(arg, &a->is_waiting);
    case OPT_TIMEOUT:
        return set_timeout(a, arg);
    case OPT_ALL:
        a->is_all = true;
        return true;
    case 'A':
        a->is_everywhere = true;
        return true;
    case 'o':
        a->is_json = strcmp(arg, "json") == 0;
        return a->is_json || fail("-o takes json, not `%s`", arg);
    default:
        return kubectl_option(&a->kubectl, opt, arg);
    }
}

static const struct option longs[] = {KUBECTL_LONGS,
                                      {"name", required_argument, NULL, OPT_NAME},
                                      {"for", required_argument, NULL, OPT_FOR},
                                      {"revision", required_argument, NULL, 'r'},
                                      {"class", required_argument, NULL, OPT_CLASS},
                                      {"service", required_argument, NULL, OPT_SERVICE},
                                      {"cluster-domain", required_argument, NULL, OPT_DOMAIN},
                                      {"enroll-namespace", no_argument, NULL, OPT_ENROLL},
                                      {"overwrite", no_argument, NULL, OPT_OVERWRITE},
                                      {"wait", optional_argument, NULL, 'w'},
                                      {"waypoint-timeout", required_argument, NULL, OPT_TIMEOUT},
                                      {"all", no_argument, NULL, OPT_ALL},
                                      {"all-namespaces", no_argument, NULL, 'A'},
                                      {"output", required_argument, NULL, 'o'},
                                      {"help", no_argument, NULL, 'h'},
                                      {NULL, 0, NULL, 0}};

// Which verbs an option goes with.
static unsigned verbs_of(int opt) {
    switch (opt) {
    case OPT_NAME:
    case OPT_FOR:
    case OPT_CLASS:
    case OPT_SERVICE:
    case OPT_DOMAIN:
        return WAYPOINT_GENERATE | WAYPOINT_APPLY;
    case 'r':
        return WAYPOINT_GENERATE | WAYPOINT_APPLY | WAYPOINT_DELETE;
    case OPT_ENROLL:
    case OPT_OVERWRITE:
        return WAYPOINT_APPLY;
    case 'w':
    case OPT_TIMEOUT:
        return WAYPOINT_APPLY | WAYPOINT_STATUS;
    case OPT_ALL:
        return WAYPOINT_DELETE;
    case 'A':
    case 'o':
        return WAYPOINT_STATUS | WAYPOINT_LIST;
    default:
        return ~0u;
    }
}

static enum waypoint_verb find_verb(const char *name) {
    static const char *const verbs[] = {"generate", "apply", "status", "list", "delete"};
    for (size_t i = 0; i < ARRAY_LEN(verbs); i++) {
        if (strcmp(name, verbs[i]) == 0) {
            return (enum waypoint_verb)(1u << i);
        }
    }
    return WAYPOINT_NONE;
}

static const char letters[] = "n:r:wAo:h";

static bool parse_options(struct waypoint_args *a, int argc, char **argv, int *ret_code) {
    int opt, at = -1;

    *ret_code = CMD_USAGE;
    optind = 0;
    while ((opt = getopt_long(argc, argv, letters, longs, &at)) != -1) {
        if (opt == 'h') {
            usage(stdout);
            *ret_code = CMD_OK;
            return false;
        }
        if (opt != '?' && (verbs_of(opt) & a->verb) == 0) {
            char letter[3] = {'-', (char)opt};
            return fail("%s: %s%s does not go with it", argv[0], at >= 0 ? "--" : "",
                        at >= 0 ? longs[at].name : letter);
        }
        if (opt == '?' || !set_option(a, opt, optarg)) {
            return false;
        }
        at = -1;
    }
    a->names = argv + optind;
    a->n_names = argc - optind;
    if (a->n_names > 0 && a->verb != WAYPOINT_DELETE) {
        return fail("`%s` is too much", a->names[0]);
    }
    bool is_by_name = !a->is_all && a->spec.revision == NULL;
    if (a->verb == WAYPOINT_DELETE && is_by_name != (a->n_names > 0)) {
        return fail("delete: names, or --all, or --revision");
    }
    return !a->is_overwriting || a->is_enrolling ||
           fail("--overwrite goes with --enroll-namespace");
}

bool waypoint_args_parse(struct waypoint_args *a, int argc, char **argv, int *ret_code) {
    *a = (struct waypoint_args){.spec = {.name = "waypoint",
                                         .class_name = WAYPOINT_CLASS_ISTIO,
                                         .cluster_domain = "cluster.local"},
                                .timeout_ms = 90000};
    if (argc < 2 || strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0) {
        usage(argc < 2 ? stderr : stdout);
        *ret_code = argc < 2 ? CMD_USAGE : CMD_OK;
        return false;
    }
    a->verb = find_verb(argv[1]);
    a->is_waiting = a->verb == WAYPOINT_STATUS;
    if (a->verb == WAYPOINT_NONE) {
        *ret_code = CMD_USAGE;
        return fail("there is no verb `%s`", argv[1]);
    }
    return parse_options(a, argc - 1, argv + 1, ret_code);
}

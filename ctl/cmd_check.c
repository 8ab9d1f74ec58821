// SPDX-License-Identifier: Apache-2.0
//
// ztunctl check: is all there that the mesh needs, and does it work.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ctl/check.h"
#include "ctl/cmd.h"

enum { MAX_NODES_DEFAULT = 20 };

static void usage(FILE *out) {
    fputs(
        "usage: ztunctl check [-n NS] [-q] [-o text|json] [--max-nodes N]\n"
        "       ztunctl check --node [-q] [-o text|json]\n"
        "\n"
        "Looks at a cluster, by kubectl: before ztun is installed at what it needs (Kubernetes,\n"
        "kernels, istiod, istio-cni, the Gateway API), and once it is there also at each node's\n"
        "ztun (its connection to istiod, certificates, redirection), at pods that are not in the\n"
        "mesh though they should be, and at waypoints and what is bound to them. ztuns are asked\n"
        "by port forwarding to their admin port.\n"
        "\n"
        "  --node           this machine instead: its kernel, io_uring, nftables, limits\n"
        "  -q, --quiet      warnings and errors only\n"
        "  -o text|json     each finding with its remedy (text is the default)\n"
        "  --max-nodes N    how many ztuns are asked, 0 = none (20)\n"
        "  -n NS            where ztun is, or will be (default: where it is found, else\n"
        "                   istio-system)\n",
        out);
    fputs(kubectl_help, out);
    fputs("\nExit codes: 0 no errors, 1 errors, 2 wrong usage.\n", out);
}

struct args {
    struct kubectl kubectl;
    bool is_node, is_quiet, is_json;
    unsigned max_nodes;
};

static void look(struct check *c, const struct args *a) {
    struct check_cluster cluster = {.max_nodes = a->max_nodes};
    struct kubectl kubectl = a->kubectl;

    if (a->is_node) {
        check_node(c);
        return;
    }
    cluster.ns = kubectl.ns;
    kubectl.ns = NULL;
    cluster.kubectl = &kubectl;
    if (check_cluster_before(c, &cluster)) {
        if (json_is_object(cluster.ztun)) {
            check_mesh(c, &cluster);
        }
        if (cluster.has_gateway_api) {
            check_waypoints(c, &cluster);
        }
    }
    check_cluster_fini(&cluster);
}

static bool set_option(struct args *a, int opt, const char *arg) {
    char *end;

    switch (opt) {
    case 'N':
        a->is_node = true;
        return true;
    case 'q':
        a->is_quiet = true;
        return true;
    case 'o':
        a->is_json = strcmp(arg, "json") == 0;
        if (!a->is_json && strcmp(arg, "text") != 0) {
            fprintf(stderr, "ztunctl check: -o takes text or json, not `%s`\n", arg);
            return false;
        }
        return true;
    case 'm': {
        unsigned long n = strtoul(arg, &end, 10);
        if (arg[0] < '0' || arg[0] > '9' || *end != '\0' || n > 100000) {
            fprintf(stderr, "ztunctl check: --max-nodes: `%s` is not a number up to 100000\n", arg);
            return false;
        }
        a->max_nodes = (unsigned)n;
        return true;
    }
    default:
        return kubectl_option(&a->kubectl, opt, arg);
    }
}

int cmd_check(int argc, char **argv) {
    static const struct option longs[] = {KUBECTL_LONGS,
                                          {"node", no_argument, NULL, 'N'},
                                          {"quiet", no_argument, NULL, 'q'},
                                          {"output", required_argument, NULL, 'o'},
                                          {"max-nodes", required_argument, NULL, 'm'},
                                          {"help", no_argument, NULL, 'h'},
                                          {NULL, 0, NULL, 0}};
    struct args a = {.max_nodes = MAX_NODES_DEFAULT};
    struct check c = {0};
    int opt;

    optind = 0;
    while ((opt = getopt_long(argc, argv, "n:qo:h", longs, NULL)) != -1) {
        if (opt == 'h') {
            usage(stdout);
            return CMD_OK;
        }
        if (opt == '?' || !set_option(&a, opt, optarg)) {
            return CMD_USAGE;
        }
    }
    if (optind < argc) {
        fprintf(stderr, "ztunctl check: `%s` is too much (ztunctl help check)\n", argv[optind]);
        return CMD_USAGE;
    }
    look(&c, &a);
    if (a.is_json) {
        check_print_json(&c, a.is_quiet, stdout);
    } else {
        check_print_text(&c, a.is_quiet, stdout);
    }
    int rc = c.n_by_severity[CHECK_ERROR] > 0 ? CMD_FAILED : CMD_OK;
    check_fini(&c);
    return rc;
}

// SPDX-License-Identifier: Apache-2.0
//
// ztunctl config: what a running ztun has in force.
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "ctl/cmd.h"
#include "ctl/cmd_config.h"
#include "ctl/http_target.h"

struct args {
    struct http_target_options target;
    struct config_filter filter;
    const char *output, *file;
    bool with_headers;
    enum config_noun noun;
};

static void usage(FILE *out) {
    fputs(
        "usage: ztunctl config NOUN [-o table|json|yaml] [FILTER]... [WHERE]...\n"
        "\n"
        "Shows what a running ztun or waypoint has in force. NOUN and tables are those of\n"
        "`istioctl ztunnel-config`: workload, service, policy, certificate, connection, or all;\n"
        "and, of a waypoint, those of `istioctl proxy-config` with what is in use now: listener,\n"
        "route, cluster, endpoint.\n"
        "\n"
        "  -n, --namespace NS     only of this namespace\n"
        "  --workload NAME[.NS]   workloads and connections of this name\n"
        "  --address IP           workloads with this address\n"
        "  --workload-node NODE   workloads on this node\n"
        "  --direction inbound|outbound, --raw   connections: one direction; no names\n"
        "  --fqdn HOST, --port N, --subset NAME   of a waypoint: only of this service, port, "
        "subset\n"
        "  --with-headers         a title above each table of `all`\n"
        "  -f, --file FILE        reads a saved /config_dump instead of asking a ztun\n"
        "\n",
        out);
    fputs(http_target_help, out);
    fputs("With several nodes, workloads, services and policies are those of the first one;\n"
          "certificates and connections are of all.\n",
          out);
}

static const struct {
    const char *name;
    enum config_noun noun;
} nouns[] = {
    {"workload", CONFIG_WORKLOAD},
    {"workloads", CONFIG_WORKLOAD},
    {"w", CONFIG_WORKLOAD},
    {"service", CONFIG_SERVICE},
    {"services", CONFIG_SERVICE},
    {"svc", CONFIG_SERVICE},
    {"s", CONFIG_SERVICE},
    {"policy", CONFIG_POLICY},
    {"policies", CONFIG_POLICY},
    {"pol", CONFIG_POLICY},
    {"p", CONFIG_POLICY},
    {"certificate", CONFIG_CERTIFICATE},
    {"certificates", CONFIG_CERTIFICATE},
    {"certs", CONFIG_CERTIFICATE},
    {"cert", CONFIG_CERTIFICATE},
    {"connection", CONFIG_CONNECTION},
    {"connections", CONFIG_CONNECTION},
    {"cons", CONFIG_CONNECTION},
    {"all", CONFIG_ALL},
    {"listener", CONFIG_LISTENER},
    {"listeners", CONFIG_LISTENER},
    {"l", CONFIG_LISTENER},
    {"route", CONFIG_ROUTE},
    {"routes", CONFIG_ROUTE},
    {"r", CONFIG_ROUTE},
    {"cluster", CONFIG_CLUSTER},
    {"clusters", CONFIG_CLUSTER},
    {"c", CONFIG_CLUSTER},
    {"endpoint", CONFIG_ENDPOINT},
    {"endpoints", CONFIG_ENDPOINT},
    {"ep", CONFIG_ENDPOINT},
};

// ---- arguments ---------------------------------------------------------------------------------

enum {
    OPT_WORKLOAD = 1,
    OPT_ADDRESS,
    OPT_NODE,
    OPT_DIRECTION,
    OPT_RAW,
    OPT_HEADERS,
    OPT_FQDN,
    OPT_PORT,
    OPT_SUBSET
};

static bool set_port(struct args *args, const char *text) {
    uint64_t port = 0;
    if (!slice_to_u64(slice_str(text), UINT16_MAX, &port) || port == 0) {
        fprintf(stderr, "ztunctl config: --port: `%s` is not a port\n", text);
        return false;
    }
    args->filter.port = (uint16_t)port;
    return true;
}

static bool set_option(struct args *args, int opt) {
    switch (opt) {
    case 'o':
        args->output = strcmp(optarg, "short") == 0 ? "table" : optarg;
        return true;
    case 'n':
        args->filter.ns = optarg;
        return true;
    case 'f':
        args->file = optarg;
        return true;
    case OPT_WORKLOAD:
        args->filter.workload = optarg;
        return true;
    case OPT_ADDRESS:
        args->filter.address = optarg;
        return true;
    case OPT_NODE:
        args->filter.node = optarg;
        return true;
    case OPT_DIRECTION:
        args->filter.direction = optarg;
        return true;
    case OPT_RAW:
        args->filter.is_raw = true;
        return true;
    case OPT_HEADERS:
        args->with_headers = true;
        return true;
    case OPT_FQDN:
        args->filter.fqdn = optarg;
        return true;
    case OPT_SUBSET:
        args->filter.subset = optarg;
        return true;
    case OPT_PORT:
        return set_port(args, optarg);
    default:
        return http_target_option(&args->target, opt, optarg);
    }
}

static bool check(struct args *args, const char *noun) {
    static const char *const outputs[] = {"table", "json", "yaml"};
    bool is_known = false;
    for (size_t i = 0; i < ARRAY_LEN(outputs); i++) {
        is_known = is_known || strcmp(args->output, outputs[i]) == 0;
    }
    if (!is_known) {
        fprintf(stderr, "ztunctl config: -o takes table, json or yaml, not `%s`\n", args->output);
        return false;
    }
    const char *direction = args->filter.direction;
    if (direction != NULL && strcmp(direction, "inbound") != 0 &&
        strcmp(direction, "outbound") != 0) {
        fputs("ztunctl config: --direction takes inbound or outbound\n", stderr);
        return false;
    }
    for (size_t i = 0; i < ARRAY_LEN(nouns); i++) {
        if (strcmp(nouns[i].name, noun) == 0) {
            args->noun = nouns[i].noun;
            return true;
        }
    }
    fprintf(stderr,
            "ztunctl config: `%s` is none of workload, service, policy, certificate, connection, "
            "all, listener, route, cluster, endpoint\n",
            noun);
    return false;
}

// CMD_OK: go on; else the exit code plus one (so that help is 1).
static int parse(struct args *args, int argc, char **argv) {
    static const struct option longs[] = {HTTP_TARGET_LONGS,
                                          {"output", required_argument, NULL, 'o'},
                                          {"namespace", required_argument, NULL, 'n'},
                                          {"file", required_argument, NULL, 'f'},
                                          {"workload", required_argument, NULL, OPT_WORKLOAD},
                                          {"address", required_argument, NULL, OPT_ADDRESS},
                                          {"workload-node", required_argument, NULL, OPT_NODE},
                                          {"direction", required_argument, NULL, OPT_DIRECTION},
                                          {"raw", no_argument, NULL, OPT_RAW},
                                          {"with-headers", no_argument, NULL, OPT_HEADERS},
                                          {"fqdn", required_argument, NULL, OPT_FQDN},
                                          {"port", required_argument, NULL, OPT_PORT},
                                          {"subset", required_argument, NULL, OPT_SUBSET},
                                          {"help", no_argument, NULL, 'h'},
                                          {NULL, 0, NULL, 0}};
    int opt;
    optind = 0;
    while ((opt = getopt_long(argc, argv, "o:n:f:h", longs, NULL)) != -1) {
        if (opt == 'h') {
            usage(stdout);
            return 1 + CMD_OK;
        }
        if (!set_option(args, opt)) {
            return 1 + CMD_USAGE;
        }
    }
    if (optind + 1 != argc) {
        fputs("ztunctl config: which one NOUN? (ztunctl help config)\n", stderr);
        return 1 + CMD_USAGE;
    }
    return check(args, argv[optind]) ? 0 : 1 + CMD_USAGE;
}

// ---- dumps -------------------------------------------------------------------------------------

static json_t *parse_dump(const char *where, struct slice text) {
    json_error_t error;
    json_t *dump = json_loadb((const char *)text.ptr, text.len, 0, &error);
    if (!json_is_object(dump)) {
        fprintf(stderr, "ztunctl config: %s: not a config dump: %s\n", where,
                dump == NULL ? error.text : "no object");
        json_decref(dump);
        return NULL;
    }
    return dump;
}

static json_t *read_file(const char *path) {
    FILE *file = strcmp(path, "-") == 0 ? stdin : fopen(path, "re");
    struct buf text;
    char chunk[65536];
    size_t n;
    if (file == NULL) {
        fprintf(stderr, "ztunctl config: %s: %m\n", path);
        return NULL;
    }
    buf_init(&text, SIZE_MAX);
    while ((n = fread(chunk, 1, sizeof(chunk), file)) > 0) {
        buf_append(&text, slice_make(chunk, n));
    }
    if (file != stdin) {
        (void)fclose(file);
    }
    json_t *dump = parse_dump(path, buf_slice(&text));
    buf_fini(&text);
    return dump;
}

// A dump that can be added to; all but what `merge` changes is shared.
static json_t *copy_for_merge(const json_t *dump) {
    static const char *const own[] = {"certificates", "workloadState"};
    json_t *copy = json_copy((json_t *)dump);
    for (size_t i = 0; i < ARRAY_LEN(own); i++) {
        json_object_set_new(copy, own[i], json_copy(json_object_get(dump, own[i])));
    }
    return copy;
}

// What nodes have of their own is added to the first one's dump.
static void merge(json_t *dump, const json_t *other) {
    json_array_extend(json_object_get(dump, "certificates"),
                      json_object_get(other, "certificates"));
    json_object_update_missing(json_object_get(dump, "workloadState"),
                               json_object_get(other, "workloadState"));
}

// The page that has the noun: a waypoint's is small beside its whole dump.
static const char *page_of(enum config_noun noun) {
    return config_is_l7(noun) ? "/l7_dump" : "/config_dump";
}

// The dumps of all targets: `*ret_nodes` maps node to dump; the merged one is returned.
static json_t *fetch(const struct args *args, json_t **ret_nodes) {
    struct http_targets targets;
    char *error = NULL;
    json_t *merged = NULL;
    *ret_nodes = json_object();
    struct http_target_options target = args->target;
    if (config_is_l7(args->noun) && target.waypoint == NULL) {
        target.waypoint = ""; // no ztun has that
    }
    if (!http_targets_find(&target, &targets, &error)) {
        fprintf(stderr, "ztunctl config: %s\n", error);
        free(error);
        return NULL;
    }
    bool is_ok = true;
    for (size_t i = 0; i < targets.n && is_ok; i++) {
        struct buf body;
        buf_init(&body, SIZE_MAX / 2);
        json_t *dump = NULL;
        const char *page = page_of(args->noun);
        if (http_target_fetch("config", &targets.items[i], "GET", page, 0, &body)) {
            dump = parse_dump(page, buf_slice(&body));
        }
        buf_fini(&body);
        is_ok = dump != NULL;
        if (is_ok) {
            json_object_set_new(*ret_nodes, targets.items[i].node, dump);
            if (merged == NULL) {
                merged = copy_for_merge(dump);
            } else {
                merge(merged, dump);
            }
        }
    }
    http_targets_fini(&targets);
    if (!is_ok) {
        json_decref(merged);
        return NULL;
    }
    return merged;
}

// ---- printing ----------------------------------------------------------------------------------

static void print_value(const struct args *args, const json_t *value) {
    if (strcmp(args->output, "json") == 0) {
        json_print(value, stdout);
    } else {
        yaml_print(value, stdout);
    }
}

static void print_all(const struct args *args, const json_t *dump, const json_t *nodes,
                      const char *now) {
    static const char *const titles[] = {"WORKLOAD INFO", "SERVICE INFO", "POLICY INFO",
                                         "SECRET INFO", "CONNECTIONS INFO"};
    if (strcmp(args->output, "table") != 0) {
        print_value(args, json_object_size(nodes) > 1 ? nodes : dump);
        return;
    }
    for (size_t i = 0; i < ARRAY_LEN(titles); i++) {
        fputs(i > 0 ? "\n" : "", stdout);
        if (args->with_headers) {
            printf("------ %s ------\n\n", titles[i]);
        }
        config_print_table(dump, (enum config_noun)i, &args->filter, now, stdout);
    }
}

// Each pod of a waypoint has numbers of its own. False: a dump is not a waypoint's.
static bool print_l7(const struct args *args, const json_t *dump, json_t *nodes) {
    json_t *all = json_object(), *list;
    const char *node;
    bool is_ok = true, is_table = strcmp(args->output, "table") == 0;
    bool is_one = json_object_size(nodes) <= 1;
    if (is_one) {
        list = config_select_l7(dump, args->noun, &args->filter);
        is_ok = list != NULL && json_object_set_new(all, "", list) == 0;
    } else {
        json_object_foreach(nodes, node, list) {
            list = config_select_l7(list, args->noun, &args->filter);
            is_ok = is_ok && list != NULL && json_object_set_new(all, node, list) == 0;
        }
    }
    if (!is_ok) {
        fputs("ztunctl config: this dump is not a waypoint's: it has no such thing\n", stderr);
    } else if (!is_table) {
        print_value(args, is_one ? json_object_get(all, "") : all);
    } else {
        json_object_foreach(all, node, list) {
            printf(is_one ? "%s" : "------ %s ------\n", node);
            config_print_l7(list, args->noun, stdout);
        }
    }
    json_decref(all);
    return is_ok;
}

static void print(const struct args *args, const json_t *dump, const json_t *nodes) {
    char now[32];
    time_t when = time(NULL);
    struct tm tm;
    gmtime_r(&when, &tm);
    strftime(now, sizeof(now), "%Y-%m-%dT%H:%M:%SZ", &tm);
    if (args->noun == CONFIG_ALL) {
        print_all(args, dump, nodes, now);
    } else if (strcmp(args->output, "table") == 0) {
        config_print_table(dump, args->noun, &args->filter, now, stdout);
    } else {
        json_t *list = config_select(dump, args->noun, &args->filter);
        print_value(args, list);
        json_decref(list);
    }
}

int cmd_config(int argc, char **argv) {
    struct args args = {.output = "table"};
    int rc = parse(&args, argc, argv);
    if (rc != 0) {
        return rc - 1;
    }
    json_t *nodes = NULL;
    json_t *dump = args.file != NULL ? read_file(args.file) : fetch(&args, &nodes);
    bool is_ok = dump != NULL;
    if (is_ok && config_is_l7(args.noun)) {
        is_ok = print_l7(&args, dump, nodes);
    } else if (is_ok) {
        print(&args, dump, nodes);
    }
    rc = is_ok ? CMD_OK : CMD_FAILED;
    json_decref(dump);
    json_decref(nodes);
    return rc;
}

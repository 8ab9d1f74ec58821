// SPDX-License-Identifier: Apache-2.0
//
// ztunctl explain: why a flow goes where it goes.
#include "ctl/cmd_explain_http.h"
#include "ctl/cmd_explain_live.h"

#include <stdlib.h>
#include <string.h>

#include "common/mesh/kobj.h"
#include "common/mesh/source_file.h"
#include "ctl/cmd.h"
#include "ctl/cmd_config.h"
#include "ctl/http_target.h"
#include "ctl/local_json.h"

enum { RAND_SEED = 1 };

struct args {
    struct http_target_options target;
    const char *from, *to, *config, *output;
    const char *trust_domain, *cluster_domain, *root_namespace;
    const char *request;
    const char *headers[EXPLAIN_HEADERS_MAX + 1];
    size_t n_headers;
    bool with_hops;
};

static void usage(FILE *out) {
    fputs(
        "usage: ztunctl explain --from NS/POD --to HOST[:PORT]|IP[:PORT] [--hops] [-o text|json]\n"
        "                       [--request 'GET /PATH' [-H 'NAME: VALUE']...]\n"
        "                       [--config DIR|FILE | --lab NAME] [--netns NAME] [--admin IP:PORT]\n"
        "\n"
        "Prints each decision about a flow from a pod to a destination: whether it is captured,\n"
        "what its name resolves to, the service, which endpoints there are and why others are\n"
        "out, waypoint or direct, the identities of both sides, and for every endpoint the\n"
        "policies that allow or deny it. The decisions are those of the proxy's own code, on a\n"
        "snapshot of the configuration; no packet is sent.\n"
        "\n"
        "  --from NS/POD     a pod; the name of its Deployment or other owner will do\n"
        "  --to WHERE        a host name as the pod would use it, or an address; without PORT the\n"
        "                    first one of the service\n"
        "  --request TEXT    also what a waypoint does with this request: the rule that matches,\n"
        "                    why those before it do not, faults, timeouts, retries, mirrors, the\n"
        "                    request that is sent on, and for each destination the policy in "
        "force\n"
        "                    and its hosts. Without a method it is GET; of gRPC write\n"
        "                    'POST /package.Service/Method' and its content-type\n"
        "  -H 'NAME: VALUE'  a header of it; `host` is else what --to says\n"
        "  --netns NAME, --admin IP:PORT   the waypoint's admin address (127.0.0.1:15000): which\n"
        "                    hosts are ejected, new or busy is asked there; in a lab it is found.\n"
        "                    Without it health is the configuration's, and that is said\n"
        "  --hops            also network namespaces, interfaces, redirection rules with their\n"
        "                    counters, and sockets (needs root)\n"
        "  --config PATH     configuration files; else those of the lab (--lab NAME, $ZTUN_LAB,\n"
        "                    or `lab`)\n"
        "  --trust-domain, --cluster-domain, --root-namespace NAME   as ztun was told\n"
        "\n"
        "One endpoint is chosen at random, always the same one; the others are judged as well.\n"
        "Exit codes: 0 explained, 1 cannot be explained, 2 wrong usage.\n",
        out);
}

// ---- arguments ---------------------------------------------------------------------------------

enum { OPT_FROM = 1, OPT_TO, OPT_CONFIG, OPT_HOPS, OPT_TRUST, OPT_CLUSTER, OPT_ROOT, OPT_REQUEST };

static bool set_option(struct args *args, int opt) {
    switch (opt) {
    case OPT_FROM:
        args->from = optarg;
        return true;
    case OPT_TO:
        args->to = optarg;
        return true;
    case OPT_CONFIG:
        args->config = optarg;
        return true;
    case OPT_HOPS:
        args->with_hops = true;
        return true;
    case OPT_TRUST:
        args->trust_domain = optarg;
        return true;
    case OPT_CLUSTER:
        args->cluster_domain = optarg;
        return true;
    case OPT_ROOT:
        args->root_namespace = optarg;
        return true;
    case OPT_REQUEST:
        args->request = optarg;
        return true;
    case 'H':
        if (args->n_headers < ARRAY_LEN(args->headers)) { // the last one is refused later
            args->headers[args->n_headers++] = optarg;
        }
        return true;
    case 'o':
        args->output = optarg;
        return true;
    default:
        return http_target_option(&args->target, opt, optarg);
    }
}

// 0: go on; else the exit code plus one.
static int parse(struct args *args, int argc, char **argv) {
    static const struct option longs[] = {HTTP_TARGET_LONGS,
                                          {"from", required_argument, NULL, OPT_FROM},
                                          {"to", required_argument, NULL, OPT_TO},
                                          {"config", required_argument, NULL, OPT_CONFIG},
                                          {"hops", no_argument, NULL, OPT_HOPS},
                                          {"request", required_argument, NULL, OPT_REQUEST},
                                          {"header", required_argument, NULL, 'H'},
                                          {"trust-domain", required_argument, NULL, OPT_TRUST},
                                          {"cluster-domain", required_argument, NULL, OPT_CLUSTER},
                                          {"root-namespace", required_argument, NULL, OPT_ROOT},
                                          {"output", required_argument, NULL, 'o'},
                                          {"help", no_argument, NULL, 'h'},
                                          {NULL, 0, NULL, 0}};
    int opt;
    optind = 0;
    while ((opt = getopt_long(argc, argv, "o:H:h", longs, NULL)) != -1) {
        if (opt == 'h') {
            usage(stdout);
            return 1 + CMD_OK;
        }
        if (!set_option(args, opt)) {
            return 1 + CMD_USAGE;
        }
    }
    if (args->from == NULL || args->to == NULL || optind != argc) {
        fputs("ztunctl explain: --from NS/POD and --to WHERE are needed (ztunctl help explain)\n",
              stderr);
        return 1 + CMD_USAGE;
    }
    if (args->n_headers > 0 && args->request == NULL) {
        fputs("ztunctl explain: -H needs --request\n", stderr);
        return 1 + CMD_USAGE;
    }
    if (strcmp(args->output, "text") != 0 && strcmp(args->output, "json") != 0) {
        fprintf(stderr, "ztunctl explain: -o takes text or json, not `%s`\n", args->output);
        return 1 + CMD_USAGE;
    }
    return 0;
}

// ---- the snapshot ------------------------------------------------------------------------------

// Where the configuration is; NULL: said why.
static char *config_path(const struct args *args) {
    if (args->config != NULL) {
        return xstrdup(args->config);
    }
    char *error = NULL;
    json_t *status = http_target_lab(&args->target, &error);
    char *path = status != NULL ? xstrdup(js_str(status, "lab.config", "")) : NULL;
    if (path == NULL) {
        fprintf(stderr, "ztunctl explain: %s\n",
                error != NULL ? error : "no lab runs; where is the configuration? (--config)");
    }
    free(error);
    json_decref(status);
    return path;
}

static struct source_file *load(const char *path) {
    struct source_file_options options = {.path = path, .kobj_flags = KOBJ_LEAN};
    struct source_file *source = NULL;
    struct source_file_status status;
    int rc = source_file_new(&options, &source);
    if (rc < 0) {
        fprintf(stderr, "ztunctl explain: %s: %s\n", path, strerror(-rc));
        return NULL;
    }
    (void)source_file_load(source);
    source_file_status(source, &status);
    if (status.n_errors > 0) {
        fprintf(stderr,
                "ztunctl explain: %s: %u errors, what is broken is left out (ztunctl "
                "validate tells more)\n",
                path, status.n_errors);
    }
    return source;
}

static int set_object(void *arg, const struct kobj *obj) {
    builder_set(arg, (struct kobj *)(uintptr_t)obj);
    return 0;
}

// The snapshot that a waypoint of this namespace has (NULL: that of each service).
static struct mesh_builder *build(const struct args *args, const struct config_store *store,
                                  const char *waypoint_ns) {
    static const struct builder_l7_ops l7 = {.routes = l7_routes_compile,
                                             .policy = l7_policy_compile};
    struct mesh_settings mesh = {.cluster_id = "Kubernetes"};
    struct builder_changes changes;
    snprintf(mesh.trust_domain, sizeof(mesh.trust_domain), "%s", args->trust_domain);
    snprintf(mesh.cluster_domain, sizeof(mesh.cluster_domain), "%s", args->cluster_domain);
    snprintf(mesh.root_namespace, sizeof(mesh.root_namespace), "%s", args->root_namespace);
    snapshot_init(&mesh);
    struct builder_options options = {
        .mesh = mesh, .node = "", .l7 = &l7, .proxy_namespace = waypoint_ns, .has_targeted = true};
    struct mesh_builder *builder = builder_new(&options);
    (void)config_store_each(store, KOBJ_N_KINDS, set_object, builder);
    builder_commit(builder, &changes);
    builder_changes_fini(&changes);
    return builder;
}

// ---- hops --------------------------------------------------------------------------------------

struct find_netns {
    const char *workload; // "ns/name"
    const char *netns;
};

static bool match_netns(void *arg, void *value) {
    struct find_netns *find = arg;
    const struct workload *workload = value;
    char *name = xasprintf("%s/%s", workload->ns, workload->name);
    if (strcmp(name, find->workload) == 0) {
        find->netns = workload->common->local->netns;
    }
    free(name);
    return find->netns == NULL;
}

static void add_pod_hop(const struct explain *explain, json_t *hops, const char *role,
                        const char *workload) {
    struct find_netns find = {.workload = workload};
    pmap_each(&explain->snap->workloads, match_netns, &find);
    char *title = xasprintf("%s %s", role, workload);
    json_array_append_new(hops, explain_hop(title, find.netns != NULL ? find.netns : ""));
    free(title);
}

static void add_node_hop(const struct explain *explain, json_t *hops, const char *node) {
    const struct kobj *obj = config_store_get(explain->store, KOBJ_NODE, "", node);
    const char *netns = obj != NULL ? kobj_map_get(&obj->meta.annotations, "ztun.io/netns") : NULL;
    if (netns != NULL) {
        char *title = xasprintf("node %s", node);
        json_array_append_new(hops, explain_hop(title, netns));
        free(title);
    }
}

static void add_hops(struct explain *explain) {
    json_t *hops = json_array();
    size_t i;
    json_t *item;
    const char *node = explain->source->node;
    add_pod_hop(explain, hops, "source", js_str(explain->out, "source.workload", ""));
    add_node_hop(explain, hops, node);
    json_array_foreach(js_get(explain->out, "candidates"), i, item) {
        if (js_bool(item, "chosen", false)) {
            if (strcmp(node, js_str(item, "node", "")) != 0) {
                add_node_hop(explain, hops, js_str(item, "node", ""));
            }
            add_pod_hop(explain, hops, "destination", js_str(item, "workload", ""));
            break;
        }
    }
    json_object_set_new(explain->out, "hops", hops);
}

// ---- the command -------------------------------------------------------------------------------

static void print(const struct args *args, struct explain *explain) {
    if (args->with_hops) {
        add_hops(explain);
    }
    if (strcmp(args->output, "json") == 0) {
        json_print(explain->out, stdout);
    } else {
        explain_print(explain->out, stdout);
    }
}

// Explains on the snapshot of a waypoint's namespace. Sets *ret_ns when the destination's waypoint
// turns out to be in another one: then nothing is printed.
static int explain_in(const struct args *args, const struct source_file *source,
                      const struct explain_request *request, struct explain_live *live,
                      const char *waypoint_ns, char **ret_ns) {
    struct mesh_builder *builder = build(args, source_file_store(source), waypoint_ns);
    struct explain explain = {.snap = snapshot_current(),
                              .store = source_file_store(source),
                              .request = request,
                              .live = live};
    char *error = NULL;
    int rc = CMD_OK;
    rand_seed(&explain.rand, RAND_SEED);
    if (!explain_run(&explain, args->from, args->to, &error)) {
        fprintf(stderr, "ztunctl explain: %s\n", error);
        free(error);
        rc = CMD_FAILED;
    } else if (waypoint_ns == NULL && explain_waypoint_ns(&explain)[0] != '\0') {
        *ret_ns = xstrdup(explain_waypoint_ns(&explain));
    } else {
        print(args, &explain);
    }
    json_decref(explain.out);
    builder_free(builder);
    snapshot_fini();
    return rc;
}

static int explain(const struct args *args, const struct source_file *source) {
    struct explain_request request;
    bool has_request = args->request != NULL;
    char *error = NULL, *ns = NULL;
    if (has_request && !explain_request_parse(args->request, args->headers, args->n_headers,
                                              args->to, &request, &error)) {
        fprintf(stderr, "ztunctl explain: %s\n", error);
        free(error);
        return CMD_USAGE;
    }
    struct explain_live live = {.target = &args->target,
                                .is_lab = args->config == NULL || args->target.lab != NULL};
    int rc = explain_in(args, source, has_request ? &request : NULL, &live, NULL, &ns);
    if (ns != NULL) {
        rc = explain_in(args, source, has_request ? &request : NULL, &live, ns, NULL);
    }
    free(ns);
    explain_live_fini(&live);
    if (has_request) {
        explain_request_fini(&request);
    }
    return rc;
}

int cmd_explain(int argc, char **argv) {
    struct args args = {.output = "text",
                        .trust_domain = "cluster.local",
                        .cluster_domain = "cluster.local",
                        .root_namespace = "istio-system"};
    int rc = parse(&args, argc, argv);
    if (rc != 0) {
        return rc - 1;
    }
    char *path = config_path(&args);
    struct source_file *source = path != NULL ? load(path) : NULL;
    rc = CMD_FAILED;
    if (source != NULL) {
        rc = explain(&args, source);
        source_file_free(source);
    }
    free(path);
    return rc;
}

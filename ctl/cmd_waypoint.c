// SPDX-License-Identifier: Apache-2.0
//
// ztunctl waypoint: Gateways of waypoints in a cluster, with the words of `istioctl waypoint`.
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/base/clock.h"
#include "common/mesh/schema.h"
#include "ctl/cmd.h"
#include "ctl/cmd_config.h"
#include "ctl/kubectl.h"
#include "ctl/local_json.h"
#include "ctl/local_yaml.h"
#include "ctl/waypoint_gateway.h"

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

struct args {
    struct kubectl kubectl;
    struct waypoint_spec spec;
    bool is_enrolling, is_overwriting, is_waiting, is_all, is_everywhere, is_json;
    int64_t timeout_ms;
    char **names; // NULL-terminated
    int n_names;
};

// Options

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
    VERB_GENERATE = 1,
    VERB_APPLY = 2,
    VERB_STATUS = 4,
    VERB_LIST = 8,
    VERB_DELETE = 16,
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

static bool set_name(struct args *a, const char *text) {
    a->spec.name = text[0] != '\0' ? text : "waypoint";
    if (strcmp(text, "none") == 0) {
        return fail("--name: `%s` is what a label says to have no waypoint", text);
    }
    return check_name("--name", a->spec.name);
}

static bool set_traffic(struct args *a, const char *text) {
    static const char *const types[] = {"service", "workload", "all", "none"};
    for (size_t i = 0; i < ARRAY_LEN(types); i++) {
        if (strcmp(text, types[i]) == 0) {
            a->spec.traffic = text;
            return true;
        }
    }
    return fail("--for takes service, workload, all or none, not `%s`", text);
}

static bool set_class(struct args *a, const char *text) {
    a->spec.class_name = text;
    return strcmp(text, WAYPOINT_CLASS_ISTIO) == 0 || strcmp(text, WAYPOINT_CLASS_ZTUN) == 0 ||
           fail("--class takes " WAYPOINT_CLASS_ISTIO " or " WAYPOINT_CLASS_ZTUN ", not `%s`",
                text);
}

static bool set_revision(struct args *a, const char *text) {
    const char *problem = text[0] != '\0' ? schema_check_label_value(text) : NULL;
    a->spec.revision = text[0] != '\0' ? text : NULL;
    return problem == NULL || fail("--revision: `%s` is no label value", text);
}

static bool set_timeout(struct args *a, const char *text) {
    return (schema_duration(slice_str(text), &a->timeout_ms) && a->timeout_ms > 0) ||
           fail("--waypoint-timeout: `%s` is not a duration such as 90s", text);
}

static bool set_option(struct args *a, int opt, const char *arg) {
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
        return VERB_GENERATE | VERB_APPLY;
    case 'r':
        return VERB_GENERATE | VERB_APPLY | VERB_DELETE;
    case OPT_ENROLL:
    case OPT_OVERWRITE:
        return VERB_APPLY;
    case 'w':
    case OPT_TIMEOUT:
        return VERB_APPLY | VERB_STATUS;
    case OPT_ALL:
        return VERB_DELETE;
    case 'A':
    case 'o':
        return VERB_STATUS | VERB_LIST;
    default:
        return ~0u;
    }
}

// The cluster

static int failed(char *error) {
    fprintf(stderr, "ztunctl waypoint: %s\n", error);
    free(error);
    return CMD_FAILED;
}

// The waypoints of a namespace (NULL: of all), sorted. NULL: said why not.
static json_t *get_waypoints(const struct args *a, const char *ns, const char *selector) {
    const char *args[12] = {"get", WAYPOINT_RESOURCE, "-o", "json"};
    char *error = NULL;
    size_t n = 4;

    if (ns != NULL) {
        args[n++] = "-n";
        args[n++] = ns;
    } else {
        args[n++] = "-A";
    }
    if (selector != NULL) {
        args[n++] = "-l";
        args[n++] = selector;
    }
    json_t *all = kubectl_json(&a->kubectl, args, &error);
    if (all == NULL) {
        failed(error);
        return NULL;
    }
    json_t *list = waypoint_list(all);
    json_decref(all);
    return list;
}

static json_t *get_one(const struct args *a, const char *kind, const char *ns, const char *name,
                       char **ret_error) {
    const char *const with_ns[] = {"get", kind, name, "-n", ns, "-o", "json", "--ignore-not-found",
                                   NULL};
    const char *const without[] = {"get", kind, name, "-o", "json", "--ignore-not-found", NULL};
    return kubectl_json(&a->kubectl, ns != NULL ? with_ns : without, ret_error);
}

static void sleep_until_next(void) {
    usleep(1000 * 1000);
}

// generate

static void print_gateway(const struct args *a) {
    struct text text = {0};
    json_t *gateway = waypoint_gateway(&a->spec);

    yaml_write(gateway, &text);
    fputs(text.ptr, stdout);
    text_fini(&text);
    json_decref(gateway);
}

// apply

static bool has_port(const json_t *service) {
    const json_t *ports = js_get(service, "spec.ports"), *port;
    size_t i;
    json_array_foreach(ports, i, port) {
        if (js_int(port, "port", 0) == 15008) {
            return true;
        }
    }
    return false;
}

// The Service that the Gateway names may come later; until then there is no waypoint.
static void check_service(const struct args *a, const json_t *gateway) {
    char name[64], ns[64], *error = NULL;

    if (!waypoint_service(gateway, name, ns)) {
        return;
    }
    json_t *service = get_one(a, "service", ns, name, &error);
    if (service == NULL) {
        free(error); // not allowed to look: then it is not told
        return;
    }
    if (json_is_null(service)) {
        fprintf(stderr,
                "warning: there is no service %s/%s yet; the waypoint chart makes it: helm install "
                "%s charts/waypoint -n %s\n",
                ns, name, name, ns);
    } else if (!has_port(service)) {
        fprintf(stderr,
                "warning: service %s/%s has no port 15008, on which the mesh reaches a waypoint\n",
                ns, name);
    }
    json_decref(service);
}

// Before anything is applied.
static int check_namespace(const struct args *a, const char *ns, bool *ret_is_done) {
    char *error = NULL;
    json_t *object = get_one(a, "namespace", NULL, ns, &error);

    *ret_is_done = false;
    if (object == NULL) {
        return failed(error);
    }
    if (json_is_null(object)) {
        json_decref(object);
        return failed(xasprintf("there is no namespace %s", ns));
    }
    const char *bound = js_label(object, "istio.io/use-waypoint");
    const char *mode = js_label(object, "istio.io/dataplane-mode");
    if (a->is_enrolling && bound != NULL && bound[0] != '\0' && !a->is_overwriting) {
        printf("warning: namespace %s is bound to waypoint %s already; nothing was changed. "
               "--overwrite binds it to this one\n",
               ns, bound);
        *ret_is_done = true;
    } else if (a->is_enrolling && (mode == NULL || strcmp(mode, "ambient") != 0)) {
        printf("warning: namespace %s is not in the mesh: kubectl label namespace %s "
               "istio.io/dataplane-mode=ambient\n",
               ns, ns);
    }
    json_decref(object);
    return CMD_OK;
}

static int apply_gateway(const struct args *a) {
    const char *const args[] = {"apply", "--server-side", "--field-manager=ztunctl", "-f", "-",
                                NULL};
    json_t *gateway = waypoint_gateway(&a->spec);
    struct text text = {0};
    char *error = NULL;
    struct buf out;

    yaml_write(gateway, &text);
    buf_init(&out, 65536);
    bool is_ok = kubectl_run(&a->kubectl, args, text.ptr, &out, &error);
    buf_fini(&out);
    text_fini(&text);
    if (!is_ok && strstr(error, "no matches for kind") != NULL) {
        fputs("ztunctl waypoint: the CRDs of the Gateway API are missing, install them first "
              "(https://gateway-api.sigs.k8s.io)\n",
              stderr);
    }
    if (is_ok) {
        printf("waypoint %s/%s applied\n", a->spec.ns, a->spec.name);
        check_service(a, gateway);
    }
    json_decref(gateway);
    return is_ok ? CMD_OK : failed(error);
}

// Until it is programmed. *ret_gateway: as it was seen last, or NULL.
static bool wait_programmed(const struct args *a, const char *ns, const char *name,
                            json_t **ret_gateway, char **ret_error) {
    int64_t end_ns = (int64_t)clock_mono_ns() + a->timeout_ms * 1000000;

    *ret_gateway = NULL;
    for (;;) {
        json_t *gateway = get_one(a, WAYPOINT_RESOURCE, ns, name, ret_error);
        if (gateway == NULL) {
            return false;
        }
        json_decref(*ret_gateway);
        *ret_gateway = gateway;
        if (waypoint_is_programmed(gateway) || !a->is_waiting) {
            return true;
        }
        if ((int64_t)clock_mono_ns() >= end_ns) {
            const json_t *condition = waypoint_condition(gateway);
            *ret_error = xasprintf("waypoint %s/%s is not programmed after %lld s: %s", ns, name,
                                   (long long)(a->timeout_ms / 1000),
                                   condition != NULL ? js_str(condition, "message", "")
                                                     : "nobody wrote its status");
            return false;
        }
        sleep_until_next();
    }
}

static int enroll(const struct args *a) {
    char *label = xasprintf("istio.io/use-waypoint=%s", a->spec.name), *error = NULL;
    const char *const args[] = {"label", "namespace", a->spec.ns, label, "--overwrite", NULL};
    struct buf out;

    buf_init(&out, 65536);
    bool is_ok = kubectl_run(&a->kubectl, args, NULL, &out, &error);
    buf_fini(&out);
    if (is_ok) {
        printf("namespace %s labeled with \"istio.io/use-waypoint: %s\"\n", a->spec.ns,
               a->spec.name);
    }
    free(label);
    return is_ok ? CMD_OK : failed(error);
}

static int run_apply(const struct args *a) {
    json_t *gateway = NULL;
    char *error = NULL;
    bool is_done;
    int rc = check_namespace(a, a->spec.ns, &is_done);

    if (rc != CMD_OK || is_done) {
        return rc;
    }
    rc = apply_gateway(a);
    if (rc == CMD_OK && a->is_waiting) {
        fflush(stdout);
        if (wait_programmed(a, a->spec.ns, a->spec.name, &gateway, &error)) {
            printf("waypoint %s/%s is ready\n", a->spec.ns, a->spec.name);
        } else {
            rc = failed(error);
        }
        json_decref(gateway);
    }
    return rc == CMD_OK && a->is_enrolling ? enroll(a) : rc;
}

// status, list

static void add_status(struct table *table, const json_t *gateway, bool has_ns) {
    static const char *const keys[] = {"status", "type", "reason", "message"};
    const json_t *condition = waypoint_condition(gateway);

    if (has_ns) {
        table_add(table, js_ns(gateway));
    }
    table_add(table, js_name(gateway));
    for (size_t i = 0; i < ARRAY_LEN(keys); i++) {
        table_add(table, condition != NULL ? js_str(condition, keys[i], "")
                         : i == 0          ? "Unknown"
                         : i == 3          ? "nobody wrote its status yet"
                                           : "-");
    }
}

// What was told about a waypoint that is not ready: the Gateway's events.
static void print_events(const struct args *a, const json_t *gateway) {
    char *selector =
        xasprintf("involvedObject.kind=Gateway,involvedObject.name=%s", js_name(gateway));
    const char *const args[] = {"get", "events", "-n", js_ns(gateway), "--field-selector", selector,
                                "-o",  "json",   NULL};
    char *error = NULL;
    json_t *events = kubectl_json(&a->kubectl, args, &error);
    const json_t *event;
    size_t i;

    if (events == NULL) {
        fprintf(stderr, "warning: events of %s/%s: %s\n", js_ns(gateway), js_name(gateway), error);
        free(error);
    }
    json_array_foreach(json_object_get(events, "items"), i, event) {
        printf("%s%s/%s  %s  %s  %s\n", i == 0 ? "events:\n" : "", js_ns(gateway), js_name(gateway),
               js_str(event, "type", "-"), js_str(event, "reason", "-"),
               js_str(event, "message", ""));
    }
    json_decref(events);
    free(selector);
}

static void add_headers(struct table *table, const char *const *headers, bool has_ns) {
    table_init(table, has_ns ? 6 : 5, 5);
    for (size_t i = has_ns ? 0 : 1; i < 6; i++) {
        table_add(table, headers[i]);
    }
}

static int run_status(const struct args *a, const char *ns) {
    static const char *const headers[] = {"NAMESPACE", "NAME",   "STATUS",
                                          "TYPE",      "REASON", "MESSAGE"};
    json_t *list = get_waypoints(a, ns, NULL), *gateway, *seen = json_array();
    struct table table;
    char *error = NULL;
    int rc = list != NULL ? CMD_OK : CMD_FAILED;
    size_t i;

    add_headers(&table, headers, ns == NULL);
    json_array_foreach(list, i, gateway) {
        json_t *now = NULL;
        bool is_ok = wait_programmed(a, js_ns(gateway), js_name(gateway), &now, &error);
        if (now != NULL && json_is_object(now)) {
            add_status(&table, now, ns == NULL);
            json_array_append(seen, now);
            rc = waypoint_is_programmed(now) ? rc : CMD_FAILED;
        }
        json_decref(now);
        if (!is_ok) {
            rc = failed(error);
            break;
        }
    }
    if (a->is_json && list != NULL) {
        json_print(seen, stdout);
    } else if (list != NULL && json_array_size(list) == 0) {
        puts("No waypoints found.");
    } else if (list != NULL) {
        table_print(&table, stdout);
        json_array_foreach(seen, i, gateway) {
            if (!waypoint_is_programmed(gateway)) {
                print_events(a, gateway);
            }
        }
    }
    table_fini(&table);
    json_decref(seen);
    json_decref(list);
    return rc;
}

static const char *programmed_text(const json_t *gateway) {
    const json_t *condition = waypoint_condition(gateway);
    bool is_it = condition != NULL && strcmp(js_str(condition, "type", ""), "Programmed") == 0;
    return is_it ? js_str(condition, "status", "False") : "False";
}

static int run_list(const struct args *a, const char *ns) {
    static const char *const headers[] = {"NAMESPACE",    "NAME",  "REVISION",
                                          "TRAFFIC TYPE", "CLASS", "PROGRAMMED"};
    json_t *list = get_waypoints(a, ns, NULL), *gateway;
    struct table table;
    size_t i;

    if (list == NULL) {
        return CMD_FAILED;
    }
    add_headers(&table, headers, ns == NULL);
    json_array_foreach(list, i, gateway) {
        const char *revision = js_label(gateway, "istio.io/rev");
        if (ns == NULL) {
            table_add(&table, js_ns(gateway));
        }
        table_add(&table, js_name(gateway));
        table_add(&table, revision != NULL ? revision : "default");
        table_add(&table, waypoint_traffic(gateway));
        table_add(&table, js_str(gateway, "spec.gatewayClassName", ""));
        table_add(&table, programmed_text(gateway));
    }
    if (a->is_json) {
        json_print(list, stdout);
    } else if (json_array_size(list) == 0) {
        puts("No waypoints found.");
    } else {
        table_print(&table, stdout);
    }
    table_fini(&table);
    json_decref(list);
    return CMD_OK;
}

// delete

static int delete_one(const struct args *a, const char *ns, const char *name) {
    const char *const args[] = {"delete", WAYPOINT_RESOURCE, name, "-n", ns, NULL};
    char *error = NULL;
    struct buf out;

    buf_init(&out, 65536);
    bool is_ok = kubectl_run(&a->kubectl, args, NULL, &out, &error);
    buf_fini(&out);
    if (is_ok) {
        printf("waypoint %s/%s deleted\n", ns, name);
    }
    return is_ok ? CMD_OK : failed(error);
}

static bool has_name(const json_t *list, const char *name) {
    const json_t *gateway;
    size_t i;
    json_array_foreach(list, i, gateway) {
        if (strcmp(js_name(gateway), name) == 0) {
            return true;
        }
    }
    return false;
}

static int run_delete(const struct args *a, const char *ns) {
    bool is_by_name = !a->is_all && a->spec.revision == NULL;
    char *selector =
        a->spec.revision != NULL ? xasprintf("istio.io/rev=%s", a->spec.revision) : NULL;
    json_t *list, *gateway;
    int rc = CMD_OK;
    size_t i;

    if (is_by_name ? a->n_names == 0 : a->n_names > 0) {
        free(selector);
        fputs("ztunctl waypoint delete: names, or --all, or --revision (ztunctl help waypoint)\n",
              stderr);
        return CMD_USAGE;
    }
    list = get_waypoints(a, ns, selector);
    free(selector);
    if (list == NULL) {
        return CMD_FAILED;
    }
    for (char **name = a->names; is_by_name && *name != NULL; name++) {
        if (!has_name(list, *name)) {
            fprintf(stderr, "ztunctl waypoint: waypoint %s/%s not found\n", ns, *name);
            rc = CMD_FAILED;
        } else if (delete_one(a, ns, *name) != CMD_OK) {
            rc = CMD_FAILED;
        }
    }
    json_array_foreach(list, i, gateway) {
        if (!is_by_name && delete_one(a, ns, js_name(gateway)) != CMD_OK) {
            rc = CMD_FAILED;
        }
    }
    if (!is_by_name && json_array_size(list) == 0) {
        puts("No waypoints found.");
    }
    json_decref(list);
    return rc;
}

// The command

static unsigned find_verb(const char *name) {
    static const char *const verbs[] = {"generate", "apply", "status", "list", "delete"};
    for (size_t i = 0; i < ARRAY_LEN(verbs); i++) {
        if (strcmp(name, verbs[i]) == 0) {
            return 1u << i;
        }
    }
    return 0;
}

static int run(struct args *a, unsigned verb) {
    if (verb == VERB_GENERATE) {
        a->spec.ns = a->kubectl.ns != NULL ? a->kubectl.ns : "";
        print_gateway(a);
        return CMD_OK;
    }
    char *ns = a->is_everywhere ? NULL : kubectl_namespace(&a->kubectl);
    int rc = CMD_OK;
    a->spec.ns = ns;
    switch (verb) {
    case VERB_APPLY:
        rc = run_apply(a);
        break;
    case VERB_STATUS:
        rc = run_status(a, ns);
        break;
    case VERB_LIST:
        rc = run_list(a, ns);
        break;
    default:
        rc = run_delete(a, ns);
        break;
    }
    free(ns);
    return rc;
}

int cmd_waypoint(int argc, char **argv) {
    if (argc < 2 || strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0) {
        usage(argc < 2 ? stderr : stdout);
        return argc < 2 ? CMD_USAGE : CMD_OK;
    }
    unsigned verb = find_verb(argv[1]);
    struct args a = {.spec = {.name = "waypoint",
                              .class_name = WAYPOINT_CLASS_ISTIO,
                              .cluster_domain = "cluster.local"},
                     .timeout_ms = 90000,
                     .is_waiting = verb == VERB_STATUS};
    int opt, at = -1;

    if (verb == 0) {
        fail("there is no verb `%s`", argv[1]);
        return CMD_USAGE;
    }
    optind = 0;
    while ((opt = getopt_long(argc - 1, argv + 1, "n:r:wAo:h", longs, &at)) != -1) {
        if (opt == 'h') {
            usage(stdout);
            return CMD_OK;
        }
        if (opt != '?' && (verbs_of(opt) & verb) == 0) {
            char letter[3] = {'-', (char)opt};
            fail("%s: %s%s does not go with it", argv[1], at >= 0 ? "--" : "",
                 at >= 0 ? longs[at].name : letter);
            return CMD_USAGE;
        }
        if (opt == '?' || !set_option(&a, opt, optarg)) {
            return CMD_USAGE;
        }
        at = -1;
    }
    a.names = argv + 1 + optind;
    a.n_names = argc - 1 - optind;
    if (a.n_names > 0 && verb != VERB_DELETE) {
        fail("`%s` is too much", a.names[0]);
        return CMD_USAGE;
    }
    if (a.is_overwriting && !a.is_enrolling) {
        fail("%s goes with --enroll-namespace", "--overwrite");
        return CMD_USAGE;
    }
    return run(&a, verb);
}

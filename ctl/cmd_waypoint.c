// SPDX-License-Identifier: Apache-2.0
//
// ztunctl waypoint: Gateways of waypoints in a cluster, with the words of `istioctl waypoint`.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/base/clock.h"
#include "ctl/cmd.h"
#include "ctl/cmd_config.h"
#include "ctl/local_json.h"
#include "ctl/local_yaml.h"
#include "ctl/waypoint_args.h"

// The cluster

static int failed(char *error) {
    fprintf(stderr, "ztunctl waypoint: %s\n", error);
    free(error);
    return CMD_FAILED;
}

// The waypoints of a namespace (NULL: of all), sorted. NULL: said why not.
static json_t *get_waypoints(const struct waypoint_args *a, const char *ns, const char *selector) {
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

static json_t *get_one(const struct waypoint_args *a, const char *kind, const char *ns,
                       const char *name, char **ret_error) {
    const char *const with_ns[] = {"get", kind, name, "-n", ns, "-o", "json", "--ignore-not-found",
                                   NULL};
    const char *const without[] = {"get", kind, name, "-o", "json", "--ignore-not-found", NULL};
    return kubectl_json(&a->kubectl, ns != NULL ? with_ns : without, ret_error);
}

static void sleep_until_next(void) {
    usleep(1000 * 1000);
}

// generate

static void print_gateway(const struct waypoint_args *a) {
    struct text text = {0};
    json_t *gateway = waypoint_gateway(&a->spec);

    yaml_write(gateway, &text);
    fputs(text.ptr, stdout);
    text_fini(&text);
    json_decref(gateway);
}

// apply

// The Service that the Gateway names may come later; until then there is no waypoint.
static void check_service(const struct waypoint_args *a, const json_t *gateway) {
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
    } else if (!waypoint_has_port(service)) {
        fprintf(stderr,
                "warning: service %s/%s has no port 15008, on which the mesh reaches a waypoint\n",
                ns, name);
    }
    json_decref(service);
}

// Before anything is applied.
static int check_namespace(const struct waypoint_args *a, const char *ns, bool *ret_is_done) {
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

static int apply_gateway(const struct waypoint_args *a) {
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
static bool wait_programmed(const struct waypoint_args *a, const char *ns, const char *name,
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

static int enroll(const struct waypoint_args *a) {
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

static int run_apply(const struct waypoint_args *a) {
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
static void print_events(const struct waypoint_args *a, const json_t *gateway) {
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

static int run_status(const struct waypoint_args *a, const char *ns) {
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

static int run_list(const struct waypoint_args *a, const char *ns) {
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

static int delete_one(const struct waypoint_args *a, const char *ns, const char *name) {
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

static int run_delete(const struct waypoint_args *a, const char *ns) {
    bool is_by_name = !a->is_all && a->spec.revision == NULL;
    char *selector =
        a->spec.revision != NULL ? xasprintf("istio.io/rev=%s", a->spec.revision) : NULL;
    json_t *list, *gateway;
    int rc = CMD_OK;
    size_t i;

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

static int run(struct waypoint_args *a) {
    if (a->verb == WAYPOINT_GENERATE) {
        a->spec.ns = a->kubectl.ns != NULL ? a->kubectl.ns : "";
        print_gateway(a);
        return CMD_OK;
    }
    char *ns = a->is_everywhere ? NULL : kubectl_namespace(&a->kubectl);
    int rc = CMD_OK;
    a->spec.ns = ns;
    switch (a->verb) {
    case WAYPOINT_APPLY:
        rc = run_apply(a);
        break;
    case WAYPOINT_STATUS:
        rc = run_status(a, ns);
        break;
    case WAYPOINT_LIST:
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
    struct waypoint_args a;
    int code;

    return waypoint_args_parse(&a, argc, argv, &code) ? run(&a) : code;
}

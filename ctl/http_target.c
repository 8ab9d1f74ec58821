// SPDX-License-Identifier: Apache-2.0
#include "ctl/http_target.h"

#include <stdlib.h>
#include <string.h>

#include "ctl/http_get.h"
#include "ctl/local_control.h"
#include "ctl/local_json.h"
#include "ctl/local_super.h"

const char http_target_help[] =
    "Which ztun is asked:\n"
    "  --lab NAME         those of a lab made by `ztunctl local`; --node N: only that node's\n"
    "  --waypoint NS/NAME the pods of this Gateway of the lab instead, `all` for those of all\n"
    "  --netns NAME|PATH  the one in this network namespace\n"
    "  --admin IP:PORT    its admin address there (default 127.0.0.1:15000)\n"
    "Without any: the lab that $ZTUN_LAB names, or `lab`, if it runs; else this machine's.\n";

bool http_target_option(struct http_target_options *options, int opt, const char *arg) {
    switch (opt) {
    case HTTP_OPT_LAB:
        options->lab = arg;
        return true;
    case HTTP_OPT_NODE:
        options->node = arg;
        return true;
    case HTTP_OPT_NETNS:
        options->netns = arg;
        return true;
    case HTTP_OPT_WAYPOINT:
        options->waypoint = strcmp(arg, "all") == 0 ? "" : arg;
        return true;
    case HTTP_OPT_ADMIN:
        options->admin = arg;
        return true;
    case HTTP_OPT_STATE_DIR:
        options->state_dir = arg;
        return true;
    default:
        return false;
    }
}

json_t *http_target_lab(const struct http_target_options *options, char **ret_error) {
    const char *name = options->lab != NULL ? options->lab : getenv("ZTUN_LAB");
    bool is_named = name != NULL;
    char *dir =
        xasprintf("%s/%s", options->state_dir != NULL ? options->state_dir : "/run/ztun-lab",
                  is_named ? name : "lab");
    json_t *status = NULL;
    *ret_error = NULL;
    if (lab_super_is_alive(dir)) {
        status = lab_request(dir, json_pack("{s:s}", "cmd", "status"), ret_error);
    } else if (is_named) {
        *ret_error = xasprintf("no lab `%s` runs", name);
    }
    free(dir);
    return status;
}

static void add(struct http_targets *targets, const char *node, const char *netns,
                const struct addr *admin) {
    targets->items = xrealloc(targets->items, (targets->n + 1) * sizeof(*targets->items));
    targets->items[targets->n++] =
        (struct http_target){.node = xstrdup(node), .netns = xstrdup(netns), .admin = *admin};
}

// A pod that the lab made for a Gateway, of this one ("" = any).
static bool is_waypoint(const json_t *pod, const char *gateway) {
    const json_t *main = json_array_get(js_get(pod, "containers"), 0);
    if (strcmp(js_str(main, "name", ""), "waypoint") != 0 || js_int(main, "pid", 0) == 0) {
        return false;
    }
    char *name = xasprintf("%s/%s", js_str(pod, "namespace", ""), js_str(pod, "name", ""));
    size_t len = strlen(gateway);
    bool is_it = len == 0 || (strncmp(name, gateway, len) == 0 && name[len] == '-');
    free(name);
    return is_it;
}

static bool find_waypoints(const struct http_target_options *options, const json_t *status,
                           const struct addr *admin, struct http_targets *targets,
                           char **ret_error) {
    size_t i;
    json_t *pod;
    json_array_foreach(js_get(status, "pods"), i, pod) {
        bool is_there =
            options->node == NULL || strcmp(options->node, js_str(pod, "node", "")) == 0;
        if (is_there && is_waypoint(pod, options->waypoint)) {
            add(targets, js_str(pod, "name", ""), js_str(pod, "netns", ""), admin);
        }
    }
    if (targets->n == 0) {
        *ret_error = options->waypoint[0] != '\0'
                         ? xasprintf("no pod of a waypoint `%s` runs", options->waypoint)
                         : xstrdup("no waypoint runs");
    }
    return targets->n > 0;
}

static bool find_in_lab(const struct http_target_options *options, const json_t *status,
                        const struct addr *admin, struct http_targets *targets, char **ret_error) {
    size_t i;
    json_t *node;
    json_array_foreach(js_get(status, "nodes"), i, node) {
        const char *name = js_str(node, "name", "");
        if (options->node == NULL || strcmp(options->node, name) == 0) {
            add(targets, name, js_str(node, "netns", ""), admin);
        }
    }
    if (targets->n == 0) {
        *ret_error = options->node != NULL ? xasprintf("the lab has no node `%s`", options->node)
                                           : xstrdup("the lab has no nodes");
    }
    return targets->n > 0;
}

bool http_targets_find(const struct http_target_options *options, struct http_targets *ret_targets,
                       char **ret_error) {
    struct addr admin;
    *ret_targets = (struct http_targets){0};
    const char *text = options->admin != NULL ? options->admin : "127.0.0.1:15000";
    if (!addr_parse(slice_str(text), &admin)) {
        *ret_error = xasprintf("--admin: `%s` is not IP:PORT", text);
        return false;
    }
    bool is_direct = options->netns != NULL || options->admin != NULL;
    if (is_direct && options->lab == NULL) {
        add(ret_targets, options->node != NULL ? options->node : "",
            options->netns != NULL ? options->netns : "", &admin);
        return true;
    }
    json_t *status = http_target_lab(options, ret_error);
    if (status != NULL) {
        bool is_found = options->waypoint != NULL
                            ? find_waypoints(options, status, &admin, ret_targets, ret_error)
                            : find_in_lab(options, status, &admin, ret_targets, ret_error);
        json_decref(status);
        return is_found;
    }
    if (*ret_error != NULL) {
        return false;
    }
    if (options->node != NULL) {
        *ret_error = xstrdup("--node needs a lab that runs, or --netns or --admin of that node");
        return false;
    }
    add(ret_targets, "", "", &admin);
    return true;
}

void http_targets_fini(struct http_targets *targets) {
    for (size_t i = 0; i < targets->n; i++) {
        free(targets->items[i].node);
        free(targets->items[i].netns);
    }
    free(targets->items);
    *targets = (struct http_targets){0};
}

bool http_target_fetch(const char *command, const struct http_target *target, const char *method,
                       const char *path, uint16_t port, struct buf *body) {
    char *error = NULL;
    struct addr addr = target->admin;
    if (port != 0) {
        addr.port = port;
    }
    int status = http_get(target->netns, &addr, method, path, body, &error);
    if (status == 200) {
        return true;
    }
    fprintf(stderr, "ztunctl %s: %s%s", command, target->node, target->node[0] != '\0' ? ": " : "");
    if (status < 0) {
        fprintf(stderr, "%s\n", error);
    } else {
        fprintf(stderr, "%s answered %d: %.*s\n", path, status, SLICE_ARG(buf_slice(body)));
    }
    free(error);
    return false;
}

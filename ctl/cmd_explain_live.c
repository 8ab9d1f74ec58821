// SPDX-License-Identifier: Apache-2.0
#include "ctl/cmd_explain_live.h"

#include <stdlib.h>
#include <string.h>

#include "ctl/http_get.h"
#include "ctl/local_json.h"

enum { DUMP_MAX = 256 * 1024 * 1024 };

static void fail(struct explain_live *live, char *reason) {
    free(live->reason);
    live->reason = reason;
}

// The lab's process of this pod, or what the options name. False: the reason is set.
static bool find(struct explain_live *live, const char *pod, struct http_target *ret_target,
                 struct http_targets *targets) {
    const struct http_target_options *given = live->target;
    bool is_named = given->netns != NULL || given->admin != NULL;
    struct http_target_options options = *given;
    char *error = NULL;
    if (!live->is_lab && !is_named) {
        fail(live, xstrdup("no waypoint was named (--netns, --admin)"));
        return false;
    }
    if (!is_named) {
        options.waypoint = "";
        options.node = NULL;
    }
    if (!http_targets_find(&options, targets, &error)) {
        fail(live, error != NULL ? error : xstrdup("no lab runs"));
        return false;
    }
    const char *slash = strchr(pod, '/'), *name = slash != NULL ? slash + 1 : pod;
    for (size_t i = 0; i < targets->n; i++) {
        if (is_named || strcmp(targets->items[i].node, name) == 0) {
            *ret_target = targets->items[i];
            return true;
        }
    }
    fail(live, xasprintf("waypoint pod %s does not run", pod));
    return false;
}

static void fetch(struct explain_live *live, const struct http_target *target, const char *from) {
    struct buf body;
    char *error = NULL;
    buf_init(&body, DUMP_MAX);
    int status = http_get(target->netns, &target->admin, "GET", "/l7_dump", &body, &error);
    json_error_t where;
    json_t *dump =
        status == 200 ? json_loadb(buf_cstr(&body), buf_slice(&body).len, 0, &where) : NULL;
    if (json_is_object(js_get(dump, "l7"))) {
        live->dump = dump;
        live->from = xstrdup(from);
    } else {
        fail(live, status < 0      ? xasprintf("%s: %s", from, error)
                   : status != 200 ? xasprintf("%s: status %d from /l7_dump", from, status)
                                   : xasprintf("%s: its /l7_dump is none", from));
        json_decref(dump);
    }
    free(error);
    buf_fini(&body);
}

void explain_live_ask(struct explain_live *live, const char *pod) {
    struct http_targets targets = {0};
    struct http_target target;
    if (live->pod != NULL && strcmp(live->pod, pod) == 0) {
        return;
    }
    explain_live_fini(live);
    live->pod = xstrdup(pod);
    if (find(live, pod, &target, &targets)) {
        char text[ADDR_TEXT_MAX];
        bool is_named = live->target->netns != NULL || live->target->admin != NULL;
        fetch(live, &target, is_named ? addr_text(&target.admin, text) : pod);
    }
    http_targets_fini(&targets);
}

void explain_live_fini(struct explain_live *live) {
    json_decref(live->dump);
    free(live->pod);
    free(live->from);
    free(live->reason);
    live->dump = NULL;
    live->pod = live->from = live->reason = NULL;
}

json_t *explain_live_source(const struct explain_live *live) {
    return live->dump != NULL ? json_pack("{s:s, s:s}", "source", "live", "from", live->from)
                              : json_pack("{s:s, s:s}", "source", "configuration", "reason",
                                          live->reason != NULL ? live->reason : "");
}

const json_t *explain_live_cluster(const struct explain_live *live, const char *service,
                                   uint16_t port, const char *subset) {
    size_t i;
    json_t *item;
    json_array_foreach(js_get(live->dump, "l7.clusters"), i, item) {
        if (js_int(item, "port", 0) == port && strcmp(js_str(item, "service", ""), service) == 0 &&
            strcmp(js_str(item, "subset", ""), subset) == 0) {
            return js_bool(item, "used", false) ? item : NULL;
        }
    }
    return NULL;
}

const json_t *explain_live_host(const json_t *cluster, const struct addr *addr) {
    char text[ADDR_TEXT_MAX];
    size_t i;
    json_t *item;
    json_array_foreach(js_get(cluster, "endpoints"), i, item) {
        if (strcmp(js_str(item, "address", ""), addr_text(addr, text)) == 0) {
            return item;
        }
    }
    return NULL;
}

void explain_live_fill(const json_t *host, uint64_t now_ms, struct l7_host_cell *cell) {
    uint64_t age_ms = (uint64_t)MAX(js_int(host, "ageMs", 0), 0LL);
    atomic_store(&cell->active, (unsigned)js_int(host, "activeRequests", 0));
    atomic_store(&cell->is_ejected, js_bool(host, "ejected", false));
    cell->since_ms = age_ms < now_ms ? now_ms - age_ms : 0;
}

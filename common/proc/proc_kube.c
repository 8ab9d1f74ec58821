// SPDX-License-Identifier: Apache-2.0
#include "common/proc/proc_kube.h"

#include <errno.h>
#include <stdlib.h>

#include "common/base/json_out.h"
#include "common/mesh/kobj.h"
#include "common/mesh/source_kube.h"
#include "common/obs/log.h"
#include "common/proc/proc_mesh.h"

enum { REASONS_MAX = 5 }; // lines of readiness

// ---- news --------------------------------------------------------------------------------------

static void on_batch(void *arg, const struct config_diff *diff) {
    struct proc_kube *kube = arg;
    proc_mesh_apply_kube(kube->params.mesh, diff);
}

static void on_notice(void *arg, enum source_kube_notice notice, const struct kube_watch *watch,
                      const char *without) {
    const struct proc_kube *kube = arg;
    const struct log_scope *scope = kube->params.scope;
    const char *server = kube_client_target(kube->client), *resource = watch->params.plural;
    switch (notice) {
    case SOURCE_KUBE_AWAY:
        log_warn(scope, "the Kubernetes API does not answer, what is known stays in force",
                 LOG_STR("server", server), LOG_STR("reason", watch->problem));
        break;
    case SOURCE_KUBE_BACK:
        log_info(scope, "the Kubernetes API answers again", LOG_STR("server", server));
        break;
    case SOURCE_KUBE_FAILS:
        log_warn(scope,
                 "a kind cannot be read from the Kubernetes API, what is known stays in force",
                 LOG_STR("resource", resource), LOG_STR("reason", watch->problem));
        break;
    case SOURCE_KUBE_WORKS:
        log_info(scope, "a kind is read from the Kubernetes API again",
                 LOG_STR("resource", resource));
        break;
    case SOURCE_KUBE_ABSENT:
        log_info(scope, "the Kubernetes API does not have a kind, it is looked for again",
                 LOG_STR("resource", resource), LOG_STR("group", watch->params.group));
        break;
    case SOURCE_KUBE_FOUND:
        log_info(scope, "the Kubernetes API has a kind now", LOG_STR("resource", resource),
                 LOG_STR("group", watch->params.group));
        break;
    case SOURCE_KUBE_REFUSED:
        log_warn(scope, "a kind may not be read from the Kubernetes API, it goes without",
                 LOG_STR("resource", resource), LOG_STR("reason", watch->problem),
                 LOG_STR("without", without));
        break;
    }
}

// ---- life --------------------------------------------------------------------------------------

int proc_kube_open(struct proc_kube *kube, const struct proc_kube_params *params) {
    char *error = NULL;
    kube->params = *params;
    struct kube_client_config client = {.loop = params->loop,
                                        .access = params->access,
                                        .mark = params->mark,
                                        .compliance = params->compliance};
    struct source_kube_params source = {
        .loop = params->loop,
        .kobj_flags = KOBJ_LEAN | (params->has_secrets ? KOBJ_SECRETS : 0U),
        .ns = params->ns,
        .root_ns = params->root_ns,
        .mesh_config = params->mesh_config != NULL ? params->mesh_config : "istio",
        .namespaces = params->namespaces,
        .on_batch = on_batch,
        .on_notice = on_notice,
        .arg = kube,
    };
    kube->client = kube_client_new(&client, &error);
    if (kube->client != NULL) {
        source.client = kube->client;
        kube->source = source_kube_new(&source, &error);
    }
    if (kube->source == NULL) {
        log_error(params->scope, "the Kubernetes API cannot be asked", LOG_STR("reason", error));
        free(error);
        return -EINVAL;
    }
    proc_mesh_open_kube(params->mesh, kube->source);
    log_info(params->scope, "configuration is read from the Kubernetes API",
             LOG_STR("server", kube_client_target(kube->client)));
    return 0;
}

// ---- state -------------------------------------------------------------------------------------

struct reasons {
    struct buf *out;
    uint32_t n;
};

static void put_reason(void *arg, const struct kube_watch *watch, bool needed) {
    struct reasons *reasons = arg;
    if (!needed || watch->has_synced || reasons->n++ >= REASONS_MAX) {
        return;
    }
    buf_printf(reasons->out, "the Kubernetes API's %s are not read yet%s%s\n", watch->params.plural,
               watch->problem[0] != '\0' ? ": " : "", watch->problem);
}

bool proc_kube_is_ready(const struct proc_kube *kube, struct buf *ret_reasons) {
    if (kube->source == NULL || source_kube_is_synced(kube->source)) {
        return true;
    }
    if (ret_reasons != NULL) {
        struct reasons reasons = {.out = ret_reasons};
        source_kube_each(kube->source, put_reason, &reasons);
        if (reasons.n > REASONS_MAX) {
            buf_printf(ret_reasons, "nor are %u others\n", reasons.n - REASONS_MAX);
        }
        if (reasons.n == 0) {
            buf_printf(ret_reasons, "the Kubernetes API's objects are read and not in force yet\n");
        }
    }
    return false;
}

static void put_watch(void *arg, const struct kube_watch *watch, bool needed) {
    struct json_out *out = arg;
    json_out_begin_object(out);
    json_out_kv_str(out, "resource", watch->params.plural);
    json_out_kv_str(out, "group", watch->params.group);
    json_out_kv_str(out, "version", watch->version);
    json_out_kv_str(out, "namespace", watch->params.ns);
    json_out_kv_str(out, "name", watch->params.name);
    json_out_kv_str(out, "state", kube_watch_state_text(watch->state));
    json_out_kv_bool(out, "synced", watch->has_synced);
    json_out_kv_bool(out, "needed", needed);
    json_out_kv_str(out, "resourceVersion", watch->resource_version);
    json_out_kv_u64(out, "lists", watch->n_lists);
    json_out_kv_u64(out, "watches", watch->n_watches);
    json_out_kv_u64(out, "failures", watch->n_failures);
    json_out_kv_u64(out, "staleEvents", watch->n_stale);
    json_out_kv_object(out, "events");
    for (int i = 0; i < KUBE_N_EVENTS; i++) {
        json_out_kv_u64(out, kube_event_text((enum kube_event)i), watch->n_events[i]);
    }
    json_out_end(out);
    if (watch->problem[0] != '\0') {
        json_out_kv_str(out, "problem", watch->problem);
    }
    json_out_end(out);
}

static void put_problem(void *arg, const struct config_errors *errors, uint64_t version) {
    (void)version;
    struct json_out *out = arg;
    for (uint32_t i = 0; i < errors->n; i++) {
        char *text = config_error_text(&errors->items[i]);
        json_out_string(out, slice_str(text));
        free(text);
    }
}

void proc_kube_dump(struct json_out *out, const struct proc_kube *kube) {
    struct source_kube_status status;
    if (kube->source == NULL) {
        return;
    }
    source_kube_status(kube->source, &status);
    json_out_kv_object(out, "kubernetes");
    json_out_kv_str(out, "server", status.server);
    json_out_kv_bool(out, "synced", status.is_synced);
    json_out_kv_u64(out, "objects", status.n_objects);
    json_out_kv_u64(out, "batches", status.n_batches);
    json_out_kv_u64(out, "errors", status.n_errors);
    json_out_kv_u64(out, "warnings", status.n_warnings);
    json_out_kv_array(out, "watches");
    source_kube_each(kube->source, put_watch, out);
    json_out_end(out);
    json_out_kv_array(out, "messages");
    source_kube_each_problem(kube->source, put_problem, out);
    json_out_end(out);
    json_out_end(out);
}

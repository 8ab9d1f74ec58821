// SPDX-License-Identifier: Apache-2.0
#include "common/proc/proc_mesh.h"

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>

#include "common/mesh/builder_istiod.h"
#include "common/mesh/config_errors.h"
#include "common/mesh/config_store.h"
#include "common/mesh/kobj.h"
#include "common/mesh/source_file.h"
#include "common/mesh/source_kube.h"
#include "common/mesh/xds_store.h"
#include "common/net/dns_client.h"
#include "common/obs/log.h"
#include "common/obs/metrics.h"
#include "common/proc/proc_config.h"

static void log_news(const struct proc_mesh *mesh, const struct config_errors *news,
                     bool has_last_good) {
    for (uint32_t i = 0; i < news->n; i++) {
        char *text = config_error_text(&news->items[i]);
        if (news->items[i].severity == CONFIG_WARNING) {
            log_warn(mesh->params.scope, "configuration", LOG_STR("problem", text));
        } else {
            log_error(mesh->params.scope,
                      has_last_good ? "configuration rejected, the last good state stays in force"
                                    : "configuration rejected: it is as if it were not there",
                      LOG_STR("problem", text));
        }
        free(text);
    }
}

// ---- host names of endpoints

static void on_resolved(void *arg, const char *host, const struct ip *ips, uint32_t n_ips);

struct name_list {
    const char **names;
    size_t n, n_alloc;
};

static bool add_name(void *arg, const char *hostname) {
    struct name_list *list = arg;
    if (list->n == list->n_alloc) {
        list->n_alloc = list->n_alloc == 0 ? 16 : 2 * list->n_alloc;
        list->names = xrealloc(list->names, list->n_alloc * sizeof(*list->names));
    }
    list->names[list->n++] = hostname;
    return true;
}

static void watch_names(struct proc_mesh *mesh) {
    struct name_list list = {0};
    builder_each_hostname(mesh->builder, add_name, &list);
    if (mesh->xds != NULL) {
        xds_store_each_hostname(mesh->xds, add_name, &list);
    }
    if (mesh->dns == NULL && list.n > 0) {
        const char *error = NULL;
        struct dns_client_config config = {.loop = mesh->params.loop,
                                           .mark = mesh->params.mark,
                                           .on_change = on_resolved,
                                           .arg = mesh};
        mesh->dns = dns_client_new(&config, &error);
        if (mesh->dns == NULL) {
            log_error(mesh->params.scope, "host names of endpoints cannot be resolved",
                      LOG_STR("reason", error));
        }
    }
    if (mesh->dns != NULL) {
        dns_client_set_names(mesh->dns, list.names, list.n);
    }
    free(list.names);
}

// "Service default/web": the kind alone.
static struct slice kind_of(const char *object) {
    struct slice kind, rest;
    return slice_split(slice_str(object), ' ', &kind, &rest) ? kind : slice_str(object);
}

// An object has as many errors as it has mistakes, one behind the other; it is rejected once.
static void count_rejected(const struct proc_mesh *mesh, const struct config_errors *news) {
    const struct config_error *last = NULL;
    for (uint32_t i = 0; i < news->n; i++) {
        const struct config_error *error = &news->items[i];
        if (error->severity != CONFIG_ERROR) {
            continue;
        }
        if (last == NULL || last->object[0] == '\0' || strcmp(last->object, error->object) != 0 ||
            strcmp(last->file, error->file) != 0) {
            struct slice kind = kind_of(error->object);
            metric_count(METRIC_CONFIG_REJECTED, &kind, 1, mesh->params.loop->now);
        }
        last = error;
    }
}

static void commit(struct proc_mesh *mesh) {
    struct builder_changes changes;
    builder_commit(mesh->builder, &changes);
    mesh->params.on_changes(mesh->params.arg, &changes);
    builder_changes_fini(&changes);
}

static void publish_xds(struct proc_mesh *mesh) {
    struct builder_changes changes;
    if (mesh->params.istiod_comes_first) {
        commit(mesh);
        return;
    }
    xds_store_commit(mesh->xds, &changes);
    if (changes.generation != 0) {
        mesh->params.on_changes(mesh->params.arg, &changes);
    }
    builder_changes_fini(&changes);
}

static void on_resolved(void *arg, const char *host, const struct ip *ips, uint32_t n_ips) {
    struct proc_mesh *mesh = arg;
    builder_set_resolved(mesh->builder, host, ips, n_ips);
    if (mesh->xds != NULL) {
        xds_store_set_resolved(mesh->xds, host, ips, n_ips);
    }
    commit(mesh);
    if (mesh->xds != NULL && !mesh->params.istiod_comes_first) {
        publish_xds(mesh);
    }
}

void proc_mesh_open_xds(struct proc_mesh *mesh) {
    const char *node = mesh->params.builder.node;
    mesh->xds = xds_store_new(node != NULL ? node : "");
    if (mesh->params.istiod_comes_first) {
        builder_set_istiod(mesh->builder, mesh->xds);
    }
}

void proc_mesh_commit_xds(struct proc_mesh *mesh) {
    publish_xds(mesh);
    watch_names(mesh);
}

static void apply_diff(struct proc_mesh *mesh, const struct config_diff *diff, bool is_news) {
    struct builder_changes changes = {0};
    if (diff->n_changes == 0) {
        if (is_news) {
            mesh->params.on_changes(mesh->params.arg, &changes);
        }
        return;
    }
    builder_apply(mesh->builder, diff, &changes);
    // A cluster's objects change all the time, most of them in nothing that counts here.
    bool is_told = mesh->kube == NULL || changes.generation != 0;
    log_at(mesh->params.scope, is_told ? LOG_LEVEL_INFO : LOG_LEVEL_DEBUG, "configuration applied",
           LOG_U64("added", diff->n_added), LOG_U64("changed", diff->n_changed),
           LOG_U64("removed", diff->n_removed), LOG_U64("generation", changes.generation));
    mesh->params.on_changes(mesh->params.arg, &changes);
    builder_changes_fini(&changes);
    watch_names(mesh);
}

// Whether what is broken is not what it was.
static bool apply_news(struct proc_mesh *mesh, const struct config_errors *news, uint32_t n_errors,
                       bool has_last_good) {
    bool is_news = news->n > 0 || n_errors != mesh->n_errors;
    metric_series_add(mesh->reloads[n_errors > 0], METRIC_CONFIG_RELOADS, 1);
    log_news(mesh, news, has_last_good);
    count_rejected(mesh, news);
    mesh->n_errors = n_errors;
    return is_news;
}

static void apply(struct proc_mesh *mesh, const struct config_diff *diff) {
    if (diff == NULL) {
        return; // no batch has ended: there is no news
    }
    struct source_file_status status;
    source_file_status(mesh->source, &status);
    bool is_news = apply_news(mesh, source_file_news(mesh->source), status.n_errors,
                              mesh->has_loaded || status.n_kept > 0);
    if (status.state_error != mesh->state_error) {
        mesh->state_error = status.state_error;
        if (status.state_error != 0) {
            log_warn(mesh->params.scope, "last good files cannot be kept for the next start",
                     LOG_STR("dir", mesh->params.state_dir),
                     LOG_ERRNO("error", status.state_error));
        }
    }
    apply_diff(mesh, diff, is_news);
}

void proc_mesh_open_kube(struct proc_mesh *mesh, struct source_kube *source) {
    mesh->kube = source;
    commit(mesh);
}

// An object that is broken from the first batch on has no last good state: the process has none.
void proc_mesh_apply_kube(struct proc_mesh *mesh, const struct config_diff *diff) {
    struct source_kube_status status;
    source_kube_status(mesh->kube, &status);
    bool is_news =
        apply_news(mesh, source_kube_news(mesh->kube), status.n_errors, mesh->has_loaded);
    mesh->has_loaded = true;
    apply_diff(mesh, diff, is_news);
}

const struct config_store *proc_mesh_store(const struct proc_mesh *mesh) {
    if (mesh->kube != NULL) {
        return source_kube_store(mesh->kube);
    }
    return mesh->source != NULL ? source_file_store(mesh->source) : NULL;
}

// ---- what is broken

struct broken_walk {
    void (*fn)(void *arg, const struct proc_mesh_broken *broken);
    void *arg;
};

static void each_error(void *arg, const struct config_errors *errors, uint64_t version) {
    const struct broken_walk *walk = arg;
    for (uint32_t i = 0; i < errors->n; i++) {
        const struct config_error *error = &errors->items[i];
        if (error->severity != CONFIG_ERROR || error->object[0] == '\0') {
            continue;
        }
        bool has_path = error->path[0] != '\0', has_hint = error->hint[0] != '\0';
        char *text =
            xasprintf("%s%s%s%s%s%s", error->path, has_path ? ": " : "", error->text,
                      has_hint ? " (did you mean `" : "", error->hint, has_hint ? "`?)" : "");
        struct proc_mesh_broken broken = {
            .object = error->object, .text = text, .version = version};
        walk->fn(walk->arg, &broken);
        free(text);
    }
}

static void each_file(void *arg, const struct source_file_entry *entry) {
    each_error(arg, entry->errors, 0);
}

void proc_mesh_each_broken(const struct proc_mesh *mesh,
                           void (*fn)(void *arg, const struct proc_mesh_broken *broken),
                           void *arg) {
    struct broken_walk walk = {fn, arg};
    if (mesh->kube != NULL) {
        source_kube_each_problem(mesh->kube, each_error, &walk);
    } else if (mesh->source != NULL) {
        source_file_each(mesh->source, each_file, &walk);
    }
}

static void on_source(struct watch *watch, uint32_t ready) {
    (void)ready;
    struct proc_mesh *mesh = CONTAINER_OF(watch, struct proc_mesh, watch);
    apply(mesh, source_file_process(mesh->source));
}

int proc_mesh_load(struct proc_mesh *mesh, const char *path) {
    if (path == NULL) {
        commit(mesh); // the settings that flags give
        return 0;
    }
    unsigned flags = KOBJ_LEAN | (mesh->params.has_secrets ? KOBJ_SECRETS : 0U);
    struct source_file_options options = {
        .path = path, .kobj_flags = flags, .state_dir = mesh->params.state_dir};
    int rc = source_file_new(&options, &mesh->source);
    if (rc < 0) {
        log_error(mesh->params.scope, "cannot watch the configuration, or use --state-dir",
                  LOG_STR("path", path), LOG_STR("state_dir", mesh->params.state_dir),
                  LOG_ERRNO("error", rc));
        return rc;
    }
    watch_init(&mesh->watch, mesh->params.loop, source_file_fd(mesh->source), POLLIN, on_source);
    apply(mesh, source_file_load(mesh->source));
    mesh->has_loaded = true;
    return 0;
}

// Held for good: series that nobody holds expire, and these must not start anew.
static void open_series(struct proc_mesh *mesh) {
    struct slice results[2] = {SLICE_LIT("success"), SLICE_LIT("partial")};
    for (int i = 0; i < 2; i++) {
        mesh->reloads[i] = metric_series_get(METRIC_LABELS_RESULT, &results[i]);
        metric_series_add(mesh->reloads[i], METRIC_CONFIG_RELOADS, 0);
    }
}

void proc_mesh_init(struct proc_mesh *mesh, const struct proc_mesh_params *params) {
    *mesh = (struct proc_mesh){.params = *params};
    mesh->builder = builder_new(&params->builder);
    open_series(mesh);
}

void proc_mesh_defaults(const struct proc_config *config, struct mesh_settings *ret_mesh) {
    struct mesh_settings *mesh = ret_mesh;
    *mesh = (struct mesh_settings){0};
    snprintf(mesh->trust_domain, sizeof(mesh->trust_domain), "%s", config->trust_domain);
    snprintf(mesh->cluster_domain, sizeof(mesh->cluster_domain), "%s", config->cluster_domain);
    snprintf(mesh->root_namespace, sizeof(mesh->root_namespace), "%s", config->root_namespace);
    snprintf(mesh->cluster_id, sizeof(mesh->cluster_id), "%s", config->cluster_id);
    snprintf(mesh->network, sizeof(mesh->network), "%s", config->network);
    const char *preferred = getenv("PREFERED_SERVICE_NAMESPACE"); // ztunnel's spelling
    snprintf(mesh->preferred_service_ns, sizeof(mesh->preferred_service_ns), "%s",
             preferred != NULL ? preferred : "");
}

// SPDX-License-Identifier: Apache-2.0
//
// References between documents: services, pods, namespaces.
#include <stdio.h>
#include <string.h>

#include "ctl/cmd_validate.h"

static void ignore(void *arg, const struct validate_workload *workload) {
    (void)arg, (void)workload;
}

// Namespaces and sidecars

// What a sidecar does for HTTP, a waypoint does.
#define WAYPOINT_TOO "; for HTTP rules it needs a waypoint, too (istio.io/use-waypoint)"

static void check_injection(struct validate *v, const struct kobj *obj, const struct kobj_map *map,
                            const char *base) {
    const char *inject = kobj_map_get(map, "sidecar.istio.io/inject");
    char path[96];

    if (inject != NULL && strcmp(inject, "true") == 0) {
        snprintf(path, sizeof(path), "%s[sidecar.istio.io/inject]", base);
        validate_warn(
            v, obj, path, "",
            "no sidecar is injected: remove it and enrol the namespace instead "
            "(kubectl label namespace %.63s istio.io/dataplane-mode=ambient)" WAYPOINT_TOO,
            obj->kind == KOBJ_NAMESPACE ? obj->meta.name : obj->meta.ns);
    }
    if (kobj_map_get(map, "sidecar.istio.io/status") != NULL) {
        snprintf(path, sizeof(path), "%s[sidecar.istio.io/status]", base);
        validate_warn(v, obj, path, "",
                      "this pod has a sidecar already, so it is not enrolled; restart it without");
    }
}

static void check_namespace(struct validate *v, const struct kobj *obj) {
    const char *injection = kobj_map_get(&obj->meta.labels, "istio-injection");
    const char *revision = kobj_map_get(&obj->meta.labels, "istio.io/rev");
    const char *mode = kobj_map_get(&obj->meta.labels, "istio.io/dataplane-mode");

    if (injection != NULL && strcmp(injection, "enabled") == 0) {
        validate_warn(
            v, obj, "metadata.labels[istio-injection]", "",
            "no sidecars are injected: enrol the namespace instead (kubectl label "
            "namespace %.63s istio-injection- istio.io/dataplane-mode=ambient)" WAYPOINT_TOO,
            obj->meta.name);
    } else if (revision != NULL && mode == NULL) {
        validate_warn(v, obj, "metadata.labels[istio.io/rev]", "",
                      "chooses sidecars of a revision, which are not injected: enrol the "
                      "namespace (kubectl label namespace %.63s istio.io/rev- "
                      "istio.io/dataplane-mode=ambient)" WAYPOINT_TOO,
                      obj->meta.name);
    }
    if (mode != NULL && strcmp(mode, "ambient") != 0 && strcmp(mode, "none") != 0) {
        validate_warn(v, obj, "metadata.labels[istio.io/dataplane-mode]", "ambient",
                      "`%.63s` enrols nothing", mode);
    }
    check_injection(v, obj, &obj->meta.labels, "metadata.labels");
}

static void check_home(struct validate *v, const struct kobj *obj) {
    if (v->n_by_kind[KOBJ_NAMESPACE] == 0 || validate_has_namespace(v, obj->meta.ns)) {
        return;
    }
    validate_warn(v, obj, "metadata.namespace", validate_namespace_hint(v, obj->meta.ns),
                  "there is no namespace `%.63s` in these files", obj->meta.ns);
}

// `istio.io/use-waypoint`

static void check_waypoint(struct validate *v, const struct kobj *obj) {
    const char *name = kobj_map_get(&obj->meta.labels, "istio.io/use-waypoint");
    const char *ns = kobj_map_get(&obj->meta.labels, "istio.io/use-waypoint-namespace");

    if (name == NULL || strcmp(name, "none") == 0 || v->n_by_kind[KOBJ_GATEWAY] == 0) {
        return;
    }
    if (ns == NULL) {
        ns = obj->kind == KOBJ_NAMESPACE ? obj->meta.name : obj->meta.ns;
    }
    if (!validate_has_object(v, "gateway.networking.k8s.io", "Gateway", ns, name)) {
        validate_warn(v, obj, "metadata.labels[istio.io/use-waypoint]", "",
                      "there is no Gateway `%.63s/%.253s` in these files", ns, name);
    }
}

// Services

struct port_search {
    const struct kobj_service_port *port;
    uint32_t n_with_ports, n_found;
};

static void search_port(void *arg, const struct validate_workload *workload) {
    struct port_search *search = arg;
    const struct kobj_int_or_string *target = &search->port->target_port;

    if (workload->spec == NULL) {
        search->n_found++; // its ports are not known
        return;
    }
    search->n_with_ports += validate_declares_port(workload, 0);
    for (uint32_t i = 0; i < workload->spec->n_containers; i++) {
        const struct kobj_container *c = &workload->spec->containers[i];
        for (uint32_t j = 0; j < c->n_ports; j++) {
            bool is_it =
                target->text[0] != '\0'
                    ? strcmp(c->ports[j].name, target->text) == 0
                    : c->ports[j].port == (target->num != 0 ? target->num : search->port->port);
            search->n_found += is_it && c->ports[j].protocol == search->port->protocol;
        }
    }
}

static void check_service_ports(struct validate *v, const struct kobj *obj) {
    const struct kobj_service *service = obj->service;
    char path[64];

    for (uint32_t i = 0; i < service->n_ports; i++) {
        const struct kobj_service_port *port = &service->ports[i];
        struct port_search search = {.port = port};
        bool has_target = port->target_port.text[0] != '\0' || port->target_port.num != 0;
        validate_select(v, obj->meta.ns, &service->selector, search_port, &search);
        snprintf(path, sizeof(path), "spec.ports[%u].%s", i, has_target ? "targetPort" : "port");
        if (search.n_found > 0) {
            continue;
        }
        if (port->target_port.text[0] != '\0') {
            validate_warn(v, obj, path, "", "no container that it selects has a port named `%.60s`",
                          port->target_port.text);
        } else if (search.n_with_ports > 0) {
            validate_warn(v, obj, path, "", "no container that it selects declares port %d",
                          port->target_port.num != 0 ? port->target_port.num : port->port);
        }
    }
}

static void check_service(struct validate *v, const struct kobj *obj) {
    const struct kobj_service *service = obj->service;

    if (v->n_workloads == 0 || service->type == SERVICE_EXTERNAL_NAME ||
        service->selector.items == NULL || service->selector.n == 0) {
        return;
    }
    if (validate_select(v, obj->meta.ns, &service->selector, ignore, NULL) == 0) {
        validate_warn(v, obj, "spec.selector", "", "selects no pods of these files");
        return;
    }
    check_service_ports(v, obj);
}

static void check_slice(struct validate *v, const struct kobj *obj) {
    const char *service = kobj_map_get(&obj->meta.labels, "kubernetes.io/service-name");

    if (service == NULL) {
        validate_warn(v, obj, "metadata.labels", "",
                      "has no label kubernetes.io/service-name, so it belongs to no service");
    } else if (v->n_by_kind[KOBJ_SERVICE] > 0 &&
               config_store_get(v->store, KOBJ_SERVICE, obj->meta.ns, service) == NULL) {
        validate_warn(v, obj, "metadata.labels[kubernetes.io/service-name]", "",
                      "there is no service `%.63s` in these files", service);
    }
}

static void check_service_entry(struct validate *v, const struct kobj *obj) {
    const struct kobj_service_entry *entry = obj->service_entry;

    if (entry->has_selector && v->n_workloads > 0 &&
        validate_select(v, obj->meta.ns, &entry->selector, ignore, NULL) == 0) {
        validate_warn(v, obj, "spec.workloadSelector", "", "selects no pods of these files");
    }
}

// What pods refer to

static bool is_generated(const char *name) { // by Kubernetes or istiod
    return strcmp(name, "kube-root-ca.crt") == 0 || strcmp(name, "istio-ca-root-cert") == 0;
}

static bool has_key(const struct kobj *obj, const char *key) {
    if (obj->kind == KOBJ_SECRET) {
        for (uint32_t i = 0; i < obj->secret->n_data; i++) {
            if (strcmp(obj->secret->data[i].key, key) == 0) {
                return true;
            }
        }
        return false;
    }
    for (uint32_t i = 0; i < obj->config_map->n_binary; i++) {
        if (strcmp(obj->config_map->binary[i].key, key) == 0) {
            return true;
        }
    }
    return kobj_map_get(&obj->config_map->data, key) != NULL;
}

// key NULL: all of it
static void check_data(struct validate *v, const struct validate_workload *w, enum kobj_kind kind,
                       const char *name, const char *key, const char *path) {
    if (v->n_by_kind[kind] == 0 || name[0] == '\0' || is_generated(name)) {
        return;
    }
    const struct kobj *obj = config_store_get(v->store, kind, w->ns, name);
    if (obj == NULL) {
        validate_warn(v, w->obj, path, "", "there is no %s `%.63s/%.200s` in these files",
                      kobj_kind_text(kind), w->ns, name);
    } else if (key != NULL && !has_key(obj, key)) {
        validate_warn(v, w->obj, path, "", "%s `%.63s/%.200s` has no key `%.100s`",
                      kobj_kind_text(kind), w->ns, name, key);
    }
}

static void check_env(struct validate *v, const struct validate_workload *w,
                      const struct kobj_container *c, const char *base) {
    char path[160];

    for (uint32_t i = 0; i < c->n_env; i++) {
        const struct kobj_env *env = &c->env[i];
        snprintf(path, sizeof(path), "%s.env[%u].valueFrom", base, i);
        if (env->config_map != NULL && !env->config_map->is_optional) {
            check_data(v, w, KOBJ_CONFIG_MAP, env->config_map->name, env->config_map->key, path);
        }
        if (env->secret != NULL && !env->secret->is_optional) {
            check_data(v, w, KOBJ_SECRET, env->secret->name, env->secret->key, path);
        }
    }
    for (uint32_t i = 0; i < c->n_env_from; i++) {
        const struct kobj_env_from *from = &c->env_from[i];
        snprintf(path, sizeof(path), "%s.envFrom[%u]", base, i);
        if (!from->is_optional) {
            check_data(v, w, KOBJ_CONFIG_MAP, from->config_map, NULL, path);
            check_data(v, w, KOBJ_SECRET, from->secret, NULL, path);
        }
    }
}

static void check_probe_port(struct validate *v, const struct validate_workload *w,
                             const struct kobj_container *c, const struct kobj_probe *probe,
                             const char *base, const char *field) {
    char path[200];

    if (probe == NULL || probe->handler.port.text[0] == '\0') {
        return;
    }
    for (uint32_t i = 0; i < c->n_ports; i++) {
        if (strcmp(c->ports[i].name, probe->handler.port.text) == 0) {
            return;
        }
    }
    snprintf(path, sizeof(path), "%s.%s", base, field);
    validate_warn(v, w->obj, path, "", "the container has no port named `%.60s`",
                  probe->handler.port.text);
}

static void check_volumes(struct validate *v, const struct validate_workload *w,
                          const char *spec_path) {
    char path[160];

    for (uint32_t i = 0; i < w->spec->n_volumes; i++) {
        const struct kobj_volume *volume = &w->spec->volumes[i];
        snprintf(path, sizeof(path), "%s.volumes[%u]", spec_path, i);
        for (uint32_t j = 0; j < volume->n_sources; j++) {
            const struct kobj_projection *source = &volume->sources[j];
            if (source->is_optional) {
                continue;
            }
            if (source->type == PROJECT_CONFIG_MAP) {
                check_data(v, w, KOBJ_CONFIG_MAP, source->name, NULL, path);
            } else if (source->type == PROJECT_SECRET) {
                check_data(v, w, KOBJ_SECRET, source->name, NULL, path);
            }
        }
    }
}

static void check_workload(struct validate *v, const struct validate_workload *w) {
    bool is_pod = w->obj->kind == KOBJ_POD;
    const char *spec_path = is_pod ? "spec" : "spec.template.spec";
    char base[64], path[96];

    if (w->spec == NULL) {
        return;
    }
    if (!is_pod) {
        const struct kobj_meta *meta = &w->obj->workload_set->tmpl.meta;
        check_injection(v, w->obj, &meta->labels, "spec.template.metadata.labels");
        check_injection(v, w->obj, &meta->annotations, "spec.template.metadata.annotations");
    } else {
        check_injection(v, w->obj, &w->obj->meta.labels, "metadata.labels");
        check_injection(v, w->obj, &w->obj->meta.annotations, "metadata.annotations");
    }
    for (uint32_t i = 0; i < w->spec->n_containers; i++) {
        const struct kobj_container *c = &w->spec->containers[i];
        snprintf(base, sizeof(base), "%s.containers[%u]", spec_path, i);
        check_env(v, w, c, base);
        check_probe_port(v, w, c, c->liveness, base, "livenessProbe");
        check_probe_port(v, w, c, c->readiness, base, "readinessProbe");
        check_probe_port(v, w, c, c->startup, base, "startupProbe");
    }
    check_volumes(v, w, spec_path);
    if (v->n_by_kind[KOBJ_SERVICE_ACCOUNT] > 0 && strcmp(w->service_account, "default") != 0 &&
        config_store_get(v->store, KOBJ_SERVICE_ACCOUNT, w->ns, w->service_account) == NULL) {
        snprintf(path, sizeof(path), "%s.serviceAccountName", spec_path);
        validate_warn(v, w->obj, path, "",
                      "there is no ServiceAccount `%.63s/%.200s` in these files", w->ns,
                      w->service_account);
    }
    if (is_pod && w->spec->node_name[0] != '\0' && v->n_by_kind[KOBJ_NODE] > 0 &&
        config_store_get(v->store, KOBJ_NODE, "", w->spec->node_name) == NULL) {
        validate_warn(v, w->obj, "spec.nodeName", "", "there is no node `%.200s` in these files",
                      w->spec->node_name);
    }
}

void validate_refs(struct validate *v) {
    for (uint32_t i = 0; i < v->n_objs; i++) {
        const struct kobj *obj = v->objs[i];
        if (kobj_is_namespaced(obj->kind)) {
            check_home(v, obj);
        }
        check_waypoint(v, obj);
        switch ((enum kobj_kind)obj->kind) {
        case KOBJ_NAMESPACE:
            check_namespace(v, obj);
            break;
        case KOBJ_SERVICE:
            check_service(v, obj);
            break;
        case KOBJ_ENDPOINT_SLICE:
            check_slice(v, obj);
            break;
        case KOBJ_SERVICE_ENTRY:
            check_service_entry(v, obj);
            break;
        default:
            break;
        }
    }
    for (uint32_t i = 0; i < v->n_workloads; i++) {
        check_workload(v, &v->workloads[i]);
    }
}

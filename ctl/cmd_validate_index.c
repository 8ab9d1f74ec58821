// SPDX-License-Identifier: Apache-2.0
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/hash.h"
#include "common/mesh/config_doc.h"
#include "common/mesh/schema.h"
#include "ctl/cmd_validate.h"

static void *grow(void *items, uint32_t n, uint32_t *cap, size_t size) {
    if (n < *cap) {
        return items;
    }
    *cap = *cap != 0 ? *cap * 2 : 64;
    return xrealloc(items, *cap * size);
}

static uint64_t label_hash(const char *ns, const char *key, const char *value) {
    uint64_t parts[3] = {hash_bytes(slice_str(ns)), hash_bytes(slice_str(key)),
                         hash_bytes(slice_str(value))};
    return hash_bytes(slice_make(parts, sizeof(parts)));
}

static void add_label(struct validate *v, const char *ns, const struct kobj_kv *label) {
    v->labels = grow(v->labels, v->n_labels, &v->cap_labels, sizeof(v->labels[0]));
    v->labels[v->n_labels++] =
        (struct validate_label){label_hash(ns, label->key, label->value), v->n_workloads - 1};
}

static void add_workload(struct validate *v, struct validate_workload workload) {
    v->workloads = grow(v->workloads, v->n_workloads, &v->cap_workloads, sizeof(v->workloads[0]));
    v->workloads[v->n_workloads++] = workload;
    for (uint32_t i = 0; i < workload.labels->n; i++) {
        add_label(v, workload.ns, &workload.labels->items[i]);
        add_label(v, "", &workload.labels->items[i]); // for policies of the root namespace
    }
}

// DaemonSet, Job and CronJob are not decoded, but their pods count.
static void add_template(struct validate *v, const struct kobj *obj) {
    static const char *const paths[] = {"spec.template.metadata.labels",
                                        "spec.jobTemplate.spec.template.metadata.labels"};

    for (size_t i = 0; obj->tree != NULL && i < ARRAY_LEN(paths); i++) {
        const struct cfg_node *labels = cfg_find(obj->tree, paths[i], NULL);
        struct kobj_map *map = ARENA_NEW(&v->arena, struct kobj_map);
        if (labels == NULL || labels->type != CFG_MAP || map == NULL) {
            continue;
        }
        struct kobj_kv *items = arena_array(&v->arena, MAX(labels->n, 1u), sizeof(items[0]));
        for (uint32_t j = 0; items != NULL && j < labels->n; j++) {
            items[map->n++] =
                (struct kobj_kv){labels->pairs[j].key.text, cfg_str(&labels->pairs[j].value, "")};
        }
        map->items = items;
        add_workload(v, (struct validate_workload){.obj = obj,
                                                   .ns = obj->meta.ns[0] != '\0' ? obj->meta.ns
                                                                                 : "default",
                                                   .labels = map,
                                                   .service_account = "",
                                                   .labels_path = paths[i]});
    }
}

static void add_pods(struct validate *v, const struct kobj *obj, const struct kobj_map *labels,
                     const struct kobj_pod_spec *spec, const char *path) {
    const char *account = spec->service_account[0] != '\0' ? spec->service_account : "default";

    add_workload(v, (struct validate_workload){.obj = obj,
                                               .ns = obj->meta.ns,
                                               .labels = labels,
                                               .spec = spec,
                                               .service_account = account,
                                               .labels_path = path});
}

static void index_object(struct validate *v, const struct kobj *obj) {
    switch ((enum kobj_kind)obj->kind) {
    case KOBJ_POD:
        add_pods(v, obj, &obj->meta.labels, &obj->pod->spec, "metadata.labels");
        break;
    case KOBJ_DEPLOYMENT:
    case KOBJ_REPLICA_SET:
    case KOBJ_STATEFUL_SET:
        add_pods(v, obj, &obj->workload_set->tmpl.meta.labels, &obj->workload_set->tmpl.spec,
                 "spec.template.metadata.labels");
        break;
    case KOBJ_WORKLOAD_ENTRY:
        add_workload(v, (struct validate_workload){.obj = obj,
                                                   .ns = obj->meta.ns,
                                                   .labels = &obj->workload_entry->labels,
                                                   .service_account =
                                                       obj->workload_entry->service_account,
                                                   .labels_path = "spec.labels"});
        break;
    case KOBJ_WORKLOAD_GROUP:
        add_workload(v, (struct validate_workload){.obj = obj,
                                                   .ns = obj->meta.ns,
                                                   .labels = &obj->workload_group->labels,
                                                   .service_account =
                                                       obj->workload_group->tmpl.service_account,
                                                   .labels_path = "spec.metadata.labels"});
        break;
    case KOBJ_UNUSED:
        add_template(v, obj);
        break;
    case KOBJ_CONFIG_MAP:
        if (obj->config_map->mesh != NULL && obj->config_map->mesh->root_namespace[0] != '\0') {
            v->root_ns = obj->config_map->mesh->root_namespace;
        }
        break;
    default:
        break;
    }
}

static int collect(void *arg, const struct kobj *obj) {
    struct validate *v = arg;

    v->objs = grow(v->objs, v->n_objs, &v->cap_objs, sizeof(v->objs[0]));
    v->objs[v->n_objs++] = obj;
    v->n_by_kind[obj->kind]++;
    return 0;
}

static int by_place(const void *a, const void *b) {
    const struct kobj *left = *(const struct kobj *const *)a;
    const struct kobj *right = *(const struct kobj *const *)b;
    int order = strcmp(left->file, right->file);

    if (order != 0) {
        return order;
    }
    if (left->pos.line != right->pos.line) {
        return left->pos.line < right->pos.line ? -1 : 1;
    }
    return left->pos.col < right->pos.col ? -1 : left->pos.col > right->pos.col;
}

static int by_hash(const void *a, const void *b) {
    const struct validate_label *left = a, *right = b;

    if (left->hash != right->hash) {
        return left->hash < right->hash ? -1 : 1;
    }
    return left->workload < right->workload ? -1 : left->workload > right->workload;
}

void validate_index_init(struct validate *v) {
    v->root_ns = "istio-system";
    config_store_each(v->store, KOBJ_N_KINDS, collect, v);
    if (v->n_objs > 1) {
        qsort(v->objs, v->n_objs, sizeof(v->objs[0]), by_place);
    }
    for (uint32_t i = 0; i < v->n_objs; i++) {
        index_object(v, v->objs[i]);
    }
    if (v->n_labels > 1) {
        qsort(v->labels, v->n_labels, sizeof(v->labels[0]), by_hash);
    }
}

void validate_index_fini(struct validate *v) {
    free(v->objs);
    free(v->workloads);
    free(v->labels);
}

static uint32_t first_label(const struct validate *v, uint64_t hash) {
    uint32_t low = 0, high = v->n_labels;

    while (low < high) {
        uint32_t mid = low + (high - low) / 2;
        if (v->labels[mid].hash < hash) {
            low = mid + 1;
        } else {
            high = mid;
        }
    }
    return low;
}

uint32_t validate_select(const struct validate *v, const char *ns, const struct kobj_map *selector,
                         void (*fn)(void *arg, const struct validate_workload *workload),
                         void *arg) {
    uint32_t n = 0;

    if (selector->n == 0) {
        for (uint32_t i = 0; i < v->n_workloads; i++) {
            if (ns == NULL || strcmp(v->workloads[i].ns, ns) == 0) {
                n++;
                fn(arg, &v->workloads[i]);
            }
        }
        return n;
    }
    const struct kobj_kv *first = &selector->items[0];
    uint64_t hash = label_hash(ns != NULL ? ns : "", first->key, first->value);
    for (uint32_t i = first_label(v, hash); i < v->n_labels && v->labels[i].hash == hash; i++) {
        const struct validate_workload *workload = &v->workloads[v->labels[i].workload];
        if ((ns == NULL || strcmp(workload->ns, ns) == 0) &&
            kobj_map_matches(selector, workload->labels)) {
            n++;
            fn(arg, workload);
        }
    }
    return n;
}

bool validate_has_namespace(const struct validate *v, const char *ns) {
    return config_store_get(v->store, KOBJ_NAMESPACE, "", ns) != NULL ||
           strcmp(ns, "default") == 0 || strncmp(ns, "kube-", 5) == 0 ||
           strcmp(ns, v->root_ns) == 0;
}

const char *validate_namespace_hint(const struct validate *v, const char *ns) {
    unsigned best = schema_max_distance(ns) + 1;
    const char *hint = "";

    for (uint32_t i = 0; i < v->n_objs; i++) {
        if (v->objs[i]->kind == KOBJ_NAMESPACE) {
            unsigned distance = schema_distance(ns, v->objs[i]->meta.name, best);
            if (distance < best) {
                best = distance;
                hint = v->objs[i]->meta.name;
            }
        }
    }
    return hint;
}

bool validate_has_service_account(const struct validate *v, const char *ns, const char *name) {
    if (strcmp(name, "default") == 0 ||
        config_store_get(v->store, KOBJ_SERVICE_ACCOUNT, ns, name) != NULL) {
        return true;
    }
    for (uint32_t i = 0; i < v->n_workloads; i++) {
        if (strcmp(v->workloads[i].ns, ns) == 0 &&
            strcmp(v->workloads[i].service_account, name) == 0) {
            return true;
        }
    }
    return false;
}

bool validate_has_object(const struct validate *v, const char *group, const char *kind,
                         const char *ns, const char *name) {
    struct kobj_id id = {slice_str(group), kind, ns, name};
    struct kobj_id no_ns = {slice_str(group), kind, "", name};

    return config_store_find(v->store, &id) != NULL ||
           (strcmp(ns, "default") == 0 && config_store_find(v->store, &no_ns) != NULL);
}

bool validate_declares_port(const struct validate_workload *workload, uint16_t port) {
    for (uint32_t i = 0; workload->spec != NULL && i < workload->spec->n_containers; i++) {
        const struct kobj_container *c = &workload->spec->containers[i];
        for (uint32_t j = 0; j < c->n_ports; j++) {
            if (port == 0 || c->ports[j].port == port) {
                return true;
            }
        }
    }
    return false;
}

static void PRINTF_LIKE(6, 0)
    say(struct validate *v, enum config_severity severity, const struct kobj *obj, const char *path,
        const char *hint, const char *fmt, va_list args) {
    struct kobj_pos pos = kobj_pos_of(obj, path);
    char text[512], object[640];

    vsnprintf(text, sizeof(text), fmt, args);
    snprintf(object, sizeof(object), "%.63s %.63s%s%.253s", obj->kind_name, obj->meta.ns,
             obj->meta.ns[0] != '\0' ? "/" : "", obj->meta.name);
    config_errors_add(&v->errors, &(struct config_error){.severity = (uint8_t)severity,
                                                         .file = obj->file,
                                                         .line = pos.line,
                                                         .col = pos.col,
                                                         .object = object,
                                                         .path = path,
                                                         .text = text,
                                                         .hint = hint});
}

void validate_warn(struct validate *v, const struct kobj *obj, const char *path, const char *hint,
                   const char *fmt, ...) {
    va_list args;

    va_start(args, fmt);
    say(v, CONFIG_WARNING, obj, path, hint, fmt, args);
    va_end(args);
}

void validate_note(struct validate *v, const struct kobj *obj, const char *path, const char *fmt,
                   ...) {
    va_list args;

    va_start(args, fmt);
    say(v, CONFIG_NOTE, obj, path, "", fmt, args);
    va_end(args);
}

// SPDX-License-Identifier: Apache-2.0
//
// Pods and WorkloadEntries as workload leaves, by the rules of istiod's ambient index and of
// istio-cni's enrolment.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/mesh/builder_priv.h"
#include "common/proto/spiffe.h"

enum { MAX_IPS = 8, MAX_LIST = 32 };

// What a leaf's spec points to while it is built.
struct scratch {
    char uid[768], identity[SPIFFE_TEXT_MAX], owner[256], waypoint[512], place[3][128];
    char list_text[2][1024];
    const char *lists[2][MAX_LIST + 4];
    struct ip ips[MAX_IPS];
    struct label *labels;
    struct named_port *ports;
    struct key_list policies;
    struct workload_local local;
};

static const char *get(const struct kobj_map *map, const char *key) {
    const char *value = kobj_map_get(map, key);
    return value != NULL ? value : "";
}

static const char *first_of(const struct kobj_map *labels, const char *const *keys, size_t n,
                            const char *fallback) {
    for (size_t i = 0; i < n; i++) {
        const char *value = get(labels, keys[i]);
        if (value[0] != '\0') {
            return value;
        }
    }
    return fallback;
}

static void set_canonical(struct workload_common *c, const struct kobj_map *labels) {
    static const char *const name_keys[] = {"service.istio.io/canonical-name",
                                            "app.kubernetes.io/name", "app"};
    static const char *const revision_keys[] = {"service.istio.io/canonical-revision",
                                                "app.kubernetes.io/version", "version"};
    c->canonical_name = first_of(labels, name_keys, ARRAY_LEN(name_keys), c->owner_name);
    c->canonical_revision = first_of(labels, revision_keys, ARRAY_LEN(revision_keys), "latest");
    c->app = c->canonical_name; // as ztunnel's metrics do
    c->version = c->canonical_revision;
}

static void set_labels(struct workload_common *c, struct scratch *s,
                       const struct kobj_map *labels) {
    if (labels->n > 0) {
        s->labels = xcalloc(labels->n, sizeof(*s->labels));
    }
    for (uint32_t i = 0; i < labels->n && i < UINT16_MAX; i++) {
        s->labels[i] = (struct label){labels->items[i].key, labels->items[i].value};
        c->n_labels++;
    }
    c->labels = s->labels;
}

static void set_identity(struct mesh_builder *b, struct workload_common *c, struct scratch *s,
                         struct record *record, const char *account) {
    c->service_account = account[0] != '\0' ? account : "default";
    c->trust_domain = b->mesh.trust_domain;
    struct spiffe_id id = {
        .trust_domain = slice_str(c->trust_domain),
        .ns = slice_str(c->ns),
        .sa = slice_str(c->service_account),
    };
    struct slice text;
    if (spiffe_format(&id, s->identity, &text)) {
        c->identity = s->identity;
    } else {
        builder_problem(record, "no identity: '%s', '%s', '%s' do not make a SPIFFE id",
                        c->trust_domain, c->ns, c->service_account);
    }
}

static void set_policies(struct mesh_builder *b, struct workload_common *c, struct scratch *s,
                         const struct record *record) {
    builder_policies_of(b, record, &s->policies);
    builder_peers_of(b, c->ns, record_labels(record), &s->policies);
    c->policies = (const char *const *)s->policies.items;
    c->n_policies = (uint16_t)MIN(s->policies.n, UINT16_MAX);
}

// "region/zone/subzone", or with dots as the label has it.
static void set_locality(struct workload_common *c, struct scratch *s, const char *text,
                         char separator) {
    const char **const fields[] = {&c->locality.region, &c->locality.zone, &c->locality.subzone};
    struct slice rest = slice_str(text);
    for (size_t i = 0; i < 3 && rest.len > 0; i++) {
        struct slice part = rest;
        if (!slice_split(rest, (uint8_t)separator, &part, &rest)) {
            rest = slice_make(NULL, 0);
        }
        snprintf(s->place[i], sizeof(s->place[i]), "%.*s", SLICE_ARG(part));
        *fields[i] = s->place[i];
    }
}

static void node_locality(struct mesh_builder *b, const char *name, struct locality *ret_locality) {
    const struct record *node = builder_find(b, KOBJ_NODE, "", name);
    if (node == NULL || node->obj == NULL) {
        return;
    }
    const struct kobj_map *labels = &node->obj->meta.labels;
    ret_locality->region = get(labels, "topology.kubernetes.io/region");
    ret_locality->zone = get(labels, "topology.kubernetes.io/zone");
    ret_locality->subzone = get(labels, "topology.istio.io/subzone");
}

// The texts are written before they are read.
static void scratch_init(struct scratch *s) {
    memset(s->ips, 0, sizeof(s->ips));
    s->labels = NULL;
    s->ports = NULL;
    s->policies = (struct key_list){0};
    s->local = (struct workload_local){0};
}

static void scratch_fini(struct scratch *s) {
    free(s->labels);
    free(s->ports);
    key_list_fini(&s->policies);
}

// "PREFIX/KIND/NS/NAME", cut where `size` ends.
static struct slice make_uid(char *uid, size_t size, const char *prefix, const char *kind,
                             const char *ns, const char *name) {
    const char *const parts[] = {prefix, "/", kind, "/", ns, "/", name};
    size_t len = 0;
    for (size_t i = 0; i < ARRAY_LEN(parts); i++) {
        size_t n = MIN(strlen(parts[i]), size - 1 - len);
        memcpy(uid + len, parts[i], n);
        len += n;
    }
    uid[len] = '\0';
    return slice_make(uid, len);
}

// Splits "a, b c" in a copy into a NULL-terminated list; NULL when there is none.
static const char *const *split_list(const char *text, char *copy, size_t size,
                                     const char **items) {
    size_t n = 0;
    if (text[0] == '\0') {
        return NULL;
    }
    snprintf(copy, size, "%s", text);
    for (char *at = copy; n < MAX_LIST; n++) {
        at += strspn(at, ", \t\n");
        if (*at == '\0') {
            break;
        }
        items[n] = at;
        at += strcspn(at, ", \t\n");
        if (*at != '\0') {
            *at++ = '\0';
        }
    }
    items[n] = NULL;
    return n > 0 ? items : NULL;
}

// Owner

static const struct kobj_owner *controller_of(const struct kobj_meta *meta) {
    for (uint32_t i = 0; i < meta->n_owners; i++) {
        if (meta->owners[i].is_controller) {
            return &meta->owners[i];
        }
    }
    return meta->n_owners == 1 ? &meta->owners[0] : NULL;
}

static bool strip_suffix(const char *text, const char *suffix, char *dst, size_t size) {
    size_t len = strlen(text), suffix_len = strlen(suffix);
    if (suffix_len == 0 || len < suffix_len + 2 || text[len - suffix_len - 1] != '-' ||
        strcmp(text + len - suffix_len, suffix) != 0 || len >= size) {
        return false;
    }
    snprintf(dst, size, "%.*s", (int)(len - suffix_len - 1), text);
    return true;
}

// A CronJob's Jobs are called NAME-<8 to 10 digits>.
static bool strip_job_number(const char *text, char *dst, size_t size) {
    const char *dash = strrchr(text, '-');
    size_t n_digits = dash != NULL ? strspn(dash + 1, "0123456789") : 0;
    return n_digits >= 8 && n_digits <= 10 && strip_suffix(text, dash + 1, dst, size);
}

static void set_owner(struct workload_common *c, struct scratch *s, const struct kobj *obj) {
    const struct kobj_owner *owner = controller_of(&obj->meta);
    c->owner_name = obj->meta.name;
    c->owner_type = "pod";
    if (owner == NULL) {
        return;
    }
    c->owner_name = owner->name;
    if (strcmp(owner->kind, "ReplicaSet") == 0) {
        const char *hash = get(&obj->meta.labels, "pod-template-hash");
        if (strip_suffix(owner->name, hash, s->owner, sizeof(s->owner))) {
            c->owner_name = s->owner;
            c->owner_type = "deployment";
        }
    } else if (strcmp(owner->kind, "Deployment") == 0) {
        c->owner_type = "deployment";
    } else if (strcmp(owner->kind, "CronJob") == 0) {
        c->owner_type = "cronjob";
    } else if (strcmp(owner->kind, "Job") == 0) {
        c->owner_type = "job";
        if (strip_job_number(owner->name, s->owner, sizeof(s->owner))) {
            c->owner_name = s->owner;
            c->owner_type = "cronjob";
        }
    }
}

// Enrolment (istio-cni's PodFullyEnabled): the pod's label, else its namespace's.
static bool is_enrolled(struct mesh_builder *b, const struct kobj *pod) {
    static const char mode_key[] = "istio.io/dataplane-mode";
    const struct kobj *ns = builder_ns_obj(b, pod->meta.ns);
    const char *own = get(&pod->meta.labels, mode_key);
    const char *inherited = ns != NULL ? get(&ns->meta.labels, mode_key) : "";
    if (pod->pod->spec.is_host_network ||
        kobj_map_get(&pod->meta.annotations, "sidecar.istio.io/status") != NULL ||
        strcmp(pod->meta.ns, "kube-system") == 0) { // istio-cni's default excludeNamespaces
        return false;
    }
    return strcmp(own, "ambient") == 0 ||
           (strcmp(inherited, "ambient") == 0 && strcmp(own, "none") != 0);
}

static bool is_true(const char *text) {
    return strcmp(text, "true") == 0 || strcmp(text, "1") == 0;
}

static void set_mesh_fields(struct mesh_builder *b, struct workload *w, struct scratch *s,
                            const struct kobj *obj) {
    const struct kobj_map *annotations = &obj->meta.annotations;
    w->is_enrolled = is_enrolled(b, obj);
    bool is_captured = strcmp(get(annotations, "ambient.istio.io/redirection"), "enabled") == 0;
    bool has_tunnel = strcmp(get(&obj->meta.labels, "networking.istio.io/tunnel"), "http") == 0;
    w->protocol = w->is_enrolled || is_captured || has_tunnel ? WORKLOAD_HBONE : WORKLOAD_TCP;
    s->local.netns = get(annotations, "ztun.io/netns");
    const char *capture = get(annotations, "ambient.istio.io/dns-capture");
    w->no_dns_capture = strcmp(capture, "false") == 0 || strcmp(capture, "0") == 0;
    w->bypass_inbound_capture =
        is_true(get(annotations, "ambient.istio.io/bypass-inbound-capture"));
    s->local.virtual_interfaces = get(annotations, "istio.io/reroute-virtual-interfaces");
    s->local.nameservers = split_list(get(annotations, "ztun.io/nameservers"), s->list_text[0],
                                      sizeof(s->list_text[0]), s->lists[0]);
}

static void set_dns(struct mesh_builder *b, const struct workload_common *c, struct scratch *s,
                    const struct kobj_pod_spec *spec) {
    const struct kobj_dns_config *config = spec->dns_config;
    uint32_t n_own = config != NULL ? MIN(config->n_searches, (uint32_t)MAX_LIST) : 0;
    bool is_none = strcmp(spec->dns_policy, "None") == 0;
    if (n_own == 0 && !is_none) {
        return;
    }
    const char **list = s->lists[1];
    size_t n = 0;
    if (!is_none) {
        char *text = s->list_text[1];
        size_t size = sizeof(s->list_text[1]);
        int len = snprintf(text, size, "%s.svc.%s", c->ns, b->mesh.cluster_domain);
        if (len > 0 && (size_t)len < size) { // the three usual ones are suffixes of each other
            list[n++] = text;
            list[n++] = text + strlen(c->ns) + 1;
            list[n++] = text + strlen(c->ns) + 5;
        }
    }
    for (uint32_t i = 0; i < n_own; i++) {
        list[n++] = config->searches[i];
    }
    list[n] = NULL;
    s->local.dns_search = list;
}

static void add_ports(struct scratch *s, struct workload_common *c,
                      const struct kobj_container *list, uint32_t n) {
    for (uint32_t i = 0; i < n; i++) {
        for (uint32_t k = 0; k < list[i].n_ports && c->n_ports < UINT16_MAX; k++) {
            const struct kobj_container_port *port = &list[i].ports[k];
            if (port->protocol == PROTOCOL_TCP && port->name[0] != '\0') {
                s->ports = xrealloc(s->ports, (c->n_ports + 1U) * sizeof(*s->ports));
                s->ports[c->n_ports++] = (struct named_port){port->name, port->port};
            }
        }
    }
    c->ports = s->ports;
}

static void set_health(struct workload *w, const struct kobj *obj) {
    const struct kobj_pod_status *status = &obj->pod->status;
    w->is_terminating = obj->meta.deletion_timestamp[0] != '\0';
    w->is_ready = true; // a pod without conditions has no kubelet to say otherwise
    for (uint32_t i = 0; i < status->n_conditions; i++) {
        if (strcmp(status->conditions[i].type, "Ready") == 0) {
            w->is_ready = strcmp(status->conditions[i].status, "True") == 0;
        }
    }
    bool is_running = status->phase == PHASE_RUNNING || status->phase == PHASE_UNSET;
    w->is_healthy = w->is_ready && is_running && !w->is_terminating;
}

static void set_ips(struct workload *w, struct scratch *s, struct record *record,
                    const char *const *texts, uint32_t n) {
    for (uint32_t i = 0; i < n && w->n_ips < MAX_IPS; i++) {
        if (ip_parse(slice_str(texts[i]), &s->ips[w->n_ips])) {
            w->n_ips++;
        } else if (texts[i][0] != '\0') {
            builder_problem(record, "'%s' is not an IP address", texts[i]);
        }
    }
    w->ips = s->ips;
}

static bool has_leaf(const struct kobj *obj) {
    if (obj == NULL || obj->pod->status.n_pod_ips == 0) {
        return false;
    }
    uint8_t phase = obj->pod->status.phase;
    return phase != PHASE_SUCCEEDED && phase != PHASE_FAILED;
}

static void begin_workloads(struct record *record) {
    LIST_EACH(pos, &record->workloads) {
        LIST_ITEM(pos, struct bwl, in_record)->is_stale = true;
    }
}

static void end_workloads(struct mesh_builder *b, struct record *record) {
    LIST_EACH_SAFE(pos, &record->workloads) {
        struct bwl *wl = LIST_ITEM(pos, struct bwl, in_record);
        if (wl->is_stale) {
            builder_drop_workload(b, wl);
        }
    }
}

static struct workload *pod_leaf(struct mesh_builder *b, struct record *record) {
    const struct kobj *obj = record->obj;
    const struct kobj_pod *pod = obj->pod;
    struct scratch scratch, *s = &scratch;
    scratch_init(s);
    struct workload_common c = {
        .ns = obj->meta.ns,
        .cluster = b->mesh.cluster_id,
        .network = b->mesh.network,
        .local = &s->local,
    };
    struct workload w = {
        .name = obj->meta.name,
        .common = &c,
        .node = pod->spec.node_name,
        .is_pod = true,
        .is_host_network = pod->spec.is_host_network,
        .capacity = 1,
    };
    w.leaf.key = make_uid(s->uid, sizeof(s->uid), c.cluster, "/Pod", c.ns, w.name);
    set_ips(&w, s, record, pod->status.pod_ips, pod->status.n_pod_ips);
    set_owner(&c, s, obj);
    set_canonical(&c, &obj->meta.labels);
    set_labels(&c, s, &obj->meta.labels);
    set_identity(b, &c, s, record, pod->spec.service_account);
    set_mesh_fields(b, &w, s, obj);
    set_dns(b, &c, s, &pod->spec);
    set_health(&w, obj);
    set_policies(b, &c, s, record);
    node_locality(b, w.node, &c.locality);
    const char *place = get(&obj->meta.labels, "istio-locality");
    set_locality(&c, s, place, strchr(place, '/') != NULL ? '/' : '.');
    add_ports(s, &c, pod->spec.containers, pod->spec.n_containers);
    add_ports(s, &c, pod->spec.init_containers, pod->spec.n_init_containers);
    c.waypoint = builder_waypoint(b, record, "workload", s->waypoint);
    builder_app_tunnel(b, record, &w);
    struct workload *leaf = workload_new_like(&w, builder_like(b, record));
    scratch_fini(s);
    return leaf;
}

void builder_build_pod(struct mesh_builder *b, struct record *record) {
    begin_workloads(record);
    if (has_leaf(record->obj)) {
        builder_put_workload(b, record, pod_leaf(b, record));
    }
    end_workloads(b, record);
}

struct workload *builder_entry_leaf(struct mesh_builder *b, struct record *record,
                                    const struct kobj_workload_entry *entry, const char *uid,
                                    const char *name, const struct kobj_map *labels) {
    struct scratch scratch, *s = &scratch;
    scratch_init(s);
    struct workload_common c = {
        .ns = record->ns->name,
        .cluster = b->mesh.cluster_id,
        .network = entry->network[0] != '\0' ? entry->network : b->mesh.network,
        .owner_name = name,
        .owner_type = "pod",
    };
    struct workload w = {
        .leaf.key = slice_str(uid),
        .name = name,
        .common = &c,
        .is_ready = true,
        .is_healthy = true,
        .capacity = entry->weight > 0 ? entry->weight : 1,
    };
    if (ip_parse(slice_str(entry->address), &s->ips[0])) {
        w.ips = s->ips;
        w.n_ips = 1;
    } else if (entry->address[0] != '\0' && strchr(entry->address, '/') == NULL) {
        c.hostname = entry->address;
        const struct ip *resolved;
        w.n_ips = (uint16_t)builder_resolved(b, c.hostname, &resolved);
        w.ips = resolved;
    } else {
        builder_problem(record, "endpoint address '%s' is neither an IP address nor a host name",
                        entry->address);
    }
    // Endpoints of a node (the API server, say) are not found by address: other ports are the
    // node's.
    w.is_host_network = w.n_ips == 1 && builder_is_node_ip(b, &w.ips[0]);
    set_canonical(&c, labels);
    set_labels(&c, s, labels);
    if (entry->service_account[0] != '\0' || record->kind == KOBJ_WORKLOAD_ENTRY) {
        set_identity(b, &c, s, record, entry->service_account);
    }
    set_locality(&c, s, entry->locality, '/');
    s->ports = xcalloc(entry->n_ports + 1, sizeof(*s->ports));
    for (uint32_t i = 0; i < entry->n_ports && i < UINT16_MAX; i++) {
        s->ports[c.n_ports++] = (struct named_port){entry->ports[i].name, entry->ports[i].port};
    }
    c.ports = s->ports;
    bool has_tunnel = strcmp(get(labels, "networking.istio.io/tunnel"), "http") == 0;
    w.protocol = has_tunnel && c.identity != NULL ? WORKLOAD_HBONE : WORKLOAD_TCP;
    if (record->kind == KOBJ_WORKLOAD_ENTRY) {
        set_policies(b, &c, s, record);
        c.waypoint = builder_waypoint(b, record, "workload", s->waypoint);
    }
    struct workload *leaf = workload_new_like(&w, builder_like(b, record));
    scratch_fini(s);
    return leaf;
}

void builder_build_entry(struct mesh_builder *b, struct record *record) {
    begin_workloads(record);
    if (record->obj != NULL) {
        char uid[768];
        make_uid(uid, sizeof(uid), b->mesh.cluster_id, "networking.istio.io/WorkloadEntry",
                 record->ns->name, record->name);
        builder_put_workload(b, record,
                             builder_entry_leaf(b, record, record->obj->workload_entry, uid,
                                                record->name, record_labels(record)));
    }
    end_workloads(b, record);
}

struct workload *builder_bare_leaf(struct mesh_builder *b, const struct builder_bare *bare) {
    struct workload_common c = {
        .ns = bare->ns,
        .cluster = b->mesh.cluster_id,
        .network = b->mesh.network,
        .owner_name = bare->name,
        .owner_type = "pod",
        .canonical_name = bare->name,
        .canonical_revision = "latest",
        .app = bare->name,
        .version = "latest",
    };
    struct workload w = {
        .leaf.key = slice_str(bare->uid),
        .name = bare->name,
        .node = bare->node,
        .common = &c,
        .ips = &bare->ip,
        .n_ips = 1,
        .is_ready = true,
        .is_healthy = true,
        .is_host_network = builder_is_node_ip(b, &bare->ip),
    };
    node_locality(b, w.node, &c.locality);
    if (bare->zone[0] != '\0') {
        c.locality.zone = bare->zone;
    }
    return workload_new(&w);
}

// SPDX-License-Identifier: Apache-2.0
#include "common/mesh/kobj_schema.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "common/mesh/kobj_kind.h"
#include "common/mesh/schema_json.h"

#define DRAFT_7 "http://json-schema.org/draft-07/schema#"
#define LABEL(name, list, what)                                                                    \
    { &kobj_meta_msg, "labels", name, list, what }
#define ANNOTATION(name, list, what)                                                               \
    { &kobj_meta_msg, "annotations", name, list, what }

// docs/CONFIG.md has them, too, with the objects on which they count.
static const struct schema_json_word words[] = {
    LABEL("istio.io/dataplane-mode", "ambient none",
          "Namespace, Pod: ambient enrols; none takes a Pod out"),
    LABEL(
        "istio.io/use-waypoint", "waypoint none",
        "Service, ServiceEntry, Pod, WorkloadEntry, Namespace: the waypoint by its Gateway's name; "
        "none: no waypoint"),
    LABEL("istio.io/use-waypoint-namespace", NULL, "the namespace of istio.io/use-waypoint"),
    LABEL("istio.io/use-waypoint-canary", NULL,
          "Service, ServiceEntry, Namespace: a second waypoint for a share of new connections"),
    LABEL("istio.io/use-waypoint-canary-namespace", NULL,
          "the namespace of istio.io/use-waypoint-canary"),
    LABEL("istio.io/waypoint-for", "service workload all none",
          "Gateway, GatewayClass: what is carried through the waypoint; service when it is absent"),
    LABEL("istio.io/rev", NULL, "the revision of istiod"),
    LABEL("ztun.io/use-waypoint", "auto",
          "Namespace: binds its waypoint to those services that need one"),
    LABEL("networking.istio.io/tunnel", "http", "Pod, WorkloadEntry: it is reached by HBONE"),
    LABEL("networking.istio.io/enable-autoallocate-ip", "true false",
          "ServiceEntry: false: no automatic address"),
    LABEL("service.istio.io/canonical-name", NULL, "Pod: the service that it is, in telemetry"),
    LABEL("service.istio.io/canonical-revision", NULL, "Pod: its revision, in telemetry"),
    LABEL("topology.istio.io/subzone", NULL, "Node: the last part of its pods' locality"),
    ANNOTATION("ztun.io/netns", NULL,
               "Pod: its network namespace, a name under /run/netns or a path"),
    ANNOTATION("ztun.io/nameservers", NULL,
               "Pod: upstream DNS servers, ip or ip:port, a comma between each"),
    ANNOTATION("ztun.io/replicas", NULL, "Gateway, in a lab: how many waypoints it has"),
    ANNOTATION("ztun.io/ip-families", "IPv4 IPv6 IPv4,IPv6", "Pod, in a lab: its addresses"),
    ANNOTATION("ambient.istio.io/redirection", "enabled", "Pod: it is reached by HBONE"),
    ANNOTATION("ambient.istio.io/dns-capture", "true false", "Pod: false: its DNS is left alone"),
    ANNOTATION("ambient.istio.io/bypass-inbound-capture", "true false",
               "Pod: true: plain connections to it are not redirected"),
    ANNOTATION(
        "ambient.istio.io/waypoint-inbound-binding", "NONE PROXY",
        "Gateway, GatewayClass: its pods speak no HBONE, the node ends the tunnels for them; "
        "`/` and a port may follow"),
    ANNOTATION("ambient.istio.io/xfcc-include-client-identity", "true false",
               "Gateway: requests get x-forwarded-client-cert"),
    ANNOTATION("istio.io/reroute-virtual-interfaces", NULL,
               "Pod: TCP that enters these interfaces is captured as the pod's own"),
    ANNOTATION("istio.io/use-waypoint-canary-weight", NULL,
               "Service, ServiceEntry, Namespace: percent of new connections for the canary"),
    ANNOTATION("istio.io/dry-run", "true false",
               "AuthorizationPolicy: true: it decides nothing, the log tells what it would"),
    ANNOTATION("networking.istio.io/traffic-distribution",
               "PreferSameZone PreferSameNode PreferClose",
               "Service, ServiceEntry, Namespace: where trafficDistribution is not set"),
};

bool kobj_schema_info(enum kobj_kind kind, const char **ret_group, const char **ret_versions) {
    const struct kobj_type *type = kobj_type_get(kind);

    if (type == NULL) {
        return false;
    }
    *ret_group = type->group;
    *ret_versions = type->versions;
    return true;
}

enum kobj_kind kobj_schema_find(const char *name) {
    for (int kind = 0; kind < KOBJ_N_KINDS; kind++) {
        const struct kobj_type *type = kobj_type_get((enum kobj_kind)kind);
        if (type == NULL) {
            continue;
        }
        size_t len = strlen(type->group);
        const char *rest = name;
        if (len > 0 && strncasecmp(name, type->group, len) == 0 && name[len] == '/') {
            rest = name + len + 1;
        }
        if (strcasecmp(rest, type->name) == 0) {
            return (enum kobj_kind)kind;
        }
    }
    return KOBJ_UNKNOWN;
}

// Items of an open array.
static void put_versions(struct json_out *out, const struct kobj_type *type) {
    struct slice rest = slice_str(type->versions), version;
    bool is_last = false;

    while (!is_last) {
        is_last = !slice_split(rest, ' ', &version, &rest);
        version = is_last ? rest : version;
        char *text = xasprintf("%s%s%.*s", type->group, type->group[0] != '\0' ? "/" : "",
                               (int)version.len, (const char *)version.ptr);
        json_out_string(out, slice_str(text));
        free(text);
    }
}

// apiVersion, kind and metadata, which kobj.c reads itself.
static void put_head(void *arg, struct schema_json *s) {
    const struct kobj_type *type = arg;
    struct json_out *out = s->out;

    json_out_kv_object(out, "apiVersion");
    json_out_kv_array(out, "enum");
    put_versions(out, type);
    json_out_end(out);
    json_out_end(out);
    json_out_kv_object(out, "kind");
    json_out_kv_str(out, "const", type->name);
    json_out_end(out);
    json_out_kv_object(out, "metadata");
    json_out_kv_str(out, "type", "object");
    json_out_kv_array(out, "allOf");
    schema_json_ref(s, &kobj_meta_msg, "metadata");
    json_out_begin_object(out);
    json_out_kv_array(out, "required");
    json_out_string(out, SLICE_LIT("name"));
    json_out_end(out);
    json_out_kv_object(out, "properties");
    json_out_kv_object(out, "name");
    json_out_kv_str(out, "type", "string");
    json_out_kv_u64(out, "minLength", 1);
    json_out_end(out);
    json_out_end(out);
    json_out_end(out);
    json_out_end(out);
    json_out_end(out);
}

static void put_type(struct schema_json *s, const struct kobj_type *type) {
    static const char *const required[] = {"apiVersion", "kind", "metadata", NULL};

    json_out_kv_str(s->out, "type", "object");
    schema_json_fields(s, type->msg, type->name, put_head, (void *)type, required);
}

struct document {
    struct json_out json;
    struct schema_json schema;
    struct buf *buf;
};

static void begin(struct document *doc, struct buf *buf, const char *title) {
    doc->buf = buf;
    json_out_init(&doc->json, buf, true);
    schema_json_init(&doc->schema, &doc->json, words, ARRAY_LEN(words));
    json_out_begin_object(&doc->json);
    json_out_kv_str(&doc->json, "$schema", DRAFT_7);
    json_out_kv_str(&doc->json, "title", title);
}

static void end(struct document *doc) {
    json_out_end(&doc->json);
    buf_append_byte(doc->buf, '\n');
    schema_json_fini(&doc->schema);
}

void kobj_schema_kind(enum kobj_kind kind, struct buf *out) {
    const struct kobj_type *type = kobj_type_get(kind);
    struct document doc;

    CHECK(type != NULL);
    begin(&doc, out, type->name);
    put_type(&doc.schema, type);
    json_out_kv_object(&doc.json, "definitions");
    schema_json_defs(&doc.schema);
    json_out_end(&doc.json);
    end(&doc);
}

void kobj_schema_mesh(struct buf *out) {
    struct document doc;

    begin(&doc, out, "MeshConfig");
    json_out_kv_str(&doc.json, "type", "object");
    schema_json_fields(&doc.schema, &mesh_config_msg, "MeshConfig", NULL, NULL, NULL);
    json_out_kv_object(&doc.json, "definitions");
    schema_json_defs(&doc.schema);
    json_out_end(&doc.json);
    end(&doc);
}

// {"required": [...], "properties": {"kind": ..., "apiVersion": ...}}: it is of this kind.
static void put_is_kind(struct json_out *out, const struct kobj_type *type) {
    bool is_core = type->group[0] == '\0';
    char *pattern = is_core ? xstrdup("^[^/]*$") : xasprintf("^%s/", type->group);

    json_out_kv_object(out, "if");
    json_out_kv_array(out, "required");
    json_out_string(out, SLICE_LIT("kind"));
    json_out_string(out, SLICE_LIT("apiVersion"));
    json_out_end(out);
    json_out_kv_object(out, "properties");
    json_out_kv_object(out, "kind");
    json_out_kv_str(out, "const", type->name);
    json_out_end(out);
    json_out_kv_object(out, "apiVersion");
    json_out_kv_str(out, "pattern", pattern);
    json_out_end(out);
    json_out_end(out);
    json_out_end(out);
    free(pattern);
}

static void put_then(struct json_out *out, const char *name) {
    char *ref = xasprintf("#/definitions/%s", name);

    json_out_kv_object(out, "then");
    json_out_kv_str(out, "$ref", ref);
    json_out_end(out);
    free(ref);
}

static const char list_parts[] = "{\"required\": [\"kind\", \"items\"], \"properties\": "
                                 "{\"kind\": {\"type\": \"string\", \"pattern\": \"List$\"}, "
                                 "\"items\": {\"type\": [\"array\", \"null\"]}}}";
// Items of a list of one kind ("PodList") may leave out what they are.
static const char list_items[] =
    "{\"properties\": {\"items\": {\"items\": {\"type\": \"object\", "
    "\"if\": {\"required\": [\"kind\"]}, \"then\": {\"$ref\": \"#\"}}}}, "
    "\"if\": {\"properties\": {\"kind\": {\"const\": \"List\"}}}, "
    "\"then\": {\"properties\": {\"items\": {\"items\": {\"$ref\": \"#\"}}}}}";

// "kind" may be any text; those that are read are what an editor offers.
static void put_kinds(struct json_out *out) {
    json_out_kv_object(out, "properties");
    json_out_kv_object(out, "kind");
    json_out_kv_str(out, "type", "string");
    json_out_kv_array(out, "anyOf");
    json_out_begin_object(out);
    json_out_kv_array(out, "enum");
    for (int kind = 0; kind < KOBJ_N_KINDS; kind++) {
        const struct kobj_type *type = kobj_type_get((enum kobj_kind)kind);
        if (type != NULL) {
            json_out_string(out, slice_str(type->name));
        }
    }
    json_out_end(out);
    json_out_end(out);
    json_out_raw(out, SLICE_LIT("{}"));
    json_out_end(out);
    json_out_end(out);
    json_out_end(out);
}

void kobj_schema_all(struct buf *out) {
    struct document doc;
    struct json_out *json = &doc.json;

    begin(&doc, out, "what ztun reads");
    json_out_kv_str(json, "type", "object");
    put_kinds(json);
    json_out_key(json, SLICE_LIT("if"));
    json_out_raw(json, slice_str(list_parts));
    json_out_key(json, SLICE_LIT("then"));
    json_out_raw(json, slice_str(list_items));
    json_out_kv_object(json, "else");
    json_out_key(json, SLICE_LIT("required"));
    json_out_raw(json, SLICE_LIT("[\"apiVersion\", \"kind\"]"));
    json_out_kv_array(json, "allOf");
    for (int kind = 0; kind < KOBJ_N_KINDS; kind++) {
        const struct kobj_type *type = kobj_type_get((enum kobj_kind)kind);
        if (type != NULL) {
            json_out_begin_object(json);
            put_is_kind(json, type);
            put_then(json, type->name);
            json_out_end(json);
        }
    }
    json_out_end(json);
    json_out_end(json);
    json_out_kv_object(json, "definitions");
    for (int kind = 0; kind < KOBJ_N_KINDS; kind++) {
        const struct kobj_type *type = kobj_type_get((enum kobj_kind)kind);
        if (type != NULL) {
            json_out_kv_object(json, type->name);
            put_type(&doc.schema, type);
            json_out_end(json);
        }
    }
    schema_json_defs(&doc.schema);
    json_out_end(json);
    end(&doc);
}

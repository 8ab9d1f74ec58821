// SPDX-License-Identifier: Apache-2.0
#include "common/mesh/kobj.h"

#include <stdio.h>
#include <stdlib.h>

#include "common/base/hash.h"
#include "common/mesh/config_doc.h"
#include "common/mesh/intern.h"
#include "common/mesh/kobj_kind.h"

enum { OBJECT_TEXT_MAX = 63 + 1 + 63 + 1 + 253 + 1 }; // "Kind ns/name"

// What is known of a document before its fields are decoded.
struct head {
    const struct kobj_type *type; // NULL: not read
    enum kobj_kind kind;
    const char *api_version, *kind_name;
    struct slice group;
    const struct cfg_node *metadata; // NULL: none
    char object[OBJECT_TEXT_MAX];
    char version[128]; // the one that was probably meant, where there is none
};

static const char *const unhashed[] = {"managedFields", "resourceVersion", NULL};

const char *kobj_map_get(const struct kobj_map *map, const char *key) {
    for (uint32_t i = 0; i < map->n; i++) {
        const char *own = map->items[i].key;
        if (own[0] == key[0] && strcmp(own, key) == 0) { // most differ at once
            return map->items[i].value;
        }
    }
    return NULL;
}

bool kobj_map_matches(const struct kobj_map *selector, const struct kobj_map *labels) {
    for (uint32_t i = 0; i < selector->n; i++) {
        const char *value = kobj_map_get(labels, selector->items[i].key);
        if (value == NULL || strcmp(value, selector->items[i].value) != 0) {
            return false;
        }
    }
    return true;
}

static bool expr_matches(const struct kobj_selector_expr *expr, const struct kobj_map *labels) {
    const char *value = kobj_map_get(labels, expr->key);
    bool is_in = false;

    for (uint32_t i = 0; value != NULL && i < expr->n_values; i++) {
        is_in = is_in || strcmp(expr->values[i], value) == 0;
    }
    switch (expr->op) {
    case SELECTOR_IN:
        return is_in;
    case SELECTOR_NOT_IN:
        return !is_in;
    case SELECTOR_EXISTS:
        return value != NULL;
    case SELECTOR_NOT_EXISTS:
        return value == NULL;
    default:
        return false;
    }
}

bool kobj_label_selector_matches(const struct kobj_label_selector *sel,
                                 const struct kobj_map *labels) {
    for (uint32_t i = 0; i < sel->n_exprs; i++) {
        if (!expr_matches(&sel->exprs[i], labels)) {
            return false;
        }
    }
    return kobj_map_matches(&sel->match_labels, labels);
}

// The head: type and name

static char *append(char *to, const char *text, size_t max) {
    size_t len = strnlen(text, max);

    memcpy(to, text, len);
    to[len] = '\0';
    return to + len;
}

// Each object has one, though few are ever shown: no printf here.
static void describe(struct head *head) {
    const char *ns = cfg_str(cfg_get(head->metadata, "namespace"), "");
    const char *name = cfg_str(cfg_get(head->metadata, "name"), "");

    if (ns[0] == '\0' && head->type != NULL && head->type->is_namespaced) {
        ns = "default";
    }
    char *end = append(head->object, head->kind_name, 63);
    if (name[0] == '\0') {
        return;
    }
    end = append(end, " ", 1);
    if (ns[0] != '\0') {
        end = append(append(end, ns, 63), "/", 1);
    }
    append(end, name, 253);
}

static bool has_version(const char *versions, struct slice version) {
    struct slice rest = slice_str(versions), head;

    while (slice_split(rest, ' ', &head, &rest)) {
        if (slice_eq(head, version)) {
            return true;
        }
    }
    return slice_eq(rest, version);
}

static bool read_head(struct schema_ctx *ctx, const struct cfg_node *doc, struct head *head) {
    const struct cfg_node *kind = cfg_get(doc, "kind"), *version = cfg_get(doc, "apiVersion");
    struct slice version_only;

    *head = (struct head){.kind_name = cfg_str(kind, ""),
                          .api_version = cfg_str(version, ""),
                          .metadata = cfg_get(doc, "metadata")};
    ctx->object = head->kind_name;
    if (head->kind_name[0] == '\0') {
        schema_error(ctx, doc, "kind", "is required");
    }
    if (head->api_version[0] == '\0') {
        const char *hint = kobj_kind_version(head->kind_name, head->version);
        schema_error(ctx, doc, "apiVersion", "is required%s%s", hint[0] != '\0' ? ": " : "", hint);
        head->api_version = hint; // what else is wrong is worth to know
    }
    if (head->api_version[0] == '\0' || head->kind_name[0] == '\0') {
        return false;
    }
    version_only = slice_str(head->api_version);
    slice_split(version_only, '/', &head->group, &version_only);
    head->type = kobj_type_find(head->group, head->kind_name);
    head->kind = head->type != NULL ? (enum kobj_kind)head->type->kind
                                    : kobj_kind_other(head->group, head->kind_name);
    describe(head);
    ctx->object = head->object;
    if (head->type != NULL && !has_version(head->type->versions, version_only)) {
        schema_error(ctx, version, "apiVersion", "`%.80s` is not a version of %s, which has %s",
                     head->api_version, head->kind_name, head->type->versions);
    }
    return true;
}

static void report_kind(struct schema_ctx *ctx, const struct cfg_node *doc,
                        const struct head *head) {
    const struct cfg_node *at = cfg_get(doc, "kind");
    char text[256];

    const char *successor =
        head->type == NULL ? kobj_kind_retired(head->group, head->kind_name) : NULL;
    if (head->kind == KOBJ_WAYPOINT) {
        schema_warn(ctx, at, "", "%s", kobj_kind_note(head->group, head->kind_name));
    } else if (successor != NULL) {
        schema_error(ctx, at, "kind", "%.60s of %.60s was retired: %s", head->kind_name,
                     head->api_version, successor);
    } else if (head->kind == KOBJ_UNKNOWN) {
        snprintf(text, sizeof(text), "no kind `%.60s` is known in %.120s; it is ignored",
                 head->kind_name, head->api_version);
        schema_report(ctx, CONFIG_WARNING, at, "kind", text, kobj_kind_hint(head->kind_name));
    }
}

static const struct cfg_node *metadata_of(const struct head *head) {
    static const struct cfg_node empty = {.type = CFG_MAP};
    return head->metadata != NULL && head->metadata->type != CFG_NULL ? head->metadata : &empty;
}

static void check_meta(struct schema_ctx *ctx, const struct cfg_node *doc, const struct head *head,
                       struct kobj_meta *ret_meta) {
    struct schema_path path = {.name = "metadata"};
    const struct cfg_node *node = metadata_of(head);

    ctx->path = &path;
    schema_check_at(ctx, &kobj_meta_msg, node, ret_meta);
    const struct cfg_node *name = cfg_get(node, "name");
    bool has_name = name != NULL && name->type != CFG_NULL && (name->type != CFG_STRING || name->n);
    // Files of tools that are no objects of a cluster look like them, but have no name.
    bool needs_name = head->type != NULL || head->kind == KOBJ_WAYPOINT;
    if (node->type == CFG_MAP && !has_name && needs_name) {
        schema_error(ctx, head->metadata != NULL ? head->metadata : doc, "name", "is required");
    }
    bool is_label = head->kind == KOBJ_SERVICE || head->kind == KOBJ_NAMESPACE;
    if (is_label && ret_meta->name[0] != '\0' && schema_check_dns_name(ret_meta->name) == NULL &&
        schema_check_dns_label(ret_meta->name) != NULL) {
        schema_error(ctx, name, "name", "`%.60s` %s", ret_meta->name,
                     schema_check_dns_label(ret_meta->name));
    }
    ctx->path = NULL;
}

// The object

static const struct cfg_pair *find_mesh(const struct cfg_node *doc, const struct head *head) {
    const struct cfg_node *data = cfg_get(doc, "data");
    const char *name = cfg_str(cfg_get(head->metadata, "name"), "");

    if (head->kind != KOBJ_CONFIG_MAP || data == NULL || data->type != CFG_MAP ||
        strncmp(name, "istio", 5) != 0 || (name[5] != '\0' && name[5] != '-')) {
        return NULL;
    }
    for (uint32_t i = 0; i < data->n; i++) {
        if (strcmp(data->pairs[i].key.text, "mesh") == 0) {
            return &data->pairs[i];
        }
    }
    return NULL;
}

// Parses and checks data.mesh; its tree or NULL.
static const struct cfg_node *check_mesh(struct schema_ctx *ctx, const struct cfg_node *doc,
                                         const struct head *head) {
    struct schema_path data = {.name = "data"}, mesh = {.parent = &data, .name = "mesh"};
    const struct cfg_pair *pair = find_mesh(doc, head);
    const struct cfg_node *tree = pair != NULL ? mesh_config_parse(ctx, pair, ctx->scratch) : NULL;

    if (tree != NULL) {
        ctx->path = &mesh;
        schema_check(ctx, &mesh_config_msg, tree);
        ctx->path = NULL;
    }
    return tree;
}

static const char *put_text(struct schema_ctx *ctx, struct slice text) {
    char *copy = ctx->texts + ctx->n_texts;

    if (text.len > 0) {
        memcpy(copy, text.ptr, text.len);
    }
    copy[text.len] = '\0';
    ctx->n_texts += text.len + 1;
    return copy;
}

static void finish(struct kobj *obj) {
    void *spec = (void *)obj->spec; // ours until it is handed out

    switch ((enum kobj_kind)obj->kind) {
    case KOBJ_NODE:
        kobj_node_finish(spec);
        break;
    case KOBJ_POD:
        kobj_pod_finish(spec);
        break;
    case KOBJ_SERVICE:
        kobj_service_finish(spec);
        break;
    case KOBJ_DEPLOYMENT:
    case KOBJ_REPLICA_SET:
    case KOBJ_STATEFUL_SET:
        kobj_pod_spec_finish(&((struct kobj_workload_set *)spec)->tmpl.spec);
        break;
    case KOBJ_VIRTUAL_SERVICE:
        kobj_virtual_service_finish(spec);
        break;
    case KOBJ_HTTP_ROUTE:
    case KOBJ_GRPC_ROUTE:
        kobj_route_finish(spec);
        break;
    case KOBJ_NAMESPACE:
    case KOBJ_SERVICE_ACCOUNT:
        obj->spec = NULL;
        break;
    default:
        break;
    }
    if (obj->meta.ns[0] == '\0' && kobj_is_namespaced(obj->kind)) {
        obj->meta.ns = "default";
    }
}

static struct kobj *build(struct schema_ctx *ctx, const struct cfg_node *doc,
                          const struct head *head, const struct cfg_node *mesh) {
    size_t texts_len = ctx->n_texts;

    if (head->type == NULL) {
        texts_len += strlen(head->api_version) + head->group.len + strlen(head->kind_name) + 3;
    } else {
        texts_len += strlen(head->api_version) + 1;
    }
    size_t structs_len = ctx->n_structs;
    struct kobj *obj = xcalloc(1, sizeof(*obj) + structs_len + texts_len);
    ctx->structs = (char *)(obj + 1);
    ctx->texts = ctx->structs + structs_len;
    ctx->n_structs = ctx->n_texts = 0;
    obj->refs = 1;
    obj->kind = (uint8_t)head->kind;
    obj->file = intern(ctx->file);
    obj->api_version = put_text(ctx, slice_str(head->api_version));
    obj->group = head->type != NULL ? head->type->group : put_text(ctx, head->group);
    obj->kind_name =
        head->type != NULL ? head->type->name : put_text(ctx, slice_str(head->kind_name));
    obj->pos = (struct kobj_pos){doc->line, doc->col};
    schema_fill_at(ctx, &kobj_meta_msg, metadata_of(head), &obj->meta);
    if (head->type != NULL) {
        obj->spec = schema_fill(ctx, head->type->msg, doc);
    }
    if (mesh != NULL) {
        ((struct kobj_config_map *)obj->spec)->mesh = schema_fill(ctx, &mesh_config_msg, mesh);
    }
    CHECK(ctx->n_structs <= structs_len && ctx->n_texts <= texts_len);
    finish(obj);
    return obj;
}

static enum schema_unknown unknown_fields(const struct kobj_type *type, unsigned flags) {
    if ((flags & KOBJ_FROM_API) == 0 || type == NULL || strncmp(type->group, "security.", 9) == 0) {
        return SCHEMA_UNKNOWN_ERROR;
    }
    bool is_own = strchr(type->group, '.') == NULL || strcmp(type->group, "discovery.k8s.io") == 0;
    // MeshConfig is a text, which no API server has looked at.
    return is_own && type->kind != KOBJ_CONFIG_MAP ? SCHEMA_UNKNOWN_SILENT : SCHEMA_UNKNOWN_WARNING;
}

struct kobj *kobj_decode(const struct cfg_node *doc, const char *file, unsigned flags,
                         struct arena *scratch, struct config_errors *errors) {
    struct schema_ctx ctx = {.file = file,
                             .object = "",
                             .errors = errors,
                             .scratch = scratch,
                             .is_lean = (flags & KOBJ_LEAN) != 0};
    const struct cfg_node *mesh = NULL;
    struct kobj_meta meta;
    struct head head;

    if (doc->type != CFG_MAP) {
        schema_error(&ctx, doc, "", "expected an object (a map with apiVersion and kind)");
        return NULL;
    }
    if (!read_head(&ctx, doc, &head)) {
        return NULL;
    }
    if (head.type != NULL && head.type->kind == KOBJ_SECRET && (flags & KOBJ_SECRETS) != 0) {
        ctx.is_lean = false;
    }
    ctx.unknown = unknown_fields(head.type, flags);
    report_kind(&ctx, doc, &head);
    check_meta(&ctx, doc, &head, &meta);
    if (head.type != NULL) {
        schema_check(&ctx, head.type->msg, doc);
        mesh = check_mesh(&ctx, doc, &head);
    }
    // is_bad: a duplicate key or the like, reported by the reader of the document.
    if (ctx.n_errors > 0 || doc->is_bad || ctx.is_full) {
        return NULL;
    }
    struct kobj *obj = build(&ctx, doc, &head, mesh);
    obj->hash = cfg_hash(doc, unhashed);
    if ((flags & KOBJ_KEEP_TREE) != 0) {
        obj->tree = cfg_clone(doc);
    }
    return obj;
}

bool kobj_id_of(const struct cfg_node *doc, struct kobj_id *ret_id) {
    const struct cfg_node *metadata = cfg_get(doc, "metadata");
    struct slice version;
    struct kobj_id id = {.kind = cfg_str(cfg_get(doc, "kind"), ""),
                         .ns = cfg_str(cfg_get(metadata, "namespace"), ""),
                         .name = cfg_str(cfg_get(metadata, "name"), "")};

    slice_split(slice_str(cfg_str(cfg_get(doc, "apiVersion"), "")), '/', &id.group, &version);
    if (id.kind[0] == '\0' || id.name[0] == '\0') {
        return false;
    }
    const struct kobj_type *type = kobj_type_find(id.group, id.kind);
    if (id.ns[0] == '\0' && type != NULL && type->is_namespaced) {
        id.ns = "default";
    }
    *ret_id = id;
    return true;
}

struct kobj_id kobj_id(const struct kobj *obj) {
    return (struct kobj_id){slice_str(obj->group), obj->kind_name, obj->meta.ns, obj->meta.name};
}

uint64_t kobj_id_hash(const struct kobj_id *id) {
    uint64_t parts[4] = {hash_bytes(id->group), hash_bytes(slice_str(id->kind)),
                         hash_bytes(slice_str(id->ns)), hash_bytes(slice_str(id->name))};
    return hash_bytes(slice_make(parts, sizeof(parts)));
}

bool kobj_id_eq(const struct kobj_id *a, const struct kobj_id *b) {
    return strcmp(a->name, b->name) == 0 && strcmp(a->ns, b->ns) == 0 &&
           strcmp(a->kind, b->kind) == 0 && slice_eq(a->group, b->group);
}

struct kobj *kobj_ref(struct kobj *obj) {
    obj->refs++;
    return obj;
}

void kobj_unref(struct kobj *obj) {
    if (obj == NULL || --obj->refs > 0) {
        return;
    }
    if (obj->kind == KOBJ_SECRET) {
        const struct kobj_secret *secret = obj->secret;
        for (uint32_t i = 0; i < secret->n_data; i++) {
            wipe((void *)secret->data[i].value.ptr, secret->data[i].value.len);
        }
    }
    intern_unref(obj->file);
    free(obj->tree);
    free(obj);
}

struct kobj_pos kobj_pos_of(const struct kobj *obj, const char *path) {
    const struct cfg_node *deepest;

    if (obj->tree == NULL) {
        return obj->pos;
    }
    cfg_find(obj->tree, path, &deepest);
    return (struct kobj_pos){deepest->line, deepest->col};
}

bool kobj_pod_is_ready(const struct kobj *pod) {
    const struct kobj_pod_status *status = &pod->pod->status;

    if (pod->meta.deletion_timestamp[0] != '\0') {
        return false;
    }
    for (uint32_t i = 0; i < status->n_conditions; i++) {
        if (strcmp(status->conditions[i].type, "Ready") == 0) {
            return strcmp(status->conditions[i].status, "True") == 0;
        }
    }
    return false;
}

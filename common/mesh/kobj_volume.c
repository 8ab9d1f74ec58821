// SPDX-License-Identifier: Apache-2.0
//
// Volumes of a pod. Those that a local process can be given are decoded, the others named.
#include "common/mesh/kobj_pod_priv.h"

static const struct schema_field item_fields[] = {
    F_STR(struct kobj_key_to_path, key, "key", .flags = SCHEMA_REQUIRED),
    F_STR(struct kobj_key_to_path, path, "path", .flags = SCHEMA_REQUIRED),
    F_INT(struct kobj_key_to_path, mode, "mode", 0, 0777, .absent = -1),
};
static const struct schema_msg item_msg = {
    SCHEMA_MSG(struct kobj_key_to_path, item_fields),
    .known = "user",
};

static const struct schema_field field_ref_fields[] = {
    F_STR(struct kobj_downward_file, field_path, "fieldPath", .flags = SCHEMA_REQUIRED),
};
static const struct schema_msg field_ref_msg = {
    SCHEMA_MSG(struct kobj_downward_file, field_ref_fields),
    .known = "apiVersion",
};
static const struct schema_field resource_ref_fields[] = {
    F_STR(struct kobj_downward_file, resource, "resource", .flags = SCHEMA_REQUIRED),
    F_STR(struct kobj_downward_file, resource_container, "containerName"),
    F_QUANTITY(struct kobj_downward_file, resource_divisor, "divisor"),
};
static const struct schema_msg resource_ref_msg = {
    SCHEMA_MSG(struct kobj_downward_file, resource_ref_fields)};
static const struct schema_field downward_file_fields[] = {
    F_STR(struct kobj_downward_file, path, "path", .flags = SCHEMA_REQUIRED),
    F_FLAT("fieldRef", &field_ref_msg, .oneof = 1),
    F_FLAT("resourceFieldRef", &resource_ref_msg, .oneof = 1),
    F_INT(struct kobj_downward_file, mode, "mode", 0, 0777, .absent = -1),
};
static const struct schema_msg downward_file_msg = {
    SCHEMA_MSG(struct kobj_downward_file, downward_file_fields),
    .known = "user",
};

// Sources, as volumes of their own and as parts of a projected one.

static const struct schema_field config_map_fields[] = {
    F_STR(struct kobj_projection, name, "name"),
    F_LIST(struct kobj_projection, items, "items", &item_msg),
    F_BOOL(struct kobj_projection, is_optional, "optional"),
    F_INT(struct kobj_projection, default_mode, "defaultMode", 0, 0777, .absent = -1),
};
static const struct schema_msg config_map_msg = {
    SCHEMA_MSG(struct kobj_projection, config_map_fields),
    .known = "defaultUser",
};
static const struct schema_field secret_fields[] = {
    F_STR(struct kobj_projection, name, "secretName"),
    F_LIST(struct kobj_projection, items, "items", &item_msg),
    F_BOOL(struct kobj_projection, is_optional, "optional"),
    F_INT(struct kobj_projection, default_mode, "defaultMode", 0, 0777, .absent = -1),
};
static const struct schema_msg secret_msg = {
    SCHEMA_MSG(struct kobj_projection, secret_fields),
    .known = "defaultUser",
};
static const struct schema_field downward_fields[] = {
    F_LIST(struct kobj_projection, files, "items", &downward_file_msg),
    F_INT(struct kobj_projection, default_mode, "defaultMode", 0, 0777, .absent = -1),
};
static const struct schema_msg downward_msg = {
    SCHEMA_MSG(struct kobj_projection, downward_fields),
    .known = "defaultUser",
};
static const struct schema_field token_fields[] = {
    F_STR(struct kobj_projection, path, "path", .flags = SCHEMA_REQUIRED),
    F_STR(struct kobj_projection, audience, "audience"),
    F_INT(struct kobj_projection, expiration_s, "expirationSeconds", 0, INT64_MAX),
};
static const struct schema_msg token_msg = {
    SCHEMA_MSG(struct kobj_projection, token_fields),
    .known = "user",
};

#define SOURCE(name, msg, value)                                                                   \
    F_FLAT(name, msg, .oneof = 1, F_TAG(struct kobj_projection, type, value))
static const struct schema_field projection_fields[] = {
    SOURCE("configMap", &config_map_msg, PROJECT_CONFIG_MAP),
    SOURCE("secret", &config_map_msg, PROJECT_SECRET), // `name` here, not `secretName`
    SOURCE("downwardAPI", &downward_msg, PROJECT_DOWNWARD),
    SOURCE("serviceAccountToken", &token_msg, PROJECT_TOKEN),
    {.name = "clusterTrustBundle",
     .type = SCHEMA_ANY,
     .oneof = 1,
     F_TAG(struct kobj_projection, type, PROJECT_OTHER)},
    {.name = "podCertificate",
     .type = SCHEMA_ANY,
     .oneof = 1,
     F_TAG(struct kobj_projection, type, PROJECT_OTHER)},
};
static const struct schema_msg projection_msg = {
    SCHEMA_MSG(struct kobj_projection, projection_fields)};

static const struct schema_field projected_fields[] = {
    F_LIST(struct kobj_volume, sources, "sources", &projection_msg),
    F_INT(struct kobj_volume, default_mode, "defaultMode", 0, 0777, .absent = -1),
};
static const struct schema_msg projected_msg = {
    SCHEMA_MSG(struct kobj_volume, projected_fields),
    .known = "defaultUser",
};
static const struct schema_field empty_dir_fields[] = {
    F_STR(struct kobj_volume, medium, "medium"),
    F_QUANTITY(struct kobj_volume, size_limit, "sizeLimit"),
};
static const struct schema_msg empty_dir_msg = {
    SCHEMA_MSG(struct kobj_volume, empty_dir_fields),
    .known = "mode",
};
static const struct schema_field host_path_fields[] = {
    F_STR(struct kobj_volume, host_path, "path", .flags = SCHEMA_REQUIRED),
    F_STR(struct kobj_volume, host_path_type, "type"),
};
static const struct schema_msg host_path_msg = {SCHEMA_MSG(struct kobj_volume, host_path_fields)};

#define KIND(value)                                                                                \
    .oneof = 1, F_NAMED(struct kobj_volume, type_name), F_TAG(struct kobj_volume, type, value)
#define OTHER(field)                                                                               \
    { .name = (field), .type = SCHEMA_ANY, .oneof = 1, F_NAMED(struct kobj_volume, type_name) }
static const struct schema_field volume_fields[] = {
    F_STR(struct kobj_volume, name, "name", .flags = SCHEMA_REQUIRED,
          .check = schema_check_dns_label),
    F_ONE(struct kobj_volume, sources, "configMap", &config_map_msg, KIND(VOLUME_CONFIG_MAP)),
    F_ONE(struct kobj_volume, sources, "secret", &secret_msg, KIND(VOLUME_SECRET)),
    F_ONE(struct kobj_volume, sources, "downwardAPI", &downward_msg, KIND(VOLUME_DOWNWARD)),
    F_FLAT("projected", &projected_msg, KIND(VOLUME_PROJECTED)),
    F_FLAT("emptyDir", &empty_dir_msg, KIND(VOLUME_EMPTY_DIR)),
    F_FLAT("hostPath", &host_path_msg, KIND(VOLUME_HOST_PATH)),
    OTHER("persistentVolumeClaim"),
    OTHER("csi"),
    OTHER("ephemeral"),
    OTHER("image"),
    OTHER("nfs"),
    OTHER("iscsi"),
    OTHER("fc"),
    OTHER("gcePersistentDisk"),
    OTHER("awsElasticBlockStore"),
    OTHER("gitRepo"),
    OTHER("glusterfs"),
    OTHER("rbd"),
    OTHER("flexVolume"),
    OTHER("cinder"),
    OTHER("cephfs"),
    OTHER("flocker"),
    OTHER("azureFile"),
    OTHER("azureDisk"),
    OTHER("vsphereVolume"),
    OTHER("quobyte"),
    OTHER("photonPersistentDisk"),
    OTHER("portworxVolume"),
    OTHER("scaleIO"),
    OTHER("storageos"),
};
const struct schema_msg kobj_volume_msg = {SCHEMA_MSG(struct kobj_volume, volume_fields)};

void kobj_pod_spec_finish(struct kobj_pod_spec *spec) {
    for (uint32_t i = 0; i < spec->n_volumes; i++) {
        struct kobj_volume *volume = (struct kobj_volume *)&spec->volumes[i];
        if (volume->n_sources != 1 || volume->type == VOLUME_PROJECTED) {
            continue;
        }
        struct kobj_projection *source = (struct kobj_projection *)&volume->sources[0];
        volume->default_mode = source->default_mode;
        source->type = volume->type == VOLUME_CONFIG_MAP ? PROJECT_CONFIG_MAP
                       : volume->type == VOLUME_SECRET   ? PROJECT_SECRET
                                                         : PROJECT_DOWNWARD;
    }
}

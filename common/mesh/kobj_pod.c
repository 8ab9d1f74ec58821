// SPDX-License-Identifier: Apache-2.0
//
// Containers and what is in them: environment, ports, probes.
#include "common/mesh/kobj_pod_priv.h"

const struct schema_name kobj_protocol_names[] = {
    {"TCP", PROTOCOL_TCP}, {"UDP", PROTOCOL_UDP}, {"SCTP", PROTOCOL_SCTP}, {NULL, 0}};

// Environment

static const struct schema_field key_ref_fields[] = {
    F_STR(struct kobj_key_ref, name, "name"),
    F_STR(struct kobj_key_ref, key, "key", .flags = SCHEMA_REQUIRED),
    F_BOOL(struct kobj_key_ref, is_optional, "optional"),
};
static const struct schema_msg key_ref_msg = {SCHEMA_MSG(struct kobj_key_ref, key_ref_fields)};

static const struct schema_field env_field_ref_fields[] = {
    F_STR(struct kobj_env, field_path, "fieldPath", .flags = SCHEMA_REQUIRED),
};
static const struct schema_msg env_field_ref_msg = {
    SCHEMA_MSG(struct kobj_env, env_field_ref_fields),
    .known = "apiVersion",
};
static const struct schema_field env_resource_ref_fields[] = {
    F_STR(struct kobj_env, resource, "resource", .flags = SCHEMA_REQUIRED),
    F_STR(struct kobj_env, resource_container, "containerName"),
    F_QUANTITY(struct kobj_env, resource_divisor, "divisor"),
};
static const struct schema_msg env_resource_ref_msg = {
    SCHEMA_MSG(struct kobj_env, env_resource_ref_fields)};

static const struct schema_field env_source_fields[] = {
    F_FLAT("fieldRef", &env_field_ref_msg, .oneof = 1),
    F_FLAT("resourceFieldRef", &env_resource_ref_msg, .oneof = 1),
    F_PTR(struct kobj_env, config_map, "configMapKeyRef", &key_ref_msg, .oneof = 1),
    F_PTR(struct kobj_env, secret, "secretKeyRef", &key_ref_msg, .oneof = 1),
    {.name = "fileKeyRef", .type = SCHEMA_ANY, .oneof = 1},
};
static const struct schema_msg env_source_msg = {SCHEMA_MSG(struct kobj_env, env_source_fields)};

static void check_env(struct schema_ctx *ctx, const struct cfg_node *node, const void *out) {
    const struct kobj_env *env = out;
    const struct cfg_node *from = cfg_get(node, "valueFrom");

    if (env->value[0] != '\0' && from != NULL && from->type == CFG_MAP) {
        schema_error(ctx, from, "valueFrom", "excludes `value`: only one of them may be set");
    }
}
static const struct schema_field env_fields[] = {
    F_STR(struct kobj_env, name, "name", .flags = SCHEMA_REQUIRED),
    F_STR(struct kobj_env, value, "value"),
    F_FLAT("valueFrom", &env_source_msg),
};
static const struct schema_msg env_msg = {SCHEMA_MSG(struct kobj_env, env_fields),
                                          .check = check_env};

static const struct schema_field env_from_map_fields[] = {
    F_STR(struct kobj_env_from, config_map, "name"),
    F_BOOL(struct kobj_env_from, is_optional, "optional"),
};
static const struct schema_msg env_from_map_msg = {
    SCHEMA_MSG(struct kobj_env_from, env_from_map_fields)};
static const struct schema_field env_from_secret_fields[] = {
    F_STR(struct kobj_env_from, secret, "name"),
    F_BOOL(struct kobj_env_from, is_optional, "optional"),
};
static const struct schema_msg env_from_secret_msg = {
    SCHEMA_MSG(struct kobj_env_from, env_from_secret_fields)};
static const struct schema_field env_from_fields[] = {
    F_STR(struct kobj_env_from, prefix, "prefix"),
    F_FLAT("configMapRef", &env_from_map_msg, .oneof = 1),
    F_FLAT("secretRef", &env_from_secret_msg, .oneof = 1),
};
static const struct schema_msg env_from_msg = {SCHEMA_MSG(struct kobj_env_from, env_from_fields)};

// Probes and hooks. Each handler's fields are members of struct kobj_handler, which is the first
// member of struct kobj_probe, so that both can take them in.

static const char *check_port_or_name(const char *text) {
    return schema_check_port_name(text);
}

static const char *check_header_name(const char *text) { // a token, RFC 9110 5.6.2
    for (const char *c = text; *c != '\0'; c++) {
        bool is_alnum =
            (*c >= 'a' && *c <= 'z') || (*c >= 'A' && *c <= 'Z') || (*c >= '0' && *c <= '9');
        if (!is_alnum && strchr("-_.", *c) == NULL) {
            return "is not a header's name";
        }
    }
    return NULL;
}

static const struct schema_field header_fields[] = {
    F_STR(struct kobj_kv, key, "name", .flags = SCHEMA_REQUIRED, .check = check_header_name),
    F_STR(struct kobj_kv, value, "value"),
};
static const struct schema_msg header_msg = {SCHEMA_MSG(struct kobj_kv, header_fields)};

static const struct schema_field exec_fields[] = {
    F_STRS(struct kobj_handler, command, "command"),
};
static const struct schema_msg exec_msg = {SCHEMA_MSG(struct kobj_handler, exec_fields)};
static const struct schema_field http_get_fields[] = {
    F_IOS(struct kobj_handler, port, "port", .flags = SCHEMA_REQUIRED, .min = 1, .max = 65535,
          .check = check_port_or_name),
    F_STR(struct kobj_handler, path, "path"),
    F_STR(struct kobj_handler, host, "host"),
    F_STR(struct kobj_handler, scheme, "scheme"),
    {.name = "httpHeaders",
     .type = SCHEMA_LIST,
     .off = offsetof(struct kobj_handler, headers.items),
     .off_n = offsetof(struct kobj_handler, headers.n),
     .msg = &header_msg},
};
static const struct schema_msg http_get_msg = {
    SCHEMA_MSG(struct kobj_handler, http_get_fields),
    .known = "protocol",
};
static const struct schema_field tcp_socket_fields[] = {
    F_IOS(struct kobj_handler, port, "port", .flags = SCHEMA_REQUIRED, .min = 1, .max = 65535,
          .check = check_port_or_name),
    F_STR(struct kobj_handler, host, "host"),
};
static const struct schema_msg tcp_socket_msg = {
    SCHEMA_MSG(struct kobj_handler, tcp_socket_fields)};
static const struct schema_field grpc_fields[] = {
    F_IOS(struct kobj_handler, port, "port", .flags = SCHEMA_REQUIRED, .min = 1, .max = 65535,
          .check = check_port_or_name),
    F_STR(struct kobj_handler, service, "service"),
};
static const struct schema_msg grpc_msg = {
    SCHEMA_MSG(struct kobj_handler, grpc_fields),
    .known = "mode",
};
static const struct schema_field sleep_fields[] = {
    F_INT(struct kobj_handler, sleep_s, "seconds", 0, INT32_MAX, .flags = SCHEMA_REQUIRED),
};
static const struct schema_msg sleep_msg = {SCHEMA_MSG(struct kobj_handler, sleep_fields)};

#define HANDLER_FIELDS(S)                                                                          \
    F_FLAT("exec", &exec_msg, .oneof = 1, F_TAG(struct kobj_handler, type, HANDLER_EXEC)),         \
        F_FLAT("httpGet", &http_get_msg, .oneof = 1,                                               \
               F_TAG(struct kobj_handler, type, HANDLER_HTTP)),                                    \
        F_FLAT("tcpSocket", &tcp_socket_msg, .oneof = 1,                                           \
               F_TAG(struct kobj_handler, type, HANDLER_TCP))

static void check_handler(struct schema_ctx *ctx, const struct cfg_node *node, const void *out) {
    const struct kobj_handler *handler = out;

    if (handler->type == HANDLER_NONE) {
        schema_error(ctx, node, "", "needs a handler: exec, httpGet, tcpSocket, grpc or sleep");
    }
}
static const struct schema_field hook_fields[] = {
    HANDLER_FIELDS(struct kobj_handler),
    F_FLAT("sleep", &sleep_msg, .oneof = 1, F_TAG(struct kobj_handler, type, HANDLER_SLEEP)),
};
static const struct schema_msg hook_msg = {SCHEMA_MSG(struct kobj_handler, hook_fields),
                                           .check = check_handler};

_Static_assert(offsetof(struct kobj_probe, handler) == 0, "handler tables serve probes, too");
static const struct schema_field probe_fields[] = {
    HANDLER_FIELDS(struct kobj_probe),
    F_FLAT("grpc", &grpc_msg, .oneof = 1, F_TAG(struct kobj_handler, type, HANDLER_GRPC)),
    F_INT(struct kobj_probe, initial_delay_s, "initialDelaySeconds", 0, INT32_MAX),
    F_INT(struct kobj_probe, timeout_s, "timeoutSeconds", 0, INT32_MAX, .absent = 1),
    F_INT(struct kobj_probe, period_s, "periodSeconds", 0, INT32_MAX, .absent = 10),
    F_INT(struct kobj_probe, success_threshold, "successThreshold", 0, INT32_MAX, .absent = 1),
    F_INT(struct kobj_probe, failure_threshold, "failureThreshold", 0, INT32_MAX, .absent = 3),
};
const struct schema_msg kobj_probe_msg = {
    SCHEMA_MSG(struct kobj_probe, probe_fields),
    .known = "terminationGracePeriodSeconds",
    .check = check_handler,
};

static const struct schema_field lifecycle_fields[] = {
    F_PTR(struct kobj_container, post_start, "postStart", &hook_msg),
    F_PTR(struct kobj_container, pre_stop, "preStop", &hook_msg),
};
static const struct schema_msg lifecycle_msg = {
    SCHEMA_MSG(struct kobj_container, lifecycle_fields),
    .known = "stopSignal",
};

// Container

static const struct schema_field port_fields[] = {
    F_INT(struct kobj_container_port, port, "containerPort", 1, 65535, .flags = SCHEMA_REQUIRED),
    F_STR(struct kobj_container_port, name, "name", .check = schema_check_port_name),
    F_ENUM(struct kobj_container_port, protocol, "protocol", kobj_protocol_names),
    F_INT(struct kobj_container_port, host_port, "hostPort", 0, 65535),
    F_STR(struct kobj_container_port, host_ip, "hostIP"),
};
static const struct schema_msg port_msg = {SCHEMA_MSG(struct kobj_container_port, port_fields)};

static const struct schema_field mount_fields[] = {
    F_STR(struct kobj_volume_mount, name, "name", .flags = SCHEMA_REQUIRED),
    F_STR(struct kobj_volume_mount, mount_path, "mountPath", .flags = SCHEMA_REQUIRED),
    F_STR(struct kobj_volume_mount, sub_path, "subPath"),
    F_STR(struct kobj_volume_mount, sub_path_expr, "subPathExpr"),
    F_BOOL(struct kobj_volume_mount, is_read_only, "readOnly"),
};
static const struct schema_msg mount_msg = {
    SCHEMA_MSG(struct kobj_volume_mount, mount_fields),
    .known = "recursiveReadOnly mountPropagation bindMountOptions",
};

static const struct schema_field resources_fields[] = {
    F_QUANTITIES(struct kobj_container, requests, "requests"),
    F_QUANTITIES(struct kobj_container, limits, "limits"),
};
static const struct schema_msg resources_msg = {
    SCHEMA_MSG(struct kobj_container, resources_fields),
    .known = "claims",
};
static const struct schema_field security_fields[] = {
    F_INT(struct kobj_container, run_as_user, "runAsUser", 0, INT64_MAX, .absent = -1),
    F_INT(struct kobj_container, run_as_group, "runAsGroup", 0, INT64_MAX, .absent = -1),
};
static const struct schema_msg security_msg = {
    SCHEMA_MSG(struct kobj_container, security_fields),
    .known = "capabilities privileged seLinuxOptions windowsOptions runAsNonRoot "
             "readOnlyRootFilesystem allowPrivilegeEscalation procMount seccompProfile "
             "appArmorProfile",
};

#define L .flags = SCHEMA_LAUNCH
static const struct schema_field container_fields[] = {
    F_STR(struct kobj_container, name, "name", .flags = SCHEMA_REQUIRED | SCHEMA_LAUNCH,
          .check = schema_check_dns_label),
    F_STR(struct kobj_container, image, "image", L),
    F_STR(struct kobj_container, working_dir, "workingDir", L),
    F_STR(struct kobj_container, restart_policy, "restartPolicy", L),
    F_STRS(struct kobj_container, command, "command", L),
    F_STRS(struct kobj_container, args, "args", L),
    F_LIST(struct kobj_container, env, "env", &env_msg, L),
    F_LIST(struct kobj_container, env_from, "envFrom", &env_from_msg, L),
    F_LIST(struct kobj_container, ports, "ports", &port_msg, .max = 1000),
    F_LIST(struct kobj_container, volume_mounts, "volumeMounts", &mount_msg, L, .max = 500),
    F_PTR(struct kobj_container, liveness, "livenessProbe", &kobj_probe_msg, L),
    F_PTR(struct kobj_container, readiness, "readinessProbe", &kobj_probe_msg, L),
    F_PTR(struct kobj_container, startup, "startupProbe", &kobj_probe_msg, L),
    F_FLAT("lifecycle", &lifecycle_msg, L),
    F_FLAT("resources", &resources_msg, L),
    F_FLAT("securityContext", &security_msg, L),
};
#define CONTAINER_KNOWN                                                                            \
    "resizePolicy restartPolicyRules volumeDevices terminationMessagePath "                        \
    "terminationMessagePolicy imagePullPolicy stdin stdinOnce tty"
const struct schema_msg kobj_container_msg = {
    SCHEMA_MSG(struct kobj_container, container_fields),
    .known = CONTAINER_KNOWN,
};

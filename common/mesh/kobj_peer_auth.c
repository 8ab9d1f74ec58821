// SPDX-License-Identifier: Apache-2.0
//
// PeerAuthentication.
#include <stdio.h>

#include "common/mesh/kobj_priv.h"

static const struct schema_name modes[] = {{"UNSET", MTLS_UNSET},
                                           {"DISABLE", MTLS_DISABLE},
                                           {"PERMISSIVE", MTLS_PERMISSIVE},
                                           {"STRICT", MTLS_STRICT},
                                           {NULL, 0}};

static const char *check_no_wildcard(const char *text) {
    return strchr(text, '*') == NULL ? NULL : "must not hold `*`: selectors match whole values";
}
static const char *check_port_key(const char *text) {
    uint64_t port;
    return slice_to_u64(slice_str(text), 65535, &port) && port != 0 ? NULL
                                                                    : "is not a port: 1 to 65535";
}

static void warn_disable(struct schema_ctx *ctx, const struct cfg_node *node, const char *sub) {
    schema_warn(ctx, node, sub,
                "DISABLE is taken as PERMISSIVE: plain text is accepted, mutual TLS too");
}

static const struct schema_field mode_fields[] = {
    F_ENUM(struct kobj_peer_auth, mode, "mode", modes),
};
static const struct schema_msg mode_msg = {SCHEMA_MSG(struct kobj_peer_auth, mode_fields)};

static const struct schema_field port_fields[] = {
    F_INT(struct kobj_port_mtls, port, "<key>", 1, 65535),
    F_ENUM(struct kobj_port_mtls, mode, "mode", modes),
};
static const struct schema_msg port_msg = {SCHEMA_MSG(struct kobj_port_mtls, port_fields)};

static const struct schema_field selector_fields[] = {
    F_MAP(struct kobj_peer_auth, selector, "matchLabels", .check = check_no_wildcard,
          .check_key = check_no_wildcard),
};
static const struct schema_msg selector_msg = {SCHEMA_MSG(struct kobj_peer_auth, selector_fields)};

static void check_spec(struct schema_ctx *ctx, const struct cfg_node *node, const void *out) {
    const struct kobj_peer_auth *policy = out;
    const struct cfg_node *ports = cfg_get(node, "portLevelMtls");
    char path[64];

    if (policy->mode == MTLS_DISABLE) {
        // NULL: the key is there twice, which is an error of its own.
        const struct cfg_node *mode = cfg_find(node, "mtls.mode", NULL);
        warn_disable(ctx, mode != NULL ? mode : node, "mtls.mode");
    }
    if (ports == NULL || ports->type != CFG_MAP) {
        return;
    }
    if (policy->selector.n == 0) {
        schema_error(ctx, ports, "portLevelMtls",
                     "needs a `selector`: a policy for a namespace or the mesh has no ports");
    }
    for (uint32_t i = 0; i < policy->n_ports; i++) {
        if (policy->ports[i].mode == MTLS_DISABLE) {
            snprintf(path, sizeof(path), "portLevelMtls.%u.mode", policy->ports[i].port);
            warn_disable(ctx, &ports->pairs[i].value, path);
        }
    }
}

static const struct schema_field spec_fields[] = {
    F_FLAT("selector", &selector_msg, F_TAG(struct kobj_peer_auth, has_selector, 1)),
    F_FLAT("mtls", &mode_msg),
    F_KEYED(struct kobj_peer_auth, ports, "portLevelMtls", &port_msg, .flags = SCHEMA_NONEMPTY,
            .check_key = check_port_key),
};
static const struct schema_msg spec_msg = {
    SCHEMA_MSG(struct kobj_peer_auth, spec_fields),
    .check = check_spec,
};
static const struct schema_field peer_auth_fields[] = {
    KOBJ_HEAD,
    F_FLAT("spec", &spec_msg),
    F_ANY("status"),
};
const struct schema_msg kobj_peer_auth_msg = {SCHEMA_MSG(struct kobj_peer_auth, peer_auth_fields)};

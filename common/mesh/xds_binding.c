// SPDX-License-Identifier: Apache-2.0
#include "common/mesh/xds_binding.h"

#include <string.h>

#include "common/proto/hbone.h"

void xds_binding_set(struct xds_binding *binding, struct list *all,
                     const char *const keys[XDS_BINDINGS]) {
    bool is_any = false;
    xds_binding_clear(binding);
    for (size_t i = 0; i < XDS_BINDINGS; i++) {
        struct ip ip;
        if (keys[i] != NULL && ip_parse(slice_str(keys[i]), &ip)) {
            binding->ips[i] = ip;
            is_any = true;
        }
    }
    if (is_any) {
        list_push_back(all, &binding->node);
    }
}

void xds_binding_clear(struct xds_binding *binding) {
    list_del(&binding->node);
    memset(binding->ips, 0, sizeof(binding->ips));
}

bool xds_binding_resolve(const struct xds_binding *binding, const struct snapshot *snap,
                         const char *keys[XDS_BINDINGS], char buf[XDS_BINDINGS][IP_TEXT_MAX]) {
    bool is_other = false;
    for (size_t i = 0; i < XDS_BINDINGS; i++) {
        struct addr addr = {.ip = binding->ips[i], .port = HBONE_PORT};
        if (!ip_is_set(&addr.ip)) {
            continue;
        }
        const struct service *service = snapshot_service_by_vip(snap, &addr.ip);
        if (service != NULL) { // of those that share it, the one that has the port
            service = snapshot_service_by_addr(snap, &addr);
        }
        const char *key =
            service != NULL ? (const char *)service->leaf.key.ptr : ip_text(&addr.ip, buf[i]);
        is_other = is_other || strcmp(key, keys[i]) != 0;
        keys[i] = key;
    }
    return is_other;
}

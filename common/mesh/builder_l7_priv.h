// SPDX-License-Identifier: Apache-2.0
//
// Inside the builder: which L7 objects concern which service.
//
// Every L7 object is in one table under what it names: the hosts of VirtualServices and
// DestinationRules, the delegates of VirtualServices, the targets of routes and policies, the other
// namespaces of routes' backends. So both
// questions (which objects concern this service, which services does this object concern) are
// look-ups; only wildcard hosts and policies for a Gateway look at all services.
#pragma once

#include "common/mesh/builder_priv.h"

enum { L7_HOST_MAX = 512 };

struct l7_list { // of objects, borrowed from their records
    struct record **items;
    const char **hosts; // the host by which a VirtualService was found
    size_t n, cap;
};
void l7_list_fini(struct l7_list *list);

// Keeps the table as record->obj is now; the caller then marks.
void builder_l7_index(struct mesh_builder *b, struct record *record);

// Appends in the orders that builder_l7.h promises. `host` is a service's, in lower case;
// `proxy_ns` the namespace of the proxy that serves it.
void builder_l7_virtual_services(struct mesh_builder *b, const char *host, const char *ns,
                                 const char *proxy_ns, struct l7_list *list);
void builder_l7_destination_rules(struct mesh_builder *b, const char *host, const char *ns,
                                  const char *proxy_ns, struct l7_list *list);
void builder_l7_routes(struct mesh_builder *b, const struct record *service, struct l7_list *list);
// Policies that target the service's object or its waypoint.
void builder_l7_authz(struct mesh_builder *b, const struct record *service, struct l7_list *list);
void builder_l7_own_authz(struct mesh_builder *b, const struct record *service,
                          struct l7_list *list); // only those of its object
// An object that makes the service need a waypoint, or NULL: one that L4 does not enforce.
const struct record *builder_l7_need(struct mesh_builder *b, const struct record *service);
// A VirtualService that `from` may delegate to, or NULL.
const struct kobj *builder_l7_delegate(struct mesh_builder *b, const struct kobj *from,
                                       const char *ns, const char *name);

// Calls for each service that one entry of the object touches; with `is_delegate` for those whose
// VirtualServices delegate to it, or whose routes need it as their ReferenceGrant.
typedef void l7_touch(struct mesh_builder *b, struct bsvc *service, bool is_delegate);
void builder_l7_each_touched(struct mesh_builder *b, const struct record *record, l7_touch *touch);

// SPDX-License-Identifier: Apache-2.0
//
// L4 authorization (ambient-protocols §6.2), pure: DENY first; no ALLOW policy allows; else one
// must match. Policies that are dry-run decide nothing, but the verdict says when they would deny.
#pragma once

#include "common/mesh/snapshot.h"

struct rbac_request {
    struct ip source_ip;
    struct slice source_identity; // "spiffe://..." or empty (plaintext)
    struct addr destination; // the real target, not 15008
};

struct rbac_verdict {
    bool is_allowed;
    const struct policy *policy; // that decided; NULL: "no ALLOW policy" or "no ALLOW matched"
    int rule; // index of the rule that matched, -1
    // For logs and explain: "explicitly denied by: ns/name (rule 0)", "allow policies exist, but
    // none allowed", "allowed by: ns/name (rule 0)", "no allow policies".
    char reason[192];
    // Allowed now, but not if the dry-run policies were enforced; the policy is the DENY that
    // matches, or the first ALLOW (none of which matches).
    bool dry_run_denies;
    const struct policy *dry_run_policy;
    // The dry-run policies that match first, of those in front of a DENY that decides.
    const struct policy *dry_deny, *dry_allow;
};

void rbac_check(const struct snapshot *snap, const struct workload *destination,
                const struct rbac_request *request, struct rbac_verdict *ret_verdict);

// At a waypoint: the policies whose targetRefs name what is called, the waypoint's Gateway, or (in
// the root namespace) its class. `service` NULL: called by a workload's own address.
struct rbac_target {
    const struct service *service;
    const char *gateway_ns, *gateway;
    const char *gateway_class; // "": not known, so that it may be any that waypoints have
};
void rbac_check_waypoint(const struct snapshot *snap, const struct rbac_target *target,
                         const struct rbac_request *request, struct rbac_verdict *ret_verdict);

// Index of the first rule of one policy that matches, or -1.
int rbac_policy_match(const struct mesh_settings *mesh, const struct policy *policy,
                      const struct rbac_request *request);

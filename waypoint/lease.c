// SPDX-License-Identifier: Apache-2.0
#include "waypoint/lease.h"

#include <string.h>

#include "common/base/check.h"
#include "common/base/clock.h"

static const json_t *spec_of(const json_t *object) {
    return json_object_get(object, "spec");
}

const char *lease_holder(const struct lease *lease) {
    const char *holder = json_string_value(json_object_get(spec_of(lease->seen), "holderIdentity"));
    return holder != NULL ? holder : "";
}

void lease_init(struct lease *lease, const char *ns, const char *name, const char *identity,
                struct rand *rand) {
    *lease = (struct lease){
        .ns = ns, .name = name, .identity = identity, .rand = rand, .step = LEASE_GET};
}

void lease_fini(struct lease *lease) {
    json_decref(lease->seen);
    lease->seen = NULL;
}

static void plan(struct lease *lease, enum lease_step step, uint64_t at) {
    lease->step = step;
    lease->due = at;
}

bool lease_is_held(struct lease *lease, uint64_t now) {
    if (lease->is_leader && now >= lease->renewed_at + LEASE_RENEW_MS * NS_PER_MS) {
        lease->is_leader = false;
    }
    return lease->is_leader;
}

enum lease_step lease_next(struct lease *lease, uint64_t now) {
    if (lease->is_released || now < lease->due) {
        return LEASE_WAIT;
    }
    enum lease_step step = lease->step;
    if (step != LEASE_WAIT) {
        plan(lease, LEASE_WAIT, UINT64_MAX); // for its answer
    }
    return step;
}

json_t *lease_body(struct lease *lease, uint64_t now, const char *now_text) {
    json_t *body =
        lease->seen != NULL
            ? json_deep_copy(lease->seen)
            : json_pack("{s:s, s:s, s:{s:s, s:s}}", "apiVersion", "coordination.k8s.io/v1", "kind",
                        "Lease", "metadata", "name", lease->name, "namespace", lease->ns);
    json_t *spec = json_object_get(body, "spec");
    if (!json_is_object(spec)) {
        spec = json_object();
        json_object_set_new(body, "spec", spec);
    }
    if (strcmp(lease_holder(lease), lease->identity) != 0) {
        json_int_t n = json_integer_value(json_object_get(spec, "leaseTransitions"));
        json_object_set_new(spec, "leaseTransitions",
                            json_integer(lease->seen != NULL ? n + 1 : 0));
        json_object_set_new(spec, "acquireTime", json_string(now_text));
    }
    json_object_set_new(spec, "holderIdentity", json_string(lease->identity));
    json_object_set_new(spec, "leaseDurationSeconds", json_integer(LEASE_DURATION_S));
    json_object_set_new(spec, "renewTime", json_string(now_text));
    lease->written_at = now;
    return body;
}

static uint64_t retry_at(const struct lease *lease, uint64_t now) {
    uint64_t extra = rand_below(lease->rand, LEASE_RETRY_MS / 5 + 1);
    return now + (LEASE_RETRY_MS + extra) * NS_PER_MS;
}

static uint64_t duration_ns(const struct lease *lease) {
    json_int_t s =
        json_integer_value(json_object_get(spec_of(lease->seen), "leaseDurationSeconds"));
    return (uint64_t)(s > 0 && s <= 3600 ? s : LEASE_DURATION_S) * NS_PER_SEC;
}

static void see(struct lease *lease, uint64_t now, const json_t *object) {
    if (!json_equal(spec_of(object), spec_of(lease->seen))) {
        lease->seen_at = now;
    }
    json_decref(lease->seen);
    lease->seen = object != NULL ? json_deep_copy(object) : NULL;
}

void lease_got(struct lease *lease, uint64_t now, const json_t *object) {
    see(lease, now, object);
    const char *holder = lease_holder(lease);
    bool is_ours = strcmp(holder, lease->identity) == 0;
    bool is_free = holder[0] == '\0' || is_ours || now >= lease->seen_at + duration_ns(lease);
    lease->is_leader = lease->is_leader && is_ours;
    if (object == NULL) {
        plan(lease, LEASE_CREATE, now);
    } else if (is_free) {
        plan(lease, LEASE_UPDATE, now);
    } else {
        plan(lease, LEASE_GET, retry_at(lease, now));
    }
}

void lease_written(struct lease *lease, uint64_t now, const json_t *object) {
    see(lease, now, object);
    lease->renewed_at = lease->written_at;
    lease->is_leader = strcmp(lease_holder(lease), lease->identity) == 0;
    plan(lease, LEASE_UPDATE, now + LEASE_RETRY_MS * NS_PER_MS);
}

// Whatever it was, the Lease is looked at again: another one may have it.
void lease_failed(struct lease *lease, uint64_t now) {
    plan(lease, LEASE_GET, retry_at(lease, now));
}

json_t *lease_release(struct lease *lease, const char *now_text) {
    bool is_held = lease->is_leader && lease->seen != NULL;
    lease->is_leader = false;
    lease->is_released = true;
    if (!is_held) {
        return NULL;
    }
    json_t *body = json_deep_copy(lease->seen), *spec = json_object_get(body, "spec");
    json_object_set_new(spec, "holderIdentity", json_string(""));
    json_object_set_new(spec, "leaseDurationSeconds", json_integer(1));
    json_object_set_new(spec, "renewTime", json_string(now_text));
    json_object_set_new(spec, "acquireTime", json_string(now_text));
    return body;
}

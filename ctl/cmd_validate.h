// SPDX-License-Identifier: Apache-2.0
//
// The parts of `ztunctl validate`: reading and printing (cmd_validate.c), an index of what there is
// (cmd_validate_index.c), and checks across documents, all of which give warnings or notes
// (cmd_validate_refs.c, cmd_validate_policy.c, cmd_validate_l7.c).
#pragma once

#include "common/base/arena.h"
#include "common/mesh/config_store.h"

// Something that runs: a Pod, the pods of a Deployment and the like, a WorkloadEntry.
struct validate_workload {
    const struct kobj *obj;
    const char *ns;
    const struct kobj_map *labels;
    const struct kobj_pod_spec *spec; // NULL: WorkloadEntry, or a kind whose pods we do not read
    const char *service_account;
    const char *labels_path; // where the labels are, for messages
};

struct validate_label { // index entry; sorted by hash
    uint64_t hash;
    uint32_t workload;
};

struct validate {
    struct config_store *store;
    struct config_errors errors;
    struct arena arena;
    uint32_t n_files, n_objects;
    // The index
    const struct kobj **objs; // by file and place
    uint32_t n_objs, cap_objs;
    struct validate_workload *workloads;
    uint32_t n_workloads, cap_workloads;
    struct validate_label *labels;
    uint32_t n_labels, cap_labels;
    uint32_t n_by_kind[KOBJ_N_KINDS];
    const char *root_ns;
};

// Fills the index from the store.
void validate_index_init(struct validate *v);
void validate_index_fini(struct validate *v);
// Calls fn for each workload in ns (NULL = in all) that the selector matches. Returns how many.
uint32_t validate_select(const struct validate *v, const char *ns, const struct kobj_map *selector,
                         void (*fn)(void *arg, const struct validate_workload *workload),
                         void *arg);
bool validate_has_namespace(const struct validate *v, const char *ns);
// The nearest namespace, "" = none near.
const char *validate_namespace_hint(const struct validate *v, const char *ns);
bool validate_has_service_account(const struct validate *v, const char *ns, const char *name);
// A Gateway API object or the like, which is not decoded.
bool validate_has_object(const struct validate *v, const char *group, const char *kind,
                         const char *ns, const char *name);
// True when the workload's containers declare this port (0 = any port at all).
bool validate_declares_port(const struct validate_workload *workload, uint16_t port);

// A warning about a field of an object.
void validate_warn(struct validate *v, const struct kobj *obj, const char *path, const char *hint,
                   const char *fmt, ...) PRINTF_LIKE(5, 6);
// A note: --strict does not count it.
void validate_note(struct validate *v, const struct kobj *obj, const char *path, const char *fmt,
                   ...) PRINTF_LIKE(4, 5);

void validate_refs(struct validate *v);
void validate_policies(struct validate *v);
void validate_l7(struct validate *v);

// False when no waypoint is bound to the Service or ServiceEntry. One that is bound on demand
// (ztun.io/use-waypoint: auto) counts, and so does a namespace that is not in the files.
bool validate_has_waypoint(const struct validate *v, const struct kobj *service);

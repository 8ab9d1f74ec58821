// SPDX-License-Identifier: Apache-2.0
//
// The helper thread of enrolment and the jobs it does, in the order they were given (sockets before
// rules, so that after a restart all pods listen before the first rule is looked at).
//
// The control thread makes a job, the helper runs it, the control thread gets it back by
// inpod_helper_take(), after a call of `wake` on the control loop. A job owns all that it points
// to.
#pragma once

#include "common/base/list.h"
#include "common/rt/loop.h"
#include "ztun/inpod.h"
#include "ztun/redirect.h"

enum inpod_job_kind {
    JOB_OPEN, // open the namespace, make the sockets
    JOB_RULES, // is it still the same namespace? install or repair the rules, or look for others'
    JOB_NAT_OFF, // no new captures
    JOB_RULES_OFF, // nothing of ours stays
    JOB_SWEEP, // has any of many pods another namespace, or other rules?
};

struct inpod_sweep_item {
    struct pod *pod;
    char *netns; // name or path; NULL: it has none, and stays the same
    uint32_t generation; // of the rules; 0 = do not look
    bool is_changed; // result
};

struct inpod_job {
    struct list node;
    enum inpod_job_kind kind;
    void *entry; // whom it is for; the control thread's
    struct pod_params params; // JOB_OPEN; a copy
    char *netns, *interfaces; // netns NULL: it has no name
    int netns_fd; // JOB_OPEN, without a name; -1 = none
    bool is_self; // JOB_OPEN
    struct pod *pod; // given; JOB_OPEN: result
    struct redirect_params rules;
    struct inpod_sweep_item *items; // JOB_SWEEP
    uint32_t n_items;
    // results
    int rc; // 0 or -errno
    char reason[256]; // when rc < 0
    bool is_other_netns; // JOB_RULES: the name leads elsewhere, or nowhere, now
    struct pod_sockets sets[POD_LISTENERS_MAX];
    uint32_t n_sets;
    struct redirect_result redirect;
    bool is_redirected; // JOB_RULES, when they are not ours
    uint32_t generation;
};

struct inpod_helper;

// Starts the thread; `config` is copied. `wake` is mailed to config->loop when jobs are done.
struct inpod_helper *inpod_helper_new(const struct inpod_config *config, void (*wake)(void *arg),
                                      void *arg);
// Waits for the job that is running; the others are dropped. No wake comes after it.
void inpod_helper_free(struct inpod_helper *helper);
struct inpod_job *inpod_job_new(enum inpod_job_kind kind, void *entry);
void inpod_job_free(struct inpod_job *job);
void inpod_helper_give(struct inpod_helper *helper, struct inpod_job *job);
struct inpod_job *inpod_helper_take(struct inpod_helper *helper); // a finished one, or NULL

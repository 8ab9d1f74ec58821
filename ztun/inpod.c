// SPDX-License-Identifier: Apache-2.0
//
// Control side of enrolment: a small state machine for each pod that is wanted, or not yet gone. At
// most one job of a pod is with the helper; when it comes back, step() decides what is next.
#include "ztun/inpod.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/base/hmap.h"
#include "common/obs/log.h"
#include "common/obs/metrics.h"
#include "common/rt/netns.h"
#include "ztun/inpod_job.h"

LOG_SCOPE(log_inpod, "inpod");

enum {
    SWEEP_S = 5, // how soon a namespace that vanished is noticed
    SWEEPS_PER_RULE_CHECK = 6,
    CUT_MS = 1500, // a removed pod's flows are gone after 1 s
};

// Delays of retries; the last one is repeated (as ztunnel's).
static const uint32_t retry_ms[] = {50, 200, 1000, 5000};

// What is asked for: where, and under which names.
struct want {
    struct pod_params params;
    char *netns; // name or path; NULL: handed over
    int netns_fd; // handed over, and not open yet; else -1
    struct netns_id netns_id; // handed over
    char *interfaces;
    bool no_dns_capture, bypass_inbound_capture;
};

struct entry {
    struct hmap_node node; // inpod->entries, by uid
    struct inpod *inpod;
    char *uid;
    struct want *want; // or NULL
    enum pod_down_reason down_reason; // when it is not wanted
    bool is_own; // it is in our own namespace
    bool is_self; // it is us
    struct pod *pod; // reference: what the workers serve, or NULL
    bool is_ruled; // its rules are in place, or somebody else's business
    bool is_bare; // they are that, and there are none
    bool is_busy; // a job is with the helper
    bool recheck; // look at namespace and rules again
    uint32_t generation; // of the rules
    uint32_t n_failures; // in a row
    char *reason; // of the last failure, "" = none
    struct timer retry;
};

// A pod that is no longer served but whose flows still need the second stage of its rules.
struct leaving {
    struct list node; // inpod->leaving
    struct inpod *inpod;
    struct pod *pod;
    struct timer cut; // armed: nobody will tell when it is drained
};

struct inpod {
    struct inpod_config config;
    struct inpod_helper *helper;
    struct hmap entries;
    struct list leaving;
    struct timer sweep;
    uint32_t n_sweeps;
    bool is_sweeping;
    uint64_t n_started, n_stopped;
};

static void step(struct entry *entry);

static char *copy_of(const char *text) {
    return text != NULL ? xstrdup(text) : NULL;
}

static void close_netns(struct want *want) {
    if (want->netns_fd >= 0) {
        close(want->netns_fd);
        want->netns_fd = -1;
    }
}

static void want_free(struct want *want) {
    if (want == NULL) {
        return;
    }
    close_netns(want);
    pod_params_fini(&want->params);
    free(want->netns);
    free(want->interfaces);
    free(want);
}

static bool is_up(const struct entry *entry) {
    return entry->pod != NULL && entry->is_ruled;
}

static struct entry *find(const struct inpod *inpod, const char *uid) {
    HMAP_EACH_WITH_HASH(pos, &inpod->entries, hash_bytes(slice_str(uid))) {
        struct entry *entry = HMAP_ITEM(pos, struct entry, node);
        if (strcmp(entry->uid, uid) == 0) {
            return entry;
        }
    }
    return NULL;
}

// Another entry that serves the same namespace as `pod`.
static struct entry *find_same_netns(const struct inpod *inpod, const struct pod *pod,
                                     const struct entry *except) {
    HMAP_EACH_SAFE(pos, &inpod->entries) {
        struct entry *entry = HMAP_ITEM(pos, struct entry, node);
        if (entry != except && entry->pod != NULL && entry->pod->netns_ino == pod->netns_ino &&
            entry->pod->netns_dev == pod->netns_dev) {
            return entry;
        }
    }
    return NULL;
}

static void give(struct entry *entry, struct inpod_job *job) {
    entry->is_busy = true;
    inpod_helper_give(entry->inpod->helper, job);
}

static void fail(struct entry *entry, const char *reason) {
    const struct inpod_config *config = &entry->inpod->config;
    if (entry->n_failures == 0 && config->on_failed != NULL) {
        config->on_failed(config->arg, entry->uid, reason);
    }
    if (strcmp(entry->reason, reason) != 0) {
        log_warn(&log_inpod, "pod is pending", LOG_STR("uid", entry->uid),
                 LOG_STR("reason", reason));
        free(entry->reason);
        entry->reason = xstrdup(reason);
    }
    size_t i = MIN((size_t)entry->n_failures, ARRAY_LEN(retry_ms) - 1);
    entry->n_failures++;
    struct loop *loop = entry->inpod->config.loop;
    timer_set(&loop->timers, &entry->retry, loop->now + retry_ms[i] * NS_PER_MS);
}

static void on_retry(struct timer *timer, uint64_t now) {
    step(CONTAINER_OF(timer, struct entry, retry));
}

static void succeed(struct entry *entry) {
    if (entry->n_failures != 0) {
        log_info(&log_inpod, "pod is no longer pending", LOG_STR("uid", entry->uid));
    }
    entry->n_failures = 0;
    entry->reason[0] = '\0';
    timer_clear(&entry->inpod->config.loop->timers, &entry->retry);
}

static void give_rules_job(struct inpod *inpod, enum inpod_job_kind kind, struct pod *pod) {
    struct inpod_job *job = inpod_job_new(kind, NULL);
    job->pod = pod_ref(pod);
    inpod_helper_give(inpod->helper, job);
}

static void leaving_done(struct leaving *leaving) {
    struct inpod *inpod = leaving->inpod;
    // A successor in the same namespace has made the rules its own.
    if (find_same_netns(inpod, leaving->pod, NULL) == NULL) {
        give_rules_job(inpod, JOB_RULES_OFF, leaving->pod);
    }
    timer_clear(&inpod->config.loop->timers, &leaving->cut);
    list_del(&leaving->node);
    pod_unref(leaving->pod);
    free(leaving);
}

static void leaving_cut(struct leaving *leaving) {
    struct loop *loop = leaving->inpod->config.loop;
    timer_set(&loop->timers, &leaving->cut, loop->now + CUT_MS * NS_PER_MS);
}

static void on_cut(struct timer *timer, uint64_t now) {
    leaving_done(CONTAINER_OF(timer, struct leaving, cut));
}

// What ztunnel counts as its proxies.
static void count(const struct entry *entry, uint64_t *counter, enum metric metric) {
    if (!entry->is_self) {
        ++*counter;
        metric_add(metric, 1);
    }
}

// The workers let go of the pod; the second stage of its rules goes when they have.
static void take_down(struct entry *entry, enum pod_down_reason reason) {
    struct inpod *inpod = entry->inpod;
    struct leaving *leaving = xcalloc(1, sizeof(*leaving));
    leaving->inpod = inpod;
    leaving->pod = entry->pod;
    list_push_back(&inpod->leaving, &leaving->node);
    timer_init(&leaving->cut, on_cut);
    entry->pod = NULL;
    entry->is_ruled = entry->is_bare = false;
    count(entry, &inpod->n_stopped, METRIC_PROXIES_STOPPED);
    log_debug(&log_inpod, "pod is no longer served", LOG_STR("uid", entry->uid),
              LOG_STR("reason", reason == POD_DOWN_REMOVED ? "removed" : "un-enrolled"));
    if (reason == POD_DOWN_REMOVED) {
        // The last thing the pod has to say is said in clear, or not at all: it is gone.
        if (inpod->config.redirect && find_same_netns(inpod, leaving->pod, NULL) == NULL) {
            give_rules_job(inpod, JOB_NAT_OFF, leaving->pod);
        }
        leaving_cut(leaving);
    }
    inpod->config.on_down(inpod->config.arg, leaving->pod, reason);
}

static void give_open(struct entry *entry) {
    const struct want *want = entry->want;
    struct inpod_job *job = inpod_job_new(JOB_OPEN, entry);
    pod_params_copy(&job->params, &want->params);
    job->netns = copy_of(want->netns);
    if (job->netns == NULL && (job->netns_fd = fcntl(want->netns_fd, F_DUPFD_CLOEXEC, 0)) < 0) {
        fail(entry, strerror(errno));
        inpod_job_free(job);
        return;
    }
    job->is_self = entry->is_self;
    give(entry, job);
}

static void give_rules(struct entry *entry) {
    const struct inpod_config *config = &entry->inpod->config;
    const struct want *want = entry->want;
    const struct pod *pod = entry->pod;
    struct inpod_job *job = inpod_job_new(JOB_RULES, entry);
    bool has_dns = config->dns_capture && !want->no_dns_capture;
    job->pod = pod_ref(entry->pod);
    job->netns = copy_of(want->netns);
    job->interfaces = copy_of(want->interfaces);
    job->rules = (struct redirect_params){
        .outbound_port = config->outbound_port,
        .inbound_port = config->inbound_port,
        .hbone_port = config->hbone_port,
        .dns_port = config->dns_port,
        .mark = config->mark,
        .has_v4 = pod->has_v4,
        .has_v6 = pod->has_v6,
        .dns_v4 = has_dns && pod->dns_v4,
        .dns_v6 = has_dns && pod->dns_v6,
        .original_source = pod->original_source,
        .bypass_inbound = want->bypass_inbound_capture,
        .probe_v4 = config->probe_v4,
        .probe_v6 = config->probe_v6,
    };
    if (entry->is_own) {
        memcpy(job->rules.free_ports, config->operator_ports, sizeof(job->rules.free_ports));
    }
    entry->recheck = false;
    give(entry, job);
}

static void entry_free(struct entry *entry) {
    struct inpod *inpod = entry->inpod;
    timer_clear(&inpod->config.loop->timers, &entry->retry);
    hmap_remove(&inpod->entries, &entry->node);
    want_free(entry->want);
    pod_unref(entry->pod);
    free(entry->uid);
    free(entry->reason);
    free(entry);
}

static void update_gauges(const struct inpod *inpod) {
    struct inpod_status status;
    inpod_get_status(inpod, &status);
    metric_set(METRIC_PROXIES_ACTIVE, status.n_active);
    metric_set(METRIC_PROXIES_PENDING, status.n_pending);
}

// What has to be done next for the pod. May free the entry.
static void step(struct entry *entry) {
    if (entry->want == NULL && entry->pod != NULL && entry->down_reason == POD_DOWN_REMOVED) {
        take_down(entry, POD_DOWN_REMOVED);
    }
    if (entry->is_busy || timer_is_armed(&entry->retry)) {
        return;
    }
    if (entry->want == NULL && entry->pod == NULL) {
        entry_free(entry);
    } else if (entry->want == NULL) {
        // Un-enrolled: the workers hear of it when nothing new is captured any more.
        struct inpod_job *job = inpod_job_new(JOB_NAT_OFF, entry);
        job->pod = pod_ref(entry->pod);
        give(entry, job);
    } else if (entry->pod == NULL) {
        give_open(entry);
    } else if (entry->recheck || !entry->is_ruled) {
        give_rules(entry);
    }
}

static bool is_wanted_in(const struct want *want, const struct inpod_job *job) {
    struct netns_id id = {0};
    if (job->pod != NULL) {
        id = (struct netns_id){.dev = job->pod->netns_dev, .inode = job->pod->netns_ino};
    }
    // A name is looked up again with the rules.
    return want->netns != NULL || job->pod == NULL || netns_id_eq(&want->netns_id, &id);
}

static void on_opened(struct entry *entry, struct inpod_job *job) {
    struct inpod *inpod = entry->inpod;
    if (entry->want == NULL) {
        return; // the job still owns the sockets, and closes them
    }
    if (!is_wanted_in(entry->want, job)) {
        return; // in another namespace, since
    }
    if (job->rc < 0) {
        fail(entry, job->reason);
        return;
    }
    struct entry *other = find_same_netns(inpod, job->pod, entry);
    if (other != NULL) {
        // Two identities in one namespace could not be told apart.
        char *reason = xasprintf("its network namespace is that of pod %s", other->uid);
        fail(entry, reason);
        free(reason);
        return;
    }
    entry->pod = job->pod; // the job's reference
    job->pod = NULL;
    close_netns(entry->want); // the pod has one
    count(entry, &inpod->n_started, METRIC_PROXIES_STARTED);
    log_debug(&log_inpod, "pod is served", LOG_STR("uid", entry->uid),
              LOG_STR("netns", entry->want->netns != NULL ? entry->want->netns : ""),
              LOG_BOOL("ipv6", entry->pod->has_v6),
              LOG_BOOL("original_source", entry->pod->original_source));
    uint32_t n_sets = job->n_sets;
    job->n_sets = 0;
    inpod->config.on_up(inpod->config.arg, entry->pod, job->sets, n_sets);
}

static void log_rules(const struct entry *entry, const struct redirect_result *result) {
    if (result->n_old_flows != 0) {
        log_warn(
            &log_inpod,
            "connections older than the pod's enrolment go on outside of the mesh: STRICT does "
            "not cover them",
            LOG_STR("uid", entry->uid), LOG_U64("connections", result->n_old_flows));
    }
    if (result->n_bad_interfaces != 0) {
        log_warn(&log_inpod, "istio.io/reroute-virtual-interfaces holds what is no interface name",
                 LOG_STR("uid", entry->uid));
    }
    if (result->status == REDIRECT_REPAIRED) {
        log_warn(&log_inpod, "redirection rules were not as they should be: repaired",
                 LOG_STR("uid", entry->uid));
    } else if (result->status == REDIRECT_FOREIGN) {
        log_info(&log_inpod, "redirection rules belong to a newer process",
                 LOG_STR("uid", entry->uid));
    }
}

// Whoever makes them may be a moment late; that they are there again is told, too.
static void look_at_rules(struct entry *entry, bool is_redirected) {
    if (!is_redirected && !entry->is_bare) {
        log_warn(&log_inpod, "nothing redirects the pod's connections: it is not in the mesh",
                 LOG_STR("uid", entry->uid));
    } else if (is_redirected && entry->is_bare) {
        log_info(&log_inpod, "the pod's connections are redirected now",
                 LOG_STR("uid", entry->uid));
    }
    entry->is_bare = !is_redirected;
}

static void on_ruled(struct entry *entry, struct inpod_job *job) {
    if (entry->pod != job->pod) {
        return; // removed meanwhile
    }
    if (job->is_other_netns) {
        take_down(entry, POD_DOWN_REMOVED);
        return;
    }
    if (job->rc < 0) {
        fail(entry, job->reason);
        return;
    }
    if (entry->is_self) {
        // has none
    } else if (entry->inpod->config.redirect) {
        log_rules(entry, &job->redirect);
    } else {
        look_at_rules(entry, job->is_redirected);
    }
    entry->is_ruled = true;
    // A successor's rules are its own business.
    entry->generation = job->redirect.status == REDIRECT_FOREIGN ? 0 : job->generation;
    succeed(entry);
}

static void on_nat_off(struct entry *entry, struct inpod_job *job) {
    if (entry->want != NULL || entry->pod != job->pod) {
        entry->recheck = true; // enrolled again meanwhile
    } else if (job->rc < 0) {
        fail(entry, job->reason);
    } else {
        take_down(entry, POD_DOWN_UNENROLLED);
    }
}

static void on_swept(struct inpod *inpod, const struct inpod_job *job) {
    inpod->is_sweeping = false;
    for (uint32_t i = 0; i < job->n_items; i++) {
        const struct inpod_sweep_item *item = &job->items[i];
        struct entry *entry = item->is_changed ? find(inpod, item->pod->uid) : NULL;
        if (entry != NULL && entry->pod == item->pod) {
            entry->recheck = true;
            step(entry);
        }
    }
}

static void on_job_done(struct inpod *inpod, struct inpod_job *job) {
    struct entry *entry = job->entry;
    if (job->kind == JOB_SWEEP) {
        on_swept(inpod, job);
    } else if (entry == NULL) {
        if (job->rc < 0) {
            log_warn(&log_inpod, "cannot remove redirection rules", LOG_STR("uid", job->pod->uid),
                     LOG_STR("reason", job->reason));
        }
    } else {
        entry->is_busy = false;
        switch (job->kind) {
        case JOB_OPEN:
            on_opened(entry, job);
            break;
        case JOB_RULES:
            on_ruled(entry, job);
            break;
        default:
            on_nat_off(entry, job);
        }
        step(entry);
    }
    inpod_job_free(job);
}

static void on_wake(void *arg) {
    struct inpod *inpod = arg;
    struct inpod_job *job;
    while ((job = inpod_helper_take(inpod->helper)) != NULL) {
        on_job_done(inpod, job);
    }
    update_gauges(inpod);
}

static void arm_sweep(struct inpod *inpod) {
    struct loop *loop = inpod->config.loop;
    if (inpod->entries.n_items != 0 && !timer_is_armed(&inpod->sweep)) {
        timer_set(&loop->timers, &inpod->sweep, loop->now + SWEEP_S * NS_PER_SEC);
    }
}

static void on_sweep(struct timer *timer, uint64_t now) {
    struct inpod *inpod = CONTAINER_OF(timer, struct inpod, sweep);
    arm_sweep(inpod);
    if (inpod->is_sweeping) {
        return;
    }
    bool with_rules = ++inpod->n_sweeps % SWEEPS_PER_RULE_CHECK == 0;
    bool is_look = with_rules && !inpod->config.redirect;
    struct inpod_job *job = inpod_job_new(JOB_SWEEP, NULL);
    job->items = xcalloc(inpod->entries.n_items + 1, sizeof(*job->items));
    HMAP_EACH_SAFE(pos, &inpod->entries) {
        struct entry *entry = HMAP_ITEM(pos, struct entry, node);
        if (!is_up(entry) || entry->want == NULL) {
            continue;
        }
        // The generation knows nothing of iptables' own tables. Who has no rules may get them soon.
        if (is_look || entry->is_bare) {
            entry->recheck = true;
            step(entry);
        } else {
            job->items[job->n_items++] = (struct inpod_sweep_item){
                .pod = pod_ref(entry->pod),
                .netns = copy_of(entry->want->netns),
                .generation = with_rules ? entry->generation : 0,
            };
        }
    }
    inpod->is_sweeping = true;
    inpod_helper_give(inpod->helper, job);
}

struct inpod *inpod_new(const struct inpod_config *config) {
    struct inpod *inpod = xcalloc(1, sizeof(*inpod));
    inpod->config = *config;
    hmap_init(&inpod->entries);
    list_init(&inpod->leaving);
    timer_init(&inpod->sweep, on_sweep);
    inpod->helper = inpod_helper_new(config, on_wake, inpod);
    return inpod;
}

void inpod_free(struct inpod *inpod) {
    if (inpod == NULL) {
        return;
    }
    inpod_helper_free(inpod->helper);
    HMAP_EACH_SAFE(pos, &inpod->entries) {
        entry_free(HMAP_ITEM(pos, struct entry, node));
    }
    LIST_EACH_SAFE(pos, &inpod->leaving) {
        struct leaving *leaving = LIST_ITEM(pos, struct leaving, node);
        timer_clear(&inpod->config.loop->timers, &leaving->cut);
        pod_unref(leaving->pod);
        free(leaving);
    }
    timer_clear(&inpod->config.loop->timers, &inpod->sweep);
    hmap_fini(&inpod->entries);
    free(inpod);
}

static struct entry *entry_of(struct inpod *inpod, const char *uid) {
    struct entry *entry = find(inpod, uid);
    if (entry == NULL) {
        entry = xcalloc(1, sizeof(*entry));
        entry->inpod = inpod;
        entry->uid = xstrdup(uid);
        entry->reason = xstrdup("");
        timer_init(&entry->retry, on_retry);
        hmap_insert(&inpod->entries, &entry->node, hash_bytes(slice_str(uid)));
        arm_sweep(inpod);
    }
    return entry;
}

static bool is_same_pod(const struct pod *pod, const struct want *want) {
    struct netns_id id = {.dev = pod->netns_dev, .inode = pod->netns_ino};
    const char *account = want->params.service_account;
    // A name is looked up again with the rules.
    return want->netns != NULL || (netns_id_eq(&id, &want->netns_id) &&
                                   strcmp(pod->workload_uid, want->params.workload_uid) == 0 &&
                                   strcmp(pod->service_account, account) == 0);
}

static void set_want(struct entry *entry, struct want *want) {
    struct inpod *inpod = entry->inpod;
    const struct inpod_config *config = &inpod->config;
    bool was_leaving = entry->want == NULL && entry->pod != NULL;
    want_free(entry->want);
    entry->want = want;
    if (was_leaving && !is_same_pod(entry->pod, want)) {
        take_down(entry, POD_DOWN_UNENROLLED);
    } else if (was_leaving) {
        close_netns(want);
        if (config->on_kept != NULL) {
            config->on_kept(config->arg, entry->pod);
        }
    }
    entry->recheck = true;
    timer_clear(&inpod->config.loop->timers, &entry->retry);
    step(entry);
    update_gauges(inpod);
}

static void want_workload(struct inpod *inpod, const struct workload *workload, bool is_own,
                          bool is_self) {
    char *uid = slice_dup(workload->leaf.key);
    struct entry *entry = entry_of(inpod, uid);
    struct want *want = xcalloc(1, sizeof(*want));
    struct pod_params params = {
        .uid = uid, .workload_uid = uid, .ns = workload->ns, .name = workload->name};
    pod_params_copy(&want->params, &params);
    free(uid);
    want->netns = xstrdup(is_own ? "/proc/self/ns/net" : workload->common->local->netns);
    want->netns_fd = -1;
    want->interfaces = xstrdup(workload->common->local->virtual_interfaces);
    want->no_dns_capture = workload->no_dns_capture;
    want->bypass_inbound_capture = workload->bypass_inbound_capture;
    entry->is_own = is_own;
    entry->is_self = is_self;
    set_want(entry, want);
}

void inpod_want(struct inpod *inpod, const struct workload *workload) {
    want_workload(inpod, workload, false, false);
}

void inpod_want_own(struct inpod *inpod, const struct workload *workload, bool is_self) {
    want_workload(inpod, workload, true, is_self);
}

void inpod_want_handed(struct inpod *inpod, const struct inpod_handed *handed) {
    struct entry *entry = entry_of(inpod, handed->params.uid);
    struct want *want = xcalloc(1, sizeof(*want));
    CHECK(entry->want == NULL && netns_id(handed->netns_fd, &want->netns_id) == 0);
    pod_params_copy(&want->params, &handed->params);
    want->netns_fd = handed->netns_fd;
    set_want(entry, want);
}

void inpod_workload_gone(struct inpod *inpod, const char *workload_uid) {
    LIST_EACH_SAFE(pos, &inpod->leaving) {
        struct leaving *leaving = LIST_ITEM(pos, struct leaving, node);
        if (!timer_is_armed(&leaving->cut) &&
            strcmp(leaving->pod->workload_uid, workload_uid) == 0) {
            leaving_cut(leaving);
            inpod->config.on_down(inpod->config.arg, leaving->pod, POD_DOWN_REMOVED);
        }
    }
}

void inpod_unwant(struct inpod *inpod, const char *uid, enum pod_down_reason reason) {
    struct entry *entry = find(inpod, uid);
    if (reason == POD_DOWN_REMOVED) {
        inpod_workload_gone(inpod, uid); // of pods that are workloads, the same
    }
    if (entry == NULL) {
        return;
    }
    want_free(entry->want);
    entry->want = NULL;
    entry->down_reason = reason;
    timer_clear(&inpod->config.loop->timers, &entry->retry);
    step(entry);
    update_gauges(inpod);
}

void inpod_pod_drained(struct inpod *inpod, uint64_t pod_id) {
    LIST_EACH_SAFE(pos, &inpod->leaving) {
        struct leaving *leaving = LIST_ITEM(pos, struct leaving, node);
        if (leaving->pod->id == pod_id) {
            leaving_done(leaving);
        }
    }
}

void inpod_get_status(const struct inpod *inpod, struct inpod_status *ret_status) {
    struct inpod_status status = {.n_started = inpod->n_started, .n_stopped = inpod->n_stopped};
    HMAP_EACH_SAFE(pos, &inpod->entries) {
        const struct entry *entry = HMAP_ITEM(pos, struct entry, node);
        status.n_active += !entry->is_self && is_up(entry);
        status.n_pending += !entry->is_self && entry->want != NULL && !is_up(entry);
    }
    *ret_status = status;
}

bool inpod_is_redirected(const struct inpod *inpod, const char *uid) {
    const struct entry *entry = find(inpod, uid);
    return entry == NULL || !entry->is_bare;
}

static const char *pending_reason(const struct entry *entry) {
    if (entry == NULL || entry->want == NULL || is_up(entry)) {
        return NULL;
    }
    return entry->reason[0] != '\0' ? entry->reason : "starting";
}

const char *inpod_pending_reason(const struct inpod *inpod, const char *uid) {
    return pending_reason(find(inpod, uid));
}

void inpod_each_pending(const struct inpod *inpod,
                        void (*fn)(void *arg, const char *uid, const char *reason, bool is_self),
                        void *arg) {
    HMAP_EACH_SAFE(pos, &inpod->entries) {
        const struct entry *entry = HMAP_ITEM(pos, struct entry, node);
        const char *reason = pending_reason(entry);
        if (reason != NULL) {
            fn(arg, entry->uid, reason, entry->is_self);
        }
    }
}

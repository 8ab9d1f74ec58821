// SPDX-License-Identifier: Apache-2.0
#include "waypoint/kube_control.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/base/clock.h"
#include "common/obs/log_format.h"
#include "common/obs/metrics.h"
#include "common/proc/proc_dump.h"
#include "waypoint/auto_bind.h"
#include "waypoint/config.h"

enum {
    SETTLE_MS = 100, // of news, before objects are looked at
    LOOK_AGAIN_S = 600, // at everything: others may have changed what was written
    REQUEST_MS = 10000,
    RELEASE_MS = 2000,
    LEASE_REQUEST_MS = 5000, // half of what a renewal may take
    FORBIDDEN_S = 300,
};

// RFC 3339, with microseconds as Leases have them, without as conditions do.
static void time_text(char text[LOG_TIME_MAX], bool with_us) {
    log_format_time(clock_wall_ns(), text);
    if (!with_us) {
        memcpy(strchr(text, '.'), "Z", sizeof("Z"));
    }
}

static void arm(struct kube_control *kube);

static void open_json(struct kube_request *request, const struct kube_control *kube,
                      const struct kube_work_send *send, uint64_t timeout_ms) {
    char *body = send->body != NULL ? json_dumps(send->body, JSON_COMPACT) : NULL;
    struct kube_request_params params = {
        .method = send->method,
        .path = send->path,
        .content_type = send->content_type,
        .body = slice_str(body != NULL ? body : ""),
        .timeout_ms = timeout_ms,
    };
    kube_request_open(request, kube->params.client, &params);
    free(body);
}

static json_t *parse(const struct kube_result *result) {
    return result->outcome == KUBE_OK
               ? json_loadb((const char *)result->body.ptr, result->body.len, 0, NULL)
               : NULL;
}

// Requests in a row are free as long as the rate catches up with them within a burst.
static uint64_t rate_at(const struct kube_control *kube) {
    uint64_t burst = (KUBE_CONTROL_BURST - 1) * NS_PER_SEC / KUBE_CONTROL_RATE;
    return kube->free_at > burst ? kube->free_at - burst : 0;
}

static void open_work(struct kube_control *kube, const struct kube_work_send *send) {
    kube->free_at = MAX(kube->free_at, kube->params.loop->now) + NS_PER_SEC / KUBE_CONTROL_RATE;
    open_json(&kube->work_request, kube, send, REQUEST_MS);
}

// ---- the lease

static void lead(struct kube_control *kube, uint64_t now) {
    bool is_leader = lease_is_held(&kube->lease, now);
    if (is_leader == kube->was_leader) {
        return;
    }
    kube->was_leader = is_leader;
    metric_set(METRIC_KUBE_LEADER, is_leader);
    log_info(kube->params.scope, is_leader ? "writes status: leader" : "writes no status any more",
             LOG_STR("lease", kube->lease_name), LOG_STR("identity", kube->identity));
    if (is_leader) {
        kube_work_refresh(&kube->work, true);
    } else {
        kube_request_cancel(&kube->work_request);
        kube_work_send_fini(&kube->send);
        kube->item = NULL;
        metric_set(METRIC_KUBE_TO_WRITE, 0);
    }
}

// The same problem again and again is one line.
static void note_lease_problem(struct kube_control *kube, const struct kube_result *result) {
    struct slice reason = slice_str(kube_outcome_label(result->outcome));
    metric_count(METRIC_KUBE_LEASE_FAILURES, &reason, 1, kube->params.loop->now);
    if (result->outcome == KUBE_CONFLICT) {
        return; // another one was faster
    }
    if (strcmp(kube->problem, result->text) != 0) {
        log_warn(kube->params.scope, "the lease cannot be had", LOG_STR("reason", result->text));
    }
    snprintf(kube->problem, sizeof(kube->problem), "%s", result->text);
}

static void on_lease(struct kube_request *request, const struct kube_result *result) {
    struct kube_control *kube = CONTAINER_OF(request, struct kube_control, lease_request);
    uint64_t now = kube->params.loop->now;
    json_t *object = parse(result);
    if (kube->is_stopping) {
        json_decref(object);
        return;
    }
    if (kube->lease_step == LEASE_GET && result->outcome == KUBE_NOT_FOUND) {
        lease_got(&kube->lease, now, NULL);
    } else if (object == NULL) {
        lease_failed(&kube->lease, now);
        note_lease_problem(kube, result);
    } else if (kube->lease_step == LEASE_GET) {
        lease_got(&kube->lease, now, object);
    } else {
        lease_written(&kube->lease, now, object);
    }
    json_decref(object);
    lead(kube, now);
    arm(kube);
}

static const struct kube_request_events lease_events = {.on_done = on_lease};

static void ask_lease(struct kube_control *kube, uint64_t now) {
    enum lease_step step = lease_next(&kube->lease, now);
    if (step == LEASE_WAIT) {
        return;
    }
    char text[LOG_TIME_MAX];
    const char *ns = kube->lease.ns;
    struct kube_work_send send = {.method = "GET"};
    time_text(text, true);
    kube->lease_step = step;
    if (step == LEASE_CREATE) {
        send.method = "POST";
        send.path = xasprintf("/apis/coordination.k8s.io/v1/namespaces/%s/leases", ns);
    } else {
        send.method = step == LEASE_GET ? "GET" : "PUT";
        send.path =
            xasprintf("/apis/coordination.k8s.io/v1/namespaces/%s/leases/%s", ns, kube->lease_name);
    }
    if (step != LEASE_GET) {
        send.content_type = "application/json";
        send.body = lease_body(&kube->lease, now, text);
    }
    open_json(&kube->lease_request, kube, &send, LEASE_REQUEST_MS);
    kube_work_send_fini(&send);
}

// ---- one object after the other

static void finish(struct kube_control *kube, bool is_done) {
    struct kube_work_item *item = kube->item;
    kube->item = NULL;
    kube_work_send_fini(&kube->send);
    if (is_done) {
        item->done = kube->written_want;
        item->n_failures = 0;
    }
    list_del(&item->in_queue);
    if (item->want != item->done) {
        list_push_back(&kube->work.queue, &item->in_queue);
    }
}

static void put_off(struct kube_control *kube, uint64_t ms) {
    kube->item->not_before = kube->params.loop->now + ms * NS_PER_MS;
    finish(kube, false);
}

static void fail(struct kube_control *kube, const struct kube_result *result) {
    struct kube_work_item *item = kube->item;
    struct kube_backoff backoff = {.n_failures = item->n_failures};
    uint64_t ms = kube_backoff_ms(&backoff, &kube->rand, result->retry_after_ms);
    bool is_first = item->n_failures == 0, is_forbidden = result->outcome == KUBE_FORBIDDEN;
    item->n_failures = backoff.n_failures;
    kube->n_failed++;
    if (is_forbidden) { // until somebody gives us the right; of a kind it is said once
        is_first = (kube->forbidden & 1U << item->kind) == 0;
        kube->forbidden |= 1U << item->kind;
        ms = FORBIDDEN_S * 1000;
    }
    if (result->outcome != KUBE_CONFLICT) {
        snprintf(kube->problem, sizeof(kube->problem), "%s", result->text);
        if (is_first) {
            log_warn(kube->params.scope, "the API takes no status",
                     LOG_STR("reason", result->text));
        }
    }
    put_off(kube, ms);
}

static void count_binding(const struct kube_control *kube, const char *result) {
    struct slice label = slice_str(result);
    metric_count(METRIC_KUBE_BINDINGS, &label, 1, kube->params.loop->now);
}

static void log_binding(const struct kube_control *kube, const char *text) {
    const struct kube_work_item *item = kube->item;
    log_info(kube->params.scope, text, LOG_STR("kind", kube_work_kind_text(item)),
             LOG_STR("namespace", item->ns), LOG_STR("name", item->name),
             LOG_STR("waypoint", item->wanted));
}

// Once for each object and binding.
static void tell_binding(struct kube_control *kube, const char *text) {
    if (!kube->item->was_told) {
        kube->item->was_told = true;
        log_warn(kube->params.scope, text, LOG_STR("kind", kube_work_kind_text(kube->item)),
                 LOG_STR("namespace", kube->item->ns), LOG_STR("name", kube->item->name),
                 LOG_STR("waypoint", kube->item->wanted));
    }
}

static void on_read(struct kube_control *kube, const struct kube_result *result) {
    char text[LOG_TIME_MAX];
    json_t *object = parse(result);
    time_text(text, false);
    if (object == NULL) {
        if (result->outcome == KUBE_NOT_FOUND) {
            finish(kube, true);
        } else {
            fail(kube, result);
        }
        return;
    }
    switch (kube_work_decide(&kube->work, kube->item, object, text, &kube->send)) {
    case KUBE_WORK_DONE:
        finish(kube, true);
        break;
    case KUBE_WORK_SEND:
        open_work(kube, &kube->send); // right behind its look, whatever the rate says
        break;
    case KUBE_WORK_LOST:
        count_binding(kube, "lost");
        tell_binding(kube, "somebody takes the binding away that this service needs: it is written "
                           "again, later and later");
        put_off(kube, auto_bind_pause_s(kube->item->n_losses) * UINT64_C(1000));
        break;
    case KUBE_WORK_OTHERS:
        count_binding(kube, "refused");
        tell_binding(kube, "somebody else binds this service elsewhere: it stays as it is");
        finish(kube, true);
        break;
    }
    json_decref(object);
}

static void on_written(struct kube_control *kube, const struct kube_result *result) {
    struct kube_work_item *item = kube->item;
    bool is_there = kube->send.is_event && result->outcome == KUBE_CONFLICT;
    struct slice labels[] = {
        slice_str(kube_work_kind_text(item)),
        slice_str(kube_outcome_label(is_there ? KUBE_OK : result->outcome)),
    };
    metric_count(METRIC_KUBE_WRITES, labels, 1, kube->params.loop->now);
    if (result->outcome == KUBE_OK || is_there) {
        kube->n_written += !is_there;
        if (kube->send.is_binding) {
            item->was_applied = item->wanted[0] != '\0';
            count_binding(kube, item->was_applied ? "bound" : "unbound");
            log_binding(kube, item->was_applied ? "service bound" : "service bound no more");
        }
        kube->problem[0] = '\0';
        kube->forbidden &= ~(1U << item->kind);
        finish(kube, true);
    } else if (kube->send.is_binding && result->outcome == KUBE_CONFLICT) {
        item->n_losses++;
        count_binding(kube, "refused");
        tell_binding(kube,
                     "another field manager has the label of this service: it stays as it is");
        put_off(kube, auto_bind_pause_s(item->n_losses) * UINT64_C(1000));
    } else if (result->outcome == KUBE_NOT_FOUND) {
        finish(kube, true);
    } else {
        fail(kube, result);
    }
}

static void on_work(struct kube_request *request, const struct kube_result *result) {
    struct kube_control *kube = CONTAINER_OF(request, struct kube_control, work_request);
    if (kube->send.path == NULL) {
        on_read(kube, result);
    } else {
        on_written(kube, result);
    }
    arm(kube);
}

static const struct kube_request_events work_events = {.on_done = on_work};

static void work(struct kube_control *kube, uint64_t now) {
    if (kube->item != NULL || now < rate_at(kube)) {
        return;
    }
    LIST_EACH(pos, &kube->work.queue) {
        struct kube_work_item *item = LIST_ITEM(pos, struct kube_work_item, in_queue);
        if (item->not_before > now) {
            continue;
        }
        struct kube_work_send get = {.method = "GET", .path = kube_work_path(item)};
        kube->item = item;
        kube->written_want = item->want;
        open_work(kube, &get);
        kube_work_send_fini(&get);
        return;
    }
}

// ---- time

static void arm(struct kube_control *kube) {
    if (kube->is_stopping) {
        return;
    }
    uint64_t at = kube->lease.due;
    if (kube->was_leader) {
        at = MIN(at, kube->lease.renewed_at + LEASE_RENEW_MS * NS_PER_MS);
    }
    if (kube->was_leader && kube->item == NULL) {
        at = MIN(at, MIN(kube->refresh_at, kube->look_again_at));
        uint64_t n = 0, rate = rate_at(kube);
        LIST_EACH(pos, &kube->work.queue) {
            at = MIN(at, MAX(LIST_ITEM(pos, struct kube_work_item, in_queue)->not_before, rate));
            n++;
        }
        metric_set(METRIC_KUBE_TO_WRITE, n);
    }
    if (at != TIME_NEVER) {
        timer_set(&kube->params.loop->timers, &kube->timer, at);
    }
}

static void on_timer(struct timer *timer, uint64_t now) {
    struct kube_control *kube = CONTAINER_OF(timer, struct kube_control, timer);
    lead(kube, now);
    ask_lease(kube, now);
    bool all = now >= kube->look_again_at;
    if (kube->was_leader && kube->item == NULL && (all || now >= kube->refresh_at)) {
        kube->refresh_at = TIME_NEVER;
        kube->look_again_at = all ? now + LOOK_AGAIN_S * NS_PER_SEC : kube->look_again_at;
        kube_work_refresh(&kube->work, all);
    }
    if (kube->was_leader) {
        work(kube, now);
    }
    arm(kube);
}

void kube_control_changed(struct kube_control *kube) {
    if (kube->refresh_at == TIME_NEVER) {
        kube->refresh_at = kube->params.loop->now + SETTLE_MS * NS_PER_MS;
        arm(kube);
    }
}

void kube_control_open(struct kube_control *kube, const struct kube_control_params *params) {
    const struct waypoint_config *config = params->config;
    char host[256] = "waypoint";
    *kube = (struct kube_control){.params = *params, .refresh_at = TIME_NEVER};
    rand_seed_os(&kube->rand);
    gethostname(host, sizeof(host) - 1);
    snprintf(kube->identity, sizeof(kube->identity), "%s_%016llx",
             config->pod_name[0] != '\0' ? config->pod_name : host,
             (unsigned long long)rand_u64(&kube->rand));
    snprintf(kube->lease_name, sizeof(kube->lease_name), "ztun-waypoint-%s", config->name);
    kube_work_init(&kube->work, config, params->mesh);
    lease_init(&kube->lease, config->ns, kube->lease_name, kube->identity, &kube->rand);
    kube_request_init(&kube->lease_request, &lease_events);
    kube_request_init(&kube->work_request, &work_events);
    timer_init(&kube->timer, on_timer);
    kube->look_again_at = params->loop->now + LOOK_AGAIN_S * NS_PER_SEC;
    timer_set(&params->loop->timers, &kube->timer, params->loop->now);
}

void kube_control_stop(struct kube_control *kube) {
    char text[LOG_TIME_MAX];
    if (kube->is_stopping) {
        return;
    }
    kube->is_stopping = true;
    metric_set(METRIC_KUBE_LEADER, 0);
    metric_set(METRIC_KUBE_TO_WRITE, 0);
    timer_clear(&kube->params.loop->timers, &kube->timer);
    kube_request_cancel(&kube->work_request);
    kube_request_cancel(&kube->lease_request);
    kube_work_send_fini(&kube->send);
    kube->item = NULL;
    time_text(text, true);
    struct kube_work_send send = {.method = "PUT",
                                  .content_type = "application/json",
                                  .body = lease_release(&kube->lease, text)};
    if (send.body != NULL) {
        send.path = xasprintf("/apis/coordination.k8s.io/v1/namespaces/%s/leases/%s",
                              kube->lease.ns, kube->lease_name);
        open_json(&kube->lease_request, kube, &send, RELEASE_MS);
    }
    kube_work_send_fini(&send);
}

void kube_control_dump(struct json_out *out, const struct kube_control *kube) {
    size_t n = 0;
    LIST_EACH(pos, &kube->work.queue) {
        n++;
    }
    json_out_kv_object(out, "statusWriter");
    json_out_kv_str(out, "server", kube_client_target(kube->params.client));
    json_out_kv_str(out, "lease", kube->lease_name);
    json_out_kv_str(out, "leader", lease_holder(&kube->lease));
    json_out_kv_bool(out, "isLeader", kube->was_leader);
    json_out_kv_u64(out, "toDo", n);
    json_out_kv_u64(out, "written", kube->n_written);
    json_out_kv_u64(out, "failed", kube->n_failed);
    json_out_kv_str(out, "problem", kube->problem);
    json_out_end(out);
}

// SPDX-License-Identifier: Apache-2.0
#include "ztun/zmove.h"

#include <semaphore.h>
#include <stdlib.h>

#include "common/obs/metrics.h"
#include "ztun/flow.h"
#include "ztun/ztun.h"

void zmove_open(struct zworker *worker) {
    struct slice tunnel = SLICE_LIT("tunnel"), load = SLICE_LIT("load");
    worker->moved[0] = metric_series_get(METRIC_LABELS_REASON, &tunnel);
    worker->moved[1] = metric_series_get(METRIC_LABELS_REASON, &load);
}

void zmove_close(struct zworker *worker) {
    metric_series_put(worker->moved[0], worker->loop->now);
    metric_series_put(worker->moved[1], worker->loop->now);
}

// ---- the target --------------------------------------------------------------------------------

static void adopt(struct zpod *zpod, const struct zmove *move) {
    switch ((enum flow_kind)move->kind) {
    case FLOW_OUTBOUND:
        outbound_accept(zpod, move->fd, move);
        break;
    case FLOW_INBOUND_HBONE:
        inbound_accept(zpod, move->fd);
        break;
    case FLOW_INBOUND_PLAIN:
        inbound_plain_accept(zpod, move->fd);
        break;
    }
}

static void refuse(struct zworker *worker, int fd) {
    struct slice reason = SLICE_LIT("pod_gone");
    metric_count(METRIC_FLOWS_REFUSED, &reason, 1, worker->loop->now);
    worker->loop->io->ops->close(worker->loop->io, fd, true);
}

static bool is_closed(const struct ztun *ztun) {
    return atomic_load_explicit(&ztun->placement->is_closed, memory_order_relaxed);
}

static void run_move(struct mail *mail, void *owner) {
    struct zmove *move = CONTAINER_OF(mail, struct zmove, mail);
    struct zworker *worker = owner;
    struct pod *pod = move->pod;
    struct zpod *zpod = zworker_pod(worker, pod->id);
    if (zpod == NULL && !move->is_returned && !is_closed(move->ztun)) {
        move->is_returned = true;
        atomic_fetch_add(&move->ztun->workers[move->from]->load->n_coming, 1);
        atomic_fetch_sub(&worker->load->n_coming, 1);
        loop_send(move->ztun->workers[move->from]->loop, &move->mail);
        return;
    }
    if (zpod == NULL || zpod->is_removed) {
        refuse(worker, move->fd);
    } else {
        zpod->n_open++; // alive until the count has gone, too
        adopt(zpod, move);
        zpod->n_open--;
    }
    // After it is a flow: who looks at both counts misses none (control.c).
    atomic_fetch_sub(&worker->load->n_coming, 1);
    atomic_fetch_sub(&pod->n_moving, 1);
    if (zpod != NULL) {
        zpod_check_drained(zpod);
    }
    pod_unref(pod);
    free(move);
}

// ---- the sender --------------------------------------------------------------------------------

bool zmove_is_possible(const struct zpod *zpod) {
    const struct zworker *worker = zpod->worker;
    return worker->ztun->placement->n_workers > 1 && !zpod->is_closing && !worker->is_draining &&
           !is_closed(worker->ztun);
}

static bool send_to(struct zpod *zpod, uint32_t to, enum place_reason reason, struct zmove move) {
    struct zworker *worker = zpod->worker;
    if (to == worker->index) {
        return false;
    }
    struct zworker *target = worker->ztun->workers[to];
    struct zmove *mail = xmalloc(sizeof(*mail));
    *mail = move;
    mail->mail.fn = run_move;
    mail->ztun = worker->ztun;
    mail->pod = pod_ref(zpod->pod);
    mail->from = worker->index;
    mail->to = to;
    atomic_fetch_add(&zpod->pod->n_moving, 1);
    atomic_fetch_add(&target->load->n_coming, 1);
    metric_series_add(worker->moved[reason == PLACE_FOR_LOAD], METRIC_FLOWS_MOVED, 1);
    loop_send(target->loop, &mail->mail);
    return true;
}

bool zmove_plain(struct zpod *zpod, int fd) {
    struct zworker *worker = zpod->worker;
    enum place_reason reason;
    if (!zmove_is_possible(zpod)) {
        return false;
    }
    uint32_t to = placement_for_flow(worker->ztun->placement, &worker->placed, worker->index, 0,
                                     worker->loop->now, &reason);
    return send_to(zpod, to, reason, (struct zmove){.kind = FLOW_INBOUND_PLAIN, .fd = fd});
}

bool zmove_tunnel(struct zpod *zpod, int fd) {
    struct zworker *worker = zpod->worker;
    enum place_reason reason;
    if (!zmove_is_possible(zpod)) {
        return false;
    }
    uint32_t to =
        placement_for_tunnel(worker->ztun->placement, worker->index, worker->loop->now, &reason);
    return send_to(zpod, to, reason, (struct zmove){.kind = FLOW_INBOUND_HBONE, .fd = fd});
}

bool zmove_outbound(struct zpod *zpod, int fd, uint64_t key, uint64_t seed,
                    const struct addr *socks_to) {
    struct zworker *worker = zpod->worker;
    enum place_reason reason;
    uint32_t to = placement_for_flow(worker->ztun->placement, &worker->placed, worker->index, key,
                                     worker->loop->now, &reason);
    struct zmove move = {.kind = FLOW_OUTBOUND, .fd = fd, .seed = seed};
    if (socks_to != NULL) {
        move.socks_to = *socks_to;
    }
    return send_to(zpod, to, reason, move);
}

// ---- the end -----------------------------------------------------------------------------------

struct stop_mail {
    struct mail mail;
    sem_t *done;
};

static void run_stop(struct mail *mail, void *owner) {
    (void)owner;
    struct stop_mail *stop = CONTAINER_OF(mail, struct stop_mail, mail);
    sem_post(stop->done);
    free(stop);
}

void zmove_stop(struct ztun *ztun) {
    if (ztun->placement == NULL) {
        return;
    }
    sem_t done;
    CHECK(sem_init(&done, 0, 0) == 0);
    atomic_store(&ztun->placement->is_closed, true);
    // A worker that has run this mail has seen the flag; what it sent before lies in mailboxes in
    // front of the mail that will stop their workers.
    for (uint32_t i = 0; i < ztun->n_workers; i++) {
        struct stop_mail *stop = xmalloc(sizeof(*stop));
        *stop = (struct stop_mail){.mail.fn = run_stop, .done = &done};
        loop_send(ztun->workers[i]->loop, &stop->mail);
    }
    for (uint32_t i = 0; i < ztun->n_workers; i++) {
        while (sem_wait(&done) != 0) {
        }
    }
    sem_destroy(&done);
}

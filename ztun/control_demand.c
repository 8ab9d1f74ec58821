// SPDX-License-Identifier: Apache-2.0
#include "ztun/control_demand.h"

#include <stdlib.h>
#include <string.h>

#include "ztun/control.h"
#include "ztun/demand.h"

struct wanted { // by workers, of istiod
    struct hmap_node by_name; // control->wanted
    uint64_t workers; // a bit for each
    char name[];
};

_Static_assert(ZTUN_WORKERS_MAX <= 64, "a bit for each worker");

struct question {
    struct mail mail;
    uint32_t worker;
    char name[];
};

static struct wanted *find(const struct control *control, struct slice name) {
    HMAP_EACH_WITH_HASH(pos, &control->wanted, hash_bytes(name)) {
        struct wanted *wanted = HMAP_ITEM(pos, struct wanted, by_name);
        if (slice_eq_str(name, wanted->name)) {
            return wanted;
        }
    }
    return NULL;
}

static void add(struct control *control, const char *name, uint32_t worker) {
    struct wanted *wanted = find(control, slice_str(name));
    if (wanted == NULL) {
        size_t len = strlen(name) + 1;
        wanted = xcalloc(1, sizeof(*wanted) + len);
        memcpy(wanted->name, name, len);
        hmap_insert(&control->wanted, &wanted->by_name, hash_bytes(slice_str(name)));
    }
    wanted->workers |= UINT64_C(1) << worker;
}

static void run_question(struct mail *mail, void *owner) {
    struct control *control = owner;
    struct question *question = CONTAINER_OF(mail, struct question, mail);
    struct demands *from = &control->ztun->workers[question->worker]->demands;
    switch (proc_xds_want(control->xds, slice_str(question->name))) {
    case XDS_WANT_WAIT:
        add(control, question->name, question->worker);
        break;
    case XDS_WANT_ABSENT:
        demands_send_answer(from, question->name, DEMAND_ANSWERED);
        break;
    case XDS_WANT_REFUSED:
        demands_send_answer(from, question->name, DEMAND_REFUSED);
        break;
    }
    free(question);
}

void control_demand_send(struct ztun *ztun, uint32_t worker, const char *name) {
    size_t len = strlen(name) + 1;
    struct question *question = xcalloc(1, sizeof(*question) + len);
    question->mail.fn = run_question;
    question->worker = worker;
    memcpy(question->name, name, len);
    loop_send(ztun->control_loop, &question->mail);
}

void control_demand_answered(void *arg, struct slice name, bool exists) {
    (void)exists; // the snapshot has it, or not
    struct control *control = arg;
    struct wanted *wanted = find(control, name);
    if (wanted == NULL) {
        return; // a pod's own
    }
    for (uint32_t i = 0; i < control->ztun->n_workers; i++) {
        if ((wanted->workers >> i & 1) != 0) {
            demands_send_answer(&control->ztun->workers[i]->demands, wanted->name, DEMAND_ANSWERED);
        }
    }
    hmap_remove(&control->wanted, &wanted->by_name);
    free(wanted);
}

void control_demand_pod(struct control *control, const char *uid) {
    if (control->xds != NULL && control->ztun->config.proc.xds_on_demand) {
        // What comes of it is found in the snapshot; with too many names it comes late.
        (void)proc_xds_want(control->xds, slice_str(uid));
    }
}

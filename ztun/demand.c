// SPDX-License-Identifier: Apache-2.0
#include "ztun/demand.h"

#include <stdlib.h>
#include <string.h>

#include "common/base/clock.h"
#include "common/mesh/snapshot.h"
#include "ztun/control_demand.h"
#include "ztun/ztun.h"

struct demand_name {
    struct hmap_node by_name;
    struct list waiting; // struct demand
    uint64_t answered_at;
    char text[];
};

static uint64_t hash_of(const char *name) {
    return hash_bytes(slice_str(name));
}

static struct demand_name *find(const struct hmap *map, const char *name) {
    HMAP_EACH_WITH_HASH(pos, map, hash_of(name)) {
        struct demand_name *item = HMAP_ITEM(pos, struct demand_name, by_name);
        if (strcmp(item->text, name) == 0) {
            return item;
        }
    }
    return NULL;
}

static struct demand_name *add(struct hmap *map, const char *name) {
    size_t len = strlen(name) + 1;
    struct demand_name *item = xmalloc(sizeof(*item) + len);
    memcpy(item->text, name, len);
    list_init(&item->waiting);
    hmap_insert(map, &item->by_name, hash_of(name));
    return item;
}

static void forget_all(struct hmap *map) {
    HMAP_EACH_SAFE(pos, map) {
        struct demand_name *item = HMAP_ITEM(pos, struct demand_name, by_name);
        CHECK(list_empty(&item->waiting));
        hmap_remove(map, pos);
        free(item);
    }
}

void demands_init(struct demands *all, struct loop *loop, struct ztun *ztun, uint32_t worker) {
    *all = (struct demands){.ztun = ztun, .loop = loop, .worker = worker};
    all->is_on = ztun->config.proc.xds_on_demand;
    hmap_init(&all->asked);
    hmap_init(&all->answered);
}

void demands_fini(struct demands *all) {
    forget_all(&all->asked);
    forget_all(&all->answered);
    hmap_fini(&all->asked);
    hmap_fini(&all->answered);
}

// ---- what was answered -------------------------------------------------------------------------

static void forget_answered(struct demands *all) {
    uint64_t generation = snapshot_current()->generation;
    if (all->answered_generation != generation || all->answered.n_items >= DEMAND_ANSWERED_MAX) {
        forget_all(&all->answered);
        all->answered_generation = generation;
    }
}

static bool is_answered(struct demands *all, const char *name) {
    forget_answered(all);
    struct demand_name *item = find(&all->answered, name);
    if (item == NULL) {
        return false;
    }
    if (all->loop->now - item->answered_at < DEMAND_GOOD_MS * NS_PER_MS) {
        return true;
    }
    hmap_remove(&all->answered, &item->by_name);
    free(item);
    return false;
}

// ---- asking ------------------------------------------------------------------------------------

static struct demand_name *ask(struct demands *all, const char *name) {
    struct demand_name *item = find(&all->asked, name);
    if (item == NULL) {
        item = add(&all->asked, name);
        control_demand_send(all->ztun, all->worker, name);
    }
    return item;
}

static void end(struct demand *demand) {
    list_del(&demand->node);
    timer_clear(&demand->all->loop->timers, &demand->timer);
}

static void on_timer(struct timer *timer, uint64_t now) {
    (void)now;
    struct demand *demand = CONTAINER_OF(timer, struct demand, timer);
    end(demand); // the name stays asked for: an answer comes, with a later stream of discovery
    demand->done(demand, DEMAND_TIMEOUT);
}

bool demand_start(struct demand *demand, struct demands *all, const char *name, uint32_t wait_ms,
                  void (*done)(struct demand *demand, enum demand_result result)) {
    if (is_answered(all, name)) {
        return false;
    }
    struct demand_name *item = ask(all, name);
    *demand = (struct demand){.all = all, .done = done};
    list_push_back(&item->waiting, &demand->node);
    timer_init(&demand->timer, on_timer);
    timer_set(&all->loop->timers, &demand->timer, all->loop->now + wait_ms * NS_PER_MS);
    return true;
}

void demand_cancel(struct demand *demand) {
    end(demand);
}

void demand_hint(struct demands *all, const char *name) {
    if (!is_answered(all, name)) {
        (void)ask(all, name);
    }
}

const char *demand_result_text(enum demand_result result) {
    switch (result) {
    case DEMAND_ANSWERED:
        return "istiod has answered";
    case DEMAND_REFUSED:
        return "istiod is asked about too many other addresses";
    case DEMAND_TIMEOUT:
        return "istiod did not say in time whose address it is";
    }
    return "";
}

// ---- answers -----------------------------------------------------------------------------------

struct answer_mail {
    struct mail mail;
    struct demands *all;
    enum demand_result result;
    char name[];
};

static void take_answer(struct demands *all, const char *name, enum demand_result result) {
    struct demand_name *item = find(&all->asked, name);
    CHECK(item != NULL); // one answer for one question
    hmap_remove(&all->asked, &item->by_name);
    forget_answered(all);
    if (result == DEMAND_ANSWERED && find(&all->answered, name) == NULL) {
        add(&all->answered, name)->answered_at = all->loop->now;
    }
    struct list *pos;
    while ((pos = list_pop_front(&item->waiting)) != NULL) { // one of them may cancel others
        struct demand *demand = LIST_ITEM(pos, struct demand, node);
        end(demand);
        demand->done(demand, result);
    }
    free(item);
}

static void run_answer(struct mail *mail, void *owner) {
    (void)owner;
    struct answer_mail *message = CONTAINER_OF(mail, struct answer_mail, mail);
    take_answer(message->all, message->name, message->result);
    free(message);
}

void demands_send_answer(struct demands *all, const char *name, enum demand_result result) {
    size_t len = strlen(name) + 1;
    struct answer_mail *message = xcalloc(1, sizeof(*message) + len);
    message->mail.fn = run_answer;
    message->all = all;
    message->result = result;
    memcpy(message->name, name, len);
    loop_send(all->loop, &message->mail);
}

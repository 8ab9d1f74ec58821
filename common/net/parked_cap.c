// SPDX-License-Identifier: Apache-2.0
#include "common/net/parked_cap.h"

#include "common/base/check.h"

static struct parked_cap *of_config(const struct h2_config *config) {
    return config->parked_all != NULL ? CONTAINER_OF(config->parked_all, struct parked_cap, all)
                                      : NULL;
}

static struct h2_drv *largest_of(const struct parked_cap *cap) {
    struct h2_drv *largest = NULL;
    LIST_EACH(node, &cap->drvs) {
        struct h2_drv *drv = LIST_ITEM(node, struct h2_drv, cap_node);
        if (largest == NULL || h2_conn_parked(drv->h2) > h2_conn_parked(largest->h2)) {
            largest = drv;
        }
    }
    return largest;
}

static void on_flush(struct loop_flush *flush) {
    struct parked_cap *cap = CONTAINER_OF(flush, struct parked_cap, flush);
    while (cap->all.n_bytes > cap->all.max) {
        struct h2_drv *drv = largest_of(cap);
        if (drv == NULL || !h2_drv_shed(drv)) {
            return;
        }
    }
}

void parked_cap_init(struct parked_cap *cap, struct loop *loop, uint64_t max_bytes) {
    *cap = (struct parked_cap){.all = {.max = max_bytes}, .loop = loop};
    list_init(&cap->drvs);
    loop_flush_init(&cap->flush, on_flush);
}

void parked_cap_fini(struct parked_cap *cap) {
    CHECK(list_empty(&cap->drvs) && cap->all.n_bytes == 0);
    loop_flush_disarm(&cap->flush);
}

void parked_cap_add(struct h2_drv *drv) {
    struct parked_cap *cap = of_config(&drv->config);
    if (cap != NULL) {
        list_push_back(&cap->drvs, &drv->cap_node);
    }
}

void parked_cap_del(struct h2_drv *drv) {
    list_del(&drv->cap_node);
    if (drv->h2 != NULL) {
        h2_conn_uncount(drv->h2);
    }
}

void parked_cap_check(const struct h2_config *config) {
    struct parked_cap *cap = of_config(config);
    if (cap != NULL && cap->all.max != 0 && cap->all.n_bytes > cap->all.max) {
        loop_flush_arm(cap->loop, &cap->flush);
    }
}

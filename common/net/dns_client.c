// SPDX-License-Identifier: Apache-2.0
#include "common/net/dns_client.h"

#include <stdlib.h>
#include <string.h>

#include "common/base/hmap.h"
#include "common/base/rand.h"
#include "common/net/dns_channel.h"

enum { RETRY_MAX_S = 30 };

struct name {
    struct hmap_node node; // client->names
    struct dns_client *client; // NULL: forgotten while a look-up runs
    struct list waiting; // client->waiting
    char *host;
    struct timer timer;
    bool is_running, is_wanted, was_told;
    uint32_t n_failures; // in a row
    uint32_t n_ips;
    struct ip *ips;
};

struct dns_client {
    struct dns_client_config config;
    struct dns_channel *channel;
    struct hmap names;
    struct list waiting; // names whose turn it is, when DNS_CLIENT_RUNNING_MAX are running
    struct rand rand;
    uint32_t n_running;
    uint64_t n_lookups, n_failures;
};

static void name_free(struct name *name) {
    free(name->host);
    free(name->ips);
    free(name);
}

static int compare_ips(const void *a, const void *b) {
    return ip_cmp(a, b);
}

// Tells the owner when the addresses are others than before. Takes over `ips`.
static void set_ips(struct name *name, struct ip *ips, uint32_t n_ips) {
    qsort(ips, n_ips, sizeof(*ips), compare_ips);
    bool is_same = name->was_told && name->n_ips == n_ips;
    for (uint32_t i = 0; i < n_ips && is_same; i++) {
        is_same = ip_eq(&ips[i], &name->ips[i]);
    }
    free(name->ips);
    name->ips = ips;
    name->n_ips = n_ips;
    name->was_told = true;
    if (!is_same) {
        struct dns_client_config *config = &name->client->config;
        config->on_change(config->arg, name->host, name->ips, n_ips);
    }
}

static void take_answer(struct name *name, const struct dns_result *result) {
    struct ip *ips = xcalloc(DNS_CHANNEL_IPS_MAX, sizeof(*ips));
    if (result->n_ips > 0) {
        memcpy(ips, result->ips, result->n_ips * sizeof(*ips));
    }
    set_ips(name, ips, result->n_ips);
}

static void start_waiting(struct dns_client *client);

static void on_answer(void *arg, const struct dns_result *result) {
    struct name *name = arg;
    struct dns_client *client = name->client;
    name->is_running = false;
    if (client == NULL) { // forgotten, or everything ends
        name_free(name);
        return;
    }
    client->n_running--;
    uint32_t delay_s = RETRY_MAX_S;
    if (result->outcome == DNS_FAILED) {
        client->n_failures++;
        delay_s = MIN(1U << MIN(name->n_failures, 5U), (uint32_t)RETRY_MAX_S);
        name->n_failures++;
    } else {
        name->n_failures = 0;
        if (result->outcome == DNS_FOUND) {
            delay_s = MAX(MIN(result->ttl_s, (uint32_t)DNS_CLIENT_TTL_MAX_S),
                          (uint32_t)DNS_CLIENT_TTL_MIN_S);
        }
        take_answer(name, result);
    }
    // Jitter, so that names do not stay in step.
    uint64_t delay = delay_s * NS_PER_SEC;
    delay -= rand_below(&client->rand, delay / 10);
    timer_set(&client->config.loop->timers, &name->timer, client->config.loop->now + delay);
    start_waiting(client);
}

static void look_up(struct name *name) {
    struct dns_client *client = name->client;
    name->is_running = true;
    client->n_running++;
    client->n_lookups++;
    dns_channel_look_up(client->channel, name->host, on_answer, name);
}

static void start_waiting(struct dns_client *client) {
    while (client->n_running < DNS_CLIENT_RUNNING_MAX) {
        struct list *node = list_pop_front(&client->waiting);
        if (node == NULL) {
            return;
        }
        look_up(LIST_ITEM(node, struct name, waiting));
    }
}

static void on_due(struct timer *timer, uint64_t now) {
    struct name *name = CONTAINER_OF(timer, struct name, timer);
    struct dns_client *client = name->client;
    if (client->n_running < DNS_CLIENT_RUNNING_MAX) {
        look_up(name);
    } else {
        list_push_back(&client->waiting, &name->waiting);
    }
}

struct dns_client *dns_client_new(const struct dns_client_config *config, const char **ret_error) {
    struct dns_client *client = xcalloc(1, sizeof(*client));
    client->config = *config;
    hmap_init(&client->names);
    list_init(&client->waiting);
    rand_seed_os(&client->rand);
    struct dns_channel_config channel = {.loop = config->loop,
                                         .servers = config->servers,
                                         .timeout_ms = config->timeout_ms,
                                         .tries = config->tries,
                                         .mark = config->mark};
    client->channel = dns_channel_new(&channel, ret_error);
    if (client->channel == NULL) {
        hmap_fini(&client->names);
        free(client);
        return NULL;
    }
    return client;
}

static void forget(struct name *name) {
    struct dns_client *client = name->client;
    timer_clear(&client->config.loop->timers, &name->timer);
    list_del(&name->waiting);
    hmap_remove(&client->names, &name->node);
    if (name->is_running) {
        client->n_running--;
        name->client = NULL; // on_answer frees it
    } else {
        name_free(name);
    }
}

void dns_client_free(struct dns_client *client) {
    if (client == NULL) {
        return;
    }
    HMAP_EACH_SAFE(pos, &client->names) {
        forget(HMAP_ITEM(pos, struct name, node));
    }
    dns_channel_free(client->channel); // ends the look-ups
    hmap_fini(&client->names);
    free(client);
}

static struct name *find(const struct dns_client *client, const char *host, uint64_t hash) {
    HMAP_EACH_WITH_HASH(pos, &client->names, hash) {
        struct name *name = HMAP_ITEM(pos, struct name, node);
        if (strcmp(name->host, host) == 0) {
            return name;
        }
    }
    return NULL;
}

void dns_client_set_names(struct dns_client *client, const char *const *hosts, size_t n_hosts) {
    struct loop *loop = client->config.loop;
    HMAP_EACH_SAFE(pos, &client->names) {
        HMAP_ITEM(pos, struct name, node)->is_wanted = false;
    }
    for (size_t i = 0; i < n_hosts; i++) {
        uint64_t hash = hash_bytes(slice_str(hosts[i]));
        struct name *name = find(client, hosts[i], hash);
        if (name == NULL) {
            name = xcalloc(1, sizeof(*name));
            name->client = client;
            name->host = xstrdup(hosts[i]);
            list_init(&name->waiting);
            timer_init(&name->timer, on_due);
            hmap_insert(&client->names, &name->node, hash);
            timer_set(&loop->timers, &name->timer, loop->now); // not from within this call
        }
        name->is_wanted = true;
    }
    HMAP_EACH_SAFE(pos, &client->names) {
        struct name *name = HMAP_ITEM(pos, struct name, node);
        if (!name->is_wanted) {
            forget(name);
        }
    }
}

void dns_client_get_stats(const struct dns_client *client, struct dns_client_stats *ret_stats) {
    *ret_stats = (struct dns_client_stats){
        .n_names = (uint32_t)client->names.n_items,
        .n_running = client->n_running,
        .n_lookups = client->n_lookups,
        .n_failures = client->n_failures,
    };
}

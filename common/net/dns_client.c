// SPDX-License-Identifier: Apache-2.0
#include "common/net/dns_client.h"

#include <ares.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>

#include "common/base/hmap.h"
#include "common/base/rand.h"
#include "common/rt/watch.h"

enum { TIMEOUT_MS = 2000, TRIES = 2, RETRY_MAX_S = 30, PROCESS_MAX = 32 };

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

// A socket of c-ares. It belongs to the poll: c-ares may close its descriptor at any time.
struct ares_sock {
    struct list node; // client->socks
    struct dns_client *client; // NULL: c-ares is done with it
    struct watch watch;
};

struct dns_client {
    struct dns_client_config config;
    ares_channel channel;
    struct hmap names;
    struct list waiting; // names whose turn it is, when DNS_CLIENT_RUNNING_MAX are running
    struct list socks;
    struct timer timer; // c-ares' own
    struct rand rand;
    uint32_t n_running;
    uint64_t n_lookups, n_failures;
};

static void update_timer(struct dns_client *client) {
    struct loop *loop = client->config.loop;
    struct timeval tv;
    if (ares_timeout(client->channel, NULL, &tv) == NULL) {
        timer_clear(&loop->timers, &client->timer);
        return;
    }
    uint64_t delay = (uint64_t)tv.tv_sec * NS_PER_SEC + (uint64_t)tv.tv_usec * 1000;
    timer_set(&loop->timers, &client->timer, loop->now + delay + NS_PER_MS);
}

static void on_timer(struct timer *timer, uint64_t now) {
    struct dns_client *client = CONTAINER_OF(timer, struct dns_client, timer);
    ares_process_fd(client->channel, ARES_SOCKET_BAD, ARES_SOCKET_BAD);
    update_timer(client);
}

static void on_ready(struct watch *watch, uint32_t ready) {
    struct ares_sock *sock = CONTAINER_OF(watch, struct ares_sock, watch);
    struct dns_client *client = sock->client;
    struct pollfd p = {.fd = watch->fd, .revents = (short)ready};
    // c-ares does not read until there is nothing more, which a watch wants.
    for (int i = 0; i < PROCESS_MAX && sock->client != NULL; i++) {
        bool is_failed = (p.revents & (POLLERR | POLLHUP)) != 0;
        ares_process_fd(client->channel,
                        is_failed || (p.revents & POLLIN) != 0 ? watch->fd : ARES_SOCKET_BAD,
                        (p.revents & POLLOUT) != 0 ? watch->fd : ARES_SOCKET_BAD);
        p.events = POLLIN;
        if (sock->client == NULL || poll(&p, 1, 0) <= 0) {
            break;
        }
    }
    update_timer(client);
}

static void on_sock_stopped(struct watch *watch) {
    free(CONTAINER_OF(watch, struct ares_sock, watch));
}

// c-ares: waits for `fd`, or (neither) is about to close it.
static void on_sock_state(void *arg, ares_socket_t fd, int readable, int writable) {
    struct dns_client *client = arg;
    struct ares_sock *found = NULL;
    LIST_EACH(pos, &client->socks) {
        struct ares_sock *sock = LIST_ITEM(pos, struct ares_sock, node);
        found = sock->watch.fd == fd ? sock : found;
    }
    if (readable == 0 && writable == 0) {
        if (found != NULL) {
            found->client = NULL;
            list_del(&found->node);
            watch_stop(&found->watch, on_sock_stopped);
        }
    } else if (found == NULL) {
        struct ares_sock *sock = xcalloc(1, sizeof(*sock));
        sock->client = client;
        list_push_back(&client->socks, &sock->node);
        // Both directions from the start: the watch reports changes only.
        watch_init(&sock->watch, client->config.loop, fd, POLLIN | POLLOUT, on_ready);
    }
}

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

static void take_answer(struct name *name, const struct ares_addrinfo *info, uint32_t *ret_ttl_s) {
    struct ip *ips = xcalloc(DNS_CLIENT_IPS_MAX, sizeof(*ips));
    uint32_t n_ips = 0;
    uint32_t ttl_s = DNS_CLIENT_TTL_MAX_S;
    const struct ares_addrinfo_node *node = info != NULL ? info->nodes : NULL;
    for (; node != NULL && n_ips < DNS_CLIENT_IPS_MAX; node = node->ai_next) {
        struct addr addr;
        if (addr_from_sockaddr(node->ai_addr, &addr)) {
            ips[n_ips++] = addr.ip;
            ttl_s = MIN(ttl_s, (uint32_t)MAX(node->ai_ttl, 0));
        }
    }
    *ret_ttl_s = MAX(ttl_s, (uint32_t)DNS_CLIENT_TTL_MIN_S);
    set_ips(name, ips, n_ips);
}

static void start_waiting(struct dns_client *client);

static void on_answer(void *arg, int status, int timeouts, struct ares_addrinfo *info) {
    struct name *name = arg;
    struct dns_client *client = name->client;
    name->is_running = false;
    if (client == NULL) { // forgotten, or everything ends
        name_free(name);
    } else {
        client->n_running--;
        uint32_t delay_s;
        if (status == ARES_SUCCESS || status == ARES_ENOTFOUND || status == ARES_ENODATA) {
            name->n_failures = 0;
            take_answer(name, status == ARES_SUCCESS ? info : NULL, &delay_s);
            delay_s = status == ARES_SUCCESS ? delay_s : RETRY_MAX_S;
        } else {
            client->n_failures++;
            delay_s = MIN(1U << MIN(name->n_failures, 5U), (uint32_t)RETRY_MAX_S);
            name->n_failures++;
        }
        // Jitter, so that names do not stay in step.
        uint64_t delay = delay_s * NS_PER_SEC;
        delay -= rand_below(&client->rand, delay / 10);
        timer_set(&client->config.loop->timers, &name->timer, client->config.loop->now + delay);
        start_waiting(client);
    }
    if (info != NULL) {
        ares_freeaddrinfo(info);
    }
}

static void look_up(struct name *name) {
    struct dns_client *client = name->client;
    static const struct ares_addrinfo_hints hints = {
        .ai_family = AF_UNSPEC,
        .ai_socktype = SOCK_STREAM, // one entry an address
        .ai_flags = ARES_AI_NOSORT,
    };
    name->is_running = true;
    client->n_running++;
    client->n_lookups++;
    ares_getaddrinfo(client->channel, name->host, NULL, &hints, on_answer, name);
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
        update_timer(client);
    } else {
        list_push_back(&client->waiting, &name->waiting);
    }
}

struct dns_client *dns_client_new(const struct dns_client_config *config, const char **ret_error) {
    struct dns_client *client = xcalloc(1, sizeof(*client));
    client->config = *config;
    hmap_init(&client->names);
    list_init(&client->waiting);
    list_init(&client->socks);
    timer_init(&client->timer, on_timer);
    rand_seed_os(&client->rand);
    struct ares_options options = {
        .timeout = (int)(config->timeout_ms != 0 ? config->timeout_ms : TIMEOUT_MS),
        .tries = (int)(config->tries != 0 ? config->tries : TRIES),
        .ndomains = 0, // names are whole
        .sock_state_cb = on_sock_state,
        .sock_state_cb_data = client,
    };
    int rc = ares_library_init(ARES_LIB_INIT_ALL);
    if (rc == ARES_SUCCESS) {
        rc = ares_init_options(&client->channel, &options,
                               ARES_OPT_TIMEOUTMS | ARES_OPT_TRIES | ARES_OPT_DOMAINS |
                                   ARES_OPT_SOCK_STATE_CB);
    }
    if (rc == ARES_SUCCESS && config->servers != NULL) {
        rc = ares_set_servers_ports_csv(client->channel, config->servers);
        if (rc != ARES_SUCCESS) {
            ares_destroy(client->channel);
        }
    }
    if (rc != ARES_SUCCESS) {
        *ret_error = ares_strerror(rc);
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
    ares_destroy(client->channel); // ends the look-ups, and says good-bye to each socket
    CHECK(list_empty(&client->socks));
    timer_clear(&client->config.loop->timers, &client->timer);
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

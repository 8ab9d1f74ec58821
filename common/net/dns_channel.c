// SPDX-License-Identifier: Apache-2.0
#include "common/net/dns_channel.h"

#include <ares.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/time.h>

#include "common/base/list.h"
#include "common/rt/watch.h"

enum { TIMEOUT_MS = 2000, TRIES = 2, PROCESS_MAX = 32 };

// A socket of c-ares. It belongs to the poll: c-ares may close its descriptor at any time.
struct ares_sock {
    struct list node; // channel->socks
    struct dns_channel *channel; // NULL: c-ares is done with it
    uint32_t *n_socks; // the owner's count, or NULL
    struct watch watch;
};

struct dns_channel {
    struct loop *loop;
    ares_channel ares;
    uint32_t mark;
    struct list socks;
    uint32_t *n_socks; // the owner's count, or NULL
    struct timer timer; // c-ares' own
};

struct look_up {
    dns_result_fn *fn;
    void *arg;
};

static void update_timer(struct dns_channel *channel) {
    struct loop *loop = channel->loop;
    struct timeval tv;
    if (ares_timeout(channel->ares, NULL, &tv) == NULL) {
        timer_clear(&loop->timers, &channel->timer);
        return;
    }
    uint64_t delay = (uint64_t)tv.tv_sec * NS_PER_SEC + (uint64_t)tv.tv_usec * 1000;
    timer_set(&loop->timers, &channel->timer, loop->now + delay + NS_PER_MS);
}

static void on_timer(struct timer *timer, uint64_t now) {
    struct dns_channel *channel = CONTAINER_OF(timer, struct dns_channel, timer);
    ares_process_fd(channel->ares, ARES_SOCKET_BAD, ARES_SOCKET_BAD);
    update_timer(channel);
}

static void on_ready(struct watch *watch, uint32_t ready) {
    struct ares_sock *sock = CONTAINER_OF(watch, struct ares_sock, watch);
    struct dns_channel *channel = sock->channel;
    struct pollfd p = {.fd = watch->fd, .revents = (short)ready};
    // c-ares does not read until there is nothing more, which a watch wants.
    for (int i = 0; i < PROCESS_MAX && sock->channel != NULL; i++) {
        bool is_failed = (p.revents & (POLLERR | POLLHUP)) != 0;
        ares_process_fd(channel->ares,
                        is_failed || (p.revents & POLLIN) != 0 ? watch->fd : ARES_SOCKET_BAD,
                        (p.revents & POLLOUT) != 0 ? watch->fd : ARES_SOCKET_BAD);
        p.events = POLLIN;
        if (sock->channel == NULL || poll(&p, 1, 0) <= 0) {
            break;
        }
    }
    update_timer(channel);
}

static void on_sock_stopped(struct watch *watch) {
    struct ares_sock *sock = CONTAINER_OF(watch, struct ares_sock, watch);
    if (sock->n_socks != NULL) {
        --*sock->n_socks;
    }
    free(sock);
}

// c-ares: waits for `fd`, or (neither) is about to close it.
static void on_sock_state(void *arg, ares_socket_t fd, int readable, int writable) {
    struct dns_channel *channel = arg;
    struct ares_sock *found = NULL;
    LIST_EACH(pos, &channel->socks) {
        struct ares_sock *sock = LIST_ITEM(pos, struct ares_sock, node);
        found = sock->watch.fd == fd ? sock : found;
    }
    if (readable == 0 && writable == 0) {
        if (found != NULL) {
            found->channel = NULL;
            list_del(&found->node);
            watch_stop(&found->watch, on_sock_stopped);
        }
    } else if (found == NULL) {
        struct ares_sock *sock = xcalloc(1, sizeof(*sock));
        sock->channel = channel;
        sock->n_socks = channel->n_socks;
        if (sock->n_socks != NULL) {
            ++*sock->n_socks;
        }
        list_push_back(&channel->socks, &sock->node);
        // Both directions from the start: the watch reports changes only.
        watch_init(&sock->watch, channel->loop, fd, POLLIN | POLLOUT, on_ready);
    }
}

// ---- answers -----------------------------------------------------------------------------------

static enum dns_outcome outcome_of(int status) {
    switch (status) {
    case ARES_SUCCESS:
        return DNS_FOUND;
    case ARES_ENOTFOUND:
        return DNS_NO_NAME;
    case ARES_ENODATA:
        return DNS_NO_DATA;
    case ARES_EDESTRUCTION:
    case ARES_ECANCELLED:
        return DNS_CANCELLED;
    default:
        return DNS_FAILED;
    }
}

static void take_addresses(const struct ares_addrinfo *info, struct ip *ips,
                           struct dns_result *result) {
    uint32_t ttl_s = UINT32_MAX;
    for (const struct ares_addrinfo_node *node = info->nodes;
         node != NULL && result->n_ips < DNS_CHANNEL_IPS_MAX; node = node->ai_next) {
        struct addr addr;
        if (addr_from_sockaddr(node->ai_addr, &addr)) {
            ips[result->n_ips++] = addr.ip;
            ttl_s = MIN(ttl_s, (uint32_t)MAX(node->ai_ttl, 0));
        }
    }
    result->ips = ips;
    result->ttl_s = ttl_s;
}

static void on_answer(void *arg, int status, int timeouts, struct ares_addrinfo *info) {
    (void)timeouts;
    struct look_up *look_up = arg;
    struct ip ips[DNS_CHANNEL_IPS_MAX];
    struct dns_result result = {.outcome = (uint8_t)outcome_of(status),
                                .text = ares_strerror(status)};
    if (result.outcome == DNS_FOUND && info != NULL) {
        take_addresses(info, ips, &result);
    }
    if (result.outcome == DNS_FOUND && result.n_ips == 0) {
        result.outcome = DNS_NO_DATA;
        result.text = ares_strerror(ARES_ENODATA);
    }
    if (info != NULL) {
        ares_freeaddrinfo(info);
    }
    look_up->fn(look_up->arg, &result);
    free(look_up);
}

void dns_channel_look_up(struct dns_channel *channel, const char *host, dns_result_fn *fn,
                         void *arg) {
    static const struct ares_addrinfo_hints hints = {
        .ai_family = AF_UNSPEC,
        .ai_socktype = SOCK_STREAM, // one entry an address
        .ai_flags = ARES_AI_NOSORT,
    };
    struct look_up *look_up = xmalloc(sizeof(*look_up));
    *look_up = (struct look_up){.fn = fn, .arg = arg};
    ares_getaddrinfo(channel->ares, host, NULL, &hints, on_answer, look_up);
    update_timer(channel);
}

// ---- life --------------------------------------------------------------------------------------

// 0, or -1: c-ares closes the socket, and the server counts as one that does not answer.
static int on_sock_open(ares_socket_t fd, int type, void *arg) {
    (void)type;
    const struct dns_channel *channel = arg;
    return setsockopt(fd, SOL_SOCKET, SO_MARK, &channel->mark, sizeof(channel->mark));
}

struct dns_channel *dns_channel_new(const struct dns_channel_config *config,
                                    const char **ret_error) {
    struct dns_channel *channel = xcalloc(1, sizeof(*channel));
    channel->loop = config->loop;
    channel->n_socks = config->n_socks;
    channel->mark = config->mark;
    list_init(&channel->socks);
    timer_init(&channel->timer, on_timer);
    struct ares_options options = {
        .timeout = (int)(config->timeout_ms != 0 ? config->timeout_ms : TIMEOUT_MS),
        .tries = (int)(config->tries != 0 ? config->tries : TRIES),
        .ndomains = 0,
        .sock_state_cb = on_sock_state,
        .sock_state_cb_data = channel,
    };
    static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; // its count is not atomic
    pthread_mutex_lock(&lock);
    int rc = ares_library_init(ARES_LIB_INIT_ALL);
    pthread_mutex_unlock(&lock);
    if (rc == ARES_SUCCESS) {
        rc = ares_init_options(&channel->ares, &options,
                               ARES_OPT_TIMEOUTMS | ARES_OPT_TRIES | ARES_OPT_SOCK_STATE_CB |
                                   (config->uses_search ? 0 : ARES_OPT_DOMAINS));
    }
    if (rc == ARES_SUCCESS && config->mark != 0) {
        ares_set_socket_configure_callback(channel->ares, on_sock_open, channel);
    }
    if (rc == ARES_SUCCESS && config->servers != NULL) {
        rc = ares_set_servers_ports_csv(channel->ares, config->servers);
        if (rc != ARES_SUCCESS) {
            ares_destroy(channel->ares);
        }
    }
    if (rc != ARES_SUCCESS) {
        *ret_error = ares_strerror(rc);
        free(channel);
        return NULL;
    }
    return channel;
}

void dns_channel_free(struct dns_channel *channel) {
    if (channel == NULL) {
        return;
    }
    ares_destroy(channel->ares); // ends the look-ups, and says good-bye to each socket
    CHECK(list_empty(&channel->socks));
    timer_clear(&channel->loop->timers, &channel->timer);
    free(channel);
}

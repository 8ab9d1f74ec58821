// SPDX-License-Identifier: Apache-2.0
//
// relay_probe LISTEN TARGET [WORKERS]: a bare TCP relay on common/rt (accept, connect, two links
// joined, nothing else). What it costs is the floor that a proxy's figures are compared with.
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/rt/dial.h"
#include "common/rt/link.h"
#include "common/rt/listener.h"
#include "common/rt/sock.h"
#include "common/rt/worker.h"

enum {
    MAX_WORKERS = 64,
    QUEUE_MAX = 256 * 1024, // pause the reader above it
    QUEUE_LOW = 64 * 1024, // and resume it below
    DIAL_TIMEOUT_S = 10,
};

static struct addr listen_addr, target_addr;

struct relay;

struct side {
    struct link link;
    struct relay *relay;
    struct side *other;
    bool is_up;
};

struct relay {
    struct side down, up;
    struct acceptor *acceptor;
    struct list node;
    struct dial *dial;
    int n_open;
};

struct acceptor { // one a worker
    struct worker worker;
    struct listener listener;
    struct list relays;
    bool is_listener_closed;
};

static void release(struct relay *relay) {
    if (--relay->n_open == 0) {
        list_del(&relay->node);
        free(relay);
    }
}

static void abort_relay(struct relay *relay) {
    if (relay->dial != NULL) {
        dial_cancel(relay->dial);
        relay->dial = NULL;
    }
    link_abort(&relay->down.link);
    if (relay->up.is_up) {
        link_abort(&relay->up.link);
    }
}

static struct side *side_of(struct link *link) {
    return CONTAINER_OF(link, struct side, link);
}

static uint32_t on_data(struct link *link, struct blk *blk, uint32_t off, uint32_t len,
                        uint16_t head, uint16_t tail, uint32_t *ret_need) {
    struct side *side = side_of(link);
    struct link *to = &side->other->link;
    struct chain data;
    chain_init(&data, link->loop->pool);
    chain_append(&data, blk, off, len);
    link_write(to, &data);
    if (link_queued(to) > QUEUE_MAX) {
        link_read(link, false);
    }
    return len;
}

static void close_when_done(struct side *side) {
    struct link *a = &side->link, *b = &side->other->link;
    if (a->got_eof && b->got_eof && link_queued(a) == 0 && link_queued(b) == 0) {
        link_close(a);
        link_close(b);
    }
}

static void on_eof(struct link *link) {
    struct side *side = side_of(link);
    link_fin(&side->other->link);
    close_when_done(side);
}

static void on_sent(struct link *link, size_t len) {
    struct side *side = side_of(link);
    struct link *from = &side->other->link;
    if (link_queued(link) < QUEUE_LOW) {
        link_read(from, true);
    }
    close_when_done(side);
}

static void on_error(struct link *link, int err) {
    abort_relay(side_of(link)->relay);
}

static void on_closed(struct link *link) {
    release(side_of(link)->relay);
}

static const struct link_handler handler = {
    .on_data = on_data,
    .on_eof = on_eof,
    .on_sent = on_sent,
    .on_error = on_error,
    .on_closed = on_closed,
};

static void on_dialled(void *arg, int res) {
    struct relay *relay = arg;
    relay->dial = NULL;
    if (res < 0) {
        fprintf(stderr, "relay_probe: connect: %s\n", strerror(-res));
        link_abort(&relay->down.link);
        return;
    }
    relay->n_open++;
    relay->up.is_up = true;
    link_init(&relay->up.link, relay->down.link.loop, res, LINK_SLOTS, &handler);
    link_read(&relay->up.link, true);
    link_read(&relay->down.link, true);
}

static void on_accept(struct listener *listener, int fd) {
    struct acceptor *acceptor = CONTAINER_OF(listener, struct acceptor, listener);
    struct loop *loop = listener->loop;
    struct relay *relay = xcalloc(1, sizeof(*relay));
    relay->acceptor = acceptor;
    relay->n_open = 1;
    relay->down.relay = relay->up.relay = relay;
    relay->down.other = &relay->up;
    relay->up.other = &relay->down;
    list_push_back(&acceptor->relays, &relay->node);
    sock_nodelay(fd);
    link_init(&relay->down.link, loop, fd, LINK_SLOTS, &handler);
    struct io_socket_params params = {.netns_fd = -1, .family = target_addr.ip.family};
    relay->dial =
        dial_start(loop, &params, &target_addr, DIAL_TIMEOUT_S * NS_PER_SEC, on_dialled, relay);
}

static void on_listener_closed(struct listener *listener) {
    CONTAINER_OF(listener, struct acceptor, listener)->is_listener_closed = true;
}

static const struct listener_handler listener_handler = {
    .on_accept = on_accept,
    .on_closed = on_listener_closed,
};

static int on_start(struct worker *worker) {
    struct acceptor *acceptor = worker->arg;
    struct sock_listen_params params = {.netns_fd = -1, .bind = listen_addr, .reuse_port = true};
    int fd = sock_listen(&params);
    if (fd < 0) {
        return fd;
    }
    listener_init(&acceptor->listener, &worker->loop, fd, &listener_handler);
    return 0;
}

static void on_stop(struct worker *worker) {
    struct acceptor *acceptor = worker->arg;
    listener_close(&acceptor->listener, false);
    LIST_EACH_SAFE(node, &acceptor->relays) {
        abort_relay(LIST_ITEM(node, struct relay, node));
    }
    while (!acceptor->is_listener_closed || !list_empty(&acceptor->relays) ||
           worker->io->n_ops > 0) {
        loop_turn(&worker->loop, true);
    }
    struct uring_stats stats;
    uring_get_stats(worker->io, &stats);
    fprintf(stderr,
            "worker: %lu turns, %lu completions, %lu enters, %lu without buffers, "
            "%lu waiting sends, %lu MB copied to cold\n",
            (unsigned long)worker->loop.stats.n_turns, (unsigned long)worker->io->n_completions,
            (unsigned long)stats.n_enters, (unsigned long)stats.n_no_buffers,
            (unsigned long)worker->loop.stats.n_waiting_sends,
            (unsigned long)(worker->loop.stats.n_cold_bytes >> 20));
}

int main(int argc, char **argv) {
    uint64_t n_workers = 1;
    if (argc < 3 || argc > 4 || !addr_parse(slice_str(argv[1]), &listen_addr) ||
        !addr_parse(slice_str(argv[2]), &target_addr) ||
        (argc == 4 && !slice_to_u64(slice_str(argv[3]), MAX_WORKERS, &n_workers)) ||
        n_workers == 0) {
        fprintf(stderr, "usage: relay_probe LISTEN_ADDR TARGET_ADDR [WORKERS]\n");
        return 2;
    }
    signal(SIGPIPE, SIG_IGN);
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    sigprocmask(SIG_BLOCK, &set, NULL);

    static struct acceptor acceptors[MAX_WORKERS];
    for (uint64_t i = 0; i < n_workers; i++) {
        list_init(&acceptors[i].relays);
        struct worker_options options = {
            .name = "relay",
            .cpu = -1,
            .arg = &acceptors[i],
            .start = on_start,
            .stop = on_stop,
        };
        char error[URING_ERROR_MAX];
        if (worker_start(&acceptors[i].worker, &options, error) < 0) {
            fprintf(stderr, "relay_probe: %s\n", error);
            return 1;
        }
    }
    int signo;
    sigwait(&set, &signo);
    for (uint64_t i = 0; i < n_workers; i++) {
        worker_stop(&acceptors[i].worker);
    }
    return 0;
}

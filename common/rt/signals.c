// SPDX-License-Identifier: Apache-2.0
#include "common/rt/signals.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <sys/signalfd.h>
#include <unistd.h>

int signals_block(const sigset_t *set, int *ret_fd) {
    signal(SIGPIPE, SIG_IGN);
    int rc = pthread_sigmask(SIG_BLOCK, set, NULL);
    if (rc != 0) {
        return -rc;
    }
    int fd = signalfd(-1, set, SFD_CLOEXEC | SFD_NONBLOCK);
    if (fd < 0) {
        return -errno;
    }
    *ret_fd = fd;
    return 0;
}

static void on_ready(struct watch *watch, uint32_t ready) {
    struct signals *signals = CONTAINER_OF(watch, struct signals, watch);
    struct signalfd_siginfo info;
    while (!watch->is_stopping && read(signals->fd, &info, sizeof(info)) == (ssize_t)sizeof(info)) {
        signals->fn(signals, (int)info.ssi_signo);
    }
}

static void on_watch_stopped(struct watch *watch) {
    struct signals *signals = CONTAINER_OF(watch, struct signals, watch);
    close(signals->fd);
    signals->fd = -1;
    if (signals->on_stopped != NULL) {
        signals->on_stopped(signals);
    }
}

void signals_init(struct signals *signals, struct loop *loop, int fd,
                  void (*fn)(struct signals *, int signo)) {
    *signals = (struct signals){.fd = fd, .fn = fn};
    watch_init(&signals->watch, loop, fd, POLLIN, on_ready);
}

void signals_stop(struct signals *signals, void (*on_stopped)(struct signals *)) {
    signals->on_stopped = on_stopped;
    watch_stop(&signals->watch, on_watch_stopped);
}

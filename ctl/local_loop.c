// SPDX-License-Identifier: Apache-2.0

#include "ctl/local_loop.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/base/clock.h"

struct child {
    struct list link;
    pid_t pid;
    void (*fn)(void *arg, pid_t pid, int status);
    void *arg;
};

static struct {
    int epoll;
    bool is_stopping;
    struct list fds; // struct lab_fd
    struct list timers; // struct lab_timer, by due time
    struct list children;
    struct lab_fd signals;
    void (*terminate)(void *arg);
    void *terminate_arg;
} loop;

static void reap(void) {
    int status;
    pid_t pid;
    while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
        LIST_EACH_SAFE(node, &loop.children) {
            struct child *child = LIST_ITEM(node, struct child, link);
            if (child->pid == pid) {
                list_del(&child->link);
                if (child->fn != NULL) {
                    child->fn(child->arg, pid, status);
                }
                free(child);
                break;
            }
        }
    }
}

static void on_signal(void *arg, uint32_t events) {
    struct signalfd_siginfo info;
    while (read(loop.signals.fd, &info, sizeof(info)) == sizeof(info)) {
        if (info.ssi_signo == SIGCHLD) {
            reap();
        } else if (info.ssi_signo != SIGHUP && loop.terminate != NULL) {
            loop.terminate(loop.terminate_arg);
        }
    }
}

void lab_loop_init(void) {
    loop.epoll = epoll_create1(EPOLL_CLOEXEC);
    CHECK(loop.epoll >= 0);
    list_init(&loop.fds);
    list_init(&loop.timers);
    list_init(&loop.children);
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGCHLD);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGHUP);
    sigprocmask(SIG_BLOCK, &set, NULL);
    signal(SIGPIPE, SIG_IGN);
    int fd = signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC);
    CHECK(fd >= 0);
    lab_fd_open(&loop.signals, fd, EPOLLIN, on_signal, NULL);
}

void lab_loop_fini(void) {
    lab_fd_close(&loop.signals);
    while (!list_empty(&loop.children)) {
        free(LIST_ITEM(list_pop_front(&loop.children), struct child, link));
    }
    close(loop.epoll);
}

void lab_loop_stop(void) {
    loop.is_stopping = true;
}

void lab_loop_on_terminate(void (*fn)(void *arg), void *arg) {
    loop.terminate = fn;
    loop.terminate_arg = arg;
}

static int run_timers(void) {
    uint64_t now = clock_mono_ns();
    // Timers that a callback arms for "now" wait for the next round, so that this ends.
    while (!list_empty(&loop.timers)) {
        struct lab_timer *timer = LIST_ITEM(loop.timers.next, struct lab_timer, link);
        if (timer->due_ns > now) {
            uint64_t wait_ms = (timer->due_ns - now + NS_PER_MS - 1) / NS_PER_MS;
            return wait_ms > 60000 ? 60000 : (int)wait_ms;
        }
        lab_timer_stop(timer);
        timer->fn(timer->arg);
    }
    return 60000;
}

static bool is_watched(const struct lab_fd *watch) {
    LIST_EACH(node, &loop.fds) {
        if (LIST_ITEM(node, struct lab_fd, link) == watch) {
            return true;
        }
    }
    return false;
}

void lab_loop_run(void (*turn)(void *arg), void *arg) {
    while (!loop.is_stopping) {
        int wait_ms = run_timers();
        turn(arg);
        // The turn may have armed a timer.
        if (!list_empty(&loop.timers)) {
            struct lab_timer *first = LIST_ITEM(loop.timers.next, struct lab_timer, link);
            uint64_t now = clock_mono_ns();
            uint64_t ms = first->due_ns > now ? (first->due_ns - now) / NS_PER_MS + 1 : 0;
            wait_ms = ms < (uint64_t)wait_ms ? (int)ms : wait_ms;
        }
        if (loop.is_stopping) {
            break;
        }
        struct epoll_event events[32];
        int n = epoll_wait(loop.epoll, events, (int)ARRAY_LEN(events), wait_ms);
        for (int i = 0; i < n; i++) {
            struct lab_fd *watch = events[i].data.ptr;
            // An earlier callback of this round may have closed it.
            if (is_watched(watch)) {
                watch->fn(watch->arg, events[i].events);
            }
        }
    }
}

void lab_fd_open(struct lab_fd *watch, int fd, uint32_t events,
                 void (*fn)(void *arg, uint32_t events), void *arg) {
    watch->fd = fd;
    watch->fn = fn;
    watch->arg = arg;
    struct epoll_event event = {.events = events, .data.ptr = watch};
    CHECK(epoll_ctl(loop.epoll, EPOLL_CTL_ADD, fd, &event) == 0);
    list_init(&watch->link);
    list_push_back(&loop.fds, &watch->link);
}

void lab_fd_events(struct lab_fd *watch, uint32_t events) {
    struct epoll_event event = {.events = events, .data.ptr = watch};
    CHECK(epoll_ctl(loop.epoll, EPOLL_CTL_MOD, watch->fd, &event) == 0);
}

void lab_fd_close(struct lab_fd *watch) {
    if (watch->fd < 0) {
        return;
    }
    epoll_ctl(loop.epoll, EPOLL_CTL_DEL, watch->fd, NULL);
    list_del(&watch->link);
    close(watch->fd);
    watch->fd = -1;
}

void lab_timer_set(struct lab_timer *timer, uint64_t delay_ms, void (*fn)(void *arg), void *arg) {
    lab_timer_stop(timer);
    timer->due_ns = clock_mono_ns() + delay_ms * NS_PER_MS;
    timer->fn = fn;
    timer->arg = arg;
    timer->is_armed = true;
    struct list *at = loop.timers.next;
    while (at != &loop.timers && LIST_ITEM(at, struct lab_timer, link)->due_ns <= timer->due_ns) {
        at = at->next;
    }
    list_init(&timer->link);
    list_push_back(at, &timer->link); // in front of `at`
}

void lab_timer_stop(struct lab_timer *timer) {
    if (timer->is_armed) {
        list_del(&timer->link);
        timer->is_armed = false;
    }
}

void lab_child_watch(pid_t pid, void (*fn)(void *arg, pid_t pid, int status), void *arg) {
    struct child *child = xcalloc(1, sizeof(*child));
    child->pid = pid;
    child->fn = fn;
    child->arg = arg;
    list_init(&child->link);
    list_push_back(&loop.children, &child->link);
}

void lab_child_forget(const void *arg) {
    LIST_EACH(node, &loop.children) {
        struct child *child = LIST_ITEM(node, struct child, link);
        if (child->arg == arg) {
            child->fn = NULL;
        }
    }
}

// SPDX-License-Identifier: Apache-2.0
//
// ztunctl local port-forward: a process per connection, which ends with it.

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/base/slice.h"
#include "ctl/local_json.h"
#include "ctl/local_sys.h"
#include "ctl/local_verbs_priv.h"

enum { FORWARDS_MAX = 16, COPY_MAX = 65536 };

struct forward {
    uint16_t local, remote;
    int fd;
};

static struct sockaddr_in loopback(uint16_t port) {
    return (struct sockaddr_in){
        .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
}

// Copies what is there once. False: this direction has ended.
static bool copy_once(int from, int to) {
    char data[COPY_MAX];
    ssize_t n = recv(from, data, sizeof(data), 0);
    for (ssize_t at = 0; at < n;) {
        ssize_t sent = send(to, data + at, (size_t)(n - at), MSG_NOSIGNAL);
        if (sent <= 0) {
            return false;
        }
        at += sent;
    }
    if (n <= 0) {
        shutdown(to, SHUT_WR);
    }
    return n > 0;
}

static void copy(int left, int right) {
    struct pollfd fds[2] = {{.fd = left, .events = POLLIN}, {.fd = right, .events = POLLIN}};
    while ((fds[0].fd >= 0 || fds[1].fd >= 0) && poll(fds, 2, -1) > 0) {
        if (fds[0].revents != 0 && !copy_once(left, right)) {
            fds[0].fd = -1;
        }
        if (fds[1].revents != 0 && !copy_once(right, left)) {
            fds[1].fd = -1;
        }
    }
}

static _Noreturn void serve(int client, const char *netns, uint16_t port) {
    struct sockaddr_in to = loopback(port);
    int ns = lab_netns_open(netns);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    // This process only connects, so it stays in the pod's namespace.
    if (ns < 0 || lab_netns_enter(ns) < 0) {
        fprintf(stderr, "error: the pod's network has gone: %s\n", strerror(errno));
        _exit(1);
    }
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || connect(fd, (struct sockaddr *)&to, sizeof(to)) < 0) {
        fprintf(stderr, "error: lost connection to pod: 127.0.0.1:%u: %s\n", port, strerror(errno));
        _exit(1);
    }
    copy(client, fd);
    _exit(0);
}

static bool parse_port(const char *text, size_t len, uint16_t *ret) {
    char digits[8];
    if (len == 0 || len >= sizeof(digits) || strspn(text, "0123456789") < len) {
        return false;
    }
    snprintf(digits, sizeof(digits), "%.*s", (int)len, text);
    unsigned long value = strtoul(digits, NULL, 10);
    *ret = (uint16_t)value;
    return value >= 1 && value <= 65535;
}

static bool open_forward(const char *text, struct forward *ret) {
    const char *colon = strchr(text, ':');
    const char *remote = colon != NULL ? colon + 1 : text;
    size_t len = colon != NULL ? (size_t)(colon - text) : strlen(text);
    if (!parse_port(text, len, &ret->local) || !parse_port(remote, strlen(remote), &ret->remote)) {
        verb_error("error parsing port \"%s\": expected [LOCAL:]PORT", text);
        return false;
    }
    struct sockaddr_in at = loopback(ret->local);
    int on = 1;
    ret->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (ret->fd < 0 || setsockopt(ret->fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) < 0 ||
        bind(ret->fd, (struct sockaddr *)&at, sizeof(at)) < 0 || listen(ret->fd, 64) < 0) {
        verb_error("unable to listen on port %u: %s", ret->local, strerror(errno));
        return false;
    }
    return true;
}

// The container's port behind a Service's.
static void resolve_service_port(const struct verb_args *a, const struct verb_target *target,
                                 const json_t *pod, struct forward *forward) {
    json_t *service = verb_object(a->dir, target), *port, *container, *own;
    size_t i, k, m;
    json_array_foreach(js_get(service, "spec.ports"), i, port) {
        if (js_int(port, "port", 0) != forward->remote) {
            continue;
        }
        const char *name = js_str(port, "targetPort", "");
        long long number = js_int(port, "targetPort", js_int(port, "port", 0));
        json_array_foreach(js_get(pod, "spec.containers"), k, container) {
            json_array_foreach(js_get(container, "ports"), m, own) {
                if (name[0] != '\0' && strcmp(js_str(own, "name", ""), name) == 0) {
                    number = js_int(own, "containerPort", number);
                }
            }
        }
        forward->remote = (uint16_t)number;
        break;
    }
    json_decref(service);
}

static int run(struct forward *forwards, int n, const char *netns) {
    struct pollfd fds[FORWARDS_MAX];
    signal(SIGCHLD, SIG_IGN); // ended connections are reaped by the kernel
    for (int i = 0; i < n; i++) {
        fds[i] = (struct pollfd){.fd = forwards[i].fd, .events = POLLIN};
        printf("Forwarding from 127.0.0.1:%u -> %u\n", forwards[i].local, forwards[i].remote);
    }
    fflush(stdout);
    while (poll(fds, (nfds_t)n, -1) >= 0 || errno == EINTR) {
        for (int i = 0; i < n; i++) {
            int client =
                (fds[i].revents & POLLIN) != 0 ? accept4(fds[i].fd, NULL, NULL, SOCK_CLOEXEC) : -1;
            if (client < 0) {
                continue;
            }
            printf("Handling connection for %u\n", forwards[i].local);
            fflush(stdout);
            if (fork() == 0) {
                serve(client, netns, forwards[i].remote);
            }
            close(client);
        }
    }
    return 1;
}

int verb_port_forward(const struct verb_args *a) {
    struct forward forwards[FORWARDS_MAX];
    struct verb_target target;
    int at = 0, n = 0, code = 1;
    if (!verb_target(a, &at, "Pod", &target)) {
        return 1;
    }
    char *whole = xasprintf("%s/%s", lab_kind_of(target.kind)->singular, target.name);
    char *where = verb_pod(a->dir, target.ns, whole);
    const char *slash = where != NULL ? strchr(where, '/') : NULL;
    struct verb_target pod_target = {"Pod", slash != NULL ? slash + 1 : "", target.ns};
    json_t *pod = where != NULL ? verb_object(a->dir, &pod_target) : NULL;
    bool is_ok = pod != NULL;
    if (is_ok && at == a->n_rest) {
        verb_error("at least 1 PORT is required for port-forward");
    }
    for (; is_ok && at < a->n_rest && n < FORWARDS_MAX; at++) {
        is_ok = open_forward(a->rest[at], &forwards[n]);
        if (is_ok && strcmp(target.kind, "Service") == 0) {
            resolve_service_port(a, &target, pod, &forwards[n]);
        }
        n += is_ok;
    }
    if (is_ok && n > 0) {
        code = run(forwards, n, js_annotation(pod, "ztun.io/netns"));
    }
    json_decref(pod);
    free(where);
    free(whole);
    free(target.ns);
    return code;
}

// SPDX-License-Identifier: Apache-2.0

#include "ctl/local_probe.h"

#include <arpa/inet.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/base/clock.h"
#include "ctl/local_ctr.h"
#include "ctl/local_json.h"
#include "ctl/local_net.h"
#include "ctl/local_pod.h"
#include "ctl/local_sys.h"
#include "ctl/local_text.h"

enum { QUICK_MS = 100 };

static void run(void *arg);

static uint64_t seconds_ms(const struct lab_probe *probe, const char *field, long long fallback) {
    long long s = js_int(probe->spec, field, fallback);
    return (uint64_t)(s < 0 ? 0 : MIN(s, 3600)) * 1000;
}

static void end_run(struct lab_probe *probe) {
    lab_fd_close(&probe->fd);
    if (probe->pid > 0) {
        kill(-probe->pid, SIGKILL);
        kill(probe->pid, SIGKILL);
        probe->pid = 0;
    }
    probe->is_running = false;
}

void lab_probe_stop(struct lab_probe *probe) {
    lab_timer_stop(&probe->timer);
    end_run(probe);
    lab_child_forget(probe);
}

void lab_probe_stop_all(struct lab_ctr *ctr) {
    for (int kind = 0; kind < PROBE_N_KINDS; kind++) {
        lab_probe_stop(&ctr->probes[kind]);
        ctr->probes[kind].is_ok = false;
    }
}

static void start(struct lab_probe *probe) {
    probe->n_ok = probe->n_failed = 0;
    probe->is_ok = probe->kind == PROBE_LIVENESS;
    uint64_t delay = seconds_ms(probe, "initialDelaySeconds", 0);
    uint64_t ran = (clock_mono_ns() - probe->ctr->started_ns) / NS_PER_MS;
    lab_timer_set(&probe->timer, delay > ran ? delay - ran : 0, run, probe);
}

static void after_startup(struct lab_ctr *ctr) {
    ctr->is_started = true;
    if (ctr->probes[PROBE_LIVENESS].spec != NULL) {
        start(&ctr->probes[PROBE_LIVENESS]);
    }
    if (ctr->probes[PROBE_READINESS].spec != NULL) {
        start(&ctr->probes[PROBE_READINESS]);
    } else {
        ctr->is_ready = true;
    }
    lab_pod_ctr_changed(ctr);
}

void lab_probe_start_all(struct lab_ctr *ctr) {
    if (ctr->is_init && !ctr->is_sidecar) {
        return;
    }
    if (ctr->probes[PROBE_STARTUP].spec != NULL) {
        start(&ctr->probes[PROBE_STARTUP]);
    } else {
        after_startup(ctr);
    }
}

static void on_kill_timeout(void *arg) {
    struct lab_ctr *ctr = arg;
    lab_ctr_kill(ctr);
}

// A liveness or startup probe has failed for good: the container is stopped as in a deletion, and
// its end leads to the restart.
static void condemn(struct lab_probe *probe) {
    struct lab_ctr *ctr = probe->ctr;
    const json_t *pod = ctr->pod->object->doc;
    lab_log("pod %s/%s: container %s failed its %s probe and is restarted", js_ns(pod),
            js_name(pod), ctr->name, probe->kind == PROBE_LIVENESS ? "liveness" : "startup");
    long long grace = js_int(probe->spec, "terminationGracePeriodSeconds",
                             js_int(pod, "spec.terminationGracePeriodSeconds", 30));
    lab_probe_stop_all(ctr);
    ctr->is_ready = false;
    lab_ctr_stop(ctr);
    lab_timer_set(&ctr->timer, (uint64_t)MAX(grace, 0) * 1000, on_kill_timeout, ctr);
    lab_pod_ctr_changed(ctr);
}

static void succeed(struct lab_probe *probe) {
    struct lab_ctr *ctr = probe->ctr;
    probe->n_failed = 0;
    probe->n_ok++;
    if (probe->n_ok < (uint32_t)MAX(js_int(probe->spec, "successThreshold", 1), 1)) {
        return;
    }
    bool was_ok = probe->is_ok;
    probe->is_ok = true;
    if (probe->kind == PROBE_STARTUP && !was_ok) {
        lab_timer_stop(&probe->timer);
        after_startup(ctr);
    } else if (probe->kind == PROBE_READINESS && !was_ok) {
        ctr->is_ready = true;
        lab_pod_ctr_changed(ctr);
    }
}

static void fail(struct lab_probe *probe) {
    struct lab_ctr *ctr = probe->ctr;
    probe->n_ok = 0;
    probe->n_failed++;
    if (probe->n_failed < (uint32_t)MAX(js_int(probe->spec, "failureThreshold", 3), 1)) {
        return;
    }
    probe->n_failed = 0;
    probe->is_ok = false;
    if (probe->kind != PROBE_READINESS) {
        condemn(probe);
    } else if (ctr->is_ready) {
        ctr->is_ready = false;
        lab_pod_ctr_changed(ctr);
    }
}

// Before a first success there is no harm in asking often; only one failure per period counts.
static bool is_quick(const struct lab_probe *probe) {
    return !probe->is_ok && probe->kind != PROBE_LIVENESS && probe->n_ok == 0;
}

static void done(struct lab_probe *probe, bool is_ok) {
    end_run(probe);
    if (!is_ok && is_quick(probe)) {
        uint64_t period = MAX(seconds_ms(probe, "periodSeconds", 10), 1000);
        uint64_t ran = (clock_mono_ns() - probe->ctr->started_ns) / NS_PER_MS;
        lab_timer_set(&probe->timer, QUICK_MS, run, probe);
        if (ran / period > probe->n_failed) {
            fail(probe);
        }
        return;
    }
    lab_timer_set(&probe->timer, MAX(seconds_ms(probe, "periodSeconds", 10), 100), run, probe);
    if (is_ok) {
        succeed(probe);
    } else {
        fail(probe);
    }
}

static void on_timeout(void *arg) {
    done(arg, false);
}

static void on_exec_end(void *arg, pid_t pid, int status) {
    struct lab_probe *probe = arg;
    if (probe->pid == pid) {
        probe->pid = 0;
        done(probe, WIFEXITED(status) && WEXITSTATUS(status) == 0);
    }
}

// The port of a probe: a number, or the name of a container port.
static uint16_t port_of(const struct lab_ctr *ctr, const json_t *port) {
    long long number = json_is_integer(port) ? json_integer_value(port) : 0;
    const char *name = json_string_value(port);
    size_t i;
    json_t *item;
    json_array_foreach(js_get(ctr->spec, "ports"), i, item) {
        if (name != NULL && strcmp(js_str(item, "name", ""), name) == 0) {
            number = js_int(item, "containerPort", 0);
        }
    }
    if (name != NULL && number == 0) {
        number = strtol(name, NULL, 10);
    }
    return (uint16_t)(number > 0 && number < 65536 ? number : 0);
}

static bool target_of(const struct lab_ctr *ctr, const json_t *action, struct addr *ret_addr) {
    const struct lab_pod *pod = ctr->pod;
    const struct ip *ips = pod->is_host_network ? pod->node->ips : pod->ips;
    struct addr addr = {.ip = ips[0].family != 0 ? ips[0] : ips[1],
                        .port = port_of(ctr, js_get(action, "port"))};
    const char *host = js_str(action, "host", NULL);
    if (host != NULL && !ip_parse(slice_str(host), &addr.ip)) {
        lab_note(pod->lab, "probes: host %s is no address", host);
        return false;
    }
    *ret_addr = addr;
    return addr.port != 0;
}

// Connects from the node's namespace, from the address that is exempt from capture.
static int dial(const struct lab_pod *pod, const struct addr *to) {
    int previous = lab_netns_enter(pod->node->netns_fd);
    if (previous < 0) {
        return previous;
    }
    struct sockaddr_storage sa;
    socklen_t len = addr_to_sockaddr(to, false, &sa);
    int fd = socket(sa.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    int rc = fd < 0 ? -errno : 0;
    struct addr from = {.port = 0};
    if (rc == 0 && !ip_is_loopback(&to->ip) &&
        ip_parse(slice_str(lab_net_probe_address(to->ip.family)), &from.ip)) {
        struct sockaddr_storage source;
        socklen_t source_len = addr_to_sockaddr(&from, false, &source);
        if (!pod->is_host_network && bind(fd, (struct sockaddr *)&source, source_len) < 0) {
            rc = -errno;
        }
    }
    if (rc == 0 && connect(fd, (struct sockaddr *)&sa, len) < 0 && errno != EINPROGRESS) {
        rc = -errno;
    }
    lab_netns_leave(previous);
    if (rc < 0) {
        if (fd >= 0) {
            close(fd);
        }
        return rc;
    }
    return fd;
}

static bool send_request(int fd, const json_t *action, const struct addr *to) {
    char host[ADDR_TEXT_MAX];
    struct text out = {0};
    const char *path = js_str(action, "path", "/");
    text_add(&out, "GET %s%s HTTP/1.1\r\n", path[0] == '/' ? "" : "/", path);
    bool has_host = false;
    size_t i;
    json_t *header;
    json_array_foreach(js_get(action, "httpHeaders"), i, header) {
        const char *name = js_str(header, "name", "");
        has_host = has_host || strcasecmp(name, "host") == 0;
        text_add(&out, "%s: %s\r\n", name, js_str(header, "value", ""));
    }
    if (!has_host) {
        text_add(&out, "Host: %s\r\n", addr_text(to, host));
    }
    text_add(&out, "User-Agent: kube-probe/1.36\r\nAccept: */*\r\nConnection: close\r\n\r\n");
    ssize_t n = send(fd, out.ptr, out.len, MSG_NOSIGNAL | MSG_DONTWAIT);
    bool is_sent = n == (ssize_t)out.len;
    text_fini(&out);
    return is_sent;
}

static bool is_connected(int fd) {
    int error = 0;
    socklen_t len = sizeof(error);
    return getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &len) == 0 && error == 0;
}

static void on_socket(void *arg, uint32_t events) {
    struct lab_probe *probe = arg;
    const json_t *http = js_get(probe->spec, "httpGet");
    struct addr to;
    if (!probe->is_connected) {
        bool is_ok = is_connected(probe->fd.fd);
        if (!is_ok || http == NULL || strcmp(js_str(http, "scheme", "HTTP"), "HTTPS") == 0) {
            done(probe, is_ok);
            return;
        }
        probe->is_connected = true;
        if (!target_of(probe->ctr, http, &to) || !send_request(probe->fd.fd, http, &to)) {
            done(probe, false);
            return;
        }
        lab_fd_events(&probe->fd, EPOLLIN);
        return;
    }
    // "HTTP/1.1 200" is all we need.
    ssize_t n = recv(probe->fd.fd, probe->head + probe->head_len,
                     sizeof(probe->head) - 1U - probe->head_len, MSG_DONTWAIT);
    if (n < 0 && errno == EAGAIN) {
        return;
    }
    probe->head_len = (uint8_t)(probe->head_len + (n > 0 ? n : 0));
    if (n <= 0 || probe->head_len >= 12) {
        probe->head[probe->head_len] = '\0';
        bool is_http = strncmp(probe->head, "HTTP/1.", 7) == 0 && probe->head_len >= 12;
        done(probe, is_http && (probe->head[9] == '2' || probe->head[9] == '3'));
    }
}

static void run(void *arg) {
    struct lab_probe *probe = arg;
    const json_t *command = js_get(probe->spec, "exec.command");
    const json_t *action = js_get(probe->spec, "httpGet");
    lab_timer_set(&probe->timer, MAX(seconds_ms(probe, "timeoutSeconds", 1), 1000), on_timeout,
                  probe);
    probe->is_running = true;
    if (command != NULL) {
        pid_t pid = lab_ctr_exec(probe->ctr, command);
        if (pid < 0) {
            done(probe, false);
            return;
        }
        probe->pid = pid;
        lab_child_watch(pid, on_exec_end, probe);
        return;
    }
    if (action == NULL) {
        action = js_get(probe->spec, "tcpSocket");
    }
    if (action == NULL) {
        action = js_get(probe->spec, "grpc");
        lab_note(probe->ctr->pod->lab, "grpc probes only check that the port is open");
    } else if (strcmp(js_str(action, "scheme", "HTTP"), "HTTPS") == 0) {
        lab_note(probe->ctr->pod->lab, "HTTPS probes only check that the port is open");
    }
    struct addr to;
    int fd = target_of(probe->ctr, action, &to) ? dial(probe->ctr->pod, &to) : -EINVAL;
    if (fd < 0) {
        done(probe, false);
        return;
    }
    probe->head_len = 0;
    probe->is_connected = false;
    lab_fd_open(&probe->fd, fd, EPOLLOUT, on_socket, probe);
}

static void on_hook(void *arg, uint32_t events) {
    struct lab_ctr *ctr = arg;
    const json_t *http = js_get(ctr->spec, "lifecycle.preStop.httpGet");
    struct addr to;
    if ((events & EPOLLOUT) != 0 && is_connected(ctr->hook_fd.fd) && target_of(ctr, http, &to) &&
        send_request(ctr->hook_fd.fd, http, &to)) {
        lab_fd_events(&ctr->hook_fd, EPOLLIN);
        return;
    }
    // Answered or broken: either way the signal is next.
    lab_fd_close(&ctr->hook_fd);
    ctr->hook_done(ctr);
}

bool lab_probe_hook(struct lab_ctr *ctr, const json_t *hook, void (*hook_done)(void *ctr)) {
    struct addr to;
    int fd = target_of(ctr, js_get(hook, "httpGet"), &to) ? dial(ctr->pod, &to) : -EINVAL;
    if (fd < 0) {
        return false;
    }
    ctr->hook_done = hook_done;
    lab_fd_open(&ctr->hook_fd, fd, EPOLLOUT, on_hook, ctr);
    return true;
}

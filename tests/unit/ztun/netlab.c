// SPDX-License-Identifier: Apache-2.0
#include "tests/unit/ztun/netlab.h"

#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include "common/rt/netns.h"

enum { COMMAND_MAX = 1024, ACCEPT_WAIT_MS = 300 };

void netlab_sh(const char *fmt, ...) {
    char command[COMMAND_MAX];
    va_list args;
    va_start(args, fmt);
    vsnprintf(command, sizeof(command), fmt, args);
    va_end(args);
    int rc = system(command);
    if (rc != 0) {
        fprintf(stderr, "netlab: exit %d of: %s\n", rc, command);
    }
    CHECK(rc == 0);
}

void netlab_up(struct netlab *lab, int families) {
    static int n_labs;
    int n = n_labs++;
    snprintf(lab->pod_name, sizeof(lab->pod_name), "ztt%d-%d-pod", (int)getpid(), n);
    snprintf(lab->peer_name, sizeof(lab->peer_name), "ztt%d-%d-peer", (int)getpid(), n);
    netlab_sh("ip netns add %s && ip netns add %s", lab->pod_name, lab->peer_name);
    netlab_sh("ip -n %s link add eth0 type veth peer name eth0 netns %s", lab->pod_name,
              lab->peer_name);
    if ((families & NETLAB_V6) == 0) {
        netlab_sh("ip netns exec %s sysctl -qw net.ipv6.conf.all.disable_ipv6=1 "
                  "net.ipv6.conf.default.disable_ipv6=1",
                  lab->pod_name);
    }
    for (int i = 0; i < 2; i++) {
        const char *name = i == 0 ? lab->pod_name : lab->peer_name;
        netlab_sh("ip -n %s link set lo up && ip -n %s link set eth0 up", name, name);
        if ((families & NETLAB_V4) != 0) {
            netlab_sh("ip -n %s addr add 10.99.0.%d/24 dev eth0", name, i + 1);
        }
        if ((families & NETLAB_V6) != 0) {
            netlab_sh("ip -n %s addr add fd99::%d/64 dev eth0 nodad", name, i + 1);
        }
    }
    if ((families & NETLAB_V4) != 0) {
        netlab_sh("ip -n %s route add default via 10.99.0.2", lab->pod_name);
    }
    if ((families & NETLAB_V6) != 0) {
        netlab_sh("ip -n %s route add default via fd99::2", lab->pod_name);
    }
    lab->pod = netns_open(lab->pod_name);
    lab->peer = netns_open(lab->peer_name);
    CHECK(lab->pod >= 0 && lab->peer >= 0);
}

void netlab_down(struct netlab *lab) {
    close(lab->pod);
    close(lab->peer);
    // The test may have taken one away itself.
    netlab_sh("ip netns del %s 2>/dev/null; ip netns del %s 2>/dev/null; true", lab->pod_name,
              lab->peer_name);
}

struct addr netlab_addr(const char *ip, uint16_t port) {
    struct addr addr = {.port = port};
    CHECK(ip_parse(slice_str(ip), &addr.ip));
    return addr;
}

static int make_socket(int netns, const struct addr *addr, int type, uint32_t mark) {
    CHECK(netns_enter(netns) == 0);
    int fd = socket(addr->ip.family == 6 ? AF_INET6 : AF_INET, type | SOCK_CLOEXEC, 0);
    int err = errno;
    netns_leave();
    if (fd < 0) {
        return -err;
    }
    struct timeval timeout = {.tv_sec = 3};
    int one = 1;
    CHECK(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof(timeout)) == 0);
    CHECK(setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &timeout, sizeof(timeout)) == 0);
    CHECK(setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)) == 0);
    CHECK(mark == 0 || setsockopt(fd, SOL_SOCKET, SO_MARK, &mark, sizeof(mark)) == 0);
    return fd;
}

static int bind_to(int fd, const struct addr *addr, bool transparent) {
    bool v6 = addr->ip.family == 6;
    int one = 1;
    if (transparent) {
        CHECK(setsockopt(fd, v6 ? IPPROTO_IPV6 : IPPROTO_IP, v6 ? IPV6_TRANSPARENT : IP_TRANSPARENT,
                         &one, sizeof(one)) == 0);
    }
    struct sockaddr_storage sa;
    socklen_t len = addr_to_sockaddr(addr, v6, &sa);
    return bind(fd, (struct sockaddr *)&sa, len) == 0 ? 0 : -errno;
}

int netlab_listen(int netns, const char *ip, uint16_t port, uint32_t mark) {
    struct addr addr = netlab_addr(ip, port);
    int fd = make_socket(netns, &addr, SOCK_STREAM, mark);
    CHECK(fd >= 0);
    CHECK(bind_to(fd, &addr, false) == 0);
    CHECK(listen(fd, 16) == 0);
    return fd;
}

int netlab_udp(int netns, const char *ip, uint16_t port, uint32_t mark) {
    struct addr addr = netlab_addr(ip, port);
    int fd = make_socket(netns, &addr, SOCK_DGRAM, mark);
    CHECK(fd >= 0);
    if (port != 0) {
        CHECK(bind_to(fd, &addr, false) == 0);
    }
    return fd;
}

int netlab_connect(int netns, const char *from, const char *to, uint16_t port, uint32_t mark) {
    struct addr addr = netlab_addr(to, port);
    int fd = make_socket(netns, &addr, SOCK_STREAM, mark);
    if (fd < 0) {
        return fd;
    }
    if (from != NULL) {
        struct addr source = netlab_addr(from, 0);
        CHECK(bind_to(fd, &source, true) == 0);
    }
    struct sockaddr_storage sa;
    socklen_t len = addr_to_sockaddr(&addr, false, &sa);
    if (connect(fd, (struct sockaddr *)&sa, len) < 0) {
        int rc = -errno;
        close(fd);
        return rc;
    }
    return fd;
}

int netlab_accept(int fd) {
    struct pollfd p = {.fd = fd, .events = POLLIN};
    if (poll(&p, 1, ACCEPT_WAIT_MS) != 1) {
        return -EAGAIN;
    }
    int accepted = accept4(fd, NULL, NULL, SOCK_CLOEXEC);
    return accepted >= 0 ? accepted : -errno;
}

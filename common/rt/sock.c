// SPDX-License-Identifier: Apache-2.0
#include "common/rt/sock.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <unistd.h>

#include "common/rt/netns.h"

// Of linux/netfilter_ipv4.h and netfilter_ipv6/ip6_tables.h, which clash with libc's headers.
enum {
    ORIGINAL_DST_V4 = 80,
    ORIGINAL_DST_V6 = 80,
    OPT_LOCAL_PORT_RANGE = 51, // IP_LOCAL_PORT_RANGE
};
#ifndef SO_NETNS_COOKIE
#define SO_NETNS_COOKIE 71
#endif

static int set_int(int fd, int level, int option, int value) {
    return setsockopt(fd, level, option, &value, sizeof(value)) == 0 ? 0 : -errno;
}

void sock_nodelay(int fd) {
    (void)set_int(fd, IPPROTO_TCP, TCP_NODELAY, 1); // not TCP (tests): no matter
}

void sock_keepalive(int fd, uint32_t keepalive_s, uint32_t interval_s, uint32_t probes) {
    if (keepalive_s == 0) {
        return;
    }
    (void)set_int(fd, SOL_SOCKET, SO_KEEPALIVE, 1);
    (void)set_int(fd, IPPROTO_TCP, TCP_KEEPIDLE, (int)keepalive_s);
    (void)set_int(fd, IPPROTO_TCP, TCP_KEEPINTVL,
                  (int)(interval_s != 0 ? interval_s : keepalive_s));
    if (probes != 0) {
        (void)set_int(fd, IPPROTO_TCP, TCP_KEEPCNT, (int)probes);
    }
}

void sock_tunnel(int fd, uint32_t user_timeout_ms) {
    (void)set_int(fd, IPPROTO_TCP, TCP_NOTSENT_LOWAT, SOCK_NOTSENT_LOWAT);
    if (user_timeout_ms != 0) {
        (void)set_int(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, (int)user_timeout_ms);
    }
}

// Allows the bind to a foreign address as well, as IP_FREEBIND does.
static int set_transparent(int fd, bool v6) {
    return v6 ? set_int(fd, IPPROTO_IPV6, IPV6_TRANSPARENT, 1)
              : set_int(fd, IPPROTO_IP, IP_TRANSPARENT, 1);
}

static int bind_source(int fd, const struct addr *bind_addr, bool v6, bool transparent) {
    if (bind_addr->port == 0) {
        // The port is chosen at connect(), when the whole 4-tuple is known: otherwise each bound
        // source address has no more than 28 000 connections.
        (void)set_int(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, 1);
        if (transparent) {
            // Linux 6.3; elsewhere the sysctl's range has to do.
            uint32_t range = (uint32_t)SOCK_FOREIGN_PORT_MAX << 16 | SOCK_FOREIGN_PORT_MIN;
            (void)setsockopt(fd, IPPROTO_IP, OPT_LOCAL_PORT_RANGE, &range, sizeof(range));
        }
    } else {
        (void)set_int(fd, SOL_SOCKET, SO_REUSEADDR, 1); // connect() judges the whole 4-tuple
    }
    struct sockaddr_storage sa;
    socklen_t len = addr_to_sockaddr(bind_addr, v6, &sa);
    return bind(fd, (struct sockaddr *)&sa, len) == 0 ? 0 : -errno;
}

static void set_linger(int fd, bool reset) {
    struct linger linger = {.l_onoff = reset, .l_linger = 0};
    (void)setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger));
}

static int set_stream_options(int fd, const struct io_socket_params *params) {
    bool v6 = params->family == 6;
    sock_nodelay(fd);
    sock_keepalive(fd, params->keepalive_s, params->keepalive_interval_s, params->keepalive_probes);
    if (params->is_tunnel) {
        sock_tunnel(fd, params->user_timeout_ms);
    } else if (params->user_timeout_ms != 0) {
        (void)set_int(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, (int)params->user_timeout_ms);
    }
    if (params->cut_on_death) {
        set_linger(fd, true);
    }
    int rc = 0;
    if (params->mark != 0) {
        rc = set_int(fd, SOL_SOCKET, SO_MARK, (int)params->mark);
    }
    if (rc == 0 && params->transparent) {
        rc = set_transparent(fd, v6);
    }
    if (rc == 0 && ip_is_set(&params->bind.ip)) {
        rc = bind_source(fd, &params->bind, v6, params->transparent);
    }
    return rc;
}

static int new_socket(int netns_fd, bool v6) {
    if (netns_fd >= 0) {
        int rc = netns_enter(netns_fd);
        if (rc < 0) {
            return rc;
        }
    }
    int fd = socket(v6 ? AF_INET6 : AF_INET, SOCK_STREAM | SOCK_CLOEXEC, IPPROTO_TCP);
    int err = errno;
    if (netns_fd >= 0) {
        netns_leave();
    }
    return fd >= 0 ? fd : -err;
}

int sock_stream(const struct io_socket_params *params) {
    int fd = new_socket(params->netns_fd, params->family == 6);
    if (fd < 0) {
        return fd;
    }
    int rc = set_stream_options(fd, params);
    if (rc < 0) {
        close(fd);
        return rc;
    }
    return fd;
}

static int set_listen_options(int fd, const struct sock_listen_params *params, bool v6) {
    sock_nodelay(fd);
    sock_keepalive(fd, params->keepalive_s, params->keepalive_interval_s, params->keepalive_probes);
    if (params->is_tunnel) {
        sock_tunnel(fd, params->user_timeout_ms);
    }
    if (params->cut_on_death) {
        set_linger(fd, true); // inherited by accepted sockets
    }
    int rc = set_int(fd, SOL_SOCKET, SO_REUSEADDR, 1);
    if (rc == 0 && params->device != NULL) {
        socklen_t len = (socklen_t)strlen(params->device);
        rc = setsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, params->device, len) == 0 ? 0 : -errno;
    }
    if (rc == 0 && params->reuse_port) {
        rc = set_int(fd, SOL_SOCKET, SO_REUSEPORT, 1);
    }
    if (rc == 0 && v6) {
        rc = set_int(fd, IPPROTO_IPV6, IPV6_V6ONLY, params->v6_only);
    }
    if (rc == 0 && params->mark != 0) {
        rc = set_int(fd, SOL_SOCKET, SO_MARK, (int)params->mark);
    }
    if (rc == 0 && params->transparent) {
        rc = set_transparent(fd, v6);
        if (rc == 0 && v6 && !params->v6_only) {
            rc = set_int(fd, IPPROTO_IP, IP_TRANSPARENT, 1); // IPv4 on a dual-stack socket
        }
    }
    return rc;
}

int sock_listen(const struct sock_listen_params *params) {
    bool v6 = params->bind.ip.family == 6;
    int fd = new_socket(params->netns_fd, v6);
    if (fd < 0) {
        return fd;
    }
    int rc = set_listen_options(fd, params, v6);
    if (rc == 0) {
        struct sockaddr_storage sa;
        socklen_t len = addr_to_sockaddr(&params->bind, v6, &sa);
        rc = bind(fd, (struct sockaddr *)&sa, len) == 0 ? 0 : -errno;
    }
    if (rc == 0) {
        rc = listen(fd, params->backlog != 0 ? params->backlog : 1024) == 0 ? 0 : -errno;
    }
    if (rc < 0) {
        close(fd);
        return rc;
    }
    return fd;
}

int sock_accept_now(int listen_fd) {
    int flags = fcntl(listen_fd, F_GETFL);
    if (flags < 0 || fcntl(listen_fd, F_SETFL, flags | O_NONBLOCK) < 0) {
        return -errno;
    }
    int fd;
    do {
        fd = accept4(listen_fd, NULL, NULL, SOCK_CLOEXEC);
    } while (fd < 0 && (errno == EINTR || errno == ECONNABORTED));
    int rc = fd >= 0 ? fd : -errno;
    (void)fcntl(listen_fd, F_SETFL, flags); // the ring does not wait on a non-blocking descriptor
    return rc;
}

int sock_error(int fd) {
    int err = 0;
    socklen_t len = sizeof(err);
    return getsockopt(fd, SOL_SOCKET, SO_ERROR, &err, &len) == 0 ? -err : -errno;
}

void sock_close(int fd, bool reset) {
    set_linger(fd, reset); // also off: see cut_on_death
    (void)close(fd);
}

static int to_addr(const struct sockaddr_storage *sa, struct addr *ret_addr) {
    return addr_from_sockaddr((const struct sockaddr *)sa, ret_addr) ? 0 : -EAFNOSUPPORT;
}

int sock_local_addr(int fd, struct addr *ret_addr) {
    struct sockaddr_storage sa;
    socklen_t len = sizeof(sa);
    if (getsockname(fd, (struct sockaddr *)&sa, &len) < 0) {
        return -errno;
    }
    return to_addr(&sa, ret_addr);
}

int sock_peer_addr(int fd, struct addr *ret_addr) {
    struct sockaddr_storage sa;
    socklen_t len = sizeof(sa);
    if (getpeername(fd, (struct sockaddr *)&sa, &len) < 0) {
        return -errno;
    }
    return to_addr(&sa, ret_addr);
}

int sock_original_dst(int fd, struct addr *ret_addr) {
    struct sockaddr_storage sa;
    socklen_t len = sizeof(sa);
    if (getsockopt(fd, IPPROTO_IP, ORIGINAL_DST_V4, &sa, &len) == 0) {
        return to_addr(&sa, ret_addr);
    }
    len = sizeof(sa);
    if (getsockopt(fd, IPPROTO_IPV6, ORIGINAL_DST_V6, &sa, &len) == 0) {
        return to_addr(&sa, ret_addr);
    }
    return sock_local_addr(fd, ret_addr);
}

int sock_netns_cookie(int fd, uint64_t *ret_cookie) {
    uint64_t cookie = 0;
    socklen_t len = sizeof(cookie);
    if (getsockopt(fd, SOL_SOCKET, SO_NETNS_COOKIE, &cookie, &len) < 0) {
        return -errno;
    }
    *ret_cookie = cookie;
    return 0;
}

// SPDX-License-Identifier: Apache-2.0

#include "ctl/local_dns.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/base/buf.h"
#include "common/proto/dns_msg.h"
#include "ctl/local_json.h"
#include "ctl/local_pod.h"
#include "ctl/local_service.h"
#include "ctl/local_store.h"
#include "ctl/local_sys.h"
#include "ctl/local_text.h"

enum { IPS_MAX = 256, CONNECTIONS_MAX = 64, IDLE_MS = 5000, TTL_S = 5, NAME_MAX_LEN = 256 };

struct lookup {
    struct lab *lab;
    uint16_t type;
    bool is_known; // the name exists, with or without such a record
    const char *cname;
    struct ip ips[IPS_MAX];
    uint32_t n_ips;
};

static void add_ip(struct lookup *l, const struct ip *ip) {
    bool is_wanted =
        (l->type == DNS_A && ip->family == 4) || (l->type == DNS_AAAA && ip->family == 6);
    l->is_known = true;
    if (is_wanted && l->n_ips < IPS_MAX) {
        l->ips[l->n_ips++] = *ip;
    }
}

static void add_text(struct lookup *l, const char *text) {
    struct ip ip;
    if (text != NULL && ip_parse(slice_str(text), &ip)) {
        add_ip(l, &ip);
    }
}

static void add_cluster_ips(struct lookup *l, const json_t *service) {
    size_t i;
    json_t *item;
    json_array_foreach(js_get(service, "spec.clusterIPs"), i, item) {
        add_text(l, json_string_value(item));
    }
}

// The endpoints of a headless service; `host` NULL = all, else those of that host name.
static void add_endpoints(struct lookup *l, const json_t *service, const char *host) {
    struct lab_endpoint *endpoints = xcalloc(IPS_MAX, sizeof(*endpoints));
    for (int family = 4; family <= 6; family += 2) {
        size_t n = lab_service_endpoints(l->lab, service, NULL, family, endpoints, IPS_MAX);
        for (size_t i = 0; i < n; i++) {
            if (host == NULL || strcmp(endpoints[i].hostname, host) == 0) {
                add_ip(l, &endpoints[i].ip);
            }
        }
    }
    free(endpoints);
}

static void find_service(struct lookup *l, const char *host, const char *name, const char *ns) {
    struct lab_object *object = lab_store_find(l->lab, "Service", ns, name);
    if (object == NULL) {
        return;
    }
    const json_t *service = object->doc;
    bool is_headless = strcmp(js_str(service, "spec.clusterIP", ""), "None") == 0;
    if (host != NULL) {
        add_endpoints(l, service, host);
    } else if (strcmp(js_str(service, "spec.type", ""), "ExternalName") == 0) {
        l->is_known = true;
        l->cname = js_str(service, "spec.externalName", NULL);
    } else if (is_headless) {
        l->is_known = true;
        add_endpoints(l, service, NULL);
    } else {
        l->is_known = true;
        add_cluster_ips(l, service);
    }
}

// "10-244-1-3.NS.pod.DOMAIN", "fd00--1.NS.pod.DOMAIN": only of pods that are there.
static void find_pod(struct lookup *l, const char *dashed, const char *ns) {
    char text[NAME_MAX_LEN];
    snprintf(text, sizeof(text), "%s", dashed);
    size_t n_dashes = 0;
    for (const char *at = text; *at != '\0'; at++) {
        n_dashes += *at == '-';
    }
    bool is_v4 = n_dashes == 3 && strspn(text, "0123456789-") == strlen(text);
    for (char *at = text; *at != '\0'; at++) {
        *at = *at != '-' ? *at : is_v4 ? '.' : ':';
    }
    struct ip ip;
    if (!ip_parse(slice_str(text), &ip)) {
        return;
    }
    LIST_EACH(node, &l->lab->pods) {
        struct lab_pod *pod = LAB_POD(node);
        if (strcmp(js_ns(pod->object->doc), ns) == 0 &&
            (ip_eq(&ip, &pod->ips[0]) || ip_eq(&ip, &pod->ips[1]))) {
            add_ip(l, &ip);
        }
    }
}

static void find_configured(struct lookup *l, const char *name) {
    const char *pattern;
    json_t *ips;
    json_object_foreach(l->lab->opt.dns, pattern, ips) {
        size_t i;
        json_t *ip;
        bool is_match =
            strcasecmp(pattern, name) == 0 || (pattern[0] == '*' && text_glob(pattern, name));
        json_array_foreach(ips, i, ip) {
            if (is_match) {
                add_text(l, json_string_value(ip));
            }
        }
    }
}

static void find(struct lookup *l, const char *name) {
    char suffix[NAME_MAX_LEN], head[NAME_MAX_LEN];
    find_configured(l, name);
    int n = snprintf(suffix, sizeof(suffix), ".%s", l->lab->opt.cluster_domain);
    size_t len = strlen(name);
    if (n < 0 || len <= (size_t)n || strcmp(name + len - (size_t)n, suffix) != 0) {
        return;
    }
    // [HOST.]NAME.NS.svc or IP.NS.pod, read from the right
    snprintf(head, sizeof(head), "%.*s", (int)(len - (size_t)n), name);
    const char *parts[4] = {NULL};
    for (int i = 3; i > 0; i--) {
        char *dot = strrchr(head, '.');
        parts[i] = dot != NULL ? dot + 1 : head;
        parts[0] = dot != NULL ? head : NULL;
        if (dot == NULL) {
            break;
        }
        *dot = '\0';
    }
    if (parts[1] == NULL) {
        return;
    }
    // parts: [0] what is left, [1] name, [2] namespace, [3] "svc" or "pod"
    const char *host = parts[0];
    if (strcmp(parts[3], "svc") == 0) {
        find_service(l, host, parts[1], parts[2]);
    } else if (strcmp(parts[3], "pod") == 0 && host == NULL) {
        find_pod(l, parts[1], parts[2]);
    }
}

// False: no answer at all.
static bool answer(struct lab *lab, struct slice message, bool is_udp, struct buf *out) {
    struct dns_query query;
    enum dns_query_result result = dns_query_parse(message, &query);
    if (result == DNS_QUERY_IGNORE) {
        return false;
    }
    struct lookup *l = xcalloc(1, sizeof(*l));
    l->lab = lab;
    l->type = query.type;
    struct dns_answer reply = {.is_authoritative = true, .ttl_s = TTL_S, .ede = DNS_EDE_NONE};
    if (result == DNS_QUERY_OK) {
        find(l, query.name);
        reply.rcode = l->is_known ? DNS_NOERROR : DNS_NXDOMAIN;
        reply.cname = l->cname;
        reply.ips = l->ips;
        reply.n_ips = l->n_ips;
    } else {
        reply.rcode = result == DNS_QUERY_BAD ? DNS_FORMERR : DNS_NOTIMP;
    }
    dns_answer_build(&query, &reply, is_udp ? dns_udp_limit(&query) : DNS_MESSAGE_MAX, out);
    free(l);
    return true;
}

static void on_udp(struct lab_node *node, struct lab_fd *watch) {
    uint8_t data[DNS_UDP_OURS];
    struct sockaddr_storage from;
    for (int i = 0; i < 64; i++) {
        socklen_t from_len = sizeof(from);
        ssize_t n = recvfrom(watch->fd, data, sizeof(data), MSG_DONTWAIT, (struct sockaddr *)&from,
                             &from_len);
        if (n < 0) {
            return;
        }
        struct buf out;
        buf_init(&out, DNS_MESSAGE_MAX);
        if (answer(node->lab, slice_make(data, (size_t)n), true, &out)) {
            struct slice bytes = buf_slice(&out);
            // A lost answer is asked for again.
            (void)!sendto(watch->fd, bytes.ptr, bytes.len, MSG_DONTWAIT, (struct sockaddr *)&from,
                          from_len);
        }
        buf_fini(&out);
    }
}

static void on_udp4(void *arg, uint32_t events) {
    on_udp(arg, &((struct lab_node *)arg)->dns_udp[0]);
}

static void on_udp6(void *arg, uint32_t events) {
    on_udp(arg, &((struct lab_node *)arg)->dns_udp[1]);
}

struct connection { // freed with its descriptor
    struct lab *lab;
    struct lab_fd fd;
    struct lab_timer timer;
    uint8_t data[2 + 4096]; // one query
    size_t len;
};
static uint32_t n_connections;

static void drop(void *arg) {
    struct connection *c = arg;
    lab_timer_stop(&c->timer);
    lab_fd_close(&c->fd);
    n_connections--;
    free(c);
}

// Sends length and message; a client whose window is full loses its connection.
static bool reply_tcp(struct connection *c, struct slice message) {
    struct buf out;
    buf_init(&out, DNS_MESSAGE_MAX);
    bool is_ok = answer(c->lab, message, false, &out);
    struct slice bytes = buf_slice(&out);
    if (is_ok) {
        uint8_t head[2] = {(uint8_t)(bytes.len >> 8), (uint8_t)bytes.len};
        is_ok =
            send(c->fd.fd, head, 2, MSG_DONTWAIT | MSG_NOSIGNAL | MSG_MORE) == 2 &&
            send(c->fd.fd, bytes.ptr, bytes.len, MSG_DONTWAIT | MSG_NOSIGNAL) == (ssize_t)bytes.len;
    }
    buf_fini(&out);
    return is_ok;
}

static void on_tcp(void *arg, uint32_t events) {
    struct connection *c = arg;
    ssize_t n = recv(c->fd.fd, c->data + c->len, sizeof(c->data) - c->len, MSG_DONTWAIT);
    if (n < 0 && errno == EAGAIN) {
        return;
    }
    if (n <= 0) {
        drop(c);
        return;
    }
    c->len += (size_t)n;
    while (c->len >= 2) {
        size_t need = 2 + ((size_t)c->data[0] << 8 | c->data[1]);
        if (need > sizeof(c->data)) {
            drop(c);
            return;
        }
        if (c->len < need) {
            break;
        }
        if (!reply_tcp(c, slice_make(c->data + 2, need - 2))) {
            drop(c);
            return;
        }
        memmove(c->data, c->data + need, c->len - need);
        c->len -= need;
    }
    lab_timer_set(&c->timer, IDLE_MS, drop, c);
}

static void accept_tcp(struct lab_node *node, struct lab_fd *watch) {
    int fd = accept4(watch->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd < 0) {
        return;
    }
    if (n_connections >= CONNECTIONS_MAX) {
        close(fd);
        return;
    }
    struct connection *c = xcalloc(1, sizeof(*c));
    c->lab = node->lab;
    n_connections++;
    lab_fd_open(&c->fd, fd, EPOLLIN, on_tcp, c);
    lab_timer_set(&c->timer, IDLE_MS, drop, c);
}

static void on_tcp4(void *arg, uint32_t events) {
    accept_tcp(arg, &((struct lab_node *)arg)->dns_tcp[0]);
}

static void on_tcp6(void *arg, uint32_t events) {
    accept_tcp(arg, &((struct lab_node *)arg)->dns_tcp[1]);
}

static int open_socket(const struct ip *ip, int type) {
    struct addr addr = {.ip = *ip, .port = 53};
    struct sockaddr_storage sa;
    socklen_t len = addr_to_sockaddr(&addr, false, &sa);
    int fd = socket(sa.ss_family, type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    int one = 1;
    if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)) < 0 ||
        bind(fd, (struct sockaddr *)&sa, len) < 0 || (type == SOCK_STREAM && listen(fd, 64) < 0)) {
        int rc = -errno;
        if (fd >= 0) {
            close(fd);
        }
        return rc;
    }
    return fd;
}

void lab_dns_open(struct lab_node *node) {
    static void (*const on_query[2])(void *, uint32_t) = {on_udp4, on_udp6};
    static void (*const on_accept[2])(void *, uint32_t) = {on_tcp4, on_tcp6};
    int previous = lab_netns_enter(node->netns_fd);
    if (previous < 0) {
        return;
    }
    for (int f = 0; f < 2; f++) {
        const struct ip *ip = &node->lab->dns_ips[f];
        if (node->ips[f].family == 0) {
            continue;
        }
        int udp = open_socket(ip, SOCK_DGRAM), tcp = open_socket(ip, SOCK_STREAM);
        if (udp < 0 || tcp < 0) {
            lab_log("cluster DNS on %s: %s", node->name, strerror(udp < 0 ? -udp : -tcp));
        }
        if (udp >= 0) {
            lab_fd_open(&node->dns_udp[f], udp, EPOLLIN, on_query[f], node);
        }
        if (tcp >= 0) {
            lab_fd_open(&node->dns_tcp[f], tcp, EPOLLIN, on_accept[f], node);
        }
    }
    lab_netns_leave(previous);
}

void lab_dns_close(struct lab_node *node) {
    for (int f = 0; f < 2; f++) {
        lab_fd_close(&node->dns_udp[f]);
        lab_fd_close(&node->dns_tcp[f]);
    }
}

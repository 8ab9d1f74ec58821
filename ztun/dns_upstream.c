// SPDX-License-Identifier: Apache-2.0
#include "ztun/dns_upstream.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { RESOLV_CONF_MAX = 64 * 1024, DNS_PORT = 53 };

// "1.2.3.4", "1.2.3.4:5353", "[::1]:53", "::1". False: none of these.
static bool parse_server(struct slice text, struct addr *ret) {
    struct addr addr = {.port = DNS_PORT};
    if (!ip_parse(text, &addr.ip) && (!addr_parse(text, &addr) || addr.port == 0)) {
        return false;
    }
    *ret = addr;
    return !ip_is_unspecified(&addr.ip) && !ip_is_multicast(&addr.ip);
}

static bool is_blank(uint8_t c) {
    return c == ' ' || c == '\t' || c == '\r';
}

static struct slice next_word(struct slice *line) {
    size_t at = 0;
    while (at < line->len && is_blank(line->ptr[at])) {
        at++;
    }
    *line = slice_skip(*line, at);
    size_t len = 0;
    while (len < line->len && !is_blank(line->ptr[len])) {
        len++;
    }
    struct slice word = slice_head(*line, len);
    *line = slice_skip(*line, len);
    return word;
}

uint32_t dns_upstreams_parse(struct slice text, bool skip_loopback,
                             struct addr servers[DNS_UPSTREAMS_MAX]) {
    uint32_t n = 0;
    while (text.len > 0 && n < DNS_UPSTREAMS_MAX) {
        struct slice line = text;
        if (!slice_split(text, '\n', &line, &text)) {
            text = slice_skip(text, text.len);
        }
        if (!slice_eq_str(next_word(&line), "nameserver") ||
            !parse_server(next_word(&line), &servers[n])) {
            continue;
        }
        n += !(skip_loopback && ip_is_loopback(&servers[n].ip));
    }
    return n;
}

// Returns the number of servers, or -errno.
static int read_file(const char *path, bool skip_loopback, struct addr servers[DNS_UPSTREAMS_MAX]) {
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0) {
        return -errno;
    }
    char *text = xmalloc(RESOLV_CONF_MAX);
    size_t len = 0;
    ssize_t n = 1;
    while (n > 0 && len < RESOLV_CONF_MAX) {
        n = read(fd, text + len, RESOLV_CONF_MAX - len);
        len += n > 0 ? (size_t)n : 0;
    }
    close(fd);
    int rc = (int)dns_upstreams_parse(slice_make(text, len), skip_loopback, servers);
    free(text);
    return rc;
}

// The name under which `ip netns` knows the namespace, as a slice of it; empty when it has none.
static struct slice netns_name(const char *netns) {
    static const char *const dirs[] = {"/run/netns/", "/var/run/netns/"};
    struct slice name = slice_str(netns);
    for (size_t i = 0; i < ARRAY_LEN(dirs); i++) {
        if (slice_has_prefix(name, slice_str(dirs[i]))) {
            name = slice_skip(name, strlen(dirs[i]));
        }
    }
    bool is_name = slice_find(name, '/') < 0 && !slice_eq_str(name, "..");
    return is_name ? name : slice_make(NULL, 0);
}

uint32_t dns_upstreams_for(const struct workload *workload, const char *netns, bool is_own,
                           struct addr servers[DNS_UPSTREAMS_MAX], const char **ret_reason) {
    *ret_reason = "";
    uint32_t n = 0;
    if (workload != NULL && workload->common->local->nameservers != NULL) {
        for (const char *const *p = workload->common->local->nameservers;
             *p != NULL && n < DNS_UPSTREAMS_MAX; p++) {
            n += parse_server(slice_trim(slice_str(*p)), &servers[n]);
        }
        if (n == 0) {
            *ret_reason = "annotation ztun.io/nameservers holds no address";
        }
        return n;
    }
    struct slice name = netns_name(netns);
    if (name.len > 0 && !is_own) {
        char path[512];
        snprintf(path, sizeof(path), "/etc/netns/%.*s/resolv.conf", SLICE_ARG(name));
        int rc = read_file(path, false, servers);
        if (rc >= 0) {
            if (rc == 0) {
                *ret_reason = "the resolv.conf of its network namespace names no server";
            }
            return (uint32_t)rc;
        }
    }
    int rc = read_file("/etc/resolv.conf", !is_own, servers);
    if (rc <= 0) {
        *ret_reason = rc < 0   ? "there is no /etc/resolv.conf"
                      : is_own ? "/etc/resolv.conf names no server"
                               : "/etc/resolv.conf names no server that is not on loopback";
    }
    return rc > 0 ? (uint32_t)rc : 0;
}

// SPDX-License-Identifier: Apache-2.0
//
// Looking for the redirection that somebody else has made. istio-cni writes iptables rules, through
// nf_tables or through the old tables of the kernel, or nftables rules of its own.
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <libmnl/libmnl.h>
#include <linux/netfilter/nf_nat.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nf_tables_compat.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netfilter_ipv4/ip_tables.h>
#include <linux/netfilter_ipv6/ip6_tables.h>
#include <stdlib.h>
#include <unistd.h>

#include "ztun/redirect_priv.h"

#define REDIRECT_TARGET "REDIRECT"

enum { ENTRIES_MAX = 16 << 20 }; // bytes of an iptables table

struct search {
    uint16_t port;
    bool is_found;
    // of the rule that is read: the last constant, and where it goes
    uint32_t reg;
    uint16_t value;
};

// What the target REDIRECT has: the ports are in network order, [min, max].
static bool leads_to_port(struct slice info, int family, uint16_t port) {
    struct nf_nat_ipv4_multi_range_compat v4;
    struct nf_nat_range v6;
    if (family == NFPROTO_IPV4 && info.len >= sizeof(v4)) {
        memcpy(&v4, info.ptr, sizeof(v4));
        return v4.rangesize > 0 && ntohs(v4.range[0].min.all) == port;
    }
    if (family == NFPROTO_IPV6 && info.len >= sizeof(v6)) {
        memcpy(&v6, info.ptr, sizeof(v6));
        return ntohs(v6.min_proto.all) == port;
    }
    return false;
}

// ---- nf_tables ---------------------------------------------------------------------------------

static const struct nlattr *attr_in(const struct nlattr *nest, uint16_t type) {
    const struct nlattr *attr;
    mnl_attr_for_each_nested(attr, nest) {
        if (mnl_attr_get_type(attr) == type) {
            return attr;
        }
    }
    return NULL;
}

static uint32_t u32_in(const struct nlattr *nest, uint16_t type) {
    const struct nlattr *attr = attr_in(nest, type);
    bool is_good = attr != NULL && mnl_attr_validate(attr, MNL_TYPE_U32) == 0;
    return is_good ? ntohl(mnl_attr_get_u32(attr)) : 0;
}

static bool is_text(const struct nlattr *attr, const char *text) {
    return attr != NULL && mnl_attr_get_payload_len(attr) > strlen(text) &&
           strcmp(mnl_attr_get_payload(attr), text) == 0;
}

static void look_at_expression(struct search *search, int family, const struct nlattr *expr) {
    const struct nlattr *name = attr_in(expr, NFTA_EXPR_NAME),
                        *data = attr_in(expr, NFTA_EXPR_DATA);
    if (name == NULL || data == NULL) {
        return;
    }
    if (is_text(name, "immediate")) {
        const struct nlattr *nest = attr_in(data, NFTA_IMMEDIATE_DATA);
        const struct nlattr *value = nest != NULL ? attr_in(nest, NFTA_DATA_VALUE) : NULL;
        if (value != NULL && mnl_attr_get_payload_len(value) >= sizeof(uint16_t)) {
            uint16_t port;
            memcpy(&port, mnl_attr_get_payload(value), sizeof(port));
            search->reg = u32_in(data, NFTA_IMMEDIATE_DREG);
            search->value = ntohs(port);
        }
    } else if (is_text(name, "redir")) {
        uint32_t reg = u32_in(data, NFTA_REDIR_REG_PROTO_MIN);
        search->is_found |= reg != 0 && reg == search->reg && search->value == search->port;
    } else if (is_text(name, "target") &&
               is_text(attr_in(data, NFTA_TARGET_NAME), REDIRECT_TARGET)) {
        const struct nlattr *info = attr_in(data, NFTA_TARGET_INFO);
        search->is_found |=
            info != NULL &&
            leads_to_port(slice_make(mnl_attr_get_payload(info), mnl_attr_get_payload_len(info)),
                          family, search->port);
    }
}

static int look_at_rule(const struct nlmsghdr *nlh, void *arg) {
    struct search *search = arg;
    const struct nfgenmsg *msg = mnl_nlmsg_get_payload(nlh);
    if (mnl_nlmsg_get_payload_len(nlh) < sizeof(*msg)) {
        return MNL_CB_OK;
    }
    search->reg = 0;
    const struct nlattr *attr, *expr;
    mnl_attr_for_each(attr, nlh, sizeof(*msg)) {
        if (mnl_attr_get_type(attr) != NFTA_RULE_EXPRESSIONS) {
            continue;
        }
        mnl_attr_for_each_nested(expr, attr) {
            look_at_expression(search, msg->nfgen_family, expr);
        }
    }
    return MNL_CB_OK;
}

static int find_in_nftables(struct search *search) {
    char buffer[128] = {0};
    struct nlmsghdr *nlh = mnl_nlmsg_put_header(buffer);
    nlh->nlmsg_type = NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_GETRULE;
    nlh->nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP;
    struct nfgenmsg *msg = mnl_nlmsg_put_extra_header(nlh, sizeof(*msg));
    msg->nfgen_family = NFPROTO_UNSPEC;
    msg->version = NFNETLINK_V0;
    return redirect_transact(NETLINK_NETFILTER, nlh, look_at_rule, search);
}

// ---- the tables of ip_tables -------------------------------------------------------------------

// To ask for a table that is not there would make it.
static bool has_nat_table(const char *path) {
    char text[256] = "\n";
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd >= 0 ? read(fd, text + 1, sizeof(text) - 2) : -1;
    if (fd >= 0) {
        close(fd);
    }
    text[n > 0 ? n + 1 : 1] = '\0';
    return strstr(text, "\nnat\n") != NULL;
}

// Both families' entries have the same members, at other places.
static void look_at_entries(struct search *search, int family, struct slice entries) {
    while (entries.len > 0) {
        uint16_t target_off = 0, next_off = 0;
        if (family == NFPROTO_IPV4 && entries.len >= sizeof(struct ipt_entry)) {
            memcpy(&target_off, entries.ptr + offsetof(struct ipt_entry, target_offset), 2);
            memcpy(&next_off, entries.ptr + offsetof(struct ipt_entry, next_offset), 2);
        } else if (family == NFPROTO_IPV6 && entries.len >= sizeof(struct ip6t_entry)) {
            memcpy(&target_off, entries.ptr + offsetof(struct ip6t_entry, target_offset), 2);
            memcpy(&next_off, entries.ptr + offsetof(struct ip6t_entry, next_offset), 2);
        }
        struct xt_entry_target target;
        if (next_off > entries.len || next_off < target_off + sizeof(target)) {
            return; // not as we know them
        }
        memcpy(&target, entries.ptr + target_off, sizeof(target));
        struct slice info = slice_make(entries.ptr + target_off + sizeof(target),
                                       (size_t)next_off - target_off - sizeof(target));
        search->is_found |=
            strncmp(target.u.user.name, REDIRECT_TARGET, sizeof(target.u.user.name)) == 0 &&
            leads_to_port(info, family, search->port);
        entries = slice_skip(entries, next_off);
    }
}

static int read_entries(struct search *search, int family, int fd) {
    int level = family == NFPROTO_IPV4 ? SOL_IP : SOL_IPV6;
    int get_info = family == NFPROTO_IPV4 ? IPT_SO_GET_INFO : IP6T_SO_GET_INFO;
    int get_entries = family == NFPROTO_IPV4 ? IPT_SO_GET_ENTRIES : IP6T_SO_GET_ENTRIES;
    struct ipt_getinfo info = {.name = "nat"}; // the same for IPv6
    socklen_t len = sizeof(info);
    if (getsockopt(fd, level, get_info, &info, &len) < 0) {
        return -errno;
    }
    if (info.size > ENTRIES_MAX) {
        return -E2BIG;
    }
    len = (socklen_t)(sizeof(struct ipt_get_entries) + info.size);
    struct ipt_get_entries *entries = xcalloc(1, len); // and this
    *entries = (struct ipt_get_entries){.name = "nat", .size = info.size};
    int rc = 0;
    if (getsockopt(fd, level, get_entries, entries, &len) < 0) {
        rc = -errno; // EAGAIN: somebody writes right now
    } else {
        look_at_entries(search, family, slice_make(entries->entrytable, info.size));
    }
    free(entries);
    return rc;
}

static int find_in_iptables(struct search *search, int family) {
    if (!has_nat_table(family == NFPROTO_IPV4 ? "/proc/thread-self/net/ip_tables_names"
                                              : "/proc/thread-self/net/ip6_tables_names")) {
        return 0;
    }
    int fd =
        socket(family == NFPROTO_IPV4 ? AF_INET : AF_INET6, SOCK_RAW | SOCK_CLOEXEC, IPPROTO_RAW);
    if (fd < 0) {
        return -errno;
    }
    int rc = read_entries(search, family, fd);
    close(fd);
    return rc;
}

int redirect_find(uint16_t port, bool *ret_found) {
    struct search search = {.port = port};
    int rc = find_in_nftables(&search);
    int rc4 = search.is_found ? 0 : find_in_iptables(&search, NFPROTO_IPV4);
    int rc6 = search.is_found ? 0 : find_in_iptables(&search, NFPROTO_IPV6);
    rc = rc < 0 ? rc : rc4 < 0 ? rc4 : rc6;
    if (rc < 0 && !search.is_found) {
        return rc;
    }
    *ret_found = search.is_found;
    return 0;
}

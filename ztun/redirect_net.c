// SPDX-License-Identifier: Apache-2.0
#include <errno.h>
#include <libmnl/libmnl.h>
#include <linux/fib_rules.h>
#include <linux/inet_diag.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/rtnetlink.h>
#include <linux/sock_diag.h>
#include <stdlib.h>

#include "ztun/redirect_priv.h"

enum {
    BUFFER_LEN = 32768, // what the kernel fills with one part of a dump
    LOOPBACK_IFINDEX = 1, // in every network namespace
    TCP_STATE_ESTABLISHED = 1,
};

int redirect_transact(int bus, struct nlmsghdr *request, mnl_cb_t fn, void *arg) {
    struct mnl_socket *sock = mnl_socket_open2(bus, SOCK_CLOEXEC);
    if (sock == NULL) {
        return -errno;
    }
    char *buffer = xmalloc(BUFFER_LEN);
    request->nlmsg_seq = 1;
    int rc = 0;
    if (mnl_socket_bind(sock, 0, MNL_SOCKET_AUTOPID) < 0 ||
        mnl_socket_sendto(sock, request, request->nlmsg_len) < 0) {
        rc = -errno;
        goto out;
    }
    int run = MNL_CB_OK;
    while (run > MNL_CB_STOP) {
        ssize_t n = mnl_socket_recvfrom(sock, buffer, BUFFER_LEN);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        run = n < 0 ? MNL_CB_ERROR
                    : mnl_cb_run(buffer, (size_t)n, 1, mnl_socket_get_portid(sock), fn, arg);
    }
    if (run == MNL_CB_ERROR) {
        rc = -errno;
    }
out:
    free(buffer);
    mnl_socket_close(sock);
    return rc;
}

static int change_rule(int family, uint16_t type, uint16_t flags) {
    char buffer[512] = {0};
    struct nlmsghdr *nlh = mnl_nlmsg_put_header(buffer);
    nlh->nlmsg_type = type;
    nlh->nlmsg_flags = (uint16_t)(NLM_F_REQUEST | NLM_F_ACK | flags);
    struct fib_rule_hdr *rule = mnl_nlmsg_put_extra_header(nlh, sizeof(*rule));
    rule->family = (uint8_t)family;
    rule->table = REDIRECT_TABLE;
    rule->action = FR_ACT_TO_TBL;
    mnl_attr_put_u32(nlh, FRA_PRIORITY, REDIRECT_PREF);
    mnl_attr_put_u32(nlh, FRA_FWMARK, REDIRECT_CONN_MARK);
    mnl_attr_put_u32(nlh, FRA_FWMASK, REDIRECT_MARK_MASK);
    mnl_attr_put_u32(nlh, FRA_TABLE, REDIRECT_TABLE);
    return redirect_transact(NETLINK_ROUTE, nlh, NULL, NULL);
}

static int change_route(int family, uint16_t type, uint16_t flags) {
    char buffer[512] = {0};
    struct nlmsghdr *nlh = mnl_nlmsg_put_header(buffer);
    nlh->nlmsg_type = type;
    nlh->nlmsg_flags = (uint16_t)(NLM_F_REQUEST | NLM_F_ACK | flags);
    struct rtmsg *route = mnl_nlmsg_put_extra_header(nlh, sizeof(*route));
    route->rtm_family = (uint8_t)family;
    route->rtm_table = REDIRECT_TABLE;
    route->rtm_protocol = RTPROT_STATIC;
    route->rtm_scope = family == AF_INET ? RT_SCOPE_HOST : RT_SCOPE_UNIVERSE;
    route->rtm_type = RTN_LOCAL;
    mnl_attr_put_u32(nlh, RTA_OIF, LOOPBACK_IFINDEX);
    mnl_attr_put_u32(nlh, RTA_TABLE, REDIRECT_TABLE);
    return redirect_transact(NETLINK_ROUTE, nlh, NULL, NULL);
}

int redirect_routes_add(int family) {
    int rc = change_route(family, RTM_NEWROUTE, NLM_F_CREATE | NLM_F_EXCL);
    if (rc < 0 && rc != -EEXIST) {
        return rc;
    }
    rc = change_rule(family, RTM_NEWRULE, NLM_F_CREATE | NLM_F_EXCL);
    return rc == -EEXIST ? 0 : rc;
}

int redirect_routes_del(int family) {
    int rc = change_rule(family, RTM_DELRULE, 0);
    if (rc < 0 && rc != -ENOENT && rc != -EAFNOSUPPORT && rc != -EOPNOTSUPP) {
        return rc;
    }
    rc = change_route(family, RTM_DELROUTE, 0);
    return rc == -ESRCH || rc == -ENOENT || rc == -EAFNOSUPPORT || rc == -EOPNOTSUPP ? 0 : rc;
}

static int read_generation(const struct nlmsghdr *nlh, void *arg) {
    const struct nlattr *attr;
    mnl_attr_for_each(attr, nlh, sizeof(struct nfgenmsg)) {
        if (mnl_attr_get_type(attr) == NFTA_GEN_ID && mnl_attr_validate(attr, MNL_TYPE_U32) == 0) {
            *(uint32_t *)arg = ntohl(mnl_attr_get_u32(attr));
        }
    }
    return MNL_CB_OK;
}

int redirect_generation(uint32_t *ret_generation) {
    char buffer[128] = {0};
    struct nlmsghdr *nlh = mnl_nlmsg_put_header(buffer);
    nlh->nlmsg_type = NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_GETGEN;
    nlh->nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK;
    struct nfgenmsg *msg = mnl_nlmsg_put_extra_header(nlh, sizeof(*msg));
    msg->version = NFNETLINK_V0;
    uint32_t generation = 0;
    int rc = redirect_transact(NETLINK_NETFILTER, nlh, read_generation, &generation);
    if (rc == 0) {
        *ret_generation = generation;
    }
    return rc;
}

static int count_flow(const struct nlmsghdr *nlh, void *arg) {
    if (nlh->nlmsg_type != SOCK_DIAG_BY_FAMILY ||
        mnl_nlmsg_get_payload_len(nlh) < sizeof(struct inet_diag_msg)) {
        return MNL_CB_OK;
    }
    const struct inet_diag_msg *msg = mnl_nlmsg_get_payload(nlh);
    struct ip ip = {0};
    size_t len = msg->idiag_family == AF_INET ? 4 : 16;
    bool is_loopback =
        ip_from_bytes(slice_make(msg->id.idiag_dst, len), &ip) && ip_is_loopback(&ip);
    *(uint32_t *)arg += !is_loopback;
    return MNL_CB_OK;
}

int redirect_count_flows(uint32_t *ret_n) {
    static const uint8_t families[] = {AF_INET, AF_INET6};
    uint32_t n = 0;
    for (size_t i = 0; i < ARRAY_LEN(families); i++) {
        char buffer[256] = {0};
        struct nlmsghdr *nlh = mnl_nlmsg_put_header(buffer);
        nlh->nlmsg_type = SOCK_DIAG_BY_FAMILY;
        nlh->nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP;
        struct inet_diag_req_v2 *req = mnl_nlmsg_put_extra_header(nlh, sizeof(*req));
        req->sdiag_family = families[i];
        req->sdiag_protocol = IPPROTO_TCP;
        req->idiag_states = 1U << TCP_STATE_ESTABLISHED;
        int rc = redirect_transact(NETLINK_SOCK_DIAG, nlh, count_flow, &n);
        if (rc < 0 && rc != -EAFNOSUPPORT && rc != -ENOENT) {
            return rc;
        }
    }
    *ret_n = n;
    return 0;
}

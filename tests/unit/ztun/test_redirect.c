// SPDX-License-Identifier: Apache-2.0
// The rules in real namespaces: what is captured, what is not, repair, ownership, removal.
#include "ztun/redirect.h"

#include <errno.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/rt/netns.h"
#include "common/rt/sock.h"
#include "tests/unit/ztun/netlab.h"
#include "ztun/redirect_nft.h"

enum { MARK = 0x539 };

static struct redirect_params params_for(int families) {
    struct redirect_params params = {
        .outbound_port = 15001,
        .inbound_port = 15006,
        .hbone_port = 15008,
        .dns_port = 15053,
        .mark = MARK,
        .has_v4 = (families & NETLAB_V4) != 0,
        .has_v6 = (families & NETLAB_V6) != 0,
        .original_source = true,
    };
    params.dns_v4 = params.has_v4;
    params.dns_v6 = params.has_v6;
    params.probe_v4 = netlab_addr("169.254.7.127", 0).ip;
    params.probe_v6 = netlab_addr("fd16:9254:7127:1337:ffff:ffff:ffff:ffff", 0).ip;
    return params;
}

static struct redirect_result install(const struct netlab *lab,
                                      const struct redirect_params *params, uint64_t owner) {
    struct redirect_result result;
    assert_int_equal(netns_enter(lab->pod), 0);
    int rc = redirect_install(params, owner, &result);
    netns_leave();
    if (rc != 0) {
        fprintf(stderr, "install: %d %s\n", rc, result.error);
    }
    assert_int_equal(rc, 0);
    return result;
}

static struct redirect_result remove_rules(const struct netlab *lab, bool nat_only,
                                           uint64_t owner) {
    struct redirect_result result;
    assert_int_equal(netns_enter(lab->pod), 0);
    int rc = nat_only ? redirect_remove_nat(owner, &result) : redirect_remove(owner, &result);
    netns_leave();
    assert_int_equal(rc, 0);
    return result;
}

// A connection to ip:port arrives at the listener, with that original destination.
static void expect_captured(int netns, int listener, const char *from, const char *ip,
                            uint16_t port) {
    int fd = netlab_connect(netns, from, ip, port, 0);
    assert_true(fd >= 0);
    int accepted = netlab_accept(listener);
    assert_true(accepted >= 0);
    struct addr original, wanted = netlab_addr(ip, port);
    assert_int_equal(sock_original_dst(accepted, &original), 0);
    assert_true(addr_eq(&original, &wanted));
    close(accepted);
    close(fd);
}

static void expect_direct(int netns, int listener, const char *from, const char *ip, uint16_t port,
                          uint32_t mark) {
    int fd = netlab_connect(netns, from, ip, port, mark);
    assert_true(fd >= 0);
    int accepted = netlab_accept(listener);
    assert_true(accepted >= 0);
    close(accepted);
    close(fd);
}

struct family_case {
    int families;
    const char *any, *pod, *peer, *loopback, *foreign, *probe;
};

static const struct family_case family_cases[] = {
    {NETLAB_V4, "0.0.0.0", "10.99.0.1", "10.99.0.2", "127.0.0.1", "10.7.7.7", "169.254.7.127"},
    {NETLAB_V6, "::", "fd99::1", "fd99::2", "::1", "fd77::7",
     "fd16:9254:7127:1337:ffff:ffff:ffff:ffff"},
};

static void check_tcp(const struct netlab *lab, const struct family_case *c) {
    int outbound = netlab_listen(lab->pod, c->any, 15001, MARK);
    int inbound = netlab_listen(lab->pod, c->any, 15006, MARK);
    int hbone = netlab_listen(lab->pod, c->any, 15008, MARK);
    int app = netlab_listen(lab->pod, c->any, 8080, 0);
    int server = netlab_listen(lab->peer, c->any, 8080, 0);

    expect_captured(lab->pod, outbound, NULL, c->foreign, 80);
    expect_captured(lab->pod, outbound, NULL, c->peer, 8080);
    expect_direct(lab->pod, server, NULL, c->peer, 8080, MARK);
    expect_direct(lab->pod, app, NULL, c->loopback, 8080, 0);
    expect_direct(lab->pod, app, NULL, c->pod, 8080, 0); // to itself
    expect_captured(lab->peer, inbound, NULL, c->pod, 8080);
    expect_captured(lab->peer, inbound, NULL, c->pod, 15001);
    expect_direct(lab->peer, hbone, NULL, c->pod, 15008, 0);
    expect_direct(lab->pod, app, NULL, c->pod, 8080, MARK); // our inbound leg
    // ... and with the client's address: the application's answers come back to us.
    expect_direct(lab->pod, app, c->foreign, c->pod, 8080, MARK);
    expect_direct(lab->pod, app, c->peer, c->pod, 8080, MARK);
    // The kubelet's probes, both ways.
    const char *ip = c->families == NETLAB_V4 ? "ip" : "ip -6";
    netlab_sh("%s -n %s addr add %s/%d dev eth0 %s", ip, lab->peer_name, c->probe,
              c->families == NETLAB_V4 ? 32 : 128, c->families == NETLAB_V4 ? "" : "nodad");
    expect_direct(lab->peer, app, c->probe, c->pod, 8080, 0);
    expect_direct(lab->pod, server, NULL, c->probe, 8080, 0);
    int fds[] = {outbound, inbound, hbone, app, server};
    for (size_t i = 0; i < ARRAY_LEN(fds); i++) {
        close(fds[i]);
    }
}

static bool receives(int fd) {
    struct pollfd p = {.fd = fd, .events = POLLIN};
    char byte[8];
    return poll(&p, 1, 300) == 1 && recv(fd, byte, sizeof(byte), 0) == 1;
}

static void send_to(int fd, const char *ip, uint16_t port) {
    struct addr to = netlab_addr(ip, port);
    struct sockaddr_storage sa;
    socklen_t len = addr_to_sockaddr(&to, false, &sa);
    assert_int_equal(sendto(fd, "x", 1, 0, (struct sockaddr *)&sa, len), 1);
}

static void check_dns(const struct netlab *lab, const struct family_case *c) {
    int proxy = netlab_udp(lab->pod, c->loopback, 15053, MARK);
    int proxy_tcp = netlab_listen(lab->pod, c->loopback, 15053, MARK);
    int server = netlab_udp(lab->peer, c->peer, 53, 0);
    int client = netlab_udp(lab->pod, c->any, 0, 0);
    int own = netlab_udp(lab->pod, c->any, 0, MARK);
    send_to(client, c->peer, 53);
    assert_true(receives(proxy));
    send_to(own, c->peer, 53);
    assert_true(receives(server));
    expect_captured(lab->pod, proxy_tcp, NULL, c->foreign, 53);
    close(proxy);
    close(proxy_tcp);
    close(server);
    close(client);
    close(own);
}

static void run_family(int families) {
    struct netlab lab;
    netlab_up(&lab, families);
    struct redirect_params params = params_for(families);
    struct redirect_result result = install(&lab, &params, 100);
    assert_int_equal(result.status, REDIRECT_INSTALLED);
    assert_int_equal(result.n_old_flows, 0);
    for (size_t i = 0; i < ARRAY_LEN(family_cases); i++) {
        if ((family_cases[i].families & families) != 0) {
            check_tcp(&lab, &family_cases[i]);
            check_dns(&lab, &family_cases[i]);
        }
    }
    netlab_down(&lab);
}

static void test_v4(void **state) {
    run_family(NETLAB_V4);
}
static void test_v6(void **state) {
    run_family(NETLAB_V6);
}
static void test_dual(void **state) {
    run_family(NETLAB_V4 | NETLAB_V6);
}

// Without nft_socket.
static void test_tracked_tunnels(void **state) {
    struct netlab lab;
    netlab_up(&lab, NETLAB_V4 | NETLAB_V6);
    struct redirect_params params = params_for(NETLAB_V4 | NETLAB_V6);
    params.track_tunnels = true;
    assert_int_equal(install(&lab, &params, 100).status, REDIRECT_INSTALLED);
    check_tcp(&lab, &family_cases[0]);
    check_tcp(&lab, &family_cases[1]);
    netlab_sh("! ip netns exec %s nft list ruleset | grep notrack", lab.pod_name);
    netlab_down(&lab);
}

// IPv6 rules do no harm in a pod whose IPv6 is switched off.
static void test_v6_disabled(void **state) {
    struct netlab lab;
    netlab_up(&lab, NETLAB_V4);
    struct redirect_params params = params_for(NETLAB_V4 | NETLAB_V6);
    assert_int_equal(install(&lab, &params, 100).status, REDIRECT_INSTALLED);
    check_tcp(&lab, &family_cases[0]);
    assert_int_equal(remove_rules(&lab, false, 100).status, REDIRECT_KEPT);
    netlab_down(&lab);
}

static void test_repair(void **state) {
    static const char *const damages[] = {
        "flush chain inet ztun nat_out",
        "delete table inet ztun",
        "add rule inet ztun nat_out tcp dport 80 accept",
        "flush chain inet ztun owner",
        "flush ruleset",
    };
    struct netlab lab;
    netlab_up(&lab, NETLAB_V4);
    struct redirect_params params = params_for(NETLAB_V4);
    int outbound = netlab_listen(lab.pod, "0.0.0.0", 15001, MARK);
    assert_int_equal(install(&lab, &params, 100).status, REDIRECT_INSTALLED);
    assert_int_equal(install(&lab, &params, 100).status, REDIRECT_KEPT);
    for (size_t i = 0; i < ARRAY_LEN(damages); i++) {
        netlab_sh("ip netns exec %s nft '%s'", lab.pod_name, damages[i]);
        assert_in_range(install(&lab, &params, 100 + i).status, REDIRECT_INSTALLED,
                        REDIRECT_REPAIRED);
        assert_int_not_equal(install(&lab, &params, 100 + i).status, REDIRECT_REPAIRED);
        expect_captured(lab.pod, outbound, NULL, "10.7.7.7", 80);
    }
    netlab_sh("ip -n %s rule del pref 32764 && ip -n %s route flush table 100", lab.pod_name,
              lab.pod_name);
    assert_int_equal(install(&lab, &params, 110).status, REDIRECT_KEPT);
    netlab_sh("ip -n %s rule | grep -q 'fwmark 0x111/0xfff lookup 100'", lab.pod_name);
    netlab_sh("ip -n %s route show table 100 | grep -q 'local default dev lo'", lab.pod_name);
    // Another specification.
    params.outbound_port = 15011;
    assert_int_equal(install(&lab, &params, 110).status, REDIRECT_CHANGED);
    assert_int_equal(install(&lab, &params, 110).status, REDIRECT_KEPT);
    close(outbound);
    netlab_down(&lab);
}

static void test_owner(void **state) {
    struct netlab lab;
    netlab_up(&lab, NETLAB_V4);
    struct redirect_params params = params_for(NETLAB_V4);
    int outbound = netlab_listen(lab.pod, "0.0.0.0", 15001, MARK);
    assert_int_equal(install(&lab, &params, 100).status, REDIRECT_INSTALLED);
    assert_int_equal(install(&lab, &params, 200).status, REDIRECT_KEPT); // a successor signs
    assert_int_equal(install(&lab, &params, 100).status, REDIRECT_FOREIGN);
    assert_int_equal(remove_rules(&lab, true, 100).status, REDIRECT_FOREIGN);
    assert_int_equal(remove_rules(&lab, false, 100).status, REDIRECT_FOREIGN);
    expect_captured(lab.pod, outbound, NULL, "10.7.7.7", 80);
    assert_true(redirect_owner() > 200);
    assert_int_equal(remove_rules(&lab, false, 200).status, REDIRECT_KEPT);
    close(outbound);
    netlab_down(&lab);
}

static void test_removal(void **state) {
    struct netlab lab;
    netlab_up(&lab, NETLAB_V4);
    struct redirect_params params = params_for(NETLAB_V4);
    int outbound = netlab_listen(lab.pod, "0.0.0.0", 15001, MARK);
    int app = netlab_listen(lab.pod, "0.0.0.0", 8080, 0);
    int server = netlab_listen(lab.peer, "0.0.0.0", 80, 0);
    install(&lab, &params, 100);
    // Two flows that live through the removal: a captured one, and one with a foreign source.
    int client = netlab_connect(lab.pod, NULL, "10.7.7.7", 80, 0);
    int captured = netlab_accept(outbound);
    int leg = netlab_connect(lab.pod, "10.99.0.2", "10.99.0.1", 8080, MARK);
    int served = netlab_accept(app);
    assert_true(client >= 0 && captured >= 0 && leg >= 0 && served >= 0);
    for (int i = 0; i < 2; i++) {
        char byte;
        assert_int_equal(send(client, "a", 1, 0), 1);
        assert_int_equal(recv(captured, &byte, 1, 0), 1);
        assert_int_equal(send(served, "b", 1, 0), 1);
        assert_int_equal(recv(leg, &byte, 1, 0), 1);
        if (i == 0) {
            remove_rules(&lab, true, 100);
            remove_rules(&lab, true, 100);
            expect_direct(lab.pod, server, NULL, "10.99.0.2", 80, 0);
        } else {
            remove_rules(&lab, false, 100);
            remove_rules(&lab, false, 100);
            netlab_sh("test -z \"$(ip netns exec %s nft list ruleset; ip -n %s route show table 100"
                      " 2>/dev/null; ip -n %s rule show pref 32764)\"",
                      lab.pod_name, lab.pod_name, lab.pod_name);
        }
    }
    int fds[] = {outbound, app, server, client, captured, leg, served};
    for (size_t i = 0; i < ARRAY_LEN(fds); i++) {
        close(fds[i]);
    }
    netlab_down(&lab);
}

// A flow that is older than the rules goes on, even when conntrack forgets it.
static void test_old_flows(void **state) {
    struct netlab lab;
    netlab_up(&lab, NETLAB_V4);
    int server = netlab_listen(lab.peer, "0.0.0.0", 80, 0);
    int app = netlab_listen(lab.pod, "0.0.0.0", 8080, 0);
    int client = netlab_connect(lab.pod, NULL, "10.99.0.2", 80, 0);
    int accepted = netlab_accept(server);
    int local = netlab_connect(lab.pod, NULL, "127.0.0.1", 8080, 0);
    assert_true(client >= 0 && accepted >= 0 && local >= 0);
    struct redirect_params params = params_for(NETLAB_V4);
    assert_int_equal(install(&lab, &params, 100).n_old_flows, 1);
    char byte;
    assert_int_equal(send(client, "a", 1, 0), 1);
    assert_int_equal(recv(accepted, &byte, 1, 0), 1);
    assert_int_equal(send(accepted, "a", 1, 0), 1);
    assert_int_equal(recv(client, &byte, 1, 0), 1);
    int fds[] = {server, app, client, accepted, local};
    for (size_t i = 0; i < ARRAY_LEN(fds); i++) {
        close(fds[i]);
    }
    netlab_down(&lab);
}

static void test_options(void **state) {
    struct netlab lab;
    netlab_up(&lab, NETLAB_V4);
    struct redirect_params params = params_for(NETLAB_V4);
    params.bypass_inbound = true;
    params.dns_v4 = false;
    params.virtual_interfaces = "tap0, bad name,eth9;x,,averyveryverylongname";
    assert_int_equal(install(&lab, &params, 100).n_bad_interfaces, 3);
    int app = netlab_listen(lab.pod, "0.0.0.0", 8080, 0);
    expect_direct(lab.peer, app, NULL, "10.99.0.1", 8080, 0);
    params.bypass_inbound = false;
    params.virtual_interfaces = "eth0";
    assert_int_equal(install(&lab, &params, 100).status, REDIRECT_CHANGED);
    int outbound = netlab_listen(lab.pod, "0.0.0.0", 15001, MARK);
    expect_captured(lab.peer, outbound, NULL, "10.99.0.1", 8080);
    close(outbound);
    params.virtual_interfaces = NULL;
    params.free_ports[1] = 8080;
    assert_int_equal(install(&lab, &params, 100).status, REDIRECT_CHANGED);
    int inbound = netlab_listen(lab.pod, "0.0.0.0", 15006, MARK);
    expect_direct(lab.peer, app, NULL, "10.99.0.1", 8080, 0);
    expect_captured(lab.peer, inbound, NULL, "10.99.0.1", 8081);
    close(inbound);
    close(app);
    netlab_down(&lab);
}

static void test_counters(void **state) {
    struct netlab lab;
    netlab_up(&lab, NETLAB_V4);
    struct redirect_counter items[REDIRECT_COUNTERS_MAX];
    uint32_t n = 0, before = 0, after = 0;
    struct buf text;
    buf_init(&text, 1 << 16);
    assert_int_equal(netns_enter(lab.pod), 0);
    int missing = redirect_counters(items, &n);
    netns_leave();
    assert_int_equal(missing, -ENOENT);
    struct redirect_params params = params_for(NETLAB_V4);
    install(&lab, &params, 100);
    int outbound = netlab_listen(lab.pod, "0.0.0.0", 15001, MARK);
    assert_int_equal(netns_enter(lab.pod), 0);
    assert_int_equal(redirect_generation(&before), 0);
    netns_leave();
    expect_captured(lab.pod, outbound, NULL, "10.7.7.7", 80);
    assert_int_equal(netns_enter(lab.pod), 0);
    assert_int_equal(redirect_counters(items, &n), 0);
    assert_int_equal(redirect_text(&text), 0);
    assert_int_equal(redirect_generation(&after), 0);
    netns_leave();
    assert_int_equal(before, after);
    assert_non_null(strstr(buf_cstr(&text), "redirect to :15001"));
    bool is_found = false;
    for (uint32_t i = 0; i < n; i++) {
        if (strcmp(items[i].rule, "outbound v4") == 0) {
            assert_string_equal(items[i].chain, "nat_out");
            assert_int_equal(items[i].n_packets, 1);
            assert_int_equal(items[i].n_bytes, 60);
            is_found = true;
        }
    }
    assert_true(is_found);
    buf_fini(&text);
    close(outbound);
    netlab_down(&lab);
}

static bool finds(const struct netlab *lab, uint16_t port) {
    bool is_found = false;
    assert_int_equal(netns_enter(lab->pod), 0);
    int rc = redirect_find(port, &is_found);
    netns_leave();
    assert_int_equal(rc, 0);
    return is_found;
}

// Rules as others make them.
static void test_find(void **state) {
    static const char *const commands[] = {
        "iptables-nft -t nat -A OUTPUT -p tcp -m mark ! --mark 0x539/0xfff -j REDIRECT --to-ports "
        "15001",
        "ip6tables-nft -t nat -A OUTPUT ! -d ::1/128 -p tcp -j REDIRECT --to-ports 15001",
        "nft 'add table inet istio-ambient-nat; add chain inet istio-ambient-nat output { type nat "
        "hook output priority -100; }; add rule inet istio-ambient-nat output meta l4proto tcp "
        "ip daddr != 127.0.0.1 counter redirect to :15001'",
        "nft 'add table ip x; add chain ip x own { type nat hook output priority -100; }; "
        "add chain ip x other; add rule ip x own jump other; "
        "add rule ip x other tcp dport 1-65535 redirect to :15001'",
    };
    for (size_t i = 0; i < ARRAY_LEN(commands); i++) {
        struct netlab lab;
        netlab_up(&lab, NETLAB_V4 | NETLAB_V6);
        assert_false(finds(&lab, 15001));
        netlab_sh("ip netns exec %s %s", lab.pod_name, commands[i]);
        assert_true(finds(&lab, 15001));
        assert_false(finds(&lab, 15006));
        netlab_down(&lab);
    }
    // Ours.
    struct netlab lab;
    struct redirect_params params = params_for(NETLAB_V4);
    netlab_up(&lab, NETLAB_V4);
    install(&lab, &params, 1);
    assert_true(finds(&lab, 15001) && finds(&lab, 15006) && finds(&lab, 15053));
    assert_false(finds(&lab, 15008));
    // A translation that is no redirection, and a redirection without a port.
    netlab_sh("ip netns exec %s nft flush ruleset", lab.pod_name);
    netlab_sh("ip netns exec %s iptables-nft -t nat -A OUTPUT -p tcp -j DNAT --to-destination "
              "127.0.0.1:15001",
              lab.pod_name);
    netlab_sh("ip netns exec %s iptables-nft -t nat -A OUTPUT -p tcp -j REDIRECT", lab.pod_name);
    assert_false(finds(&lab, 15001));
    netlab_down(&lab);
}

// The kernel's own tables of iptables, which it may be built without.
static void test_find_legacy(void **state) {
    static const char *const programs[] = {"iptables-legacy", "ip6tables-legacy"};
    for (size_t i = 0; i < ARRAY_LEN(programs); i++) {
        struct netlab lab;
        char command[128];
        netlab_up(&lab, NETLAB_V4 | NETLAB_V6);
        assert_false(finds(&lab, 15001));
        snprintf(command, sizeof(command), "ip netns exec %s %s -t nat -L -n > /dev/null",
                 lab.pod_name, programs[i]);
        if (system(command) != 0) {
            netlab_down(&lab);
            skip();
        }
        assert_false(finds(&lab, 15001)); // the table is there, and empty
        netlab_sh("ip netns exec %s %s -t nat -A OUTPUT -p tcp -m mark ! --mark 0x539/0xfff -j "
                  "REDIRECT --to-ports 15001",
                  lab.pod_name, programs[i]);
        assert_true(finds(&lab, 15001));
        assert_false(finds(&lab, 15006));
        netlab_down(&lab);
    }
}

// The library is in memory while it works, and no longer.
static bool is_library_loaded(void) {
    char line[512];
    bool is_found = false;
    FILE *maps = fopen("/proc/self/maps", "re");
    assert_non_null(maps);
    while (!is_found && fgets(line, sizeof(line), maps) != NULL) {
        is_found = strstr(line, "libnftables.so") != NULL;
    }
    (void)fclose(maps);
    return is_found;
}

static void test_library(void **state) {
    struct netlab lab;
    netlab_up(&lab, NETLAB_V4);
    struct redirect_params params = params_for(NETLAB_V4);
    char error[REDIRECT_ERROR_MAX] = "";
    assert_false(is_library_loaded());
    assert_int_equal(redirect_nft_begin(error), 0);
    assert_true(is_library_loaded());
    install(&lab, &params, 100);
    assert_true(is_library_loaded()); // somebody else is not done
    redirect_nft_end();
    assert_false(is_library_loaded());
    remove_rules(&lab, false, 100);
    assert_false(is_library_loaded());
    netlab_down(&lab);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_v4),          cmocka_unit_test(test_v6),
        cmocka_unit_test(test_dual),        cmocka_unit_test(test_tracked_tunnels),
        cmocka_unit_test(test_v6_disabled), cmocka_unit_test(test_repair),
        cmocka_unit_test(test_owner),       cmocka_unit_test(test_removal),
        cmocka_unit_test(test_old_flows),   cmocka_unit_test(test_options),
        cmocka_unit_test(test_counters),    cmocka_unit_test(test_library),
        cmocka_unit_test(test_find),        cmocka_unit_test(test_find_legacy),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

// SPDX-License-Identifier: Apache-2.0
// Enrolment against real namespaces: order of the steps, pending pods, replacement, restart.
#include "ztun/inpod.h"

#include <dirent.h>
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/rt/netns.h"
#include "common/rt/sock.h"
#include "common/rt/uring.h"
#include "tests/unit/ztun/netlab.h"

enum { MARK = 0x539, WAIT_MS = 8000, PODS_MAX = 8 };

struct bed {
    struct blk_pool pool;
    struct loop loop;
    struct inpod *inpod;
    int n_up, n_down, n_removed, n_kept, n_failed;
    struct pod *pod; // the last one that came up, while it is up
    struct pod_sockets sets[POD_LISTENERS_MAX];
    uint32_t n_sets;
    uint64_t last_down_id;
    char pending[256];
    bool is_self_pending;
};

static void on_up(void *arg, struct pod *pod, struct pod_sockets *sets, uint32_t n_sets) {
    struct bed *bed = arg;
    bed->n_up++;
    bed->pod = pod_ref(pod);
    bed->n_sets = n_sets;
    memcpy(bed->sets, sets, n_sets * sizeof(sets[0]));
}

static void close_sockets(struct bed *bed) {
    for (uint32_t i = 0; i < bed->n_sets; i++) {
        pod_sockets_close(&bed->sets[i]);
    }
    bed->n_sets = 0;
}

static void on_down(void *arg, struct pod *pod, enum pod_down_reason reason) {
    struct bed *bed = arg;
    bed->n_down++;
    bed->n_removed += reason == POD_DOWN_REMOVED;
    bed->last_down_id = pod->id;
    if (bed->pod == pod) {
        close_sockets(bed);
        pod_unref(bed->pod);
        bed->pod = NULL;
    }
}

static void on_kept(void *arg, struct pod *pod) {
    struct bed *bed = arg;
    assert_ptr_equal(pod, bed->pod);
    bed->n_kept++;
}

static void on_failed(void *arg, const char *uid, const char *reason) {
    struct bed *bed = arg;
    assert_string_equal(uid, "uid");
    assert_non_null(strstr(reason, "cannot listen on port"));
    bed->n_failed++;
}

static struct inpod_config config_for(struct bed *bed) {
    return (struct inpod_config){
        .loop = &bed->loop,
        .n_workers = 2,
        .outbound_port = 15001,
        .inbound_port = 15006,
        .hbone_port = 15008,
        .dns_port = 15053,
        .mark = MARK,
        .dns_capture = true,
        .redirect = true,
        .ipv6 = true,
        .original_source = -1,
        .on_up = on_up,
        .on_down = on_down,
        .on_kept = on_kept,
        .arg = bed,
    };
}

static void bed_up_as(struct bed *bed, bool redirect) {
    char error[URING_ERROR_MAX];
    struct io *io;
    *bed = (struct bed){0};
    blk_pool_init(&bed->pool, 4);
    assert_int_equal(uring_new(&(struct uring_options){0}, &bed->pool, error, &io), 0);
    loop_init(&bed->loop, io, &bed->pool, NULL);
    struct inpod_config config = config_for(bed);
    config.redirect = redirect;
    config.on_failed = redirect ? NULL : on_failed;
    bed->inpod = inpod_new(&config);
}

static void bed_up(struct bed *bed) {
    bed_up_as(bed, true);
}

static void bed_down(struct bed *bed) {
    inpod_free(bed->inpod);
    close_sockets(bed);
    pod_unref(bed->pod);
    loop_turn(&bed->loop, false);
    loop_fini(&bed->loop);
    bed->loop.io->ops->free(bed->loop.io);
    blk_pool_fini(&bed->pool);
}

static void turns_ms(struct bed *bed, uint64_t ms) {
    uint64_t end = clock_mono_ns() + ms * NS_PER_MS;
    while (clock_mono_ns() < end) {
        loop_turn(&bed->loop, false);
        usleep(1000);
    }
}

// Turns the loop until status and calls are as expected.
static void expect(struct bed *bed, uint32_t n_active, uint32_t n_pending, int n_up, int n_down) {
    struct inpod_status status = {0};
    for (int i = 0; i < WAIT_MS; i++) {
        loop_turn(&bed->loop, false);
        inpod_get_status(bed->inpod, &status);
        if (status.n_active == n_active && status.n_pending == n_pending && bed->n_up == n_up &&
            bed->n_down == n_down) {
            return;
        }
        usleep(1000);
    }
    fail_msg("active %u pending %u up %d down %d", status.n_active, status.n_pending, bed->n_up,
             bed->n_down);
}

static void keep_pending(void *arg, const char *uid, const char *reason, bool is_self) {
    struct bed *bed = arg;
    bed->is_self_pending = is_self;
    snprintf(bed->pending, sizeof(bed->pending), "%s: %s", uid, reason);
}

static void expect_pending(struct bed *bed, const char *part) {
    for (int i = 0; i < WAIT_MS; i++) {
        bed->pending[0] = '\0';
        inpod_each_pending(bed->inpod, keep_pending, bed);
        if (strstr(bed->pending, part) != NULL) {
            return;
        }
        loop_turn(&bed->loop, false);
        usleep(1000);
    }
    fail_msg("pending '%s' lacks '%s'", bed->pending, part);
}

static struct workload *workload_in(const char *uid, const char *netns) {
    struct workload_local local = {.netns = netns};
    struct workload_common common = {.ns = "demo", .local = &local};
    struct workload spec = {
        .leaf.key = slice_str(uid),
        .name = "web",
        .common = &common,
        .is_enrolled = true,
    };
    return workload_new(&spec);
}

static bool has_rules(const struct netlab *lab, const char *what) {
    char command[256];
    snprintf(command, sizeof(command), "ip netns exec %s nft list ruleset | grep -q '%s'",
             lab->pod_name, what);
    return system(command) == 0;
}

static char sysctl_of(const struct netlab *lab, const char *path) {
    char value = 0;
    assert_int_equal(netns_enter(lab->pod), 0);
    FILE *file = fopen(path, "re");
    if (file != NULL) {
        value = (char)fgetc(file);
        (void)fclose(file);
    }
    netns_leave();
    return value;
}

static void test_life(void **state) {
    struct netlab lab;
    struct bed bed;
    netlab_up(&lab, NETLAB_V4 | NETLAB_V6);
    bed_up(&bed);
    struct workload *web = workload_in("c//Pod/demo/web", lab.pod_name);
    inpod_want(bed.inpod, web);
    expect(&bed, 1, 0, 1, 0);
    assert_int_equal(bed.n_sets, 2);
    assert_true(bed.pod->has_v6 && bed.pod->original_source && bed.pod->dns_v4 && bed.pod->dns_v6);
    assert_true(bed.sets[1].outbound >= 0 && bed.sets[1].inbound >= 0 && bed.sets[1].hbone >= 0);
    assert_true(bed.sets[1].dns_udp[0] >= 0 && bed.sets[1].dns_tcp[1] >= 0);
    assert_true(has_rules(&lab, "redirect to :15001"));
    assert_int_equal(sysctl_of(&lab, "/proc/sys/net/ipv4/tcp_migrate_req"), '1');
    assert_int_equal(sysctl_of(&lab, "/proc/sys/net/ipv4/tcp_mtu_probing"), '1');
    // Captured, by one of the two listeners.
    for (int i = 0; i < 2; i++) {
        int fd = netlab_connect(lab.pod, NULL, i == 0 ? "10.7.7.7" : "fd77::7", 80, 0);
        assert_true(fd >= 0);
        int accepted = netlab_accept(bed.sets[0].outbound);
        accepted = accepted >= 0 ? accepted : netlab_accept(bed.sets[1].outbound);
        assert_true(accepted >= 0);
        close(accepted);
        close(fd);
    }
    // The same again changes nothing.
    inpod_want(bed.inpod, web);
    turns_ms(&bed, 50);
    expect(&bed, 1, 0, 1, 0);

    inpod_unwant(bed.inpod, "c//Pod/demo/web", POD_DOWN_UNENROLLED);
    expect(&bed, 0, 0, 1, 1);
    assert_int_equal(bed.n_removed, 0);
    assert_false(has_rules(&lab, "redirect to"));
    assert_true(has_rules(&lab, "mangle_pre"));
    inpod_pod_drained(bed.inpod, bed.last_down_id);
    turns_ms(&bed, 100);
    assert_false(has_rules(&lab, "ztun"));
    leaf_unref(web);
    bed_down(&bed);
    netlab_down(&lab);
}

// A label that comes and goes quickly ends in the last state.
static void test_flapping(void **state) {
    struct netlab lab;
    struct bed bed;
    netlab_up(&lab, NETLAB_V4);
    bed_up(&bed);
    struct workload *web = workload_in("uid", lab.pod_name);
    for (int i = 0; i < 20; i++) {
        inpod_want(bed.inpod, web);
        if (i % 3 == 0) {
            turns_ms(&bed, (uint64_t)i);
        }
        inpod_unwant(bed.inpod, "uid", i % 2 == 0 ? POD_DOWN_UNENROLLED : POD_DOWN_REMOVED);
        if (i % 2 == 0) {
            turns_ms(&bed, (uint64_t)i);
        }
    }
    inpod_want(bed.inpod, web);
    turns_ms(&bed, 300);
    struct inpod_status status;
    inpod_get_status(bed.inpod, &status);
    assert_int_equal(status.n_active, 1);
    assert_int_equal(status.n_started, status.n_stopped + 1);
    assert_int_equal(bed.n_up, bed.n_down + 1);
    assert_true(has_rules(&lab, "redirect to :15001"));
    leaf_unref(web);
    bed_down(&bed);
    netlab_down(&lab);
}

static void test_pending(void **state) {
    struct bed bed;
    bed_up(&bed);
    struct netlab lab = {0};
    snprintf(lab.pod_name, sizeof(lab.pod_name), "ztt%d-late", (int)getpid());
    struct workload *web = workload_in("uid", lab.pod_name);
    inpod_want(bed.inpod, web);
    turns_ms(&bed, 20);
    expect(&bed, 0, 1, 0, 0);
    expect_pending(&bed, "uid: cannot open the network namespace: No such file");
    // The loopback interface comes up late: the rules have to wait.
    netlab_sh("ip netns add %s", lab.pod_name);
    expect(&bed, 0, 1, 1, 0);
    turns_ms(&bed, 100);
    expect_pending(&bed, "is the loopback interface up?");
    netlab_sh("ip -n %s link set lo up", lab.pod_name);
    expect(&bed, 1, 0, 1, 0);
    assert_true(has_rules(&lab, "redirect to :15001"));
    // A second pod that claims the same namespace.
    struct workload *other = workload_in("other", lab.pod_name);
    inpod_want(bed.inpod, other);
    turns_ms(&bed, 20);
    expect_pending(&bed, "other: its network namespace is that of pod uid");
    inpod_unwant(bed.inpod, "uid", POD_DOWN_REMOVED);
    expect(&bed, 1, 0, 2, 1);
    turns_ms(&bed, 1700);
    assert_true(has_rules(&lab, "redirect to :15001"));
    netlab_sh("ip netns del %s", lab.pod_name);
    leaf_unref(web);
    leaf_unref(other);
    bed_down(&bed);
}

static void test_port_taken(void **state) {
    struct netlab lab;
    struct bed bed;
    netlab_up(&lab, NETLAB_V4);
    int app = netlab_listen(lab.pod, "0.0.0.0", 15006, 0);
    bed_up(&bed);
    struct workload *web = workload_in("uid", lab.pod_name);
    inpod_want(bed.inpod, web);
    turns_ms(&bed, 20);
    expect_pending(&bed, "cannot listen on port 15006: Address already in use");
    close(app);
    expect(&bed, 1, 0, 1, 0);
    assert_false(bed.pod->dns_v6); // IPv6 is off
    leaf_unref(web);
    bed_down(&bed);
    netlab_down(&lab);
}

// Another namespace under the same name is another pod; the old one is let go of.
static void test_replaced(void **state) {
    struct netlab lab;
    struct bed bed;
    netlab_up(&lab, NETLAB_V4);
    bed_up(&bed);
    struct workload *web = workload_in("uid", lab.pod_name);
    inpod_want(bed.inpod, web);
    expect(&bed, 1, 0, 1, 0);
    uint64_t id = bed.pod->id;
    netlab_sh("ip netns del %s && ip netns add %s && ip -n %s link set lo up", lab.pod_name,
              lab.pod_name, lab.pod_name);
    inpod_want(bed.inpod, web);
    expect(&bed, 1, 0, 2, 1);
    assert_int_equal(bed.n_removed, 1);
    assert_int_equal(bed.last_down_id, id);
    assert_true(has_rules(&lab, "redirect to :15001"));
    // Gone without a word: noticed by the sweep.
    netlab_sh("ip netns del %s", lab.pod_name);
    expect(&bed, 0, 1, 2, 2);
    leaf_unref(web);
    bed_down(&bed);
    netlab_down(&lab);
}

// 2 s after the removal no descriptor of ours refers to the namespace: the kernel frees it, and
// with it the veth pair.
static void test_removed(void **state) {
    struct netlab lab;
    struct bed bed;
    netlab_up(&lab, NETLAB_V4);
    bed_up(&bed);
    struct workload *web = workload_in("uid", lab.pod_name);
    inpod_want(bed.inpod, web);
    expect(&bed, 1, 0, 1, 0);
    close(lab.pod);
    lab.pod = dup(lab.peer);
    netlab_sh("ip netns del %s", lab.pod_name);
    inpod_unwant(bed.inpod, "uid", POD_DOWN_REMOVED);
    turns_ms(&bed, 1900);
    netlab_sh("! ip -n %s link show eth0 2>/dev/null", lab.peer_name);
    leaf_unref(web);
    bed_down(&bed);
    netlab_down(&lab);
}

// SIGTERM, crash: the rules stay, the next process takes them over, the old one keeps off.
static void test_restart(void **state) {
    struct netlab lab;
    struct bed bed, next;
    netlab_up(&lab, NETLAB_V4);
    bed_up(&bed);
    struct workload *web = workload_in("uid", lab.pod_name);
    inpod_want(bed.inpod, web);
    expect(&bed, 1, 0, 1, 0);
    bed_up(&next); // beside the first one
    inpod_want(next.inpod, web);
    expect(&next, 1, 0, 1, 0);
    inpod_unwant(bed.inpod, "uid", POD_DOWN_UNENROLLED);
    expect(&bed, 0, 0, 1, 1);
    inpod_pod_drained(bed.inpod, bed.last_down_id);
    turns_ms(&bed, 100);
    assert_true(has_rules(&lab, "redirect to :15001"));
    bed_down(&bed);
    bed_down(&next);
    assert_true(has_rules(&lab, "redirect to :15001"));
    int fd = netlab_connect(lab.pod, NULL, "10.7.7.7", 80, 0); // refused, never bypassed
    assert_int_equal(fd, -ECONNREFUSED);
    netlab_sh("ip netns exec %s nft flush chain inet ztun nat_out", lab.pod_name);
    bed_up(&bed);
    inpod_want(bed.inpod, web);
    expect(&bed, 1, 0, 1, 0);
    assert_true(has_rules(&lab, "redirect to :15001"));
    leaf_unref(web);
    bed_down(&bed);
    netlab_down(&lab);
}

// Our own namespace: tunnels only, and nobody's pod.
static void test_self(void **state) {
    struct bed bed;
    bed_up(&bed);
    struct workload *self = workload_in("c//Pod/system/ztun", "");
    inpod_want_own(bed.inpod, self, true);
    expect(&bed, 0, 0, 1, 0); // up, and not counted
    assert_true(bed.pod->is_self && !bed.pod->original_source);
    assert_int_equal(bed.n_sets, 2);
    for (uint32_t i = 0; i < bed.n_sets; i++) {
        const struct pod_sockets *set = &bed.sets[i];
        assert_true(set->hbone >= 0);
        assert_true(set->outbound < 0 && set->inbound < 0 && set->dns_udp[0] < 0 &&
                    set->dns_tcp[0] < 0);
    }
    struct workload *other = workload_in("c//Pod/demo/web", "/proc/self/ns/net");
    inpod_want(bed.inpod, other);
    expect(&bed, 0, 1, 1, 0);
    turns_ms(&bed, 20);
    expect_pending(&bed, "is that of pod c//Pod/system/ztun");
    assert_false(bed.is_self_pending);
    inpod_unwant(bed.inpod, "c//Pod/demo/web", POD_DOWN_REMOVED);
    inpod_unwant(bed.inpod, "c//Pod/system/ztun", POD_DOWN_REMOVED);
    expect(&bed, 0, 0, 1, 1);
    leaf_unref(other);
    leaf_unref(self);
    bed_down(&bed);
}

static void hand_over(struct bed *bed, const char *account, int netns) {
    struct inpod_handed handed = {
        .params = {.uid = "uid",
                   .workload_uid = "c//Pod/demo/web",
                   .ns = "demo",
                   .name = "web",
                   .service_account = account},
        .netns_fd = dup(netns),
    };
    inpod_want_handed(bed->inpod, &handed);
}

static int count_fds(void) {
    int n = 0;
    DIR *dir = opendir("/proc/self/fd");
    while (readdir(dir) != NULL) {
        n++;
    }
    closedir(dir);
    return n;
}

// Handed over by a descriptor; the rules are somebody else's.
static void test_handed(void **state) {
    struct netlab lab;
    struct bed bed;
    netlab_up(&lab, NETLAB_V4);
    bed_up_as(&bed, false);
    int before = count_fds();
    int app = netlab_listen(lab.pod, "0.0.0.0", 15006, 0);
    hand_over(&bed, "sa", lab.pod);
    expect_pending(&bed, "15006");
    turns_ms(&bed, 150); // more attempts
    assert_int_equal(bed.n_failed, 1);
    close(app);
    expect(&bed, 1, 0, 1, 0);
    assert_string_equal(bed.pod->service_account, "sa");
    assert_string_equal(bed.pod->workload_uid, "c//Pod/demo/web");
    assert_false(has_rules(&lab, "inet ztun"));
    assert_false(inpod_is_redirected(bed.inpod, "uid"));
    // Away and back before it went down: it stays.
    inpod_unwant(bed.inpod, "uid", POD_DOWN_UNENROLLED);
    hand_over(&bed, "sa", lab.pod);
    expect(&bed, 1, 0, 1, 0);
    assert_int_equal(bed.n_kept, 1);
    // The same as somebody else, and in another namespace: another pod.
    inpod_unwant(bed.inpod, "uid", POD_DOWN_UNENROLLED);
    hand_over(&bed, "other", lab.pod);
    expect(&bed, 1, 0, 2, 1);
    assert_string_equal(bed.pod->service_account, "other");
    inpod_unwant(bed.inpod, "uid", POD_DOWN_REMOVED);
    hand_over(&bed, "other", lab.peer);
    expect(&bed, 1, 0, 3, 2);
    assert_int_equal(bed.n_kept, 1);
    inpod_unwant(bed.inpod, "uid", POD_DOWN_REMOVED);
    expect(&bed, 0, 0, 3, 3);
    inpod_workload_gone(bed.inpod, "c//Pod/demo/web"); // "sa", which drains
    turns_ms(&bed, 1700);
    assert_int_equal(count_fds(), before);
    bed_down(&bed);
    netlab_down(&lab);
}

// In the middle of the helper's work on the first namespace it is handed over in another one.
static void test_handed_again(void **state) {
    struct netlab lab;
    struct bed bed;
    netlab_up(&lab, NETLAB_V4);
    bed_up_as(&bed, false);
    for (int i = 0; i < 10; i++) {
        hand_over(&bed, "sa", i % 2 == 0 ? lab.peer : lab.pod);
        if (i % 3 == 0) {
            turns_ms(&bed, 2);
        }
        inpod_unwant(bed.inpod, "uid", POD_DOWN_REMOVED);
    }
    hand_over(&bed, "sa", lab.pod);
    int n_up = bed.n_up;
    expect(&bed, 1, 0, n_up + 1, n_up); // of the others none is up, or will be
    struct netns_id id, pod = {0};
    assert_int_equal(netns_id(lab.pod, &id), 0);
    assert_non_null(bed.pod);
    pod = (struct netns_id){.dev = bed.pod->netns_dev, .inode = bed.pod->netns_ino};
    assert_true(netns_id_eq(&id, &pod));
    assert_int_equal(bed.n_up, bed.n_down + 1);
    bed_down(&bed);
    netlab_down(&lab);
}

// Rules that somebody else makes a little later are noticed.
static void test_bare(void **state) {
    struct netlab lab;
    struct bed bed;
    netlab_up(&lab, NETLAB_V4);
    bed_up_as(&bed, false);
    hand_over(&bed, "sa", lab.pod);
    expect(&bed, 1, 0, 1, 0);
    assert_false(inpod_is_redirected(bed.inpod, "uid"));
    netlab_sh("ip netns exec %s iptables-nft -t nat -A OUTPUT -p tcp -j REDIRECT --to-ports 15001",
              lab.pod_name);
    for (int i = 0; i < WAIT_MS && !inpod_is_redirected(bed.inpod, "uid"); i++) {
        loop_turn(&bed.loop, false);
        usleep(1000);
    }
    assert_true(inpod_is_redirected(bed.inpod, "uid"));
    bed_down(&bed);
    netlab_down(&lab);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_life),     cmocka_unit_test(test_flapping),
        cmocka_unit_test(test_pending),  cmocka_unit_test(test_port_taken),
        cmocka_unit_test(test_replaced), cmocka_unit_test(test_removed),
        cmocka_unit_test(test_restart),  cmocka_unit_test(test_self),
        cmocka_unit_test(test_handed),   cmocka_unit_test(test_handed_again),
        cmocka_unit_test(test_bare),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

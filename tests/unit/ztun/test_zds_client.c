// SPDX-License-Identifier: Apache-2.0
// The client of ZDS against an agent in the same thread: order, snapshots, answers, descriptors.
#include "ztun/zds_client.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/rt/uring.h"
#include "tests/unit/ztun/netlab.h"

enum { TURNS_MAX = 5000 };

struct bed {
    struct blk_pool pool;
    struct loop loop;
    struct netlab lab;
    struct zds_client *client;
    char dir[32], path[64];
    int listener, conn;
    // what the callbacks were told, oldest first: "+uid", "+uid snapshot", "-uid", "-uid replaced"
    char told[1024];
    const char *at_once; // answer to adds from within; "": yes; NULL: none yet
};

static void tell(struct bed *bed, const char *sign, const char *uid, const char *what) {
    size_t len = strlen(bed->told);
    snprintf(bed->told + len, sizeof(bed->told) - len, "%s%s%s\n", sign, uid, what);
}

static void on_add(void *arg, const struct zds_request *pod, int netns_fd, bool is_snapshot) {
    struct bed *bed = arg;
    tell(bed, "+", pod->uid, is_snapshot ? " snapshot" : "");
    close(netns_fd);
    if (bed->at_once != NULL) {
        zds_client_answer(bed->client, pod->uid, bed->at_once[0] != '\0' ? bed->at_once : NULL);
    }
}

static void on_del(void *arg, const char *uid, bool is_replaced) {
    tell(arg, "-", uid, is_replaced ? " replaced" : "");
}

static void expect_told(struct bed *bed, const char *told) {
    assert_string_equal(bed->told, told);
    bed->told[0] = '\0';
}

static void agent_listens(struct bed *bed) {
    struct sockaddr_un sa = {.sun_family = AF_UNIX};
    memcpy(sa.sun_path, bed->path, strlen(bed->path));
    (void)unlink(bed->path);
    bed->listener = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK, 0);
    assert_int_equal(bind(bed->listener, (struct sockaddr *)&sa, sizeof(sa)), 0);
    assert_int_equal(listen(bed->listener, 8), 0);
}

static void turn(struct bed *bed) {
    loop_turn(&bed->loop, false);
    usleep(1000);
}

// A packet from the client; its length.
static size_t agent_recv(struct bed *bed, uint8_t packet[ZDS_ANSWER_MAX]) {
    for (int i = 0; i < TURNS_MAX; i++) {
        ssize_t n = recv(bed->conn, packet, ZDS_ANSWER_MAX, MSG_DONTWAIT);
        if (n >= 0) {
            return (size_t)n;
        }
        turn(bed);
    }
    fail_msg("no packet");
    return 0;
}

static void agent_accepts(struct bed *bed) {
    uint8_t packet[ZDS_ANSWER_MAX];
    bed->conn = -1;
    for (int i = 0; i < TURNS_MAX && bed->conn < 0; i++) {
        turn(bed);
        bed->conn = accept4(bed->listener, NULL, NULL, SOCK_NONBLOCK);
    }
    assert_true(bed->conn >= 0);
    assert_int_equal(agent_recv(bed, packet), 2);
    assert_memory_equal(packet, "\x08\x01", 2);
}

static void agent_sends(struct bed *bed, struct slice packet, const int *fds, size_t n_fds) {
    char control[CMSG_SPACE(4 * sizeof(int))] = {0};
    struct iovec iov = {.iov_base = (void *)(uintptr_t)packet.ptr, .iov_len = packet.len};
    struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};
    if (n_fds > 0) {
        msg.msg_control = control;
        msg.msg_controllen = CMSG_SPACE(n_fds * sizeof(int));
        struct cmsghdr *c = CMSG_FIRSTHDR(&msg);
        c->cmsg_level = SOL_SOCKET;
        c->cmsg_type = SCM_RIGHTS;
        c->cmsg_len = CMSG_LEN(n_fds * sizeof(int));
        memcpy(CMSG_DATA(c), fds, n_fds * sizeof(int));
    }
    assert_int_equal(sendmsg(bed->conn, &msg, 0), (ssize_t)packet.len);
}

// A request about a pod with a uid of three bytes; its namespace `netns`, unless that is -1.
static void agent_asks(struct bed *bed, enum zds_kind kind, const char *uid, int netns) {
    char packet[64];
    int n = 0;
    switch (kind) {
    case ZDS_ADD:
        n = snprintf(packet, sizeof(packet), "\x0a\x16\x0a\x03%s\x12\x0f\x0a\x03web\x12\x04%s", uid,
                     "demo\x1a\x02sa");
        break;
    case ZDS_DEL:
        n = snprintf(packet, sizeof(packet), "\x12\x05\x12\x03%s", uid);
        break;
    case ZDS_KEEP:
        n = snprintf(packet, sizeof(packet), "\x2a\x05\x0a\x03%s", uid);
        break;
    case ZDS_SNAPSHOT_SENT:
        memcpy(packet, "\x1a\x00", 2);
        n = 2;
    }
    agent_sends(bed, slice_make(packet, (size_t)n), &netns, netns >= 0);
}

static void agent_gets(struct bed *bed, const char *error) {
    uint8_t packet[ZDS_ANSWER_MAX + 1];
    size_t len = agent_recv(bed, packet);
    assert_true(len >= 2);
    packet[len] = '\0';
    if (error == NULL) {
        assert_memory_equal(packet, "\x0a\x00", 2);
    } else if (len < 5 || strstr((char *)packet + 4, error) == NULL) {
        fail_msg("'%s' lacks '%s'", len < 5 ? "" : (char *)packet + 4, error);
    }
}

static void agent_gets_nothing(struct bed *bed) {
    uint8_t packet[ZDS_ANSWER_MAX];
    for (int i = 0; i < 20; i++) {
        turn(bed);
        assert_int_equal(recv(bed->conn, packet, sizeof(packet), MSG_DONTWAIT), -1);
        assert_int_equal(errno, EAGAIN);
    }
}

static void agent_sees_the_end(struct bed *bed) {
    uint8_t packet[ZDS_ANSWER_MAX];
    assert_int_equal(agent_recv(bed, packet), 0);
    close(bed->conn);
}

static void bed_up(struct bed *bed) {
    char error[URING_ERROR_MAX];
    struct io *io;
    *bed = (struct bed){.at_once = ""};
    snprintf(bed->dir, sizeof(bed->dir), "/tmp/zdsXXXXXX");
    assert_non_null(mkdtemp(bed->dir));
    snprintf(bed->path, sizeof(bed->path), "%s/sock", bed->dir);
    netlab_up(&bed->lab, NETLAB_V4);
    blk_pool_init(&bed->pool, 4);
    assert_int_equal(uring_new(&(struct uring_options){0}, &bed->pool, error, &io), 0);
    loop_init(&bed->loop, io, &bed->pool, NULL);
    agent_listens(bed);
    struct zds_client_params params = {
        .loop = &bed->loop, .path = bed->path, .add = on_add, .del = on_del, .arg = bed};
    bed->client = zds_client_new(&params);
    agent_accepts(bed);
}

static void bed_down(struct bed *bed) {
    zds_client_free(bed->client);
    for (int i = 0; i < 5; i++) {
        turn(bed);
    }
    close(bed->conn);
    close(bed->listener);
    (void)unlink(bed->path);
    (void)rmdir(bed->dir);
    loop_fini(&bed->loop);
    bed->loop.io->ops->free(bed->loop.io);
    blk_pool_fini(&bed->pool);
    netlab_down(&bed->lab);
}

static bool is_ready(const struct bed *bed, const char *reason) {
    struct buf reasons;
    buf_init(&reasons, 1024);
    bool is_ready = zds_client_is_ready(bed->client, &reasons);
    if (reason != NULL && strstr(buf_cstr(&reasons), reason) == NULL) {
        fail_msg("'%s' lacks '%s'", buf_cstr(&reasons), reason);
    }
    buf_fini(&reasons);
    return is_ready;
}

static void test_snapshot(void **state) {
    struct bed bed;
    bed_up(&bed);
    assert_false(is_ready(&bed, "snapshot is not complete"));
    agent_asks(&bed, ZDS_ADD, "one", bed.lab.pod);
    agent_gets(&bed, NULL);
    agent_asks(&bed, ZDS_KEEP, "new", -1); // never seen: fine
    agent_gets(&bed, NULL);
    agent_asks(&bed, ZDS_SNAPSHOT_SENT, "", -1);
    agent_gets(&bed, NULL);
    assert_true(is_ready(&bed, NULL));
    agent_asks(&bed, ZDS_ADD, "two", bed.lab.peer);
    agent_gets(&bed, NULL);
    agent_asks(&bed, ZDS_DEL, "one", -1);
    agent_gets(&bed, NULL);
    agent_asks(&bed, ZDS_DEL, "one", -1);
    agent_gets(&bed, NULL);
    expect_told(&bed, "+one snapshot\n+two\n-one\n");
    bed_down(&bed);
}

// The next request waits for the answer to the one before.
static void test_one_at_a_time(void **state) {
    struct bed bed;
    bed_up(&bed);
    bed.at_once = NULL;
    agent_asks(&bed, ZDS_ADD, "one", bed.lab.pod);
    agent_asks(&bed, ZDS_ADD, "two", bed.lab.peer);
    agent_asks(&bed, ZDS_SNAPSHOT_SENT, "", -1);
    agent_gets_nothing(&bed);
    expect_told(&bed, "+one snapshot\n");
    zds_client_answer(bed.client, "two", NULL); // nobody's
    agent_gets_nothing(&bed);
    zds_client_answer(bed.client, "one", "port taken");
    agent_gets(&bed, "port taken");
    agent_gets_nothing(&bed);
    zds_client_answer(bed.client, "two", NULL);
    agent_gets(&bed, NULL);
    agent_gets(&bed, NULL);
    expect_told(&bed, "+two snapshot\n");
    // What is known is said again, until it changes.
    agent_asks(&bed, ZDS_ADD, "one", bed.lab.pod);
    agent_gets(&bed, "port taken");
    zds_client_answer(bed.client, "one", NULL);
    agent_asks(&bed, ZDS_ADD, "one", bed.lab.pod);
    agent_gets(&bed, NULL);
    expect_told(&bed, "");
    bed_down(&bed);
}

// Answers that come at once do not pile up on the stack, however many packets wait.
static void test_many(void **state) {
    struct bed bed;
    bed_up(&bed);
    for (int i = 0; i < 60; i++) {
        char uid[4];
        snprintf(uid, sizeof(uid), "%03d", i);
        agent_asks(&bed, i % 2 == 0 ? ZDS_ADD : ZDS_DEL, uid, i % 2 == 0 ? bed.lab.pod : -1);
        agent_asks(&bed, ZDS_DEL, uid, -1);
        agent_gets(&bed, NULL);
        agent_gets(&bed, NULL);
        bed.told[0] = '\0';
    }
    struct zds_client_status status;
    zds_client_get_status(bed.client, &status);
    assert_int_equal(status.n_requests, 120);
    assert_int_equal(status.n_refused, 0);
    assert_int_equal(status.n_pods, 0);
    bed_down(&bed);
}

// Nothing goes before the new snapshot is complete; late answers go nowhere.
static void test_reconnect(void **state) {
    struct bed bed;
    bed_up(&bed);
    bed.at_once = NULL;
    agent_asks(&bed, ZDS_ADD, "old", bed.lab.peer);
    agent_gets_nothing(&bed);
    zds_client_answer(bed.client, "old", NULL);
    agent_gets(&bed, NULL);
    agent_asks(&bed, ZDS_ADD, "one", bed.lab.pod);
    agent_gets_nothing(&bed);
    close(bed.conn); // while it waits for the answer
    agent_accepts(&bed);
    assert_false(is_ready(&bed, "snapshot is not complete"));
    expect_told(&bed, "+old snapshot\n+one snapshot\n");
    zds_client_answer(bed.client, "one", "late");
    agent_gets_nothing(&bed);
    agent_asks(&bed, ZDS_ADD, "one", bed.lab.pod);
    agent_gets(&bed, "late");
    expect_told(&bed, "");
    agent_asks(&bed, ZDS_SNAPSHOT_SENT, "", -1);
    agent_gets(&bed, NULL);
    expect_told(&bed, "-old\n");
    // Kept without a descriptor.
    close(bed.conn);
    agent_accepts(&bed);
    agent_asks(&bed, ZDS_KEEP, "one", -1);
    agent_gets(&bed, NULL);
    agent_asks(&bed, ZDS_SNAPSHOT_SENT, "", -1);
    agent_gets(&bed, NULL);
    expect_told(&bed, "");
    struct zds_client_status status;
    zds_client_get_status(bed.client, &status);
    assert_int_equal(status.n_connections, 3);
    bed_down(&bed);
}

static void test_replaced(void **state) {
    struct bed bed;
    bed_up(&bed);
    agent_asks(&bed, ZDS_ADD, "one", bed.lab.pod);
    agent_gets(&bed, NULL);
    agent_asks(&bed, ZDS_ADD, "one", bed.lab.peer);
    agent_gets(&bed, NULL);
    expect_told(&bed, "+one snapshot\n-one replaced\n+one snapshot\n");
    bed_down(&bed);
}

static void test_out_of_order(void **state) {
    struct bed bed;
    bed_up(&bed);
    for (int i = 0; i < 2; i++) {
        agent_asks(&bed, ZDS_SNAPSHOT_SENT, "", -1);
        agent_gets(&bed, NULL);
        agent_asks(&bed, i == 0 ? ZDS_SNAPSHOT_SENT : ZDS_KEEP, "one", -1);
        agent_gets(&bed, i == 0 ? "a second SnapshotSent" : "KeepWorkload after the snapshot");
        agent_sees_the_end(&bed);
        assert_false(is_ready(&bed, "out of order"));
        agent_accepts(&bed);
    }
    bed_down(&bed);
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

static void test_descriptors(void **state) {
    struct bed bed;
    bed_up(&bed);
    int file = open("/dev/null", O_RDONLY | O_CLOEXEC);
    int own = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
    int pods[] = {bed.lab.pod, bed.lab.peer};
    int before = count_fds();
    agent_asks(&bed, ZDS_ADD, "one", -1);
    agent_gets(&bed, "without its network namespace");
    agent_asks(&bed, ZDS_ADD, "one", file);
    agent_gets(&bed, "no network namespace");
    agent_asks(&bed, ZDS_ADD, "one", own);
    agent_gets(&bed, "the proxy's own");
    agent_asks(&bed, ZDS_DEL, "one", bed.lab.pod);
    agent_gets(&bed, "a descriptor comes with");
    agent_asks(&bed, ZDS_SNAPSHOT_SENT, "", bed.lab.pod);
    agent_gets(&bed, "a descriptor comes with");
    agent_sends(&bed,
                SLICE_LIT("\x0a\x16\x0a\x03one\x12\x0f\x0a\x03web\x12\x04"
                          "demo\x1a\x02sa"),
                pods, 2);
    agent_gets(&bed, "more than one");
    agent_sends(&bed, SLICE_LIT("nonsense"), pods, 2);
    agent_gets(&bed, "no WorkloadRequest");
    uint8_t large[ZDS_PACKET_MAX + 1] = {0};
    agent_sends(&bed, slice_make(large, sizeof(large)), pods, 2);
    agent_gets(&bed, "too long");
    assert_int_equal(count_fds(), before);
    agent_asks(&bed, ZDS_ADD, "one", bed.lab.pod);
    agent_asks(&bed, ZDS_ADD, "one", bed.lab.pod);
    agent_gets(&bed, NULL);
    agent_gets(&bed, NULL);
    assert_int_equal(count_fds(), before);
    expect_told(&bed, "+one snapshot\n");
    // Packets that nobody reads any more are the kernel's to clean up.
    bed.at_once = NULL;
    agent_asks(&bed, ZDS_ADD, "two", bed.lab.peer);
    agent_asks(&bed, ZDS_ADD, "xyz", bed.lab.peer);
    agent_gets_nothing(&bed);
    close(bed.conn);
    agent_accepts(&bed);
    assert_int_equal(count_fds(), before);
    close(file);
    close(own);
    bed_down(&bed);
}

// Descriptors that cannot be taken are lost, and the agent hears of it.
static void test_no_descriptor_left(void **state) {
    struct bed bed;
    bed_up(&bed);
    struct rlimit limit, low;
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
    low = (struct rlimit){.rlim_cur = 3, .rlim_max = limit.rlim_max};
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &low), 0);
    agent_asks(&bed, ZDS_ADD, "one", bed.lab.pod);
    agent_gets(&bed, "descriptors were lost");
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
    agent_asks(&bed, ZDS_ADD, "one", bed.lab.pod);
    agent_gets(&bed, NULL);
    bed_down(&bed);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_snapshot),    cmocka_unit_test(test_one_at_a_time),
        cmocka_unit_test(test_many),        cmocka_unit_test(test_reconnect),
        cmocka_unit_test(test_replaced),    cmocka_unit_test(test_out_of_order),
        cmocka_unit_test(test_descriptors), cmocka_unit_test(test_no_descriptor_left),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

// SPDX-License-Identifier: Apache-2.0
#include "common/obs/access_log.h"

#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include "common/obs/log.h"
#include "tests/unit/base/unit.h"

static int pipe_fds[2];

static void start(enum log_format format, const char *filter) {
    assert_int_equal(pipe(pipe_fds), 0);
    fcntl(pipe_fds[0], F_SETFL, O_NONBLOCK);
    struct buf error;
    buf_init(&error, 100);
    assert_true(log_init(
        &(struct log_config){.fd = pipe_fds[1], .format = format, .filter = filter}, &error));
    buf_fini(&error);
}

// The lines without their time.
static void expect(const char *expected) {
    char text[4096];
    ssize_t n = read(pipe_fds[0], text, sizeof(text) - 1);
    text[n > 0 ? n : 0] = '\0';
    const char *tab = strchr(text, '\t');
    assert_string_equal(tab != NULL ? tab + 1 : text, expected);
}

static void stop(void) {
    struct buf error;
    buf_init(&error, 100);
    assert_true(log_init(&(struct log_config){.fd = STDERR_FILENO}, &error));
    buf_fini(&error);
    close(pipe_fds[0]);
    close(pipe_fds[1]);
}

static struct addr src, dst, hbone;

static struct access_record sample(void) {
    assert_true(addr_parse(SLICE_LIT("10.42.0.9:33772"), &src));
    assert_true(addr_parse(SLICE_LIT("10.42.0.5:15008"), &dst));
    assert_true(addr_parse(SLICE_LIT("10.42.0.5:9080"), &hbone));
    return (struct access_record){
        .src_workload = SLICE_LIT("curl-1"),
        .src_namespace = SLICE_LIT("default"),
        .src_identity = SLICE_LIT("spiffe://cluster.local/ns/default/sa/curl"),
        .src_cluster = SLICE_LIT("Kubernetes"),
        .src_addr = &src,
        .dst_addr = &dst,
        .dst_hbone_addr = &hbone,
        .dst_service = SLICE_LIT("details.default.svc.cluster.local"),
        .dst_workload = SLICE_LIT("details-1"),
        .dst_namespace = SLICE_LIT("default"),
        .dst_identity = SLICE_LIT("spiffe://cluster.local/ns/default/sa/details"),
        .dst_cluster = SLICE_LIT("Kubernetes"),
        .direction = SLICE_LIT("outbound"),
        .bytes_sent = 84,
        .bytes_recv = 358,
        .duration_ms = 15,
    };
}

#define PEERS                                                                                      \
    "src.addr=10.42.0.9:33772 src.workload=\"curl-1\" src.namespace=\"default\" "                  \
    "src.identity=\"spiffe://cluster.local/ns/default/sa/curl\" src.cluster=\"Kubernetes\" "       \
    "dst.addr=10.42.0.5:15008 dst.hbone_addr=10.42.0.5:9080 "                                      \
    "dst.service=\"details.default.svc.cluster.local\" dst.workload=\"details-1\" "                \
    "dst.namespace=\"default\" dst.identity=\"spiffe://cluster.local/ns/default/sa/details\" "     \
    "dst.cluster=\"Kubernetes\" direction=\"outbound\""

static void test_text(void **state) {
    start(LOG_FORMAT_TEXT, "debug");
    struct access_record record = sample();
    access_log_write(ACCESS_OPENED, &record);
    expect("debug\taccess\tconnection opened\t" PEERS "\n");
    access_log_write(ACCESS_COMPLETE, &record);
    expect("info\taccess\tconnection complete\t" PEERS
           " bytes_sent=84 bytes_recv=358 duration=\"15ms\"\n");
    record.error = SLICE_LIT("io error: reset");
    access_log_write(ACCESS_COMPLETE, &record);
    expect("error\taccess\tconnection complete\t" PEERS
           " bytes_sent=84 bytes_recv=358 duration=\"15ms\" error=\"io error: reset\"\n");
    record.error = SLICE_LIT("no workload");
    record.direction = SLICE_LIT("inbound");
    access_log_write(ACCESS_FAILED, &record);
    expect("warn\taccess\tconnection failed\tsrc.addr=10.42.0.9:33772 dst.addr=10.42.0.5:15008 "
           "direction=\"inbound\" error=\"no workload\"\n");
    stop();
}

static void test_json(void **state) {
    start(LOG_FORMAT_JSON, "info");
    struct addr addr;
    assert_true(addr_parse(SLICE_LIT("[fd00::9]:1"), &addr));
    struct access_record record = {
        .src_addr = &addr, .dst_addr = &addr, .direction = SLICE_LIT("inbound"), .bytes_sent = 1};
    access_log_write(ACCESS_COMPLETE, &record);
    char text[1000];
    ssize_t n = read(pipe_fds[0], text, sizeof(text) - 1);
    assert_true(n > 0);
    text[n] = '\0';
    assert_non_null(strstr(text, "\"scope\":\"access\",\"message\":\"connection complete\","
                                 "\"src.addr\":\"[fd00::9]:1\",\"dst.addr\":\"[fd00::9]:1\","
                                 "\"direction\":\"inbound\",\"bytes_sent\":1,\"bytes_recv\":0,"
                                 "\"duration\":\"0ms\"}\n"));
    stop();
}

static void test_levels(void **state) {
    struct access_record record = sample();
    start(LOG_FORMAT_TEXT, "debug,access=error");
    access_log_write(ACCESS_OPENED, &record);
    access_log_write(ACCESS_COMPLETE, &record);
    access_log_write(ACCESS_FAILED, &record);
    expect("");
    assert_false(access_log_enabled(ACCESS_OPENED, false));
    assert_false(access_log_enabled(ACCESS_COMPLETE, false));
    assert_true(access_log_enabled(ACCESS_COMPLETE, true));
    assert_false(access_log_enabled(ACCESS_FAILED, true));
    record.error = SLICE_LIT("x");
    access_log_write(ACCESS_COMPLETE, &record);
    char text[4096];
    assert_true(read(pipe_fds[0], text, sizeof(text)) > 0);
    stop();
}

// The CONNECT authority is the peer's text.
static void test_hostile_authority(void **state) {
    start(LOG_FORMAT_TEXT, "info");
    struct access_record record = {.direction = SLICE_LIT("inbound"),
                                   .dst_hbone_host = SLICE_LIT("x:1\n2024 info access forged")};
    access_log_write(ACCESS_COMPLETE, &record);
    expect("info\taccess\tconnection complete\tdst.hbone_addr=\"x:1\\n2024 info access forged\" "
           "direction=\"inbound\" bytes_sent=0 bytes_recv=0 duration=\"0ms\"\n");
    stop();
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_text),
        cmocka_unit_test(test_json),
        cmocka_unit_test(test_levels),
        cmocka_unit_test(test_hostile_authority),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

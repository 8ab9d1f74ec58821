// SPDX-License-Identifier: Apache-2.0
//
// Command lines, and how many threads settings and a container's CPUs make.
#include "common/proc/proc_options.h"

#include <stdlib.h>

#include "common/proc/proc_config.h"
#include "tests/unit/base/unit.h"

struct config {
    const char *text;
    uint32_t number;
    bool flag;
    struct proc_threads threads;
    uint32_t cpus;
};

static const struct proc_option options[] = {
    {"text", "TEST_TEXT", PROC_TEXT, offsetof(struct config, text), "TEXT", "a text"},
    {"number", NULL, PROC_U32, offsetof(struct config, number), "N", NULL},
    {"flag", NULL, PROC_BOOL, offsetof(struct config, flag), "BOOL", NULL},
    {"threads", NULL, PROC_THREADS, offsetof(struct config, threads), "N|P%", NULL},
    {"cpus", NULL, PROC_CPUS, offsetof(struct config, cpus), "N", NULL},
    {NULL, "TEST_NUMBER", PROC_U32, offsetof(struct config, number), NULL, NULL},
};

static const char *const words[] = {"proxy", "test"};

static const struct proc_program program = {
    .name = "test",
    .options = options,
    .n_options = ARRAY_LEN(options),
    .words = words,
    .n_words = ARRAY_LEN(words),
};

#define PARSE(config, ...) parse(config, (const char *const[]){"test", __VA_ARGS__, NULL})

static int parse(struct config *config, const char *const *args) {
    char *argv[8];
    int argc = 0;
    *config = (struct config){0};
    while (args[argc] != NULL) {
        argv[argc] = (char *)args[argc];
        argc++;
    }
    return proc_options_parse(&program, config, argc, argv);
}

static void test_flags(void **state) {
    struct config config;
    assert_int_equal(PARSE(&config, "--text=a=b", "--number", "7", "--flag=on"), 0);
    assert_string_equal(config.text, "a=b");
    assert_int_equal(config.number, 7);
    assert_true(config.flag);
    assert_int_equal(PARSE(&config, "--flag=True"), 0);
    assert_true(config.flag);
    assert_int_equal(PARSE(&config, "--number=-1"), 2);
    assert_int_equal(PARSE(&config, "--number"), 2);
    assert_int_equal(PARSE(&config, "--flag=maybe"), 2);
    assert_int_equal(PARSE(&config, "--nothing=1"), 2);
}

// Flags count before the environment; an empty variable is none.
static void test_environment(void **state) {
    struct config config;
    assert_int_equal(setenv("TEST_TEXT", "from there", 1), 0);
    assert_int_equal(setenv("TEST_NUMBER", "9", 1), 0);
    assert_int_equal(PARSE(&config, "--number=3"), 0);
    assert_string_equal(config.text, "from there");
    assert_int_equal(config.number, 3);
    assert_int_equal(setenv("TEST_NUMBER", "many", 1), 0);
    assert_int_equal(PARSE(&config, "--flag=on"), 2);
    assert_int_equal(setenv("TEST_NUMBER", "", 1), 0);
    assert_int_equal(PARSE(&config, "--flag=on"), 0);
    assert_int_equal(config.number, 0);
    unsetenv("TEST_NUMBER");
    unsetenv("TEST_TEXT");
}

// The words that charts begin with: at the beginning, in their order.
static void test_words(void **state) {
    struct config config;
    assert_int_equal(PARSE(&config, "proxy", "test", "--number=1"), 0);
    assert_int_equal(config.number, 1);
    assert_int_equal(PARSE(&config, "proxy", "--number=2"), 0);
    assert_int_equal(config.number, 2);
    assert_int_equal(PARSE(&config, "proxy"), 0);
    assert_int_equal(PARSE(&config, "test"), 2);
    assert_int_equal(PARSE(&config, "proxy", "other"), 2);
    assert_int_equal(PARSE(&config, "proxy", "test", "proxy"), 2);
    assert_int_equal(PARSE(&config, "--number=1", "proxy"), 2);
}

static void test_threads(void **state) {
    static const struct {
        const char *arg; // NULL: not set
        uint32_t cores, cpus, limit, request, expected;
    } rows[] = {
        {NULL, 1, 0, 0, 0, 2},
        {NULL, 8, 0, 0, 0, 2},
        {NULL, 16, 0, 0, 0, 4},
        {NULL, 512, 0, 0, 0, 64},
        {NULL, 2, 16, 0, 0, 4}, // what the container may use counts, not the machine
        {NULL, 16, 16, 0, 6, 6}, // at least the request
        {NULL, 16, 16, 1, 1, 1}, // the limit
        {NULL, 16, 16, 10, 1, 10},
        {NULL, 256, 256, 100, 1, 64},
        {"--threads=3", 16, 0, 9, 9, 3},
        {"--threads=0", 16, 0, 0, 0, 16},
        {"--threads=0", 16, 4, 0, 0, 4},
        {"--threads=50%", 16, 0, 0, 0, 8},
        {"--threads=50%", 16, 4, 0, 0, 2},
        {"--threads=12.5%", 16, 0, 0, 0, 2},
        {"--threads=51%", 16, 0, 0, 0, 9}, // rounded up
        {"--threads=50%", 16, 16, 2, 0, 1}, // of the limit
        {"--threads=0", 16, 16, 3, 0, 3},
        {NULL, 16, 16, 1, 3, 3}, // the request counts more than the limit
        {NULL, 9, 0, 0, 0, 3},
        {"--threads=1%", 16, 0, 0, 0, 1},
        {"--threads=1024", 16, 0, 0, 0, 1024}, // which is refused later
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct config config;
        const char *arg = rows[i].arg != NULL ? rows[i].arg : "--flag=on";
        assert_int_equal(PARSE(&config, arg), 0);
        struct proc_config proc = {.workers = config.threads,
                                   .cpus = rows[i].cpus,
                                   .cpu_limit = rows[i].limit,
                                   .cpu_request = rows[i].request};
        assert_int_equal(proc_config_workers(&proc, rows[i].cores), rows[i].expected);
    }
    struct config config;
    assert_int_equal(PARSE(&config, "--threads=x"), 2);
    assert_int_equal(PARSE(&config, "--threads=5%%"), 2);
    assert_int_equal(PARSE(&config, "--threads=-1"), 2);
    assert_int_equal(PARSE(&config, "--threads=1025"), 2);
    assert_int_equal(PARSE(&config, "--threads=1.5"), 2);
    assert_int_equal(PARSE(&config, "--threads=0%"), 2);
    assert_int_equal(PARSE(&config, "--threads=101%"), 2);
}

static void test_cpus(void **state) {
    static const struct {
        const char *arg;
        int rc;
        uint32_t cpus;
    } rows[] = {
        {"--cpus=2", 0, 2},     {"--cpus=1.5", 0, 2}, {"--cpus=500m", 0, 1}, {"--cpus=1001m", 0, 2},
        {"--cpus=0.001", 0, 1}, {"--cpus=0", 2, 0},   {"--cpus=0m", 2, 0},   {"--cpus=-1", 2, 0},
        {"--cpus=", 2, 0},      {"--cpus=1.", 2, 0},  {"--cpus=2k", 2, 0},   {"--cpus=m", 2, 0},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct config config;
        assert_int_equal(PARSE(&config, rows[i].arg), rows[i].rc);
        assert_int_equal(config.cpus, rows[i].cpus);
    }
}

static void test_grace(void **state) {
    static const struct {
        const char *text;
        uint32_t ms;
    } rows[] = {{"30", 25000}, {"11", 6000}, {"10", 9000}, {"2", 1000}, {"1", 1000}, {"x", 7}};
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        uint32_t ms = 7;
        assert_int_equal(setenv("TERMINATION_GRACE_PERIOD_SECONDS", rows[i].text, 1), 0);
        proc_options_grace(&ms);
        assert_int_equal(ms, rows[i].ms);
    }
    unsetenv("TERMINATION_GRACE_PERIOD_SECONDS");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_flags), cmocka_unit_test(test_environment),
        cmocka_unit_test(test_words), cmocka_unit_test(test_threads),
        cmocka_unit_test(test_cpus),  cmocka_unit_test(test_grace),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

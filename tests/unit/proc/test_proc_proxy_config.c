// SPDX-License-Identifier: Apache-2.0
#include "common/proc/proc_proxy_config.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/unit/base/unit.h"

static char mesh_file[] = "/tmp/proc_proxy_config.XXXXXX";
static struct proc_config config;

static int setup(void **state) {
    int fd = mkstemp(mesh_file);
    return fd >= 0 ? close(fd) : -1;
}

static int teardown(void **state) {
    return unlink(mesh_file);
}

static void forget(void) {
    static const char *const names[] = {"XDS_ADDRESS", "ISTIO_META_A", "ISTIO_META_B",
                                        "ISTIO_META_C", "ISTIO_META_DNS_CAPTURE"};
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        unsetenv(names[i]);
    }
}

static bool read_both(const char *mesh, const char *text) {
    FILE *file = fopen(mesh_file, "w");
    assert_non_null(file);
    assert_true(fputs(mesh, file) >= 0);
    assert_int_equal(fclose(file), 0);
    proc_config_defaults(&config);
    return proc_proxy_config(&config, "test", mesh_file, text);
}

// What was found is owned by the config, and for good; here it would be a leak.
static void release(void) {
    free((void *)(uintptr_t)config.xds_address);
    config.xds_address = NULL;
}

static void assert_env(const char *name, const char *value) {
    const char *text = getenv(name);
    assert_non_null(text);
    assert_string_equal(text, value);
}

static void test_nothing(void **state) {
    forget();
    proc_config_defaults(&config);
    assert_true(proc_proxy_config(&config, "test", "/nonexistent/mesh", NULL));
    assert_null(config.xds_address);
    assert_int_equal(config.admin.port, 15000);
    assert_false(config.workers.is_set);
    assert_true(read_both("", ""));
    assert_true(read_both("trustDomain: x\n", "{}"));
    assert_true(read_both("defaultConfig:\n", "discoveryAddress: null\nproxyMetadata:\n"));
    assert_null(config.xds_address);
}

static void test_fields(void **state) {
    forget();
    assert_true(read_both("", "discoveryAddress: istiod.x.svc:15012\nconcurrency: 3\n"
                              "proxyAdminPort: 15100\nstatsPort: 15120\nbinaryPath: /envoy\n"
                              "proxyMetadata:\n  ISTIO_META_A: one\n  B: \"2\"\n"));
    assert_string_equal(config.xds_address, "istiod.x.svc:15012");
    assert_int_equal(proc_config_workers(&config, 8), 3);
    assert_int_equal(config.admin.port, 15100);
    assert_int_equal(config.metrics.port, 15120);
    assert_env("ISTIO_META_A", "one");
    assert_env("ISTIO_META_B", "2");
    release();
    assert_true(read_both("", "{\"concurrency\": 0, \"discoveryAddress\": \"\"}"));
    assert_int_equal(proc_config_workers(&config, 8), 8); // all cores
    assert_string_equal(config.xds_address, ""); // none
    release();
}

// The environment before PROXY_CONFIG before the mesh's file, entry by entry.
static void test_ranks(void **state) {
    forget();
    assert_int_equal(setenv("ISTIO_META_A", "environment", 1), 0);
    assert_true(read_both("defaultConfig:\n  discoveryAddress: mesh:1\n  concurrency: 5\n"
                          "  statsPort: 1\n  proxyMetadata: {A: mesh, B: mesh, C: mesh}\n",
                          "{\"concurrency\":2,\"proxyMetadata\":{\"A\":\"own\",\"B\":\"own\"}}"));
    assert_string_equal(config.xds_address, "mesh:1");
    assert_int_equal(config.workers.n, 2);
    assert_int_equal(config.metrics.port, 1);
    assert_env("ISTIO_META_A", "environment");
    assert_env("ISTIO_META_B", "own");
    assert_env("ISTIO_META_C", "mesh");
    release();
    assert_int_equal(setenv("XDS_ADDRESS", "", 1), 0);
    assert_true(read_both("defaultConfig: {discoveryAddress: \"mesh:1\"}",
                          "discoveryAddress: own:1"));
    assert_null(config.xds_address); // is left to the option, which has none
    forget();
}

static void test_errors(void **state) {
    static const char *const texts[] = {
        "[]",
        "concurrency: many",
        "concurrency: -1",
        "concurrency: 1025",
        "statsPort: 0",
        "proxyAdminPort: 65536",
        "discoveryAddress: 1",
        "discoveryAddress: [a]",
        "proxyMetadata: a",
        "proxyMetadata: {A: true}",
        "proxyMetadata: {\"A=B\": x}",
        "proxyMetadata: {\"\": x}",
        "a: b: c",
        "statsPort: 1\nstatsPort: 2",
    };
    forget();
    for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
        char mesh[128];
        assert_false(read_both("", texts[i]));
        release();
        snprintf(mesh, sizeof(mesh), "{\"defaultConfig\": %s}", texts[i][0] == '[' ? "[]" : "3");
        assert_false(read_both(mesh, NULL));
    }
    proc_config_defaults(&config);
    assert_false(proc_proxy_config(&config, "test", "/", NULL)); // it is there, and no file
    forget();
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_nothing),
        cmocka_unit_test(test_fields),
        cmocka_unit_test(test_ranks),
        cmocka_unit_test(test_errors),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}

// SPDX-License-Identifier: Apache-2.0
#include "common/proc/proc_trust.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/unit/base/unit.h"

static char dir[] = "/tmp/proc_trust.XXXXXX";

static int setup(void **state) {
    return mkdtemp(dir) != NULL && chdir(dir) == 0 ? 0 : -1;
}

static int teardown(void **state) {
    return chdir("/") == 0 && rmdir(dir) == 0 ? 0 : -1;
}

static void touch(const char *path) {
    int fd = open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    close(fd);
}

static void assert_file(struct http_client_file file, const char *path) {
    assert_non_null(file.path);
    assert_string_equal(file.path, path);
    assert_int_equal(file.text.len, 0);
}

static void assert_text(struct http_client_file file, const char *text) {
    assert_null(file.path);
    assert_true(slice_eq_str(file.text, text));
}

static void test_roots(void **state) {
    const char *pem = "-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----\n";
    assert_file(proc_trust_roots("/not/there/yet.pem"), "/not/there/yet.pem");
    assert_file(proc_trust_roots("relative.pem"), "relative.pem");
    assert_string_equal(proc_trust_name("relative.pem"), "relative.pem");
    assert_text(proc_trust_roots(pem), pem);
    assert_string_equal(proc_trust_name(pem), "PEM");
    assert_file(proc_trust_roots("SYSTEM"), proc_trust_system());
    assert_string_equal(proc_trust_name("SYSTEM"), "SYSTEM");
    assert_file(proc_trust_roots("system"), "system"); // the word alone
    touch("SYSTEM");
    assert_file(proc_trust_roots("SYSTEM"), "SYSTEM");
    assert_int_equal(unlink("SYSTEM"), 0);
}

static void test_system(void **state) {
    assert_int_equal(setenv("SSL_CERT_FILE", "/own/bundle.pem", 1), 0);
    assert_string_equal(proc_trust_system(), "/own/bundle.pem");
    assert_int_equal(setenv("SSL_CERT_FILE", "", 1), 0);
    assert_true(strncmp(proc_trust_system(), "/etc/", 5) == 0);
    unsetenv("SSL_CERT_FILE");
}

static void test_token(void **state) {
    assert_file(proc_trust_token("./not/there"), "./not/there");
    assert_text(proc_trust_token("eyJh.eyJp.c2ln"), "eyJh.eyJp.c2ln");
    touch("token");
    assert_file(proc_trust_token("token"), "token");
    assert_int_equal(unlink("token"), 0);
    assert_text(proc_trust_token("token"), "token");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_roots),
        cmocka_unit_test(test_system),
        cmocka_unit_test(test_token),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}

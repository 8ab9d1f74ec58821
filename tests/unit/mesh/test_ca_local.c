// SPDX-License-Identifier: Apache-2.0
#include "common/mesh/ca_local.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/tls/tls_ca.h"
#include "common/tls/tls_cert.h"
#include "tests/unit/mesh/mesh_fixture.h"

static const int64_t NOW = 1800000000;
static char dir[64];

static void in_dir(const char *name, char path[256]) {
    snprintf(path, 256, "%s/%s", dir, name);
}

static void put(const char *name, const char *text) {
    char path[256], temporary[256];
    in_dir(name, path);
    in_dir("tmp-file", temporary);
    FILE *file = fopen(temporary, "w");
    assert_non_null(file);
    fputs(text, file);
    fclose(file);
    assert_int_equal(rename(temporary, path), 0);
}

static bool exists(const char *name) {
    char path[256];
    in_dir(name, path);
    return access(path, F_OK) == 0;
}

static mode_t mode_of(const char *name) {
    char path[256];
    struct stat st;
    in_dir(name, path);
    assert_int_equal(stat(path, &st), 0);
    return st.st_mode & 07777;
}

static void clear_dir(void) {
    DIR *d = opendir(dir);
    struct dirent *entry;
    while (d != NULL && (entry = readdir(d)) != NULL) {
        char path[512];
        snprintf(path, sizeof(path), "%s/%s", dir, entry->d_name);
        unlink(path);
    }
    if (d != NULL) {
        closedir(d);
    }
    rmdir(dir);
}

static int setup(void **state) {
    snprintf(dir, sizeof(dir), "/tmp/ztun-ca-%d", (int)getpid());
    clear_dir();
    return 0;
}

static int teardown(void **state) {
    clear_dir();
    return 0;
}

static struct ca_local *open_ca(const char **ret_error) {
    struct ca_local_params params = {.dir = dir, .org = "cluster.local", .now_wall_s = NOW};
    char *error = NULL;
    struct ca_local *ca = ca_local_open(&params, &error);
    static char text[1024];
    snprintf(text, sizeof(text), "%s", error != NULL ? error : "");
    free(error);
    *ret_error = text;
    return ca;
}

static char *issued_chain;

static void on_issued(struct ca_request *request, const struct ca_answer *answer) {
    free(issued_chain);
    issued_chain = answer->error == NULL ? slice_dup(answer->cert_chain_pem) : NULL;
}

static size_t issue(struct ca_local *ca, struct tls_cert_info **ret_infos) {
    struct ca_request request = {.spiffe_id = "spiffe://cluster.local/ns/a/sa/b",
                                 .now_wall_s = NOW,
                                 .ttl_s = 3600,
                                 .done = on_issued};
    char *error = NULL;
    ca_local_ca(ca)->ops->issue(ca_local_ca(ca), &request);
    assert_non_null(issued_chain);
    return tls_cert_parse(slice_str(issued_chain), ret_infos, &error);
}

static void test_create(void **state) {
    const char *error;
    umask(0);
    struct ca_local *ca = open_ca(&error);
    assert_string_equal(error, "");
    assert_true(ca_local_is_new(ca));
    assert_int_equal(mode_of("."), 0700);
    assert_int_equal(mode_of("ca-key.pem"), 0600);
    assert_int_equal(mode_of("ca-cert.pem"), 0644);
    assert_true(exists("root-cert.pem") && exists("cert-chain.pem"));
    assert_false(exists(".new.ca-key.pem") || exists(".new.complete"));
    struct tls_cert_info *infos;
    assert_int_equal(issue(ca, &infos), 1); // the leaf alone: its issuer is the root
    assert_string_equal(infos[0].identity, "spiffe://cluster.local/ns/a/sa/b");
    assert_int_equal(infos[0].not_before, NOW - TLS_CA_BACKDATE_S);
    tls_cert_infos_free(infos, 1);

    struct ca_local *again = open_ca(&error);
    assert_false(ca_local_is_new(again));
    assert_string_equal(ca_local_roots_pem(again), ca_local_roots_pem(ca));
    assert_true(ca_local_not_after(ca) > NOW + (int64_t)3649 * 86400);
    ca_local_close(again);
    ca_local_close(ca);
}

// Eight processes with one empty directory get one root.
static void test_race(void **state) {
    enum { N = 8 };
    for (int round = 0; round < 5; round++) {
        int fds[N];
        pid_t pids[N];
        clear_dir();
        for (int i = 0; i < N; i++) {
            int pipe_fds[2];
            assert_int_equal(pipe(pipe_fds), 0);
            pids[i] = fork();
            if (pids[i] == 0) {
                const char *error;
                struct ca_local *ca = open_ca(&error);
                const char *text = ca != NULL ? ca_local_roots_pem(ca) : error;
                bool is_written = write(pipe_fds[1], text, strlen(text)) == (ssize_t)strlen(text);
                _exit(ca != NULL && is_written ? ca_local_is_new(ca) : 100);
            }
            close(pipe_fds[1]);
            fds[i] = pipe_fds[0];
        }
        char roots[N][8192];
        int n_new = 0;
        for (int i = 0; i < N; i++) {
            int status;
            ssize_t len = read(fds[i], roots[i], sizeof(roots[i]) - 1);
            assert_true(len > 0);
            roots[i][len] = '\0';
            close(fds[i]);
            assert_int_equal(waitpid(pids[i], &status, 0), pids[i]);
            assert_true(WIFEXITED(status) && WEXITSTATUS(status) < 100);
            n_new += WEXITSTATUS(status);
            assert_string_equal(roots[i], roots[0]);
        }
        assert_int_equal(n_new, 1);
    }
}

static void test_intermediate(void **state) {
    char *root, *root_key, *middle, *middle_key, *error_text = NULL;
    const char *error;
    tls_ca_make_root(SLICE_LIT("corp"), NOW - 1000, &root, &root_key);
    assert_true(tls_ca_make_intermediate(slice_str(root), slice_str(root_key), SLICE_LIT("mesh"),
                                         NOW - 500, 30 * 86400, &middle, &middle_key, &error_text));
    mkdir(dir, 0700);
    char chain[16384];
    snprintf(chain, sizeof(chain), "%s%s", middle, root); // as Istio's samples make it
    put("ca-cert.pem", middle);
    put("ca-key.pem", middle_key);
    put("root-cert.pem", root);
    put("cert-chain.pem", chain);
    struct ca_local *ca = open_ca(&error);
    assert_string_equal(error, "");
    assert_false(ca_local_is_new(ca));
    struct tls_cert_info *infos;
    assert_int_equal(issue(ca, &infos), 2); // leaf and intermediate
    assert_true(infos[1].is_ca);
    tls_cert_infos_free(infos, 2);
    assert_non_null(strstr(root, "BEGIN"));
    ca_local_close(ca);
    free(root);
    free(middle);
    tls_key_pem_free(root_key);
    tls_key_pem_free(middle_key);
}

static void test_reload(void **state) {
    const char *error;
    char *reason = NULL, *cert, *key;
    struct ca_local *ca = open_ca(&error);
    char *roots = xstrdup(ca_local_roots_pem(ca));
    assert_int_equal(ca_local_poll(ca, NOW, &reason), CA_LOCAL_SAME);

    put("ca-cert.pem", "garbage");
    assert_int_equal(ca_local_poll(ca, NOW, &reason), CA_LOCAL_BROKEN);
    assert_non_null(reason);
    free(reason);
    assert_int_equal(ca_local_poll(ca, NOW, &reason), CA_LOCAL_SAME); // told once
    assert_string_equal(ca_local_roots_pem(ca), roots);

    tls_ca_make_root(SLICE_LIT("other"), NOW - 10, &cert, &key);
    put("ca-key.pem", key);
    put("root-cert.pem", cert);
    put("cert-chain.pem", cert);
    put("ca-cert.pem", cert);
    assert_int_equal(ca_local_poll(ca, NOW, &reason), CA_LOCAL_CHANGED);
    assert_string_not_equal(ca_local_roots_pem(ca), roots);
    ca_local_close(ca);
    free(roots);
    free(cert);
    tls_key_pem_free(key);
}

static void test_refusals(void **state) {
    const char *error;
    struct ca_local *ca = open_ca(&error);
    ca_local_close(ca);
    char path[256];
    in_dir("ca-key.pem", path);
    unlink(path);
    assert_null(open_ca(&error)); // never made anew beside a certificate
    assert_non_null(strstr(error, "has ca-cert.pem but not ca-key.pem"));
    put("ca-key.pem", "garbage");
    assert_null(open_ca(&error));
    assert_non_null(strstr(error, dir));
}

// A start that was cut off: before the new files were complete, and while they got their names.
static void test_cut_off(void **state) {
    const char *error;
    char from[256], to[256];
    mkdir(dir, 0700);
    put(".new.ca-key.pem", "half");
    struct ca_local *ca = open_ca(&error);
    assert_string_equal(error, "");
    assert_true(ca_local_is_new(ca));
    char *roots = xstrdup(ca_local_roots_pem(ca));
    ca_local_close(ca);
    put(".new.complete", "");
    const char *const names[] = {"ca-cert.pem", "ca-key.pem"};
    for (size_t i = 0; i < 2; i++) {
        char hidden[64];
        snprintf(hidden, sizeof(hidden), ".new.%s", names[i]);
        in_dir(names[i], from);
        in_dir(hidden, to);
        assert_int_equal(rename(from, to), 0);
    }
    ca = open_ca(&error);
    assert_string_equal(error, "");
    assert_false(ca_local_is_new(ca));
    assert_string_equal(ca_local_roots_pem(ca), roots);
    assert_false(exists(".new.complete"));
    ca_local_close(ca);
    free(roots);
}

int main(void) {
#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_create), TEST(test_race),     TEST(test_intermediate),
        TEST(test_reload), TEST(test_refusals), TEST(test_cut_off),
    };
    int rc = cmocka_run_group_tests(tests, NULL, NULL);
    free(issued_chain);
    return rc;
}

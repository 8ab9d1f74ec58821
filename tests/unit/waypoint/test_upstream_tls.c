// SPDX-License-Identifier: Apache-2.0
//
// Credentials of TLS with servers: files that come, change, break and go; what is shared; which
// names a server has to show. Connections with them are tested in tests/e2e.
#include "waypoint/upstream_tls.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "common/base/clock.h"
#include "common/proc/proc_mesh.h"
#include "common/tls/tls_ca.h"
#include "common/tls/tls_cert.h"
#include "tests/unit/waypoint/waypoint_talk.h"
#include "waypoint/dial.h"

enum { LOOK_MS = 2100 }; // files are looked at every 2 s

struct creds {
    struct talk talk; // for its loop and clock
    struct proc_mesh mesh; // without objects
    char dir[64], ca[96], crl[96];
    char *root, *key;
    struct tls_svid client; // signed by them
};

static void write_file(const char *path, const char *text) {
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    assert_true(fputs(text, file) >= 0);
    assert_int_equal(fclose(file), 0);
}

static void creds_open(struct creds *creds) {
    *creds = (struct creds){.dir = "/tmp/ztun-test-creds-XXXXXX"};
    assert_non_null(mkdtemp(creds->dir));
    snprintf(creds->ca, sizeof(creds->ca), "%s/ca.pem", creds->dir);
    snprintf(creds->crl, sizeof(creds->crl), "%s/crl.pem", creds->dir);
    tls_ca_make_root(SLICE_LIT("example.com"), clock_wall_s(), &creds->root, &creds->key);
    struct tls_ca_params ca = {.ca_cert_pem = slice_str(creds->root),
                               .ca_key_pem = slice_str(creds->key),
                               .now_s = clock_wall_s()};
    char *error = NULL;
    struct tls_ca *authority = tls_ca_new(&ca, &error);
    assert_non_null(authority);
    assert_true(tls_ca_sign(authority, SLICE_LIT("spiffe://example.com/ns/a/sa/b"), ca.now_s, 3600,
                            &creds->client, &error));
    tls_ca_free(authority);
    talk_open(&creds->talk, 1, 1, false, "");
    struct upstream_tls_params params = {
        .loop = creds->talk.bed.workers[0]->loop, .mesh = &creds->mesh, .ns = "shop"};
    upstream_tls_open(&params);
}

static void creds_close(struct creds *creds) {
    talk_close(&creds->talk);
    (void)unlink(creds->ca);
    (void)unlink(creds->crl);
    assert_int_equal(rmdir(creds->dir), 0);
    tls_svid_fini(&creds->client);
    free(creds->root);
    tls_key_pem_free(creds->key);
}

// SIMPLE with this file of roots.
static struct l7_settings policy(const char *ca) {
    struct l7_settings settings = {.tls = {.is_set = true,
                                           .mode = TLS_MODE_SIMPLE,
                                           .client_certificate = "",
                                           .private_key = "",
                                           .ca_certificates = ca,
                                           .ca_crl = "",
                                           .credential_name = "",
                                           .sni = ""}};
    return settings;
}

static void take(struct l7_settings *settings) {
    settings->tls.credentials = upstream_tls_ops.take(&settings->tls);
    assert_non_null(settings->tls.credentials);
}

static void give(struct l7_settings *settings) {
    upstream_tls_ops.give(settings->tls.credentials);
}

// True: there is something to connect with; else `text` says why not.
static bool is_usable(const struct l7_settings *settings, char text[320]) {
    struct upstream_target target = {0};
    text[0] = '\0';
    bool is_set = upstream_tls_set(settings, NULL, SLICE_LIT("web.example.com"), TLS_ALPN_NONE,
                                   &target, text, 320);
    assert_int_equal(is_set, target.tls != NULL);
    upstream_tls_unset(&target);
    return is_set;
}

struct problems {
    unsigned n;
    char name[96], text[320];
};

static void on_problem(void *arg, const char *name, const char *text) {
    struct problems *problems = arg;
    problems->n++;
    snprintf(problems->name, sizeof(problems->name), "%s", name);
    snprintf(problems->text, sizeof(problems->text), "%s", text);
}

static struct problems problems_now(void) {
    struct problems problems = {0};
    upstream_tls_each_problem(on_problem, &problems);
    return problems;
}

// What never was good refuses; what was good stays in force, whatever becomes of its file.
static void test_files(void **state) {
    struct creds creds;
    char text[320];
    creds_open(&creds);
    struct l7_settings settings = policy(creds.ca);
    take(&settings);
    assert_false(is_usable(&settings, text));
    assert_non_null(strstr(text, creds.ca));
    assert_non_null(strstr(text, "No such file"));
    struct problems problems = problems_now();
    assert_int_equal(problems.n, 1);
    assert_string_equal(problems.name, creds.ca);

    static const char *const broken[] = {
        "", "nonsense\n", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"};
    for (size_t i = 0; i < ARRAY_LEN(broken); i++) { // not yet good
        write_file(creds.ca, broken[i]);
        talk_run(&creds.talk, LOOK_MS);
        assert_false(is_usable(&settings, text));
        assert_int_equal(problems_now().n, 1);
    }
    write_file(creds.ca, creds.root);
    talk_run(&creds.talk, LOOK_MS);
    assert_true(is_usable(&settings, text));
    assert_int_equal(problems_now().n, 0);
    for (size_t i = 0; i < ARRAY_LEN(broken); i++) {
        write_file(creds.ca, broken[i]);
        talk_run(&creds.talk, LOOK_MS);
        assert_true(is_usable(&settings, text));
        assert_int_equal(problems_now().n, 1);
    }
    assert_int_equal(unlink(creds.ca), 0);
    talk_run(&creds.talk, LOOK_MS);
    assert_true(is_usable(&settings, text));
    assert_non_null(strstr(problems_now().text, "No such file"));
    write_file(creds.ca, creds.root);
    talk_run(&creds.talk, LOOK_MS);
    assert_int_equal(problems_now().n, 0);
    give(&settings);
    assert_int_equal(problems_now().n, 0);
    creds_close(&creds);
}

// A file that is named and empty is an error, never the same as none: the system's roots, no
// certificate of our own, nothing revoked.
static void test_empty_files(void **state) {
    struct creds creds;
    char text[320], cert[96], key[96];
    creds_open(&creds);
    snprintf(cert, sizeof(cert), "%s/cert.pem", creds.dir);
    snprintf(key, sizeof(key), "%s/key.pem", creds.dir);
    for (int empty = -1; empty < 4; empty++) {
        write_file(cert, empty == 0 ? "" : creds.client.cert_chain_pem);
        write_file(key, empty == 1 ? "" : creds.client.key_pem);
        write_file(creds.ca, empty == 2 ? "" : creds.root);
        write_file(creds.crl, "");
        struct l7_settings settings = policy(creds.ca);
        settings.tls.mode = TLS_MODE_MUTUAL;
        settings.tls.client_certificate = cert;
        settings.tls.private_key = key;
        settings.tls.ca_crl = empty == 3 ? creds.crl : "";
        take(&settings);
        assert_int_equal(is_usable(&settings, text), empty < 0);
        give(&settings);
    }
    assert_int_equal(unlink(cert), 0);
    assert_int_equal(unlink(key), 0);
    creds_close(&creds);
}

static void test_shared(void **state) {
    struct creds creds;
    creds_open(&creds);
    write_file(creds.ca, creds.root);
    struct l7_settings settings[] = {policy(creds.ca), policy(creds.ca), policy(creds.ca),
                                     policy(creds.ca)};
    settings[1].tls.sni = "other.example.com"; // is no part of the credentials
    settings[2].tls.ca_crl = creds.crl; // is, and is not there
    settings[3].tls.skips_verify = true; // needs no roots
    for (size_t i = 0; i < ARRAY_LEN(settings); i++) {
        take(&settings[i]);
    }
    assert_ptr_equal(settings[0].tls.credentials, settings[1].tls.credentials);
    assert_ptr_not_equal(settings[0].tls.credentials, settings[2].tls.credentials);
    assert_ptr_not_equal(settings[0].tls.credentials, settings[3].tls.credentials);
    char text[320];
    give(&settings[0]);
    assert_true(is_usable(&settings[1], text)); // still there for the other one
    assert_false(is_usable(&settings[2], text));
    assert_non_null(strstr(text, creds.crl));
    assert_true(is_usable(&settings[3], text));
    for (size_t i = 1; i < ARRAY_LEN(settings); i++) {
        give(&settings[i]);
    }
    creds_close(&creds);
}

static void test_secret_is_missing(void **state) {
    struct creds creds;
    char text[320];
    creds_open(&creds);
    struct l7_settings settings = policy("");
    settings.tls.credential_name = "web-certs";
    take(&settings);
    assert_false(is_usable(&settings, text));
    assert_non_null(strstr(text, "\"web-certs\""));
    assert_non_null(strstr(text, "\"shop\""));
    give(&settings);
    creds_close(&creds);
}

// The name that is sent, and those that are accepted: of the policy, the service, the call.
static void test_names(void **state) {
    struct creds creds;
    creds_open(&creds);
    write_file(creds.ca, creds.root);
    static const char *const of_policy[] = {"p1", "p2"}, *const of_service[] = {"s1"};
    static const struct {
        const char *name, *sni;
        uint32_t n_policy, n_service;
        bool skips_verify;
        const char *want_sni, *want; // names in order, NULL: refused
    } rows[] = {
        {"h", "", 0, 0, false, "h", "h "},
        {"h", "i", 0, 0, false, "i", "i "},
        {"h", "i", 2, 1, false, "i", "p1 p2 "},
        {"h", "i", 0, 1, false, "i", "s1 "},
        {"", "", 0, 0, false, "", NULL},
        {"", "", 0, 0, true, "", ""},
        {"", "", 2, 0, false, "", "p1 p2 "},
        {"10.0.0.1", "", 0, 0, false, "", "10.0.0.1 "},
        {"fd00::1", "", 0, 0, false, "", "fd00::1 "},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct service service = {.sans = of_service, .n_sans = rows[i].n_service};
        struct l7_settings settings = policy(creds.ca);
        settings.tls.sni = rows[i].sni;
        settings.tls.sans = of_policy;
        settings.tls.n_sans = rows[i].n_policy;
        settings.tls.skips_verify = rows[i].skips_verify;
        take(&settings);
        struct upstream_target target = {0};
        char text[320] = "", names[64] = "";
        bool is_set = upstream_tls_set(&settings, &service, slice_str(rows[i].name), TLS_ALPN_NONE,
                                       &target, text, sizeof(text));
        assert_int_equal(is_set, rows[i].want != NULL);
        if (is_set) {
            for (size_t k = 0; k < target.server.n_names; k++) {
                size_t len = strlen(names);
                snprintf(names + len, sizeof(names) - len, "%.*s ",
                         SLICE_ARG(target.server.names[k]));
            }
            assert_string_equal(names, rows[i].want);
            assert_true(slice_eq_str(target.server.sni, rows[i].want_sni));
        } else {
            assert_non_null(strstr(text, "subjectAltNames"));
        }
        upstream_tls_unset(&target);
        give(&settings);
    }
    struct l7_settings off = {0};
    struct upstream_target target = {0};
    char text[320];
    assert_true(upstream_tls_set(&off, NULL, SLICE_LIT("h"), TLS_ALPN_NONE, &target, text,
                                 sizeof(text)));
    assert_null(target.tls);
    creds_close(&creds);
}

static void test_authority(void **state) {
    static const struct {
        const char *authority, *name;
    } rows[] = {{"web", "web"},
                {"Web.Example.COM:443", "web.example.com"},
                {"[fd00::A]:443", "fd00::a"},
                {"[fd00::a]", "fd00::a"},
                {"10.0.0.1:80", "10.0.0.1"},
                {"[fd00::a", ""},
                {"", ""},
                {":80", ""}};
    char name[UPSTREAM_NAME_MAX], longest[UPSTREAM_NAME_MAX + 1];
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        assert_int_equal(upstream_tls_name(slice_str(rows[i].authority), name),
                         strlen(rows[i].name));
        assert_string_equal(name, rows[i].name);
    }
    memset(longest, 'x', UPSTREAM_NAME_MAX);
    longest[UPSTREAM_NAME_MAX] = '\0';
    assert_int_equal(upstream_tls_name(slice_str(longest), name), 0);
    assert_int_equal(upstream_tls_name(slice_str(longest + 1), name), UPSTREAM_NAME_MAX - 1);
}

static void test_ahead(void **state) {
    struct addr client = {.ip = {.family = 4, .bytes = {10, 0, 0, 1}}, .port = 1000};
    struct addr called = {.ip = {.family = 4, .bytes = {10, 0, 0, 2}}, .port = 80};
    uint8_t header[PROXY_HEADER_MAX];
    struct l7_settings settings = {.proxy_protocol = PROXY_PROTOCOL_NONE};
    assert_int_equal(upstream_ahead(&settings, &client, &called, header), 0);
    settings.proxy_protocol = PROXY_PROTOCOL_V1;
    size_t len = upstream_ahead(&settings, &client, &called, header);
    assert_true(slice_eq_str(slice_make(header, len), "PROXY TCP4 10.0.0.1 10.0.0.2 1000 80\r\n"));
    settings.proxy_protocol = PROXY_PROTOCOL_V2;
    len = upstream_ahead(&settings, &client, &called, header);
    assert_int_equal(len, 16 + 12);
    assert_memory_equal(header, "\r\n\r\n\0\r\nQUIT\n", 12);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_files),  cmocka_unit_test(test_empty_files),
        cmocka_unit_test(test_shared), cmocka_unit_test(test_secret_is_missing),
        cmocka_unit_test(test_names),  cmocka_unit_test(test_authority),
        cmocka_unit_test(test_ahead),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

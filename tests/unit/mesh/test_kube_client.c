// SPDX-License-Identifier: Apache-2.0
//
// The client of the Kubernetes API, and where it finds it. Over plain text: TLS and tokens are the
// end-to-end tests'.
#include "common/mesh/kube_client.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/unit/mesh/kube_bed.h"

struct user {
    struct kube_request request;
    char body[64], text[KUBE_TEXT_MAX], reason[64];
    size_t n_body, n_bytes;
    uint64_t retry_after_ms;
    uint32_t n_done;
    uint16_t status;
    enum kube_outcome outcome;
};

static void on_done(struct kube_request *request, const struct kube_result *result) {
    struct user *user = CONTAINER_OF(request, struct user, request);
    assert_false(kube_request_is_open(request));
    user->n_done++;
    user->outcome = result->outcome;
    user->status = result->status;
    user->retry_after_ms = result->retry_after_ms;
    user->n_body = result->body.len;
    snprintf(user->body, sizeof(user->body), "%.*s", SLICE_ARG(slice_head(result->body, 60)));
    snprintf(user->text, sizeof(user->text), "%s", result->text);
    snprintf(user->reason, sizeof(user->reason), "%s", result->reason);
}

static void on_bytes(struct kube_request *request, struct slice bytes) {
    CONTAINER_OF(request, struct user, request)->n_bytes += bytes.len;
}

static const struct kube_request_events whole = {.on_done = on_done};
static const struct kube_request_events streamed = {.on_bytes = on_bytes, .on_done = on_done};

struct fixture {
    struct http_bed bed;
    struct kube_client *client;
    struct user user;
};

static void fixture_init(struct fixture *f) {
    memset(f, 0, sizeof(*f));
    http_bed_open(&f->bed);
    f->client = kube_bed_client(&f->bed);
}

static void fixture_fini(struct fixture *f) {
    kube_client_free(f->client);
    http_bed_close(&f->bed);
}

static void ask(struct fixture *f, const struct kube_request_events *events, const char *method,
                const char *body) {
    struct kube_request_params params = {.method = method,
                                         .path = "/api/v1/pods?limit=5",
                                         .content_type =
                                             body[0] != '\0' ? "application/json" : NULL,
                                         .body = slice_str(body),
                                         .timeout_ms = 20000};
    uint32_t n = f->bed.n_requests;
    memset(&f->user, 0, sizeof(f->user));
    kube_request_init(&f->user.request, events);
    kube_request_open(&f->user.request, f->client, &params);
    BED_WAIT(&f->bed, f->bed.n_requests > n && f->bed.requests[n].is_whole);
}

static struct bed_request *last(struct fixture *f) {
    return &f->bed.requests[f->bed.n_requests - 1];
}

static void test_good(void **state) {
    struct fixture f;
    fixture_init(&f);
    ask(&f, &whole, "GET", "");
    assert_string_equal(last(&f)->path, "/api/v1/pods?limit=5");
    assert_string_equal(last(&f)->type, "");
    bed_reply(last(&f), 200, "{\"a\":", false);
    bed_reply(last(&f), 0, "1}", true);
    BED_WAIT(&f.bed, f.user.n_done == 1);
    assert_int_equal(f.user.outcome, KUBE_OK);
    assert_string_equal(f.user.body, "{\"a\":1}");
    assert_string_equal(f.user.text, "");
    ask(&f, &whole, "PUT", "{}");
    assert_string_equal(last(&f)->type, "application/json");
    assert_string_equal(last(&f)->body, "{}");
    bed_reply(last(&f), 201, "", true);
    BED_WAIT(&f.bed, f.user.n_done == 1);
    assert_int_equal(f.user.outcome, KUBE_OK);
    ask(&f, &streamed, "GET", "");
    bed_reply(last(&f), 200, "abc", false);
    BED_WAIT(&f.bed, f.user.n_bytes == 3);
    bed_reply(last(&f), 0, "def", true);
    BED_WAIT(&f.bed, f.user.n_done == 1);
    assert_int_equal(f.user.n_bytes, 6);
    assert_int_equal(f.user.n_body, 0);
    fixture_fini(&f);
}

static void test_errors(void **state) {
    static const struct {
        uint16_t status;
        enum kube_outcome outcome;
        const char *body, *reason, *text;
    } cases[] = {
        {403, KUBE_FORBIDDEN,
         "{\"kind\":\"Status\",\"message\":\"pods is forbidden\",\"reason\":\"Forbidden\"}",
         "Forbidden", "GET /api/v1/pods: status 403 Forbidden: pods is forbidden"},
        {404, KUBE_NOT_FOUND, "404 page not found\n", "",
         "GET /api/v1/pods: status 404: 404 page not found"},
        {409, KUBE_CONFLICT, "{}", "", "GET /api/v1/pods: status 409"},
        {410, KUBE_GONE, "{\"reason\":\"Expired\"}", "Expired",
         "GET /api/v1/pods: status 410 Expired"},
        {422, KUBE_INVALID, "{broken", "", "GET /api/v1/pods: status 422: {broken"},
        {429, KUBE_BUSY, "", "", "GET /api/v1/pods: status 429"},
        {503, KUBE_BUSY, "\x01\x02", "", "GET /api/v1/pods: status 503"},
        {302, KUBE_BROKEN, "", "", "GET /api/v1/pods: status 302"},
    };
    struct fixture f;
    fixture_init(&f);
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        for (int is_streamed = 0; is_streamed < 2; is_streamed++) {
            ask(&f, is_streamed ? &streamed : &whole, "GET", "");
            bed_reply_with(last(&f), cases[i].status, "retry-after", "7", cases[i].body, true);
            BED_WAIT(&f.bed, f.user.n_done == 1);
            assert_int_equal(f.user.outcome, cases[i].outcome);
            assert_int_equal(f.user.status, cases[i].status);
            assert_string_equal(f.user.reason, cases[i].reason);
            assert_true(slice_has_prefix(slice_str(f.user.text), slice_str(cases[i].text)));
            assert_int_equal(f.user.n_bytes, 0);
            assert_int_equal(f.user.retry_after_ms, 7000);
        }
    }
    fixture_fini(&f);
}

// 401: the token may be a new one by now. Once.
static void test_unauthorized(void **state) {
    struct fixture f;
    fixture_init(&f);
    ask(&f, &whole, "PUT", "{}");
    bed_reply(last(&f), 401, "", true);
    BED_WAIT(&f.bed, f.bed.n_requests == 2 && last(&f)->is_whole);
    assert_int_equal(f.user.n_done, 0);
    assert_string_equal(last(&f)->body, "{}");
    bed_reply(last(&f), 200, "now", true);
    BED_WAIT(&f.bed, f.user.n_done == 1);
    assert_string_equal(f.user.body, "now");
    ask(&f, &whole, "GET", "");
    for (uint32_t i = 0; i < 2; i++) {
        BED_WAIT(&f.bed, f.bed.n_requests == 3 + i && last(&f)->is_whole);
        bed_reply(last(&f), 401, "{\"message\":\"Unauthorized\"}", true);
    }
    BED_WAIT(&f.bed, f.user.n_done == 1);
    assert_int_equal(f.user.outcome, KUBE_UNAUTHORIZED);
    assert_int_equal(f.bed.n_requests, 4);
    fixture_fini(&f);
}

static void test_lost(void **state) {
    struct fixture f;
    fixture_init(&f);
    ask(&f, &whole, "GET", "");
    bed_reply(last(&f), 200, "{", false);
    for (int i = 0; i < 20; i++) {
        http_bed_turn(&f.bed);
    }
    http_bed_cut(&f.bed);
    BED_WAIT(&f.bed, f.user.n_done == 1);
    assert_int_equal(f.user.outcome, KUBE_UNREACHABLE);
    assert_int_equal(f.user.n_body, 0); // half an answer is none
    ask(&f, &whole, "GET", "");
    kube_request_cancel(&f.user.request);
    assert_false(kube_request_is_open(&f.user.request));
    fixture_fini(&f);
}

static void test_too_large(void **state) {
    struct fixture f;
    fixture_init(&f);
    char *text = xmalloc(KUBE_ANSWER_MAX + 2);
    memset(text, 'x', KUBE_ANSWER_MAX + 1);
    text[KUBE_ANSWER_MAX + 1] = '\0';
    ask(&f, &whole, "GET", "");
    bed_reply(last(&f), 200, text + 1, true);
    BED_WAIT(&f.bed, f.user.n_done == 1);
    assert_int_equal(f.user.outcome, KUBE_OK);
    assert_int_equal(f.user.n_body, KUBE_ANSWER_MAX);
    ask(&f, &whole, "GET", "");
    bed_reply(last(&f), 200, text, true);
    BED_WAIT(&f.bed, f.user.n_done == 1);
    assert_int_equal(f.user.outcome, KUBE_BROKEN);
    ask(&f, &whole, "GET", "");
    bed_reply(last(&f), 500, text, true);
    BED_WAIT(&f.bed, f.user.n_done == 1);
    assert_int_equal(f.user.outcome, KUBE_BUSY);
    free(text);
    fixture_fini(&f);
}

static void test_query(void **state) {
    struct buf path;
    buf_init(&path, 4096);
    buf_append_str(&path, "/api");
    kube_query_add(&path, "limit", "5");
    kube_query_add(&path, "continue", "a b/=&?\xc3\xa4~");
    assert_string_equal(buf_cstr(&path), "/api?limit=5&continue=a%20b%2F%3D%26%3F%C3%A4~");
    buf_fini(&path);
}

static void test_backoff(void **state) {
    struct kube_backoff backoff = {0};
    struct rand rand;
    rand_seed(&rand, 1);
    uint64_t most = KUBE_BACKOFF_MIN_MS;
    for (int i = 0; i < 20; i++) {
        uint64_t delay = kube_backoff_ms(&backoff, &rand, 0);
        assert_in_range(delay, most / 2, most);
        most = MIN(2 * most, (uint64_t)KUBE_BACKOFF_MAX_MS);
    }
    assert_true(kube_backoff_ms(&backoff, &rand, 60000) >= 60000);
    backoff.n_failures = 0;
    assert_true(kube_backoff_ms(&backoff, &rand, 0) <= KUBE_BACKOFF_MIN_MS);
}

// ---- where it is -------------------------------------------------------------------------------

static void write_file(const char *dir, const char *name, const char *text) {
    char path[256];
    snprintf(path, sizeof(path), "%s/%s", dir, name);
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    fputs(text, file);
    fclose(file);
}

static void test_in_cluster(void **state) {
    struct kube_access access;
    char dir[] = "/tmp/kube-XXXXXX", path[256];
    assert_non_null(mkdtemp(dir));
    write_file(dir, "namespace", "shop\n");
    unsetenv("KUBERNETES_SERVICE_HOST");
    char *error = kube_access_find(&access, "in-cluster", dir);
    assert_non_null(strstr(error, "KUBERNETES_SERVICE_HOST"));
    free(error);
    setenv("KUBERNETES_SERVICE_HOST", "fd00::1", 1);
    setenv("KUBERNETES_SERVICE_PORT", "443", 1);
    assert_null(kube_access_find(&access, "in-cluster", dir));
    assert_string_equal(access.address, "https://[fd00::1]:443");
    assert_string_equal(access.ns, "shop");
    snprintf(path, sizeof(path), "%s/token", dir);
    assert_string_equal(access.token.path, path);
    snprintf(path, sizeof(path), "%s/ca.crt", dir);
    assert_string_equal(access.roots.path, path);
    kube_access_fini(&access);
    assert_null(kube_access_find(&access, "http://[::1]/", dir));
    assert_string_equal(access.address, "http://[::1]:80");
    assert_null(access.token.path);
    kube_access_fini(&access);
    assert_null(kube_access_find(&access, "https://api.example", dir));
    assert_string_equal(access.address, "https://api.example:443");
    kube_access_fini(&access);
    snprintf(path, sizeof(path), "%s/namespace", dir);
    unlink(path);
    rmdir(dir);
}

#define KUBECONFIG(cluster, user)                                                                  \
    "apiVersion: v1\nkind: Config\ncurrent-context: here\n"                                        \
    "contexts: [{name: other, context: {cluster: x, user: y}},\n"                                  \
    "  {name: here, context: {cluster: c, user: u, namespace: shop}}]\n"                           \
    "clusters: [{name: c, cluster: {" cluster "}}]\nusers: [{name: u, user: {" user "}}]\n"

static void test_kubeconfig(void **state) {
    static const struct {
        const char *text, *error;
    } bad[] = {
        {"]", "config:1:"},
        {"a: b", "the current context (\"\") has no cluster"},
        {KUBECONFIG("", "token: t"), "the current context (\"here\") has no cluster"},
        {KUBECONFIG("server: 'https://h'", "token: t"), "has no certificate-authority"},
        {KUBECONFIG("server: 'https://h', insecure-skip-tls-verify: true", "token: t"),
         "insecure-skip-tls-verify"},
        {KUBECONFIG("server: 'https://h', certificate-authority: ca", "exec: {command: aws}"),
         "`exec`"},
        {KUBECONFIG("server: 'https://h', certificate-authority-data: '*'", "token: t"),
         "certificate-authority-data is not base64"},
    };
    struct kube_access access;
    char dir[] = "/tmp/kube-XXXXXX", path[256], want[256];
    assert_non_null(mkdtemp(dir));
    snprintf(path, sizeof(path), "%s/config", dir);
    char *error = kube_access_find(&access, path, dir);
    assert_non_null(strstr(error, "No such file"));
    free(error);
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        write_file(dir, "config", bad[i].text);
        error = kube_access_find(&access, path, dir);
        assert_non_null(error);
        assert_non_null(strstr(error, bad[i].error));
        assert_null(access.address);
        free(error);
    }
    write_file(dir, "config",
               KUBECONFIG("server: 'https://h:6443', certificate-authority-data: YWJj, "
                          "tls-server-name: k",
                          "client-certificate: crt.pem, client-key: /k.pem, token: t"));
    assert_null(kube_access_find(&access, path, dir));
    assert_string_equal(access.address, "https://h:6443");
    assert_string_equal(access.server_name, "k");
    assert_string_equal(access.ns, "shop");
    assert_slice_equal(access.roots.text, "abc");
    assert_slice_equal(access.token.text, "t");
    snprintf(want, sizeof(want), "%s/crt.pem", dir);
    assert_string_equal(access.cert.path, want);
    assert_string_equal(access.key.path, "/k.pem");
    kube_access_fini(&access);
    unlink(path);
    rmdir(dir);
}

int main(void) {
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_good),         cmocka_unit_test(test_errors),
        cmocka_unit_test(test_unauthorized), cmocka_unit_test(test_lost),
        cmocka_unit_test(test_too_large),    cmocka_unit_test(test_query),
        cmocka_unit_test(test_backoff),      cmocka_unit_test(test_in_cluster),
        cmocka_unit_test(test_kubeconfig),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

// SPDX-License-Identifier: Apache-2.0
//
// What changes on the way: fields, variables, paths, authorities, redirects, CORS.
#include "common/l7/l7_rewrite.h"

#include "common/l7/l7_cors.h"
#include "tests/unit/l7/l7_fixture.h"

static struct arena arena;

static int setup(void **state) {
    arena_init(&arena, 1 << 20);
    return 0;
}

static int teardown(void **state) {
    arena_fini(&arena);
    return 0;
}

// "name=value name=value" of all fields.
static const char *fields_text(const struct l7_fields *fields) {
    static char text[1024];
    size_t len = 0;
    text[0] = '\0';
    for (size_t i = 0; i < fields->n; i++) {
        len +=
            (size_t)snprintf(text + len, sizeof(text) - len, "%s%.*s=%.*s", i > 0 ? " " : "",
                             SLICE_ARG(fields->items[i].name), SLICE_ARG(fields->items[i].value));
    }
    return text;
}

static void test_fields(void **state) {
    struct fx_head head;
    struct l7_fields fields;
    fx_head(&head, "GET http w /\na: 1\nb: 2\na: 3\nc: 4\na: 5");
    l7_fields_init(&fields, &arena, head.head.fields, head.head.n_fields);
    l7_fields_set(&fields, SLICE_LIT("a"), SLICE_LIT("x"));
    assert_string_equal(fields_text(&fields), "a=x b=2 c=4");
    l7_fields_set(&fields, SLICE_LIT("d"), SLICE_LIT("y"));
    l7_fields_add(&fields, SLICE_LIT("a"), SLICE_LIT("z"));
    l7_fields_remove(&fields, SLICE_LIT("b"));
    l7_fields_remove(&fields, SLICE_LIT("nothing"));
    l7_fields_set_u64(&fields, SLICE_LIT("n"), 42);
    assert_string_equal(fields_text(&fields), "a=x c=4 d=y a=z n=42");
    assert_slice_equal(head.head.fields[0].value, "1"); // the message is as it was
    for (int i = 0; i < 100; i++) {
        l7_fields_add(&fields, SLICE_LIT("more"), SLICE_LIT("1"));
    }
    assert_int_equal(fields.n, 105);
    assert_true(l7_fields_ok(&fields));
    l7_fields_remove(&fields, SLICE_LIT("more"));
    assert_int_equal(fields.n, 5);
    const struct slice names[] = {SLICE_LIT("n"), SLICE_LIT("a"), SLICE_LIT("nothing")};
    l7_fields_remove_all(&fields, names, ARRAY_LEN(names));
    assert_string_equal(fields_text(&fields), "c=4 d=y");
    l7_fields_remove_all(&fields, names, ARRAY_LEN(names));
    assert_string_equal(fields_text(&fields), "c=4 d=y");
    // An arena that is full marks the list.
    struct arena small;
    arena_init(&small, 600);
    l7_fields_init(&fields, &small, head.head.fields, head.head.n_fields);
    assert_true(l7_fields_ok(&fields));
    for (int i = 0; i < 30; i++) {
        l7_fields_add(&fields, SLICE_LIT("m"), SLICE_LIT("1"));
    }
    assert_false(l7_fields_ok(&fields));
    arena_fini(&small);
    arena_init(&small, 8);
    l7_fields_init(&fields, &small, head.head.fields, head.head.n_fields);
    assert_false(l7_fields_ok(&fields));
    l7_fields_set(&fields, SLICE_LIT("a"), SLICE_LIT("1"));
    arena_fini(&small);
}

static void test_grpc_and_values(void **state) {
    const struct {
        const char *type;
        bool is_grpc;
    } types[] = {{"application/grpc", true},   {"application/grpc+proto", true},
                 {"application/grpc;x", true}, {"application/grpc-web", false},
                 {"application/json", false},  {"", false}};
    for (size_t i = 0; i < ARRAY_LEN(types); i++) {
        struct fx_head head;
        char text[64];
        snprintf(text, sizeof(text), "POST http w /\ncontent-type: %s", types[i].type);
        fx_head(&head, text);
        assert_int_equal(l7_fields_is_grpc(&head.head), types[i].is_grpc);
    }
    struct fx_head head;
    struct buf scratch;
    struct slice value;
    buf_init(&scratch, 4096);
    fx_head(&head, "404\na: 1");
    assert_true(l7_fields_value(&head.head, SLICE_LIT(":status"), &scratch, &value));
    assert_slice_equal(value, "404");
    assert_false(l7_fields_value(&head.head, SLICE_LIT(":path"), &scratch, &value));
    fx_head(&head, "GET http - /");
    assert_false(l7_fields_value(&head.head, SLICE_LIT(":authority"), &scratch, &value));
    assert_true(l7_fields_value(&head.head, SLICE_LIT(":scheme"), &scratch, &value));
    buf_fini(&scratch);
}

// Variables

static void var_value(void *arg, enum l7_var var, struct slice format, struct buf *out) {
    if (var == L7_VAR_ROUTE_NAME) {
        buf_append_str(out, "a\r\nroute");
    } else if (var == L7_VAR_START_TIME) {
        buf_printf(out, "[%.*s]", SLICE_ARG(format));
    }
}

static void test_templates(void **state) {
    const struct {
        const char *text, *result; // NULL: not a template
    } cases[] = {
        {"plain", "plain"},
        {"", ""},
        {"100%%", "100%"},
        {"%%%%", "%%"},
        {"%REQ(X-One)%", "1"},
        {"a%REQ(x-one)%b%REQ(x-two)%c", "a1b2,3c"},
        {"%REQ(:method)% %REQ(:authority)% %REQ(:PATH)%", "GET web /p?q=1"},
        {"%REQ_WITHOUT_QUERY(:path)%", "/p"},
        {"%REQ(none)%", ""},
        {"%REQ(none?x-one)%", "1"},
        {"%REQ(x-one?x-two)%", "1"},
        {"%REQ(:path):2%", "/p"},
        {"%REQ(:path):0%", ""},
        {"%RESP(server)%", "s"},
        {"%RESP(:status)%", "200"},
        {"%ROUTE_NAME%", "a  route"}, // no line ends in a field
        {"%ROUTE_NAME:3%", "a  "},
        {"%START_TIME(%s.%3f)%", "[%s.%3f]"},
        {"%START_TIME%", "[]"},
        {"%HOSTNAME%", ""},
        {"%%REQ(x-one)%%", "%REQ(x-one)%"},
        {"%NOPE%", NULL},
        {"%", NULL},
        {"50% off", NULL},
        {"%REQ%", NULL},
        {"%REQ()%", NULL},
        {"%REQ(x%", NULL},
        {"%REQ(x)", NULL},
        {"%REQ(x):y%", NULL},
        {"%PROTOCOL(x)%", NULL},
        {"%req(x)%", NULL},
    };
    struct fx_head request, response;
    fx_head(&request, "GET http web /p?q=1\nx-one: 1\nx-two: 2\nx-two: 3");
    fx_head(&response, "200\nserver: s");
    const struct l7_vars vars = {
        .request = &request.head, .response = &response.head, .value = var_value};
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        const char *error = NULL;
        const struct l7_template *tmpl =
            l7_template_compile(&arena, slice_str(cases[i].text), &error);
        if ((tmpl != NULL) != (cases[i].result != NULL)) {
            fail_msg("%s: %s", cases[i].text, error != NULL ? error : "a template");
        }
        if (tmpl == NULL) {
            assert_non_null(error);
            continue;
        }
        struct buf out;
        buf_init(&out, 4096);
        l7_template_expand(tmpl, &vars, &out);
        assert_string_equal(buf_cstr(&out), cases[i].result);
        struct slice literal;
        if (l7_template_is_literal(tmpl, &literal)) {
            assert_slice_equal(literal, cases[i].result);
        }
        buf_clear(&out);
        l7_template_expand(tmpl, &(struct l7_vars){0}, &out); // nobody knows anything
        buf_fini(&out);
    }
    const struct l7_template *tmpl = l7_template_literal(&arena, SLICE_LIT("%NOPE%"));
    struct slice literal;
    assert_true(l7_template_is_literal(tmpl, &literal));
    assert_slice_equal(literal, "%NOPE%");
    assert_string_equal(l7_var_name(L7_VAR_REQ), "REQ");
}

// Paths

static void test_paths(void **state) {
    const struct {
        uint8_t change;
        const char *text, *regex;
        uint32_t match_len;
        const char *path, *result; // NULL: as it was
    } cases[] = {
        {L7_PATH_KEEP, "", NULL, 1, "/a?b", NULL},
        {L7_PATH_FULL, "/new", NULL, 1, "/a/b", "/new"},
        {L7_PATH_FULL, "/new", NULL, 1, "/a/b?q=1&r", "/new?q=1&r"},
        {L7_PATH_FULL, "/new?own=1", NULL, 1, "/a?q=1", "/new?own=1"},
        {L7_PATH_FULL, "new", NULL, 1, "/a", "/new"},
        {L7_PATH_PREFIX, "/v2", NULL, 3, "/v1/x", "/v2/x"},
        {L7_PATH_PREFIX, "/", NULL, 4, "/v1/x", "/x"},
        {L7_PATH_PREFIX, "/", NULL, 3, "/v1/x", "//x"}, // a prefix of characters, as Envoy's
        {L7_PATH_PREFIX, "/v2", NULL, 1, "/x", "/v2x"},
        {L7_PATH_PREFIX, "/v2/", NULL, 1, "/x?/y", "/v2/x?/y"},
        {L7_PATH_PREFIX, "/all", NULL, 4, "/a/b?c", "/all?c"},
        {L7_PATH_PREFIX, "x", NULL, 4, "/a/b", "/x"},
        {L7_PATH_SEGMENTS, "/v2", NULL, 3, "/v1/x", "/v2/x"},
        {L7_PATH_SEGMENTS, "/v2/", NULL, 3, "/v1/x", "/v2/x"},
        {L7_PATH_SEGMENTS, "/", NULL, 3, "/v1/x", "/x"},
        {L7_PATH_SEGMENTS, "/", NULL, 3, "/v1", "/"},
        {L7_PATH_SEGMENTS, "", NULL, 3, "/v1?q", "/?q"},
        {L7_PATH_SEGMENTS, "/v2", NULL, 0, "/x", "/v2/x"}, // matched by "/"
        {L7_PATH_SEGMENTS, "/v2", NULL, 3, "/v1/", "/v2/"},
        {L7_PATH_SEGMENTS, "/v2", NULL, 1, "/x", "/v2/x"},
        {L7_PATH_REGEX, "/\\2/\\1", "/([^/]+)/(.*)", 5, "/a/b?x/y", "/b/a?x/y"},
        {L7_PATH_REGEX, "-", "b", 1, "/abab", "/a-a-"},
        {L7_PATH_REGEX, "-", "z", 1, "/abab", NULL},
        {L7_PATH_FULL, "/new", NULL, 1, "*", NULL},
        {L7_PATH_FULL, "/new", NULL, 1, "", NULL},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct l7_path_op op = {.change = cases[i].change, .text = slice_str(cases[i].text)};
        struct l7_regex *regex = NULL;
        if (cases[i].regex != NULL) {
            regex = l7_regex_new(slice_str(cases[i].regex), NULL);
            op.regex = regex;
        }
        struct slice path = slice_make(NULL, 0);
        bool is_changed =
            l7_rewrite_path(&op, cases[i].match_len, slice_str(cases[i].path), &arena, &path);
        if (is_changed != (cases[i].result != NULL)) {
            fail_msg("%s", cases[i].path);
        }
        if (is_changed) {
            assert_slice_equal(path, cases[i].result);
        }
        l7_regex_free(regex);
    }
    // Too long: as it was.
    struct l7_regex *regex = l7_regex_new(SLICE_LIT("a"), NULL);
    static char longer[L7_PATH_MAX - 10];
    memset(longer, 'a', sizeof(longer));
    longer[0] = '/';
    struct l7_path_op op = {L7_PATH_REGEX, SLICE_LIT("aa"), regex};
    struct slice path;
    assert_false(l7_rewrite_path(&op, 1, slice_make(longer, sizeof(longer)), &arena, &path));
    l7_regex_free(regex);
}

static void test_request(void **state) {
    struct fx fx;
    fx_init(&fx);
    FX_VS(&fx, "vs",
          {FX_MATCH(.uri = FX_PREFIX("/a")), .rewrite = &(struct kobj_vs_rewrite){.uri = "/b"},
           .headers = {.request = {.set = FX_MAP({"X-Set", "%REQ(:authority)%"}, {"x-both", "r"}),
                                   .add = FX_MAP({"x-old", "added"}, {"x-empty", "%REQ(no)%"}),
                                   .remove = (const char *[]){"X-Gone"},
                                   .n_remove = 1},
                       .response = {.set = FX_MAP({"server", "x"}, {"x-both", "r"})}},
           .routes =
               (struct kobj_vs_dest[]){
                   {.host = "d",
                    .headers = {.request = {.set = FX_MAP({"x-both", "d"}, {"host", "d.example"}),
                                            .remove = (const char *[]){"x-set"},
                                            .n_remove = 1},
                                .response = {.add = FX_MAP({"x-both", "d"})}}}},
           .n_routes = 1},
          {.routes = (struct kobj_vs_dest[]){{.host = "d"}},
           .n_routes = 1,
           .rewrite = &(struct kobj_vs_rewrite){.authority = "r.example"},
           .headers = {.request = {.set = FX_MAP({":authority", "set.example"})}}});
    const struct l7_routes *routes = fx_routes(&fx);
    struct fx_head head, response;
    struct l7_request request;
    struct l7_match match;
    struct l7_fields fields;
    struct l7_rewritten rewritten;
    fx_head(&head, "GET http web /a/x?q\nx-old: 1\nx-gone: 2\nx-both: 0");
    fx_head(&response, "200\nserver: s");
    l7_request_init(&request, &head.head, 80, NULL);
    l7_routes_match(routes, &request, NULL, &match);
    const struct l7_vars vars = {.request = &head.head};
    l7_fields_init(&fields, &arena, head.head.fields, head.head.n_fields);
    l7_rewrite_request(&match, &match.route->clusters[0], &request, &vars, &fields, &rewritten);
    assert_slice_equal(rewritten.path, "/b/x?q");
    assert_slice_equal(rewritten.authority, "d.example");
    assert_string_equal(fields_text(&fields),
                        "x-old=1 x-both=d x-old=added x-envoy-original-path=/a/x?q");
    l7_fields_init(&fields, &arena, response.head.fields, response.head.n_fields);
    l7_rewrite_response(match.route, &match.route->clusters[0], &vars, &fields);
    assert_string_equal(fields_text(&fields), "server=x x-both=r x-both=d");
    l7_fields_init(&fields, &arena, NULL, 0);
    l7_rewrite_response(match.route, NULL, &vars, &fields);
    assert_string_equal(fields_text(&fields), "server=x x-both=r");
    fx_head(&head, "GET http web /z");
    l7_request_init(&request, &head.head, 80, NULL);
    l7_routes_match(routes, &request, NULL, &match);
    l7_fields_init(&fields, &arena, NULL, 0);
    l7_rewrite_request(&match, &match.route->clusters[0], &request, &vars, &fields, &rewritten);
    assert_slice_equal(rewritten.authority, "r.example");
    assert_slice_equal(rewritten.path, "/z");
    assert_int_equal(fields.n, 0);
    fx_fini(&fx);
}

static void test_locations(void **state) {
    const struct {
        struct l7_redirect redirect;
        uint32_t match_len;
        const char *request, *location;
    } cases[] = {
        {{.scheme = "", .authority = ""}, 1, "GET http web /a?b", "http://web/a?b"},
        {{.scheme = "https", .authority = ""}, 1, "GET http web /a", "https://web/a"},
        {{.scheme = "https", .authority = ""}, 1, "GET http web:80 /a", "https://web/a"},
        {{.scheme = "https", .authority = ""}, 1, "GET http web:8080 /a", "https://web:8080/a"},
        {{.scheme = "https", .authority = "", .strips_port = true},
         1,
         "GET http web:8080 /a",
         "https://web/a"},
        {{.scheme = "", .authority = ""}, 1, "GET http web:80 /a", "http://web:80/a"},
        {{.scheme = "http", .authority = ""}, 1, "GET https web:443 /a", "http://web/a"},
        {{.scheme = "", .authority = "new.example"},
         1,
         "GET http web:8080 /a",
         "http://new.example/a"},
        {{.scheme = "", .authority = "", .port = 9090},
         1,
         "GET http web:8080 /a",
         "http://web:9090/a"},
        {{.scheme = "https", .authority = "", .port = 443},
         1,
         "GET http web:8080 /a",
         "https://web/a"},
        {{.scheme = "https", .authority = "x", .port = 8443},
         1,
         "GET http web /a",
         "https://x:8443/a"},
        {{.scheme = "", .authority = "", .uses_request_port = true},
         1,
         "GET http web /a",
         "http://web:8000/a"}, // the service's port
        {{.scheme = "", .authority = "", .port = 81},
         1,
         "GET http [::1]:80 /a",
         "http://[::1]:81/a"},
        {{.scheme = "", .authority = "", .port = 81}, 1, "GET http [::1] /a", "http://[::1]:81/a"},
        {{.scheme = "",
          .authority = "",
          .path = {.change = L7_PATH_FULL, .text = SLICE_LIT("/new")}},
         1,
         "GET http web /a?b=1",
         "http://web/new?b=1"},
        {{.scheme = "",
          .authority = "",
          .path = {.change = L7_PATH_FULL, .text = SLICE_LIT("/new?x")}},
         1,
         "GET http web /a?b=1",
         "http://web/new?x"},
        {{.scheme = "",
          .authority = "",
          .path = {.change = L7_PATH_PREFIX, .text = SLICE_LIT("/v2")}},
         3,
         "GET http web /v1/a?b=1",
         "http://web/v2/a?b=1"},
        {{.scheme = "",
          .authority = "",
          .path = {.change = L7_PATH_SEGMENTS, .text = SLICE_LIT("/")}},
         3,
         "GET http web /v1",
         "http://web/"},
        {{.scheme = "", .authority = ""},
         1,
         "GET http web /a\nx-forwarded-proto: https",
         "https://web/a"},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct fx_head head;
        struct l7_request request;
        const struct l7_route route = {.action = L7_REDIRECT, .redirect = &cases[i].redirect};
        const struct l7_match match = {.route = &route, .match_len = cases[i].match_len};
        fx_head(&head, cases[i].request);
        l7_request_init(&request, &head.head, 8000, NULL);
        struct slice location = l7_rewrite_location(&match, &request, &arena);
        assert_slice_equal(location, cases[i].location);
    }
}

static void test_shadow(void **state) {
    static const char *const cases[][2] = {{"web", "web-shadow"},
                                           {"web:80", "web-shadow:80"},
                                           {"[::1]:80", "[::1]-shadow:80"},
                                           {"[::1]", "[::1]-shadow"},
                                           {"", "-shadow"}};
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        assert_slice_equal(l7_rewrite_shadow(slice_str(cases[i][0]), &arena), cases[i][1]);
    }
}

// CORS

static void test_cors(void **state) {
    struct l7_regex *regex = l7_regex_new(SLICE_LIT("https://[a-z]+\\.x"), NULL);
    const struct l7_cors_origin origins[] = {
        {.kind = L7_CORS_EXACT, .text = SLICE_LIT("https://a.example")},
        {.kind = L7_CORS_PREFIX, .text = SLICE_LIT("http://p")},
        {.kind = L7_CORS_REGEX, .regex = regex},
        {.kind = L7_CORS_ANY}};
    struct l7_cors cors = {.origins = origins,
                           .n_origins = 3,
                           .allow_methods = SLICE_LIT("GET,PUT"),
                           .expose_headers = SLICE_LIT("x-e"),
                           .max_age = SLICE_LIT("60"),
                           .allow_credentials = true};
#define PREFLIGHT "OPTIONS http w /\naccess-control-request-method: PUT\norigin: "
    const struct {
        const char *request;
        enum l7_cors_verdict verdict, ignoring; // with unmatchedPreflights IGNORE
    } cases[] = {
        {"GET http w /", L7_CORS_NONE, L7_CORS_NONE},
        {"GET http w /\norigin: https://a.example", L7_CORS_ACTUAL, L7_CORS_ACTUAL},
        {"GET http w /\norigin: https://a.example.evil", L7_CORS_NONE, L7_CORS_NONE},
        {"GET http w /\norigin: http://prefix", L7_CORS_ACTUAL, L7_CORS_ACTUAL},
        {"GET http w /\norigin: https://b.x", L7_CORS_ACTUAL, L7_CORS_ACTUAL},
        {"GET http w /\norigin: https://b.xx", L7_CORS_NONE, L7_CORS_NONE},
        {"OPTIONS http w /\norigin: https://b.x", L7_CORS_ACTUAL, L7_CORS_ACTUAL},
        {PREFLIGHT "https://b.x", L7_CORS_PREFLIGHT, L7_CORS_PREFLIGHT},
        {PREFLIGHT "https://evil", L7_CORS_NONE, L7_CORS_REFUSED},
        {PREFLIGHT, L7_CORS_NONE, L7_CORS_NONE},
    };
    struct fx_head head;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        fx_head(&head, cases[i].request);
        cors.ignores_unmatched = false;
        assert_int_equal(l7_cors_check(&cors, &head.head), cases[i].verdict);
        cors.ignores_unmatched = true;
        assert_int_equal(l7_cors_check(&cors, &head.head), cases[i].ignoring);
        assert_int_equal(l7_cors_check(NULL, &head.head), L7_CORS_NONE);
    }
    struct l7_fields fields;
    fx_head(&head, PREFLIGHT "https://b.x");
    l7_fields_init(&fields, &arena, NULL, 0);
    l7_cors_preflight(&cors, &head.head, &fields);
    assert_string_equal(fields_text(&fields),
                        "access-control-allow-origin=https://b.x "
                        "access-control-allow-credentials=true "
                        "access-control-allow-methods=GET,PUT access-control-max-age=60");
    // What the upstream says of it is replaced.
    struct fx_head response;
    fx_head(&response, "200\naccess-control-allow-origin: *");
    l7_fields_init(&fields, &arena, response.head.fields, response.head.n_fields);
    l7_cors_response(&cors, &head.head, &fields);
    assert_string_equal(fields_text(&fields), "access-control-allow-origin=https://b.x "
                                              "access-control-allow-credentials=true "
                                              "access-control-expose-headers=x-e");
    cors.n_origins = 4;
    fx_head(&head, PREFLIGHT "null");
    assert_int_equal(l7_cors_check(&cors, &head.head), L7_CORS_PREFLIGHT);
    l7_regex_free(regex);
}

static void test_cors_config(void **state) {
    static const char *const gateway[] = {"https://*.example.com", "https://one", "http://dev*"};
    static const char *const star[] = {"*"}, *const methods[] = {"GET", "PUT"};
    static const struct kobj_string_match any[] = {{.kind = KOBJ_MATCH_EXACT, .text = "*"}};
    const struct {
        struct kobj_cors cors;
        bool is_gateway;
        const char *yes, *no;
    } cases[] = {
        {{.origins = gateway, .n_origins = 3},
         true,
         "https://a.example.com",
         "https://example.com"},
        {{.origins = gateway, .n_origins = 3}, true, "https://one", "https://one.evil"},
        {{.origins = gateway, .n_origins = 3}, true, "http://dev:3000", "https://dev"},
        {{.origins = gateway, .n_origins = 3}, true, "https://one", "https://axexampleycom"},
        {{.origins = star, .n_origins = 1}, true, "https://x", NULL},
        {{.origins = star, .n_origins = 1}, false, "https://x", NULL},
        {{.origins = gateway, .n_origins = 3}, false, "https://one", "https://a.example.com"},
        {{.allow_origins = any, .n_allow_origins = 1, .origins = gateway, .n_origins = 3},
         false,
         "https://x",
         NULL},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct fx fx;
        struct fx_head head;
        fx_init(&fx);
        struct kobj_cors cors = cases[i].cors;
        cors.allow_methods = methods;
        cors.n_allow_methods = 2;
        cors.max_age_ms = 86400000;
        if (cases[i].is_gateway) {
            FX_ROUTE(&fx, "HTTPRoute", "r",
                     {.filters = (struct kobj_route_filter[]){{.type = FILTER_CORS, .cors = &cors}},
                      .n_filters = 1});
        } else {
            FX_VS(&fx, "vs", {FX_TO("a"), .cors = &cors});
        }
        const struct l7_cors *compiled = l7_routes_at(fx_routes(&fx), 0)->cors;
        assert_slice_equal(compiled->allow_methods, "GET,PUT");
        assert_slice_equal(compiled->max_age, "86400");
        assert_int_equal(compiled->ignores_unmatched, cases[i].is_gateway);
        const char *const origins[] = {cases[i].yes, cases[i].no};
        for (size_t k = 0; k < 2 && origins[k] != NULL; k++) {
            char text[128];
            snprintf(text, sizeof(text), "GET http w /\norigin: %s", origins[k]);
            fx_head(&head, text);
            assert_int_equal(l7_cors_check(compiled, &head.head),
                             k == 0 ? L7_CORS_ACTUAL : L7_CORS_NONE);
        }
        fx_fini(&fx);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_fields),      cmocka_unit_test(test_grpc_and_values),
        cmocka_unit_test(test_templates),   cmocka_unit_test(test_paths),
        cmocka_unit_test(test_request),     cmocka_unit_test(test_locations),
        cmocka_unit_test(test_shadow),      cmocka_unit_test(test_cors),
        cmocka_unit_test(test_cors_config),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}

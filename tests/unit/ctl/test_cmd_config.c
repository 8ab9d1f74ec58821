// SPDX-License-Identifier: Apache-2.0
//
// `ztunctl config` on a saved dump: tables as istioctl prints them, YAML, filters.
#include "ctl/cmd_config.h"

#include <stdlib.h>
#include <unistd.h>

#include "common/base/check.h"
#include "ctl/cmd.h"
#include "tests/unit/base/unit.h"

static const char dump_text[] =
    "{\"workloads\":["
    "{\"workloadIps\":[\"10.0.0.2\",\"fd00::2\"],\"protocol\":\"HBONE\",\"uid\":\"c//Pod/b/web\","
    "\"name\":\"web\",\"namespace\":\"b\",\"node\":\"n2\",\"status\":\"Healthy\","
    "\"waypoint\":{\"destination\":\"b/way.b.svc.cluster.local\",\"hboneMtlsPort\":15008}},"
    "{\"workloadIps\":[],\"hostname\":\"db.example\",\"protocol\":\"TCP\",\"uid\":\"x\","
    "\"name\":\"db\",\"namespace\":\"a\",\"node\":\"\",\"status\":\"Unhealthy\","
    "\"waypoint\":{\"destination\":\"nowhere\"}},"
    "{\"workloadIps\":[\"10.0.0.1\"],\"protocol\":\"HBONE\",\"uid\":\"c//Pod/a/client\","
    "\"name\":\"client\",\"namespace\":\"a\",\"node\":\"n1\",\"status\":\"Healthy\"}],"
    "\"services\":["
    "{\"name\":\"web\",\"namespace\":\"b\",\"hostname\":\"web.b.svc.cluster.local\","
    "\"vips\":[\"/10.96.0.1\",\"/fd96::1\"],\"ports\":{\"80\":8080},"
    "\"waypoint\":{\"destination\":\"/10.96.0.9\"},"
    "\"endpoints\":{\"c//Pod/b/web\":{\"workloadUid\":\"c//Pod/b/web\"},"
    "\"x\":{\"workloadUid\":\"x\"}}},"
    "{\"name\":\"way\",\"namespace\":\"b\",\"hostname\":\"way.b.svc.cluster.local\","
    "\"vips\":[\"/10.96.0.9\"],\"ports\":{},\"endpoints\":{}}],"
    "\"policies\":[{\"name\":\"p\",\"namespace\":\"b\",\"scope\":\"Namespace\",\"action\":\"Deny\","
    "\"rules\":[]}],"
    "\"certificates\":["
    "{\"identity\":\"spiffe://td/ns/a/sa/client\",\"state\":\"Available\",\"certChain\":["
    "{\"pem\":\"\",\"serialNumber\":\"255\",\"validFrom\":\"2026-01-01T00:00:00Z\","
    "\"expirationTime\":\"2026-01-02T00:00:00Z\"},"
    "{\"serialNumber\":\"256\",\"validFrom\":\"2026-01-01T00:00:00Z\","
    "\"expirationTime\":\"2027-01-01T00:00:00Z\"}],"
    "\"rootCerts\":[{\"serialNumber\":\"340282366920938463463374607431768211456\","
    "\"validFrom\":\"2026-01-01T00:00:00Z\",\"expirationTime\":\"2036-01-01T00:00:00Z\"}]},"
    "{\"identity\":\"spiffe://td/ns/a/sa/x\",\"state\":\"Unavailable: the CA is away\","
    "\"certChain\":[],\"rootCerts\":[]}],"
    "\"workloadState\":{\"c//Pod/b/web\":{\"state\":\"Up\",\"connections\":{\"inbound\":["
    "{\"src\":\"10.0.0.1:1\",\"originalDst\":\"web.b\",\"actualDst\":\"10.0.0.2:8080\","
    "\"protocol\":\"HBONE\"}],\"outbound\":[]},\"info\":{\"name\":\"web\",\"namespace\":\"b\"}},"
    "\"c//Pod/a/client\":{\"state\":\"Up\",\"connections\":{\"inbound\":[],\"outbound\":["
    "{\"src\":\"10.0.0.1:1\",\"originalDst\":\"10.96.0.1:80\",\"actualDst\":\"10.0.0.2:15008\","
    "\"protocol\":\"HBONE\"},"
    "{\"src\":\"[fd00::7]:1\",\"originalDst\":\"[fd96::1]:80\",\"actualDst\":\"9.9.9.9:80\","
    "\"protocol\":\"TCP\"}]},\"info\":{\"name\":\"client\",\"namespace\":\"a\"}}}}";

static json_t *dump;

static int setup(void **state) {
    json_error_t error;
    dump = json_loads(dump_text, 0, &error);
    if (dump == NULL) {
        fail_msg("%s at %d", error.text, error.position);
    }
    return 0;
}

static int teardown(void **state) {
    json_decref(dump);
    return 0;
}

static char *table_text(enum config_noun noun, const struct config_filter *filter) {
    char *text = NULL;
    size_t len;
    FILE *file = open_memstream(&text, &len);
    config_print_table(dump, noun, filter, "2026-06-01T00:00:00Z", file);
    fclose(file);
    return text;
}

static void check_table(enum config_noun noun, const struct config_filter *filter,
                        const char *want) {
    char *text = table_text(noun, filter);
    assert_string_equal(text, want);
    free(text);
}

static void test_tables(void **state) {
    const struct config_filter all = {0};
    check_table(CONFIG_WORKLOAD, &all,
                "NAMESPACE POD NAME ADDRESS          NODE WAYPOINT PROTOCOL\n"
                "a         client   10.0.0.1         n1   None     HBONE\n"
                "a         db       db.example            NA       TCP\n"
                "b         web      10.0.0.2,fd00::2 n2   way      HBONE\n");
    check_table(CONFIG_SERVICE, &all,
                "NAMESPACE SERVICE NAME SERVICE VIP       WAYPOINT ENDPOINTS\n"
                "b         way          10.96.0.9         None     0/0\n"
                "b         web          10.96.0.1,fd96::1 way      1/2\n");
    check_table(CONFIG_POLICY, &all,
                "NAMESPACE POLICY NAME ACTION SCOPE\n"
                "b         p           Deny   Namespace\n");
    check_table(
        CONFIG_CERTIFICATE, &all,
        "CERTIFICATE NAME               TYPE             STATUS          VALID CERT     SERIAL "
        "NUMBER                         NOT AFTER                NOT BEFORE\n"
        "spiffe://td/ns/a/sa/client     Leaf             Available       false          ff       "
        "                             2026-01-02T00:00:00Z     2026-01-01T00:00:00Z\n"
        "spiffe://td/ns/a/sa/client     Intermediate     Available       true           100      "
        "                             2027-01-01T00:00:00Z     2026-01-01T00:00:00Z\n"
        "spiffe://td/ns/a/sa/client     Root             Available       true           "
        "100000000000000000000000000000000     2036-01-01T00:00:00Z     2026-01-01T00:00:00Z\n"
        "spiffe://td/ns/a/sa/x          NA               Unavailable     false          NA       "
        "                             NA                       NA\n");
    check_table(CONFIG_CONNECTION, &all,
                "WORKLOAD DIRECTION LOCAL       REMOTE      REMOTE TARGET              PROTOCOL\n"
                "client.a Outbound  client.a:1  web.b:15008 web.b.svc.cluster.local:80 HBONE\n"
                "client.a Outbound  [fd00::7]:1 9.9.9.9:80  [fd96::1]:80               TCP\n"
                "web.b    Inbound   web.b:8080  client.a:1  web.b                      HBONE\n");
}

static void test_filters(void **state) {
    static const struct {
        enum config_noun noun;
        struct config_filter filter;
        size_t n;
    } rows[] = {
        {CONFIG_WORKLOAD, {.ns = "a"}, 2},
        {CONFIG_WORKLOAD, {.ns = "A"}, 2},
        {CONFIG_WORKLOAD, {.workload = "web"}, 1},
        {CONFIG_WORKLOAD, {.workload = "web.b"}, 1},
        {CONFIG_WORKLOAD, {.workload = "web.a"}, 0},
        {CONFIG_WORKLOAD, {.address = "fd00::2"}, 1},
        {CONFIG_WORKLOAD, {.address = "fd00::3"}, 0},
        {CONFIG_WORKLOAD, {.node = "n1"}, 1},
        {CONFIG_SERVICE, {.ns = "b"}, 2},
        {CONFIG_SERVICE, {.ns = "a"}, 0},
        {CONFIG_POLICY, {.ns = "b"}, 1},
        {CONFIG_CERTIFICATE, {.ns = "zzz"}, 2},
        {CONFIG_CONNECTION, {.workload = "client.a"}, 1},
        {CONFIG_CONNECTION, {.ns = "b"}, 1},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        json_t *list = config_select(dump, rows[i].noun, &rows[i].filter);
        if (json_array_size(list) != rows[i].n) {
            fail_msg("row %zu: %zu", i, json_array_size(list));
        }
        json_decref(list);
    }
    const struct config_filter raw_in = {.direction = "inbound", .is_raw = true};
    check_table(CONFIG_CONNECTION, &raw_in,
                "WORKLOAD DIRECTION LOCAL         REMOTE     REMOTE TARGET PROTOCOL\n"
                "web.b    Inbound   10.0.0.2:8080 10.0.0.1:1 web.b         HBONE\n");
}

static void test_hex(void **state) {
    static const struct {
        const char *decimal, *hex; // NULL: refused
    } rows[] = {
        {"0", "0"}, {"15", "f"},  {"16", "10"},  {"18446744073709551616", "10000000000000000"},
        {"", NULL}, {"-1", NULL}, {"12a", NULL},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        char hex[160];
        bool is_ok = config_decimal_to_hex(rows[i].decimal, hex, sizeof(hex));
        assert_int_equal(is_ok, rows[i].hex != NULL);
        if (is_ok) {
            assert_string_equal(hex, rows[i].hex);
        }
    }
    char small[4], digits[300];
    memset(digits, '9', sizeof(digits) - 1);
    digits[sizeof(digits) - 1] = '\0';
    assert_false(config_decimal_to_hex(digits, small, sizeof(small))); // more than 64 bytes
    assert_false(config_decimal_to_hex("65536", small, sizeof(small)));
}

static void test_yaml(void **state) {
    static const struct {
        const char *json, *yaml;
    } rows[] = {
        {"[]", "[]\n"},
        {"{}", "{}\n"},
        {"{\"b\":1,\"a\":\"x\"}", "a: x\nb: 1\n"},
        {"{\"a\":{\"b\":[1,2,{\"c\":true,\"d\":null}]}}",
         "a:\n  b:\n  - 1\n  - 2\n  - c: true\n    d: null\n"},
        {"[[1,[2]],[]]", "- - 1\n  - - 2\n- []\n"},
        {"[\"true\",\"No\",\"1.2.3.4\",\"a: b\",\"a:b\",\"\",\"x\\ny\",\"-\",\"a #b\",\"null\"]",
         "- \"true\"\n- \"No\"\n- \"1.2.3.4\"\n- \"a: b\"\n- a:b\n- \"\"\n- \"x\\ny\"\n- \"-\"\n"
         "- \"a #b\"\n- \"null\"\n"},
        {"{\"80\":8080,\"spiffe://td/ns/a/sa/b\":1.5}",
         "\"80\": 8080\nspiffe://td/ns/a/sa/b: 1.5\n"},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        char *text = NULL;
        size_t len;
        FILE *file = open_memstream(&text, &len);
        json_t *value = json_loads(rows[i].json, 0, NULL);
        assert_non_null(value);
        yaml_print(value, file);
        fclose(file);
        assert_string_equal(text, rows[i].yaml);
        free(text);
        json_decref(value);
    }
}

// The command: exit codes, and that a file's dump comes out of it.
static void test_command(void **state) {
    char path[] = "/tmp/test_cmd_config.XXXXXX", output[] = "/tmp/test_cmd_config.XXXXXX";
    int fd = mkstemp(path), out = mkstemp(output), saved[2] = {dup(1), dup(2)};
    assert_true(write(fd, dump_text, strlen(dump_text)) > 0);
    static const struct {
        const char *args[8];
        int code;
    } rows[] = {
        {{"config", "all", "-f", "FILE"}, CMD_OK},
        {{"config", "all", "--with-headers", "-f", "FILE"}, CMD_OK},
        {{"config", "cert", "-f", "FILE", "-o", "yaml"}, CMD_OK},
        {{"config", "w", "-f", "FILE", "-o", "json"}, CMD_OK},
        {{"config", "all", "-f", "FILE", "-o", "yaml"}, CMD_OK},
        {{"config", "--help"}, CMD_OK},
        {{"config", "pods", "-f", "FILE"}, CMD_USAGE},
        {{"config"}, CMD_USAGE},
        {{"config", "w", "-o", "xml"}, CMD_USAGE},
        {{"config", "w", "--direction", "up"}, CMD_USAGE},
        {{"config", "w", "-f", "/nowhere"}, CMD_FAILED},
        {{"config", "w", "-f", "/dev/null"}, CMD_FAILED},
        {{"config", "w", "--admin", "127.0.0.1:1"}, CMD_FAILED},
        {{"config", "w", "--admin", "here"}, CMD_FAILED},
        {{"config", "w", "--netns", "no-such-netns"}, CMD_FAILED},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        char *argv[9] = {0};
        int argc = 0;
        for (; argc < 8 && rows[i].args[argc] != NULL; argc++) {
            bool is_file = strcmp(rows[i].args[argc], "FILE") == 0;
            argv[argc] = xstrdup(is_file ? path : rows[i].args[argc]);
        }
        fflush(stdout);
        dup2(out, 1);
        dup2(out, 2);
        int code = cmd_config(argc, argv);
        fflush(stdout);
        dup2(saved[0], 1);
        dup2(saved[1], 2);
        if (code != rows[i].code) {
            fail_msg("row %zu: %d", i, code);
        }
        for (int k = 0; k < argc; k++) {
            free(argv[k]);
        }
    }
    assert_true(lseek(out, 0, SEEK_END) > 1000);
    for (int i = 0; i < 2; i++) {
        close(saved[i]);
    }
    close(fd);
    close(out);
    unlink(path);
    unlink(output);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_tables), cmocka_unit_test(test_filters), cmocka_unit_test(test_hex),
        cmocka_unit_test(test_yaml),   cmocka_unit_test(test_command),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}

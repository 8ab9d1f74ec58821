// SPDX-License-Identifier: Apache-2.0
//
// `ztunctl config` of a waypoint, on a saved dump.
#include <stdlib.h>
#include <unistd.h>

#include "common/base/check.h"
#include "ctl/cmd.h"
#include "ctl/cmd_config.h"
#include "tests/unit/ctl/ctl_run.h"

static const char dump_text[] =
    "{\"gateway\":{},\"l7\":{\"listeners\":["
    "{\"name\":\"mesh\",\"address\":\"[::]:15008\",\"protocol\":\"HBONE\",\"open\":true},"
    "{\"name\":\"admin\",\"address\":\"127.0.0.1:15000\",\"protocol\":\"HTTP\",\"open\":true}],"
    "\"routes\":[{\"service\":\"m/web.m\",\"host\":\"web.m\",\"namespace\":\"m\","
    "\"vips\":[\"10.96.0.1\",\"fd96::1\"],\"ports\":[{\"port\":80,\"protocol\":\"HTTP\"},"
    "{\"port\":90,\"protocol\":\"TCP\"}],\"rules\":["
    "{\"name\":\"a\",\"match\":\"/"
    "a*\",\"action\":\"forward\",\"from\":{\"kind\":\"VirtualService\","
    "\"namespace\":\"m\",\"name\":\"vs\",\"file\":\"f\",\"line\":3,\"column\":1},\"fault\":{},"
    "\"destinations\":[{\"host\":\"web.m\",\"subset\":\"v1\",\"weight\":9},"
    "{\"host\":\"b.m\",\"port\":8,\"weight\":1}],\"mirrors\":[{\"host\":\"c.m\",\"percent\":5}]},"
    "{\"name\":\"r\",\"match\":\"/r\",\"action\":\"redirect\",\"status\":302,\"from\":{\"kind\":"
    "\"HTTPRoute\",\"namespace\":\"m\",\"name\":\"hr\"}}]},"
    "{\"service\":\"n/x.n\",\"host\":\"x.n\",\"namespace\":\"n\",\"vips\":[],\"ports\":[],"
    "\"rules\":[]}],"
    "\"clusters\":[{\"name\":\"inbound-vip|80|http/v1|web.m\",\"host\":\"web.m\",\"namespace\":"
    "\"m\",\"port\":80,\"subset\":\"v1\",\"used\":true,\"from\":{\"kind\":\"DestinationRule\","
    "\"namespace\":\"m\",\"name\":\"dr\"},\"loadBalancer\":\"RANDOM\",\"outlierDetection\":true,"
    "\"breakers\":{\"connections\":{\"used\":1,\"limit\":2},\"pending\":{\"used\":0},"
    "\"requests\":{\"used\":3},\"retries\":{\"used\":0,\"limit\":3}},\"ejected\":1,"
    "\"endpoints\":[{\"address\":\"10.0.0.1:8080\",\"name\":\"web-1\",\"namespace\":\"m\","
    "\"region\":\"r\",\"zone\":\"z\",\"weight\":1,\"ready\":true,\"ejected\":true,"
    "\"activeRequests\":0,\"connections\":0},{\"address\":\"10.0.0.2:8080\",\"name\":\"web-2\","
    "\"namespace\":\"m\",\"weight\":2,\"ready\":true,\"ejected\":false,\"activeRequests\":3,"
    "\"connections\":1}]},{\"name\":\"inbound-vip|80|http|x.n\",\"host\":\"x.n\",\"namespace\":"
    "\"n\",\"port\":80,\"subset\":\"\",\"used\":false,\"loadBalancer\":\"LEAST_REQUEST\","
    "\"outlierDetection\":false,\"breakers\":{},\"ejected\":0,\"endpoints\":[]}]}}";

static char path[64];

static int setup(void **state) {
    snprintf(path, sizeof(path), "/tmp/test_cmd_config_l7.XXXXXX");
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, dump_text, sizeof(dump_text) - 1), sizeof(dump_text) - 1);
    close(fd);
    return 0;
}

static int teardown(void **state) {
    unlink(path);
    return 0;
}

static const struct {
    const char *args[6];
    const char *out;
} rows[] = {
    {{"listener"},
     "NAME   ADDRESS          STATE  MATCH                 DESTINATION\n"
     "mesh   [::]:15008       open   CONNECT 10.96.0.1:80  Route: web.m:80\n"
     "mesh   [::]:15008       open   CONNECT [fd96::1]:80  Route: web.m:80\n"
     "mesh   [::]:15008       open   CONNECT 10.96.0.1:90  TCP: web.m:90\n"
     "mesh   [::]:15008       open   CONNECT [fd96::1]:90  TCP: web.m:90\n"
     "admin  127.0.0.1:15000  open   ALL                   the process itself\n"},
    {{"listener", "-n", "n"},
     "NAME  ADDRESS     STATE  MATCH    DESTINATION\n"
     "mesh  [::]:15008  open   CONNECT  nothing is bound here\n"},
    {{"listener", "--port", "90", "--fqdn", "web.m"},
     "NAME  ADDRESS     STATE  MATCH                 DESTINATION\n"
     "mesh  [::]:15008  open   CONNECT 10.96.0.1:90  TCP: web.m:90\n"
     "mesh  [::]:15008  open   CONNECT [fd96::1]:90  TCP: web.m:90\n"},
    {{"route"},
     "NAME  DOMAIN  MATCH  VIRTUAL SERVICE  ACTION\n"
     "a     web.m   /a*    vs.m             fault, web.m v1 (9), b.m:8 (1), mirror c.m\n"
     "r     web.m   /r     HTTPRoute hr.m   redirect 302\n"},
    {{"route", "--port", "81"}, "NAME  DOMAIN  MATCH  VIRTUAL SERVICE  ACTION\n"},
    {{"cluster"},
     "SERVICE FQDN  PORT  SUBSET  DESTINATION RULE  LB             CONNS  PENDING  REQUESTS  "
     "RETRIES  ENDPOINTS  EJECTED\n"
     "web.m         80    v1      dr.m              RANDOM         1/2    0/-      3/-       "
     "0/3      2          1\n"
     "x.n           80    -                         LEAST_REQUEST  0/-    0/-      0/-       "
     "0/-      0          -\n"},
    {{"endpoint", "--subset", "v1"},
     "ENDPOINT       STATUS     OUTLIER CHECK  CLUSTER                       WORKLOAD  LOCALITY  "
     "WEIGHT  ACTIVE  CONNS\n"
     "10.0.0.1:8080  UNHEALTHY  FAILED         inbound-vip|80|http/v1|web.m  web-1.m   r/z       "
     "1       0       0\n"
     "10.0.0.2:8080  HEALTHY    OK             inbound-vip|80|http/v1|web.m  web-2.m   -         "
     "2       3       1\n"},
    {{"endpoint", "--address", "10.0.0.2", "-o", "yaml"},
     "- activeRequests: 3\n  address: \"10.0.0.2:8080\"\n"
     "  cluster: \"inbound-vip|80|http/v1|web.m\"\n  connections: 1\n  ejected: false\n"
     "  name: web-2\n  namespace: m\n  ready: true\n  weight: 2\n"},
};

static void test_tables(void **state) {
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        const char *args[CTL_ARGS_MAX] = {"-f", path};
        char *out, *err;
        memcpy(&args[2], rows[i].args, sizeof(rows[i].args));
        assert_int_equal(ctl_run(cmd_config, "config", args, &out, &err), CMD_OK);
        assert_string_equal(out, rows[i].out);
        assert_string_equal(err, "");
        free(out);
        free(err);
    }
}

static void test_refusals(void **state) {
    static const struct {
        const char *args[5];
        const char *err;
        int code;
    } wrong[] = {
        {{"route", "-f", "/dev/null"}, "not a config dump", CMD_FAILED},
        {{"route", "--port", "0"}, "`0` is not a port", CMD_USAGE},
        {{"route", "--port", "x"}, "`x` is not a port", CMD_USAGE},
        {{"routing"}, "is none of workload, ", CMD_USAGE},
    };
    for (size_t i = 0; i < ARRAY_LEN(wrong); i++) {
        const char *args[CTL_ARGS_MAX] = {0};
        char *out, *err;
        memcpy(args, wrong[i].args, sizeof(wrong[i].args));
        assert_int_equal(ctl_run(cmd_config, "config", args, &out, &err), wrong[i].code);
        assert_non_null(strstr(err, wrong[i].err));
        assert_string_equal(out, "");
        free(out);
        free(err);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_tables),
        cmocka_unit_test(test_refusals),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}

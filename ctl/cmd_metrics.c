// SPDX-License-Identifier: Apache-2.0
//
// ztunctl metrics: what Prometheus would scrape.
#include <regex.h>
#include <stdlib.h>
#include <string.h>

#include "ctl/cmd.h"
#include "ctl/http_target.h"

enum { METRICS_PORT = 15020 };

static void usage(FILE *out) {
    fputs("usage: ztunctl metrics [GREP] [--port PORT] [WHERE]...\n"
          "\n"
          "Prints the metrics of ztun. GREP, an extended regular expression, chooses samples.\n"
          "\n"
          "  --port PORT   of the metrics server (15020)\n"
          "\n",
          out);
    fputs(http_target_help, out);
}

static void print(struct slice body, const regex_t *regex) {
    struct slice line;
    while (slice_split(body, '\n', &line, &body)) {
        char *text = slice_dup(line);
        if (regex == NULL || (text[0] != '#' && regexec(regex, text, 0, NULL, 0) == 0)) {
            puts(text);
        }
        free(text);
    }
}

static int show(const struct http_target_options *options, uint16_t port, const regex_t *regex) {
    struct http_targets targets;
    char *error = NULL;
    int rc = CMD_OK;
    if (!http_targets_find(options, &targets, &error)) {
        fprintf(stderr, "ztunctl metrics: %s\n", error);
        free(error);
        return CMD_FAILED;
    }
    for (size_t i = 0; i < targets.n; i++) {
        struct buf body;
        buf_init(&body, (size_t)1 << 30);
        if (http_target_fetch("metrics", &targets.items[i], "GET", "/metrics", port, &body)) {
            if (targets.n > 1) {
                printf("# node %s\n", targets.items[i].node);
            }
            print(buf_slice(&body), regex);
        } else {
            rc = CMD_FAILED;
        }
        buf_fini(&body);
    }
    http_targets_fini(&targets);
    return rc;
}

int cmd_metrics(int argc, char **argv) {
    static const struct option longs[] = {HTTP_TARGET_LONGS,
                                          {"port", required_argument, NULL, 'p'},
                                          {"help", no_argument, NULL, 'h'},
                                          {NULL, 0, NULL, 0}};
    struct http_target_options options = {0};
    uint64_t port = METRICS_PORT;
    int opt;
    optind = 0;
    while ((opt = getopt_long(argc, argv, "h", longs, NULL)) != -1) {
        if (opt == 'h') {
            usage(stdout);
            return CMD_OK;
        }
        if (opt == 'p') {
            if (!slice_to_u64(slice_str(optarg), UINT16_MAX, &port) || port == 0) {
                fprintf(stderr, "ztunctl metrics: `%s` is not a port\n", optarg);
                return CMD_USAGE;
            }
        } else if (!http_target_option(&options, opt, optarg)) {
            return CMD_USAGE;
        }
    }
    if (argc - optind > 1) {
        fputs("ztunctl metrics: one GREP (ztunctl help metrics)\n", stderr);
        return CMD_USAGE;
    }
    regex_t regex;
    bool has_regex = optind < argc;
    int error = has_regex ? regcomp(&regex, argv[optind], REG_EXTENDED | REG_NOSUB) : 0;
    if (error != 0) {
        char text[200];
        regerror(error, &regex, text, sizeof(text));
        fprintf(stderr, "ztunctl metrics: `%s`: %s\n", argv[optind], text);
        return CMD_USAGE;
    }
    int rc = show(&options, (uint16_t)port, has_regex ? &regex : NULL);
    if (has_regex) {
        regfree(&regex);
    }
    return rc;
}

// SPDX-License-Identifier: Apache-2.0
//
// ztunctl log-level: the log filter of running ztuns.
#include <stdlib.h>
#include <string.h>

#include "ctl/cmd.h"
#include "ctl/http_target.h"

static void usage(FILE *out) {
    fputs(
        "usage: ztunctl log-level [FILTER | --reset] [WHERE]...\n"
        "\n"
        "Shows the log filter, changes it, or takes changes back. FILTER is a level (off, error,\n"
        "warn, info, debug, trace) or levels of scopes: \"info,access=debug\".\n"
        "\n",
        out);
    fputs(http_target_help, out);
}

// What goes into a URL as it is.
static bool is_filter(const char *text) {
    return text[0] != '\0' &&
           text[strspn(text, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
                             "0123456789_:,=.-")] == '\0';
}

static int apply(const struct http_target_options *options, const char *path) {
    struct http_targets targets;
    char *error = NULL;
    int rc = CMD_OK;
    if (!http_targets_find(options, &targets, &error)) {
        fprintf(stderr, "ztunctl log-level: %s\n", error);
        free(error);
        return CMD_FAILED;
    }
    for (size_t i = 0; i < targets.n; i++) {
        struct buf body;
        buf_init(&body, 1 << 20);
        if (http_target_fetch("log-level", &targets.items[i], "POST", path, 0, &body)) {
            printf("%s%s%s", targets.n > 1 ? targets.items[i].node : "", targets.n > 1 ? ": " : "",
                   buf_cstr(&body));
        } else {
            rc = CMD_FAILED;
        }
        buf_fini(&body);
    }
    http_targets_fini(&targets);
    return rc;
}

int cmd_log_level(int argc, char **argv) {
    static const struct option longs[] = {HTTP_TARGET_LONGS,
                                          {"reset", no_argument, NULL, 'r'},
                                          {"help", no_argument, NULL, 'h'},
                                          {NULL, 0, NULL, 0}};
    struct http_target_options options = {0};
    bool is_reset = false;
    int opt;
    optind = 0;
    while ((opt = getopt_long(argc, argv, "rh", longs, NULL)) != -1) {
        if (opt == 'h') {
            usage(stdout);
            return CMD_OK;
        }
        if (opt == 'r') {
            is_reset = true;
        } else if (!http_target_option(&options, opt, optarg)) {
            return CMD_USAGE;
        }
    }
    const char *filter = optind < argc ? argv[optind] : NULL;
    if (argc - optind > 1 || (is_reset && filter != NULL)) {
        fputs("ztunctl log-level: one FILTER, or --reset (ztunctl help log-level)\n", stderr);
        return CMD_USAGE;
    }
    if (filter != NULL && !is_filter(filter)) {
        fprintf(stderr, "ztunctl log-level: `%s` is not a filter\n", filter);
        return CMD_USAGE;
    }
    char *path = filter != NULL ? xasprintf("/logging?level=%s", filter)
                                : xstrdup(is_reset ? "/logging?reset" : "/logging");
    int rc = apply(&options, path);
    free(path);
    return rc;
}

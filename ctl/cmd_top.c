// SPDX-License-Identifier: Apache-2.0
//
// ztunctl top: live flows in a terminal.
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

#include "common/base/clock.h"
#include "ctl/cmd.h"
#include "ctl/cmd_top.h"
#include "ctl/http_target.h"

static void usage(FILE *out) {
    fputs(
        "usage: ztunctl top [--once] [-n SECONDS] [--limit FLOWS] [WHERE]...\n"
        "\n"
        "Shows live flows, the busiest first: SENT is towards the client, RECV from it. Ends with\n"
        "q or ^C. Without a terminal, and with --once, it prints one picture; rates are then the\n"
        "mean of each flow's life.\n"
        "\n"
        "  --once           print once and end\n"
        "  -n SECONDS       time between pictures (1)\n"
        "  --limit FLOWS    ask each ztun for no more than these\n"
        "\n",
        out);
    fputs(http_target_help, out);
}

static bool take_sample(const struct http_targets *targets, const char *path,
                        struct top_sample *sample) {
    bool is_ok = true;
    *sample = (struct top_sample){0};
    for (size_t i = 0; i < targets->n && is_ok; i++) {
        struct buf body;
        buf_init(&body, (size_t)1 << 30);
        is_ok = http_target_fetch("top", &targets->items[i], "GET", path, 0, &body);
        json_t *answer = is_ok ? json_loadb((const char *)body.ptr, body.len, 0, NULL) : NULL;
        top_sample_add(sample, targets->items[i].node, answer);
        json_decref(answer);
        buf_fini(&body);
    }
    sample->at_ns = clock_mono_ns();
    return is_ok;
}

static int print_once(const struct http_targets *targets, const char *path) {
    struct top_sample sample;
    struct buf text;
    bool is_ok = take_sample(targets, path, &sample);
    buf_init(&text, SIZE_MAX);
    if (is_ok) {
        top_sample_rate(&sample, NULL);
        top_render(&sample, 0, SIZE_MAX, &text);
        fwrite(text.ptr, 1, text.len, stdout);
    }
    buf_fini(&text);
    top_sample_fini(&sample);
    return is_ok ? CMD_OK : CMD_FAILED;
}

// ---- the terminal ------------------------------------------------------------------------------

static volatile sig_atomic_t is_ended;

static void on_signal(int sig) {
    (void)sig;
    is_ended = 1;
}

// True when q was pressed, or a signal came.
static bool wait_for_end(int ms) {
    struct pollfd pfd = {.fd = STDIN_FILENO, .events = POLLIN};
    char key = 0;
    if (poll(&pfd, 1, ms) > 0 && (read(STDIN_FILENO, &key, 1) != 1 || key == 'q')) {
        return true;
    }
    return is_ended != 0;
}

static void draw(const struct top_sample *sample) {
    struct winsize size = {.ws_row = 24, .ws_col = 80};
    struct buf text;
    (void)ioctl(STDOUT_FILENO, TIOCGWINSZ, &size);
    buf_init(&text, SIZE_MAX);
    buf_append_str(&text, "\033[H\033[2J"); // to the corner, clear
    top_render(sample, size.ws_row - (size.ws_row > 4), size.ws_col, &text); // no scrolling
    fwrite(text.ptr, 1, text.len, stdout);
    fflush(stdout);
    buf_fini(&text);
}

static int watch(const struct http_targets *targets, const char *path, uint64_t interval_s) {
    struct termios old, raw;
    struct top_sample before = {0}, sample;
    bool has_before = false, is_ok = true;
    CHECK(tcgetattr(STDIN_FILENO, &old) == 0);
    raw = old;
    raw.c_lflag &= ~(tcflag_t)(ICANON | ECHO);
    tcsetattr(STDIN_FILENO, TCSANOW, &raw);
    signal(SIGINT, on_signal);
    signal(SIGTERM, on_signal);
    fputs("\033[?1049h\033[?25l", stdout); // other screen, no cursor
    while (is_ended == 0) {
        is_ok = take_sample(targets, path, &sample);
        if (!is_ok) {
            top_sample_fini(&sample);
            break;
        }
        top_sample_rate(&sample, has_before ? &before : NULL);
        draw(&sample);
        top_sample_fini(&before);
        before = sample;
        has_before = true;
        if (wait_for_end((int)interval_s * 1000)) {
            break;
        }
    }
    top_sample_fini(&before);
    fputs("\033[?25h\033[?1049l", stdout);
    fflush(stdout);
    tcsetattr(STDIN_FILENO, TCSANOW, &old);
    return is_ok ? CMD_OK : CMD_FAILED;
}

int cmd_top(int argc, char **argv) {
    static const struct option longs[] = {HTTP_TARGET_LONGS,
                                          {"once", no_argument, NULL, 'o'},
                                          {"limit", required_argument, NULL, 'l'},
                                          {"help", no_argument, NULL, 'h'},
                                          {NULL, 0, NULL, 0}};
    struct http_target_options options = {0};
    struct http_targets targets;
    uint64_t interval_s = 1, limit = UINT32_MAX;
    bool is_once = !isatty(STDIN_FILENO) || !isatty(STDOUT_FILENO);
    char *error = NULL;
    int opt;
    optind = 0;
    while ((opt = getopt_long(argc, argv, "n:h", longs, NULL)) != -1) {
        if (opt == 'h') {
            usage(stdout);
            return CMD_OK;
        }
        bool is_number = opt == 'n' || opt == 'l';
        if (is_number && (!slice_to_u64(slice_str(optarg), opt == 'n' ? 3600 : UINT32_MAX,
                                        opt == 'n' ? &interval_s : &limit) ||
                          interval_s == 0)) {
            fprintf(stderr, "ztunctl top: `%s` is not a number\n", optarg);
            return CMD_USAGE;
        }
        is_once = is_once || opt == 'o';
        if (!is_number && opt != 'o' && !http_target_option(&options, opt, optarg)) {
            return CMD_USAGE;
        }
    }
    if (optind != argc) {
        fputs("ztunctl top: it takes no arguments (ztunctl help top)\n", stderr);
        return CMD_USAGE;
    }
    if (!http_targets_find(&options, &targets, &error)) {
        fprintf(stderr, "ztunctl top: %s\n", error);
        free(error);
        return CMD_FAILED;
    }
    char *path = limit != UINT32_MAX
                     ? xasprintf("/connections?limit=%llu", (unsigned long long)limit)
                     : xstrdup("/connections");
    int rc = is_once ? print_once(&targets, path) : watch(&targets, path, interval_s);
    free(path);
    http_targets_fini(&targets);
    return rc;
}

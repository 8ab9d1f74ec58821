// SPDX-License-Identifier: Apache-2.0
//
// ztunctl top: live flows, or requests, in a terminal.
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
#include "ctl/cmd_top_http.h"
#include "ctl/http_target.h"

static void usage(FILE *out) {
    fputs(
        "usage: ztunctl top [--once] [-n SECONDS] [--limit FLOWS] [WHERE]...\n"
        "       ztunctl top --http [--once | --total] [-n SECONDS] [WHERE]...\n"
        "\n"
        "Shows live flows, the busiest first: SENT is towards the client, RECV from it. Ends with\n"
        "q or ^C. Without a terminal, and with --once, it prints one picture; rates are then the\n"
        "mean of each flow's life.\n"
        "\n"
        "With --http, requests that waypoints carried, by client and service: rate, share that\n"
        "failed (5xx, a grpc-status, or a client that did not wait), median and 99th percentile "
        "of\n"
        "the time, and why: Envoy's response flags, or the status.\n"
        "\n"
        "  --once           print once and end; with --http what came within -n SECONDS\n"
        "  --total          with --http: once, all since the waypoints began\n"
        "  -n SECONDS       time between pictures (1)\n"
        "  --limit FLOWS    ask each ztun for no more than these\n"
        "\n",
        out);
    fputs(http_target_help, out);
}

struct args {
    struct http_target_options target;
    uint64_t interval_s, limit;
    bool is_http, is_once, is_total;
};

// ---- samples -----------------------------------------------------------------------------------

struct view { // the sample that is shown, and the one before it
    const struct args *args;
    const struct http_targets *targets;
    const char *path;
    struct top_sample flows, flows_before;
    struct top_http_sample http, http_before;
    bool has_sample, has_before;
};

static void view_init(struct view *view, const struct args *args,
                      const struct http_targets *targets, const char *path) {
    *view = (struct view){.args = args, .targets = targets, .path = path};
    top_http_sample_init(&view->http);
    top_http_sample_init(&view->http_before);
}

static void view_fini(struct view *view) {
    top_sample_fini(&view->flows);
    top_sample_fini(&view->flows_before);
    top_http_sample_fini(&view->http);
    top_http_sample_fini(&view->http_before);
}

static void add_answer(struct view *view, const char *node, struct slice body) {
    if (view->args->is_http) {
        top_http_sample_add(&view->http, body);
        return;
    }
    json_t *answer = json_loadb((const char *)body.ptr, body.len, 0, NULL);
    top_sample_add(&view->flows, node, answer);
    json_decref(answer);
}

// The next sample. False: a target does not answer (said so).
static bool take(struct view *view) {
    top_sample_fini(&view->flows_before);
    top_http_sample_fini(&view->http_before);
    view->flows_before = view->flows;
    view->http_before = view->http;
    view->flows = (struct top_sample){0};
    top_http_sample_init(&view->http);
    view->has_before = view->has_sample;
    view->has_sample = true;
    bool is_ok = true;
    for (size_t i = 0; i < view->targets->n && is_ok; i++) {
        const struct http_target *target = &view->targets->items[i];
        struct buf body;
        buf_init(&body, (size_t)1 << 30);
        is_ok = http_target_fetch("top", target, "GET", view->path, 0, &body);
        if (is_ok) {
            add_answer(view, target->node, buf_slice(&body));
        }
        buf_fini(&body);
    }
    view->flows.at_ns = view->http.at_ns = clock_mono_ns();
    if (is_ok && !view->args->is_http) {
        top_sample_rate(&view->flows, view->has_before ? &view->flows_before : NULL);
    }
    return is_ok;
}

static void render(const struct view *view, size_t n_rows, size_t n_cols, struct buf *text) {
    if (view->args->is_http) {
        top_http_render(&view->http, view->has_before ? &view->http_before : NULL, n_rows, n_cols,
                        text);
    } else {
        top_render(&view->flows, n_rows, n_cols, text);
    }
}

static bool print_once(struct view *view) {
    struct buf text;
    bool is_ok = take(view);
    if (is_ok && view->args->is_http && !view->args->is_total) {
        sleep((unsigned)view->args->interval_s);
        is_ok = take(view);
    }
    buf_init(&text, SIZE_MAX);
    if (is_ok) {
        render(view, 0, SIZE_MAX, &text);
        fwrite(text.ptr, 1, text.len, stdout);
    }
    buf_fini(&text);
    return is_ok;
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

static void draw(const struct view *view) {
    struct winsize size = {0};
    struct buf text;
    (void)ioctl(STDOUT_FILENO, TIOCGWINSZ, &size);
    if (size.ws_row == 0 || size.ws_col == 0) { // a terminal that does not know
        size = (struct winsize){.ws_row = 24, .ws_col = 80};
    }
    buf_init(&text, SIZE_MAX);
    buf_append_str(&text, "\033[H\033[2J"); // to the corner, clear
    render(view, size.ws_row - (size.ws_row > 4), size.ws_col, &text); // no scrolling
    fwrite(text.ptr, 1, text.len, stdout);
    fflush(stdout);
    buf_fini(&text);
}

static bool watch(struct view *view) {
    struct termios old, raw;
    bool is_ok = true;
    CHECK(tcgetattr(STDIN_FILENO, &old) == 0);
    raw = old;
    raw.c_lflag &= ~(tcflag_t)(ICANON | ECHO);
    tcsetattr(STDIN_FILENO, TCSANOW, &raw);
    signal(SIGINT, on_signal);
    signal(SIGTERM, on_signal);
    fputs("\033[?1049h\033[?25l", stdout); // other screen, no cursor
    while (is_ended == 0) {
        is_ok = take(view);
        if (!is_ok) {
            break;
        }
        draw(view);
        if (wait_for_end((int)view->args->interval_s * 1000)) {
            break;
        }
    }
    fputs("\033[?25h\033[?1049l", stdout);
    fflush(stdout);
    tcsetattr(STDIN_FILENO, TCSANOW, &old);
    return is_ok;
}

// ---- the command -------------------------------------------------------------------------------

static bool set_number(const char *text, uint64_t max, uint64_t *ret) {
    if (!slice_to_u64(slice_str(text), max, ret) || *ret == 0) {
        fprintf(stderr, "ztunctl top: `%s` is not a number from 1 to %llu\n", text,
                (unsigned long long)max);
        return false;
    }
    return true;
}

static bool set_option(struct args *args, int opt) {
    switch (opt) {
    case 'n':
        return set_number(optarg, 3600, &args->interval_s);
    case 'l':
        return set_number(optarg, UINT32_MAX, &args->limit);
    case 't':
        args->is_total = args->is_once = true;
        return true;
    case 'o':
        args->is_once = true;
        return true;
    case 'H':
        args->is_http = true;
        return true;
    default:
        return http_target_option(&args->target, opt, optarg);
    }
}

// 0: go on; else the exit code plus one.
static int parse(struct args *args, int argc, char **argv) {
    static const struct option longs[] = {HTTP_TARGET_LONGS,
                                          {"once", no_argument, NULL, 'o'},
                                          {"http", no_argument, NULL, 'H'},
                                          {"total", no_argument, NULL, 't'},
                                          {"limit", required_argument, NULL, 'l'},
                                          {"help", no_argument, NULL, 'h'},
                                          {NULL, 0, NULL, 0}};
    int opt;
    optind = 0;
    while ((opt = getopt_long(argc, argv, "n:h", longs, NULL)) != -1) {
        if (opt == 'h') {
            usage(stdout);
            return 1 + CMD_OK;
        }
        if (!set_option(args, opt)) {
            return 1 + CMD_USAGE;
        }
    }
    if (optind != argc) {
        fputs("ztunctl top: it takes no arguments (ztunctl help top)\n", stderr);
        return 1 + CMD_USAGE;
    }
    if (args->is_total && !args->is_http) {
        fputs("ztunctl top: --total is for --http\n", stderr);
        return 1 + CMD_USAGE;
    }
    if (args->is_http && args->target.waypoint == NULL) {
        args->target.waypoint = ""; // requests are known to waypoints
    }
    return 0;
}

int cmd_top(int argc, char **argv) {
    struct args args = {.interval_s = 1,
                        .limit = UINT32_MAX,
                        .is_once = !isatty(STDIN_FILENO) || !isatty(STDOUT_FILENO)};
    struct http_targets targets;
    struct view view;
    char *error = NULL;
    int rc = parse(&args, argc, argv);
    if (rc != 0) {
        return rc - 1;
    }
    if (!http_targets_find(&args.target, &targets, &error)) {
        fprintf(stderr, "ztunctl top: %s\n", error);
        free(error);
        return CMD_FAILED;
    }
    char *path = args.is_http ? xstrdup("/metrics")
                 : args.limit != UINT32_MAX
                     ? xasprintf("/connections?limit=%llu", (unsigned long long)args.limit)
                     : xstrdup("/connections");
    view_init(&view, &args, &targets, path);
    bool is_ok = args.is_once ? print_once(&view) : watch(&view);
    view_fini(&view);
    free(path);
    http_targets_fini(&targets);
    return is_ok ? CMD_OK : CMD_FAILED;
}

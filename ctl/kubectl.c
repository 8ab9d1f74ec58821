// SPDX-License-Identifier: Apache-2.0
#include "ctl/kubectl.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/base/clock.h"
#include "ctl/local_json.h"

enum {
    ARGS_MAX = 32,
    OUTPUT_MAX = 512 << 20,
    ERROR_MAX = 16384,
    FORWARD_TIMEOUT_S = 10,
    END_TIMEOUT_MS = 2000,
};

extern char **environ;

const char kubectl_help[] =
    "  --kubectl FILE     the kubectl to run (default: the one on the PATH)\n"
    "  --context NAME, --kubeconfig FILE, -n, --namespace NS\n"
    "                     as kubectl's own\n";

bool kubectl_option(struct kubectl *k, int opt, const char *arg) {
    switch (opt) {
    case KUBECTL_OPT_PROGRAM:
        k->program = arg;
        return true;
    case KUBECTL_OPT_CONTEXT:
        k->context = arg;
        return true;
    case KUBECTL_OPT_KUBECONFIG:
        k->kubeconfig = arg;
        return true;
    case 'n':
        k->ns = arg;
        return true;
    default:
        return false;
    }
}

// The process

struct child {
    pid_t pid;
    int out, err; // pipes; -1: not ours
};

static const char *program(const struct kubectl *k) {
    return k->program != NULL ? k->program : "kubectl";
}

// A memory file instead of a pipe: the size of the input cannot block us.
static int open_input(const char *input) {
    if (input == NULL) {
        return open("/dev/null", O_RDONLY | O_CLOEXEC);
    }
    int fd = memfd_create("input", MFD_CLOEXEC);
    size_t len = strlen(input);
    if (fd < 0 || write(fd, input, len) != (ssize_t)len || lseek(fd, 0, SEEK_SET) < 0) {
        if (fd >= 0) {
            close(fd);
        }
        return -1;
    }
    return fd;
}

static int spawn_with(char **argv, int in, const int out[2], const int err[2], pid_t *ret_pid) {
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attr;
    sigset_t none;

    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, in, 0);
    posix_spawn_file_actions_adddup2(&actions, out[1], 1);
    posix_spawn_file_actions_adddup2(&actions, err[1], 2);
    sigemptyset(&none);
    posix_spawnattr_init(&attr);
    posix_spawnattr_setsigmask(&attr, &none);
    posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETSIGMASK);
    int rc = posix_spawnp(ret_pid, argv[0], &actions, &attr, argv, environ);
    posix_spawnattr_destroy(&attr);
    posix_spawn_file_actions_destroy(&actions);
    return rc;
}

static void close_both(const int fds[2]) {
    close(fds[0]);
    close(fds[1]);
}

static bool spawn(const struct kubectl *k, const char *const *args, const char *input,
                  struct child *ret_child, char **ret_error) {
    const char *argv[ARGS_MAX] = {program(k)};
    int out[2], err[2], in = open_input(input), n = 1;

    if (k->context != NULL) {
        argv[n++] = "--context";
        argv[n++] = k->context;
    }
    if (k->kubeconfig != NULL) {
        argv[n++] = "--kubeconfig";
        argv[n++] = k->kubeconfig;
    }
    for (; *args != NULL; args++) {
        CHECK(n < ARGS_MAX - 1);
        argv[n++] = *args;
    }
    if (in < 0 || pipe2(out, O_CLOEXEC) < 0) {
        *ret_error = xasprintf("%s: %s", program(k), strerror(errno));
        if (in >= 0) {
            close(in);
        }
        return false;
    }
    if (pipe2(err, O_CLOEXEC) < 0) {
        *ret_error = xasprintf("%s: %s", program(k), strerror(errno));
        close(in);
        close_both(out);
        return false;
    }
    int rc = spawn_with((char **)argv, in, out, err, &ret_child->pid);
    close(in);
    close(out[1]);
    close(err[1]);
    if (rc != 0) {
        close(out[0]);
        close(err[0]);
        *ret_error = rc == ENOENT && k->program == NULL
                         ? xstrdup("there is no kubectl on the PATH; name it with --kubectl")
                         : xasprintf("%s: %s", program(k), strerror(rc));
        return false;
    }
    ret_child->out = out[0];
    ret_child->err = err[0];
    return true;
}

static int64_t now_ms(void) {
    return (int64_t)(clock_mono_ns() / 1000000);
}

// Appends what there is; false at the end.
static bool read_some(int fd, struct buf *buf) {
    char chunk[65536];
    ssize_t n = read(fd, chunk, sizeof(chunk));
    if (n < 0 && errno == EINTR) {
        return true;
    }
    if (n <= 0) {
        return false;
    }
    buf_append(buf, slice_make(chunk, (size_t)n));
    return true;
}

// Reads both until they end. False: the time was over.
static bool read_both(const struct child *child, struct buf *out, struct buf *err,
                      int64_t deadline_ms) {
    struct pollfd fds[2] = {{.fd = child->out, .events = POLLIN},
                            {.fd = child->err, .events = POLLIN}};
    struct buf *bufs[2] = {out, err};

    while (fds[0].fd >= 0 || fds[1].fd >= 0) {
        int64_t left = deadline_ms - now_ms();
        if (left <= 0 || (poll(fds, 2, (int)left) < 0 && errno != EINTR)) {
            return false;
        }
        for (int i = 0; i < 2; i++) {
            if (fds[i].fd >= 0 && fds[i].revents != 0 && !read_some(fds[i].fd, bufs[i])) {
                fds[i].fd = -1;
            }
        }
    }
    return true;
}

// Its exit status; one that does not end is killed when the time is over.
static int wait_end(pid_t pid, int64_t deadline_ms) {
    int status = 0;
    while (waitpid(pid, &status, WNOHANG) == 0) {
        if (now_ms() >= deadline_ms) {
            kill(pid, SIGKILL);
            waitpid(pid, &status, 0);
            break;
        }
        usleep(1000);
    }
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

static struct slice trim(struct slice text) {
    while (text.len > 0 && text.ptr[text.len - 1] <= ' ') {
        text.len--;
    }
    return text;
}

// kubectl's own words, in one line.
static char *error_text(const struct kubectl *k, struct buf *err, int status) {
    struct slice text = trim(buf_slice(err));
    if (text.len == 0) {
        return xasprintf("%s ended with status %d and said nothing", program(k), status);
    }
    char *line = xasprintf("%.*s", (int)text.len, (const char *)text.ptr);
    for (char *c = line; *c != '\0'; c++) {
        *c = *c == '\n' ? ' ' : *c;
    }
    return line;
}

bool kubectl_run(const struct kubectl *k, const char *const *args, const char *input,
                 struct buf *out, char **ret_error) {
    struct child child;
    struct buf err;

    if (!spawn(k, args, input, &child, ret_error)) {
        return false;
    }
    buf_init(&err, ERROR_MAX);
    int64_t deadline_ms = now_ms() + KUBECTL_TIMEOUT_S * 1000;
    bool is_whole = read_both(&child, out, &err, deadline_ms);
    close(child.out);
    close(child.err);
    int status = wait_end(child.pid, is_whole ? deadline_ms : 0);
    bool is_ok = is_whole && status == 0 && buf_ok(out);
    if (!is_whole) {
        *ret_error =
            xasprintf("%s %s: no answer within %d s", program(k), args[0], (int)KUBECTL_TIMEOUT_S);
    } else if (status != 0) {
        *ret_error = error_text(k, &err, status);
    } else if (!buf_ok(out)) {
        *ret_error = xasprintf("%s %s: the answer is too long", program(k), args[0]);
    }
    buf_fini(&err);
    return is_ok;
}

json_t *kubectl_json(const struct kubectl *k, const char *const *args, char **ret_error) {
    json_error_t error;
    struct buf out;
    json_t *value = NULL;

    buf_init(&out, OUTPUT_MAX);
    if (kubectl_run(k, args, NULL, &out, ret_error)) {
        value = out.len == 0 ? json_null() : json_loadb((char *)out.ptr, out.len, 0, &error);
        if (value == NULL) {
            *ret_error =
                xasprintf("%s %s: the answer is no JSON: %s", program(k), args[0], error.text);
        }
    }
    buf_fini(&out);
    return value;
}

char *kubectl_namespace(const struct kubectl *k) {
    const char *const args[] = {"config", "view", "--minify", "-o", "jsonpath={..namespace}", NULL};
    char *error = NULL, *name;
    struct buf out;

    if (k->ns != NULL) {
        return xstrdup(k->ns);
    }
    buf_init(&out, 4096);
    bool is_ok = kubectl_run(k, args, NULL, &out, &error); // in a cluster there is no such file
    struct slice text = trim(buf_slice(&out));
    name = is_ok && text.len > 0 ? xasprintf("%.*s", (int)text.len, (const char *)text.ptr)
                                 : xstrdup("default");
    free(error);
    buf_fini(&out);
    return name;
}

// Port forwarding

static bool parse_port(struct buf *out, uint16_t *ret_port) {
    static const char prefix[] = "Forwarding from 127.0.0.1:";
    const char *text = buf_cstr(out), *at = strstr(text, prefix);
    uint64_t port;

    if (at == NULL || strchr(at, '\n') == NULL) {
        return false;
    }
    at += sizeof(prefix) - 1;
    if (!slice_to_u64(slice_make(at, strspn(at, "0123456789")), UINT16_MAX, &port)) {
        return false;
    }
    *ret_port = (uint16_t)port;
    return true;
}

bool kubectl_forward_open(const struct kubectl *k, const char *ns, const char *pod, uint16_t port,
                          struct kubectl_forward *ret_forward, char **ret_error) {
    char ports[16];
    char *name = xasprintf("pod/%s", pod);
    const char *const args[] = {"port-forward", "-n",        ns,    name,
                                "--address",    "127.0.0.1", ports, NULL};
    struct child child;
    struct buf out, err;
    bool is_open = false;

    snprintf(ports, sizeof(ports), ":%u", port);
    bool is_running = spawn(k, args, NULL, &child, ret_error);
    free(name);
    if (!is_running) {
        return false;
    }
    buf_init(&out, ERROR_MAX);
    buf_init(&err, ERROR_MAX);
    int64_t deadline_ms = now_ms() + FORWARD_TIMEOUT_S * 1000, left;
    struct pollfd fd = {.fd = child.out, .events = POLLIN};
    while (!is_open && (left = deadline_ms - now_ms()) > 0) {
        int n = poll(&fd, 1, (int)left);
        if (n > 0 && !read_some(child.out, &out)) {
            break;
        }
        is_open = parse_port(&out, &ret_forward->port);
    }
    *ret_forward =
        (struct kubectl_forward){.pid = child.pid, .fd = child.out, .port = ret_forward->port};
    if (!is_open) {
        kill(child.pid, SIGTERM);
        int status = wait_end(child.pid, now_ms() + END_TIMEOUT_MS);
        if (fcntl(child.err, F_SETFL, O_NONBLOCK) == 0) {
            read_some(child.err, &err);
        }
        *ret_error = error_text(k, &err, status);
        close(child.out);
    }
    close(child.err);
    buf_fini(&out);
    buf_fini(&err);
    return is_open;
}

void kubectl_forward_close(struct kubectl_forward *forward) {
    kill(forward->pid, SIGTERM);
    wait_end(forward->pid, now_ms() + END_TIMEOUT_MS);
    close(forward->fd);
}

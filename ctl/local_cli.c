// SPDX-License-Identifier: Apache-2.0

#include "ctl/local_cli.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/base/clock.h"
#include "ctl/local_control.h"
#include "ctl/local_json.h"
#include "ctl/local_net.h"
#include "ctl/local_status.h"
#include "ctl/local_super.h"
#include "ctl/local_sys.h"
#include "ctl/local_text.h"

void lab_cli_put_name(json_t *request, const char *where) {
    const char *slash = strchr(where, '/');
    char *ns = slash != NULL ? xstrndup(where, (size_t)(slash - where)) : xstrdup("default");
    js_set_str(request, "ns", ns);
    js_set_str(request, "name", slash != NULL ? slash + 1 : where);
    free(ns);
}

static json_t *ask(const char *dir, json_t *request) {
    char *error = NULL;
    json_t *answer = lab_request(dir, request, &error);
    if (answer == NULL) {
        fprintf(stderr, "ztunctl local: %s\n", error);
        free(error);
    } else if (!js_bool(answer, "ok", false)) {
        // What kubectl's users know is said in its words, without our name before it.
        const char *text = js_str(answer, "text", "failed");
        fprintf(stderr, "%s%s\n",
                strncasecmp(text, "error", 5) == 0 ? "" : "ztunctl local: ", text);
        json_decref(answer);
        return NULL;
    }
    return answer;
}

int lab_cli_simple(const char *dir, json_t *request) {
    json_t *answer = ask(dir, request);
    if (answer == NULL) {
        return 1;
    }
    fputs(js_str(answer, "text", ""), stdout);
    json_decref(answer);
    return 0;
}

// The child of exec, and the signals that are handed on to it.
static pid_t exec_pid;

static void pass_on(int sig) {
    if (exec_pid > 0) {
        kill(exec_pid, sig);
    }
}

static int wait_for_child(pid_t pid) {
    exec_pid = pid;
    signal(SIGINT, SIG_IGN); // the terminal sends these to both of us
    signal(SIGQUIT, SIG_IGN);
    signal(SIGTERM, pass_on);
    signal(SIGHUP, pass_on);
    int status;
    while (waitpid(pid, &status, 0) < 0) {
        if (errno != EINTR) {
            return 1;
        }
    }
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

static _Noreturn void exec_child(char **argv, char **env, const char *cwd) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (chdir(cwd) < 0) {
        fprintf(stderr, "ztunctl local: %s: %s\n", cwd, strerror(errno));
        _exit(126);
    }
    if (env != NULL) {
        environ = env;
    }
    execvp(argv[0], argv);
    fprintf(stderr, "ztunctl local: %s: %s\n", argv[0], strerror(errno));
    _exit(127);
}

static int exec_in_node(const char *dir, const char *node, char **argv) {
    json_t *answer = ask(dir, json_pack("{s:s, s:s}", "cmd", "node", "name", node));
    if (answer == NULL) {
        return 1;
    }
    int fd = lab_netns_open(js_str(answer, "netns", ""));
    json_decref(answer);
    if (fd < 0 || setns(fd, CLONE_NEWNET) < 0) {
        fprintf(stderr, "ztunctl local: network namespace of %s: %s\n", node, strerror(errno));
        return 1;
    }
    close(fd);
    execvp(argv[0], argv);
    fprintf(stderr, "ztunctl local: %s: %s\n", argv[0], strerror(errno));
    return 127;
}

static int exec_in_container(const json_t *answer, char **argv) {
    struct strv env = {0};
    size_t i;
    json_t *item;
    json_array_foreach(js_get(answer, "env"), i, item) {
        strv_addf(&env, "%s", json_string_value(item));
    }
    const char *term = getenv("TERM");
    if (term != NULL && env_get(env.items, "TERM") == NULL) {
        env_set(&env, "TERM", term);
    }
    int fd = (int)syscall(SYS_pidfd_open, (pid_t)js_int(answer, "pid", 0), 0);
    int all = CLONE_NEWNET | CLONE_NEWNS | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWPID;
    if (fd < 0 || setns(fd, all) < 0) {
        fprintf(stderr, "ztunctl local: the container has gone: %s\n", strerror(errno));
        strv_free(&env);
        return 1;
    }
    close(fd);
    pid_t pid = fork();
    if (pid == 0) {
        exec_child(argv, env.items, js_str(answer, "cwd", "/"));
    }
    int code = pid < 0 ? 1 : wait_for_child(pid);
    if (code != 0) {
        fprintf(stderr, "command terminated with exit code %d\n", code);
    }
    fflush(NULL);
    // Our children would be in the pod's PID namespace, where a leak checker cannot start its
    // helper.
    _exit(code);
}

// NULL: said why.
static json_t *ask_container(const char *dir, const char *where, const char *container) {
    json_t *request = json_pack("{s:s}", "cmd", "exec");
    lab_cli_put_name(request, where);
    if (container != NULL) {
        js_set_str(request, "container", container);
    }
    char *error = NULL;
    json_t *answer = lab_request(dir, request, &error);
    if (answer == NULL) {
        fprintf(stderr, "ztunctl local: %s\n", error);
    } else if (js_str(answer, "log", NULL) == NULL) {
        fprintf(stderr, "%s\n", js_str(answer, "text", ""));
        json_decref(answer);
        answer = NULL;
    } else if (container == NULL && js_len(answer, "containers") > 1) {
        fprintf(stderr, "Defaulted container \"%s\" out of: ", js_str(answer, "container", ""));
        size_t i;
        json_t *name;
        json_array_foreach(js_get(answer, "containers"), i, name) {
            fprintf(stderr, "%s%s", i > 0 ? ", " : "", json_string_value(name));
        }
        fputs("\n", stderr);
    }
    free(error);
    return answer;
}

int lab_cli_exec(const char *dir, const char *where, const char *container, char **argv) {
    if (strchr(where, '/') == NULL) {
        return exec_in_node(dir, where, argv);
    }
    json_t *answer = ask_container(dir, where, container);
    if (answer == NULL) {
        return 1;
    }
    int code = 1;
    if (js_bool(answer, "ok", false)) {
        code = exec_in_container(answer, argv);
    } else {
        fprintf(stderr, "%s\n", js_str(answer, "text", ""));
    }
    json_decref(answer);
    return code;
}

// Where the last n lines of [from, to) begin.
static off_t tail_of(int fd, off_t from, off_t to, long n) {
    char buf[65536];
    long n_lines = 0;
    off_t end = to;
    while (end > from) {
        size_t len = (size_t)MIN((off_t)sizeof(buf), end - from);
        ssize_t got = pread(fd, buf, len, end - (off_t)len);
        if (got != (ssize_t)len) {
            return from;
        }
        for (size_t i = len; i-- > 0;) {
            off_t at = end - (off_t)len + (off_t)i;
            // What follows a line's end is a line, unless nothing does.
            if (buf[i] == '\n' && at + 1 < to && ++n_lines == n) {
                return at + 1;
            }
        }
        end -= (off_t)len;
    }
    return from;
}

static int copy_log(const char *path, off_t from, off_t to, const struct lab_logs *logs) {
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 && errno != ENOENT) {
        fprintf(stderr, "ztunctl local: %s: %s\n", path, strerror(errno));
        return 1;
    }
    struct stat st = {0};
    if (fd >= 0 && fstat(fd, &st) == 0) {
        to = to >= 0 ? to : st.st_size;
        from = from <= st.st_size ? from : 0; // it started over
        from = logs->tail == 0 ? to : logs->tail > 0 ? tail_of(fd, from, to, logs->tail) : from;
    }
    char buf[65536];
    off_t at = from;
    while (fd >= 0) {
        size_t most = sizeof(buf);
        if (!logs->is_following) {
            most = to > at ? (size_t)MIN((off_t)sizeof(buf), to - at) : 0;
        }
        ssize_t n = most > 0 ? pread(fd, buf, most, at) : 0;
        if (n > 0) {
            at += n;
            if (fwrite(buf, 1, (size_t)n, stdout) != (size_t)n || fflush(stdout) != 0) {
                break;
            }
            continue;
        }
        if (!logs->is_following || fstat(fd, &st) < 0 || st.st_nlink == 0) {
            break;
        }
        at = st.st_size < at ? 0 : at; // it started over
        usleep(50000);
    }
    if (fd >= 0) {
        close(fd);
    }
    return 0;
}

static int container_logs(const char *dir, const char *where, const struct lab_logs *logs) {
    json_t *answer = ask_container(dir, where, logs->container);
    if (answer == NULL) {
        return 1;
    }
    off_t from = (off_t)js_int(answer, "logFrom", 0), to = -1;
    int code = 0;
    if (logs->is_previous) {
        to = from;
        from = (off_t)js_int(answer, "logPrevious", -1);
    }
    if (from < 0) {
        fprintf(stderr,
                "Error from server (BadRequest): previous terminated container \"%s\" in pod "
                "\"%s\" not found\n",
                js_str(answer, "container", ""), strchr(where, '/') + 1);
        code = 1;
    } else {
        code = copy_log(js_str(answer, "log", ""), from, to, logs);
    }
    json_decref(answer);
    return code;
}

int lab_cli_logs(const char *dir, const char *where, const struct lab_logs *logs) {
    if (strchr(where, '/') != NULL) {
        return container_logs(dir, where, logs);
    }
    char *path = strcmp(where, "supervisor") == 0 ? xasprintf("%s/supervisor.log", dir)
                                                  : xasprintf("%s/logs/ztun_%s.log", dir, where);
    int code = copy_log(path, 0, -1, logs);
    free(path);
    return code;
}

bool lab_cli_wait(const char *dir, int timeout_s) {
    uint64_t deadline = clock_mono_ns() + (uint64_t)timeout_s * NS_PER_SEC;
    for (;;) {
        json_t *status = ask(dir, json_pack("{s:s}", "cmd", "status"));
        if (status == NULL) {
            return false;
        }
        lab_status_ask_mesh(status);
        bool is_ready = lab_status_is_ready(status);
        if (!is_ready && clock_mono_ns() >= deadline) {
            fprintf(stderr, "ztunctl local: not ready after %d s\n", timeout_s);
            lab_status_print(status, stderr);
            json_decref(status);
            return false;
        }
        json_decref(status);
        if (is_ready) {
            return true;
        }
        usleep(20000);
    }
}

static void kill_supervisor(const char *dir) {
    char *path = xasprintf("%s/supervisor.pid", dir);
    char *text = sys_read_file(path, 32, NULL);
    long pid = text != NULL ? strtol(text, NULL, 10) : 0;
    // The lock is held, so the process that wrote this lives.
    if (pid > 1 && lab_super_is_alive(dir)) {
        kill((pid_t)pid, SIGKILL);
    }
    free(text);
    free(path);
}

static bool wait_until_dead(const char *dir, uint32_t ms) {
    uint64_t deadline = clock_mono_ns() + ms * NS_PER_MS;
    while (lab_super_is_alive(dir)) {
        if (clock_mono_ns() > deadline) {
            return false;
        }
        usleep(5000);
    }
    return true;
}

int lab_cli_down(const char *name, const char *dir) {
    bool was_alive = lab_super_is_alive(dir);
    if (was_alive) {
        char *error = NULL;
        json_decref(lab_request(dir, json_pack("{s:s}", "cmd", "down"), &error));
        free(error);
        if (!wait_until_dead(dir, 10000)) {
            kill_supervisor(dir);
            wait_until_dead(dir, 2000);
        }
    }
    // Processes first, then names; twice, because a process may have been on its way into a
    // namespace.
    int n_left = lab_net_sweep(name);
    n_left += lab_net_sweep(name);
    bool had_files = access(dir, F_OK) == 0;
    sys_rm_rf(dir);
    if (!was_alive && n_left == 0 && !had_files) {
        printf("lab %s: nothing to remove\n", name);
    } else {
        printf("lab %s is down\n", name);
    }
    return access(dir, F_OK) == 0 ? 1 : 0;
}

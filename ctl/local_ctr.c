// SPDX-License-Identifier: Apache-2.0

#include "ctl/local_ctr.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/base/clock.h"
#include "ctl/local_env.h"
#include "ctl/local_json.h"
#include "ctl/local_pod.h"
#include "ctl/local_probe.h"
#include "ctl/local_rootfs.h"
#include "ctl/local_sys.h"
#include "ctl/local_volume.h"

static _Noreturn void spawn_fail(const struct lab_spawn *s, const char *what) {
    if (s->report_fd >= 0) {
        dprintf(s->report_fd, "%s", what);
    }
    dprintf(2, "%s\n", what);
    _exit(127);
}

static void enter_mounts(const struct lab_spawn *s) {
    char error[300];
    if (s->rootfs != NULL) {
        if (rootfs_enter(s->rootfs, error, sizeof(error)) < 0) {
            spawn_fail(s, error);
        }
        return;
    }
    if (setns(s->join_fd, CLONE_NEWNS) < 0) {
        snprintf(error, sizeof(error), "mount namespace: %s", strerror(errno));
        spawn_fail(s, error);
    }
}

static _Noreturn void spawn_child(const struct lab_spawn *s) {
    char error[300];
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    setsid();
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    dup2(null, 0);
    dup2(s->out_fd >= 0 ? s->out_fd : null, 1);
    dup2(s->out_fd >= 0 ? s->out_fd : null, 2);
    if (setns(s->pod->netns_fd, CLONE_NEWNET) < 0 ||
        setns(s->pod->pause_pidfd, CLONE_NEWUTS | CLONE_NEWIPC) < 0) {
        snprintf(error, sizeof(error), "namespaces: %s", strerror(errno));
        spawn_fail(s, error);
    }
    enter_mounts(s);
    if (chdir(s->cwd != NULL ? s->cwd : "/") < 0) {
        snprintf(error, sizeof(error), "working directory %s: %s", s->cwd, strerror(errno));
        spawn_fail(s, error);
    }
    if ((s->gid >= 0 && (setgroups(0, NULL) < 0 || setgid((gid_t)s->gid) < 0)) ||
        (s->uid >= 0 && setuid((uid_t)s->uid) < 0)) {
        snprintf(error, sizeof(error), "user: %s", strerror(errno));
        spawn_fail(s, error);
    }
    prctl(PR_SET_PDEATHSIG, SIGKILL); // a change of user cleared it
    sys_child_reset(-1);
    environ = (char **)s->env;
    execvpe(s->argv[0], s->argv, s->env);
    snprintf(error, sizeof(error), "exec %s: %s", s->argv[0], strerror(errno));
    spawn_fail(s, error);
}

pid_t lab_spawn(const struct lab_spawn *spawn) {
    struct lab *lab = spawn->pod->lab;
    // Only children are affected, and we come back at once.
    if (setns(spawn->pod->pidns_fd, CLONE_NEWPID) < 0) {
        return -errno;
    }
    pid_t pid = fork();
    if (pid == 0) {
        spawn_child(spawn);
    }
    int rc = pid < 0 ? -errno : pid;
    CHECK(setns(lab->pidns_fd, CLONE_NEWPID) == 0);
    return rc;
}

bool lab_ctr_is_running(const struct lab_ctr *ctr) {
    return ctr->state == CTR_RUNNING && ctr->setup.fd < 0;
}

static void on_exit_status(void *arg, pid_t pid, int status) {
    struct lab_ctr *ctr = arg;
    // The rest of its process group: what its main process left behind goes with it.
    kill(-pid, SIGKILL);
    if (ctr->pid != pid) {
        return;
    }
    if (ctr->setup.fd >= 0) { // the report and the end came in the same round
        ssize_t n = read(ctr->setup.fd, ctr->setup_error, sizeof(ctr->setup_error) - 1);
        ctr->setup_error[n > 0 ? n : 0] = '\0';
        lab_fd_close(&ctr->setup);
    }
    ctr->pid = 0;
    ctr->exit_status = status;
    ctr->has_ended = true;
    ctr->ended_s = clock_wall_s();
    ctr->state = CTR_TERMINATED;
    ctr->is_ready = ctr->is_started = false;
    lab_probe_stop_all(ctr);
    lab_timer_stop(&ctr->hook_timer);
    lab_fd_close(&ctr->hook_fd);
    ctr->is_hook_running = ctr->is_term_sent = false;
    lab_pod_ctr_ended(ctr);
}

static void post_start(struct lab_ctr *ctr) {
    const json_t *hook = js_get(ctr->spec, "lifecycle.postStart");
    if (js_get(hook, "exec.command") != NULL) {
        pid_t pid = lab_ctr_exec(ctr, js_get(hook, "exec.command"));
        if (pid < 0) {
            lab_log("postStart of %s: %s", ctr->name, strerror(-pid));
        }
    } else if (hook != NULL) {
        lab_note(ctr->pod->lab, "lifecycle.postStart: only exec is run");
    }
}

static void on_setup(void *arg, uint32_t events) {
    struct lab_ctr *ctr = arg;
    size_t have = strlen(ctr->setup_error);
    ssize_t n = read(ctr->setup.fd, ctr->setup_error + have, sizeof(ctr->setup_error) - 1 - have);
    if (n > 0) {
        ctr->setup_error[have + (size_t)n] = '\0';
        return;
    }
    lab_fd_close(&ctr->setup);
    if (ctr->setup_error[0] == '\0') {
        post_start(ctr);
        lab_probe_start_all(ctr);
    }
    lab_pod_ctr_changed(ctr);
}

static int open_log(struct lab_ctr *ctr) {
    int fd = open(ctr->log, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
    struct stat st;
    if (fd >= 0 && fstat(fd, &st) == 0) {
        ctr->log_previous = ctr->has_ended ? ctr->log_from : -1;
        ctr->log_from = st.st_size;
    }
    return fd < 0 ? -errno : fd;
}

static long user_of(const struct lab_ctr *ctr, const char *field) {
    char path[64];
    snprintf(path, sizeof(path), "securityContext.%s", field);
    long long own = js_int(ctr->spec, path, -1);
    return own >= 0 ? (long)own : (long)js_int(js_get(ctr->pod->object->doc, "spec"), path, -1);
}

static int spawn_ctr(struct lab_ctr *ctr, const struct rootfs *rootfs, char *const *argv) {
    int report[2];
    int log = open_log(ctr);
    if (log < 0 || pipe2(report, O_CLOEXEC | O_NONBLOCK) < 0) {
        int rc = -errno;
        if (log >= 0) {
            close(log);
        }
        return rc;
    }
    struct lab_spawn spawn = {
        .pod = ctr->pod,
        .rootfs = rootfs,
        .join_fd = -1,
        .argv = argv,
        .env = ctr->env,
        .cwd = ctr->cwd,
        .out_fd = log,
        .report_fd = report[1],
        .uid = user_of(ctr, "runAsUser"),
        .gid = user_of(ctr, "runAsGroup"),
    };
    pid_t pid = lab_spawn(&spawn);
    close(log);
    close(report[1]);
    if (pid < 0) {
        close(report[0]);
        return pid;
    }
    ctr->pid = pid;
    ctr->state = CTR_RUNNING;
    ctr->started_s = clock_wall_s();
    ctr->started_ns = clock_mono_ns();
    ctr->setup_error[0] = '\0';
    lab_fd_open(&ctr->setup, report[0], EPOLLIN, on_setup, ctr);
    lab_child_watch(pid, on_exit_status, ctr);
    return 0;
}

int lab_ctr_start(struct lab_ctr *ctr) {
    struct strv env = {0}, argv = {0};
    struct rootfs rootfs = {0};
    int rc = lab_env_build(ctr->pod, ctr->spec, &env, &argv);
    if (rc < 0) {
        return rc;
    }
    rc = lab_volume_mounts(ctr->pod, ctr->spec, &rootfs);
    if (rc == 0) {
        strv_free_items(ctr->env);
        ctr->env = env.items;
        env.items = NULL;
        free(ctr->cwd);
        const char *cwd = js_str(ctr->spec, "workingDir", NULL);
        ctr->cwd = cwd != NULL ? xstrdup(cwd) : NULL;
        rc = spawn_ctr(ctr, &rootfs, argv.items);
        rootfs_fini(&rootfs);
        if (rc < 0) {
            ctr->pod->waiting_reason = "CreateContainerError";
            snprintf(ctr->pod->waiting_message, sizeof(ctr->pod->waiting_message), "%s",
                     strerror(-rc));
        }
    }
    strv_free_items(env.items);
    strv_free(&argv);
    return rc;
}

pid_t lab_ctr_exec(struct lab_ctr *ctr, const json_t *command) {
    struct strv argv = {0};
    size_t i;
    json_t *item;
    json_array_foreach((json_t *)command, i, item) {
        strv_addf(&argv, "%s", json_is_string(item) ? json_string_value(item) : "");
    }
    if (argv.n == 0 || ctr->pid == 0) {
        strv_free(&argv);
        return -EINVAL;
    }
    int join_fd = (int)syscall(SYS_pidfd_open, ctr->pid, 0);
    if (join_fd < 0) {
        int rc = -errno;
        strv_free(&argv);
        return rc;
    }
    struct lab_spawn spawn = {
        .pod = ctr->pod,
        .join_fd = join_fd,
        .argv = argv.items,
        .env = ctr->env,
        .cwd = ctr->cwd,
        .out_fd = -1,
        .report_fd = -1,
        .uid = user_of(ctr, "runAsUser"),
        .gid = user_of(ctr, "runAsGroup"),
    };
    pid_t pid = lab_spawn(&spawn);
    close(join_fd);
    strv_free(&argv);
    return pid;
}

static void send_term(void *arg) {
    struct lab_ctr *ctr = arg;
    lab_timer_stop(&ctr->hook_timer);
    ctr->is_hook_running = false;
    if (ctr->pid > 0 && !ctr->is_term_sent) {
        ctr->is_term_sent = true;
        const char *name = js_str(ctr->spec, "lifecycle.stopSignal", "SIGTERM");
        int sig = strcmp(name, "SIGINT") == 0    ? SIGINT
                  : strcmp(name, "SIGQUIT") == 0 ? SIGQUIT
                                                 : SIGTERM;
        kill(ctr->pid, sig);
    }
}

static void on_hook_end(void *arg, pid_t pid, int status) {
    struct lab_ctr *ctr = arg;
    if (ctr->is_hook_running && ctr->hook_pid == pid) {
        ctr->hook_pid = 0;
        send_term(ctr);
    }
}

void lab_ctr_stop(struct lab_ctr *ctr) {
    if (ctr->pid == 0 || ctr->is_hook_running || ctr->is_term_sent) {
        return;
    }
    const json_t *hook = js_get(ctr->spec, "lifecycle.preStop");
    const json_t *command = js_get(hook, "exec.command");
    if (js_get(hook, "sleep") != NULL) {
        ctr->is_hook_running = true;
        uint64_t ms = (uint64_t)MAX(js_int(hook, "sleep.seconds", 0), 0) * 1000;
        lab_timer_set(&ctr->hook_timer, ms, send_term, ctr);
        return;
    }
    pid_t pid = command != NULL && lab_ctr_is_running(ctr) ? lab_ctr_exec(ctr, command) : 0;
    if (pid > 0) {
        ctr->is_hook_running = true;
        ctr->hook_pid = pid;
        lab_child_watch(pid, on_hook_end, ctr);
        return;
    }
    if (js_get(hook, "httpGet") != NULL && lab_probe_hook(ctr, hook, send_term)) {
        ctr->is_hook_running = true;
        return;
    }
    send_term(ctr);
}

void lab_ctr_kill(struct lab_ctr *ctr) {
    if (ctr->pid > 0) {
        kill(-ctr->pid, SIGKILL);
        kill(ctr->pid, SIGKILL);
    }
}

void lab_ctr_fini(struct lab_ctr *ctr) {
    lab_probe_stop_all(ctr);
    lab_timer_stop(&ctr->timer);
    lab_timer_stop(&ctr->hook_timer);
    lab_fd_close(&ctr->setup);
    lab_fd_close(&ctr->hook_fd);
    lab_child_forget(ctr);
    strv_free_items(ctr->env);
    free(ctr->cwd);
    free(ctr->log);
    *ctr = (struct lab_ctr){.setup.fd = -1, .hook_fd.fd = -1};
}

const char *lab_ctr_waiting_reason(const struct lab_ctr *ctr) {
    if (ctr->state == CTR_BACKOFF) {
        return "CrashLoopBackOff";
    }
    if (ctr->pod->waiting_reason != NULL) {
        return ctr->pod->waiting_reason;
    }
    return ctr->pod->n_init > 0 && !ctr->is_init ? "PodInitializing" : "ContainerCreating";
}

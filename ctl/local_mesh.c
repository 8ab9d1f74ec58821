// SPDX-License-Identifier: Apache-2.0

#include "ctl/local_mesh.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/base/clock.h"
#include "ctl/local_json.h"
#include "ctl/local_rules.h"
#include "ctl/local_store.h"
#include "ctl/local_sys.h"
#include "ctl/local_text.h"

enum { BACKOFF_FIRST_MS = 20, BACKOFF_MAX_MS = 5000, BACKOFF_RESET_S = 10, ENROL_MAX_S = 10 };

char *lab_mesh_log_path(const struct lab_node *node) {
    return xasprintf("%s/ztun_%s.log", node->lab->log_dir, node->name);
}

static void build_argv(const struct lab_node *node, struct strv *argv) {
    const struct lab *lab = node->lab;
    strv_addf(argv, "%s", lab->opt.ztun_bin);
    strv_addf(argv, "--config");
    strv_addf(argv, "%s", lab->config_dir);
    strv_addf(argv, "--ca-dir");
    strv_addf(argv, "%s", lab->ca_dir);
    strv_addf(argv, "--state-dir");
    strv_addf(argv, "%s", lab->state_dir);
    strv_addf(argv, "--node");
    strv_addf(argv, "%s", node->name);
    size_t i;
    json_t *item;
    json_array_foreach(lab->opt.ztun_args, i, item) {
        strv_addf(argv, "%s", json_string_value(item));
    }
}

static _Noreturn void mesh_child(const struct lab_node *node, char **argv, int log) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    setsid();
    int null = open("/dev/null", O_RDONLY | O_CLOEXEC);
    dup2(null, 0);
    dup2(log, 1);
    dup2(log, 2);
    if (setns(node->netns_fd, CLONE_NEWNET) < 0) {
        dprintf(2, "network namespace: %s\n", strerror(errno));
        _exit(127);
    }
    size_t i;
    json_t *item;
    json_array_foreach(node->lab->opt.ztun_env, i, item) {
        putenv((char *)json_string_value(item));
    }
    sys_child_reset(-1);
    execvp(argv[0], argv);
    dprintf(2, "%s: %s\n", argv[0], strerror(errno));
    _exit(127);
}

static void on_timer(void *arg) {
    lab_mesh_start(arg);
}

static void on_end(void *arg, pid_t pid, int status) {
    struct lab_node *node = arg;
    if (node->ztun_pid != pid) {
        return;
    }
    node->ztun_pid = 0;
    if (node->lab->is_down) {
        return;
    }
    uint64_t ran_s = (clock_mono_ns() - node->ztun_started_ns) / NS_PER_SEC;
    node->ztun_backoff_ms = ran_s >= BACKOFF_RESET_S || node->ztun_backoff_ms == 0
                                ? BACKOFF_FIRST_MS
                                : MIN(node->ztun_backoff_ms * 2, (uint32_t)BACKOFF_MAX_MS);
    node->ztun_restarts++;
    lab_log("ztun on %s ended (%s %d), again in %u ms", node->name,
            WIFEXITED(status) ? "exit" : "signal",
            WIFEXITED(status) ? WEXITSTATUS(status) : WTERMSIG(status), node->ztun_backoff_ms);
    lab_timer_set(&node->ztun_timer, node->ztun_backoff_ms, on_timer, node);
}

void lab_mesh_start(struct lab_node *node) {
    if (!node->lab->opt.has_mesh || node->ztun_pid > 0) {
        return;
    }
    char *path = lab_mesh_log_path(node);
    int log = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
    free(path);
    struct strv argv = {0};
    build_argv(node, &argv);
    pid_t pid = fork();
    if (pid == 0) {
        mesh_child(node, argv.items, log);
    }
    strv_free(&argv);
    close(log);
    if (pid < 0) {
        lab_log("cannot start ztun: %s", strerror(errno));
        lab_timer_set(&node->ztun_timer, BACKOFF_MAX_MS, on_timer, node);
        return;
    }
    node->ztun_pid = pid;
    node->ztun_started_ns = clock_mono_ns();
    lab_child_watch(pid, on_end, node);
}

void lab_mesh_stop_all(struct lab *lab, uint32_t wait_ms) {
    for (uint32_t i = 0; i < lab->n_nodes; i++) {
        lab_timer_stop(&lab->nodes[i].ztun_timer);
        if (lab->nodes[i].ztun_pid > 0) {
            kill(lab->nodes[i].ztun_pid, wait_ms > 0 ? SIGTERM : SIGKILL);
        }
    }
    uint64_t deadline = clock_mono_ns() + wait_ms * NS_PER_MS;
    for (uint32_t i = 0; i < lab->n_nodes; i++) {
        struct lab_node *node = &lab->nodes[i];
        while (node->ztun_pid > 0 && waitpid(node->ztun_pid, NULL, WNOHANG) == 0) {
            if (clock_mono_ns() > deadline) {
                kill(node->ztun_pid, SIGKILL);
            }
            usleep(2000);
        }
        node->ztun_pid = 0;
    }
}

// As Istio's CNI agent decides it.
static bool is_in_mesh(const struct lab_pod *pod) {
    static const char mode[] = "istio.io/dataplane-mode";
    const json_t *doc = pod->object->doc;
    const char *own = js_label(doc, mode);
    const struct lab_object *ns = lab_store_find(pod->lab, "Namespace", "", js_ns(doc));
    const char *of_ns = ns != NULL ? js_label(ns->doc, mode) : NULL;
    if (pod->is_host_network || js_annotation(doc, "sidecar.istio.io/status") != NULL ||
        (own != NULL && strcmp(own, "none") == 0)) {
        return false;
    }
    return (own != NULL && strcmp(own, "ambient") == 0) ||
           (of_ns != NULL && strcmp(of_ns, "ambient") == 0);
}

bool lab_mesh_must_wait(struct lab_pod *pod) {
    if (!pod->lab->opt.has_mesh || !is_in_mesh(pod)) {
        return false;
    }
    uint64_t now = clock_mono_ns();
    if (pod->sandbox_ns + ENROL_MAX_S * NS_PER_SEC < now) {
        lab_note(pod->lab, "Pod %s/%s starts although ztun did not take it in within %d s",
                 js_ns(pod->object->doc), js_name(pod->object->doc), ENROL_MAX_S);
        return false;
    }
    // Sockets come first and the redirection last: with it, the pod is served.
    return !lab_rules_has_table(pod->netns_fd, "inet ztun");
}

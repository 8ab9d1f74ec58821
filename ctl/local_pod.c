// SPDX-License-Identifier: Apache-2.0

#include "ctl/local_pod.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/base/clock.h"
#include "ctl/local_apply.h"
#include "ctl/local_ctr.h"
#include "ctl/local_json.h"
#include "ctl/local_mesh.h"
#include "ctl/local_net.h"
#include "ctl/local_probe.h"
#include "ctl/local_store.h"
#include "ctl/local_sys.h"
#include "ctl/local_volume.h"

enum { BACKOFF_FIRST_MS = 300, BACKOFF_MAX_MS = 30000, BACKOFF_RESET_S = 60, MESH_POLL_MS = 10 };

static void add_ctrs(struct lab_pod *pod, const json_t *list, bool is_init) {
    const json_t *doc = pod->object->doc;
    size_t i;
    json_t *spec;
    json_array_foreach((json_t *)list, i, spec) {
        struct lab_ctr *ctr = &pod->ctrs[pod->n_ctrs++];
        ctr->pod = pod;
        ctr->spec = spec;
        ctr->name = js_str(spec, "name", "");
        ctr->is_init = is_init;
        ctr->is_sidecar = is_init && strcmp(js_str(spec, "restartPolicy", ""), "Always") == 0;
        ctr->setup.fd = ctr->hook_fd.fd = -1;
        ctr->log_previous = -1;
        ctr->log =
            xasprintf("%s/%s_%s_%s.log", pod->lab->log_dir, js_ns(doc), js_name(doc), ctr->name);
        static const char *const names[PROBE_N_KINDS] = {"startupProbe", "livenessProbe",
                                                         "readinessProbe"};
        for (int kind = 0; kind < PROBE_N_KINDS; kind++) {
            ctr->probes[kind] = (struct lab_probe){
                .ctr = ctr, .spec = js_get(spec, names[kind]), .kind = (uint8_t)kind, .fd.fd = -1};
        }
    }
}

struct lab_pod *lab_pod_new(struct lab *lab, struct lab_object *object) {
    struct lab_pod *pod = xcalloc(1, sizeof(*pod));
    const json_t *spec = js_get(object->doc, "spec");
    pod->lab = lab;
    pod->object = object;
    pod->netns_fd = pod->pause_pidfd = pod->pidns_fd = -1;
    pod->is_host_network = js_bool(spec, "hostNetwork", false);
    pod->start_order = ++lab->next_order;
    pod->dir = xasprintf("%s/%s", lab->pods_dir, js_str(object->doc, "metadata.uid", "x"));
    size_t n = js_len(spec, "initContainers") + js_len(spec, "containers");
    pod->ctrs = xcalloc(n + 1, sizeof(*pod->ctrs));
    add_ctrs(pod, js_get(spec, "initContainers"), true);
    pod->n_init = pod->n_ctrs;
    add_ctrs(pod, js_get(spec, "containers"), false);
    list_init(&pod->link);
    list_push_back(&lab->pods, &pod->link);
    lab->n_pods++;
    lab_dirty(lab);
    return pod;
}

struct lab_pod *lab_pod_find(struct lab *lab, const char *ns, const char *name) {
    LIST_EACH(node, &lab->pods) {
        struct lab_pod *pod = LAB_POD(node);
        if (strcmp(js_name(pod->object->doc), name) == 0 &&
            strcmp(js_ns(pod->object->doc), ns) == 0) {
            return pod;
        }
    }
    return NULL;
}

struct lab_ctr *lab_pod_ctr(struct lab_pod *pod, const char *name) {
    for (uint32_t i = name != NULL ? 0 : pod->n_init; i < pod->n_ctrs; i++) {
        if (name == NULL || strcmp(pod->ctrs[i].name, name) == 0) {
            return &pod->ctrs[i];
        }
    }
    return NULL;
}

bool lab_pod_is_active(const struct lab_pod *pod) {
    return pod->state != POD_STOPPING && pod->state != POD_DONE;
}

bool lab_pod_is_ready(const struct lab_pod *pod) {
    bool is_ready =
        pod->state == POD_RUNNING || (pod->state == POD_STOPPING && pod->is_initialized);
    for (uint32_t i = 0; i < pod->n_ctrs; i++) {
        const struct lab_ctr *ctr = &pod->ctrs[i];
        is_ready = is_ready && ((ctr->is_init && !ctr->is_sidecar) || ctr->is_ready);
    }
    return is_ready;
}

// PID 1 of the pod: it holds the namespaces and reaps what its containers leave behind. Its end is
// the end of every process in the pod.
static _Noreturn void pause_child(struct lab_pod *pod) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    prctl(PR_SET_NAME, "pause");
    const json_t *doc = pod->object->doc;
    const char *host =
        pod->is_host_network ? pod->node->name : js_str(doc, "spec.hostname", js_name(doc));
    if (setns(pod->netns_fd, CLONE_NEWNET) < 0 || sethostname(host, strlen(host)) < 0) {
        _exit(1);
    }
    setsid();
    sys_child_reset(-1);
    signal(SIGCHLD, SIG_IGN);
    int null = open("/dev/null", O_RDWR);
    for (int fd = 0; fd < 3; fd++) {
        dup2(null, fd);
    }
    if (chdir("/") < 0) {
        _exit(1);
    }
    close_range(3, ~0U, 0);
    for (;;) {
        pause();
    }
}

static void finish(struct lab_pod *pod);

static void on_pause_exit(void *arg, pid_t pid, int status) {
    struct lab_pod *pod = arg;
    pod->pause_pid = 0;
    if (pod->state == POD_STOPPING) {
        finish(pod);
        return;
    }
    lab_log("pod %s/%s: its sandbox died", js_ns(pod->object->doc), js_name(pod->object->doc));
    pod->state = POD_DONE;
    pod->is_failed = true;
    lab_dirty(pod->lab);
}

static int start_pause(struct lab_pod *pod) {
    pid_t pid = (pid_t)syscall(SYS_clone, CLONE_NEWPID | CLONE_NEWUTS | CLONE_NEWIPC | SIGCHLD,
                               NULL, NULL, NULL, NULL);
    if (pid == 0) {
        pause_child(pod);
    }
    if (pid < 0) {
        return -errno;
    }
    char path[64];
    snprintf(path, sizeof(path), "/proc/%d/ns/pid", pid);
    pod->pause_pid = pid;
    pod->pause_pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
    pod->pidns_fd = open(path, O_RDONLY | O_CLOEXEC);
    lab_child_watch(pid, on_pause_exit, pod);
    return pod->pause_pidfd < 0 || pod->pidns_fd < 0 ? -EIO : 0;
}

// Where the pod's DNS questions go that the mesh does not answer itself.
static void annotate_nameservers(struct lab_pod *pod) {
    char list[2 * IP_TEXT_MAX + 1] = "", one[IP_TEXT_MAX];
    for (int f = 0; f < 2; f++) {
        if (pod->ips[f].family != 0) {
            size_t len = strlen(list);
            snprintf(list + len, sizeof(list) - len, "%s%s", len > 0 ? "," : "",
                     ip_text(&pod->lab->dns_ips[f], one));
        }
    }
    if (js_annotation(pod->object->doc, "ztun.io/nameservers") == NULL) {
        js_set_annotation(pod->object->doc, "ztun.io/nameservers", list);
    }
}

static int start_sandbox(struct lab_pod *pod) {
    int rc = 0;
    if (pod->is_host_network) {
        pod->netns = xstrdup(pod->node->netns);
        pod->netns_fd = lab_netns_open(pod->netns);
        rc = pod->netns_fd < 0 ? pod->netns_fd : 0;
    } else {
        rc = lab_net_add_pod(pod);
        if (rc == 0) {
            js_set_annotation(pod->object->doc, "ztun.io/netns", pod->netns);
            annotate_nameservers(pod);
        }
    }
    if (rc == 0) {
        rc = start_pause(pod);
    }
    if (rc < 0) {
        pod->waiting_reason = "CreatePodSandboxError";
        snprintf(pod->waiting_message, sizeof(pod->waiting_message), "%s", strerror(-rc));
        return rc;
    }
    pod->has_sandbox = true;
    pod->sandbox_ns = clock_mono_ns();
    lab_dirty(pod->lab);
    return 0;
}

static void start_or_wait(struct lab_ctr *ctr) {
    struct lab_pod *pod = ctr->pod;
    int rc = lab_ctr_start(ctr);
    if (rc == 0) {
        pod->waiting_reason = NULL;
        pod->waiting_message[0] = '\0';
        lab_dirty(pod->lab);
    }
}

static void on_backoff_over(void *arg) {
    struct lab_ctr *ctr = arg;
    if (ctr->state == CTR_BACKOFF && ctr->pod->state != POD_STOPPING) {
        ctr->state = CTR_WAITING;
        ctr->restarts++;
        lab_pod_step(ctr->pod);
        lab_dirty(ctr->pod->lab);
    }
}

static void back_off(struct lab_ctr *ctr) {
    uint64_t ran_s = (clock_mono_ns() - ctr->started_ns) / NS_PER_SEC;
    if (ran_s >= BACKOFF_RESET_S || ctr->backoff_ms == 0) {
        ctr->backoff_ms = BACKOFF_FIRST_MS;
    } else {
        ctr->backoff_ms = MIN(ctr->backoff_ms * 2, (uint32_t)BACKOFF_MAX_MS);
    }
    ctr->state = CTR_BACKOFF;
    lab_timer_set(&ctr->timer, ctr->backoff_ms, on_backoff_over, ctr);
}

static bool restarts(const struct lab_ctr *ctr) {
    const char *policy = js_str(ctr->pod->object->doc, "spec.restartPolicy", "Always");
    bool is_ok = WIFEXITED(ctr->exit_status) && WEXITSTATUS(ctr->exit_status) == 0;
    if (ctr->is_sidecar) {
        return true;
    }
    if (ctr->is_init) {
        return !is_ok && strcmp(policy, "Never") != 0;
    }
    return strcmp(policy, "Always") == 0 || (strcmp(policy, "OnFailure") == 0 && !is_ok);
}

// All containers have ended for good: the sidecars follow, and the pod is Succeeded or Failed.
static void check_done(struct lab_pod *pod) {
    bool is_failed = false;
    for (uint32_t i = pod->n_init; i < pod->n_ctrs; i++) {
        if (pod->ctrs[i].state != CTR_TERMINATED) {
            return;
        }
        is_failed = is_failed || pod->ctrs[i].exit_status != 0;
    }
    pod->state = POD_DONE;
    pod->is_failed = is_failed;
    for (uint32_t i = 0; i < pod->n_init; i++) {
        lab_timer_stop(&pod->ctrs[i].timer);
        lab_ctr_kill(&pod->ctrs[i]);
    }
}

static bool is_any_alive(const struct lab_pod *pod) {
    for (uint32_t i = 0; i < pod->n_ctrs; i++) {
        if (pod->ctrs[i].pid > 0) {
            return true;
        }
    }
    return false;
}

static void kill_sandbox(struct lab_pod *pod) {
    lab_timer_stop(&pod->stop_timer);
    if (pod->pause_pid > 0) {
        kill(pod->pause_pid, SIGKILL); // and with it everything in its PID namespace
    } else {
        finish(pod);
    }
}

void lab_pod_ctr_ended(struct lab_ctr *ctr) {
    struct lab_pod *pod = ctr->pod;
    lab_dirty(pod->lab);
    if (pod->state == POD_STOPPING) {
        if (!is_any_alive(pod)) {
            kill_sandbox(pod);
        }
        return;
    }
    if (pod->state == POD_DONE) {
        return;
    }
    if (restarts(ctr)) {
        back_off(ctr);
        return;
    }
    if (ctr->is_init && ctr->exit_status != 0) {
        pod->state = POD_DONE;
        pod->is_failed = true;
        return;
    }
    if (pod->state == POD_RUNNING) {
        check_done(pod);
    }
    lab_pod_step(pod);
}

void lab_pod_ctr_changed(struct lab_ctr *ctr) {
    lab_dirty(ctr->pod->lab);
    if (ctr->pod->state == POD_INIT) {
        lab_pod_step(ctr->pod);
    }
}

// True when the next init container may start.
static bool is_init_over(const struct lab_ctr *ctr) {
    if (ctr->is_sidecar) {
        return lab_ctr_is_running(ctr) && ctr->is_started;
    }
    return ctr->state == CTR_TERMINATED && ctr->exit_status == 0;
}

static void step_init(struct lab_pod *pod) {
    while (pod->cur_init < pod->n_init) {
        struct lab_ctr *ctr = &pod->ctrs[pod->cur_init];
        if (is_init_over(ctr)) {
            pod->cur_init++;
            continue;
        }
        if (ctr->state == CTR_WAITING) {
            start_or_wait(ctr);
        }
        return;
    }
    pod->state = POD_RUNNING;
    pod->is_initialized = true;
    lab_dirty(pod->lab);
}

static void on_mesh_timer(void *arg) {
    lab_pod_step(arg);
}

void lab_pod_step(struct lab_pod *pod) {
    if (pod->state == POD_PENDING && pod->node != NULL) {
        if (!pod->has_sandbox && (pod->waiting_reason != NULL || start_sandbox(pod) < 0)) {
            return; // a broken sandbox stays broken
        }
        if (lab_volume_prepare(pod) < 0) {
            if (pod->waiting_reason == NULL) {
                pod->waiting_reason = "ContainerCreating";
            }
            return;
        }
        pod->are_volumes_ready = true;
        if (lab_mesh_must_wait(pod)) {
            pod->waiting_reason = "ContainerCreating";
            snprintf(pod->waiting_message, sizeof(pod->waiting_message), "waits for ztun");
            lab_timer_set(&pod->mesh_timer, MESH_POLL_MS, on_mesh_timer, pod);
            return;
        }
        pod->waiting_reason = NULL;
        pod->waiting_message[0] = '\0';
        pod->state = POD_INIT;
        lab_dirty(pod->lab);
    }
    if (pod->state == POD_INIT) {
        step_init(pod);
    }
    for (uint32_t i = 0; pod->state == POD_RUNNING && i < pod->n_ctrs; i++) {
        if (pod->ctrs[i].state == CTR_WAITING) {
            start_or_wait(&pod->ctrs[i]);
        }
    }
}

void lab_pod_delete(struct lab_pod *pod, long grace_s) {
    json_t *doc = pod->object->doc;
    long own = (long)js_int(doc, "spec.terminationGracePeriodSeconds", 30);
    uint64_t grace = (uint64_t)(grace_s >= 0 ? grace_s : MAX(own, 0));
    uint64_t at = clock_mono_ns() + grace * NS_PER_SEC;
    if (pod->state == POD_STOPPING && at >= pod->stop_at_ns) {
        return;
    }
    bool is_first = pod->state != POD_STOPPING;
    pod->stop_at_ns = at;
    pod->state = POD_STOPPING;
    char when[SYS_TIME_MAX];
    js_set_str(doc, "metadata.deletionTimestamp",
               sys_time_text(clock_wall_s() + (int64_t)grace, when));
    js_set(doc, "metadata.deletionGracePeriodSeconds", json_integer((long long)grace));
    lab_store_touch(pod->lab, pod->object);
    if (!is_first) {
        lab_timer_stop(&pod->stop_timer); // begin_stop arms it again
    }
}

static void on_grace_over(void *arg) {
    struct lab_pod *pod = arg;
    kill_sandbox(pod);
}

static void begin_stop(struct lab_pod *pod) {
    uint64_t now = clock_mono_ns();
    uint64_t left_ms = pod->stop_at_ns > now ? (pod->stop_at_ns - now) / NS_PER_MS : 0;
    lab_timer_set(&pod->stop_timer, left_ms, on_grace_over, pod);
    for (uint32_t i = 0; i < pod->n_ctrs; i++) {
        struct lab_ctr *ctr = &pod->ctrs[i];
        lab_timer_stop(&ctr->timer);
        lab_probe_stop(&ctr->probes[PROBE_LIVENESS]);
        lab_probe_stop(&ctr->probes[PROBE_STARTUP]);
        lab_ctr_stop(ctr);
    }
    if (!is_any_alive(pod)) {
        kill_sandbox(pod);
    }
}

void lab_pods_begin_stops(struct lab *lab) {
    LIST_EACH_SAFE(node, &lab->pods) {
        struct lab_pod *pod = LAB_POD(node);
        if (pod->state == POD_STOPPING && !pod->stop_timer.is_armed &&
            (pod->pause_pid > 0 || !pod->has_sandbox)) {
            begin_stop(pod);
        }
    }
}

static void release(struct lab_pod *pod) {
    lab_timer_stop(&pod->stop_timer);
    lab_timer_stop(&pod->mesh_timer);
    for (uint32_t i = 0; i < pod->n_ctrs; i++) {
        lab_ctr_fini(&pod->ctrs[i]);
    }
    lab_child_forget(pod);
    if (pod->pause_pidfd >= 0) {
        close(pod->pause_pidfd);
    }
    if (pod->pidns_fd >= 0) {
        close(pod->pidns_fd);
    }
    if (pod->netns != NULL) {
        lab_net_del_pod(pod);
    }
    sys_rm_rf(pod->dir);
    list_del(&pod->link);
    pod->lab->n_pods--;
    free(pod->dir);
    free(pod->ctrs);
    free(pod);
}

// Nothing of it runs any more.
static void finish(struct lab_pod *pod) {
    struct lab *lab = pod->lab;
    struct lab_object *object = pod->object;
    json_t *replacement = pod->replacement;
    release(pod);
    lab_store_remove(lab, object);
    if (replacement != NULL) {
        lab_apply_pod(lab, replacement);
    }
}

void lab_pods_destroy_all(struct lab *lab) {
    LIST_EACH(node, &lab->pods) {
        if (LAB_POD(node)->pause_pid > 0) {
            kill(LAB_POD(node)->pause_pid, SIGKILL);
        }
    }
    // A PID namespace ends only when its last process was reaped, and their parent is us.
    uint64_t deadline = clock_mono_ns() + 3 * NS_PER_SEC;
    pid_t pid;
    while ((pid = waitpid(-1, NULL, WNOHANG)) >= 0 && clock_mono_ns() < deadline) {
        if (pid == 0) {
            usleep(1000);
        }
    }
    while (!list_empty(&lab->pods)) {
        struct lab_pod *pod = LAB_POD(lab->pods.next);
        json_decref(pod->replacement);
        release(pod);
    }
}

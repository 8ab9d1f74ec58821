// SPDX-License-Identifier: Apache-2.0

#include "ctl/local_super.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "ctl/local_apply.h"
#include "ctl/local_control.h"
#include "ctl/local_dns.h"
#include "ctl/local_env.h"
#include "ctl/local_json.h"
#include "ctl/local_mesh.h"
#include "ctl/local_net.h"
#include "ctl/local_node.h"
#include "ctl/local_pod.h"
#include "ctl/local_rules.h"
#include "ctl/local_service.h"
#include "ctl/local_store.h"
#include "ctl/local_sys.h"
#include "ctl/local_text.h"
#include "ctl/local_volume.h"
#include "ctl/local_work.h"

enum { TURN_PASSES_MAX = 32, LOG_CHECK_MS = 5000, MESH_STOP_MS = 500 };

void lab_log(const char *fmt, ...) {
    struct timespec now;
    struct tm tm;
    clock_gettime(CLOCK_REALTIME, &now);
    gmtime_r(&now.tv_sec, &tm);
    char when[32];
    strftime(when, sizeof(when), "%H:%M:%S", &tm);
    va_list args;
    va_start(args, fmt);
    char *text = NULL;
    CHECK(vasprintf(&text, fmt, args) >= 0);
    va_end(args);
    fprintf(stderr, "%s.%03ld %s\n", when, now.tv_nsec / 1000000, text);
    free(text);
}

void lab_note(struct lab *lab, const char *fmt, ...) {
    va_list args;
    va_start(args, fmt);
    char *text = NULL;
    CHECK(vasprintf(&text, fmt, args) >= 0);
    va_end(args);
    if (json_object_size(lab->notes) < LAB_NOTES_MAX && json_object_get(lab->notes, text) == NULL) {
        json_object_set_new(lab->notes, text, json_true());
        lab_log("%s", text);
    }
    free(text);
}

bool lab_super_is_alive(const char *dir) {
    char *path = xasprintf("%s/lock", dir);
    int fd = open(path, O_RDWR | O_CLOEXEC);
    free(path);
    if (fd < 0) {
        return false;
    }
    bool is_alive = flock(fd, LOCK_EX | LOCK_NB) < 0;
    close(fd);
    return is_alive;
}

static void reconcile(struct lab *lab) {
    lab_work_reconcile(lab);
    lab_nodes_schedule(lab);
    bool are_volumes_dirty = lab->are_volumes_dirty;
    lab->are_volumes_dirty = false;
    LIST_EACH_SAFE(node, &lab->pods) {
        struct lab_pod *pod = LAB_POD(node);
        lab_pod_step(pod);
        if (are_volumes_dirty && pod->are_volumes_ready) {
            lab_volume_refresh(pod);
        }
        lab_pod_write_status(pod);
    }
    lab_service_reconcile(lab);
}

static void turn(void *arg) {
    struct lab *lab = arg;
    if (lab->is_down) {
        return;
    }
    // A pass may change what an earlier controller looked at. The cap keeps the loop responsive if
    // two of them ever disagree; the rest then waits for the next event.
    for (int i = 0; lab->is_dirty && i < TURN_PASSES_MAX; i++) {
        lab->is_dirty = false;
        reconcile(lab);
    }
    if (lab_store_flush(lab) > 0) {
        lab_rules_update(lab);
    }
    lab_pods_begin_stops(lab);
}

// A log that grew too large starts over; its writers append.
static void cap_log(const char *path) {
    struct stat st;
    if (stat(path, &st) == 0 && st.st_size > LAB_LOG_MAX && truncate(path, 0) < 0) {
        lab_log("%s: %s", path, strerror(errno));
    }
}

static void check_logs(void *arg) {
    struct lab *lab = arg;
    LIST_EACH(node, &lab->pods) {
        for (uint32_t i = 0; i < LAB_POD(node)->n_ctrs; i++) {
            cap_log(LAB_POD(node)->ctrs[i].log);
        }
    }
    for (uint32_t i = 0; i < lab->n_nodes; i++) {
        char *path = lab_mesh_log_path(&lab->nodes[i]);
        cap_log(path);
        free(path);
    }
    char *own = xasprintf("%s/supervisor.log", lab->opt.dir);
    cap_log(own);
    free(own);
    lab_timer_set(&lab->log_timer, LOG_CHECK_MS, check_logs, lab);
}

static char *make_dir(const struct lab *lab, const char *name) {
    char *path = xasprintf("%s/%s", lab->opt.dir, name);
    int rc = sys_mkdir_p(path, 0755);
    if (rc < 0) {
        lab_log("%s: %s", path, strerror(-rc));
    }
    return path;
}

static bool open_state(struct lab *lab, char **ret_error) {
    char *path = xasprintf("%s/lock", lab->opt.dir);
    lab->lock_fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    free(path);
    if (lab->lock_fd < 0 || flock(lab->lock_fd, LOCK_EX | LOCK_NB) < 0) {
        *ret_error = xasprintf("%s: %s", lab->opt.dir, strerror(errno));
        return false;
    }
    char *pid = xasprintf("%d\n", getpid());
    path = xasprintf("%s/supervisor.pid", lab->opt.dir);
    int rc = sys_write_file(path, pid, strlen(pid), 0644);
    free(path);
    free(pid);
    lab->config_dir = make_dir(lab, "config");
    lab->state_dir = make_dir(lab, "state");
    lab->ca_dir = xasprintf("%s/ca", lab->opt.dir); // ztun makes it
    lab->log_dir = make_dir(lab, "logs");
    lab->pods_dir = make_dir(lab, "pods");
    lab->stage_dir = make_dir(lab, "stage");
    lab->tmp_dir = make_dir(lab, "tmp");
    lab->prefix = xasprintf("zl-%s.", lab->opt.name);
    lab->wire_netns = xasprintf("%swire", lab->prefix);
    lab->pidns_fd = open("/proc/self/ns/pid", O_RDONLY | O_CLOEXEC);
    if (rc < 0 || lab->pidns_fd < 0) {
        *ret_error = xasprintf("%s: cannot be set up", lab->opt.dir);
        return false;
    }
    return lab_images_load(lab->opt.images, &lab->images, ret_error) == 0;
}

static bool open_network(struct lab *lab, json_t *docs, char **ret_error) {
    if (!lab_nodes_init(lab, docs, ret_error)) {
        return false;
    }
    if (!lab_service_init(lab) || lab_net_up(lab) < 0) {
        *ret_error = xstrdup("the network cannot be set up, see supervisor.log");
        return false;
    }
    for (uint32_t i = 0; i < lab->n_nodes; i++) {
        if (lab_net_add_node(lab, &lab->nodes[i]) < 0) {
            *ret_error = xasprintf("node %s cannot be set up", lab->nodes[i].name);
            return false;
        }
    }
    lab_store_flush(lab);
    for (uint32_t i = 0; i < lab->n_nodes; i++) {
        lab_mesh_start(&lab->nodes[i]);
        lab_dns_open(&lab->nodes[i]);
    }
    return true;
}

static bool apply_all(struct lab *lab, json_t *docs, char **ret_error) {
    for (size_t i = 0; i < json_array_size(docs); i++) {
        char *text = NULL;
        bool is_ok = lab_apply(lab, json_deep_copy(json_array_get(docs, i)), &text);
        lab_log("%s", text);
        if (!is_ok) {
            *ret_error = text;
            return false;
        }
        free(text);
    }
    return true;
}

void lab_super_stop(struct lab *lab) {
    lab->is_down = true;
    lab_mesh_stop_all(lab, MESH_STOP_MS);
    lab_pods_destroy_all(lab);
    for (uint32_t i = 0; i < lab->n_nodes; i++) {
        lab_dns_close(&lab->nodes[i]);
    }
    lab_net_down(lab);
    lab_loop_stop();
}

static void on_terminate(void *arg) {
    lab_log("told to stop by a signal");
    lab_super_stop(arg);
}

static void release(struct lab *lab) {
    lab_store_clear(lab);
    for (uint32_t i = 0; i < lab->n_nodes; i++) {
        free(lab->nodes[i].netns);
        free(lab->nodes[i].rules);
    }
    char *texts[] = {lab->config_dir, lab->state_dir, lab->ca_dir,  lab->log_dir,
                     lab->pods_dir,   lab->stage_dir, lab->tmp_dir, lab->prefix,
                     lab->wire_netns, lab->host_rules};
    for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
        free(texts[i]);
    }
    json_decref(lab->images);
    json_decref(lab->notes);
    close(lab->pidns_fd);
    close(lab->lock_fd);
}

int lab_super_run(const struct lab_options *options, json_t *docs, int report_fd) {
    struct lab *lab = xcalloc(1, sizeof(*lab));
    lab->opt = *options;
    lab->notes = json_object();
    lab->listener.fd = lab->pidns_fd = lab->lock_fd = -1;
    list_init(&lab->objects);
    list_init(&lab->pods);
    lab_loop_init();
    lab_loop_on_terminate(on_terminate, lab);
    char *error = NULL;
    bool is_up = open_state(lab, &error) && open_network(lab, docs, &error) &&
                 apply_all(lab, docs, &error) && lab_control_open(lab, &error);
    if (is_up) {
        check_logs(lab);
        turn(lab);
        dprintf(report_fd, "ok");
        close(report_fd);
        lab_log("up: %u nodes, %u pods", lab->n_nodes, lab->n_pods);
        lab_loop_run(turn, lab);
    } else {
        lab_super_stop(lab);
        // Left open: the end of the report is the end of this process.
        dprintf(report_fd, "%s", error != NULL ? error : "failed");
    }
    free(error);
    lab_control_close(lab);
    lab_loop_fini();
    release(lab);
    free(lab);
    return is_up ? 0 : 1;
}

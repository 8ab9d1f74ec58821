// SPDX-License-Identifier: Apache-2.0
//
// The Pod object's status, as kubelet writes it.

#include <stdio.h>
#include <string.h>
#include <sys/wait.h>

#include "common/base/clock.h"
#include "ctl/local_ctr.h"
#include "ctl/local_json.h"
#include "ctl/local_pod.h"
#include "ctl/local_store.h"
#include "ctl/local_sys.h"

const char *lab_pod_phase(const struct lab_pod *pod) {
    if (pod->state == POD_DONE) {
        return pod->is_failed ? "Failed" : "Succeeded";
    }
    return pod->is_initialized ? "Running" : "Pending";
}

static void put_time(json_t *object, const char *key, int64_t unix_s) {
    char when[SYS_TIME_MAX];
    js_set_str(object, key, sys_time_text(unix_s, when));
}

static json_t *terminated(const struct lab_ctr *ctr) {
    json_t *state = json_object();
    int code = WIFEXITED(ctr->exit_status) ? WEXITSTATUS(ctr->exit_status)
                                           : 128 + WTERMSIG(ctr->exit_status);
    js_set(state, "exitCode", json_integer(code));
    js_set_str(state, "reason",
               ctr->setup_error[0] != '\0' ? "StartError"
               : code == 0                 ? "Completed"
                                           : "Error");
    if (ctr->setup_error[0] != '\0') {
        js_set_str(state, "message", ctr->setup_error);
    }
    put_time(state, "startedAt", ctr->started_s);
    put_time(state, "finishedAt", ctr->ended_s);
    return state;
}

static json_t *ctr_status(const struct lab_ctr *ctr) {
    json_t *status = json_object();
    js_set_str(status, "name", ctr->name);
    js_set_str(status, "image", js_str(ctr->spec, "image", ""));
    js_set(status, "ready", json_boolean(ctr->is_ready));
    js_set(status, "started", json_boolean(ctr->is_started));
    js_set(status, "restartCount", json_integer(ctr->restarts));
    json_t *state = js_object_at(status, "state");
    if (ctr->state == CTR_RUNNING) {
        put_time(js_object_at(state, "running"), "startedAt", ctr->started_s);
    } else if (ctr->state == CTR_TERMINATED) {
        js_set(state, "terminated", terminated(ctr));
    } else {
        js_set_str(state, "waiting.reason", lab_ctr_waiting_reason(ctr));
        if (ctr->pod->waiting_message[0] != '\0') {
            js_set_str(state, "waiting.message", ctr->pod->waiting_message);
        }
    }
    if (ctr->has_ended && ctr->state != CTR_TERMINATED) {
        js_set(status, "lastState.terminated", terminated(ctr));
    }
    return status;
}

// Keeps lastTransitionTime while the status stays.
static void put_condition(json_t *conditions, const char *type, bool is_true) {
    const char *wanted = is_true ? "True" : "False";
    size_t i;
    json_t *condition;
    json_array_foreach(conditions, i, condition) {
        if (strcmp(js_str(condition, "type", ""), type) == 0) {
            if (strcmp(js_str(condition, "status", ""), wanted) != 0) {
                js_set_str(condition, "status", wanted);
                put_time(condition, "lastTransitionTime", clock_wall_s());
            }
            return;
        }
    }
    condition = json_object();
    js_set_str(condition, "type", type);
    js_set_str(condition, "status", wanted);
    put_time(condition, "lastTransitionTime", clock_wall_s());
    json_array_append_new(conditions, condition);
}

static void put_ips(json_t *status, const struct ip ips[2], const char *one, const char *many) {
    char buf[IP_TEXT_MAX];
    json_t *list = json_array();
    for (int f = 0; f < 2; f++) {
        if (ips[f].family != 0) {
            json_array_append_new(list, json_pack("{s:s}", "ip", ip_text(&ips[f], buf)));
        }
    }
    if (json_array_size(list) > 0) {
        js_set_str(status, one, js_str(json_array_get(list, 0), "ip", ""));
    }
    js_set(status, many, list);
}

void lab_pod_write_status(struct lab_pod *pod) {
    json_t *doc = pod->object->doc;
    json_t *before = json_deep_copy(json_object_get(doc, "status"));
    json_t *status = js_object_at(doc, "status");
    bool is_ready = lab_pod_is_ready(pod);
    js_set_str(status, "phase", lab_pod_phase(pod));
    json_t *conditions = js_array_at(status, "conditions");
    put_condition(conditions, "PodReadyToStartContainers", pod->has_sandbox);
    put_condition(conditions, "Initialized", pod->is_initialized);
    put_condition(conditions, "Ready", is_ready);
    put_condition(conditions, "ContainersReady", is_ready);
    put_condition(conditions, "PodScheduled", pod->node != NULL);
    if (pod->has_sandbox) {
        put_ips(status, pod->node->ips, "hostIP", "hostIPs");
        put_ips(status, pod->is_host_network ? pod->node->ips : pod->ips, "podIP", "podIPs");
        if (js_str(status, "startTime", NULL) == NULL) {
            put_time(status, "startTime", clock_wall_s());
        }
    }
    json_t *init = json_array(), *main = json_array();
    for (uint32_t i = 0; i < pod->n_ctrs; i++) {
        json_array_append_new(pod->ctrs[i].is_init ? init : main, ctr_status(&pod->ctrs[i]));
    }
    if (json_array_size(init) > 0) {
        json_object_set(status, "initContainerStatuses", init);
    }
    json_decref(init);
    json_object_set_new(status, "containerStatuses", main);
    js_set_str(status, "qosClass", "BestEffort");
    if (!json_equal(before, status)) {
        lab_store_touch(pod->lab, pod->object);
    }
    json_decref(before);
}

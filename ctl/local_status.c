// SPDX-License-Identifier: Apache-2.0

#include "ctl/local_status.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "common/base/clock.h"
#include "ctl/http_get.h"
#include "ctl/local_ctr.h"
#include "ctl/local_gateway.h"
#include "ctl/local_json.h"
#include "ctl/local_mesh.h"
#include "ctl/local_pod.h"
#include "ctl/local_store.h"
#include "ctl/local_sys.h"

enum { STATUS_MAX = 256 << 20 }; // of a page of the mesh's programs

static long long age_of(const json_t *doc) {
    struct tm tm = {0};
    const char *when = js_str(doc, "metadata.creationTimestamp", "");
    if (strptime(when, "%Y-%m-%dT%H:%M:%SZ", &tm) == NULL) {
        return 0;
    }
    long long age = (long long)(clock_wall_s() - (int64_t)timegm(&tm));
    return age > 0 ? age : 0;
}

static json_t *ips_of(const struct ip ips[2]) {
    char buf[IP_TEXT_MAX];
    json_t *list = json_array();
    for (int f = 0; f < 2; f++) {
        if (ips[f].family != 0) {
            json_array_append_new(list, json_string(ip_text(&ips[f], buf)));
        }
    }
    return list;
}

static json_t *node_status(const struct lab_node *node) {
    char *log = lab_mesh_log_path(node);
    json_t *cidrs = json_incref(js_get(node->object->doc, "spec.podCIDRs"));
    json_t *status =
        json_pack("{s:s, s:s, s:o, s:o, s:i, s:i, s:s}", "name", node->name, "netns", node->netns,
                  "ips", ips_of(node->ips), "podCIDRs", cidrs, "ztunPid", (int)node->ztun_pid,
                  "ztunRestarts", (int)node->ztun_restarts, "log", log);
    free(log);
    return status;
}

// One word, as kubectl's STATUS column.
static void pod_word(const struct lab_pod *pod, char *buf, size_t cap) {
    const char *word = lab_pod_phase(pod);
    if (pod->state == POD_STOPPING) {
        word = "Terminating";
    } else if (pod->state == POD_DONE) {
        word = pod->is_failed ? "Error" : "Completed";
    } else if (pod->waiting_reason != NULL) {
        word = pod->waiting_reason;
    } else if (pod->state == POD_INIT) {
        snprintf(buf, cap, "Init:%u/%u", pod->cur_init, pod->n_init);
        return;
    }
    for (uint32_t i = 0; pod->state == POD_RUNNING && i < pod->n_ctrs; i++) {
        if (pod->ctrs[i].state == CTR_BACKOFF) {
            word = "CrashLoopBackOff";
        }
    }
    snprintf(buf, cap, "%s", word);
}

static json_t *ctr_status(const struct lab_ctr *ctr) {
    return json_pack("{s:s, s:i, s:b, s:i, s:s, s:s}", "name", ctr->name, "pid", (int)ctr->pid,
                     "ready", ctr->is_ready, "restarts", (int)ctr->restarts, "log", ctr->log,
                     "error", ctr->setup_error);
}

static json_t *pod_status(const struct lab_pod *pod) {
    const json_t *doc = pod->object->doc;
    char word[64];
    pod_word(pod, word, sizeof(word));
    json_t *ctrs = json_array();
    uint32_t n_ready = 0, n_main = pod->n_ctrs - pod->n_init, restarts = 0;
    for (uint32_t i = 0; i < pod->n_ctrs; i++) {
        const struct lab_ctr *ctr = &pod->ctrs[i];
        json_array_append_new(ctrs, ctr_status(ctr));
        n_ready += i >= pod->n_init && ctr->is_ready;
        restarts += ctr->restarts;
    }
    return json_pack("{s:s, s:s, s:s, s:b, s:i, s:i, s:i, s:I, s:o, s:s, s:s, s:s, s:i, s:b, s:o}",
                     "namespace", js_ns(doc), "name", js_name(doc), "status", word, "ready",
                     lab_pod_is_ready(pod) && pod->state == POD_RUNNING, "nReady", (int)n_ready,
                     "nContainers", (int)n_main, "restarts", (int)restarts, "age", age_of(doc),
                     "ips",
                     ips_of(pod->is_host_network && pod->node != NULL ? pod->node->ips : pod->ips),
                     "node", pod->node != NULL ? pod->node->name : "", "netns",
                     pod->netns != NULL ? pod->netns : "", "message", pod->waiting_message,
                     "pausePid", (int)pod->pause_pid, "isReplaced", pod->replacement != NULL,
                     "containers", ctrs);
}

static json_t *service_status(const json_t *doc) {
    json_t *ports = js_get(doc, "spec.ports"), *ips = js_get(doc, "spec.clusterIPs");
    json_t *ingress = js_get(doc, "status.loadBalancer.ingress");
    return json_pack("{s:s, s:s, s:s, s:O, s:O, s:O, s:I}", "namespace", js_ns(doc), "name",
                     js_name(doc), "type", js_str(doc, "spec.type", "ClusterIP"), "clusterIPs",
                     ips != NULL ? ips : json_null(), "ports", ports != NULL ? ports : json_null(),
                     "ingress", ingress != NULL ? ingress : json_null(), "age", age_of(doc));
}

// Every workload has as many ready pods of its present template as it wants.
static bool is_settled(const struct lab *lab) {
    bool is_ok = !lab->is_dirty;
    LIST_EACH(node, &lab->objects) {
        const json_t *doc = LAB_OBJECT(node)->doc;
        if (lab_gateway_is_ours(doc)) {
            bool has_waypoint = lab->opt.has_mesh && lab->opt.waypoint_bin != NULL;
            is_ok = is_ok && (!has_waypoint || lab_gateway_is_programmed(doc));
        }
        bool is_deployment = strcmp(js_kind(doc), "Deployment") == 0;
        if (!is_deployment && strcmp(js_kind(doc), "StatefulSet") != 0) {
            continue;
        }
        long long wanted = js_int(doc, "spec.replicas", 1);
        is_ok = is_ok && js_int(doc, "status.readyReplicas", 0) == wanted &&
                js_int(doc, "status.replicas", 0) == wanted &&
                (!is_deployment || js_int(doc, "status.updatedReplicas", 0) == wanted);
    }
    return is_ok;
}

json_t *lab_status(struct lab *lab, const json_t *request) {
    json_t *nodes = json_array(), *pods = json_array(), *services = json_array();
    json_t *notes = json_array(), *gateways = json_array();
    for (uint32_t i = 0; i < lab->n_nodes; i++) {
        json_array_append_new(nodes, node_status(&lab->nodes[i]));
    }
    LIST_EACH(node, &lab->pods) {
        json_array_append_new(pods, pod_status(LAB_POD(node)));
    }
    LIST_EACH(node, &lab->objects) {
        if (strcmp(js_kind(LAB_OBJECT(node)->doc), "Service") == 0) {
            json_array_append_new(services, service_status(LAB_OBJECT(node)->doc));
        } else if (lab_gateway_is_ours(LAB_OBJECT(node)->doc)) {
            json_array_append_new(gateways, lab_gateway_status(LAB_OBJECT(node)->doc));
        }
    }
    const char *note;
    json_t *ignored;
    json_object_foreach(lab->notes, note, ignored) {
        json_array_append_new(notes, json_string(note));
    }
    return json_pack("{s:b, s:{s:s, s:s, s:i, s:s, s:s, s:b, s:b, s:b}, s:o, s:o, s:o, s:o, s:o}",
                     "ok", 1, "lab", "name", lab->opt.name, "dir", lab->opt.dir, "pid",
                     (int)getpid(), "config", lab->config_dir, "ca", lab->ca_dir, "hasMesh",
                     lab->opt.has_mesh, "hasHost", lab->host_link[0] != '\0', "isSettled",
                     is_settled(lab), "nodes", nodes, "pods", pods, "services", services,
                     "gateways", gateways, "notes", notes);
}

// GET /healthz/ready on the loopback of the current namespace. The body's first line in `ret`.
static bool ask_ready(char *ret, size_t cap) {
    struct sockaddr_in to = {
        .sin_family = AF_INET, .sin_port = htons(15021), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct timeval timeout = {.tv_usec = 500000};
    static const char request[] = "GET /healthz/ready HTTP/1.1\r\nHost: localhost\r\n"
                                  "Connection: close\r\n\r\n";
    char response[1024];
    snprintf(ret, cap, "NotReady");
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0) {
        return false;
    }
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof(timeout));
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &timeout, sizeof(timeout));
    bool is_ready = false;
    if (connect(fd, (struct sockaddr *)&to, sizeof(to)) == 0 &&
        send(fd, request, sizeof(request) - 1, MSG_NOSIGNAL) > 0) {
        size_t len = 0;
        ssize_t n;
        while (len < sizeof(response) - 1 &&
               (n = recv(fd, response + len, sizeof(response) - 1 - len, 0)) > 0) {
            len += (size_t)n;
        }
        response[len] = '\0';
        is_ready = strncmp(response, "HTTP/1.1 200", 12) == 0;
        const char *body = strstr(response, "\r\n\r\n");
        if (is_ready) {
            snprintf(ret, cap, "Ready");
        } else if (body != NULL && body[4] != '\0') {
            snprintf(ret, cap, "NotReady: %.*s", (int)strcspn(body + 4, "\r\n"), body + 4);
        }
    }
    close(fd);
    return is_ready;
}

// Whether the program in this namespace has files that it did not take yet (its GET /status). One
// whose admin port is elsewhere cannot tell, and is not waited for.
static bool ask_pending(const char *netns) {
    struct addr admin;
    struct buf body;
    char *error = NULL;
    CHECK(addr_parse(SLICE_LIT("127.0.0.1:15000"), &admin));
    buf_init(&body, STATUS_MAX);
    json_t *page = NULL;
    if (http_get(netns, &admin, "GET", "/status", &body, &error) == 200) {
        page = json_loadb(buf_cstr(&body), body.len, 0, NULL);
    }
    bool is_pending = js_bool(page, "source.pending", false);
    json_decref(page);
    buf_fini(&body);
    free(error);
    return is_pending;
}

static void ask_waypoints(json_t *status) {
    size_t i;
    json_t *pod;
    json_array_foreach(js_get(status, "pods"), i, pod) {
        const json_t *main = json_array_get(js_get(pod, "containers"), 0);
        if (strcmp(js_str(main, "name", ""), "waypoint") == 0 && js_bool(pod, "ready", false)) {
            js_set(pod, "pending", json_boolean(ask_pending(js_str(pod, "netns", ""))));
        }
    }
}

void lab_status_ask_mesh(json_t *status) {
    size_t i;
    json_t *node;
    json_array_foreach(js_get(status, "nodes"), i, node) {
        char text[200] = "-";
        int fd =
            js_bool(status, "lab.hasMesh", false) ? lab_netns_open(js_str(node, "netns", "")) : -1;
        if (fd >= 0) {
            int previous = lab_netns_enter(fd);
            if (previous >= 0) {
                ask_ready(text, sizeof(text));
                lab_netns_leave(previous);
            }
            close(fd);
        }
        js_set_str(node, "mesh", text);
        js_set(node, "pending",
               json_boolean(strcmp(text, "Ready") == 0 && ask_pending(js_str(node, "netns", ""))));
    }
    ask_waypoints(status);
}

bool lab_status_is_ready(const json_t *status) {
    bool is_ready = js_bool(status, "lab.isSettled", false);
    size_t i;
    json_t *item;
    json_array_foreach(js_get(status, "pods"), i, item) {
        const char *word = js_str(item, "status", "");
        is_ready = is_ready && !js_bool(item, "pending", false) &&
                   (js_bool(item, "ready", false) || strcmp(word, "Completed") == 0 ||
                    (strcmp(word, "Terminating") == 0 && !js_bool(item, "isReplaced", false)));
    }
    json_array_foreach(js_get(status, "nodes"), i, item) {
        const char *mesh = js_str(item, "mesh", "-");
        is_ready = is_ready && !js_bool(item, "pending", false) &&
                   (strcmp(mesh, "Ready") == 0 || strcmp(mesh, "-") == 0);
    }
    return is_ready;
}

static const char *age_text(long long s, char buf[32]) {
    if (s < 120) {
        snprintf(buf, 32, "%llds", s);
    } else if (s < 7200) {
        snprintf(buf, 32, "%lldm", s / 60);
    } else {
        snprintf(buf, 32, "%lldh", s / 3600);
    }
    return buf;
}

static void join(const json_t *list, const char *field, char *buf, size_t cap) {
    size_t len = 0, i;
    json_t *item;
    buf[0] = '\0';
    json_array_foreach((json_t *)list, i, item) {
        const char *text = field != NULL ? js_str(item, field, "") : json_string_value(item);
        int n = snprintf(buf + len, cap - len, "%s%s", i > 0 ? "," : "", text);
        len += n > 0 && (size_t)n < cap - len ? (size_t)n : 0;
    }
    if (buf[0] == '\0') {
        snprintf(buf, cap, "<none>");
    }
}

static void print_nodes(const json_t *status, FILE *out) {
    fprintf(out, "%-12s %-24s %-28s %-8s %-8s %s\n", "NODE", "ADDRESS", "PODS", "ZTUN", "RESTARTS",
            "MESH");
    size_t i;
    json_t *node;
    json_array_foreach(js_get(status, "nodes"), i, node) {
        char ips[128], cidrs[128], pid[16];
        join(js_get(node, "ips"), NULL, ips, sizeof(ips));
        join(js_get(node, "podCIDRs"), NULL, cidrs, sizeof(cidrs));
        snprintf(pid, sizeof(pid), "%lld", js_int(node, "ztunPid", 0));
        fprintf(out, "%-12s %-24s %-28s %-8s %-8lld %s\n", js_str(node, "name", ""), ips, cidrs,
                pid, js_int(node, "ztunRestarts", 0),
                js_bool(node, "pending", false) ? "Ready, reads changed files"
                                                : js_str(node, "mesh", "-"));
    }
}

static void print_pods(const json_t *status, FILE *out) {
    fprintf(out, "\n%-14s %-32s %-6s %-18s %-9s %-6s %-26s %s\n", "NAMESPACE", "NAME", "READY",
            "STATUS", "RESTARTS", "AGE", "IP", "NODE");
    size_t i;
    json_t *pod;
    json_array_foreach(js_get(status, "pods"), i, pod) {
        char ips[128], ready[16], age[32];
        join(js_get(pod, "ips"), NULL, ips, sizeof(ips));
        snprintf(ready, sizeof(ready), "%lld/%lld", js_int(pod, "nReady", 0),
                 js_int(pod, "nContainers", 0));
        fprintf(out, "%-14s %-32s %-6s %-18s %-9lld %-6s %-26s %s\n", js_str(pod, "namespace", ""),
                js_str(pod, "name", ""), ready, js_str(pod, "status", ""),
                js_int(pod, "restarts", 0), age_text(js_int(pod, "age", 0), age), ips,
                js_str(pod, "node", ""));
        if (js_str(pod, "message", "")[0] != '\0') {
            fprintf(out, "%-14s   %s\n", "", js_str(pod, "message", ""));
        }
        if (js_bool(pod, "pending", false)) {
            fprintf(out, "%-14s   waypoint: reads changed files\n", "");
        }
        size_t k;
        json_t *ctr;
        json_array_foreach(js_get(pod, "containers"), k, ctr) {
            if (js_str(ctr, "error", "")[0] != '\0') {
                fprintf(out, "%-14s   %s: %s\n", "", js_str(ctr, "name", ""),
                        js_str(ctr, "error", ""));
            }
        }
    }
}

static void print_services(const json_t *status, FILE *out) {
    fprintf(out, "\n%-14s %-20s %-13s %-28s %-16s %s\n", "NAMESPACE", "SERVICE", "TYPE",
            "CLUSTER-IP", "EXTERNAL-IP", "PORTS");
    size_t i, k;
    json_t *service, *port;
    json_array_foreach(js_get(status, "services"), i, service) {
        char ips[128], external[128];
        join(js_get(service, "clusterIPs"), NULL, ips, sizeof(ips));
        join(js_get(service, "ingress"), "ip", external, sizeof(external));
        fprintf(out, "%-14s %-20s %-13s %-28s %-16s ", js_str(service, "namespace", ""),
                js_str(service, "name", ""), js_str(service, "type", ""), ips, external);
        json_array_foreach(js_get(service, "ports"), k, port) {
            fprintf(out, "%s%lld", k > 0 ? "," : "", js_int(port, "port", 0));
            if (js_int(port, "nodePort", 0) != 0) {
                fprintf(out, ":%lld", js_int(port, "nodePort", 0));
            }
            fprintf(out, "/%s", js_str(port, "protocol", "TCP"));
        }
        fprintf(out, "\n");
    }
}

static void print_gateways(const json_t *status, FILE *out) {
    fprintf(out, "\n%-14s %-20s %-18s %-44s %s\n", "NAMESPACE", "GATEWAY", "CLASS", "ADDRESS",
            "PROGRAMMED");
    size_t i;
    json_t *gateway;
    json_array_foreach(js_get(status, "gateways"), i, gateway) {
        const char *address = js_str(gateway, "address", "");
        fprintf(out, "%-14s %-20s %-18s %-44s %s\n", js_str(gateway, "namespace", ""),
                js_str(gateway, "name", ""), js_str(gateway, "class", ""),
                address[0] != '\0' ? address : "<none>",
                js_bool(gateway, "programmed", false) ? "yes" : "no");
    }
}

void lab_status_print(const json_t *status, FILE *out) {
    print_nodes(status, out);
    if (js_len(status, "pods") > 0) {
        print_pods(status, out);
    }
    if (js_len(status, "services") > 0) {
        print_services(status, out);
    }
    if (js_len(status, "gateways") > 0) {
        print_gateways(status, out);
    }
    size_t i;
    json_t *note;
    json_array_foreach(js_get(status, "notes"), i, note) {
        fprintf(out, "%snote: %s\n", i == 0 ? "\n" : "", json_string_value(note));
    }
}

// SPDX-License-Identifier: Apache-2.0
//
// Inside `ztunctl check`: what was found, and who looks.
#pragma once

#include <jansson.h>
#include <stdbool.h>
#include <stdio.h>

#include "ctl/kubectl.h"

enum check_severity { CHECK_FINE, CHECK_NOTE, CHECK_WARNING, CHECK_ERROR };

struct check_finding {
    enum check_severity severity;
    const char *id; // a literal: what was looked at
    char *object; // "" = the whole
    char *text;
    const char *remedy; // a literal; NULL: there is nothing to do
};

struct check {
    struct check_finding *items;
    size_t n, cap;
    size_t n_by_severity[CHECK_ERROR + 1];
};

void check_fini(struct check *c);
void check_add(struct check *c, enum check_severity severity, const char *id, const char *object,
               const char *remedy, const char *fmt, ...) PRINTF_LIKE(6, 7);
void check_print_text(const struct check *c, bool is_quiet, FILE *out);
void check_print_json(const struct check *c, bool is_quiet, FILE *out);

// check_node.c: this machine. `release` as uname has it.
void check_node(struct check *c);
void check_kernel(struct check *c, const char *object, const char *release);

// What the cluster said; members are NULL where it did not, which was reported.
struct check_cluster {
    const struct kubectl *kubectl;
    const char *ns; // of ztun; NULL: wherever it is
    unsigned max_nodes; // how many ztuns are asked
    json_t *nodes, *namespaces, *ztun; // a List, a List, a DaemonSet (JSON null: not installed)
    bool has_gateway_api;
};

// A query, told among the findings when it fails (then NULL). "get" and "-o json" are added.
#define CHECK_ARGS(...) ((const char *const[]){__VA_ARGS__, NULL})
json_t *check_get(struct check *c, const struct kubectl *k, const char *id,
                  const char *const *args);

// check_cluster.c: what has to be there before. False: there is no cluster to ask.
bool check_cluster_before(struct check *c, struct check_cluster *cluster);
void check_cluster_fini(struct check_cluster *cluster);
// check_security.c: what is in its way, in the namespace where it is or will be.
void check_security(struct check *c, const struct check_cluster *cluster, const char *ns);
// check_mesh.c: ztun on the nodes, and the pods that it serves.
void check_mesh(struct check *c, const struct check_cluster *cluster);
bool check_is_pod_ready(const json_t *pod);
// check_waypoint.c
void check_waypoints(struct check *c, const struct check_cluster *cluster);

// check_status.c: what a /status says. False: it is something else's.
bool check_ztun_status(struct check *c, const char *node, const json_t *status);
bool check_waypoint_status(struct check *c, const char *object, const json_t *status);
// Asks a pod for it, and looks. False: it is something else; true also when it does not answer,
// which is a finding.
bool check_ask(struct check *c, const struct kubectl *k, const json_t *pod, const char *object,
               bool (*look)(struct check *c, const char *object, const json_t *status));

// SPDX-License-Identifier: Apache-2.0
//
// Nodes: from Node objects or made up; their addresses, their Node objects, and where pods go.
#pragma once

#include "ctl/local_lab.h"

// At start, before the network is there: the nodes from Node documents of `docs` (they are taken
// out of the array), else opt.n_nodes of them. False: *ret_error says what is wrong.
bool lab_nodes_init(struct lab *lab, json_t *docs, char **ret_error);
// A Node object that came later: makes the node. False: refused, logged.
bool lab_node_add(struct lab *lab, struct lab_object *object);
// An object's document was replaced: name and status of the node follow.
void lab_node_rename(struct lab *lab, struct lab_object *object);
// Gives pods that have none a node.
void lab_nodes_schedule(struct lab *lab);

// SPDX-License-Identifier: Apache-2.0
//
// The supervisor's control socket: one JSON object per connection in a line, one back.
//
// {"cmd": "apply", "docs": [...]}                      -> {"ok": bool, "text": "line\n..."}
//   "mode": "create" refuses objects that are there, "replace" those that are not
// {"cmd": "patch", "kind", "ns", "name", "type": merge|json|strategic|replace, "patch"}
//                                                      -> "text": "unchanged" when nothing was
// {"cmd": "delete", "docs": [...]}, or "kind", "ns", "name"; "grace": seconds
// {"cmd": "scale", "kind", "ns", "name", "replicas"}   {"cmd": "restart", "kind", "ns", "name"}
// {"cmd": "exec", "ns", "name", "container"}           -> pid, env, cwd
// {"cmd": "node", "name"}                              -> netns
// {"cmd": "get", "kind", "ns", "name"}                 -> doc
// {"cmd": "status"}                                    -> local_status.h
// {"cmd": "down"}
#pragma once

#include "ctl/local_lab.h"

bool lab_control_open(struct lab *lab, char **ret_error);
void lab_control_close(struct lab *lab);

// Client: sends a request (takes the reference) to the lab in `dir` and waits for the answer, at
// most 30 s. NULL: *ret_error says why; the caller frees.
json_t *lab_request(const char *dir, json_t *request, char **ret_error);

// SPDX-License-Identifier: Apache-2.0
//
// The items of proc_dump_list.c, each file's own: one object, or the parts of one that may be long.
#pragma once

#include "common/proc/proc_dump.h"

// proc_dump_mesh.c. The object of a workload stays open behind its last member but `services`.
void proc_dump_workload_begin(struct json_out *out, const struct workload *workload);
void proc_dump_workload_end(struct json_out *out, const struct workload *workload);
// That of a service up to the open object `endpoints`, which has one for each workload.
void proc_dump_service_begin(struct json_out *out, const struct service *service,
                             const char *network);
void proc_dump_service_endpoint(struct json_out *out, const struct service *service,
                                const struct endpoint *endpoint);
void proc_dump_service_end(struct json_out *out, const struct service *service,
                           const char *network);
// proc_dump_policy.c, proc_dump_certs.c
void proc_dump_policy(struct json_out *out, const struct policy *policy);
void proc_dump_cert(struct json_out *out, const struct identity *identity);

// SPDX-License-Identifier: Apache-2.0
//
// Startup, liveness and readiness probes as kubelet runs them: exec in the container; httpGet and
// tcpSocket from the pod's node, from the address that the mesh exempts (local_net.h). Until the
// first success a probe is repeated every 100 ms, so that a lab comes up quickly; its failures are
// still counted once per period.
#pragma once

#include "ctl/local_lab.h"

void lab_probe_start_all(struct lab_ctr *ctr); // the container's process runs now
void lab_probe_stop_all(struct lab_ctr *ctr);
void lab_probe_stop(struct lab_probe *probe);
// A preStop httpGet: `done` is called when it was answered or failed. False: it cannot be sent.
bool lab_probe_hook(struct lab_ctr *ctr, const json_t *hook, void (*done)(void *ctr));

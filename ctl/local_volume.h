// SPDX-License-Identifier: Apache-2.0
//
// Volumes of a pod as directories under its state directory: emptyDir, configMap, secret,
// downwardAPI, projected, hostPath, and persistent claims (a directory per claim that lives as long
// as the lab). ConfigMaps and the like have the `..data` link of kubelet, and follow changes.
#pragma once

#include "ctl/local_lab.h"
#include "ctl/local_rootfs.h"

// Makes all volumes and the pod's /etc files. -EAGAIN: something is not there yet, and
// pod->waiting_message says what.
MUST_USE int lab_volume_prepare(struct lab_pod *pod);
// Rewrites what follows other objects. Nothing happens when nothing changed.
void lab_volume_refresh(struct lab_pod *pod);
// The mounts of one container, in the order to mount them. The caller frees with rootfs_fini.
MUST_USE int lab_volume_mounts(struct lab_pod *pod, const json_t *container,
                               struct rootfs *ret_rootfs);

// SPDX-License-Identifier: Apache-2.0
//
// A container's root: the machine's own file system below an overlay that takes all writes, in a
// mount namespace of its own, with the pod's volumes and /etc files mounted in. It goes away with
// the last process; nothing is ever written to the machine.
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "common/base/check.h"

struct rootfs_mount {
    char *source; // on the machine
    char *target; // in the container
    bool is_file, is_read_only;
};

struct rootfs {
    const char *stage_dir; // an empty directory to build in; shared, never changed on the machine
    struct rootfs_mount *mounts;
    size_t n_mounts;
};

void rootfs_add(struct rootfs *rootfs, const char *source, const char *target, bool is_file,
                bool is_read_only);
void rootfs_fini(struct rootfs *rootfs);
// In the child, which is already in the pod's other namespaces: moves it into a new mount namespace
// with this root. On failure error says what, and the child must exit.
MUST_USE int rootfs_enter(const struct rootfs *rootfs, char *error, size_t error_len);

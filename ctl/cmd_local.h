// SPDX-License-Identifier: Apache-2.0
//
// `ztunctl local`: a lab on one machine without Kubernetes. See docs/LAB.md.
#pragma once

// argv[0] is "local". Returns the exit code: 0, 1 failed, 2 usage; exec: the command's own.
int cmd_local(int argc, char **argv);

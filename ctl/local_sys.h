// SPDX-License-Identifier: Apache-2.0
//
// Files, processes and network namespaces for the lab. Everything is synchronous and bounded; the
// supervisor is single-threaded, so entering a namespace and coming back is safe.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "common/base/check.h"

#define NETNS_DIR "/run/netns"

// Files. 0 or -errno.
MUST_USE int sys_mkdir_p(const char *path, mode_t mode);
// Writes under a temporary name beside it and renames.
MUST_USE int sys_write_file(const char *path, const void *data, size_t len, mode_t mode);
// The whole file with a NUL behind it, NULL when it cannot be read or is larger than max.
char *sys_read_file(const char *path, size_t max, size_t *ret_len);
// Removes a tree without following symbolic links or crossing into mounts. Absent is fine.
void sys_rm_rf(const char *path);

// Runs a command to its end, at most 30 s, in the network namespace `netns_fd` (-1 = own), with
// `input` on stdin (NULL = none). *ret_output (may be NULL) gets stdout and stderr together, at
// most 64 KiB. Returns the exit status, 128 + signal, or -errno. The caller frees the output.
MUST_USE int sys_run(const char *const argv[], int netns_fd, const char *input, char **ret_output);

// Network namespaces under /run/netns.
MUST_USE int netns_create(const char *name); // -EEXIST when there is one
void netns_delete(const char *name); // absent is fine
MUST_USE int lab_netns_open(const char *name); // fd, or -errno
// Enters a namespace; returns an fd of the one left, for lab_netns_leave, or -errno. A failure to
// come back aborts the process.
MUST_USE int lab_netns_enter(int fd);
void lab_netns_leave(int previous);
// Kills every process whose network namespace has a name with this prefix under /run/netns.
// Returns how many it found.
int netns_kill_all(const char *prefix);

// Writes a sysctl of the current network namespace, "net.ipv4.ip_forward". 0 or -errno.
int sys_sysctl(const char *key, const char *value);

// In a child process: undoes the supervisor's signal set-up and closes all descriptors above 2
// (except `keep`, -1 = none) at exec.
void sys_child_reset(int keep);

// RFC 3339 in UTC, "2026-01-02T03:04:05Z".
enum { SYS_TIME_MAX = 32 };
const char *sys_time_text(int64_t unix_s, char buf[SYS_TIME_MAX]);
// `n` random characters of the alphabet that Kubernetes uses for generated names, and a NUL.
void sys_random_name(char *buf, size_t n);
void sys_random_uuid(char buf[37]);

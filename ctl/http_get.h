// SPDX-License-Identifier: Apache-2.0
//
// A blocking HTTP/1.1 client for the operator's endpoints of ztun, also in another network
// namespace. One request a connection. Thread: the caller's, which must be the only one (entering a
// namespace moves the thread).
#pragma once

#include "common/base/addr.h"
#include "common/base/buf.h"

enum { HTTP_GET_TIMEOUT_S = 30 };

// `netns`: a name under /run/netns, a path, or "" for the own one. The body is appended to `body`
// (its maximum is the limit). Returns the status code, or -1 with a heap-allocated reason.
MUST_USE int http_get(const char *netns, const struct addr *addr, const char *method,
                      const char *path, struct buf *body, char **ret_error);

// A descriptor of the namespace, or -errno.
MUST_USE int http_netns_open(const char *netns);

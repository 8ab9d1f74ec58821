// SPDX-License-Identifier: Apache-2.0
//
// Request paths: normal forms (Istio's MeshConfig.pathNormalization, done as Envoy does it) so that
// policy and routes see what the application will. Pure; thread: any.
//
//   NONE                      as it came
//   BASE (also DEFAULT)       '\' becomes '/', dot segments are resolved, %2e is a dot, escapes of
//                             unreserved characters are decoded, characters that belong in no
//                             path are escaped; slashes are not merged
//   MERGE_SLASHES             BASE, then runs of '/' become one
//   DECODE_AND_MERGE_SLASHES  %2f and %5c (any case) are decoded first, then MERGE_SLASHES
//
// The query is never touched. Stricter than Envoy in one point: an incomplete escape is refused
// where Envoy passes it on for the application to guess.
#pragma once

#include "common/base/arena.h"
#include "common/base/check.h"
#include "common/base/slice.h"
#include "common/proto/http_err.h"

enum http_path_mode {
    HTTP_PATH_NONE,
    HTTP_PATH_BASE,
    HTTP_PATH_MERGE_SLASHES,
    HTTP_PATH_DECODE_AND_MERGE_SLASHES,
};

// Begins with '/', or is "*"; no blank, no control character (obs-text passes, normal forms escape
// it).
bool http_path_is_valid(struct slice path);
struct slice http_path_without_fragment(struct slice path);
struct slice http_path_without_query(struct slice path);

// `path` as in http_head ("*" and the empty path stay). *ret_path is `path` itself when nothing
// changes, else in the arena. HTTP_ERR_BAD_PATH: NUL (%00) or an incomplete escape;
// HTTP_ERR_HEAD_TOO_LARGE: the arena's maximum.
MUST_USE enum http_err http_path_normalize(enum http_path_mode mode, struct slice path,
                                           struct arena *arena, struct slice *ret_path);

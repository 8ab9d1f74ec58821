// SPDX-License-Identifier: Apache-2.0
//
// Where what was compiled comes from, for messages, dumps and explanations. Texts end in NUL and
// live as long as the leaf that they belong to.
#pragma once

#include "common/mesh/kobj.h"

// The object.
struct l7_source {
    const char *kind, *ns, *name, *file;
};

// A part of it.
struct l7_origin {
    const struct l7_source *source; // NULL: nobody wrote it, it is the default
    struct kobj_pos pos;
};

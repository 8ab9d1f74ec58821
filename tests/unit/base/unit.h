// SPDX-License-Identifier: Apache-2.0
//
// What cmocka needs to be included, in the order it asks for.
#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "common/base/slice.h"

#define assert_slice_equal(have, text)                                                             \
    do {                                                                                           \
        struct slice got_ = (have);                                                                \
        assert_int_equal(got_.len, strlen(text));                                                  \
        assert_memory_equal(got_.ptr, text, got_.len);                                             \
    } while (0)

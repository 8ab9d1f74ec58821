// SPDX-License-Identifier: Apache-2.0
//
// What the tests of resources of istiod have in common.
#pragma once

#include "common/mesh/xds_decode.h"

extern struct arena xds_arena; // from xds_setup to xds_teardown
extern char xds_error[XDS_ERROR_MAX]; // of the last xds_decode_one(), "" = none
extern const uint8_t xds_v4[4], xds_v6[16]; // 10.0.0.7, fd00::7

int xds_setup(void **state);
int xds_teardown(void **state);
bool xds_decode_one(enum xds_type type, const char *name, struct slice body,
                    struct xds_resource *ret_resource);

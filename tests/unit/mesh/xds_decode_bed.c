// SPDX-License-Identifier: Apache-2.0
#include "tests/unit/mesh/xds_decode_bed.h"

#include "tests/unit/mesh/xds_fixture.h"

struct arena xds_arena;
char xds_error[XDS_ERROR_MAX];
const uint8_t xds_v4[4] = {10, 0, 0, 7};
const uint8_t xds_v6[16] = {0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 7};

int xds_setup(void **state) {
    arena_init(&xds_arena, SIZE_MAX);
    return 0;
}

int xds_teardown(void **state) {
    arena_fini(&xds_arena);
    fx_unpack_all();
    return 0;
}

bool xds_decode_one(enum xds_type type, const char *name, struct slice body,
                    struct xds_resource *ret_resource) {
    xds_error[0] = '\0';
    return xds_decode(type, slice_str(name), body, "", &xds_arena, ret_resource, xds_error);
}

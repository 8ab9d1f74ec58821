// SPDX-License-Identifier: Apache-2.0
//
// Rules of a VirtualService beyond the types of its fields: Istio's own, and what is valid but
// cannot be meant (warnings).
#pragma once

#include "common/mesh/kobj_l7_priv.h"

#define KOBJ_VS_CHECK(name)                                                                        \
    void kobj_vs_check_##name(struct schema_ctx *ctx, const struct cfg_node *node, const void *out)
KOBJ_VS_CHECK(match);
KOBJ_VS_CHECK(redirect);
KOBJ_VS_CHECK(direct);
KOBJ_VS_CHECK(rewrite);
KOBJ_VS_CHECK(retry);
KOBJ_VS_CHECK(delay);
KOBJ_VS_CHECK(abort);
KOBJ_VS_CHECK(fault);
KOBJ_VS_CHECK(cors);
KOBJ_VS_CHECK(http);
KOBJ_VS_CHECK(l4);
KOBJ_VS_CHECK(spec);

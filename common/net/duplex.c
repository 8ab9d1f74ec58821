// SPDX-License-Identifier: Apache-2.0
#include "common/net/duplex.h"

static const struct {
    const char *label, *text;
} flow_ends[] = {
#define FLOW_END(name, label, text) {label, text},
#include "common/net/flow_end.def"
#undef FLOW_END
};

const char *flow_end_label(enum flow_end end) {
    CHECK((size_t)end < ARRAY_LEN(flow_ends));
    return flow_ends[end].label;
}

const char *flow_end_text(enum flow_end end) {
    CHECK((size_t)end < ARRAY_LEN(flow_ends));
    return flow_ends[end].text;
}

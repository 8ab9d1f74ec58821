// SPDX-License-Identifier: Apache-2.0
//
// What parses is written back as the very same text.
#include <stdlib.h>

#include "common/proto/spiffe.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len) {
    struct slice uri = slice_make(data, len);
    struct spiffe_id id;
    if (!spiffe_parse(uri, &id)) {
        return 0;
    }
    char buf[SPIFFE_TEXT_MAX];
    struct slice text;
    if (!spiffe_format(&id, buf, &text) || !slice_eq(text, uri)) {
        abort();
    }
    return 0;
}

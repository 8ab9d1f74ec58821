// SPDX-License-Identifier: Apache-2.0
//
// The HTTP/2 core as server against arbitrary clients; see fuzz_h2.h for the input.
#include "tests/fuzz/fuzz_h2.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len) {
    return fuzz_h2(data, len, true);
}

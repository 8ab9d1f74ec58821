// SPDX-License-Identifier: Apache-2.0
#include "common/proto/h2_conn.h"

static const struct {
    uint32_t code;
    const char *label, *text;
} errs[] = {
#define H2_ERR(name, code, label, text) [H2_##name] = {code, label, text},
#include "common/proto/h2_err.def"
#undef H2_ERR
};

uint32_t h2_err_code(enum h2_err err) {
    CHECK((size_t)err < ARRAY_LEN(errs));
    return errs[err].code;
}

const char *h2_err_label(enum h2_err err) {
    CHECK((size_t)err < ARRAY_LEN(errs));
    return errs[err].label;
}

const char *h2_err_text(enum h2_err err) {
    CHECK((size_t)err < ARRAY_LEN(errs));
    return errs[err].text;
}

// RFC 9113 section 7: unknown codes are no reason for special behaviour.
enum h2_err h2_err_from_code(uint32_t wire_code) {
    return wire_code <= H2_HTTP_1_1_REQUIRED ? (enum h2_err)wire_code : H2_INTERNAL_ERROR;
}

// SPDX-License-Identifier: Apache-2.0
#include "common/proto/http_err.h"

#include "common/base/check.h"
#include "common/proto/http_rules.h"

static const struct {
    uint16_t status;
    const char *name, *details, *text;
} errs[] = {
#define HTTP_ERR(name, status, details, text) [HTTP_ERR_##name] = {status, #name, details, text},
#include "common/proto/http_err.def"
#undef HTTP_ERR
};

uint16_t http_err_status(enum http_err err) {
    CHECK((size_t)err < ARRAY_LEN(errs));
    return errs[err].status;
}

const char *http_err_name(enum http_err err) {
    CHECK((size_t)err < ARRAY_LEN(errs));
    return errs[err].name;
}

const char *http_err_details(enum http_err err) {
    CHECK((size_t)err < ARRAY_LEN(errs));
    return errs[err].details;
}

const char *http_err_text(enum http_err err) {
    CHECK((size_t)err < ARRAY_LEN(errs));
    return errs[err].text;
}

struct slice http_err_body(enum http_err err) {
    CHECK((size_t)err < ARRAY_LEN(errs));
    if (!slice_has_prefix(slice_str(errs[err].details), SLICE_LIT("http1."))) {
        return (struct slice){0};
    }
    return http_rules_reason(errs[err].status);
}

// SPDX-License-Identifier: Apache-2.0
//
// A format of the access log and a request that is told with it. The first byte says which
// encoding, the first line is the format, the second the value of every variable, the others are
// headers (name=value). A line in JSON is a JSON object; a line of text is one line, unless the
// operator's own format has line ends; both have their limit.
#include <stdlib.h>

#include <jansson.h>

#include "common/l7/l7_log_format.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

enum { MAX_FIELDS = 16 };

static void must(bool ok) {
    if (!ok) {
        abort();
    }
}

static void put_value(void *arg, enum l7_var var, struct slice format, struct buf *out) {
    (void)var;
    (void)format;
    buf_append(out, *(struct slice *)arg);
}

static size_t count(struct slice text, uint8_t byte) {
    size_t n = 0;
    for (size_t i = 0; i < text.len; i++) {
        n += text.ptr[i] == byte;
    }
    return n;
}

static void check_line(enum l7_log_encoding encoding, struct slice format, struct slice line) {
    must(line.len > 0 && line.len <= L7_LOG_LINE_MAX);
    if (encoding == L7_LOG_TEXT) {
        must(count(line, '\n') <= count(format, '\n') + 1);
        return;
    }
    must(line.ptr[line.len - 1] == '\n' && count(line, '\n') == 1);
    json_error_t error;
    json_t *root = json_loadb((const char *)line.ptr, line.len, JSON_ALLOW_NUL, &error);
    must(root != NULL && json_is_object(root));
    json_decref(root);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len) {
    if (len < 1) {
        return 0;
    }
    enum l7_log_encoding encoding = data[0] % 2 == 0 ? L7_LOG_TEXT : L7_LOG_JSON;
    struct slice rest = slice_make(data + 1, len - 1), format = rest, value = {0}, line;
    struct http_field fields[MAX_FIELDS];
    struct http_head head = {.method = SLICE_LIT("GET"),
                             .scheme = SLICE_LIT("http"),
                             .authority = SLICE_LIT("web"),
                             .path = SLICE_LIT("/a?b=c"),
                             .status = 200,
                             .fields = fields};
    if (slice_split(rest, '\0', &format, &rest)) {
        value = rest;
        (void)slice_split(rest, '\n', &value, &rest);
        while (head.n_fields < MAX_FIELDS && slice_split(rest, '\n', &line, &rest)) {
            struct http_field *field = &fields[head.n_fields];
            head.n_fields += slice_split(line, '=', &field->name, &field->value);
        }
    }
    struct buf error, out;
    buf_init(&error, SIZE_MAX);
    buf_init(&out, SIZE_MAX);
    struct l7_log_format *log = l7_log_format_new(encoding, format, &error);
    must((log == NULL) == (error.len > 0));
    if (log != NULL) {
        struct l7_vars vars = {
            .request = &head, .response = &head, .value = put_value, .arg = &value};
        l7_log_format_line(log, &vars, &out);
        check_line(encoding, format, buf_slice(&out));
    }
    l7_log_format_free(log);
    buf_fini(&error);
    buf_fini(&out);
    return 0;
}

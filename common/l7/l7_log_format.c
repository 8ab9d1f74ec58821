// SPDX-License-Identifier: Apache-2.0
#include "common/l7/l7_log_format.h"

#include <jansson.h>
#include <stdlib.h>

#include "common/base/json_out.h"
#include "common/base/utf8.h"

// With values of that many bytes a line of any format is short enough: escaped, a byte is 6 in
// JSON.
enum { SHORT_VALUE_MAX = 64, ESCAPED_MAX = 6 };
_Static_assert(ESCAPED_MAX *(L7_LOG_FORMAT_MAX + L7_LOG_VARS_MAX * SHORT_VALUE_MAX) <
                   L7_LOG_LINE_MAX,
               "a line with short values fits");

const char l7_log_default_text[] =
    "[%START_TIME%] \"%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %PROTOCOL%\" "
    "%RESPONSE_CODE% %RESPONSE_FLAGS% %RESPONSE_CODE_DETAILS% %CONNECTION_TERMINATION_DETAILS% "
    "\"%UPSTREAM_TRANSPORT_FAILURE_REASON%\" %BYTES_RECEIVED% %BYTES_SENT% %DURATION% "
    "%RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)% \"%REQ(X-FORWARDED-FOR)%\" \"%REQ(USER-AGENT)%\" "
    "\"%REQ(X-REQUEST-ID)%\" \"%REQ(:AUTHORITY)%\" \"%UPSTREAM_HOST%\" %UPSTREAM_CLUSTER% "
    "%UPSTREAM_LOCAL_ADDRESS% %DOWNSTREAM_LOCAL_ADDRESS% %DOWNSTREAM_REMOTE_ADDRESS% "
    "%REQUESTED_SERVER_NAME% %ROUTE_NAME%\n";

const char l7_log_default_json[] =
    "{\"start_time\":\"%START_TIME%\",\"route_name\":\"%ROUTE_NAME%\",\"method\":\"%REQ(:METHOD)%"
    "\","
    "\"path\":\"%REQ(X-ENVOY-ORIGINAL-PATH?:PATH)%\",\"protocol\":\"%PROTOCOL%\","
    "\"response_code\":\"%RESPONSE_CODE%\",\"response_flags\":\"%RESPONSE_FLAGS%\","
    "\"response_code_details\":\"%RESPONSE_CODE_DETAILS%\","
    "\"connection_termination_details\":\"%CONNECTION_TERMINATION_DETAILS%\","
    "\"bytes_received\":\"%BYTES_RECEIVED%\",\"bytes_sent\":\"%BYTES_SENT%\","
    "\"duration\":\"%DURATION%\","
    "\"upstream_service_time\":\"%RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)%\","
    "\"x_forwarded_for\":\"%REQ(X-FORWARDED-FOR)%\",\"user_agent\":\"%REQ(USER-AGENT)%\","
    "\"request_id\":\"%REQ(X-REQUEST-ID)%\",\"authority\":\"%REQ(:AUTHORITY)%\","
    "\"upstream_host\":\"%UPSTREAM_HOST%\",\"upstream_cluster\":\"%UPSTREAM_CLUSTER%\","
    "\"upstream_local_address\":\"%UPSTREAM_LOCAL_ADDRESS%\","
    "\"downstream_local_address\":\"%DOWNSTREAM_LOCAL_ADDRESS%\","
    "\"downstream_remote_address\":\"%DOWNSTREAM_REMOTE_ADDRESS%\","
    "\"requested_server_name\":\"%REQUESTED_SERVER_NAME%\","
    "\"upstream_transport_failure_reason\":\"%UPSTREAM_TRANSPORT_FAILURE_REASON%\"}";

enum value_kind {
    VALUE_NONE, // the end of the line
    VALUE_TEXT, // of a text format: a variable
    VALUE_STRING, // JSON: text with variables
    VALUE_VAR, // JSON: one variable
    VALUE_NUMBER, // the same, whose value is a number
};

// A piece of the line: `raw` as it is, then the value.
struct step {
    struct slice raw; // BUF_PAD bytes behind it
    uint8_t value; // enum value_kind
    bool is_plain; // nothing in the value has to be escaped
    struct l7_template_piece piece; // of VALUE_TEXT
    const struct l7_template *tmpl; // JSON
};

struct l7_log_format {
    struct arena arena;
    struct step *steps;
    size_t n;
    bool wants_response;
};

// ---- compiling ---------------------------------------------------------------------------------

struct compiler {
    struct l7_log_format *format;
    struct buf raw; // since the last value
    struct buf *error;
    size_t cap, n_vars;
};

static struct step *add_step(struct compiler *c, enum value_kind value,
                             const struct l7_template *tmpl) {
    struct l7_log_format *format = c->format;
    if (format->n == c->cap) {
        c->cap = MAX(2 * c->cap, (size_t)16);
        format->steps = xrealloc(format->steps, c->cap * sizeof(format->steps[0]));
    }
    struct step *step = &format->steps[format->n++];
    uint8_t *raw = arena_zalloc(&format->arena, c->raw.len + BUF_PAD);
    CHECK(raw != NULL);
    slice_copy(raw, buf_slice(&c->raw));
    *step =
        (struct step){.raw = slice_make(raw, c->raw.len), .value = (uint8_t)value, .tmpl = tmpl};
    buf_clear(&c->raw);
    return step;
}

static void note_var(struct compiler *c, const struct l7_template_piece *piece) {
    static const char service_time[] = "x-envoy-upstream-service-time";
    c->n_vars++;
    if (piece->var == L7_VAR_RESP &&
        (!slice_eq_str(piece->text, service_time) ||
         (piece->other.len > 0 && !slice_eq_str(piece->other, service_time)))) {
        c->format->wants_response = true;
    }
}

// NULL: the error is written.
static const struct l7_template *compile(struct compiler *c, struct slice text) {
    struct slice copy;
    const char *problem = NULL;
    bool is_ok = arena_copy(&c->format->arena, text, &copy); // a template borrows
    CHECK(is_ok);
    const struct l7_template *tmpl = l7_template_compile(&c->format->arena, copy, &problem);
    if (tmpl == NULL) {
        buf_printf(c->error, "%s in \"%.*s\"", problem, SLICE_ARG(slice_head(text, 200)));
        return NULL;
    }
    struct l7_template_piece piece;
    for (size_t i = 0; l7_template_at(tmpl, i, &piece); i++) {
        if (piece.var >= 0) {
            note_var(c, &piece);
        }
    }
    if (c->n_vars > L7_LOG_VARS_MAX) {
        buf_printf(c->error, "more than %d variables", L7_LOG_VARS_MAX);
        return NULL;
    }
    return tmpl;
}

static bool is_number(enum l7_var var) {
    switch (var) {
    case L7_VAR_RESPONSE_CODE:
    case L7_VAR_DURATION:
    case L7_VAR_RESPONSE_DURATION:
    case L7_VAR_BYTES_RECEIVED:
    case L7_VAR_BYTES_SENT:
    case L7_VAR_REQUEST_HEADERS_BYTES:
    case L7_VAR_RESPONSE_HEADERS_BYTES:
    case L7_VAR_CONNECTION_ID:
    case L7_VAR_DOWNSTREAM_REMOTE_PORT:
    case L7_VAR_DOWNSTREAM_LOCAL_PORT:
    case L7_VAR_UPSTREAM_REQUEST_ATTEMPT_COUNT:
    case L7_VAR_GRPC_STATUS_NUMBER:
        return true;
    default:
        return false;
    }
}

// Numbers, addresses and words of ours.
static bool is_always_plain(const struct l7_template_piece *piece) {
    switch (piece->var) {
    case L7_VAR_PROTOCOL:
    case L7_VAR_RESPONSE_FLAGS:
    case L7_VAR_UPSTREAM_HOST:
    case L7_VAR_UPSTREAM_LOCAL_ADDRESS:
    case L7_VAR_DOWNSTREAM_LOCAL_ADDRESS:
    case L7_VAR_DOWNSTREAM_REMOTE_ADDRESS:
        return true;
    case L7_VAR_START_TIME:
        return piece->text.len == 0;
    default:
        return is_number((enum l7_var)piece->var);
    }
}

static bool compile_text(struct compiler *c, struct slice text) {
    while (text.len > 0 && text.ptr[text.len - 1] == '\n') {
        text.len--;
    }
    const struct l7_template *tmpl = compile(c, text);
    if (tmpl == NULL) {
        return false;
    }
    struct l7_template_piece piece;
    for (size_t i = 0; l7_template_at(tmpl, i, &piece); i++) {
        if (piece.var < 0) {
            buf_append(&c->raw, piece.text);
            continue;
        }
        struct step *step = add_step(c, VALUE_TEXT, NULL);
        step->piece = piece;
        step->is_plain = is_always_plain(&piece);
    }
    buf_append_byte(&c->raw, '\n');
    return true;
}

static bool compile_string(struct compiler *c, struct slice text) {
    const struct l7_template *tmpl = compile(c, text);
    if (tmpl == NULL) {
        return false;
    }
    struct slice literal;
    if (l7_template_is_literal(tmpl, &literal)) {
        json_out_quote(&c->raw, literal);
        return true;
    }
    struct l7_template_piece first, second;
    enum value_kind kind = VALUE_STRING;
    if (l7_template_at(tmpl, 0, &first) && first.var >= 0 && !l7_template_at(tmpl, 1, &second)) {
        kind = is_number((enum l7_var)first.var) ? VALUE_NUMBER : VALUE_VAR;
    }
    add_step(c, kind, tmpl);
    return true;
}

static bool compile_object(struct compiler *c, json_t *object, unsigned depth);

static bool compile_value(struct compiler *c, const char *key, json_t *value, unsigned depth) {
    switch (json_typeof(value)) {
    case JSON_OBJECT:
        if (depth >= L7_LOG_DEPTH_MAX) {
            buf_printf(c->error, "objects deeper than %d", L7_LOG_DEPTH_MAX);
            return false;
        }
        return compile_object(c, value, depth + 1);
    case JSON_STRING:
        return compile_string(c, slice_make(json_string_value(value), json_string_length(value)));
    default:
        buf_printf(c->error, "the value of \"%s\" is neither a string nor an object", key);
        return false;
    }
}

static bool compile_object(struct compiler *c, json_t *object, unsigned depth) {
    const char *key;
    json_t *value;
    bool is_first = true;
    buf_append_byte(&c->raw, '{');
    json_object_foreach(object, key, value) {
        buf_append_str(&c->raw, is_first ? "" : ",");
        json_out_quote(&c->raw, slice_str(key));
        buf_append_byte(&c->raw, ':');
        if (!compile_value(c, key, value, depth)) {
            return false;
        }
        is_first = false;
    }
    buf_append_byte(&c->raw, '}');
    return true;
}

static bool compile_json(struct compiler *c, struct slice text) {
    json_error_t error;
    json_t *root = json_loadb((const char *)text.ptr, text.len, JSON_REJECT_DUPLICATES, &error);
    if (root == NULL) {
        buf_printf(c->error, "not JSON: %s (line %d, column %d)", error.text, error.line,
                   error.column);
        return false;
    }
    bool is_ok = false;
    if (!json_is_object(root)) {
        buf_append_str(c->error, "not a JSON object");
    } else if (compile_object(c, root, 1)) {
        buf_append_byte(&c->raw, '\n');
        is_ok = true;
    }
    json_decref(root);
    return is_ok;
}

struct l7_log_format *l7_log_format_new(enum l7_log_encoding encoding, struct slice text,
                                        struct buf *ret_error) {
    bool is_json = encoding == L7_LOG_JSON;
    if (text.len == 0) {
        text = slice_str(is_json ? l7_log_default_json : l7_log_default_text);
    }
    if (text.len > L7_LOG_FORMAT_MAX) {
        buf_printf(ret_error, "longer than %d bytes", L7_LOG_FORMAT_MAX);
        return NULL;
    }
    struct compiler c = {.format = xcalloc(1, sizeof(*c.format)), .error = ret_error};
    arena_init(&c.format->arena, SIZE_MAX);
    buf_init(&c.raw, SIZE_MAX);
    bool is_ok = is_json ? compile_json(&c, text) : compile_text(&c, text);
    if (is_ok) {
        add_step(&c, VALUE_NONE, NULL);
    } else {
        l7_log_format_free(c.format);
    }
    buf_fini(&c.raw);
    return is_ok ? c.format : NULL;
}

void l7_log_format_free(struct l7_log_format *format) {
    if (format != NULL) {
        arena_fini(&format->arena);
        free(format->steps);
        free(format);
    }
}

const char *l7_log_format_problem(bool is_json, const char *text) {
    enum { PROBLEM_MAX = 512 };
    static _Thread_local char problem[PROBLEM_MAX];
    struct buf error;
    buf_init(&error, SIZE_MAX);
    struct l7_log_format *format =
        l7_log_format_new(is_json ? L7_LOG_JSON : L7_LOG_TEXT, slice_str(text), &error);
    bool is_ok = format != NULL;
    l7_log_format_free(format);
    size_t len = MIN(error.len, sizeof(problem) - 1);
    slice_copy(problem, slice_head(buf_slice(&error), len));
    problem[len] = '\0';
    buf_fini(&error);
    return is_ok ? NULL : problem;
}

bool l7_log_format_wants_response(const struct l7_log_format *format) {
    return format->wants_response;
}

// ---- escapes and cuts --------------------------------------------------------------------------

static const bool is_plain[256] = {
    [' ' ... '!'] = true, ['#' ... '['] = true, [']' ... '~'] = true};

// The high bit of each byte of 8 that is not plain, and of some above one that is not.
static uint64_t not_plain(uint64_t bytes) {
    const uint64_t ones = 0x0101010101010101, tops = 0x8080808080808080;
    uint64_t quote = bytes ^ (ones * '"'), backslash = bytes ^ (ones * '\\'),
             delete = bytes ^ (ones * 0x7f);
    return (bytes | (bytes - ones * ' ') | (quote - ones) | (backslash - ones) | (delete - ones)) &
           tops;
}

// The length when all bytes are plain, else a place that is not behind the first one that is not.
static size_t skip_plain(const uint8_t *at, size_t len) {
    size_t n = 0;
    uint64_t bytes;
    while (n + sizeof(bytes) <= len) {
        memcpy(&bytes, at + n, sizeof(bytes));
        if (not_plain(bytes) != 0) {
            return n;
        }
        n += sizeof(bytes);
    }
    if (n > 0) { // the rest with some of what is known already
        memcpy(&bytes, at + len - sizeof(bytes), sizeof(bytes));
        return not_plain(bytes) == 0 ? len : n;
    }
    return 0;
}

// Of the first character of `text` that is not plain: bytes to keep, or 0: escape one.
static size_t keepable(struct slice text) {
    return text.ptr[0] >= 0x80 ? utf8_len(text) : 0;
}

static void escape(struct buf *out, size_t start) {
    size_t at = start + skip_plain(out->ptr + start, out->len - start);
    while (at < out->len && is_plain[out->ptr[at]]) {
        at++;
    }
    if (at == out->len) {
        return;
    }
    // Rare: the rest is written anew behind itself, then moved.
    size_t end = out->len;
    struct buf copy;
    buf_init(&copy, SIZE_MAX);
    buf_append(&copy, slice_make(out->ptr + at, end - at));
    buf_truncate(out, at);
    struct slice rest = buf_slice(&copy);
    while (rest.len > 0) {
        size_t n = is_plain[rest.ptr[0]] ? 1 : keepable(rest);
        if (n > 0) {
            buf_append(out, slice_head(rest, n));
        } else {
            buf_printf(out, "\\x%02X", rest.ptr[0]);
        }
        rest = slice_skip(rest, MAX(n, (size_t)1));
    }
    buf_fini(&copy);
}

// A maximum cuts between characters.
static void cut(struct buf *out, size_t start, size_t max) {
    if (out->len - start <= max) {
        return;
    }
    size_t end = start + max;
    while (end > start && (out->ptr[end] & 0xc0) == 0x80) {
        end--;
    }
    buf_truncate(out, end);
}

// ---- values of JSON ----------------------------------------------------------------------------

// The caller's values, with what is done to them.
struct json_writer {
    const struct l7_vars *vars;
    size_t value_max;
};

static void take_value(void *arg, enum l7_var var, struct slice format, struct buf *out) {
    const struct json_writer *writer = arg;
    if (writer->vars->value != NULL) {
        writer->vars->value(writer->vars->arg, var, format, out);
    }
}

static void finish_in_string(void *arg, struct buf *out, size_t start) {
    const struct json_writer *writer = arg;
    cut(out, start, writer->value_max);
    if (out->len == start) {
        buf_append_byte(out, '-');
    }
}

static void finish_var(void *arg, struct buf *out, size_t start) {
    const struct json_writer *writer = arg;
    cut(out, start, writer->value_max);
}

static void append_json(const struct step *step, struct json_writer *writer, struct buf *scratch,
                        struct buf *out) {
    bool is_var = step->value != VALUE_STRING;
    struct l7_vars vars = {
        .request = writer->vars->request,
        .response = writer->vars->response,
        .value = take_value,
        .finish = is_var ? finish_var : finish_in_string,
        .arg = writer,
    };
    buf_clear(scratch);
    l7_template_expand(step->tmpl, &vars, scratch);
    uint64_t number;
    if (is_var && scratch->len == 0) {
        buf_append(out, SLICE_LIT("null"));
    } else if (step->value == VALUE_NUMBER &&
               slice_to_u64(buf_slice(scratch), UINT64_MAX, &number)) {
        buf_append_u64(out, number);
    } else {
        json_out_quote(out, buf_slice(scratch));
    }
}

// ---- lines -------------------------------------------------------------------------------------

static void append_text(const struct step *step, const struct l7_vars *vars, size_t value_max,
                        struct buf *out) {
    size_t start = out->len;
    l7_template_value(&step->piece, vars, out);
    cut(out, start, value_max);
    if (out->len == start) {
        buf_append_byte(out, '-');
    } else if (!step->is_plain) {
        escape(out, start);
    }
}

static void write_line(const struct l7_log_format *format, const struct l7_vars *vars,
                       size_t value_max, struct buf *out) {
    struct json_writer json = {.vars = vars, .value_max = value_max};
    struct buf scratch;
    buf_init(&scratch, SIZE_MAX);
    buf_clear(out);
    for (size_t i = 0; i < format->n; i++) {
        const struct step *step = &format->steps[i];
        buf_append_padded(out, step->raw);
        if (step->value == VALUE_TEXT) {
            append_text(step, vars, value_max, out);
        } else if (step->value != VALUE_NONE) {
            append_json(step, &json, &scratch, out);
        }
    }
    buf_fini(&scratch);
}

void l7_log_format_line(const struct l7_log_format *format, const struct l7_vars *vars,
                        struct buf *out) {
    CHECK(out->max == SIZE_MAX); // a value is cut when it is there
    write_line(format, vars, L7_LOG_VALUE_MAX, out);
    if (out->len > L7_LOG_LINE_MAX) {
        write_line(format, vars, SHORT_VALUE_MAX, out);
    }
    CHECK(out->len <= L7_LOG_LINE_MAX);
}

// SPDX-License-Identifier: Apache-2.0
#include "common/obs/log_format.h"

#include <time.h>

#include "common/base/clock.h"
#include "common/base/json_out.h"
#include "common/obs/log_filter.h"

static const char truncated_text[] = " truncated=true";
static const char truncated_json[] = ",\"truncated\":true";
enum {
    LINE_END = sizeof(truncated_json) + 2, // room kept for the mark, "}" and newline
    SECONDS_TEXT_MAX = 24,
    MESSAGE_MAX = 1024, // escaped it is at most 6 times that
};

void log_format_time(uint64_t wall_ns, char ret_text[LOG_TIME_MAX]) {
    // The date changes once a second; lines come in thousands.
    static _Thread_local time_t cached_s = -1;
    static _Thread_local char cached[SECONDS_TEXT_MAX];
    static _Thread_local size_t cached_len;
    time_t now_s = (time_t)(wall_ns / NS_PER_SEC);
    if (now_s != cached_s) {
        struct tm tm;
        gmtime_r(&now_s, &tm);
        cached_len = strftime(cached, sizeof(cached), "%Y-%m-%dT%H:%M:%S.", &tm);
        cached_s = now_s;
    }
    memcpy(ret_text, cached, sizeof(cached));
    char *at = ret_text + cached_len;
    enum { N_DIGITS = 6 };
    unsigned micros = (unsigned)(wall_ns % NS_PER_SEC / 1000);
    for (size_t i = N_DIGITS; i > 0; i--) {
        at[i - 1] = (char)('0' + micros % 10);
        micros /= 10;
    }
    at[N_DIGITS] = 'Z';
    at[N_DIGITS + 1] = '\0';
}

// The message is ours, but a control byte in it must not break the line.
static void append_message(struct buf *buf, struct slice message) {
    size_t from = buf->len;
    buf_append(buf, message);
    for (; from < buf->len; from++) {
        buf->ptr[from] = buf->ptr[from] < 0x20 ? (uint8_t)' ' : buf->ptr[from];
    }
}

static bool needs_quotes(struct slice text) {
    for (size_t i = 0; i < text.len; i++) {
        uint8_t c = text.ptr[i];
        if (c <= ' ' || c >= 0x7f || c == '"' || c == '=' || c == '\\') {
            return true;
        }
    }
    return text.len == 0;
}

static bool is_left_out(const struct log_field *field) {
    switch (field->type) {
    case LOG_FIELD_NONE:
        return true;
    case LOG_FIELD_TEXT:
    case LOG_FIELD_PLAIN:
        return field->text.ptr == NULL;
    case LOG_FIELD_ADDR:
        return field->addr == NULL || !ip_is_set(&field->addr->ip);
    case LOG_FIELD_IP:
        return field->ip == NULL || !ip_is_set(field->ip);
    case LOG_FIELD_U64:
    case LOG_FIELD_I64:
    case LOG_FIELD_BOOL:
    case LOG_FIELD_MS:
        return false;
    }
    return true;
}

static void append_plain(struct buf *buf, struct slice text, bool is_json) {
    if (is_json || needs_quotes(text)) {
        json_out_quote(buf, text);
    } else {
        buf_append(buf, text);
    }
}

static void append_value(struct buf *buf, const struct log_field *field, bool is_json) {
    char text[ADDR_TEXT_MAX];
    switch (field->type) {
    case LOG_FIELD_NONE:
        break;
    case LOG_FIELD_TEXT:
        json_out_quote(buf, field->text);
        break;
    case LOG_FIELD_PLAIN:
        append_plain(buf, field->text, is_json);
        break;
    case LOG_FIELD_U64:
        buf_append_u64(buf, field->u64);
        break;
    case LOG_FIELD_I64:
        buf_append_i64(buf, field->i64);
        break;
    case LOG_FIELD_BOOL:
        buf_append_str(buf, field->flag ? "true" : "false");
        break;
    case LOG_FIELD_MS:
        buf_append_byte(buf, '"');
        buf_append_u64(buf, field->u64);
        buf_append(buf, SLICE_LIT("ms\""));
        break;
    case LOG_FIELD_ADDR:
        append_plain(buf, slice_str(addr_text(field->addr, text)), is_json);
        break;
    case LOG_FIELD_IP:
        append_plain(buf, slice_str(ip_text(field->ip, text)), is_json);
        break;
    }
}

static void append_head(struct buf *buf, const struct log_line *line, bool is_json) {
    char time[LOG_TIME_MAX];
    log_format_time(line->wall_ns, time);
    const char *level = log_level_name(line->level);
    struct slice message = slice_head(slice_str(line->message), MESSAGE_MAX);
    if (is_json) {
        buf_append(buf, SLICE_LIT("{\"level\":\""));
        buf_append_str(buf, level);
        buf_append(buf, SLICE_LIT("\",\"time\":\""));
        buf_append_str(buf, time);
        buf_append(buf, SLICE_LIT("\",\"scope\":\""));
        buf_append_str(buf, line->scope);
        buf_append(buf, SLICE_LIT("\",\"message\":"));
        json_out_quote(buf, message);
        return;
    }
    buf_append_str(buf, time);
    buf_append_byte(buf, '\t');
    buf_append_str(buf, level);
    buf_append_byte(buf, '\t');
    buf_append_str(buf, line->scope);
    buf_append_byte(buf, '\t');
    append_message(buf, message);
}

static void append_field(struct buf *buf, const struct log_field *field, bool is_json,
                         bool is_first) {
    if (is_json) {
        buf_append_byte(buf, ',');
        json_out_quote(buf, slice_str(field->key));
        buf_append_byte(buf, ':');
    } else {
        buf_append_byte(buf, is_first ? '\t' : ' ');
        buf_append_str(buf, field->key);
        buf_append_byte(buf, '=');
    }
    append_value(buf, field, is_json);
}

void log_format_line(struct buf *buf, enum log_format format, const struct log_line *line) {
    bool is_json = format == LOG_FORMAT_JSON;
    bool is_cut = false;
    bool is_first = true;
    buf_clear(buf);
    append_head(buf, line, is_json);
    for (size_t i = 0; i < line->n_fields; i++) {
        if (is_left_out(&line->fields[i])) {
            continue;
        }
        size_t len = buf->len;
        append_field(buf, &line->fields[i], is_json, is_first);
        if (!buf_ok(buf) || buf->len > LOG_LINE_MAX - LINE_END) {
            buf_truncate(buf, len);
            buf->is_overflowed = false;
            is_cut = true;
            continue;
        }
        is_first = false;
    }
    if (is_cut) {
        buf_append_str(buf, is_json ? truncated_json : truncated_text);
    }
    buf_append_str(buf, is_json ? "}\n" : "\n");
    CHECK(buf_ok(buf));
}

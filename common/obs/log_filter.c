// SPDX-License-Identifier: Apache-2.0
#include "common/obs/log_filter.h"

static const char *const level_names[] = {
    [LOG_LEVEL_OFF] = "off",   [LOG_LEVEL_ERROR] = "error", [LOG_LEVEL_WARN] = "warn",
    [LOG_LEVEL_INFO] = "info", [LOG_LEVEL_DEBUG] = "debug", [LOG_LEVEL_TRACE] = "trace",
};

const char *log_level_name(enum log_level level) {
    return level_names[level];
}

bool log_level_parse(struct slice text, enum log_level *ret_level) {
    for (size_t i = 0; i < ARRAY_LEN(level_names); i++) {
        if (slice_eq_nocase(text, slice_str(level_names[i]))) {
            *ret_level = (enum log_level)i;
            return true;
        }
    }
    if (slice_eq_nocase(text, SLICE_LIT("warning"))) {
        *ret_level = LOG_LEVEL_WARN;
        return true;
    }
    return false;
}

void log_filter_init(struct log_filter *filter) {
    *filter = (struct log_filter){0};
}

static bool set_rule(struct log_filter *filter, struct slice name, enum log_level level,
                     struct buf *ret_error) {
    for (size_t i = 0; i < filter->n_rules; i++) {
        if (slice_eq_str(name, filter->rules[i].name)) {
            filter->rules[i].level = level;
            return true;
        }
    }
    if (name.len >= LOG_FILTER_MAX_NAME) {
        buf_printf(ret_error, "log scope name is longer than %d bytes", LOG_FILTER_MAX_NAME - 1);
        return false;
    }
    if (filter->n_rules == LOG_FILTER_MAX_RULES) {
        buf_printf(ret_error, "more than %d log directives", LOG_FILTER_MAX_RULES);
        return false;
    }
    struct log_filter_rule *rule = &filter->rules[filter->n_rules++];
    *rule = (struct log_filter_rule){.level = level};
    if (name.len > 0) {
        memcpy(rule->name, name.ptr, name.len);
    }
    return true;
}

static bool is_name_byte(uint8_t c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' ||
           c == '-' || c == '.' || c == ':';
}

static bool parse_directive(struct log_filter *filter, struct slice text, struct buf *ret_error) {
    struct slice name = {0};
    struct slice level_text = text;
    enum log_level level;
    bool has_name = slice_split(text, '=', &name, &level_text);
    // "mesh::dns" alone: everything of that scope, as in RUST_LOG.
    if (!has_name && !log_level_parse(text, &level)) {
        name = text;
        level_text = SLICE_LIT("trace");
    }
    name = slice_trim(name);
    if (!log_level_parse(slice_trim(level_text), &level)) {
        buf_printf(ret_error, "unknown log level in \"%.*s\"", SLICE_ARG(slice_head(text, 80)));
        return false;
    }
    // ztunnel's own targets begin with its name; it leaves that out of its lines.
    if (slice_has_prefix(name, SLICE_LIT("ztunnel::"))) {
        name = slice_skip(name, strlen("ztunnel::"));
    }
    for (size_t i = 0; i < name.len; i++) {
        if (!is_name_byte(name.ptr[i])) {
            buf_printf(ret_error, "bad log scope in \"%.*s\"", SLICE_ARG(slice_head(text, 80)));
            return false;
        }
    }
    return set_rule(filter, name, level, ret_error);
}

bool log_filter_parse(struct log_filter *filter, struct slice text, struct buf *ret_error) {
    struct log_filter parsed = *filter;
    while (text.len > 0) {
        struct slice directive = text;
        struct slice rest = {0};
        (void)slice_split(text, ',', &directive, &rest);
        directive = slice_trim(directive);
        if (directive.len > 0 && !parse_directive(&parsed, directive, ret_error)) {
            return false;
        }
        text = rest;
    }
    *filter = parsed;
    return true;
}

static bool covers(const char *rule_name, size_t len, const char *scope_name) {
    if (len == 0) {
        return true;
    }
    const char *rest = scope_name + len;
    return strncmp(rule_name, scope_name, len) == 0 &&
           (rest[0] == '\0' || (rest[0] == ':' && rest[1] == ':'));
}

enum log_level log_filter_level(const struct log_filter *filter, const char *scope_name) {
    enum log_level level = LOG_LEVEL_OFF;
    size_t best = 0;
    for (size_t i = 0; i < filter->n_rules; i++) {
        const struct log_filter_rule *rule = &filter->rules[i];
        size_t len = strlen(rule->name);
        if (len >= best && covers(rule->name, len, scope_name)) {
            best = len;
            level = rule->level;
        }
    }
    return level;
}

void log_filter_print(const struct log_filter *filter, struct buf *ret_text) {
    for (size_t i = 0; i < filter->n_rules; i++) {
        const struct log_filter_rule *rule = &filter->rules[i];
        buf_printf(ret_text, "%s%s%s%s", i > 0 ? "," : "", rule->name,
                   rule->name[0] != '\0' ? "=" : "", log_level_name(rule->level));
    }
}

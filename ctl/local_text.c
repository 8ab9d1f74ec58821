// SPDX-License-Identifier: Apache-2.0

#include "ctl/local_text.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void text_add(struct text *text, const char *fmt, ...) {
    va_list args, again;
    va_start(args, fmt);
    va_copy(again, args);
    int n = vsnprintf(NULL, 0, fmt, args);
    va_end(args);
    CHECK(n >= 0);
    if (text->cap - text->len < (size_t)n + 1) {
        text->cap = (text->len + (size_t)n + 1) * 2;
        text->ptr = xrealloc(text->ptr, text->cap);
    }
    vsnprintf(text->ptr + text->len, text->cap - text->len, fmt, again);
    va_end(again);
    text->len += (size_t)n;
}

char *text_take(struct text *text) {
    char *ptr = text->ptr != NULL ? text->ptr : xstrdup("");
    *text = (struct text){0};
    return ptr;
}

void text_fini(struct text *text) {
    free(text->ptr);
    *text = (struct text){0};
}

void strv_add(struct strv *v, char *item) {
    v->items = xrealloc(v->items, (v->n + 2) * sizeof(char *));
    v->items[v->n++] = item;
    v->items[v->n] = NULL;
}

void strv_addf(struct strv *v, const char *fmt, ...) {
    va_list args;
    va_start(args, fmt);
    char *item = NULL;
    CHECK(vasprintf(&item, fmt, args) >= 0);
    va_end(args);
    strv_add(v, item);
}

void strv_free_items(char **items) {
    for (size_t i = 0; items != NULL && items[i] != NULL; i++) {
        free(items[i]);
    }
    free(items);
}

void strv_free(struct strv *v) {
    strv_free_items(v->items);
    *v = (struct strv){0};
}

static char **env_find(char *const *env, const char *key) {
    size_t len = strlen(key);
    for (size_t i = 0; env != NULL && env[i] != NULL; i++) {
        if (strncmp(env[i], key, len) == 0 && env[i][len] == '=') {
            return (char **)&env[i];
        }
    }
    return NULL;
}

const char *env_get(char *const *env, const char *key) {
    char **item = env_find(env, key);
    return item != NULL ? strchr(*item, '=') + 1 : NULL;
}

void env_set(struct strv *env, const char *key, const char *value) {
    char **item = env_find(env->items, key);
    if (item == NULL) {
        strv_addf(env, "%s=%s", key, value);
        return;
    }
    free(*item);
    *item = xasprintf("%s=%s", key, value);
}

static const char base64_digits[] =
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

char *text_base64(const void *data, size_t len) {
    const uint8_t *in = data;
    char *out = xmalloc((len + 2) / 3 * 4 + 1), *at = out;
    for (size_t i = 0; i < len; i += 3) {
        uint32_t group = (uint32_t)in[i] << 16;
        group |= i + 1 < len ? (uint32_t)in[i + 1] << 8 : 0;
        group |= i + 2 < len ? in[i + 2] : 0;
        *at++ = base64_digits[group >> 18];
        *at++ = base64_digits[group >> 12 & 63];
        *at++ = i + 1 < len ? base64_digits[group >> 6 & 63] : '=';
        *at++ = i + 2 < len ? base64_digits[group & 63] : '=';
    }
    *at = '\0';
    return out;
}

bool text_unbase64(const char *text, uint8_t **ret_data, size_t *ret_len) {
    uint8_t *out = xmalloc(strlen(text) / 4 * 3 + 4);
    size_t len = 0;
    uint32_t group = 0;
    int n_digits = 0;
    const char *at = text;
    for (; *at != '\0' && *at != '='; at++) {
        if (*at == '\n' || *at == '\r') {
            continue;
        }
        const char *digit = strchr(base64_digits, *at);
        if (digit == NULL) {
            free(out);
            return false;
        }
        group = group << 6 | (uint32_t)(digit - base64_digits);
        if (++n_digits == 4) {
            out[len++] = (uint8_t)(group >> 16);
            out[len++] = (uint8_t)(group >> 8);
            out[len++] = (uint8_t)group;
            group = 0;
            n_digits = 0;
        }
    }
    if (n_digits == 1) {
        free(out);
        return false;
    }
    if (n_digits >= 2) {
        out[len++] = (uint8_t)(group >> (n_digits == 2 ? 4 : 10));
    }
    if (n_digits == 3) {
        out[len++] = (uint8_t)(group >> 2);
    }
    out[len] = 0;
    *ret_data = out;
    *ret_len = len;
    return true;
}

char *text_expand(const char *text, char *const *env) {
    struct text out = {0};
    while (*text != '\0') {
        const char *dollar = strchr(text, '$');
        if (dollar == NULL) {
            text_add(&out, "%s", text);
            break;
        }
        text_add(&out, "%.*s", (int)(dollar - text), text);
        const char *end = dollar[1] == '(' ? strchr(dollar, ')') : NULL;
        if (dollar[1] == '$') {
            text_add(&out, "$");
            text = dollar + 2;
        } else if (end == NULL) {
            text_add(&out, "$");
            text = dollar + 1;
        } else {
            char *key = xstrndup(dollar + 2, (size_t)(end - dollar - 2));
            const char *value = env_get(env, key);
            if (value != NULL) {
                text_add(&out, "%s", value);
            } else {
                text_add(&out, "$(%s)", key);
            }
            free(key);
            text = end + 1;
        }
    }
    return text_take(&out);
}

bool text_glob(const char *pattern, const char *text) {
    const char *star = NULL, *retry = NULL;
    while (*text != '\0') {
        if (*pattern == '*') {
            star = ++pattern;
            retry = text;
        } else if (*pattern == '?' || *pattern == *text) {
            pattern++;
            text++;
        } else if (star != NULL) {
            pattern = star;
            text = ++retry;
        } else {
            return false;
        }
    }
    while (*pattern == '*') {
        pattern++;
    }
    return *pattern == '\0';
}

uint32_t text_share(const char *text, uint32_t total, bool is_up, uint32_t fallback) {
    char *end = NULL;
    unsigned long n = strtoul(text, &end, 10);
    if (end == text || n > 100000) {
        return fallback;
    }
    if (*end == '%') {
        uint64_t share = (uint64_t)n * total;
        return (uint32_t)((share + (is_up ? 99 : 0)) / 100);
    }
    return (uint32_t)n;
}

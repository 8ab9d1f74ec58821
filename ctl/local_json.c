// SPDX-License-Identifier: Apache-2.0

#include "ctl/local_json.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/slice.h"

enum { JS_KEY_MAX = 128 };

// Splits the first key off *path into key. False when it does not fit or there is none left.
static bool next_key(const char **path, char key[JS_KEY_MAX]) {
    size_t len = strcspn(*path, ".");
    if (len == 0 || len >= JS_KEY_MAX) {
        return false;
    }
    memcpy(key, *path, len);
    key[len] = '\0';
    *path += len;
    if (**path == '.') {
        (*path)++;
    }
    return true;
}

json_t *js_get(const json_t *object, const char *path) {
    char key[JS_KEY_MAX];
    const json_t *at = object;
    while (at != NULL && next_key(&path, key)) {
        at = json_object_get(at, key);
    }
    return (json_t *)at;
}

const char *js_str(const json_t *object, const char *path, const char *fallback) {
    const char *text = json_string_value(js_get(object, path));
    return text != NULL ? text : fallback;
}

long long js_int(const json_t *object, const char *path, long long fallback) {
    const json_t *value = js_get(object, path);
    if (json_is_integer(value)) {
        return json_integer_value(value);
    }
    if (json_is_real(value)) {
        return (long long)json_real_value(value);
    }
    if (json_is_string(value)) {
        const char *text = json_string_value(value);
        char *end = NULL;
        long long number = strtoll(text, &end, 10);
        return end != text && *end == '\0' ? number : fallback;
    }
    return fallback;
}

bool js_bool(const json_t *object, const char *path, bool fallback) {
    const json_t *value = js_get(object, path);
    return json_is_boolean(value) ? json_is_true(value) : fallback;
}

size_t js_len(const json_t *object, const char *path) {
    return json_array_size(js_get(object, path));
}

// The object that holds the last key of `path`, made on the way.
static json_t *parent_of(json_t *object, const char *path, char key[JS_KEY_MAX]) {
    json_t *at = object;
    CHECK(next_key(&path, key));
    while (*path != '\0') {
        json_t *next = json_object_get(at, key);
        if (!json_is_object(next)) {
            next = json_object();
            json_object_set_new(at, key, next);
        }
        at = next;
        CHECK(next_key(&path, key));
    }
    return at;
}

void js_set(json_t *object, const char *path, json_t *value) {
    char key[JS_KEY_MAX];
    json_t *parent = parent_of(object, path, key);
    json_object_set_new(parent, key, value);
}

void js_set_str(json_t *object, const char *path, const char *value) {
    js_set(object, path, json_string(value));
}

void js_del(json_t *object, const char *path) {
    const char *dot = strrchr(path, '.');
    if (dot == NULL) {
        json_object_del(object, path);
        return;
    }
    char head[JS_KEY_MAX * 4];
    snprintf(head, sizeof(head), "%.*s", (int)(dot - path), path);
    json_object_del(js_get(object, head), dot + 1);
}

json_t *js_object_at(json_t *object, const char *path) {
    json_t *value = js_get(object, path);
    if (!json_is_object(value)) {
        js_set(object, path, json_object());
        value = js_get(object, path);
    }
    return value;
}

json_t *js_array_at(json_t *object, const char *path) {
    json_t *value = js_get(object, path);
    if (!json_is_array(value)) {
        js_set(object, path, json_array());
        value = js_get(object, path);
    }
    return value;
}

const char *js_text(const json_t *value, char *buf, size_t cap) {
    if (json_is_string(value)) {
        return json_string_value(value);
    }
    buf[0] = '\0';
    if (json_is_integer(value)) {
        snprintf(buf, cap, "%lld", (long long)json_integer_value(value));
    } else if (json_is_real(value)) {
        snprintf(buf, cap, "%g", json_real_value(value));
    } else if (json_is_boolean(value)) {
        snprintf(buf, cap, "%s", json_is_true(value) ? "true" : "false");
    }
    return buf;
}

const char *js_kind(const json_t *doc) {
    return js_str(doc, "kind", "");
}

const char *js_name(const json_t *doc) {
    return js_str(doc, "metadata.name", "");
}

const char *js_ns(const json_t *doc) {
    return js_str(doc, "metadata.namespace", "");
}

const char *js_label(const json_t *doc, const char *key) {
    return json_string_value(json_object_get(js_get(doc, "metadata.labels"), key));
}

const char *js_annotation(const json_t *doc, const char *key) {
    return json_string_value(json_object_get(js_get(doc, "metadata.annotations"), key));
}

void js_set_annotation(json_t *doc, const char *key, const char *value) {
    json_object_set_new(js_object_at(doc, "metadata.annotations"), key, json_string(value));
}

bool js_selector_matches(const json_t *selector, const json_t *labels) {
    if (json_object_size(selector) == 0) {
        return false;
    }
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)selector, key, value) {
        const char *have = json_string_value(json_object_get(labels, key));
        const char *want = json_string_value(value);
        if (have == NULL || want == NULL || strcmp(have, want) != 0) {
            return false;
        }
    }
    return true;
}

static bool expression_matches(const json_t *expression, const json_t *labels) {
    const char *op = js_str(expression, "operator", "");
    const char *have = json_string_value(json_object_get(labels, js_str(expression, "key", "")));
    if (strcmp(op, "Exists") == 0) {
        return have != NULL;
    }
    if (strcmp(op, "DoesNotExist") == 0) {
        return have == NULL;
    }
    bool is_in = false;
    size_t i;
    json_t *value;
    json_array_foreach(js_get(expression, "values"), i, value) {
        const char *text = json_string_value(value);
        is_in = is_in || (have != NULL && text != NULL && strcmp(text, have) == 0);
    }
    if (strcmp(op, "In") == 0) {
        return is_in;
    }
    return strcmp(op, "NotIn") == 0 && !is_in;
}

bool js_label_selector_matches(const json_t *selector, const json_t *labels) {
    const json_t *match = js_get(selector, "matchLabels");
    if (json_object_size(match) != 0 && !js_selector_matches(match, labels)) {
        return false;
    }
    size_t i;
    json_t *expression;
    json_array_foreach(js_get(selector, "matchExpressions"), i, expression) {
        if (!expression_matches(expression, labels)) {
            return false;
        }
    }
    return selector != NULL;
}

uint64_t js_hash_text(const char *text) {
    uint64_t hash = UINT64_C(0xcbf29ce484222325);
    for (; *text != '\0'; text++) {
        hash = (hash ^ (uint8_t)*text) * UINT64_C(0x100000001b3);
    }
    return hash;
}

uint64_t js_hash(const json_t *value) {
    char *text = json_dumps(value, JSON_COMPACT | JSON_SORT_KEYS | JSON_ENCODE_ANY);
    uint64_t hash = text != NULL ? js_hash_text(text) : 0;
    free(text);
    return hash;
}

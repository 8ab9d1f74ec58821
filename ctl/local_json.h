// SPDX-License-Identifier: Apache-2.0
//
// Small helpers over jansson for Kubernetes objects, which the lab keeps as whole JSON trees: what
// it does not understand has to reach the proxies unchanged.
//
// Paths are dotted object keys ("spec.template.metadata"); keys that contain dots are looked up
// with json_object_get(). Getters accept NULL and any wrong type, and then give the default.
#pragma once

#include <jansson.h>
#include <stdbool.h>

#include "common/base/check.h"

json_t *js_get(const json_t *object, const char *path); // borrowed, NULL when absent
const char *js_str(const json_t *object, const char *path, const char *fallback);
// Integers, and reals or decimal text that are integers.
long long js_int(const json_t *object, const char *path, long long fallback);
bool js_bool(const json_t *object, const char *path, bool fallback);
size_t js_len(const json_t *object, const char *path); // array length, 0 when it is none

// Sets a value, making the objects on the way; takes the reference to `value`.
void js_set(json_t *object, const char *path, json_t *value);
void js_set_str(json_t *object, const char *path, const char *value);
void js_del(json_t *object, const char *path);
// js_get, but makes an empty object or array where there is none.
json_t *js_object_at(json_t *object, const char *path);
json_t *js_array_at(json_t *object, const char *path);

// A scalar as text in buf (numbers, booleans); other types give "".
const char *js_text(const json_t *value, char *buf, size_t cap);

const char *js_kind(const json_t *doc);
const char *js_name(const json_t *doc);
const char *js_ns(const json_t *doc); // "" when absent
const char *js_label(const json_t *doc, const char *key); // NULL when absent
const char *js_annotation(const json_t *doc, const char *key); // NULL when absent
void js_set_annotation(json_t *doc, const char *key, const char *value);

// Map selector (Service): every pair is in `labels`. Empty or NULL selects nothing.
bool js_selector_matches(const json_t *selector, const json_t *labels);
// apps/v1 LabelSelector: matchLabels and matchExpressions.
bool js_label_selector_matches(const json_t *selector, const json_t *labels);

// FNV-1a over the canonical text (sorted keys): the same in every process.
uint64_t js_hash(const json_t *value);
uint64_t js_hash_text(const char *text);

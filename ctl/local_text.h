// SPDX-License-Identifier: Apache-2.0
//
// Text helpers of the lab: growing strings, base64, $(VAR) expansion, string vectors, globs.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/check.h"

struct text { // zeroed = empty; `ptr` is NUL-terminated once something was added
    char *ptr;
    size_t len, cap;
};
void text_add(struct text *text, const char *fmt, ...) PRINTF_LIKE(2, 3);
char *text_take(struct text *text); // never NULL; the caller frees; `text` is empty again
void text_fini(struct text *text);

struct strv { // NULL-terminated vector of heap strings; zeroed = empty
    char **items;
    size_t n;
};
void strv_add(struct strv *v, char *item); // takes `item`
void strv_addf(struct strv *v, const char *fmt, ...) PRINTF_LIKE(2, 3);
void strv_free(struct strv *v);
void strv_free_items(char **items); // NULL ok
// "K=V" list: the value of `key`, NULL = absent.
const char *env_get(char *const *env, const char *key);
void env_set(struct strv *env, const char *key, const char *value); // replaces or adds

char *text_base64(const void *data, size_t len);
// Decodes; ignores line breaks. False when it is not base64. The caller frees.
bool text_unbase64(const char *text, uint8_t **ret_data, size_t *ret_len);
// Kubernetes' $(VAR), $$(VAR) stays "$(VAR)", unknown names stay as they are. The caller frees.
char *text_expand(const char *text, char *const *env);
// '*' matches any run, '?' one character.
bool text_glob(const char *pattern, const char *text);
// "5", "25%" of total; rounded up or down.
uint32_t text_share(const char *text, uint32_t total, bool is_up, uint32_t fallback);

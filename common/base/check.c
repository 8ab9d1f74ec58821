// SPDX-License-Identifier: Apache-2.0
#include "common/base/check.h"

#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void (*_Atomic failure_hook)(void);

void check_set_hook(void (*hook)(void)) {
    atomic_store(&failure_hook, hook);
}

_Noreturn void check_failed(const char *file, int line, const char *what) {
    // One write, without stdio buffers: their locks may be held by the thread that failed.
    char text[512];
    int len = snprintf(text, sizeof(text), "CHECK failed: %s:%d: %s\n", file, line, what);
    if (len > 0) {
        size_t n_bytes = (size_t)len < sizeof(text) ? (size_t)len : sizeof(text) - 1;
        ssize_t ignored = write(STDERR_FILENO, text, n_bytes);
        (void)ignored;
    }
    void (*hook)(void) = atomic_exchange(&failure_hook, NULL);
    if (hook != NULL) {
        hook();
    }
    abort();
}

static _Noreturn void out_of_memory(void) {
    check_failed(__FILE__, __LINE__, "out of memory");
}

void *xmalloc(size_t size) {
    void *ptr = malloc(size != 0 ? size : 1);
    if (UNLIKELY(ptr == NULL)) {
        out_of_memory();
    }
    return ptr;
}

void *xcalloc(size_t n, size_t size) {
    void *ptr = n != 0 && size != 0 ? calloc(n, size) : calloc(1, 1);
    if (UNLIKELY(ptr == NULL)) {
        out_of_memory();
    }
    return ptr;
}

void *xrealloc(void *ptr, size_t size) {
    if (ptr == NULL) { // the usual allocator takes longer to find that out
        return xmalloc(size);
    }
    void *grown = realloc(ptr, size != 0 ? size : 1);
    if (UNLIKELY(grown == NULL)) {
        out_of_memory();
    }
    return grown;
}

char *xstrdup(const char *text) {
    size_t size = strlen(text) + 1;
    return memcpy(xmalloc(size), text, size);
}

char *xstrndup(const char *text, size_t max_len) {
    size_t len = strnlen(text, max_len);
    char *copy = xmalloc(len + 1);
    memcpy(copy, text, len);
    copy[len] = '\0';
    return copy;
}

char *xasprintf(const char *fmt, ...) {
    va_list args;
    va_start(args, fmt);
    char *text = NULL;
    int len = vasprintf(&text, fmt, args);
    va_end(args);
    if (UNLIKELY(len < 0)) {
        out_of_memory();
    }
    return text;
}

void wipe(void *ptr, size_t len) {
    if (len != 0) {
        explicit_bzero(ptr, len);
    }
}

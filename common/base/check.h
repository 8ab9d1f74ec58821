// SPDX-License-Identifier: Apache-2.0
//
// Assertions for our own bugs, and small compiler helpers.
//
// CHECK() is always on. It guards invariants of this program only: bytes from a peer, a file or a
// control plane never reach one (those get error codes). A failed CHECK writes one line to stderr
// and aborts the process.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define MUST_USE __attribute__((warn_unused_result))
#define PRINTF_LIKE(fmt, args) __attribute__((format(printf, fmt, args)))
#define LIKELY(x) __builtin_expect(!!(x), 1)
#define UNLIKELY(x) __builtin_expect(!!(x), 0)
#define ARRAY_LEN(a) (sizeof(a) / sizeof((a)[0]))
#define MIN(a, b) ((a) < (b) ? (a) : (b))
#define MAX(a, b) ((a) > (b) ? (a) : (b))

// The object that embeds `member` at address `ptr`.
#define CONTAINER_OF(ptr, type, member) ((type *)((char *)(ptr)-offsetof(type, member)))

#define CHECK(cond)                                                                                \
    do {                                                                                           \
        if (UNLIKELY(!(cond))) {                                                                   \
            check_failed(__FILE__, __LINE__, #cond);                                               \
        }                                                                                          \
    } while (0)

_Noreturn void check_failed(const char *file, int line, const char *what);
// `hook` runs once, between the line on stderr and the abort: the log writes what it has queued. It
// must not block or CHECK. NULL: none.
void check_set_hook(void (*hook)(void));

// Allocation that aborts instead of returning NULL: memory that a peer can make us ask for is
// bounded by caps elsewhere, so running out here is not a state we can serve from.
void *xmalloc(size_t size) __attribute__((malloc, returns_nonnull));
void *xcalloc(size_t n, size_t size) __attribute__((malloc, returns_nonnull));
void *xrealloc(void *ptr, size_t size) __attribute__((returns_nonnull));
char *xstrdup(const char *text) __attribute__((malloc, returns_nonnull));
char *xstrndup(const char *text, size_t max_len) __attribute__((malloc, returns_nonnull));
// printf into fresh heap memory; caller frees.
char *xasprintf(const char *fmt, ...) PRINTF_LIKE(1, 2) __attribute__((malloc, returns_nonnull));

// Overwrites memory that held a secret; never optimised away.
void wipe(void *ptr, size_t len);

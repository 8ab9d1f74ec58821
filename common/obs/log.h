// SPDX-License-Identifier: Apache-2.0
//
// Levelled, scoped log with typed fields.
//
//     LOG_SCOPE(log_xds, "xds");
//     log_warn(&log_xds, "connection lost", LOG_STR("server", url), LOG_U64("attempt", n));
//
// A line costs one relaxed load while its level is off; fields are evaluated only when it is on.
//
// Two modes. Direct (the start value; command line tools stay in it): a line is written by the
// thread that logs. Asynchronous (daemons, after log_start_async): each thread fills a bounded ring
// of its own, the control thread calls log_drain() when log_wake_fd() is readable. A full ring
// drops the line and counts it (log_dropped_total), so that an unread stdout blocks nobody.
//
// Formats are ztunnel's. Text: time, level, scope, message separated by tabs, then k=v separated by
// spaces, texts in quotes. JSON: one object a line with level, time, scope, message and the fields.
//
// Thread: any, unless a function says otherwise.
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "common/base/addr.h"
#include "common/base/buf.h"
#include "common/base/slice.h"

enum log_level {
    LOG_LEVEL_OFF,
    LOG_LEVEL_ERROR,
    LOG_LEVEL_WARN,
    LOG_LEVEL_INFO,
    LOG_LEVEL_DEBUG,
    LOG_LEVEL_TRACE,
};

enum log_format { LOG_FORMAT_TEXT, LOG_FORMAT_JSON };

enum {
    LOG_LINE_MAX =
        8192, // bytes of a line; fields that do not fit are left out and the line says so
    LOG_RING_SIZE = 256 * 1024, // bytes of queued lines a thread
};

// A named source of lines; the filter gives each its level. Several may share a name.
struct log_scope {
    const char *name; // "mesh::dns"
    _Atomic uint8_t level; // enum log_level: lines up to it are written
    struct log_scope *next;
};

// Defines a scope and registers it before main().
#define LOG_SCOPE(var, text)                                                                       \
    static struct log_scope var = {.name = (text), .level = LOG_LEVEL_INFO};                       \
    __attribute__((constructor)) static void var##_register(void) {                                \
        log_scope_register(&var);                                                                  \
    }                                                                                              \
    _Static_assert(true, "") // takes the semicolon

void log_scope_register(struct log_scope *scope);

enum log_field_type {
    LOG_FIELD_NONE,
    LOG_FIELD_TEXT, // quoted in text format
    LOG_FIELD_PLAIN, // a text that is quoted only when it has to be
    LOG_FIELD_U64,
    LOG_FIELD_I64,
    LOG_FIELD_BOOL,
    LOG_FIELD_MS, // "12ms"
    LOG_FIELD_ADDR,
    LOG_FIELD_IP,
};

struct log_field {
    const char *key;
    enum log_field_type type;
    union {
        struct slice text;
        uint64_t u64;
        int64_t i64;
        bool flag;
        const struct addr *addr;
        const struct ip *ip;
    };
};

// A text or address that is NULL or unset is left out of the line.
#define LOG_STR(k, s) ((struct log_field){.key = (k), .type = LOG_FIELD_TEXT, .text = slice_str(s)})
#define LOG_SLICE(k, s) ((struct log_field){.key = (k), .type = LOG_FIELD_TEXT, .text = (s)})
#define LOG_PLAIN(k, s) ((struct log_field){.key = (k), .type = LOG_FIELD_PLAIN, .text = (s)})
#define LOG_U64(k, n) ((struct log_field){.key = (k), .type = LOG_FIELD_U64, .u64 = (n)})
#define LOG_I64(k, n) ((struct log_field){.key = (k), .type = LOG_FIELD_I64, .i64 = (n)})
#define LOG_BOOL(k, b) ((struct log_field){.key = (k), .type = LOG_FIELD_BOOL, .flag = (b)})
#define LOG_MS(k, n) ((struct log_field){.key = (k), .type = LOG_FIELD_MS, .u64 = (n)})
#define LOG_ADDR(k, a) ((struct log_field){.key = (k), .type = LOG_FIELD_ADDR, .addr = (a)})
#define LOG_IP(k, a) ((struct log_field){.key = (k), .type = LOG_FIELD_IP, .ip = (a)})
// The text of an errno value; a negated one is taken too.
#define LOG_ERRNO(k, e) LOG_STR(k, log_errno_text(e))

const char *log_errno_text(int err);

static inline bool log_enabled(const struct log_scope *scope, enum log_level level) {
    return (unsigned)level <= atomic_load_explicit(&scope->level, memory_order_relaxed);
}

#define log_at(scope, lvl, message, ...)                                                           \
    do {                                                                                           \
        const struct log_scope *log_scope_ = (scope);                                              \
        if (UNLIKELY(log_enabled(log_scope_, (lvl)))) {                                            \
            const struct log_field log_fields_[] = {{.type = LOG_FIELD_NONE}, ##__VA_ARGS__};      \
            log_write(log_scope_, (lvl), (message), log_fields_ + 1, ARRAY_LEN(log_fields_) - 1);  \
        }                                                                                          \
    } while (0)
#define log_error(scope, message, ...) log_at(scope, LOG_LEVEL_ERROR, message, ##__VA_ARGS__)
#define log_warn(scope, message, ...) log_at(scope, LOG_LEVEL_WARN, message, ##__VA_ARGS__)
#define log_info(scope, message, ...) log_at(scope, LOG_LEVEL_INFO, message, ##__VA_ARGS__)
#define log_debug(scope, message, ...) log_at(scope, LOG_LEVEL_DEBUG, message, ##__VA_ARGS__)
#define log_trace(scope, message, ...) log_at(scope, LOG_LEVEL_TRACE, message, ##__VA_ARGS__)

// Writes the line without looking at the level. `message` is a literal of ours.
void log_write(const struct log_scope *scope, enum log_level level, const char *message,
               const struct log_field *fields, size_t n_fields);

// A line that has its own format (an access log in the format of the operator), as it is, with its
// newline. At most LOG_WHOLE_MAX bytes.
enum { LOG_WHOLE_MAX = 60 * 1024 };
void log_write_whole(struct slice line);

struct log_config {
    int fd; // where lines go; borrowed, stays open
    enum log_format format;
    const char *filter; // NULL or "" = "info"
};

// Sets output, format and filter (main thread, before other threads exist; before it lines go to
// stderr as text, at level info). False: the filter is wrong, the text is in ret_error and "info"
// is in force; all else is set.
bool log_init(const struct log_config *config, struct buf *ret_error);

// Filters: "info", "warn,access=info,mesh::dns=debug"; levels off, error, warn, info, debug, trace.
// A scope takes the directive with the longest name that is its own or an ancestor's ("mesh" is one
// of "mesh::dns"). `log_filter_set` replaces the filter, `log_filter_add` lets directives win over
// those in force, `log_filter_reset` goes back to that of log_init. False: wrong text, nothing
// changed, ret_error says why.
bool log_filter_set(struct slice text, struct buf *ret_error);
bool log_filter_add(struct slice text, struct buf *ret_error);
void log_filter_reset(void);
void log_filter_text(struct buf *ret_text);
void log_scopes_each(void (*fn)(void *arg, const struct log_scope *scope), void *arg);

// Starts asynchronous mode. The program ignores SIGPIPE. Threads need no registration: a ring is
// made with the first line of a thread and given up when the thread ends.
void log_start_async(void);
// Readable when lines wait. It stays quiet until the next log_drain(), so the caller may wait a few
// milliseconds to write more lines at once.
int log_wake_fd(void);
// Writes what is queued, in order of time, without blocking. Returns 0 when all is written, else
// the milliseconds after which to call again (the reader of the output is slow). One thread at a
// time does the work, others return.
int log_drain(void);
// The same for who comes back by itself, to write more lines at once: until it has called
// log_drain(), log_wake_fd() becomes readable only when much waits. Bytes of lines that it found.
int log_drain_some(size_t *ret_n_bytes);
// Back to direct mode; writes what is queued, waiting for the reader up to `timeout_ms`. Also run
// at exit (with LOG_EXIT_TIMEOUT_MS) and, for what it is worth, by a failed CHECK.
void log_stop_async(int timeout_ms);
enum { LOG_EXIT_TIMEOUT_MS = 500 };

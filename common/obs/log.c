// SPDX-License-Identifier: Apache-2.0
#include "common/obs/log.h"

#include <pthread.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "common/base/clock.h"
#include "common/obs/log_filter.h"
#include "common/obs/log_format.h"
#include "common/obs/log_out.h"
#include "common/obs/log_ring.h"
#include "common/obs/metrics.h"

enum {
    STAGING_SIZE = 64 * 1024, // a line fits into it
    DIRECT_TIMEOUT_MS = 1000, // a direct line waits no longer for a reader
    RETRY_MS = 50,
    ABORT_TIMEOUT_MS = 100,
};

_Static_assert((int)LOG_WHOLE_MAX <= (int)STAGING_SIZE && LOG_WHOLE_MAX <= LOG_RING_SIZE / 2 - 16,
               "the longest line fits into a ring and into the staging buffer");

// What a thread needs to log. Made with its first line; freed by itself, or by the drainer when it
// has a ring, which may hold lines after the thread ended.
struct log_thread {
    struct buf line; // scratch
    bool has_ring;
    struct log_ring ring;
    struct log_thread *next; // in `threads`
    _Atomic bool is_dead;
    _Atomic uint64_t n_dropped;
    uint64_t n_reported; // drainer's
};

LOG_SCOPE(log_self, "log");

// Scopes and filter.
static pthread_mutex_t scopes_lock = PTHREAD_MUTEX_INITIALIZER;
static struct log_scope *scopes;
static struct log_filter filter = {.rules = {{.level = LOG_LEVEL_INFO}}, .n_rules = 1};
static struct log_filter initial_filter = {.rules = {{.level = LOG_LEVEL_INFO}}, .n_rules = 1};

// Output: `drain_lock` is held by who writes to it, in both modes.
static pthread_mutex_t drain_lock = PTHREAD_MUTEX_INITIALIZER;
static struct log_out out = {.fd = STDERR_FILENO, .own_fd = -1};
static struct buf staging; // lines taken out of the rings
static size_t staging_written; // how much of `staging` is written
static _Atomic int format = LOG_FORMAT_TEXT;

// Threads with a ring. `threads_lock` is held briefly, never during a write.
static pthread_mutex_t threads_lock = PTHREAD_MUTEX_INITIALIZER;
static struct log_thread *threads;
static _Atomic bool is_async;
static _Atomic bool is_woken; // the drainer was told, or comes without
static _Atomic bool is_hurried; // it was told that a ring fills up, and did not begin yet
static size_t n_taken; // bytes of lines, all there were; `drain_lock`
static int wake_fd = -1;

static _Thread_local struct log_thread *self;
static pthread_key_t thread_key;
static pthread_once_t thread_key_once = PTHREAD_ONCE_INIT;

static void thread_free(struct log_thread *thread) {
    if (thread->has_ring) {
        log_ring_fini(&thread->ring);
    }
    buf_fini(&thread->line);
    free(thread);
}

static void thread_ends(void *arg) {
    struct log_thread *thread = arg;
    self = NULL;
    if (thread->has_ring) {
        atomic_store_explicit(&thread->is_dead, true, memory_order_release);
    } else {
        thread_free(thread);
    }
}

static void make_thread_key(void) {
    CHECK(pthread_key_create(&thread_key, thread_ends) == 0);
}

static struct log_thread *thread_here(void) {
    if (self == NULL) {
        pthread_once(&thread_key_once, make_thread_key);
        struct log_thread *thread = xcalloc(1, sizeof(*thread));
        buf_init(&thread->line, LOG_LINE_MAX + 1024);
        pthread_setspecific(thread_key, thread);
        self = thread;
    }
    return self;
}

static void give_ring(struct log_thread *thread) {
    log_ring_init(&thread->ring, LOG_RING_SIZE);
    thread->has_ring = true;
    pthread_mutex_lock(&threads_lock);
    thread->next = threads;
    threads = thread;
    pthread_mutex_unlock(&threads_lock);
}

static bool set_flag(_Atomic bool *flag) {
    return !atomic_load(flag) && !atomic_exchange(flag, true);
}

static void wake_drainer(struct log_ring *ring) {
    if (set_flag(&is_woken) || (log_ring_is_half_full(ring) && set_flag(&is_hurried))) {
        (void)eventfd_write(wake_fd, 1);
    }
}

static void queue_line(struct log_thread *thread, uint64_t wall_ns, struct slice line) {
    if (!thread->has_ring) {
        give_ring(thread);
    }
    if (!log_ring_push(&thread->ring, wall_ns, line)) {
        atomic_fetch_add_explicit(&thread->n_dropped, 1, memory_order_relaxed);
        metric_add(METRIC_LOG_DROPPED, 1);
    }
    wake_drainer(&thread->ring);
}

static void write_direct(struct slice line) {
    pthread_mutex_lock(&drain_lock);
    ssize_t n = log_out_write(&out, line, DIRECT_TIMEOUT_MS);
    pthread_mutex_unlock(&drain_lock);
    if (n < (ssize_t)line.len) {
        metric_add(METRIC_LOG_DROPPED, 1);
    }
}

static void write_line(struct log_thread *thread, uint64_t wall_ns, struct slice line) {
    if (atomic_load_explicit(&is_async, memory_order_acquire)) {
        queue_line(thread, wall_ns, line);
    } else {
        write_direct(line);
    }
}

void log_write_whole(struct slice line) {
    CHECK(line.len <= LOG_WHOLE_MAX);
    write_line(thread_here(), clock_wall_ns(), line);
}

void log_write(const struct log_scope *scope, enum log_level level, const char *message,
               const struct log_field *fields, size_t n_fields) {
    struct log_thread *thread = thread_here();
    struct log_line line = {
        .wall_ns = clock_wall_ns(),
        .level = level,
        .scope = scope->name,
        .message = message,
        .fields = fields,
        .n_fields = n_fields,
    };
    log_format_line(&thread->line,
                    (enum log_format)atomic_load_explicit(&format, memory_order_relaxed), &line);
    write_line(thread, line.wall_ns, buf_slice(&thread->line));
}

// Says in the log that lines of a thread are missing.
static void report_dropped(struct log_thread *thread, uint64_t wall_ns) {
    uint64_t n_dropped = atomic_load_explicit(&thread->n_dropped, memory_order_relaxed);
    if (n_dropped == thread->n_reported) {
        return;
    }
    struct log_field field = LOG_U64("lines", n_dropped - thread->n_reported);
    struct log_line line = {
        .wall_ns = wall_ns,
        .level = LOG_LEVEL_WARN,
        .scope = log_self.name,
        .message = "lines dropped, the reader of the log is too slow",
        .fields = &field,
        .n_fields = 1,
    };
    struct buf text;
    buf_init(&text, LOG_LINE_MAX + 1024);
    log_format_line(&text, (enum log_format)atomic_load(&format), &line);
    if (staging.len + text.len <= staging.max) {
        buf_append(&staging, buf_slice(&text));
        thread->n_reported = n_dropped;
    }
    buf_fini(&text);
}

// The ring whose first line is the oldest; NULL when all are empty.
static struct log_ring *oldest_ring(uint64_t *ret_time_ns, struct slice *ret_line) {
    struct log_ring *oldest = NULL;
    for (struct log_thread *thread = threads; thread != NULL; thread = thread->next) {
        uint64_t time_ns;
        struct slice line;
        if (log_ring_peek(&thread->ring, &time_ns, &line) &&
            (oldest == NULL || time_ns < *ret_time_ns)) {
            oldest = &thread->ring;
            *ret_time_ns = time_ns;
            *ret_line = line;
        }
    }
    return oldest;
}

static void free_dead_threads(void) {
    struct log_thread **at = &threads;
    while (*at != NULL) {
        struct log_thread *thread = *at;
        uint64_t time_ns;
        struct slice line;
        // Death first, then the ring: a thread pushes nothing after it.
        if (atomic_load_explicit(&thread->is_dead, memory_order_acquire) &&
            !log_ring_peek(&thread->ring, &time_ns, &line)) {
            *at = thread->next;
            thread_free(thread);
        } else {
            at = &thread->next;
        }
    }
}

// Moves lines into the empty staging buffer. False: there were none.
static bool fill_staging(void) {
    buf_clear(&staging);
    staging_written = 0;
    pthread_mutex_lock(&threads_lock);
    uint64_t time_ns = 0;
    struct slice line = {0};
    struct log_ring *ring;
    while ((ring = oldest_ring(&time_ns, &line)) != NULL && staging.len + line.len <= staging.max) {
        buf_append(&staging, line);
        n_taken += line.len;
        log_ring_pop(ring);
    }
    for (struct log_thread *thread = threads; thread != NULL; thread = thread->next) {
        report_dropped(thread, time_ns != 0 ? time_ns : clock_wall_ns());
    }
    free_dead_threads();
    pthread_mutex_unlock(&threads_lock);
    return staging.len > 0;
}

// Writes until all is written or the output takes no more for `timeout_ms`. False in that case.
static bool drain_locked(int timeout_ms) {
    while (staging_written < staging.len || fill_staging()) {
        struct slice rest = slice_skip(buf_slice(&staging), staging_written);
        ssize_t n = log_out_write(&out, rest, timeout_ms);
        // Nobody reads any more (EPIPE): the lines have nowhere to go.
        staging_written += n >= 0 ? (size_t)n : rest.len;
        if (staging_written < staging.len) {
            return false;
        }
    }
    return true;
}

static int drain(bool comes_back, size_t *ret_n_bytes) {
    *ret_n_bytes = 0;
    if (pthread_mutex_trylock(&drain_lock) != 0) {
        return RETRY_MS;
    }
    eventfd_t ignored;
    (void)eventfd_read(wake_fd, &ignored);
    // Before the rings are looked at: a line that comes later wakes us again.
    atomic_store(&is_hurried, false);
    atomic_store(&is_woken, comes_back);
    size_t before = n_taken;
    bool is_done = drain_locked(0);
    *ret_n_bytes = n_taken - before;
    pthread_mutex_unlock(&drain_lock);
    return is_done ? 0 : RETRY_MS;
}

int log_drain(void) {
    size_t n_bytes;
    return drain(false, &n_bytes);
}

int log_drain_some(size_t *ret_n_bytes) {
    return drain(true, ret_n_bytes);
}

int log_wake_fd(void) {
    return wake_fd;
}

static void flush_at_abort(void) {
    if (pthread_mutex_trylock(&drain_lock) == 0) {
        (void)drain_locked(ABORT_TIMEOUT_MS);
        pthread_mutex_unlock(&drain_lock);
    }
}

static void stop_at_exit(void) {
    log_stop_async(LOG_EXIT_TIMEOUT_MS);
}

void log_start_async(void) {
    pthread_mutex_lock(&drain_lock);
    if (wake_fd < 0) {
        wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
        CHECK(wake_fd >= 0);
        buf_init(&staging, STAGING_SIZE);
        CHECK(atexit(stop_at_exit) == 0);
        check_set_hook(flush_at_abort);
    }
    pthread_mutex_unlock(&drain_lock);
    atomic_store_explicit(&is_async, true, memory_order_release);
}

void log_stop_async(int timeout_ms) {
    if (!atomic_exchange(&is_async, false)) {
        return;
    }
    pthread_mutex_lock(&drain_lock);
    (void)drain_locked(timeout_ms);
    pthread_mutex_unlock(&drain_lock);
}

static void apply_filter(void) {
    for (struct log_scope *scope = scopes; scope != NULL; scope = scope->next) {
        atomic_store_explicit(&scope->level, (uint8_t)log_filter_level(&filter, scope->name),
                              memory_order_relaxed);
    }
}

void log_scope_register(struct log_scope *scope) {
    pthread_mutex_lock(&scopes_lock);
    scope->next = scopes;
    scopes = scope;
    atomic_store_explicit(&scope->level, (uint8_t)log_filter_level(&filter, scope->name),
                          memory_order_relaxed);
    pthread_mutex_unlock(&scopes_lock);
}

static bool change_filter(const struct log_filter *from, struct slice text, struct buf *ret_error) {
    pthread_mutex_lock(&scopes_lock);
    struct log_filter changed = *from;
    bool is_ok = log_filter_parse(&changed, text, ret_error);
    if (is_ok) {
        filter = changed;
        apply_filter();
    }
    pthread_mutex_unlock(&scopes_lock);
    return is_ok;
}

bool log_filter_set(struct slice text, struct buf *ret_error) {
    static const struct log_filter none;
    return change_filter(&none, text, ret_error);
}

bool log_filter_add(struct slice text, struct buf *ret_error) {
    return change_filter(&filter, text, ret_error);
}

void log_filter_reset(void) {
    (void)change_filter(&initial_filter, (struct slice){0}, NULL);
}

void log_filter_text(struct buf *ret_text) {
    pthread_mutex_lock(&scopes_lock);
    log_filter_print(&filter, ret_text);
    pthread_mutex_unlock(&scopes_lock);
}

void log_scopes_each(void (*fn)(void *arg, const struct log_scope *scope), void *arg) {
    pthread_mutex_lock(&scopes_lock);
    for (const struct log_scope *scope = scopes; scope != NULL; scope = scope->next) {
        fn(arg, scope);
    }
    pthread_mutex_unlock(&scopes_lock);
}

bool log_init(const struct log_config *config, struct buf *ret_error) {
    pthread_mutex_lock(&drain_lock);
    log_out_fini(&out);
    log_out_init(&out, config->fd);
    pthread_mutex_unlock(&drain_lock);
    atomic_store(&format, config->format);
    struct slice text = slice_str(config->filter);
    bool is_ok = log_filter_set(text.len > 0 ? text : SLICE_LIT("info"), ret_error);
    if (!is_ok) {
        (void)log_filter_set(SLICE_LIT("info"), NULL);
    }
    initial_filter = filter;
    return is_ok;
}

const char *log_errno_text(int err) {
    const char *text = strerrordesc_np(err < 0 ? -err : err);
    return text != NULL ? text : "unknown error";
}

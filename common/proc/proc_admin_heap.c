// SPDX-License-Identifier: Apache-2.0
//
// Heap profiles by jemalloc. They need three things: a build with jemalloc (not a sanitizer), a
// jemalloc that was built with profiling, and MALLOC_CONF=prof:true when the program starts. The
// answers say which one is missing.
#include "common/proc/proc_admin.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#ifdef ZTUN_JEMALLOC
#include <jemalloc/jemalloc.h>

static bool read_flag(const char *name) {
    bool value = false;
    size_t len = sizeof(value);
    return mallctl(name, &value, &len, NULL, 0) == 0 && value;
}

// NULL: profiling can be used.
static const char *what_is_missing(void) {
    if (!read_flag("config.prof")) {
        return "this jemalloc was built without heap profiling\n";
    }
    if (!read_flag("opt.prof")) {
        return "heap profiling is off: start the program with "
               "MALLOC_CONF=prof:true,prof_active:false\n";
    }
    return NULL;
}

static int activate(bool on) {
    return mallctl("prof.active", NULL, NULL, &on, sizeof(on));
}

static int dump_to(const char *path) {
    return mallctl("prof.dump", NULL, NULL, &path, sizeof(path));
}
#else
static bool read_flag(const char *name) {
    (void)name;
    return false;
}

static const char *what_is_missing(void) {
    return "this program was built without jemalloc: no heap profiling\n";
}

static int activate(bool on) {
    (void)on;
    return ENOSYS;
}

static int dump_to(const char *path) {
    (void)path;
    return ENOSYS;
}
#endif

static bool read_all(int fd, struct buf *body) {
    struct stat st;
    if (fstat(fd, &st) < 0 || lseek(fd, 0, SEEK_SET) < 0) {
        return false;
    }
    uint8_t *at = buf_reserve(body, (size_t)st.st_size);
    ssize_t n = at != NULL ? read(fd, at, (size_t)st.st_size) : -1;
    if (n < 0) {
        return false;
    }
    buf_commit(body, (size_t)n);
    return true;
}

void proc_admin_heap(void *arg, struct http_exchange *exchange, const struct http_query *query) {
    (void)arg;
    const char *missing = what_is_missing();
    if (missing != NULL) {
        proc_admin_reply_text(exchange, 501, missing);
        return;
    }
    if (!read_flag("prof.active")) {
        proc_admin_reply_text(exchange, 400,
                              "heap profiling is not active: ask for "
                              "/debug/pprof/heap/profiling?activate=true, and wait a while\n");
        return;
    }
    // jemalloc writes files by name; this one has no name on any disk.
    int fd = memfd_create("heap", MFD_CLOEXEC);
    char path[64];
    snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    struct buf body;
    buf_init(&body, PROC_ADMIN_BODY_MAX);
    if (fd < 0 || dump_to(path) != 0 || !read_all(fd, &body)) {
        proc_admin_reply_text(exchange, 500, "the heap profile cannot be written\n");
        buf_fini(&body);
    } else {
        proc_admin_reply(exchange, query, 200, "application/octet-stream", &body);
    }
    if (fd >= 0) {
        close(fd);
    }
}

void proc_admin_heap_profiling(void *arg, struct http_exchange *exchange,
                               const struct http_query *query) {
    (void)arg;
    const char *missing = what_is_missing();
    struct slice value;
    if (missing != NULL) {
        proc_admin_reply_text(exchange, 501, missing);
        return;
    }
    if (http_query_get(query->query, "activate", &value)) {
        bool on = slice_eq_str(value, "true");
        if (!on && !slice_eq_str(value, "false")) {
            proc_admin_reply_text(exchange, 400, "usage: ?activate=true|false\n");
            return;
        }
        if (activate(on) != 0) {
            proc_admin_reply_text(exchange, 500, "jemalloc refused\n");
            return;
        }
    }
    proc_admin_reply_text(exchange, 200,
                          read_flag("prof.active") ? "heap profiling is active\n"
                                                   : "heap profiling is not active\n");
}

void proc_admin_cpu_profile(void *arg, struct http_exchange *exchange,
                            const struct http_query *query) {
    (void)arg;
    (void)query;
    char text[256];
    snprintf(text, sizeof(text), "CPU profiles are perf's work: perf record -g -p %d -- sleep 10\n",
             getpid());
    proc_admin_reply_text(exchange, 501, text);
}

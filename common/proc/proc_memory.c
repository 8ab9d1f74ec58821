// SPDX-License-Identifier: Apache-2.0
#include "common/proc/proc_memory.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/obs/log.h"

#ifdef ZTUN_JEMALLOC
#include <jemalloc/jemalloc.h>
#define ARENAS_ALL "4096" // MALLCTL_ARENAS_ALL as text
_Static_assert(MALLCTL_ARENAS_ALL == 4096, "jemalloc's number for all arenas");

// Read by jemalloc before main(). Start, configuration and the rules of a pod use for a moment much
// more than they keep: it goes back within a second, not within ten. MALLOC_CONF overrides it.
const char *malloc_conf = "dirty_decay_ms:1000,muzzy_decay_ms:0";
#endif

enum {
    IDLE_COMPLETIONS = 100, // of a worker in a second
    WINDOW_MAX = 256 << 10,
    WINDOW_MIN = 64 << 10,
    WINDOW_PART = 512, // of the limit: as many streams of which nobody reads any fill it
};

static uint64_t read_u64(const char *path) {
    char text[64] = "";
    FILE *file = fopen(path, "re");
    if (file == NULL) {
        return 0;
    }
    size_t n = fread(text, 1, sizeof(text) - 1, file);
    (void)fclose(file);
    text[n] = 0;
    return strtoull(text, NULL, 10); // "max" gives 0
}

// The cgroup's memory limit, version 2 or 1; 0 = none that matters.
static uint64_t cgroup_limit(void) {
    char line[512], path[640];
    FILE *file = fopen("/proc/self/cgroup", "re");
    uint64_t limit = 0;
    while (file != NULL && limit == 0 && fgets(line, sizeof(line), file) != NULL) {
        line[strcspn(line, "\n")] = 0;
        const char *dir = strrchr(line, ':');
        if (dir == NULL) {
            continue;
        }
        if (strncmp(line, "0::", 3) == 0) {
            snprintf(path, sizeof(path), "/sys/fs/cgroup%s/memory.max", dir + 1);
            limit = read_u64(path);
            limit = limit != 0 ? limit : read_u64("/sys/fs/cgroup/memory.max");
        } else if (strstr(line, ":memory:") != NULL) {
            snprintf(path, sizeof(path), "/sys/fs/cgroup/memory%s/memory.limit_in_bytes", dir + 1);
            limit = read_u64(path);
            limit = limit != 0 ? limit : read_u64("/sys/fs/cgroup/memory/memory.limit_in_bytes");
        }
    }
    if (file != NULL) {
        (void)fclose(file);
    }
    return limit >= UINT64_C(1) << 60 ? 0 : limit; // version 1 writes "no limit" as a huge number
}

static uint64_t resident_bytes(void) {
    char text[128] = "";
    FILE *file = fopen("/proc/self/statm", "re");
    if (file == NULL) {
        return 0;
    }
    char *line = fgets(text, sizeof(text), file);
    (void)fclose(file);
    const char *second = line != NULL ? strchr(line, ' ') : NULL;
    return second != NULL ? strtoull(second, NULL, 10) * (uint64_t)sysconf(_SC_PAGESIZE) : 0;
}

// What the allocator keeps for this thread, which nobody else may touch.
static void flush_thread_cache(void) {
#ifdef ZTUN_JEMALLOC
    (void)mallctl("thread.tcache.flush", NULL, NULL, NULL, 0);
#endif
}

// The allocator returns freed pages only while a thread allocates: after a crowd has left, idle
// workers would keep them. `all`: at once, not by and by.
static void return_memory(bool all) {
#ifdef ZTUN_JEMALLOC
    (void)mallctl(all ? "arena." ARENAS_ALL ".purge" : "arena." ARENAS_ALL ".decay", NULL, NULL,
                  NULL, 0);
#else
    (void)all;
#endif
}

uint64_t proc_memory_limit(uint64_t configured) {
    return configured != 0 ? configured : cgroup_limit() / 10 * 7;
}

uint32_t proc_memory_stream_window(uint64_t limit) {
    if (limit == 0 || limit / WINDOW_PART >= WINDOW_MAX) {
        return WINDOW_MAX;
    }
    return (uint32_t)MAX(limit / WINDOW_PART, (uint64_t)WINDOW_MIN);
}

uint64_t proc_memory_parked_max(uint64_t limit, uint32_t n_workers) {
    return limit / 2 / n_workers;
}

void proc_memory_init(struct proc_memory *memory, uint64_t limit, const struct log_scope *scope) {
    *memory = (struct proc_memory){
        .limit = limit,
        .allow_growth = true,
        .scope = scope,
    };
}

bool proc_memory_check(struct proc_memory *memory) {
    flush_thread_cache();
    return_memory(false);
    if (memory->limit == 0) {
        return false;
    }
    uint64_t used = resident_bytes();
    if (used >= memory->limit / 10 * 8) {
        return_memory(true); // what counts is what is in use
        used = resident_bytes();
    }
    bool allow_growth = used < memory->limit / 10 * 8;
    bool refuse_new = used >= memory->limit / 10 * 9;
    if (allow_growth == memory->allow_growth && refuse_new == memory->refuse_new) {
        return false;
    }
    if (refuse_new != memory->refuse_new) {
        log_warn(memory->scope,
                 refuse_new ? "memory is short: new flows are refused"
                            : "memory is enough again: new flows are taken",
                 LOG_U64("resident", used), LOG_U64("limit", memory->limit));
    }
    memory->allow_growth = allow_growth;
    memory->refuse_new = refuse_new;
    return true;
}

void proc_memory_worker_tick(uint64_t n_completions) {
    static _Thread_local uint64_t n_before;
    if (n_completions - n_before <= IDLE_COMPLETIONS) {
        flush_thread_cache();
    }
    n_before = n_completions;
}

// SPDX-License-Identifier: Apache-2.0
#include <dirent.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "common/base/clock.h"
#include "common/obs/prom.h"

static struct slice read_file(const char *path, char *buf, size_t size) {
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return (struct slice){0};
    }
    ssize_t n = read(fd, buf, size);
    close(fd);
    return slice_make(buf, n > 0 ? (size_t)n : 0);
}

static uint64_t count_open_fds(void) {
    static const char path[] = "/proc/self/fd";
    // Linux 6.2 and later give the number as the size of the directory.
    struct stat st;
    if (stat(path, &st) == 0 && st.st_size > 0) {
        return (uint64_t)st.st_size;
    }
    DIR *dir = opendir(path);
    if (dir == NULL) {
        return 0;
    }
    uint64_t n = 0;
    const struct dirent *entry;
    while ((entry = readdir(dir)) != NULL) {
        n += entry->d_name[0] != '.' ? 1 : 0;
    }
    closedir(dir);
    return n > 0 ? n - 1 : 0; // without the directory's own
}

static uint64_t resident_bytes(void) {
    char buf[128];
    struct slice text = read_file("/proc/self/statm", buf, sizeof(buf));
    struct slice size, resident, rest;
    uint64_t n_pages;
    if (!slice_split(text, ' ', &size, &rest) || !slice_split(rest, ' ', &resident, &rest) ||
        !slice_to_u64(resident, UINT64_MAX, &n_pages)) {
        return 0;
    }
    return n_pages * (uint64_t)sysconf(_SC_PAGESIZE);
}

static double cpu_seconds(void) {
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
           (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
}

// Field 22 of /proc/self/stat: clock ticks from boot to the start of the process.
static double start_time_s(void) {
    char buf[1024];
    struct slice text = read_file("/proc/self/stat", buf, sizeof(buf));
    // The name in parentheses may hold spaces: fields are counted from the last ')'.
    size_t name_end = text.len;
    while (name_end > 0 && text.ptr[name_end - 1] != ')') {
        name_end--;
    }
    struct slice rest = slice_skip(text, name_end + 1);
    struct slice field = {0};
    for (int i = 3; i <= 22; i++) {
        if (!slice_split(rest, ' ', &field, &rest)) {
            return 0;
        }
    }
    uint64_t ticks;
    struct timespec boot;
    if (!slice_to_u64(field, UINT64_MAX, &ticks) || clock_gettime(CLOCK_BOOTTIME, &boot) != 0) {
        return 0;
    }
    double age_s = (double)boot.tv_sec + (double)boot.tv_nsec / 1e9 -
                   (double)ticks / (double)sysconf(_SC_CLK_TCK);
    return (double)clock_wall_ns() / 1e9 - age_s;
}

static void gauge(struct prom_writer *w, const char *name, const char *unit, const char *help,
                  double value) {
    prom_family(w, name, METRIC_GAUGE, unit, help);
    prom_sample(w, name, METRIC_GAUGE, NULL, 0, value);
}

void prom_process(void *arg, struct prom_writer *w) {
    struct rlimit limit;
    getrlimit(RLIMIT_NOFILE, &limit);
    gauge(w, "process_open_fds", "", "Number of open file descriptors", (double)count_open_fds());
    gauge(w, "process_max_fds", "", "Maximum number of open file descriptors",
          (double)limit.rlim_cur);
    gauge(w, "process_resident_memory_bytes", "bytes", "Resident memory size in bytes",
          (double)resident_bytes());
    gauge(w, "process_start_time_seconds", "seconds",
          "Start time of the process since the Unix epoch in seconds", start_time_s());
    prom_family(w, "process_cpu_seconds", METRIC_COUNTER, "seconds",
                "Total user and system CPU time spent in seconds");
    prom_sample(w, "process_cpu_seconds", METRIC_COUNTER, NULL, 0, cpu_seconds());
}

// SPDX-License-Identifier: Apache-2.0

#include "ctl/local_sys.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "common/base/clock.h"

enum { OUTPUT_MAX = 65536, RUN_TIMEOUT_MS = 30000 };

int sys_mkdir_p(const char *path, mode_t mode) {
    char *copy = xstrdup(path);
    int rc = 0;
    for (char *at = copy + 1; rc == 0; at++) {
        if (*at != '/' && *at != '\0') {
            continue;
        }
        char was = *at;
        *at = '\0';
        if (mkdir(copy, mode) < 0 && errno != EEXIST) {
            rc = -errno;
        }
        *at = was;
        if (was == '\0') {
            break;
        }
    }
    free(copy);
    return rc;
}

static int write_all(int fd, const char *data, size_t len) {
    while (len > 0) {
        ssize_t n = write(fd, data, len);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0) {
            return -errno;
        }
        data += n;
        len -= (size_t)n;
    }
    return 0;
}

int sys_write_file(const char *path, const void *data, size_t len, mode_t mode) {
    char *temporary = xasprintf("%s.tmp", path);
    int fd = open(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, mode);
    int rc = fd < 0 ? -errno : write_all(fd, data, len);
    if (fd >= 0) {
        if (fchmod(fd, mode) < 0 && rc == 0) {
            rc = -errno;
        }
        close(fd);
    }
    if (rc == 0 && rename(temporary, path) < 0) {
        rc = -errno;
    }
    if (rc < 0) {
        unlink(temporary);
    }
    free(temporary);
    return rc;
}

char *sys_read_file(const char *path, size_t max, size_t *ret_len) {
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return NULL;
    }
    size_t cap = 4096, len = 0;
    char *data = xmalloc(cap);
    for (;;) {
        ssize_t n = read(fd, data + len, cap - len - 1);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0 || len + (size_t)n > max) {
            free(data);
            close(fd);
            return NULL;
        }
        if (n == 0) {
            break;
        }
        len += (size_t)n;
        if (cap - len < 2048) {
            cap *= 2;
            data = xrealloc(data, cap);
        }
    }
    close(fd);
    data[len] = '\0';
    if (ret_len != NULL) {
        *ret_len = len;
    }
    return data;
}

static void rm_at(int parent, const char *name, dev_t dev) {
    if (unlinkat(parent, name, 0) == 0 || errno == ENOENT) {
        return;
    }
    int fd = openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    struct stat st;
    if (fd < 0 || fstat(fd, &st) < 0 || st.st_dev != dev) {
        if (fd >= 0) {
            close(fd);
        }
        return;
    }
    DIR *dir = fdopendir(fd);
    struct dirent *entry;
    while (dir != NULL && (entry = readdir(dir)) != NULL) {
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0) {
            rm_at(dirfd(dir), entry->d_name, dev);
        }
    }
    if (dir != NULL) {
        closedir(dir);
    }
    unlinkat(parent, name, AT_REMOVEDIR);
}

void sys_rm_rf(const char *path) {
    struct stat st;
    if (lstat(path, &st) == 0) {
        rm_at(AT_FDCWD, path, st.st_dev);
    }
}

void sys_child_reset(int keep) {
    sigset_t none;
    sigemptyset(&none);
    for (int sig = 1; sig < NSIG; sig++) {
        signal(sig, SIG_DFL);
    }
    sigprocmask(SIG_SETMASK, &none, NULL);
    close_range(3, ~0U, CLOSE_RANGE_CLOEXEC);
    if (keep >= 0) {
        fcntl(keep, F_SETFD, 0);
    }
}

static _Noreturn void run_child(const char *const argv[], int netns_fd, int in, int out) {
    if (netns_fd >= 0 && setns(netns_fd, CLONE_NEWNET) < 0) {
        dprintf(out, "setns: %m\n");
        _exit(127);
    }
    dup2(in, 0);
    dup2(out, 1);
    dup2(out, 2);
    sys_child_reset(-1);
    execvp(argv[0], (char *const *)argv);
    dprintf(2, "%s: %m\n", argv[0]);
    _exit(127);
}

// Reads until the end, the cap or the deadline. More than the cap is dropped.
static char *read_output(int fd) {
    char *data = xmalloc(OUTPUT_MAX + 1);
    size_t len = 0;
    uint64_t deadline = clock_mono_ns() + RUN_TIMEOUT_MS * NS_PER_MS;
    for (;;) {
        uint64_t now = clock_mono_ns();
        struct pollfd pfd = {.fd = fd, .events = POLLIN};
        if (now >= deadline || poll(&pfd, 1, (int)((deadline - now) / NS_PER_MS) + 1) < 0) {
            break;
        }
        char spill[4096];
        bool is_full = len == OUTPUT_MAX;
        ssize_t n =
            read(fd, is_full ? spill : data + len, is_full ? sizeof(spill) : OUTPUT_MAX - len);
        if (n <= 0) {
            break;
        }
        len += is_full ? 0 : (size_t)n;
    }
    data[len] = '\0';
    return data;
}

int sys_run(const char *const argv[], int netns_fd, const char *input, char **ret_output) {
    int in = open("/dev/null", O_RDONLY | O_CLOEXEC);
    if (input != NULL) {
        // A memory file instead of a pipe: the size of the input cannot block us.
        close(in);
        in = memfd_create("input", MFD_CLOEXEC);
        if (in < 0 || write_all(in, input, strlen(input)) < 0 || lseek(in, 0, SEEK_SET) < 0) {
            int rc = -errno;
            close(in);
            return rc;
        }
    }
    int out[2];
    if (pipe2(out, O_CLOEXEC) < 0) {
        int rc = -errno;
        close(in);
        return rc;
    }
    pid_t pid = fork();
    if (pid == 0) {
        run_child(argv, netns_fd, in, out[1]);
    }
    int rc = pid < 0 ? -errno : 0;
    close(in);
    close(out[1]);
    char *output = read_output(out[0]);
    close(out[0]);
    if (pid > 0) {
        // The output is complete, or the time is over.
        int status = 0;
        for (int i = 0; waitpid(pid, &status, WNOHANG) == 0; i++) {
            if (i == 2000) {
                kill(pid, SIGKILL);
            }
            usleep(500);
        }
        rc = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
    }
    if (ret_output != NULL) {
        *ret_output = output;
    } else {
        free(output);
    }
    return rc;
}

int lab_netns_open(const char *name) {
    char path[512];
    snprintf(path, sizeof(path), "%s/%s", NETNS_DIR, name);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    return fd < 0 ? -errno : fd;
}

int lab_netns_enter(int fd) {
    int previous = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
    if (previous < 0) {
        return -errno;
    }
    if (setns(fd, CLONE_NEWNET) < 0) {
        int rc = -errno;
        close(previous);
        return rc;
    }
    return previous;
}

void lab_netns_leave(int previous) {
    CHECK(setns(previous, CLONE_NEWNET) == 0);
    close(previous);
}

// As iproute2 does it, so that a removal here is seen in every other mount namespace.
static int share_netns_dir(void) {
    int rc = sys_mkdir_p(NETNS_DIR, 0755);
    if (rc < 0) {
        return rc;
    }
    if (mount("", NETNS_DIR, "none", MS_SHARED | MS_REC, NULL) == 0) {
        return 0;
    }
    if (mount(NETNS_DIR, NETNS_DIR, "none", MS_BIND | MS_REC, NULL) < 0 ||
        mount("", NETNS_DIR, "none", MS_SHARED | MS_REC, NULL) < 0) {
        return -errno;
    }
    return 0;
}

int netns_create(const char *name) {
    int rc = share_netns_dir();
    if (rc < 0) {
        return rc;
    }
    char path[512];
    snprintf(path, sizeof(path), "%s/%s", NETNS_DIR, name);
    int fd = open(path, O_RDONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0);
    if (fd < 0) {
        return -errno;
    }
    close(fd);
    int previous = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
    if (previous < 0 || unshare(CLONE_NEWNET) < 0) {
        rc = -errno;
    } else {
        if (mount("/proc/self/ns/net", path, "none", MS_BIND, NULL) < 0) {
            rc = -errno;
        }
        CHECK(setns(previous, CLONE_NEWNET) == 0);
    }
    if (previous >= 0) {
        close(previous);
    }
    if (rc < 0) {
        unlink(path);
    }
    return rc;
}

void netns_delete(const char *name) {
    char path[512];
    snprintf(path, sizeof(path), "%s/%s", NETNS_DIR, name);
    // More than one mount may lie on it after a failed start.
    for (int i = 0; i < 8 && umount2(path, MNT_DETACH) == 0; i++) {
    }
    unlink(path);
}

struct ns_id {
    dev_t dev;
    ino_t ino;
};

static size_t netns_ids(const char *prefix, struct ns_id *ids, size_t cap) {
    size_t n = 0;
    DIR *dir = opendir(NETNS_DIR);
    struct dirent *entry;
    while (dir != NULL && (entry = readdir(dir)) != NULL && n < cap) {
        struct stat st;
        if (strncmp(entry->d_name, prefix, strlen(prefix)) == 0 &&
            fstatat(dirfd(dir), entry->d_name, &st, 0) == 0) {
            ids[n++] = (struct ns_id){st.st_dev, st.st_ino};
        }
    }
    if (dir != NULL) {
        closedir(dir);
    }
    return n;
}

int netns_kill_all(const char *prefix) {
    enum { IDS_MAX = 4096 };
    struct ns_id *ids = xcalloc(IDS_MAX, sizeof(*ids));
    size_t n_ids = netns_ids(prefix, ids, IDS_MAX);
    int n_killed = 0;
    DIR *proc = opendir("/proc");
    struct dirent *entry;
    while (proc != NULL && n_ids > 0 && (entry = readdir(proc)) != NULL) {
        char *end = NULL;
        long pid = strtol(entry->d_name, &end, 10);
        char path[64];
        struct stat st;
        snprintf(path, sizeof(path), "/proc/%ld/ns/net", pid);
        if (pid <= 1 || *end != '\0' || pid == getpid() || stat(path, &st) < 0) {
            continue;
        }
        for (size_t i = 0; i < n_ids; i++) {
            if (ids[i].ino == st.st_ino && ids[i].dev == st.st_dev) {
                n_killed += kill((pid_t)pid, SIGKILL) == 0;
                break;
            }
        }
    }
    if (proc != NULL) {
        closedir(proc);
    }
    free(ids);
    return n_killed;
}

int sys_sysctl(const char *key, const char *value) {
    char path[256];
    snprintf(path, sizeof(path), "/proc/sys/%s", key);
    // Interface names may hold dots, but none of ours does.
    for (char *at = path + 10; *at != '\0'; at++) {
        if (*at == '.') {
            *at = '/';
        }
    }
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0) {
        return -errno;
    }
    int rc = write_all(fd, value, strlen(value));
    close(fd);
    return rc;
}

const char *sys_time_text(int64_t unix_s, char buf[SYS_TIME_MAX]) {
    time_t t = (time_t)unix_s;
    struct tm tm;
    gmtime_r(&t, &tm);
    strftime(buf, SYS_TIME_MAX, "%Y-%m-%dT%H:%M:%SZ", &tm);
    return buf;
}

void sys_random_name(char *buf, size_t n) {
    static const char alphabet[] = "bcdfghjklmnpqrstvwxz2456789";
    CHECK(getrandom(buf, n, 0) == (ssize_t)n);
    for (size_t i = 0; i < n; i++) {
        buf[i] = alphabet[(uint8_t)buf[i] % (sizeof(alphabet) - 1)];
    }
    buf[n] = '\0';
}

void sys_random_uuid(char buf[37]) {
    uint8_t b[16];
    CHECK(getrandom(b, sizeof(b), 0) == sizeof(b));
    b[6] = (uint8_t)((b[6] & 0x0f) | 0x40);
    b[8] = (uint8_t)((b[8] & 0x3f) | 0x80);
    snprintf(buf, 37, "%02x%02x%02x%02x-%02x%02x-%02x%02x-%02x%02x-%02x%02x%02x%02x%02x%02x", b[0],
             b[1], b[2], b[3], b[4], b[5], b[6], b[7], b[8], b[9], b[10], b[11], b[12], b[13],
             b[14], b[15]);
}

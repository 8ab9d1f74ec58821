// SPDX-License-Identifier: Apache-2.0

#include "ctl/local_rootfs.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "ctl/local_sys.h"

#define OLD_ROOT "/.zl"

void rootfs_add(struct rootfs *rootfs, const char *source, const char *target, bool is_file,
                bool is_read_only) {
    rootfs->mounts = xrealloc(rootfs->mounts, (rootfs->n_mounts + 1) * sizeof(*rootfs->mounts));
    rootfs->mounts[rootfs->n_mounts++] =
        (struct rootfs_mount){xstrdup(source), xstrdup(target), is_file, is_read_only};
}

void rootfs_fini(struct rootfs *rootfs) {
    for (size_t i = 0; i < rootfs->n_mounts; i++) {
        free(rootfs->mounts[i].source);
        free(rootfs->mounts[i].target);
    }
    free(rootfs->mounts);
    *rootfs = (struct rootfs){0};
}

static bool is_below(const char *path, const char *top) {
    size_t len = strlen(top);
    return strncmp(path, top, len) == 0 && (path[len] == '/' || path[len] == '\0');
}

// File systems of the machine that hang below its root: an overlay each, or a bind mount where the
// type cannot be a lower layer.
static void add_submount(const char *stage, const char *path, int index) {
    static const char *const skipped[] = {"/proc", "/sys", "/dev", NETNS_DIR};
    for (size_t i = 0; i < ARRAY_LEN(skipped); i++) {
        if (is_below(path, skipped[i])) {
            return;
        }
    }
    struct stat st;
    if (is_below(path, stage) || stat(path, &st) < 0) {
        return;
    }
    char target[1024], upper[1024], work[1024], options[4096];
    snprintf(target, sizeof(target), "%s/root%s", stage, path);
    snprintf(upper, sizeof(upper), "%s/up%d", stage, index);
    snprintf(work, sizeof(work), "%s/wk%d", stage, index);
    snprintf(options, sizeof(options), "lowerdir=%s,upperdir=%s,workdir=%s", path, upper, work);
    if (S_ISDIR(st.st_mode) && strpbrk(path, ",:\\") == NULL && mkdir(upper, 0755) == 0 &&
        mkdir(work, 0755) == 0 && mount("overlay", target, "overlay", 0, options) == 0) {
        return;
    }
    // Not there in the overlay when another mount hides its directory: then it stays hidden.
    if (mount(path, target, NULL, MS_BIND | MS_REC, NULL) < 0 && errno != ENOENT) {
        fprintf(stderr, "container: %s is not visible: %m\n", path);
    }
}

static void add_submounts(const char *stage) {
    size_t len = 0;
    char *table = sys_read_file("/proc/self/mountinfo", 4 << 20, &len);
    int root_id = -1, index = 0;
    for (int pass = 0; table != NULL && pass < 2; pass++) {
        for (char *line = table; line != NULL && *line != '\0';) {
            char *end = strchr(line, '\n');
            int id = 0, parent = 0;
            char path[768];
            // Octal escapes (a blank in a path) make stat() fail, and the mount is left out.
            if (sscanf(line, "%d %d %*s %*s %767s", &id, &parent, path) == 3) {
                if (pass == 0 && strcmp(path, "/") == 0) {
                    root_id = id;
                } else if (pass == 1 && parent == root_id && id != root_id) {
                    add_submount(stage, path, ++index);
                }
            }
            line = end != NULL ? end + 1 : NULL;
        }
    }
    free(table);
}

static int make_target(const char *path, bool is_file) {
    char *copy = xstrdup(path);
    char *slash = strrchr(copy, '/');
    int rc = 0;
    if (!is_file) {
        rc = sys_mkdir_p(path, 0755);
    } else if (slash != NULL) {
        *slash = '\0';
        rc = copy[0] != '\0' ? sys_mkdir_p(copy, 0755) : 0;
        // A symbolic link (resolv.conf is often one) is replaced, not followed.
        struct stat st;
        if (rc == 0 && lstat(path, &st) == 0 && S_ISLNK(st.st_mode)) {
            unlink(path);
        }
        int fd = rc == 0 ? open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0644) : -1;
        if (fd >= 0) {
            close(fd);
        } else if (rc == 0) {
            rc = -errno;
        }
    }
    free(copy);
    return rc;
}

static int add_mount(const struct rootfs_mount *m) {
    char source[1200];
    snprintf(source, sizeof(source), OLD_ROOT "%s", m->source);
    int rc = make_target(m->target, m->is_file);
    if (rc < 0) {
        return rc;
    }
    if (mount(source, m->target, NULL, MS_BIND | MS_REC, NULL) < 0) {
        return -errno;
    }
    if (m->is_read_only &&
        mount(NULL, m->target, NULL, MS_BIND | MS_REMOUNT | MS_RDONLY, NULL) < 0) {
        return -errno;
    }
    return 0;
}

static int build(const char *stage, char *error, size_t error_len) {
    char path[1024], options[4096];
    if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
        mount("lab", stage, "tmpfs", 0, "mode=0755,size=512m") < 0) {
        snprintf(error, error_len, "mount namespace: %m");
        return -1;
    }
    static const char *const dirs[] = {"up0", "wk0", "root"};
    for (size_t i = 0; i < ARRAY_LEN(dirs); i++) {
        snprintf(path, sizeof(path), "%s/%s", stage, dirs[i]);
        if (mkdir(path, 0755) < 0) {
            snprintf(error, error_len, "%s: %m", path);
            return -1;
        }
    }
    snprintf(path, sizeof(path), "%s/root", stage);
    snprintf(options, sizeof(options), "lowerdir=/,upperdir=%s/up0,workdir=%s/wk0", stage, stage);
    if (mount("overlay", path, "overlay", 0, options) < 0) {
        snprintf(error, error_len, "overlay root: %m");
        return -1;
    }
    add_submounts(stage);
    snprintf(path, sizeof(path), "%s/root/proc", stage);
    if (mount("proc", path, "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL) < 0) {
        snprintf(error, error_len, "proc: %m");
        return -1;
    }
    snprintf(path, sizeof(path), "%s/root/sys", stage);
    if (mount("sysfs", path, "sysfs", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL) < 0) {
        snprintf(error, error_len, "sysfs: %m");
        return -1;
    }
    // Without the mounts the names below /run/netns mean nothing, and only confuse `ip`.
    snprintf(path, sizeof(path), "%s/root" NETNS_DIR, stage);
    if (mount("lab", path, "tmpfs", MS_RDONLY, "size=4k,mode=0755") < 0 && errno != ENOENT) {
        snprintf(error, error_len, NETNS_DIR ": %m");
        return -1;
    }
    snprintf(path, sizeof(path), "%s/root/dev", stage);
    if (mount("/dev", path, NULL, MS_BIND | MS_REC, NULL) < 0) {
        snprintf(error, error_len, "dev: %m");
        return -1;
    }
    return 0;
}

int rootfs_enter(const struct rootfs *rootfs, char *error, size_t error_len) {
    char root[1024], old[1100];
    if (build(rootfs->stage_dir, error, error_len) < 0) {
        return -1;
    }
    snprintf(root, sizeof(root), "%s/root", rootfs->stage_dir);
    snprintf(old, sizeof(old), "%s" OLD_ROOT, root);
    if (mkdir(old, 0700) < 0 || syscall(SYS_pivot_root, root, old) < 0 || chdir("/") < 0) {
        snprintf(error, error_len, "pivot_root: %m");
        return -1;
    }
    for (size_t i = 0; i < rootfs->n_mounts; i++) {
        int rc = add_mount(&rootfs->mounts[i]);
        if (rc < 0) {
            snprintf(error, error_len, "mount %s: %s", rootfs->mounts[i].target, strerror(-rc));
            return -1;
        }
    }
    if (umount2(OLD_ROOT, MNT_DETACH) < 0) {
        snprintf(error, error_len, "old root: %m");
        return -1;
    }
    rmdir(OLD_ROOT);
    return 0;
}

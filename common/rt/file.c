// SPDX-License-Identifier: Apache-2.0
#include "common/rt/file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

static int read_all(int fd, char *text, size_t len) {
    size_t done = 0;
    while (done < len) {
        ssize_t n = read(fd, text + done, len - done);
        if (n == 0) {
            return -ESTALE;
        }
        if (n < 0 && errno != EINTR) {
            return -errno;
        }
        done += n > 0 ? (size_t)n : 0;
    }
    return 0;
}

int file_read(const char *path, size_t max_bytes, char **ret_text, size_t *ret_len) {
    // O_NONBLOCK: a FIFO put there must not hang the thread.
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0) {
        return -errno;
    }
    struct stat st;
    int rc = fstat(fd, &st) < 0 ? -errno : 0;
    if (rc == 0 && (!S_ISREG(st.st_mode) || (size_t)st.st_size > max_bytes)) {
        rc = S_ISREG(st.st_mode) ? -EFBIG : -EINVAL;
    }
    if (rc < 0) {
        close(fd);
        return rc;
    }
    size_t len = (size_t)st.st_size;
    char *text = xmalloc(len + 1);
    rc = read_all(fd, text, len);
    close(fd);
    if (rc < 0) {
        wipe(text, len);
        free(text);
        return rc;
    }
    text[len] = '\0';
    *ret_text = text;
    *ret_len = len;
    return 0;
}

bool file_stamp_eq(const struct file_stamp *a, const struct file_stamp *b) {
    return a->exists == b->exists &&
           (!a->exists ||
            (a->dev == b->dev && a->ino == b->ino && a->size == b->size &&
             a->mtime.tv_sec == b->mtime.tv_sec && a->mtime.tv_nsec == b->mtime.tv_nsec &&
             a->ctime.tv_sec == b->ctime.tv_sec && a->ctime.tv_nsec == b->ctime.tv_nsec));
}

struct file_stamp file_stamp_from(const struct stat *st) {
    return (struct file_stamp){.dev = st->st_dev,
                               .ino = st->st_ino,
                               .size = st->st_size,
                               .mtime = st->st_mtim,
                               .ctime = st->st_ctim,
                               .exists = true};
}

struct file_stamp file_stamp_of(const char *path) {
    struct stat st;
    if (stat(path, &st) < 0) {
        return (struct file_stamp){0};
    }
    return file_stamp_from(&st);
}

// ---- watched files -----------------------------------------------------------------------------

struct watched_file {
    char *path;
    size_t max_bytes;
    char *content;
    size_t len;
    struct file_stamp stamp;
    bool is_polled;
};

struct watched_file *watched_file_new(const char *path, size_t max_bytes) {
    struct watched_file *file = xcalloc(1, sizeof(*file));
    file->path = xstrdup(path);
    file->max_bytes = max_bytes;
    return file;
}

static void drop_content(struct watched_file *file) {
    if (file->content != NULL) {
        wipe(file->content, file->len);
        free(file->content);
    }
}

void watched_file_free(struct watched_file *file) {
    if (file != NULL) {
        drop_content(file);
        free(file->path);
        free(file);
    }
}

int watched_file_poll(struct watched_file *file, struct slice *ret_content) {
    struct file_stamp stamp = file_stamp_of(file->path);
    if (file->is_polled && file_stamp_eq(&stamp, &file->stamp)) {
        return 0;
    }
    bool was_empty = !file->is_polled || !file->stamp.exists;
    file->is_polled = true;
    file->stamp = stamp;
    char *content = NULL;
    size_t len = 0;
    if (stamp.exists) {
        int rc = file_read(file->path, file->max_bytes, &content, &len);
        if (rc < 0) {
            return rc;
        }
    } else if (was_empty) {
        return 0;
    }
    drop_content(file);
    file->content = content;
    file->len = len;
    *ret_content = slice_make(content, len);
    return 1;
}

const char *watched_file_path(const struct watched_file *file) {
    return file->path;
}

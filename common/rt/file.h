// SPDX-License-Identifier: Apache-2.0
//
// Files that somebody else writes: objects, certificates, keys, tokens, revocation lists. Read
// whole, and read again when they have changed, also behind links that are moved (projected
// volumes).
//
// Blocks on the disk. Thread: any that may, one at a time for a watched file.
#pragma once

#include <sys/stat.h>

#include "common/base/check.h"
#include "common/base/slice.h"

// A regular file of at most max_bytes into fresh memory, NUL behind it. 0 or -errno (-EFBIG;
// -EINVAL: no regular file; -ESTALE: it shrank meanwhile, so it is being written).
MUST_USE int file_read(const char *path, size_t max_bytes, char **ret_text, size_t *ret_len);

struct file_stamp { // changes when the file does
    dev_t dev;
    ino_t ino;
    off_t size;
    struct timespec mtime, ctime;
    bool exists;
};
struct file_stamp file_stamp_of(const char *path);
struct file_stamp file_stamp_from(const struct stat *st);
bool file_stamp_eq(const struct file_stamp *a, const struct file_stamp *b);

struct watched_file;
struct watched_file *watched_file_new(const char *path, size_t max_bytes);
void watched_file_free(struct watched_file *file); // NULL ok; wipes what was read
// 1: *ret_content is new (valid until the next poll; a file that is gone is empty), 0: as it was,
// -errno: it cannot be read (told once for each change).
MUST_USE int watched_file_poll(struct watched_file *file, struct slice *ret_content);
const char *watched_file_path(const struct watched_file *file);

// SPDX-License-Identifier: Apache-2.0
//
// The last good text of each file, in a directory of our own: what a process that starts takes for
// the last good state of a file that is broken then. A copy ends with a line that has the hash of
// what is before it; one that a crash left incomplete is none.
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "common/mesh/config_doc.h"
#include "common/mesh/source_file_priv.h"

enum { SEAL_LEN = 40 };

static void seal_of(struct slice text, char ret_seal[SEAL_LEN + 1]) {
    snprintf(ret_seal, SEAL_LEN + 1, "\n# last good, as ztun read: %012llx",
             (unsigned long long)(XXH3_64bits(text.ptr, text.len) >> 16));
}

static char *path_of(const struct source_file *s, const struct source_entry *entry) {
    return xasprintf("%s/%016llx.last-good", s->state_dir,
                     (unsigned long long)XXH3_64bits(entry->path, strlen(entry->path)));
}

int source_state_open(const char *dir) {
    struct stat st;
    if (mkdir(dir, 0700) < 0 && errno != EEXIST) {
        return -errno;
    }
    if (stat(dir, &st) < 0) {
        return -errno;
    }
    if (!S_ISDIR(st.st_mode)) {
        return -ENOTDIR;
    }
    return access(dir, W_OK | X_OK) < 0 ? -errno : 0;
}

bool source_state_load(const struct source_file *s, const struct source_entry *entry,
                       char **ret_text, size_t *ret_len) {
    char *path = path_of(s, entry), *text = NULL, seal[SEAL_LEN + 1];
    size_t len = 0;
    size_t max = config_doc_default_limits.max_bytes + SEAL_LEN;
    bool is_good = file_read(path, max, &text, &len) == 0 && len >= SEAL_LEN;
    free(path);
    if (is_good) {
        len -= SEAL_LEN;
        seal_of(slice_make(text, len), seal);
        is_good = memcmp(text + len, seal, SEAL_LEN) == 0;
    }
    if (!is_good) {
        free(text);
        return false;
    }
    *ret_text = text;
    *ret_len = len;
    return true;
}

static bool is_saved(const struct source_file *s, const struct source_entry *entry,
                     struct slice text) {
    char *have = NULL;
    size_t len = 0;
    bool is_same =
        source_state_load(s, entry, &have, &len) && slice_eq(slice_make(have, len), text);
    free(have);
    return is_same;
}

static int write_all(int fd, struct slice bytes) {
    while (bytes.len > 0) {
        ssize_t n = write(fd, bytes.ptr, bytes.len);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n <= 0) {
            return n < 0 ? -errno : -EIO;
        }
        bytes = slice_skip(bytes, (size_t)n);
    }
    return 0;
}

int source_state_save(const struct source_file *s, const struct source_entry *entry,
                      struct slice text) {
    char seal[SEAL_LEN + 1];
    if (is_saved(s, entry, text)) {
        return 0;
    }
    seal_of(text, seal);
    char *path = path_of(s, entry), *temporary = xasprintf("%s.%d", path, (int)getpid());
    int fd = open(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
    int rc = fd < 0 ? -errno : write_all(fd, text);
    rc = rc == 0 ? write_all(fd, slice_make(seal, SEAL_LEN)) : rc;
    if (fd >= 0) {
        rc = close(fd) < 0 && rc == 0 ? -errno : rc;
    }
    rc = rc == 0 && rename(temporary, path) < 0 ? -errno : rc;
    if (rc < 0 && fd >= 0) {
        (void)unlink(temporary);
    }
    free(temporary);
    free(path);
    return rc;
}

void source_state_forget(const struct source_file *s, const struct source_entry *entry) {
    char *path = path_of(s, entry);
    (void)unlink(path);
    free(path);
}

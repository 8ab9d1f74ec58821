// SPDX-License-Identifier: Apache-2.0
//
// Shared by the parts of source_file: watching (source_file.c, source_watch.c) and reading
// (source_read.c).
#pragma once

#include "common/base/arena.h"
#include "common/mesh/source_file.h"
#include "common/rt/file.h"

// A close that never comes (or that we cannot see) must not hide a file for ever.
enum { SOURCE_WRITING_MAX_MS = 3000 };
enum { SOURCE_MAX_DEPTH = 4, SOURCE_MAX_FILES = 20000, SOURCE_MAX_DIRS = 4096 };

struct source_entry {
    char *path;
    struct file_stamp stamp;
    uint64_t hash; // of the content
    bool is_read; // stamp and hash are set
    bool is_known; // the store has what was last good of it, if anything was
    bool is_seen; // by this scan
    bool is_forced; // an event named it: read it whatever its stamp says
    uint64_t writing_since_ms; // someone writes to it and has not closed it yet; 0 = no one
    int error; // -errno
    uint32_t n_objects;
    struct config_errors errors, duplicates;
    uint64_t *known; // hashes of the errors that were handed out, sorted
    uint32_t n_known;
};

struct source_watch { // one directory
    int wd;
    char *path;
};

struct source_file {
    char *path;
    char *file_name; // the one file that counts in its directory, NULL = all
    char *dir; // directory to scan
    char *state_dir; // NULL: nothing is kept for the next start
    int state_error; // -errno of the last copy that could not be written
    unsigned kobj_flags;
    uint32_t settle_ms;
    int epoll_fd, inotify_fd, timer_fd;
    bool is_force_all; // events were lost
    uint64_t batch_since_ms; // when the events began that wait for their load; 0 = none
    struct source_watch *watches;
    uint32_t n_watches, cap_watches;
    struct source_entry **entries; // by path
    uint32_t n_entries, cap_entries;
    struct config_store *store;
    struct config_errors news;
    struct arena scratch;
    int dir_error;
    uint64_t n_loads, n_failed_loads, last_load_us;
    int64_t last_load_at_s, last_good_at_s;
};

// The entry of a path, made when it is not there and `create`. NULL: none, or too many.
struct source_entry *source_entry_get(struct source_file *s, const char *path, bool create);
bool source_is_config_name(const char *name);
// Watches a directory; the same one again is harmless. 0 or -errno.
int source_watch_dir(struct source_file *s, const char *path);
const char *source_watch_path(const struct source_file *s, int wd); // NULL: none
void source_watch_forget(struct source_file *s, int wd);
// Walks the tree: marks and adds entries, watches directories. 0 or -errno of the top.
int source_scan(struct source_file *s);
// Reads one entry when it changed and puts it into the store (a transaction is open).
void source_read(struct source_file *s, struct source_entry *entry, uint64_t now_ms);
// The last good texts on disk (source_state.c). `open` makes the directory when it is not there;
// 0 or -errno, as `save`. `load`: the caller frees the text.
MUST_USE int source_state_open(const char *dir);
MUST_USE int source_state_save(const struct source_file *s, const struct source_entry *entry,
                               struct slice text);
bool source_state_load(const struct source_file *s, const struct source_entry *entry,
                       char **ret_text, size_t *ret_len);
void source_state_forget(const struct source_file *s, const struct source_entry *entry);
// Adds the entry's errors that are new to s->news.
void source_collect_news(struct source_file *s, struct source_entry *entry);

// SPDX-License-Identifier: Apache-2.0
//
// Configuration from files: `--config DIR|FILE`. A directory stands for its *.yaml, *.yml and
// *.json files and those of its subdirectories (4 levels; names that begin with a dot are skipped,
// which also makes mounted ConfigMaps right: their files are links through `..data`). inotify tells
// of changes; a batch ends 20 ms after the last event, and is then read and committed as a whole.
// Only files that changed are parsed. A file that is open for writing waits for its close.
//
// What is broken keeps its last good state: a bad document its object, an unreadable file or
// directory all that it held. Each distinct error is handed out once for the log. With a state_dir
// that is so from the first load on: the last text of each file that had no error is kept there
// (unless it has a Secret), for a process that finds the file broken when it starts.
//
// Thread: control.
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "common/base/check.h"
#include "common/mesh/config_store.h"

struct source_file;

struct source_file_options {
    const char *path; // file or directory
    unsigned kobj_flags; // KOBJ_LEAN, KOBJ_SECRETS, KOBJ_KEEP_TREE
    uint32_t settle_ms; // 0 = 20
    const char *state_dir; // made when it is not there; NULL = none
};

// Opens the watch; loads nothing yet. 0 or -errno (-ENOENT: there is no such path), also that of
// the state_dir.
MUST_USE int source_file_new(const struct source_file_options *options,
                             struct source_file **ret_source);
void source_file_free(struct source_file *source); // NULL ok; also frees its store

// Becomes readable when source_file_process has something to do. Level-triggered.
int source_file_fd(const struct source_file *source);

// Reads everything now (the first load, or on demand) and returns what changed, which is valid
// until the next load or process. Never fails: what cannot be read is an error in the status.
const struct config_diff *source_file_load(struct source_file *source);
// To be called when the fd is readable. The diff of a batch that has ended, NULL when none has (an
// empty diff tells of a batch without effect).
const struct config_diff *source_file_process(struct source_file *source);

// Whether something was written that no load has read: a batch waits for its end, or a file for
// its close. inotify is asked here, so that false covers each write that ended before the call.
bool source_file_is_pending(struct source_file *source);

const struct config_store *source_file_store(const struct source_file *source);

// Errors and warnings of the last load that were not there before it, for the log. Valid until the
// next load or process.
const struct config_errors *source_file_news(const struct source_file *source);

struct source_file_status {
    const char *path;
    uint32_t n_files, n_bad_files; // bad: with at least one error now
    uint32_t n_objects, n_kept; // kept: last good version of something broken
    uint32_t n_errors, n_warnings; // now
    uint64_t n_loads, n_failed_loads; // ever; failed: left some errors
    uint64_t last_load_us; // how long it took
    int64_t last_load_at_s, last_good_at_s; // wall clock; 0 = never
    int dir_error; // -errno when the path itself cannot be read now
    int state_error; // -errno when the state_dir could not be written to
};
void source_file_status(const struct source_file *source, struct source_file_status *ret_status);

struct source_file_entry {
    const char *path;
    uint32_t n_objects, n_kept;
    int error; // -errno when the file could not be read
    const struct config_errors *errors; // its errors and warnings now
    const struct config_errors *duplicates; // its objects that other documents define before it
};
// Each file, in the order of names.
void source_file_each(const struct source_file *source,
                      void (*fn)(void *arg, const struct source_file_entry *entry), void *arg);

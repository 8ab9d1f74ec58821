// SPDX-License-Identifier: Apache-2.0
//
// The tree of directories: scan and inotify watches.
#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>

#include "common/mesh/source_file_priv.h"

static bool has_suffix(const char *name, const char *suffix) {
    size_t len = strlen(name), suffix_len = strlen(suffix);
    return len > suffix_len && strcmp(name + len - suffix_len, suffix) == 0;
}

bool source_is_config_name(const char *name) {
    return name[0] != '.' &&
           (has_suffix(name, ".yaml") || has_suffix(name, ".yml") || has_suffix(name, ".json"));
}

// Binary search: where it is, or would be.
static uint32_t entry_index(const struct source_file *s, const char *path) {
    uint32_t low = 0, high = s->n_entries;

    while (low < high) {
        uint32_t mid = low + (high - low) / 2;
        if (strcmp(s->entries[mid]->path, path) < 0) {
            low = mid + 1;
        } else {
            high = mid;
        }
    }
    return low;
}

struct source_entry *source_entry_get(struct source_file *s, const char *path, bool create) {
    uint32_t at = entry_index(s, path);

    if (at < s->n_entries && strcmp(s->entries[at]->path, path) == 0) {
        return s->entries[at];
    }
    if (!create || s->n_entries >= SOURCE_MAX_FILES) {
        return NULL;
    }
    if (s->n_entries == s->cap_entries) {
        s->cap_entries = s->cap_entries != 0 ? s->cap_entries * 2 : 16;
        s->entries = xrealloc(s->entries, s->cap_entries * sizeof(s->entries[0]));
    }
    memmove(&s->entries[at + 1], &s->entries[at], (s->n_entries - at) * sizeof(s->entries[0]));
    s->n_entries++;
    struct source_entry *entry = s->entries[at] = xcalloc(1, sizeof(*entry));
    entry->path = xstrdup(path);
    config_errors_init(&entry->errors);
    config_errors_init(&entry->duplicates);
    return entry;
}

const char *source_watch_path(const struct source_file *s, int wd) {
    for (uint32_t i = 0; i < s->n_watches; i++) {
        if (s->watches[i].wd == wd) {
            return s->watches[i].path;
        }
    }
    return NULL;
}

void source_watch_forget(struct source_file *s, int wd) {
    for (uint32_t i = 0; i < s->n_watches; i++) {
        if (s->watches[i].wd == wd) {
            free(s->watches[i].path);
            s->watches[i] = s->watches[--s->n_watches];
            return;
        }
    }
}

int source_watch_dir(struct source_file *s, const char *path) {
    uint32_t mask = IN_CLOSE_WRITE | IN_MODIFY | IN_CREATE | IN_DELETE | IN_MOVED_FROM |
                    IN_MOVED_TO | IN_ATTRIB | IN_DELETE_SELF | IN_MOVE_SELF | IN_ONLYDIR;

    if (s->n_watches >= SOURCE_MAX_DIRS) {
        return -EMFILE;
    }
    int wd = inotify_add_watch(s->inotify_fd, path, mask);
    if (wd < 0) {
        return -errno;
    }
    const char *known = source_watch_path(s, wd);
    if (known != NULL && strcmp(known, path) == 0) {
        return 0;
    }
    source_watch_forget(s, wd); // the same directory under another name
    if (s->n_watches == s->cap_watches) {
        s->cap_watches = s->cap_watches != 0 ? s->cap_watches * 2 : 8;
        s->watches = xrealloc(s->watches, s->cap_watches * sizeof(s->watches[0]));
    }
    s->watches[s->n_watches++] = (struct source_watch){wd, xstrdup(path)};
    return 0;
}

static void scan_one(struct source_file *s, const char *dir, const struct dirent *item,
                     unsigned depth);

static int scan_dir(struct source_file *s, const char *dir, unsigned depth) {
    int r = source_watch_dir(s, dir); // first, so that no change slips between

    DIR *handle = opendir(dir);
    if (handle == NULL) {
        return -errno;
    }
    const struct dirent *item;
    while ((item = readdir(handle)) != NULL) {
        if (item->d_name[0] != '.') {
            scan_one(s, dir, item, depth);
        }
    }
    closedir(handle);
    return r;
}

static void scan_one(struct source_file *s, const char *dir, const struct dirent *item,
                     unsigned depth) {
    struct stat st;

    if (s->file_name != NULL && strcmp(item->d_name, s->file_name) != 0) {
        return;
    }
    char *path = xasprintf("%s/%s", dir, item->d_name);
    bool is_config = s->file_name != NULL || source_is_config_name(item->d_name);
    if (stat(path, &st) == 0) {
        if (S_ISDIR(st.st_mode) && s->file_name == NULL && depth + 1 < SOURCE_MAX_DEPTH) {
            // One that cannot be read keeps its files.
            if (scan_dir(s, path, depth + 1) < 0) {
                size_t len = strlen(path);
                for (uint32_t i = 0; i < s->n_entries; i++) {
                    if (strncmp(s->entries[i]->path, path, len) == 0 &&
                        s->entries[i]->path[len] == '/') {
                        s->entries[i]->is_seen = true;
                    }
                }
            }
        } else if (S_ISREG(st.st_mode) && is_config) {
            struct source_entry *entry = source_entry_get(s, path, true);
            if (entry != NULL) {
                entry->is_seen = true;
            }
        }
    }
    free(path);
}

int source_scan(struct source_file *s) {
    for (uint32_t i = 0; i < s->n_entries; i++) {
        s->entries[i]->is_seen = false;
    }
    int r = scan_dir(s, s->dir, 0);
    if (r == 0 && s->file_name != NULL && (s->n_entries == 0 || !s->entries[0]->is_seen)) {
        return -ENOENT; // the one file
    }
    return r;
}

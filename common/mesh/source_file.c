// SPDX-License-Identifier: Apache-2.0
#include "common/mesh/source_file.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/inotify.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#include "common/mesh/source_file_priv.h"

enum {
    SETTLE_MS = 20,
    // Someone who writes all the time must not keep us from reading for ever.
    BATCH_MAX_MS = 1000,
    // When the directory itself is gone there may be nothing left that tells of its return.
    RETRY_MS = 1000,
};

static uint64_t now_us(void) {
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000000u + (uint64_t)ts.tv_nsec / 1000u;
}

// ms 0 disarms it.
static void set_timer(struct source_file *s, uint32_t ms) {
    struct itimerspec spec = {
        .it_value = {.tv_sec = ms / 1000, .tv_nsec = (long)(ms % 1000) * 1000000}};

    timerfd_settime(s->timer_fd, 0, &spec, NULL);
}

static int add_fd(struct source_file *s, int fd) {
    struct epoll_event event = {.events = EPOLLIN, .data.fd = fd};
    return epoll_ctl(s->epoll_fd, EPOLL_CTL_ADD, fd, &event) < 0 ? -errno : 0;
}

static int open_fds(struct source_file *s) {
    s->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    s->inotify_fd = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
    s->timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
    if (s->epoll_fd < 0 || s->inotify_fd < 0 || s->timer_fd < 0) {
        return -errno;
    }
    int r = add_fd(s, s->inotify_fd);
    return r < 0 ? r : add_fd(s, s->timer_fd);
}

// "dir/file" is watched through its directory, for editors replace files.
static void split_path(struct source_file *s, const char *path, bool is_dir) {
    const char *slash = strrchr(path, '/');

    if (is_dir) {
        s->dir = xstrdup(path);
        size_t len = strlen(s->dir);
        while (len > 1 && s->dir[len - 1] == '/') {
            s->dir[--len] = '\0';
        }
        return;
    }
    s->file_name = xstrdup(slash != NULL ? slash + 1 : path);
    s->dir = slash == NULL   ? xstrdup(".")
             : slash == path ? xstrdup("/")
                             : xstrndup(path, (size_t)(slash - path));
}

int source_file_new(const struct source_file_options *options, struct source_file **ret_source) {
    struct stat st;

    if (stat(options->path, &st) < 0) {
        return -errno;
    }
    struct source_file *s = xcalloc(1, sizeof(*s));
    s->epoll_fd = s->inotify_fd = s->timer_fd = -1;
    s->path = xstrdup(options->path);
    split_path(s, options->path, S_ISDIR(st.st_mode));
    s->kobj_flags = options->kobj_flags;
    s->state_dir = options->state_dir != NULL ? xstrdup(options->state_dir) : NULL;
    s->settle_ms = options->settle_ms != 0 ? options->settle_ms : SETTLE_MS;
    s->store = config_store_new();
    arena_init(&s->scratch, 1 << 30);
    config_errors_init(&s->news);
    int r = s->state_dir != NULL ? source_state_open(s->state_dir) : 0;
    r = r < 0 ? r : open_fds(s);
    r = r < 0 ? r : source_watch_dir(s, s->dir);
    if (r < 0) {
        source_file_free(s);
        return r;
    }
    *ret_source = s;
    return 0;
}

static void entry_free(struct source_entry *entry) {
    config_errors_fini(&entry->errors);
    config_errors_fini(&entry->duplicates);
    free(entry->known);
    free(entry->path);
    free(entry);
}

static void close_fd(int fd) {
    if (fd >= 0) {
        close(fd);
    }
}

void source_file_free(struct source_file *s) {
    if (s == NULL) {
        return;
    }
    close_fd(s->epoll_fd);
    close_fd(s->inotify_fd);
    close_fd(s->timer_fd);
    for (uint32_t i = 0; i < s->n_entries; i++) {
        entry_free(s->entries[i]);
    }
    for (uint32_t i = 0; i < s->n_watches; i++) {
        free(s->watches[i].path);
    }
    config_store_free(s->store);
    config_errors_fini(&s->news);
    arena_fini(&s->scratch);
    free(s->entries);
    free(s->watches);
    free(s->path);
    free(s->file_name);
    free(s->state_dir);
    free(s->dir);
    free(s);
}

int source_file_fd(const struct source_file *s) {
    return s->epoll_fd;
}

// Files that are gone take their objects with them.
static void drop_unseen(struct source_file *s) {
    uint32_t n = 0;

    for (uint32_t i = 0; i < s->n_entries; i++) {
        struct source_entry *entry = s->entries[i];
        if (entry->is_seen) {
            s->entries[n++] = entry;
            continue;
        }
        config_store_remove_file(s->store, entry->path);
        if (s->state_dir != NULL) {
            source_state_forget(s, entry);
        }
        entry_free(entry);
    }
    s->n_entries = n;
}

// Duplicates are told by the store for all files at once; each goes to its own file's errors.
static void file_duplicates(struct source_file *s) {
    struct config_errors all;

    config_errors_init(&all);
    config_store_duplicates(s->store, &all);
    for (uint32_t i = 0; i < s->n_entries; i++) {
        config_errors_clear(&s->entries[i]->duplicates);
    }
    for (uint32_t i = 0; i < all.n; i++) {
        struct source_entry *entry = source_entry_get(s, all.items[i].file, false);
        if (entry != NULL) {
            config_errors_add(&entry->duplicates, &all.items[i]);
        }
    }
    config_errors_fini(&all);
}

static void count_load(struct source_file *s, uint64_t started_us) {
    bool is_good = s->dir_error == 0;

    for (uint32_t i = 0; i < s->n_entries; i++) {
        source_collect_news(s, s->entries[i]);
        is_good = is_good && s->entries[i]->errors.n_errors == 0;
    }
    config_errors_sort(&s->news);
    s->n_loads++;
    s->n_failed_loads += !is_good;
    s->last_load_at_s = (int64_t)time(NULL);
    s->last_good_at_s = is_good ? s->last_load_at_s : s->last_good_at_s;
    s->last_load_us = now_us() - started_us;
}

static bool has_writer(const struct source_file *s) {
    for (uint32_t i = 0; i < s->n_entries; i++) {
        if (s->entries[i]->writing_since_ms != 0) {
            return true;
        }
    }
    return false;
}

const struct config_diff *source_file_load(struct source_file *s) {
    uint64_t started_us = now_us();

    config_errors_clear(&s->news);
    s->batch_since_ms = 0;
    int old_error = s->dir_error;
    s->dir_error = source_scan(s);
    config_store_begin(s->store);
    if (s->dir_error == 0) {
        drop_unseen(s);
    } else {
        // Gone for now, or for ever: what is known stays.
        set_timer(s, RETRY_MS);
        if (s->dir_error != old_error) {
            config_errors_add(&s->news, &(struct config_error){.file = s->path,
                                                               .text = strerror(-s->dir_error)});
        }
    }
    for (uint32_t i = 0; i < s->n_entries; i++) {
        s->entries[i]->is_forced = s->entries[i]->is_forced || s->is_force_all;
        if (s->entries[i]->is_seen) {
            source_read(s, s->entries[i], started_us / 1000);
        }
    }
    if (has_writer(s)) {
        set_timer(s, RETRY_MS);
    }
    s->is_force_all = false;
    const struct config_diff *diff = config_store_commit(s->store);
    file_duplicates(s);
    count_load(s, started_us);
    return diff;
}

// Events

static void mark(struct source_file *s, const char *dir, const struct inotify_event *event) {
    char *path = xasprintf("%s/%s", dir, event->name);
    struct stat st;
    // A file is created empty: it counts when it is closed, linked or moved into place.
    bool is_new_file = (event->mask & IN_CREATE) != 0 && lstat(path, &st) == 0 &&
                       S_ISREG(st.st_mode) && st.st_nlink == 1;
    struct source_entry *entry =
        source_entry_get(s, path, is_new_file || (event->mask & IN_MODIFY) != 0);

    if (entry != NULL && (is_new_file || (event->mask & IN_MODIFY) != 0)) {
        entry->writing_since_ms = now_us() / 1000;
    } else if (entry != NULL) {
        entry->is_forced = true;
        entry->writing_since_ms = (event->mask & IN_ATTRIB) != 0 ? entry->writing_since_ms : 0;
    }
    free(path);
}

// True when the event may change what we hold.
static bool on_event(struct source_file *s, const struct inotify_event *event) {
    if ((event->mask & IN_Q_OVERFLOW) != 0) {
        s->is_force_all = true;
        for (uint32_t i = 0; i < s->n_entries; i++) {
            s->entries[i]->writing_since_ms = 0;
        }
        return true;
    }
    const char *dir = source_watch_path(s, event->wd);
    if (dir == NULL) {
        return false;
    }
    if ((event->mask & IN_IGNORED) != 0) {
        source_watch_forget(s, event->wd);
        return true;
    }
    if (event->len == 0) {
        return (event->mask & (IN_DELETE_SELF | IN_MOVE_SELF)) != 0;
    }
    bool is_data = strcmp(event->name, "..data") == 0;
    bool is_ours = s->file_name != NULL ? strcmp(event->name, s->file_name) == 0
                                        : source_is_config_name(event->name);
    if ((event->mask & IN_ISDIR) != 0) {
        return event->name[0] != '.' || is_data;
    }
    if (!is_ours && !is_data) {
        return false;
    }
    mark(s, dir, event);
    return (event->mask & IN_MODIFY) == 0;
}

// *ret_is_any: something may have changed. Returns whether there was an event at all.
static bool read_events(struct source_file *s, bool *ret_is_any) {
    _Alignas(struct inotify_event) char buf[16384];
    bool was_told = false;
    ssize_t len;

    *ret_is_any = false;
    while ((len = read(s->inotify_fd, buf, sizeof(buf))) > 0) {
        for (char *at = buf; at < buf + len;) {
            const struct inotify_event *event = (const struct inotify_event *)at;
            *ret_is_any = on_event(s, event) || *ret_is_any;
            at += sizeof(*event) + event->len;
        }
        was_told = true;
    }
    return was_told;
}

// Takes what inotify tells; a batch begins with it, or goes on. True: it has waited long enough.
static bool gather(struct source_file *s, uint64_t now_ms) {
    bool is_any;

    if (!read_events(s, &is_any)) {
        return false;
    }
    if (!is_any) {
        // Someone writes, and may never close.
        if (s->batch_since_ms == 0 && has_writer(s)) {
            set_timer(s, SOURCE_WRITING_MAX_MS);
        }
        return false;
    }
    s->batch_since_ms = s->batch_since_ms != 0 ? s->batch_since_ms : now_ms;
    bool is_due = now_ms - s->batch_since_ms >= BATCH_MAX_MS;
    set_timer(s, is_due ? 1 : s->settle_ms);
    return is_due;
}

const struct config_diff *source_file_process(struct source_file *s) {
    uint64_t expirations, now_ms = now_us() / 1000;
    bool has_fired = read(s->timer_fd, &expirations, sizeof(expirations)) > 0;
    struct itimerspec left;

    bool is_due = gather(s, now_ms);
    // The timer may have been set anew by these events.
    timerfd_gettime(s->timer_fd, &left);
    bool is_armed = left.it_value.tv_sec != 0 || left.it_value.tv_nsec != 0;
    if (!is_due && (!has_fired || is_armed)) {
        return NULL;
    }
    set_timer(s, 0);
    return source_file_load(s);
}

bool source_file_is_pending(struct source_file *s) {
    (void)gather(s, now_us() / 1000);
    return s->batch_since_ms != 0 || has_writer(s);
}

// Status

const struct config_store *source_file_store(const struct source_file *s) {
    return s->store;
}

const struct config_errors *source_file_news(const struct source_file *s) {
    return &s->news;
}

void source_file_status(const struct source_file *s, struct source_file_status *ret_status) {
    struct source_file_status status = {
        .path = s->path,
        .n_files = s->n_entries,
        .n_objects = (uint32_t)config_store_size(s->store),
        .n_loads = s->n_loads,
        .n_failed_loads = s->n_failed_loads,
        .last_load_us = s->last_load_us,
        .last_load_at_s = s->last_load_at_s,
        .last_good_at_s = s->last_good_at_s,
        .dir_error = s->dir_error,
        .state_error = s->state_error,
    };

    for (uint32_t i = 0; i < s->n_entries; i++) {
        const struct source_entry *entry = s->entries[i];
        status.n_bad_files += entry->errors.n_errors > 0;
        status.n_errors += entry->errors.n_errors;
        status.n_warnings += entry->errors.n_warnings + entry->duplicates.n_warnings;
        status.n_kept += config_store_n_kept(s->store, entry->path);
    }
    *ret_status = status;
}

void source_file_each(const struct source_file *s,
                      void (*fn)(void *arg, const struct source_file_entry *entry), void *arg) {
    for (uint32_t i = 0; i < s->n_entries; i++) {
        const struct source_entry *entry = s->entries[i];
        fn(arg, &(struct source_file_entry){
                    .path = entry->path,
                    .n_objects = entry->n_objects,
                    .n_kept = config_store_n_kept(s->store, entry->path),
                    .error = entry->error,
                    .errors = &entry->errors,
                    .duplicates = &entry->duplicates,
                });
    }
}

// SPDX-License-Identifier: Apache-2.0
#include "common/mesh/ca_local.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/base/buf.h"
#include "common/rt/file.h"
#include "common/tls/tls_ca.h"
#include "common/tls/tls_cert.h"

enum { FILE_MAX = 1 << 20 };

// In the order in which new files get their names. The key is before the certificate: one without
// the other is then the rest of a start that was cut off, never half a CA in use.
enum { FILE_CHAIN, FILE_ROOT, FILE_KEY, FILE_CERT, N_FILES };
static const char *const file_names[N_FILES] = {"cert-chain.pem", "root-cert.pem", "ca-key.pem",
                                                "ca-cert.pem"};

struct ca_local {
    struct ca ca;
    char *dir;
    struct tls_ca *tls;
    struct file_stamp stamps[N_FILES];
    bool is_new;
};

static char *path_of(const char *dir, const char *prefix, const char *name) {
    return xasprintf("%s/%s%s", dir, prefix, name);
}

static int write_file(const char *path, mode_t mode, const char *text) {
    unlink(path);
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, mode);
    if (fd < 0) {
        return -errno;
    }
    size_t len = strlen(text), at = 0;
    int rc = 0;
    while (rc == 0 && at < len) {
        ssize_t n = write(fd, text + at, len - at);
        if (n >= 0) {
            at += (size_t)n;
        } else if (errno != EINTR) {
            rc = -errno;
        }
    }
    if (rc == 0 && (fchmod(fd, mode) < 0 || fsync(fd) < 0)) { // whatever the umask
        rc = -errno;
    }
    close(fd);
    return rc;
}

static bool has_file(const char *dir, const char *prefix, const char *name) {
    char *path = path_of(dir, prefix, name);
    bool exists = access(path, F_OK) == 0;
    free(path);
    return exists;
}

static void sync_dir(const char *dir) {
    int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd >= 0) {
        fsync(fd);
        close(fd);
    }
}

#define NEW_PREFIX ".new."
#define MARK_NAME "complete" // the new files are all there

static int rename_new(const char *dir) {
    for (size_t i = 0; i < N_FILES; i++) {
        if (!has_file(dir, NEW_PREFIX, file_names[i])) {
            continue; // a start before this one got that far
        }
        char *from = path_of(dir, NEW_PREFIX, file_names[i]);
        char *to = path_of(dir, "", file_names[i]);
        int rc = rename(from, to) < 0 ? -errno : 0;
        free(from);
        free(to);
        if (rc < 0) {
            return rc;
        }
    }
    sync_dir(dir);
    char *mark = path_of(dir, NEW_PREFIX, MARK_NAME);
    unlink(mark);
    free(mark);
    sync_dir(dir);
    return 0;
}

static int make_root(const struct ca_local_params *params) {
    char *cert = NULL, *key = NULL;
    tls_ca_make_root(slice_str(params->org), params->now_wall_s, &cert, &key);
    const char *const texts[N_FILES] = {
        [FILE_CHAIN] = cert, [FILE_ROOT] = cert, [FILE_KEY] = key, [FILE_CERT] = cert};
    int rc = 0;
    for (size_t i = 0; i <= N_FILES && rc == 0; i++) {
        char *path = path_of(params->dir, NEW_PREFIX, i < N_FILES ? file_names[i] : MARK_NAME);
        rc = write_file(path, i == FILE_KEY ? 0600 : 0644, i < N_FILES ? texts[i] : "");
        free(path);
        sync_dir(params->dir);
    }
    free(cert);
    tls_key_pem_free(key);
    return rc < 0 ? rc : rename_new(params->dir);
}

static char *load(const char *dir, int64_t now_s, struct tls_ca **ret_tls) {
    char *texts[N_FILES] = {0};
    size_t lens[N_FILES] = {0};
    char *error = NULL;
    for (size_t i = 0; i < N_FILES && error == NULL; i++) {
        char *path = path_of(dir, "", file_names[i]);
        int rc = file_read(path, FILE_MAX, &texts[i], &lens[i]);
        bool is_optional = i == FILE_CHAIN || i == FILE_ROOT;
        if (rc < 0 && !(is_optional && rc == -ENOENT)) {
            error = xasprintf("%s: %s", path, strerror(-rc));
        }
        free(path);
    }
    if (error == NULL) {
        struct tls_ca_params params = {
            .ca_cert_pem = slice_make(texts[FILE_CERT], lens[FILE_CERT]),
            .ca_key_pem = slice_make(texts[FILE_KEY], lens[FILE_KEY]),
            .root_cert_pem = slice_make(texts[FILE_ROOT], lens[FILE_ROOT]),
            .cert_chain_pem = slice_make(texts[FILE_CHAIN], lens[FILE_CHAIN]),
            .now_s = now_s,
        };
        char *reason = NULL;
        *ret_tls = tls_ca_new(&params, &reason);
        if (*ret_tls == NULL) {
            error = xasprintf("%s: %s", dir, reason);
            free(reason);
        }
    }
    for (size_t i = 0; i < N_FILES; i++) {
        if (texts[i] != NULL) {
            wipe(texts[i], lens[i]);
            free(texts[i]);
        }
    }
    return error;
}

static void take_stamps(const char *dir, struct file_stamp stamps[N_FILES]) {
    for (size_t i = 0; i < N_FILES; i++) {
        char *path = path_of(dir, "", file_names[i]);
        stamps[i] = file_stamp_of(path);
        free(path);
    }
}

// Under the lock: makes the files complete. A reason, or NULL.
static char *prepare(const struct ca_local_params *params, bool *ret_is_new) {
    const char *dir = params->dir;
    bool has_cert = has_file(dir, "", file_names[FILE_CERT]);
    bool has_key = has_file(dir, "", file_names[FILE_KEY]);
    int rc = 0;
    if (has_file(dir, NEW_PREFIX, MARK_NAME)) {
        rc = rename_new(dir);
    } else if (!has_cert && !has_key) {
        rc = make_root(params);
        *ret_is_new = true;
    } else if (!has_cert || !has_key) {
        return xasprintf("%s has %s but not %s", dir, file_names[has_key ? FILE_KEY : FILE_CERT],
                         file_names[has_key ? FILE_CERT : FILE_KEY]);
    }
    return rc < 0 ? xasprintf("cannot write to %s: %s", dir, strerror(-rc)) : NULL;
}

static int lock_dir(const char *dir) {
    char *path = path_of(dir, "", ".lock");
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0 && (errno == EROFS || errno == EACCES)) {
        fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC); // a mounted secret: nothing to create
    }
    free(path);
    if (fd < 0) {
        return -errno;
    }
    while (flock(fd, LOCK_EX) < 0) {
        if (errno != EINTR) {
            int rc = -errno;
            close(fd);
            return rc;
        }
    }
    return fd;
}

static void issue(struct ca *base, struct ca_request *request) {
    struct ca_local *ca = CONTAINER_OF(base, struct ca_local, ca);
    struct ca_answer answer = {0};
    struct tls_svid svid;
    char *error = NULL;
    if (!tls_ca_sign(ca->tls, slice_str(request->spiffe_id), request->now_wall_s, request->ttl_s,
                     &svid, &error)) {
        answer.error = error;
        request->done(request, &answer);
        free(error);
        return;
    }
    answer.cert_chain_pem = slice_str(svid.cert_chain_pem);
    answer.key_pem = slice_str(svid.key_pem);
    answer.roots_pem = slice_str(svid.roots_pem);
    request->done(request, &answer);
    tls_svid_fini(&svid);
}

static void cancel(struct ca *base, struct ca_request *request) {
    // never called: requests are done at once
}

struct ca_local *ca_local_open(const struct ca_local_params *params, char **ret_error) {
    static const struct ca_ops ops = {.issue = issue, .cancel = cancel};
    if (mkdir(params->dir, 0700) < 0 && errno != EEXIST) {
        *ret_error = xasprintf("cannot make %s: %s", params->dir, strerror(errno));
        return NULL;
    }
    int lock = lock_dir(params->dir);
    if (lock < 0) {
        *ret_error = xasprintf("cannot lock %s: %s", params->dir, strerror(-lock));
        return NULL;
    }
    struct ca_local *ca = xcalloc(1, sizeof(*ca));
    ca->ca.ops = &ops;
    ca->dir = xstrdup(params->dir);
    char *error = prepare(params, &ca->is_new);
    take_stamps(ca->dir, ca->stamps);
    if (error == NULL) {
        error = load(ca->dir, params->now_wall_s, &ca->tls);
    }
    close(lock);
    if (error != NULL) {
        ca_local_close(ca);
        *ret_error = error;
        return NULL;
    }
    return ca;
}

void ca_local_close(struct ca_local *ca) {
    if (ca == NULL) {
        return;
    }
    tls_ca_free(ca->tls);
    free(ca->dir);
    free(ca);
}

struct ca *ca_local_ca(struct ca_local *ca) {
    return &ca->ca;
}

enum ca_local_news ca_local_poll(struct ca_local *ca, int64_t now_wall_s, char **ret_error) {
    struct file_stamp stamps[N_FILES];
    bool is_same = true;
    take_stamps(ca->dir, stamps); // before reading: a change while we read is seen next time
    for (size_t i = 0; i < N_FILES; i++) {
        is_same = is_same && file_stamp_eq(&stamps[i], &ca->stamps[i]);
    }
    if (is_same) {
        return CA_LOCAL_SAME;
    }
    memcpy(ca->stamps, stamps, sizeof(stamps));
    struct tls_ca *tls = NULL;
    *ret_error = load(ca->dir, now_wall_s, &tls);
    if (*ret_error != NULL) {
        return CA_LOCAL_BROKEN;
    }
    tls_ca_free(ca->tls);
    ca->tls = tls;
    return CA_LOCAL_CHANGED;
}

const char *ca_local_roots_pem(const struct ca_local *ca) {
    return tls_ca_roots_pem(ca->tls);
}

int64_t ca_local_not_after(const struct ca_local *ca) {
    return tls_ca_not_after(ca->tls);
}

bool ca_local_is_new(const struct ca_local *ca) {
    return ca->is_new;
}

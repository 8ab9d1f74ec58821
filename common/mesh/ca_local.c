// SPDX-License-Identifier: Apache-2.0
#include "common/mesh/ca_local.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

enum { CA_FILE_MAX = 1024 * 1024 };

enum ca_file { CA_CERT, CA_KEY, CA_ROOT, CA_CHAIN, N_CA_FILES };

static const char *const file_names[N_CA_FILES] = {"ca-cert.pem", "ca-key.pem", "root-cert.pem",
                                                   "cert-chain.pem"};

struct stamp { // tells a changed file
    struct timespec mtime;
    off_t size;
    ino_t inode;
};

struct ca_local {
    struct ca ca;
    char *dir, *trust_domain;
    struct tls_ca *signer;
    struct stamp stamps[N_CA_FILES];
};

// ---- files -------------------------------------------------------------------------------------

static void free_text(char *text) {
    if (text != NULL) {
        wipe(text, strlen(text));
        free(text);
    }
}

// The file as NUL-terminated text; NULL with errno.
static char *read_file(int dir_fd, const char *name, struct stamp *ret_stamp) {
    int fd = openat(dir_fd, name, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return NULL;
    }
    struct stat st;
    char *text = NULL;
    if (fstat(fd, &st) == 0 && st.st_size <= CA_FILE_MAX) {
        text = xcalloc(1, (size_t)st.st_size + 1);
        size_t len = 0;
        ssize_t n;
        while (len < (size_t)st.st_size &&
               (n = read(fd, text + len, (size_t)st.st_size - len)) > 0) {
            len += (size_t)n;
        }
        *ret_stamp =
            (struct stamp){.mtime = st.st_mtim, .size = st.st_size, .inode = st.st_ino};
    } else {
        errno = EFBIG;
    }
    (void)close(fd);
    return text;
}

// Writes through a temporary name, so that a reader never sees half a file. 0 or -errno.
static int write_file(int dir_fd, const char *name, mode_t mode, const char *text) {
    char temp[64];
    snprintf(temp, sizeof(temp), ".%s.%d", name, (int)getpid());
    int fd = openat(dir_fd, temp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, mode);
    if (fd < 0) {
        return -errno;
    }
    size_t len = strlen(text), off = 0;
    int rc = 0;
    while (off < len && rc == 0) {
        ssize_t n = write(fd, text + off, len - off);
        if (n < 0) {
            rc = -errno;
        } else {
            off += (size_t)n;
        }
    }
    rc = rc == 0 && (fchmod(fd, mode) < 0 || fsync(fd) < 0) ? -errno : rc;
    (void)close(fd);
    if (rc == 0 && renameat(dir_fd, temp, dir_fd, name) < 0) {
        rc = -errno;
    }
    if (rc < 0) {
        (void)unlinkat(dir_fd, temp, 0);
    }
    return rc;
}

// ---- creation ----------------------------------------------------------------------------------

// The certificate comes last: with it the CA exists.
static int create(int dir_fd, const char *trust_domain, int64_t now_wall_s) {
    char *cert = NULL, *key = NULL;
    tls_ca_make_root(slice_str(trust_domain), now_wall_s, &cert, &key);
    int rc = write_file(dir_fd, file_names[CA_KEY], 0600, key);
    rc = rc == 0 ? write_file(dir_fd, file_names[CA_ROOT], 0644, cert) : rc;
    rc = rc == 0 ? write_file(dir_fd, file_names[CA_CHAIN], 0644, cert) : rc;
    rc = rc == 0 ? write_file(dir_fd, file_names[CA_CERT], 0644, cert) : rc;
    free(cert);
    free_text(key);
    return rc;
}

static int create_if_empty(int dir_fd, const char *trust_domain, int64_t now_wall_s,
                           char **ret_error) {
    int lock = openat(dir_fd, ".lock", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    int rc = lock < 0 || flock(lock, LOCK_EX) < 0 ? -errno : 0;
    if (rc == 0 && faccessat(dir_fd, file_names[CA_CERT], F_OK, 0) < 0) {
        if (faccessat(dir_fd, file_names[CA_KEY], F_OK, 0) == 0 &&
            faccessat(dir_fd, file_names[CA_ROOT], F_OK, 0) < 0) {
            // A key alone is not ours to replace; one with our root is a creation that was cut off.
            *ret_error = xasprintf("ca-key.pem is there but ca-cert.pem is not: add the "
                                   "certificate, or remove the key to let a new CA be made");
            rc = -EINVAL;
        } else {
            rc = create(dir_fd, trust_domain, now_wall_s);
        }
    }
    if (rc < 0 && *ret_error == NULL) {
        *ret_error = xasprintf("cannot create the CA: %s", strerror(-rc));
    }
    if (lock >= 0) {
        (void)close(lock); // and the lock with it
    }
    return rc;
}

// ---- loading -----------------------------------------------------------------------------------

static struct tls_ca *load(int dir_fd, int64_t now_wall_s, struct stamp stamps[N_CA_FILES],
                           char **ret_error) {
    char *texts[N_CA_FILES] = {0};
    struct tls_ca *signer = NULL;
    for (int i = 0; i < N_CA_FILES; i++) {
        stamps[i] = (struct stamp){0};
        texts[i] = read_file(dir_fd, file_names[i], &stamps[i]);
        if (texts[i] == NULL && (i == CA_CERT || i == CA_KEY || errno != ENOENT)) {
            *ret_error = xasprintf("%s: %s", file_names[i], strerror(errno));
            goto out;
        }
    }
    struct tls_ca_params params = {
        .ca_cert_pem = slice_str(texts[CA_CERT]),
        .ca_key_pem = slice_str(texts[CA_KEY]),
        .root_cert_pem = slice_str(texts[CA_ROOT]),
        .cert_chain_pem = slice_str(texts[CA_CHAIN]),
        .now_s = now_wall_s,
    };
    signer = tls_ca_new(&params, ret_error);
out:
    for (int i = 0; i < N_CA_FILES; i++) {
        free_text(texts[i]);
    }
    return signer;
}

// ---- the ca interface --------------------------------------------------------------------------

static struct ca_local *of_ca(struct ca *ca) {
    return CONTAINER_OF(ca, struct ca_local, ca);
}

static void local_request(struct ca *ca, struct ca_request *request, int64_t now_wall_s) {
    struct tls_svid svid;
    char *error = NULL;
    if (tls_ca_sign(of_ca(ca)->signer, slice_str(request->spiffe_id), now_wall_s, request->ttl_s,
                    &svid, &error)) {
        request->done(request, &svid, NULL);
        tls_svid_fini(&svid);
    } else {
        request->done(request, NULL, error);
        free(error);
    }
}

static void local_cancel(struct ca *ca, struct ca_request *request) {
    (void)ca; // requests are answered at once
    (void)request;
}

static bool stamps_changed(const struct ca_local *local, int dir_fd) {
    for (int i = 0; i < N_CA_FILES; i++) {
        struct stat st = {0};
        (void)fstatat(dir_fd, file_names[i], &st, 0); // missing: zeros
        const struct stamp *old = &local->stamps[i];
        if (old->inode != st.st_ino || old->size != st.st_size ||
            old->mtime.tv_sec != st.st_mtim.tv_sec || old->mtime.tv_nsec != st.st_mtim.tv_nsec) {
            return true;
        }
    }
    return false;
}

static bool local_poll(struct ca *ca, int64_t now_wall_s) {
    struct ca_local *local = of_ca(ca);
    int dir_fd = open(local->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (dir_fd < 0) {
        return false; // the CA in memory goes on
    }
    bool has_changed = false;
    if (stamps_changed(local, dir_fd)) {
        struct stamp stamps[N_CA_FILES];
        char *error = NULL;
        struct tls_ca *signer = load(dir_fd, now_wall_s, stamps, &error);
        free(error);
        if (signer != NULL) { // else: half-written files; the next look finds them whole
            tls_ca_free(local->signer);
            local->signer = signer;
            memcpy(local->stamps, stamps, sizeof(stamps));
            has_changed = true;
        }
    }
    (void)close(dir_fd);
    return has_changed;
}

static void local_free(struct ca *ca) {
    struct ca_local *local = of_ca(ca);
    tls_ca_free(local->signer);
    free(local->dir);
    free(local->trust_domain);
    free(local);
}

static const struct ca_ops local_ops = {
    .request = local_request, .cancel = local_cancel, .poll = local_poll, .free = local_free};

struct ca *ca_local_open(const char *dir, const char *trust_domain, int64_t now_wall_s,
                         char **ret_error) {
    *ret_error = NULL;
    if (mkdir(dir, 0700) < 0 && errno != EEXIST) {
        *ret_error = xasprintf("%s: %s", dir, strerror(errno));
        return NULL;
    }
    int dir_fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (dir_fd < 0) {
        *ret_error = xasprintf("%s: %s", dir, strerror(errno));
        return NULL;
    }
    struct ca_local *local = NULL;
    struct stamp stamps[N_CA_FILES];
    struct tls_ca *signer = NULL;
    if (create_if_empty(dir_fd, trust_domain, now_wall_s, ret_error) == 0) {
        signer = load(dir_fd, now_wall_s, stamps, ret_error);
    }
    if (signer != NULL) {
        local = xcalloc(1, sizeof(*local));
        local->ca.ops = &local_ops;
        local->dir = xstrdup(dir);
        local->trust_domain = xstrdup(trust_domain);
        local->signer = signer;
        memcpy(local->stamps, stamps, sizeof(stamps));
    }
    (void)close(dir_fd);
    return local != NULL ? &local->ca : NULL;
}

// SPDX-License-Identifier: Apache-2.0
//
// ztunctl check --node: whether this machine can run ztun, and how.
#include <errno.h>
#include <nftables/libnftables.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "common/base/blk.h"
#include "common/rt/file.h"
#include "common/rt/io_open.h"
#include "ctl/check.h"

enum { KERNEL_MAJOR = 6, KERNEL_MINOR = 1, FILES_MIN = 65536 };

static bool parse_release(const char *release, unsigned *ret_major, unsigned *ret_minor) {
    return sscanf(release, "%u.%u", ret_major, ret_minor) == 2;
}

void check_kernel(struct check *c, const char *object, const char *release) {
    unsigned major, minor;

    if (!parse_release(release, &major, &minor)) {
        check_add(c, CHECK_WARNING, "kernel", object, NULL, "`%s` is no version of Linux", release);
    } else if (major < KERNEL_MAJOR || (major == KERNEL_MAJOR && minor < KERNEL_MINOR)) {
        check_add(c, CHECK_ERROR, "kernel", object, "use a node image with Linux 6.1 or newer",
                  "Linux %s is too old for ztun", release);
    } else {
        check_add(c, CHECK_FINE, "kernel", object, NULL, "Linux %s", release);
    }
}

// Opens what the programs open; "" or why it does not work.
static void try_io(enum io_kind kind, char error[URING_ERROR_MAX]) {
    struct uring_options options = {.entries = 64, .n_buffers = 16};
    struct blk_pool pool;
    struct io *io;

    error[0] = '\0';
    blk_pool_init(&pool, 1);
    if (io_open(kind, &options, &pool, error, &io) == 0) {
        io->ops->free(io);
    }
    blk_pool_fini(&pool);
}

static void check_io(struct check *c) {
    char error[URING_ERROR_MAX];

    try_io(IO_URING, error);
    if (error[0] == '\0') {
        check_add(c, CHECK_FINE, "io", "", NULL, "io_uring is allowed and will be used");
        return;
    }
    char *reason = xstrdup(error);
    try_io(IO_EPOLL, error);
    if (error[0] == '\0') {
        check_add(c, CHECK_WARNING, "io", "", "allow io_uring, or live with more CPU per request",
                  "epoll will be used: %s", reason);
    } else {
        check_add(c, CHECK_ERROR, "io", "", NULL, "neither io_uring (%s) nor epoll (%s) works",
                  reason, error);
    }
    free(reason);
}

// The filter of this process, which containers of the node may have or not.
static void check_seccomp(struct check *c) {
    char *text, *at;
    size_t len;

    if (file_read("/proc/self/status", 1 << 16, &text, &len) < 0) {
        return;
    }
    at = strstr(text, "\nSeccomp:");
    bool is_filtered = at != NULL && strtol(at + strlen("\nSeccomp:"), NULL, 10) != 0;
    free(text);
    check_add(c, is_filtered ? CHECK_NOTE : CHECK_FINE, "seccomp", "", NULL,
              is_filtered ? "this process runs under a seccomp filter; what is said of io_uring "
                            "here is what that filter allows"
                          : "this process has no seccomp filter");
}

static void check_nftables(struct check *c) {
    static const char remedy[] = "load the module nf_tables; under istio-cni ztun makes no rules "
                                 "and does not need it";
    if (geteuid() != 0) {
        check_add(c, CHECK_NOTE, "nftables", "", NULL, "was not looked at: that needs root");
        return;
    }
    struct nft_ctx *ctx = nft_ctx_new(NFT_CTX_DEFAULT);
    if (ctx == NULL) {
        check_add(c, CHECK_WARNING, "nftables", "", remedy, "libnftables does not start");
        return;
    }
    nft_ctx_buffer_error(ctx);
    nft_ctx_buffer_output(ctx);
    if (nft_run_cmd_from_buffer(ctx, "list tables") == 0) {
        check_add(c, CHECK_FINE, "nftables", "", NULL, "the kernel has nf_tables");
    } else {
        char *text = xstrdup(nft_ctx_get_error_buffer(ctx));
        text[strcspn(text, "\n")] = '\0';
        check_add(c, CHECK_WARNING, "nftables", "", remedy, "%s", text);
        free(text);
    }
    nft_ctx_free(ctx);
}

static void check_files(struct check *c) {
    struct rlimit limit;

    if (getrlimit(RLIMIT_NOFILE, &limit) < 0) {
        return;
    }
    bool is_low = limit.rlim_max < FILES_MIN;
    check_add(c, is_low ? CHECK_WARNING : CHECK_FINE, "open-files", "",
              is_low ? "raise the hard limit of open files (LimitNOFILE of the runtime's service)"
                     : NULL,
              "at most %llu open files, two for each flow", (unsigned long long)limit.rlim_max);
}

void check_node(struct check *c) {
    struct utsname name;

    if (uname(&name) == 0) {
        check_kernel(c, "", name.release);
    }
    check_io(c);
    check_seccomp(c);
    check_nftables(c);
    check_files(c);
}

// SPDX-License-Identifier: Apache-2.0
//
// Setting up a ring: the best flags that this kernel takes, a probe of what it offers, and the
// words for an operator when it refuses.
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/rt/uring_priv.h"

static const uint8_t needed_ops[] = {
    IORING_OP_ACCEPT,  IORING_OP_CONNECT,      IORING_OP_RECV,
    IORING_OP_SENDMSG, IORING_OP_ASYNC_CANCEL, IORING_OP_POLL_ADD,
};

// kernel.io_uring_disabled: 0 on, 1 only privileged, 2 off; -1: no such sysctl (before Linux 6.6).
static int read_sysctl(void) {
    int fd = open("/proc/sys/kernel/io_uring_disabled", O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return -1;
    }
    char text[8] = {0};
    ssize_t n = read(fd, text, sizeof(text) - 1);
    close(fd);
    return n > 0 && text[0] >= '0' && text[0] <= '9' ? text[0] - '0' : -1;
}

static void explain(int err, char error[URING_ERROR_MAX]) {
    int sysctl = read_sysctl();
    const char *text;
    if (err == -EPERM && sysctl == 2) {
        text =
            "io_uring is switched off by sysctl kernel.io_uring_disabled=2; set it to 0, or to 1 "
            "and run this process with CAP_SYS_ADMIN";
    } else if (err == -EPERM && sysctl == 1) {
        text = "sysctl kernel.io_uring_disabled=1 allows io_uring only with CAP_SYS_ADMIN or to "
               "members of sysctl kernel.io_uring_group; grant one of them or set it to 0";
    } else if (err == -EPERM || err == -EACCES) {
        text = "io_uring_setup is not permitted, most likely by the container's seccomp profile; "
               "allow io_uring_setup, io_uring_enter and io_uring_register in it "
               "(seccompProfile Localhost or Unconfined)";
    } else if (err == -ENOSYS) {
        text = "this kernel has no io_uring (CONFIG_IO_URING), or a seccomp profile hides it; use "
               "Linux 6.1 or newer and allow io_uring_setup, io_uring_enter, io_uring_register";
    } else if (err == -ENOMEM) {
        text = "no memory for the rings; raise the memory limit of the cgroup, or RLIMIT_MEMLOCK";
    } else if (err == -EMFILE || err == -ENFILE) {
        text = "no file descriptor left for the ring; raise RLIMIT_NOFILE or fs.file-max";
    } else if (err == -EINVAL) {
        text = "this kernel's io_uring is too old; use Linux 6.1 or newer";
    } else {
        text = "io_uring could not be set up";
    }
    snprintf(error, URING_ERROR_MAX, "%s (%s)", text, strerror(-err));
}

static int open_ring(struct uring *u, const struct uring_options *options) {
    unsigned entries = options->entries != 0 ? options->entries : 512;
    unsigned cq_entries = options->cq_entries != 0 ? options->cq_entries : 8 * entries;
    const unsigned base = IORING_SETUP_CQSIZE | IORING_SETUP_CLAMP | IORING_SETUP_SUBMIT_ALL;
    const unsigned choices[] = {
        IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_TASKRUN_FLAG,
        IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_COOP_TASKRUN | IORING_SETUP_TASKRUN_FLAG,
        IORING_SETUP_COOP_TASKRUN | IORING_SETUP_TASKRUN_FLAG,
        0,
    };
    int rc = -EINVAL;
    for (size_t i = 0; i < ARRAY_LEN(choices) && rc == -EINVAL; i++) {
        unsigned flags = choices[i];
        if (((flags & IORING_SETUP_DEFER_TASKRUN) != 0 && options->disable_defer_taskrun) ||
            ((flags & IORING_SETUP_SINGLE_ISSUER) != 0 && options->disable_single_issuer)) {
            continue;
        }
        struct io_uring_params params = {.flags = base | flags, .cq_entries = cq_entries};
        rc = io_uring_queue_init_params(entries, &u->ring, &params);
        if (rc == 0) {
            u->stats.has_defer_taskrun = (flags & IORING_SETUP_DEFER_TASKRUN) != 0;
            u->stats.has_single_issuer = (flags & IORING_SETUP_SINGLE_ISSUER) != 0;
        }
    }
    return rc;
}

static int check_features(struct uring *u) {
    const unsigned needed = IORING_FEAT_NODROP | IORING_FEAT_EXT_ARG | IORING_FEAT_CQE_SKIP |
                            IORING_FEAT_SUBMIT_STABLE | IORING_FEAT_FAST_POLL;
    if ((u->ring.features & needed) != needed) {
        return -EINVAL;
    }
    struct io_uring_probe *probe = io_uring_get_probe_ring(&u->ring);
    if (probe == NULL) {
        return -EINVAL;
    }
    bool has_all = true;
    for (size_t i = 0; i < ARRAY_LEN(needed_ops); i++) {
        has_all = has_all && io_uring_opcode_supported(probe, needed_ops[i]);
    }
    io_uring_free_probe(probe);
    return has_all ? 0 : -EINVAL;
}

int uring_setup(struct uring *u, const struct uring_options *options, char error[URING_ERROR_MAX]) {
    int rc = open_ring(u, options);
    if (rc < 0) {
        explain(rc, error);
        return rc;
    }
    rc = check_features(u);
    if (rc < 0) {
        explain(rc, error);
        io_uring_queue_exit(&u->ring);
        return rc;
    }
    u->has_poll_first = !options->disable_poll_first;
    if (!options->disable_registered_fd) {
        u->stats.has_registered_fd = io_uring_register_ring_fd(&u->ring) == 1;
    }
    return 0;
}

static int wait_one(struct uring *u, struct uring_ready *ret_ready) {
    struct __kernel_timespec timeout = {.tv_sec = 1};
    struct io_uring_cqe *cqe = NULL;
    int rc = io_uring_submit_and_wait_timeout(&u->ring, &cqe, 1, &timeout, NULL);
    if (rc < 0 || cqe == NULL) {
        return rc < 0 ? rc : -ETIME;
    }
    *ret_ready = (struct uring_ready){.res = cqe->res, .flags = cqe->flags};
    io_uring_cqe_seen(&u->ring, cqe);
    return 0;
}

int uring_self_test(struct uring *u, char error[URING_ERROR_MAX]) {
    int fds[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) < 0) {
        int rc = -errno;
        explain(rc, error);
        return rc;
    }
    uring_bufs_refill(&u->bufs);
    struct io_uring_sqe *sqe = io_uring_get_sqe(&u->ring);
    io_uring_prep_recv_multishot(sqe, fds[0], NULL, 0, 0);
    sqe->flags |= IOSQE_BUFFER_SELECT;
    sqe->buf_group = URING_BUF_GROUP;
    io_uring_sqe_set_data(sqe, NULL);
    // One byte and the end: two completions, the second without F_MORE.
    int rc = write(fds[1], "x", 1) == 1 ? 0 : -EIO;
    close(fds[1]);
    struct uring_ready ready = {0};
    for (int i = 0; i < 2 && rc == 0; i++) {
        rc = wait_one(u, &ready);
        if (rc == 0 && (ready.flags & IORING_CQE_F_BUFFER) != 0) {
            blk_unref(uring_bufs_take(&u->bufs, ready.flags >> IORING_CQE_BUFFER_SHIFT));
        }
        bool is_first = i == 0;
        if (rc == 0 && (ready.res != (is_first ? 1 : 0) ||
                        ((ready.flags & IORING_CQE_F_MORE) != 0) != is_first)) {
            rc = -EINVAL;
        }
    }
    close(fds[0]);
    if (rc < 0) {
        explain(rc, error);
    }
    return rc;
}

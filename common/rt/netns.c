// SPDX-License-Identifier: Apache-2.0
#include "common/rt/netns.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#ifndef NS_GET_NSTYPE
#define NS_GET_NSTYPE _IO(0xb7, 0x3)
#endif
#ifndef SO_NETNS_COOKIE
#define SO_NETNS_COOKIE 71
#endif

#if defined(ZTUN_DEBUG) || defined(ZTUN_SANITIZED)
static uint64_t current_cookie(void) {
    uint64_t cookie = 0;
    socklen_t len = sizeof(cookie);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd >= 0) {
        (void)getsockopt(fd, SOL_SOCKET, SO_NETNS_COOKIE, &cookie, &len);
        close(fd);
    }
    return cookie; // 0: no descriptor left, or Linux before 5.14
}

static uint64_t own_cookie;

static void remember_own(void) {
    own_cookie = current_cookie();
}

static void check_is_own(void) {
    uint64_t cookie = current_cookie();
    CHECK(cookie == 0 || own_cookie == 0 || cookie == own_cookie);
}
#else
static void remember_own(void) {
}
static void check_is_own(void) {
}
#endif

static pthread_once_t own_once = PTHREAD_ONCE_INIT;
static int own_fd = -1;

static void open_own(void) {
    own_fd = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);
    CHECK(own_fd >= 0);
    remember_own();
}

int netns_own(void) {
    pthread_once(&own_once, open_own);
    return own_fd;
}

int netns_check(int fd) {
    return ioctl(fd, NS_GET_NSTYPE) == CLONE_NEWNET ? 0 : -EINVAL;
}

int netns_open(const char *name) {
    char path[4096];
    const char *dir = strchr(name, '/') != NULL ? "" : "/run/netns/";
    int len = snprintf(path, sizeof(path), "%s%s", dir, name);
    if (len < 0 || (size_t)len >= sizeof(path)) {
        return -ENAMETOOLONG;
    }
    // O_NONBLOCK: the name may be a FIFO or a device, which must not hold us up.
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0) {
        return -errno;
    }
    if (netns_check(fd) < 0) {
        close(fd);
        return -EINVAL;
    }
    return fd;
}

int netns_id(int netns_fd, struct netns_id *ret_id) {
    struct stat st;
    if (fstat(netns_fd, &st) < 0) {
        return -errno;
    }
    *ret_id = (struct netns_id){.dev = st.st_dev, .inode = st.st_ino};
    return 0;
}

int netns_enter(int netns_fd) {
    netns_own(); // before the thread moves
    return setns(netns_fd, CLONE_NEWNET) == 0 ? 0 : -errno;
}

void netns_leave(void) {
    CHECK(setns(own_fd, CLONE_NEWNET) == 0);
    check_is_own();
}

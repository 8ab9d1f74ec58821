// SPDX-License-Identifier: Apache-2.0
#include "ctl/http_get.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include "ctl/local_sys.h"

enum { HEAD_MAX = 64 * 1024 };

int http_netns_open(const char *netns) {
    if (strchr(netns, '/') == NULL) {
        return lab_netns_open(netns);
    }
    int fd = open(netns, O_RDONLY | O_CLOEXEC);
    return fd < 0 ? -errno : fd;
}

static int open_socket(const char *netns, int family) {
    int previous = -1;
    if (netns[0] != '\0') {
        int ns_fd = http_netns_open(netns);
        if (ns_fd < 0) {
            return ns_fd;
        }
        previous = lab_netns_enter(ns_fd);
        close(ns_fd);
        if (previous < 0) {
            return previous;
        }
    }
    int fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int rc = fd < 0 ? -errno : fd;
    if (previous >= 0) {
        lab_netns_leave(previous);
    }
    return rc;
}

static int connect_to(const char *netns, const struct addr *addr) {
    struct sockaddr_storage sa;
    socklen_t len = addr_to_sockaddr(addr, false, &sa);
    int fd = open_socket(netns, sa.ss_family);
    if (fd < 0) {
        return fd;
    }
    struct timeval limit = {.tv_sec = HTTP_GET_TIMEOUT_S};
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit));
    if (connect(fd, (struct sockaddr *)&sa, len) < 0) {
        int rc = errno == EINPROGRESS ? -ETIMEDOUT : -errno;
        close(fd);
        return rc;
    }
    return fd;
}

static int send_all(int fd, struct slice bytes) {
    while (bytes.len > 0) {
        ssize_t n = send(fd, bytes.ptr, bytes.len, MSG_NOSIGNAL);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n <= 0) {
            return n < 0 ? -errno : -EPIPE;
        }
        bytes = slice_skip(bytes, (size_t)n);
    }
    return 0;
}

// Reads up to the end of the stream.
static int receive_all(int fd, struct buf *in) {
    for (;;) {
        uint8_t *at = buf_reserve(in, 64 * 1024);
        if (at == NULL) {
            return -EFBIG;
        }
        ssize_t n = recv(fd, at, 64 * 1024, 0);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0) {
            return errno == EAGAIN ? -ETIMEDOUT : -errno;
        }
        if (n == 0) {
            return 0;
        }
        buf_commit(in, (size_t)n);
    }
}

// The value of a field of a head; empty when there is none.
static struct slice field_of(struct slice head, const char *wanted) {
    struct slice line, name, value;
    while (slice_split(head, '\n', &line, &head)) {
        if (slice_split(line, ':', &name, &value) && slice_eq_nocase(name, slice_str(wanted))) {
            value.len -= value.len > 0 && value.ptr[value.len - 1] == '\r';
            return slice_trim(value);
        }
    }
    return slice_make(NULL, 0);
}

static bool hex_size(struct slice text, size_t *ret_size) {
    size_t size = 0;
    for (size_t i = 0; i < text.len; i++) {
        uint8_t c = text.ptr[i] | 0x20;
        bool is_digit = c >= '0' && c <= '9', is_letter = c >= 'a' && c <= 'f';
        if ((!is_digit && !is_letter) || size > SIZE_MAX >> 8) {
            return false;
        }
        size = size << 4 | (size_t)(is_digit ? c - '0' : c - 'a' + 10);
    }
    *ret_size = size;
    return text.len > 0;
}

// RFC 9112 7.1, without extensions and trailers: no ztun sends them. False: not whole.
static bool append_chunks(struct slice in, struct buf *body) {
    struct slice line;
    size_t size;
    while (slice_split(in, '\n', &line, &in)) {
        line.len -= line.len > 0 && line.ptr[line.len - 1] == '\r';
        if (!hex_size(line, &size)) {
            return false;
        }
        if (size == 0) {
            return slice_eq(in, SLICE_LIT("\r\n"));
        }
        if (in.len < size || !slice_has_prefix(slice_skip(in, size), SLICE_LIT("\r\n"))) {
            return false;
        }
        buf_append(body, slice_head(in, size));
        in = slice_skip(in, size + 2);
    }
    return false;
}

static bool append_body(struct slice head, struct slice rest, struct buf *body) {
    struct slice length = field_of(head, "content-length");
    uint64_t len;
    if (slice_eq_nocase(field_of(head, "transfer-encoding"), SLICE_LIT("chunked"))) {
        size_t before = body->len;
        bool is_whole = append_chunks(rest, body) && buf_ok(body);
        if (!is_whole) {
            buf_truncate(body, before);
        }
        return is_whole;
    }
    if (slice_to_u64(length, SIZE_MAX - 1, &len) && rest.len != len) {
        return false;
    }
    buf_append(body, rest);
    return buf_ok(body);
}

// The status, or -1; the body of an answer that is whole.
static int parse_answer(struct slice in, struct buf *body) {
    const uint8_t *end = memmem(in.ptr, MIN(in.len, (size_t)HEAD_MAX), "\r\n\r\n", 4);
    uint64_t status;
    if (end == NULL || in.len < 12 || memcmp(in.ptr, "HTTP/1.", 7) != 0 ||
        !slice_to_u64(slice_make(in.ptr + 9, 3), 999, &status) || status < 100) {
        return -1;
    }
    size_t head_len = (size_t)(end - in.ptr) + 4;
    return append_body(slice_head(in, head_len), slice_skip(in, head_len), body) ? (int)status : -1;
}

int http_get(const char *netns, const struct addr *addr, const char *method, const char *path,
             struct buf *body, char **ret_error) {
    char where[ADDR_TEXT_MAX];
    addr_text(addr, where);
    int fd = connect_to(netns, addr);
    if (fd < 0) {
        *ret_error = xasprintf("%s%s%s%s: %s", where, netns[0] != '\0' ? " in " : "", netns, "",
                               strerror(-fd));
        return -1;
    }
    struct buf out, in;
    buf_init(&out, 16384);
    buf_printf(&out, "%s %s HTTP/1.1\r\nHost: %s\r\nConnection: close\r\nContent-Length: 0\r\n\r\n",
               method, path, where);
    buf_init(&in, body->max < SIZE_MAX - HEAD_MAX ? body->max + HEAD_MAX : SIZE_MAX);
    int rc = buf_ok(&out) ? send_all(fd, buf_slice(&out)) : -E2BIG;
    if (rc == 0) {
        rc = receive_all(fd, &in);
    }
    int status = rc == 0 ? parse_answer(buf_slice(&in), body) : -1;
    if (status < 0) {
        *ret_error = xasprintf("%s: %s", where,
                               rc < 0 ? strerror(-rc) : "the answer is not whole, or not HTTP");
    }
    buf_fini(&out);
    buf_fini(&in);
    close(fd);
    return status;
}

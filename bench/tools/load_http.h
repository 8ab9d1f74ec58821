// SPDX-License-Identifier: Apache-2.0
//
// HTTP for the load tools: one GET, the same each time, and the answer to it, which has to be 200,
// with a Content-Length, and the body that the first one had (threads start after that one).
// Nothing of common/ is used (load.h).
#pragma once

#include "bench/tools/load.h"

enum { HTTP_REQUEST_MAX = 4096, HTTP_HEAD_MAX = 8192 };

static struct {
    char request[HTTP_REQUEST_MAX];
    uint32_t request_len;
    uint8_t *body; // of every answer; NULL: not known yet
    uint32_t body_len;
} load_http;

LOAD_UNUSED static void load_http_init(const char *path, const char *host) {
    int len = snprintf(load_http.request, sizeof(load_http.request),
                       "GET %s HTTP/1.1\r\nHost: %s\r\nUser-Agent: bench\r\nAccept: */*\r\n\r\n",
                       path, host);
    if (len <= 0 || (size_t)len >= sizeof(load_http.request)) {
        die("%s: too long", path);
    }
    load_http.request_len = (uint32_t)len;
}

// An answer as it comes in.
struct load_http_answer {
    uint32_t head_len; // bytes of the head so far, or, with `in_body`, of all
    uint32_t body_got, body_len;
    bool in_body;
    char head[HTTP_HEAD_MAX];
};

// The value of a field, up to its CRLF; NULL: none.
LOAD_UNUSED static const char *load_http_field(const char *head, const char *name) {
    size_t len = strlen(name);
    for (const char *line = strstr(head, "\r\n"); line != NULL; line = strstr(line + 2, "\r\n")) {
        if (strncasecmp(line + 2, name, len) == 0 && line[2 + len] == ':') {
            const char *value = line + 3 + len;
            return value + strspn(value, " \t");
        }
    }
    return NULL;
}

LOAD_UNUSED static void load_http_head_done(struct load_http_answer *answer) {
    const char *length = load_http_field(answer->head, "content-length");
    if (strncmp(answer->head, "HTTP/1.1 200 ", 13) != 0 || length == NULL) {
        die("wrong answer: %s", answer->head);
    }
    answer->body_len = (uint32_t)strtoul(length, NULL, 10);
    if (load_http.body != NULL && answer->body_len != load_http.body_len) {
        die("the answer has %u bytes, not %u", answer->body_len, load_http.body_len);
    }
    answer->in_body = true;
    answer->body_got = 0;
}

// Takes what belongs to the answer, which has begun with body_len = 0 and so on; true when it is
// complete. More than that ends the program: nobody asked for it.
LOAD_UNUSED static bool load_http_take(struct load_http_answer *answer, const uint8_t *data,
                                       uint32_t len) {
    while (len > 0 && !answer->in_body) {
        if (answer->head_len == HTTP_HEAD_MAX - 1) {
            die("the head of the answer is too long");
        }
        answer->head[answer->head_len++] = (char)*data++;
        len--;
        if (answer->head_len >= 4 &&
            memcmp(answer->head + answer->head_len - 4, "\r\n\r\n", 4) == 0) {
            answer->head[answer->head_len] = '\0';
            load_http_head_done(answer);
        }
    }
    if (!answer->in_body) {
        return false;
    }
    if (answer->body_got + len > answer->body_len) {
        die("more bytes than the answer has");
    }
    if (load_http.body == NULL) {
        load_http.body = malloc(answer->body_len + 1);
        load_http.body_len = answer->body_len;
    }
    // The first answer is what the others are compared with.
    static bool is_known;
    if (!is_known) {
        memcpy(load_http.body + answer->body_got, data, len);
    } else if (memcmp(load_http.body + answer->body_got, data, len) != 0) {
        die("wrong bytes in an answer");
    }
    answer->body_got += len;
    bool is_complete = answer->body_got == answer->body_len;
    is_known = is_known || is_complete;
    return is_complete;
}

LOAD_UNUSED static void load_http_begin(struct load_http_answer *answer) {
    answer->head_len = answer->body_got = answer->body_len = 0;
    answer->in_body = false;
}

// One blocking exchange; false like load_send().
LOAD_UNUSED static bool load_http_exchange(int fd) {
    struct load_http_answer answer;
    uint8_t buf[16384];
    load_http_begin(&answer);
    if (!load_send(fd, load_http.request, load_http.request_len, 0)) {
        return false;
    }
    for (;;) {
        ssize_t n = recv(fd, buf, sizeof(buf), 0);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n <= 0) {
            errno = n == 0 ? 0 : errno;
            return false;
        }
        if (load_http_take(&answer, buf, (uint32_t)n)) {
            return true;
        }
    }
}

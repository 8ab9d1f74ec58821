// SPDX-License-Identifier: Apache-2.0
#include "tests/unit/waypoint/h1_reader.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "common/base/check.h"

enum { HEAD, LENGTH, CHUNK_SIZE, CHUNK, CHUNK_END, TRAILERS, TO_THE_END, END };

bool h1_reader_field(const char *head, const char *name, char *ret_value, size_t cap) {
    size_t len = strlen(name);
    for (const char *line = strstr(head, "\r\n"); line != NULL; line = strstr(line, "\r\n")) {
        line += 2;
        if (strncasecmp(line, name, len) == 0 && line[len] == ':') {
            const char *value = line + len + 1 + strspn(line + len + 1, " ");
            snprintf(ret_value, cap, "%.*s", (int)strcspn(value, "\r"), value);
            return true;
        }
    }
    return false;
}

// RFC 9112 6.3.
static void begin_body(struct h1_reader *reader) {
    char value[64];
    int status = reader->is_response ? (int)strtol(reader->head + 9, NULL, 10) : 0;
    bool is_final = status == 0 || status >= 200;
    reader->state = END;
    if (!is_final || status == 204 || status == 304 || reader->has_no_body) {
        return;
    }
    if (h1_reader_field(reader->head, "transfer-encoding", value, sizeof(value))) {
        CHECK(strcmp(value, "chunked") == 0);
        reader->state = CHUNK_SIZE;
    } else if (h1_reader_field(reader->head, "content-length", value, sizeof(value))) {
        reader->n_left = strtoull(value, NULL, 10);
        reader->state = reader->n_left > 0 ? LENGTH : END;
    } else if (reader->is_response) {
        reader->state = TO_THE_END;
    }
}

// A line without its end; NULL: there is no whole one yet.
static char *take_line(struct h1_reader *reader, uint8_t byte) {
    CHECK(reader->n_head + 1 < H1_READER_HEAD_MAX);
    reader->head[reader->n_head++] = (char)byte;
    if (byte != '\n') {
        return NULL;
    }
    CHECK(reader->n_head >= 2 && reader->head[reader->n_head - 2] == '\r');
    reader->head[reader->n_head - 2] = '\0';
    reader->n_head = 0;
    return reader->head;
}

static void take_head_byte(struct h1_reader *reader, uint8_t byte) {
    CHECK(reader->n_head + 1 < H1_READER_HEAD_MAX);
    reader->head[reader->n_head++] = (char)byte;
    if (reader->n_head < 4 || memcmp(reader->head + reader->n_head - 4, "\r\n\r\n", 4) != 0) {
        return;
    }
    reader->head[reader->n_head - 4] = '\0';
    reader->n_head = 0;
    if (reader->is_response) {
        CHECK(strncmp(reader->head, "HTTP/1.1 ", 9) == 0);
    } else {
        CHECK(strstr(reader->head, " HTTP/1.1") != NULL);
    }
    reader->on_head(reader->arg, reader->head);
    begin_body(reader);
}

static void take_chunk_line(struct h1_reader *reader, uint8_t byte) {
    char *line = take_line(reader, byte);
    if (line == NULL) {
        return;
    }
    char *end = line;
    reader->n_left = strtoull(line, &end, 16);
    CHECK(end != line && *end == '\0');
    reader->state = reader->n_left > 0 ? CHUNK : TRAILERS;
}

static void take_byte(struct h1_reader *reader, uint8_t byte) {
    char *line = NULL;
    switch (reader->state) {
    case HEAD:
        take_head_byte(reader, byte);
        break;
    case CHUNK_SIZE:
        take_chunk_line(reader, byte);
        break;
    case CHUNK_END:
        line = take_line(reader, byte);
        CHECK(line == NULL || *line == '\0');
        reader->state = line != NULL ? CHUNK_SIZE : CHUNK_END;
        break;
    default: // TRAILERS
        line = take_line(reader, byte);
        reader->state = line != NULL && *line == '\0' ? END : TRAILERS;
        break;
    }
}

static size_t take_body(struct h1_reader *reader, const uint8_t *bytes, size_t len) {
    if (reader->state != TO_THE_END) {
        len = MIN(len, (size_t)reader->n_left);
        reader->n_left -= len;
    }
    reader->on_body(reader->arg, bytes, len);
    if (reader->state != TO_THE_END && reader->n_left == 0) {
        reader->state = reader->state == LENGTH ? END : CHUNK_END;
    }
    return len;
}

size_t h1_reader_read(struct h1_reader *reader, const uint8_t *bytes, size_t len) {
    size_t at = 0;
    while (at < len && reader->state != END) {
        if (reader->state == LENGTH || reader->state == CHUNK || reader->state == TO_THE_END) {
            at += take_body(reader, bytes + at, len - at);
        } else {
            take_byte(reader, bytes[at++]);
        }
    }
    if (reader->state == END) {
        reader->state = HEAD;
        reader->on_end(reader->arg);
    }
    return at;
}

bool h1_reader_end(struct h1_reader *reader) {
    if (reader->state == TO_THE_END) {
        reader->state = HEAD;
        reader->on_end(reader->arg);
        return true;
    }
    return h1_reader_is_between(reader);
}

bool h1_reader_is_between(const struct h1_reader *reader) {
    return reader->state == HEAD && reader->n_head == 0;
}

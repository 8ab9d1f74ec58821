// SPDX-License-Identifier: Apache-2.0
//
// JSON: jansson decides what is JSON; a small tokeniser then walks the text that it accepted and
// builds the tree with positions. The tokeniser therefore only has to be safe, not strict.
#include <errno.h>
#include <jansson.h>
#include <stdlib.h>

#include "common/mesh/config_doc_priv.h"

struct json_reader {
    struct doc_builder builder;
    const uint8_t *at, *end;
    uint32_t line, col; // 1-based, of `at`
    char *text; // unescaped string
    size_t text_cap;
};

static void advance(struct json_reader *j) {
    uint8_t c = *j->at++;

    if (c == '\n') {
        j->line++;
        j->col = 1;
    } else if ((c & 0xc0) != 0x80) { // not a UTF-8 continuation byte
        j->col++;
    }
}

// Past space, commas and colons.
static bool skip_between(struct json_reader *j) {
    while (j->at < j->end && strchr(" \t\r\n,:", *j->at) != NULL && *j->at != '\0') {
        advance(j);
    }
    return j->at < j->end;
}

static uint32_t hex4(const uint8_t *p) {
    uint32_t value = 0;

    for (int i = 0; i < 4; i++) {
        uint8_t c = p[i];
        uint32_t digit = c <= '9' ? (uint32_t)(c - '0') : (uint32_t)((c | 0x20) - 'a' + 10);
        value = value << 4 | (digit & 0xf);
    }
    return value;
}

static size_t put_utf8(char *out, uint32_t code) {
    if (code < 0x80) {
        out[0] = (char)code;
        return 1;
    }
    if (code < 0x800) {
        out[0] = (char)(0xc0 | code >> 6);
        out[1] = (char)(0x80 | (code & 0x3f));
        return 2;
    }
    if (code < 0x10000) {
        out[0] = (char)(0xe0 | code >> 12);
        out[1] = (char)(0x80 | (code >> 6 & 0x3f));
        out[2] = (char)(0x80 | (code & 0x3f));
        return 3;
    }
    out[0] = (char)(0xf0 | code >> 18);
    out[1] = (char)(0x80 | (code >> 12 & 0x3f));
    out[2] = (char)(0x80 | (code >> 6 & 0x3f));
    out[3] = (char)(0x80 | (code & 0x3f));
    return 4;
}

// `p` is behind "\u". Returns the bytes read there.
static size_t unescape_code(const uint8_t *p, const uint8_t *end, char *out, size_t *len) {
    if (end - p < 4) {
        return (size_t)(end - p);
    }
    uint32_t code = hex4(p);
    if (code >= 0xd800 && code < 0xdc00 && end - p >= 10) {
        uint32_t low = hex4(p + 6);
        *len += put_utf8(out + *len, 0x10000 + ((code & 0x3ff) << 10) + (low & 0x3ff));
        return 10;
    }
    *len += put_utf8(out + *len, code);
    return 4;
}

// The text between quotes, without its escapes. It never gets longer.
static struct slice unescape(struct json_reader *j, const uint8_t *p, const uint8_t *end) {
    size_t raw_len = (size_t)(end - p), len = 0;

    if (memchr(p, '\\', raw_len) == NULL) {
        return slice_make(p, raw_len);
    }
    if (raw_len > j->text_cap) {
        j->text_cap = raw_len * 2;
        j->text = xrealloc(j->text, j->text_cap);
    }
    while (p < end) {
        uint8_t c = *p++;
        if (c != '\\' || p == end) {
            j->text[len++] = (char)c;
            continue;
        }
        c = *p++;
        if (c == 'u') {
            p += unescape_code(p, end, j->text, &len);
            continue;
        }
        static const char from[] = "bfnrt", to[] = "\b\f\n\r\t";
        const char *found = c != '\0' ? strchr(from, c) : NULL;
        j->text[len++] = found != NULL ? to[found - from] : (char)c;
    }
    return slice_make(j->text, len);
}

static bool read_string(struct json_reader *j) {
    struct cfg_node node = {.line = j->line, .col = j->col, .type = CFG_STRING};

    advance(j); // the quote
    const uint8_t *start = j->at;
    while (j->at < j->end && *j->at != '"') {
        if (*j->at == '\\' && j->at + 1 < j->end) {
            advance(j);
        }
        advance(j);
    }
    struct slice text = unescape(j, start, j->at);
    if (j->at < j->end) {
        advance(j);
    }
    return doc_builder_scalar(&j->builder, node, text);
}

static bool read_word(struct json_reader *j) {
    struct cfg_node node = {.line = j->line, .col = j->col};
    const uint8_t *start = j->at;
    char number[DOC_NUMBER_MAX];
    struct slice text;

    do {
        advance(j);
    } while (j->at < j->end && strchr(" \t\r\n,:]}", *j->at) == NULL);
    node.type = doc_scalar_type(slice_make(start, (size_t)(j->at - start)), number, &text);
    return doc_builder_scalar(&j->builder, node, text);
}

static bool read_tokens(struct json_reader *j) {
    struct doc_builder *b = &j->builder;
    bool is_ok = true;

    while (is_ok && skip_between(j)) {
        switch (*j->at) {
        case '{':
        case '[':
            is_ok = doc_builder_open(b, *j->at == '{' ? CFG_MAP : CFG_LIST, j->line, j->col);
            advance(j);
            break;
        case '}':
        case ']':
            advance(j);
            is_ok = b->n_frames > 0 && doc_builder_close(b);
            break;
        case '"':
            is_ok = read_string(j);
            break;
        default:
            is_ok = read_word(j);
            break;
        }
        if (is_ok && b->n_frames == 0) {
            return b->n_stack == 1;
        }
    }
    return false;
}

static void skip_space(struct config_doc_reader *r) {
    while (r->pos < r->text.len && strchr(" \t\r\n", r->text.ptr[r->pos]) != NULL &&
           r->text.ptr[r->pos] != '\0') {
        r->line += r->text.ptr[r->pos] == '\n';
        r->pos++;
    }
}

static json_t *load(const struct config_doc_reader *r, json_error_t *ret_error) {
    // Several objects may follow each other, as in a stream of `kubectl get -o json`.
    return json_loadb((const char *)r->text.ptr + r->pos, r->text.len - r->pos,
                      JSON_DISABLE_EOF_CHECK, ret_error);
}

bool doc_json_accepts(const struct config_doc_reader *reader) {
    struct config_doc_reader r = *reader;
    json_error_t error;

    skip_space(&r);
    if (r.pos == r.text.len || (r.text.ptr[r.pos] != '{' && r.text.ptr[r.pos] != '[')) {
        return false;
    }
    json_t *json = load(&r, &error);
    json_decref(json);
    return json != NULL;
}

static uint32_t column_at(const struct config_doc_reader *r) {
    size_t start = r->pos;

    while (start > 0 && r->text.ptr[start - 1] != '\n') {
        start--;
    }
    return (uint32_t)(r->pos - start) + 1;
}

int doc_json_next(struct config_doc_reader *r, struct arena *arena, struct config_errors *errors,
                  struct cfg_node *ret_root) {
    struct json_reader j = {0};
    json_error_t error;

    skip_space(r);
    if (r->pos == r->text.len) {
        return 0;
    }
    doc_builder_init(&j.builder, r, arena, errors);
    j.line = r->line + 1;
    j.col = column_at(r) + r->col_offset;
    j.at = r->text.ptr + r->pos;
    json_t *json = load(r, &error);
    if (json == NULL) {
        bool is_first = error.line <= 1;
        doc_builder_error(&j.builder, r->line + (uint32_t)MAX(error.line, 1),
                          (uint32_t)MAX(error.column, 1) + (is_first ? j.col - 1 : 0), "%s",
                          error.text);
        r->pos = r->text.len; // where the next document would start is unknown
        return -EINVAL;
    }
    json_decref(json); // only its verdict counts
    j.end = j.at + error.position;
    bool is_ok = read_tokens(&j);
    if (is_ok) {
        *ret_root = j.builder.stack[0];
        r->line = j.line - 1;
    } else if (!j.builder.is_failed) {
        doc_builder_error(&j.builder, j.line, j.col, "not valid JSON");
    }
    r->pos = is_ok ? (size_t)(j.at - r->text.ptr) : r->text.len;
    free(j.text);
    doc_builder_fini(&j.builder);
    return is_ok ? 1 : -EINVAL;
}

// SPDX-License-Identifier: Apache-2.0
//
// The YAML that manifests are written in, parsed in place: maps and lists in block style, scalars
// of one line (plain or in quotes), literal blocks, `{}` and `[]`, comments, all of it ASCII.
// Anything else, and anything wrong, makes it give up on the document, which is libyaml's then. It
// reports no errors, and it must give the tree that libyaml gives: a rule here may be narrower than
// YAML's, never wider. test_config_doc_block.c and fuzz_yaml.c compare the two.
#include <errno.h>
#include <string.h>

#include "common/mesh/config_doc_priv.h"

struct block {
    struct doc_builder builder;
    char *at, *end; // in a copy of the text, which texts of the tree stay in; *end is NUL
    char *line_start;
    uint32_t line; // 1-based
    uint32_t col_offset;
    // The innermost collection has a key or a `-` that may find its value on the lines below. If it
    // does not, the value is null, and stands here.
    bool is_pending;
    uint32_t pending_line, pending_col;
};

struct token {
    char *text;
    uint32_t n, line, col;
    bool is_key, is_plain;
};

// Libyaml takes keys of up to 1024 characters.
enum { KEY_MAX = 1000 };

enum { C_TEXT = 1, C_WORD = 2, C_FIRST = 4 };
#define C_ANY (C_TEXT | C_WORD | C_FIRST)
// Bytes by what may hold them: C_TEXT comments and quotes, C_WORD a plain scalar without looking
// at what follows, C_FIRST its beginning ('-' must not have a blank behind it).
static const uint8_t classes[256] = {
    [' '] = C_TEXT,        ['!' ... '#'] = C_TEXT | C_WORD,
    ['$'] = C_ANY,         ['%' ... '\''] = C_TEXT | C_WORD,
    ['('] = C_ANY,         [')' ... '*'] = C_TEXT | C_WORD,
    ['+'] = C_ANY,         [','] = C_TEXT | C_WORD,
    ['-' ... '9'] = C_ANY, // with '.' and '/'
    [':'] = C_TEXT,        [';'] = C_TEXT | C_WORD,
    ['<'] = C_ANY,         ['=' ... '@'] = C_TEXT | C_WORD,
    ['A' ... 'Z'] = C_ANY, ['[' ... '^'] = C_TEXT | C_WORD,
    ['_'] = C_ANY,         ['`'] = C_TEXT | C_WORD,
    ['a' ... 'z'] = C_ANY, ['{' ... '}'] = C_TEXT | C_WORD,
    ['~'] = C_ANY,
};

static bool is_class(char c, uint8_t bits) {
    return (classes[(uint8_t)c] & bits) != 0;
}

// A NUL within the text is found out by whoever goes on from there.
static bool is_blank(char c) {
    return c == ' ' || c == '\n' || c == '\0';
}

static uint32_t col_of(const struct block *b, const char *at) {
    return (uint32_t)(at - b->line_start) + b->col_offset + 1;
}

static char *skip_spaces(char *at) {
    while (*at == ' ') {
        at++;
    }
    return at;
}

// From behind the last thing of a line to the next line: spaces and a comment are left.
static bool end_line(struct block *b, char *at) {
    char *rest = skip_spaces(at);

    if (*rest == '#' && (rest > at || at == b->line_start)) {
        while (is_class(*rest, C_TEXT)) {
            rest++;
        }
    }
    if (*rest == '\n') {
        b->line++;
        rest++;
    } else if (rest != b->end) {
        return false;
    }
    b->at = b->line_start = rest;
    return true;
}

static bool is_line_end(const char *at) {
    return *at == '\n' || *at == '\0' || (*at == '#' && at[-1] == ' ');
}

// Behind a token whose text ends at text_end: it is a key, or the last thing of its line.
static bool end_token(struct block *b, char *at, char *text_end, struct token *t) {
    char *rest = skip_spaces(at);

    t->n = (uint32_t)(text_end - t->text);
    t->is_key = *rest == ':' && is_blank(rest[1]);
    if (t->is_key) {
        b->at = rest + 1;
        *text_end = '\0';
        return rest - t->text <= KEY_MAX;
    }
    if (!end_line(b, at)) {
        return false;
    }
    *text_end = '\0'; // not before the line's end was seen, which may be there
    return true;
}

static bool plain(struct block *b, struct token *t) {
    char *at = b->at;

    if (!is_class(*at, C_FIRST) || (*at == '-' && is_blank(at[1])) ||
        (at[0] == '<' && at[1] == '<')) { // a merge key
        return false;
    }
    t->is_plain = true;
    for (;;) {
        while (is_class(*at, C_WORD)) {
            at++;
        }
        char *rest = skip_spaces(at);
        if (is_line_end(rest) || (*rest == ':' && is_blank(rest[1]))) {
            return end_token(b, at, at, t);
        }
        if (!is_class(*rest, C_TEXT)) {
            return false;
        }
        at = rest + 1;
    }
}

static bool unescape(char c, char *ret_c) {
    switch (c) {
    case '"':
    case '\\':
    case '/':
        *ret_c = c;
        return true;
    case 'n':
        *ret_c = '\n';
        return true;
    case 't':
        *ret_c = '\t';
        return true;
    default:
        return false;
    }
}

static bool quoted(struct block *b, struct token *t) {
    char quote = *b->at, *at = b->at + 1, *to = at;

    t->text = to;
    for (;; at++) {
        if (*at == quote && (quote == '"' || at[1] != '\'')) {
            return end_token(b, at + 1, to, t);
        }
        if (quote == '"' && *at == '\\') {
            if (!unescape(*++at, to++)) {
                return false;
            }
            continue;
        }
        if (!is_class(*at, C_TEXT)) {
            return false;
        }
        at += *at == quote; // '' within '
        *to++ = *at;
    }
}

static bool token(struct block *b, struct token *t) {
    *t = (struct token){.text = b->at, .line = b->line, .col = col_of(b, b->at)};
    return *b->at == '"' || *b->at == '\'' ? quoted(b, t) : plain(b, t);
}

static bool push_token(struct block *b, const struct token *t) {
    struct cfg_node node = {
        .line = t->line, .col = t->col, .n = t->n, .type = CFG_STRING, .text = t->text};
    char number[DOC_NUMBER_MAX];

    if (t->is_plain) {
        struct slice canonical;
        node.type = doc_scalar_type(slice_make(t->text, t->n), number, &canonical);
        node.n = (uint32_t)canonical.len;
        node.text = canonical.ptr == (const uint8_t *)number
                        ? arena_strdup(b->builder.arena, canonical)
                        : (const char *)canonical.ptr;
    }
    return node.text != NULL && doc_builder_push(&b->builder, &node, 1);
}

static bool push_pending_null(struct block *b) {
    struct cfg_node node = {
        .line = b->pending_line, .col = b->pending_col, .n = 4, .type = CFG_NULL, .text = "null"};

    b->is_pending = false;
    return doc_builder_push(&b->builder, &node, 1);
}

static bool empty_flow(struct block *b, uint8_t type, char close) {
    uint32_t line = b->line, col = col_of(b, b->at);

    return b->at[1] == close && end_line(b, b->at + 2) &&
           doc_builder_open(&b->builder, type, line, col) && doc_builder_close(&b->builder);
}

// The lines of a block whose indent is known, written together from `to` on; what chomping
// keeps is added. `at` is behind the first line's indent.
static bool literal_lines(struct block *b, char *at, uint32_t indent, char chomp, char **ret_to) {
    char *to = *ret_to;

    for (;;) {
        while (is_class(*at, C_TEXT) || *at == '\t') {
            *to++ = *at++;
        }
        if (*at != '\n') {
            return false;
        }
        uint32_t n_breaks = 0, col;
        do { // over the lines that are empty
            n_breaks++;
            b->line++;
            b->line_start = ++at;
            for (col = 0; col < indent && *at == ' '; col++) {
                at++;
            }
        } while (*at == '\n');
        bool is_last = col < indent || at == b->end;
        uint32_t n_kept = !is_last || chomp == '+' ? n_breaks : chomp != '-';
        for (; n_kept > 0; n_kept--) {
            *to++ = '\n';
        }
        if (is_last) {
            b->at = b->line_start;
            *ret_to = to;
            return true;
        }
    }
}

// YAML 1.1, 9.3.3, without an indentation indicator.
static bool literal(struct block *b) {
    struct cfg_node node = {
        .line = b->line, .col = col_of(b, b->at), .type = CFG_STRING, .is_block = true};
    uint32_t parent_col = b->builder.frames[b->builder.n_frames - 1].col, max_spaces = 0;
    char *to = b->at, *at = b->at + 1;
    char chomp = *at == '-' || *at == '+' ? *at++ : '\0';

    node.text = to; // the header's bytes make room for the NUL at the end
    if (*at != '\n') {
        return false;
    }
    char *first;
    for (;;) { // to the first line that is not empty
        b->line++;
        b->line_start = ++at;
        first = skip_spaces(at);
        if (*first != '\n') {
            break;
        }
        max_spaces = MAX(max_spaces, (uint32_t)(first - at));
        *to++ = '\n';
        at = first;
    }
    uint32_t indent = (uint32_t)(first - at);
    if (col_of(b, first) <= parent_col || max_spaces > indent || !is_class(*first, C_TEXT) ||
        !literal_lines(b, first, indent, chomp, &to)) {
        return false;
    }
    *to = '\0';
    node.n = (uint32_t)(to - node.text);
    return doc_builder_push(&b->builder, &node, 1);
}

// What stands behind `-` or a key on the same line. An item may be a map that begins there.
static bool value(struct block *b, bool is_item) {
    struct token t;

    b->pending_line = b->line;
    b->pending_col = col_of(b, b->at);
    b->at = skip_spaces(b->at);
    if (is_line_end(b->at)) {
        b->is_pending = true;
        return end_line(b, b->at - (*b->at == '#'));
    }
    if (*b->at == '{') {
        return empty_flow(b, CFG_MAP, '}');
    }
    if (*b->at == '[') {
        return empty_flow(b, CFG_LIST, ']');
    }
    if (*b->at == '|') {
        return literal(b);
    }
    if (!token(b, &t)) {
        return false;
    }
    if (!t.is_key) {
        return push_token(b, &t);
    }
    return is_item && doc_builder_open(&b->builder, CFG_MAP, t.line, t.col) && push_token(b, &t) &&
           value(b, false);
}

static bool is_dash(const char *at) {
    return *at == '-' && is_blank(at[1]);
}

static bool has_frame(const struct doc_builder *builder, uint8_t type, uint32_t col) {
    if (builder->n_frames == 0) {
        return false;
    }
    const struct doc_frame *top = &builder->frames[builder->n_frames - 1];
    return top->type == type && top->col == col;
}

// Closes what ends above this line, which begins at b->at, and opens what begins with it.
static bool enter_line(struct block *b) {
    struct doc_builder *builder = &b->builder;
    uint8_t type = is_dash(b->at) ? CFG_LIST : CFG_MAP;
    uint32_t col = col_of(b, b->at);

    if (builder->n_frames == 0) {
        return doc_builder_open(builder, type, b->line, col);
    }
    if (b->is_pending) {
        // The items of a list may stand right below the key that it belongs to.
        bool is_below = type == CFG_LIST && has_frame(builder, CFG_MAP, col);
        if (is_below || col > builder->frames[builder->n_frames - 1].col) {
            b->is_pending = false;
            return doc_builder_open(builder, type, b->line, col);
        }
        if (!push_pending_null(b)) {
            return false;
        }
    }
    while (builder->n_frames > 0 && (builder->frames[builder->n_frames - 1].col > col ||
                                     (type == CFG_MAP && has_frame(builder, CFG_LIST, col)))) {
        if (!doc_builder_close(builder)) {
            return false;
        }
    }
    // Also refused: text that goes on in the next line.
    return has_frame(builder, type, col);
}

static bool line(struct block *b) {
    struct token t;

    if (!enter_line(b)) {
        return false;
    }
    if (!is_dash(b->at)) {
        return token(b, &t) && t.is_key && push_token(b, &t) && value(b, false);
    }
    for (;;) {
        b->at++;
        char *item = skip_spaces(b->at);
        if (!is_dash(item)) {
            return value(b, true);
        }
        b->at = item;
        if (!doc_builder_open(&b->builder, CFG_LIST, b->line, col_of(b, item))) {
            return false;
        }
    }
}

static bool lines(struct block *b) {
    if (strncmp(b->at, "---", 3) == 0 && is_blank(b->at[3]) && !end_line(b, b->at + 3)) {
        return false;
    }
    while (b->at != b->end) {
        char *first = skip_spaces(b->at);
        if (*first == '\n' || *first == '#' || first == b->end) {
            if (!end_line(b, b->at)) {
                return false;
            }
            continue;
        }
        b->at = first;
        bool is_marker = first == b->line_start &&
                         (strncmp(first, "...", 3) == 0 || strncmp(first, "---", 3) == 0);
        if (is_marker || !line(b)) {
            return false;
        }
    }
    return true;
}

static int finish(struct block *b, struct cfg_node *ret_root) {
    if (b->builder.n_frames == 0) {
        return 0;
    }
    if (b->is_pending && !push_pending_null(b)) {
        return -EINVAL;
    }
    while (b->builder.n_frames > 0) {
        if (!doc_builder_close(&b->builder)) {
            return -EINVAL;
        }
    }
    *ret_root = b->builder.stack[0];
    return 1;
}

int doc_block_parse(const struct config_doc_reader *r, struct slice chunk, struct arena *arena,
                    struct cfg_node *ret_root) {
    struct block b = {.line = r->line + 1, .col_offset = r->col_offset};
    bool is_arena_empty = arena->n_bytes == 0;
    int result = -EINVAL;

    doc_builder_init(&b.builder, r, arena, NULL);
    b.at = b.line_start = arena_strdup(arena, chunk);
    if (b.at != NULL) {
        b.end = b.at + chunk.len;
        result = lines(&b) ? finish(&b, ret_root) : -EINVAL;
    }
    doc_builder_fini(&b.builder);
    if (result < 0 && is_arena_empty) {
        arena_reset(arena); // the next attempt has all of it
    }
    return result;
}

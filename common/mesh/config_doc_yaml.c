// SPDX-License-Identifier: Apache-2.0
//
// YAML by libyaml's events, for documents that config_doc_block.c leaves. The text is cut into
// documents here, at lines that start with `---` (nothing else may start with it, not even in a
// block scalar), so that a syntax error ends one document and not the file.
#include <errno.h>
#include <stdlib.h>
#include <yaml.h>

#include "common/mesh/config_doc_priv.h"

struct anchor {
    char *name;
    struct cfg_node node;
    uint32_t n_nodes;
};

struct yaml_reader {
    struct doc_builder builder;
    yaml_parser_t parser;
    uint32_t line_offset, col_offset;
    struct anchor *anchors; // of this document
    uint32_t n_anchors;
    char *pending[128]; // anchor name of each open container, by depth; NULL = none
    uint32_t pending_nodes[128];
};

// Names are few; this only keeps a crafted file from making the search below expensive.
enum { MAX_ANCHORS = 1000 };

static void anchor_add(struct yaml_reader *y, const char *name, uint32_t n_nodes) {
    struct doc_builder *b = &y->builder;
    struct cfg_node node = b->stack[b->n_stack - 1];

    for (uint32_t i = 0; i < y->n_anchors; i++) {
        if (strcmp(y->anchors[i].name, name) == 0) { // a later one replaces it (YAML 1.1, 3.2.2.2)
            y->anchors[i].node = node;
            y->anchors[i].n_nodes = n_nodes;
            return;
        }
    }
    if (y->n_anchors == MAX_ANCHORS) {
        doc_builder_error(b, node.line, node.col, "more than %d anchors", MAX_ANCHORS);
        b->is_failed = true;
        return;
    }
    y->anchors = xrealloc(y->anchors, (y->n_anchors + 1) * sizeof(y->anchors[0]));
    y->anchors[y->n_anchors++] = (struct anchor){xstrdup(name), node, n_nodes};
}

static uint32_t event_line(const struct yaml_reader *y, yaml_mark_t mark) {
    return (uint32_t)mark.line + y->line_offset + 1;
}
static uint32_t event_col(const struct yaml_reader *y, yaml_mark_t mark) {
    return (uint32_t)mark.column + y->col_offset + 1;
}

static bool on_alias(struct yaml_reader *y, const yaml_event_t *event) {
    const char *name = (const char *)event->data.alias.anchor;
    uint32_t line = event_line(y, event->start_mark), col = event_col(y, event->start_mark);

    for (uint32_t i = 0; i < y->n_anchors; i++) {
        if (strcmp(y->anchors[i].name, name) == 0) {
            struct cfg_node node = y->anchors[i].node;
            node.line = line;
            node.col = col;
            return doc_builder_push(&y->builder, &node, y->anchors[i].n_nodes);
        }
    }
    doc_builder_error(&y->builder, line, col, "the alias *%.80s has no anchor before it", name);
    y->builder.is_failed = true;
    return false;
}

// The type that a tag demands; `is_known` false for a tag of someone else's.
static uint8_t tagged_type(const char *tag, uint8_t plain_type, bool *ret_is_known) {
    static const struct {
        const char *tag;
        uint8_t type;
    } types[] = {
        {YAML_STR_TAG, CFG_STRING},
        {YAML_TIMESTAMP_TAG, CFG_STRING},
        {YAML_INT_TAG, CFG_INT},
        {YAML_FLOAT_TAG, CFG_FLOAT},
        {YAML_BOOL_TAG, CFG_BOOL},
        {YAML_NULL_TAG, CFG_NULL},
        {"tag:yaml.org,2002:binary", CFG_STRING},
        {"!", CFG_STRING},
    };

    *ret_is_known = true;
    for (size_t i = 0; i < ARRAY_LEN(types); i++) {
        if (strcmp(tag, types[i].tag) == 0) {
            return types[i].type;
        }
    }
    *ret_is_known = false;
    return plain_type;
}

static bool on_scalar(struct yaml_reader *y, const yaml_event_t *event) {
    struct doc_builder *b = &y->builder;
    struct slice text = slice_make(event->data.scalar.value, event->data.scalar.length);
    struct cfg_node node = {.line = event_line(y, event->start_mark),
                            .col = event_col(y, event->start_mark),
                            .type = CFG_STRING};
    const char *tag = (const char *)event->data.scalar.tag;
    yaml_scalar_style_t style = event->data.scalar.style;
    char number[DOC_NUMBER_MAX];
    struct slice canonical = text;

    node.is_block = style == YAML_LITERAL_SCALAR_STYLE || style == YAML_FOLDED_SCALAR_STYLE;
    if (style == YAML_PLAIN_SCALAR_STYLE && tag == NULL) {
        node.is_merge = slice_eq_str(text, "<<");
        node.type = doc_scalar_type(text, number, &canonical);
    } else if (tag != NULL) {
        bool is_known;
        uint8_t plain = doc_scalar_type(text, number, &canonical);
        node.type = tagged_type(tag, plain, &is_known);
        bool fits = node.type == plain || node.type == CFG_STRING ||
                    (node.type == CFG_FLOAT && plain == CFG_INT);
        if (!is_known || !fits) {
            doc_builder_error(b, node.line, node.col,
                              is_known ? "the value does not fit its tag %.80s"
                                       : "the tag %.80s is not supported",
                              tag);
            node.is_bad = true;
            node.type = CFG_STRING;
        }
        canonical = node.type == CFG_STRING ? text : canonical;
    }
    if (!doc_builder_scalar(b, node, canonical)) {
        return false;
    }
    if (event->data.scalar.anchor != NULL) {
        anchor_add(y, (const char *)event->data.scalar.anchor, 1);
    }
    return !b->is_failed;
}

static bool on_open(struct yaml_reader *y, uint8_t type, const yaml_event_t *event,
                    const yaml_char_t *anchor, const yaml_char_t *tag) {
    struct doc_builder *b = &y->builder;
    uint32_t line = event_line(y, event->start_mark), col = event_col(y, event->start_mark);
    const char *own_tag = type == CFG_MAP ? YAML_MAP_TAG : YAML_SEQ_TAG;

    if (tag != NULL && strcmp((const char *)tag, own_tag) != 0 &&
        strcmp((const char *)tag, "!") != 0) {
        doc_builder_error(b, line, col, "the tag %.80s is not supported", (const char *)tag);
        b->is_failed = true;
        return false;
    }
    uint32_t n_before = b->n_nodes;
    if (!doc_builder_open(b, type, line, col)) {
        return false;
    }
    uint32_t depth = b->n_frames - 1;
    if (anchor != NULL && depth < ARRAY_LEN(y->pending)) {
        y->pending[depth] = xstrdup((const char *)anchor);
        y->pending_nodes[depth] = n_before;
    }
    return true;
}

static bool on_close(struct yaml_reader *y) {
    struct doc_builder *b = &y->builder;

    if (!doc_builder_close(b)) {
        return false;
    }
    uint32_t depth = b->n_frames;
    if (depth < ARRAY_LEN(y->pending) && y->pending[depth] != NULL) {
        anchor_add(y, y->pending[depth], b->n_nodes - y->pending_nodes[depth]);
        free(y->pending[depth]);
        y->pending[depth] = NULL;
    }
    return !b->is_failed;
}

static bool on_event(struct yaml_reader *y, const yaml_event_t *event) {
    switch (event->type) {
    case YAML_ALIAS_EVENT:
        return on_alias(y, event);
    case YAML_SCALAR_EVENT:
        return on_scalar(y, event);
    case YAML_SEQUENCE_START_EVENT:
        return on_open(y, CFG_LIST, event, event->data.sequence_start.anchor,
                       event->data.sequence_start.tag);
    case YAML_MAPPING_START_EVENT:
        return on_open(y, CFG_MAP, event, event->data.mapping_start.anchor,
                       event->data.mapping_start.tag);
    case YAML_SEQUENCE_END_EVENT:
    case YAML_MAPPING_END_EVENT:
        return on_close(y);
    default:
        return true;
    }
}

static void syntax_error(struct yaml_reader *y, struct slice chunk) {
    const yaml_parser_t *p = &y->parser;
    const char *problem = p->problem != NULL ? p->problem : "not valid YAML";
    uint32_t line = event_line(y, p->problem_mark), col = event_col(y, p->problem_mark);

    if (p->error == YAML_READER_ERROR) { // has an offset in place of a mark
        line = y->line_offset + 1;
        for (size_t i = 0; i < p->problem_offset && i < chunk.len; i++) {
            line += chunk.ptr[i] == '\n';
        }
        doc_builder_error(&y->builder, line, 1, "%s (the text must be UTF-8)", problem);
        return;
    }
    int at = p->problem_mark.index < chunk.len ? chunk.ptr[p->problem_mark.index] : '\0';
    bool is_in_map = p->context != NULL && strcmp(p->context, "while parsing a block mapping") == 0;
    if (at == '\t') {
        doc_builder_error(&y->builder, line, col, "a tab, but YAML indents with spaces only");
    } else if (at == '-' && is_in_map && strcmp(problem, "did not find expected key") == 0) {
        doc_builder_error(&y->builder, line, col,
                          "an item of a list among the keys of the map that starts at line %u: a "
                          "field is either a map or a list whose items all begin with `-`",
                          event_line(y, p->context_mark));
    } else if (p->context != NULL && p->context_mark.line != p->problem_mark.line) {
        doc_builder_error(&y->builder, line, col, "%s %s that starts at line %u", problem,
                          p->context, event_line(y, p->context_mark));
    } else {
        doc_builder_error(&y->builder, line, col, "%s%s%s", problem, p->context != NULL ? " " : "",
                          p->context != NULL ? p->context : "");
    }
}

// Parses up to the end of one document. 1, 0 (end of chunk) or -EINVAL.
static int parse_document(struct yaml_reader *y, struct slice chunk, struct cfg_node *ret_root) {
    bool is_end = false, is_ok = true;

    while (is_ok) {
        yaml_event_t event;
        if (!yaml_parser_parse(&y->parser, &event)) {
            syntax_error(y, chunk);
            return -EINVAL;
        }
        yaml_event_type_t type = event.type;
        is_ok = on_event(y, &event);
        yaml_event_delete(&event);
        is_end = type == YAML_STREAM_END_EVENT;
        if (is_end || type == YAML_DOCUMENT_END_EVENT) {
            break;
        }
    }
    if (!is_ok) {
        return -EINVAL;
    }
    if (is_end) {
        return 0;
    }
    *ret_root = y->builder.stack[0];
    return 1;
}

static void yaml_reader_fini(struct yaml_reader *y) {
    for (uint32_t i = 0; i < y->n_anchors; i++) {
        free(y->anchors[i].name);
    }
    for (size_t i = 0; i < ARRAY_LEN(y->pending); i++) {
        if (y->pending[i] != NULL) { // few documents have anchors: not 128 calls for each
            free(y->pending[i]);
        }
    }
    free(y->anchors);
    doc_builder_fini(&y->builder);
    yaml_parser_delete(&y->parser);
}

static bool is_document_start(struct slice line) {
    return line.len >= 3 && memcmp(line.ptr, "---", 3) == 0 &&
           (line.len == 3 || line.ptr[3] == ' ' || line.ptr[3] == '\t' || line.ptr[3] == '\r');
}

// The text up to the next document's start. Directives (%YAML) belong to the `---` below them.
static struct slice next_chunk(struct config_doc_reader *r, uint32_t *ret_n_lines) {
    struct slice rest = slice_skip(r->text, r->pos);
    size_t pos = 0;
    bool is_prolog = true, has_directive = false;
    uint32_t n_lines = 0;

    while (pos < rest.len) {
        struct slice from = slice_skip(rest, pos);
        ptrdiff_t newline = slice_find(from, '\n');
        struct slice line = slice_head(from, newline >= 0 ? (size_t)newline : from.len);
        if (is_document_start(line)) {
            if (n_lines > 0 && !(is_prolog && has_directive)) {
                break;
            }
            is_prolog = false;
        } else if (is_prolog && line.len > 0 && line.ptr[0] == '%') {
            has_directive = true;
        } else if (is_prolog && slice_trim(line).len > 0 && line.ptr[0] != '#') {
            is_prolog = false;
        }
        pos += line.len + (newline >= 0);
        n_lines++;
    }
    *ret_n_lines = n_lines;
    return slice_head(rest, pos);
}

// One chunk holds one document; a second one behind a `...` line is refused, as nothing that
// Kubernetes writes has it.
int doc_libyaml_parse(const struct config_doc_reader *r, struct slice chunk, struct arena *arena,
                      struct config_errors *errors, struct cfg_node *ret_root) {
    struct yaml_reader *y = xcalloc(1, sizeof(*y));
    struct cfg_node root, second;

    y->line_offset = r->line;
    y->col_offset = r->col_offset;
    doc_builder_init(&y->builder, r, arena, errors);
    if (!yaml_parser_initialize(&y->parser)) {
        free(y);
        doc_builder_error(&(struct doc_builder){.reader = r, .errors = errors}, r->line + 1, 1,
                          "out of memory");
        return -EINVAL;
    }
    yaml_parser_set_input_string(&y->parser, chunk.ptr, chunk.len);
    int result = parse_document(y, chunk, &root);
    if (result == 1) {
        y->builder.n_stack = 0;
        int more = parse_document(y, chunk, &second);
        if (more == 1) {
            doc_builder_error(&y->builder, second.line, second.col,
                              "separate documents with a line `---`");
        }
        result = more == 0 ? 1 : -EINVAL;
    }
    if (result == 1) {
        *ret_root = root;
    }
    yaml_reader_fini(y);
    free(y);
    return result;
}

int doc_yaml_next(struct config_doc_reader *r, struct arena *arena, struct config_errors *errors,
                  struct cfg_node *ret_root) {
    while (r->pos < r->text.len) {
        uint32_t n_lines;
        struct slice chunk = next_chunk(r, &n_lines);
        int result = doc_block_parse(r, chunk, arena, ret_root);
        if (result < 0) {
            result = doc_libyaml_parse(r, chunk, arena, errors, ret_root);
        }
        r->pos += chunk.len;
        r->line += n_lines;
        if (result < 0 || (result == 1 && ret_root->type != CFG_NULL)) {
            return result;
        }
    }
    return 0;
}

// SPDX-License-Identifier: Apache-2.0

#include "ctl/local_tabs.h"

#include <stdlib.h>
#include <string.h>

#include "common/base/slice.h"

enum { PADDING = 2 };

struct line {
    struct slice text;
    size_t n_tabs;
};

static size_t characters(struct slice text) {
    size_t n = 0;
    for (size_t i = 0; i < text.len; i++) {
        n += (text.ptr[i] & 0xc0) != 0x80; // not inside of a UTF-8 sequence
    }
    return n;
}

static struct slice cell_of(const struct line *line, size_t column) {
    struct slice cell, rest = line->text;
    while (slice_split(rest, '\t', &cell, &rest) && column > 0) {
        column--;
    }
    return cell;
}

// The width of a cell that ends in a tab: that of its column in the lines around.
static size_t width_of(const struct line *lines, size_t n, size_t at, size_t column) {
    size_t first = at, width = 0;
    while (first > 0 && lines[first - 1].n_tabs > column) {
        first--;
    }
    for (size_t i = first; i < n && lines[i].n_tabs > column; i++) {
        width = MAX(width, characters(cell_of(&lines[i], column)));
    }
    return width + PADDING;
}

static void add_line(const struct line *lines, size_t n, size_t at, struct text *out) {
    struct slice cell, rest = lines[at].text;
    for (size_t column = 0; slice_split(rest, '\t', &cell, &rest); column++) {
        size_t pad = width_of(lines, n, at, column) - characters(cell);
        text_add(out, "%.*s%*s", (int)cell.len, (const char *)cell.ptr, (int)pad, "");
    }
    text_add(out, "%.*s\n", (int)rest.len, (const char *)rest.ptr);
}

void lab_tabs_align(const char *text, struct text *out) {
    struct slice head, rest = slice_str(text);
    size_t n = 0, cap = 0;
    struct line *lines = NULL;
    while (slice_split(rest, '\n', &head, &rest)) {
        if (n == cap) {
            cap = cap != 0 ? 2 * cap : 64;
            lines = xrealloc(lines, cap * sizeof(*lines));
        }
        lines[n] = (struct line){.text = head};
        for (size_t i = 0; i < head.len; i++) {
            lines[n].n_tabs += head.ptr[i] == '\t';
        }
        n++;
    }
    for (size_t i = 0; i < n; i++) {
        add_line(lines, n, i, out);
    }
    free(lines);
}

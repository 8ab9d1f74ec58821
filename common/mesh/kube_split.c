// SPDX-License-Identifier: Apache-2.0
#include "common/mesh/kube_split.h"

#include <string.h>

enum {
    REST_MAX = 64 << 10, // of a list without its items
    DEPTH_MAX = 250, // as documents
    DEPTH_ITEMS = 2, // within the array of items
};

void kube_split_init(struct kube_split *split, enum kube_split_mode mode, size_t object_max) {
    *split = (struct kube_split){.mode = mode};
    buf_init(&split->object, object_max);
    buf_init(&split->rest, REST_MAX);
}

void kube_split_fini(struct kube_split *split) {
    buf_fini(&split->object);
    buf_fini(&split->rest);
}

static bool is_space(uint8_t c) {
    return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

static struct buf *target(struct kube_split *split) {
    return split->is_in_object ? &split->object : &split->rest;
}

static enum kube_split_step broken(struct kube_split *split) {
    split->is_over = true;
    return KUBE_SPLIT_BROKEN;
}

// A string, as far as it is there.
static void take_string(struct kube_split *split, struct slice *bytes) {
    size_t i = 0;
    bool is_key = !split->is_in_object && split->depth == 1;
    while (i < bytes->len && split->is_in_string) {
        uint8_t c = bytes->ptr[i++];
        if (split->is_escaped) {
            split->is_escaped = false;
        } else if (c == '\\') {
            split->is_escaped = true;
        } else if (c == '"') {
            split->is_in_string = false;
            break;
        }
        if (is_key && split->n_key < sizeof(split->key)) {
            split->key[split->n_key++] = (char)c;
        }
    }
    buf_append(target(split), slice_head(*bytes, i));
    *bytes = slice_skip(*bytes, i);
}

static bool is_structure(uint8_t c) {
    return c == '"' || c == '{' || c == '}' || c == '[' || c == ']';
}

// Everything up to the next quote or bracket of an object.
static void take_plain(struct kube_split *split, struct slice *bytes) {
    size_t i = 0;
    while (i < bytes->len && !is_structure(bytes->ptr[i])) {
        i++;
    }
    buf_append(&split->object, slice_head(*bytes, i));
    *bytes = slice_skip(*bytes, i);
}

// One of "{[]}". False: it does not close what is open, or is too deep.
static bool take_bracket(struct kube_split *split, uint8_t c) {
    if (c == '{' || c == '[') {
        uint64_t bit = UINT64_C(1) << (split->depth % 64);
        uint64_t *word = &split->is_map[split->depth / 64];
        *word = c == '{' ? *word | bit : *word & ~bit;
        return ++split->depth <= DEPTH_MAX;
    }
    if (split->depth == 0) {
        return false;
    }
    split->depth--;
    uint64_t is_map = split->is_map[split->depth / 64] >> (split->depth % 64) & 1;
    return is_map == (c == '}');
}

// One byte of an object, or a run of them.
static enum kube_split_step in_object(struct kube_split *split, struct slice *bytes,
                                      struct slice *ret_json) {
    take_plain(split, bytes);
    if (bytes->len > 0) {
        uint32_t outside = split->mode == KUBE_SPLIT_LIST ? DEPTH_ITEMS : 0;
        uint8_t c = bytes->ptr[0];
        *bytes = slice_skip(*bytes, 1);
        buf_append_byte(&split->object, c);
        if (c == '"') {
            split->is_in_string = true;
        } else if (!take_bracket(split, c)) {
            return broken(split);
        } else if (split->depth == outside && buf_ok(&split->object)) {
            split->is_in_object = false;
            *ret_json = buf_slice(&split->object);
            return KUBE_SPLIT_OBJECT;
        }
    }
    if (!buf_ok(&split->object)) {
        split->is_over = true;
        return KUBE_SPLIT_TOO_LARGE;
    }
    return KUBE_SPLIT_MORE;
}

static void begin_object(struct kube_split *split) {
    buf_clear(&split->object);
    split->is_in_object = true;
}

// Between the items, and between events: separators, and what begins an object.
static enum kube_split_step between(struct kube_split *split, struct slice *bytes) {
    uint8_t c = bytes->ptr[0];
    bool is_list = split->mode == KUBE_SPLIT_LIST;
    if (c == '{') {
        begin_object(split);
        return KUBE_SPLIT_MORE; // the bracket is the object's
    }
    *bytes = slice_skip(*bytes, 1);
    if (is_space(c) || (is_list && c == ',')) {
        return KUBE_SPLIT_MORE;
    }
    if (is_list && c == ']') {
        split->is_in_items = false;
        split->depth--;
        buf_append_byte(&split->rest, c);
        return KUBE_SPLIT_MORE;
    }
    return broken(split);
}

// The list around its items.
static enum kube_split_step in_rest(struct kube_split *split, uint8_t c, struct slice *ret_json) {
    if (split->depth == 0 && c != '{' && !is_space(c)) {
        return broken(split);
    }
    buf_append_byte(&split->rest, c);
    switch (c) {
    case '"':
        split->is_in_string = true;
        split->n_key = 0;
        break;
    case ':':
        if (split->depth == 1) {
            split->is_items_key = split->n_key == 5 && memcmp(split->key, "items", 5) == 0;
        }
        break;
    case ',':
        split->is_items_key = split->is_items_key && split->depth > 1;
        break;
    case '{':
    case '[':
        split->is_in_items = c == '[' && split->depth == 1 && split->is_items_key;
        if (!take_bracket(split, c)) {
            return broken(split);
        }
        break;
    case '}':
    case ']':
        if (!take_bracket(split, c)) {
            return broken(split);
        }
        if (split->depth == 0) {
            split->is_over = true;
            *ret_json = buf_slice(&split->rest);
            return KUBE_SPLIT_REST;
        }
        break;
    default:
        break;
    }
    return KUBE_SPLIT_MORE;
}

enum kube_split_step kube_split_next(struct kube_split *split, struct slice *bytes,
                                     struct slice *ret_json) {
    while (bytes->len > 0) {
        enum kube_split_step step = KUBE_SPLIT_MORE;
        if (split->is_over) { // spaces may follow a list
            uint8_t c = bytes->ptr[0];
            *bytes = slice_skip(*bytes, 1);
            step = is_space(c) ? KUBE_SPLIT_MORE : KUBE_SPLIT_BROKEN;
        } else if (split->is_in_string) {
            take_string(split, bytes);
        } else if (split->is_in_object) {
            step = in_object(split, bytes, ret_json);
        } else if (split->is_in_items || split->mode == KUBE_SPLIT_EVENTS) {
            step = between(split, bytes);
        } else {
            uint8_t c = bytes->ptr[0];
            *bytes = slice_skip(*bytes, 1);
            step = in_rest(split, c, ret_json);
        }
        if (step != KUBE_SPLIT_MORE) {
            return step;
        }
        if (!buf_ok(&split->rest) || !buf_ok(&split->object)) {
            split->is_over = true;
            return KUBE_SPLIT_TOO_LARGE;
        }
    }
    return KUBE_SPLIT_MORE;
}

bool kube_split_is_between(const struct kube_split *split) {
    return split->mode == KUBE_SPLIT_LIST ? split->is_over
                                          : !split->is_in_object && !split->is_over;
}

// SPDX-License-Identifier: Apache-2.0
#include "common/proto/h2_block.h"

#include <stdlib.h>

enum {
    INLINE_FIELDS = 16,
    INLINE_TEXT = 1024,
    FIELD_COST = 32, // RFC 9113 10.5.1
    RAW_SLACK = 16384, // a Huffman code has up to 30 bits, padding and size updates take bytes too
};

struct h2_block_text {
    struct h2_block_text *next;
    size_t len, cap;
    uint8_t *bytes;
};

// One allocation for all ordinary blocks.
struct block_mem {
    struct h2_block block;
    struct h2_block_text text;
    size_t cap_fields;
    struct http_field fields[INLINE_FIELDS];
    uint8_t bytes[INLINE_TEXT];
};

struct h2_block *h2_block_new(uint32_t id, enum h2_block_use use, bool end_stream) {
    struct block_mem *mem = xmalloc(sizeof(*mem));
    mem->block = (struct h2_block){
        .id = id,
        .use = (uint8_t)use,
        .end_stream = end_stream,
        .fields = mem->fields,
        .text = &mem->text,
    };
    mem->cap_fields = INLINE_FIELDS;
    mem->text = (struct h2_block_text){.cap = INLINE_TEXT, .bytes = mem->bytes};
    return &mem->block;
}

static struct block_mem *mem_of(struct h2_block *block) {
    return CONTAINER_OF(block, struct block_mem, block);
}

void h2_block_free(struct h2_block *block) {
    if (block == NULL) {
        return;
    }
    struct block_mem *mem = mem_of(block);
    while (block->text != &mem->text) {
        struct h2_block_text *text = block->text;
        block->text = text->next;
        free(text);
    }
    if (block->fields != mem->fields) {
        free(block->fields);
    }
    free(mem);
}

static struct slice copy_text(struct h2_block *block, struct slice from) {
    struct h2_block_text *text = block->text;
    if (text->cap - text->len < from.len) {
        size_t cap = MAX(from.len, text->cap * 2);
        text = xmalloc(sizeof(*text) + cap);
        *text = (struct h2_block_text){
            .next = block->text,
            .cap = cap,
            .bytes = (uint8_t *)(text + 1),
        };
        block->text = text;
    }
    uint8_t *at = text->bytes + text->len;
    if (from.len > 0) {
        memcpy(at, from.ptr, from.len);
    }
    text->len += from.len;
    return slice_make(at, from.len);
}

static void add_field(struct h2_block *block, const struct http_field *field, uint32_t max_list) {
    // Both lengths are at most 64 KiB (libnghttp2), so the sum cannot wrap before the raw limit.
    block->list_size += field->name.len + field->value.len + FIELD_COST;
    if (block->list_size > max_list) {
        block->is_too_big = true;
    }
    if (block->is_too_big || block->use == H2_BLOCK_DISCARD) {
        return;
    }
    struct block_mem *mem = mem_of(block);
    if (block->n_fields == mem->cap_fields) {
        mem->cap_fields *= 2;
        if (block->fields == mem->fields) {
            block->fields = xmalloc(mem->cap_fields * sizeof(*block->fields));
            memcpy(block->fields, mem->fields, sizeof(mem->fields));
        } else {
            block->fields = xrealloc(block->fields, mem->cap_fields * sizeof(*block->fields));
        }
    }
    block->fields[block->n_fields++] = (struct http_field){
        .name = copy_text(block, field->name),
        .value = copy_text(block, field->value),
        .sensitive = field->sensitive,
    };
}

enum h2_err h2_block_feed(struct h2_block *block, struct h2_hpack_dec *dec, struct slice piece,
                          bool is_last, uint32_t max_list) {
    block->n_raw += piece.len;
    if (block->n_raw > (size_t)max_list * 4 + RAW_SLACK) {
        return H2_FLOOD_CONTINUATION;
    }
    for (;;) {
        struct http_field field;
        switch (h2_hpack_decode(dec, &piece, is_last, &field)) {
        case H2_HPACK_FIELD:
            add_field(block, &field, max_list);
            break;
        case H2_HPACK_MORE:
        case H2_HPACK_DONE:
            return H2_NO_ERROR;
        case H2_HPACK_ERROR:
            return H2_COMPRESSION_ERROR;
        }
    }
}

size_t h2_block_memory(const struct h2_block *block) {
    if (block == NULL) {
        return 0;
    }
    const struct block_mem *mem = CONTAINER_OF(block, const struct block_mem, block);
    size_t n = sizeof(*mem);
    for (const struct h2_block_text *text = block->text; text != &mem->text; text = text->next) {
        n += sizeof(*text) + text->cap;
    }
    return n + (block->fields != mem->fields ? mem->cap_fields * sizeof(*block->fields) : 0);
}

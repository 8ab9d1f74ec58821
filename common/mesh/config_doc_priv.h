// SPDX-License-Identifier: Apache-2.0
//
// Shared by the readers of config_doc: a builder that makes the tree bottom-up from events.
// Finished nodes wait on a stack until their container closes and copies them into the arena.
#pragma once

#include "common/mesh/config_doc.h"

struct doc_frame {
    uint8_t type; // CFG_LIST, CFG_MAP
    uint32_t start; // index of the first child on the stack
    uint32_t line, col;
    uint32_t n_nodes_before;
};

struct doc_builder {
    const struct config_doc_reader *reader;
    struct arena *arena;
    struct config_errors *errors; // NULL: an error only makes the document fail
    struct cfg_node *stack;
    struct doc_frame *frames;
    uint32_t n_stack, cap_stack, n_frames, cap_frames;
    uint32_t n_nodes; // aliases expanded
    bool is_failed; // the document cannot be built
};

void doc_builder_init(struct doc_builder *b, const struct config_doc_reader *reader,
                      struct arena *arena, struct config_errors *errors);
void doc_builder_fini(struct doc_builder *b);
// Adds an error at a place of the document.
void doc_builder_error(struct doc_builder *b, uint32_t line, uint32_t col, const char *fmt, ...)
    PRINTF_LIKE(4, 5);
// Each returns false when the document failed (a limit was reached; the error was added).
bool doc_builder_scalar(struct doc_builder *b, struct cfg_node node, struct slice text);
bool doc_builder_open(struct doc_builder *b, uint8_t type, uint32_t line, uint32_t col);
bool doc_builder_close(struct doc_builder *b);
// Pushes a node that exists already and stands for n_nodes nodes.
bool doc_builder_push(struct doc_builder *b, const struct cfg_node *node, uint32_t n_nodes);

// Types a plain YAML scalar, or canonicalises a JSON number. `buf` holds a text that had to be
// rewritten; ret_text points at it or at `text`.
enum { DOC_NUMBER_MAX = 400 };
uint8_t doc_scalar_type(struct slice text, char buf[DOC_NUMBER_MAX], struct slice *ret_text);

// The one YAML document in `chunk`, which begins where the reader stands. 1 and *ret_root; 0 when
// it has none; -EINVAL: doc_libyaml_parse added an error, doc_block_parse adds none and leaves the
// document to doc_libyaml_parse.
int doc_block_parse(const struct config_doc_reader *r, struct slice chunk, struct arena *arena,
                    struct cfg_node *ret_root);
int doc_libyaml_parse(const struct config_doc_reader *r, struct slice chunk, struct arena *arena,
                      struct config_errors *errors, struct cfg_node *ret_root);

int doc_yaml_next(struct config_doc_reader *r, struct arena *arena, struct config_errors *errors,
                  struct cfg_node *ret_root);
int doc_json_next(struct config_doc_reader *r, struct arena *arena, struct config_errors *errors,
                  struct cfg_node *ret_root);
// True when the rest of the text is a JSON document for jansson.
bool doc_json_accepts(const struct config_doc_reader *r);

// SPDX-License-Identifier: Apache-2.0
//
// Shared by the files of schema: messages (schema_msg.c) and values (schema.c) call each other.
#pragma once

#include "common/mesh/schema.h"

// Sets what "absent" means for each field: texts "", integers their value for absent.
void schema_defaults(const struct schema_msg *msg, char *base);
// Defaults, fields, place and check of a message.
void schema_decode(struct schema_ctx *ctx, const struct schema_msg *msg,
                   const struct cfg_node *node, char *base);
// Fields and check only: `base` was set up by the message around it.
void schema_decode_fields(struct schema_ctx *ctx, const struct schema_msg *msg,
                          const struct cfg_node *node, char *base);
void schema_decode_field(struct schema_ctx *ctx, const struct schema_field *f,
                         const struct cfg_node *node, char *base);
// True when a map's key is a plain decimal.
bool schema_is_number(const struct cfg_node *key);
void schema_store_int(char *at, uint8_t size, int64_t value);
// As "spec.ports[1]", cut at cap; its length.
size_t schema_path_text(const struct schema_path *path, char *out, size_t cap);

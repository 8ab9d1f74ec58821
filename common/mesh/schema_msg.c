// SPDX-License-Identifier: Apache-2.0
#include <ctype.h>
#include <stdio.h>

#include "common/mesh/kobj.h"
#include "common/mesh/schema_priv.h"

static const char *const empty_text = "";

static void set_default(const struct schema_field *f, char *base) {
    char *at = base + f->off;

    switch ((enum schema_type)f->type) {
    case SCHEMA_INT_OR_STRING:
        ((struct kobj_int_or_string *)at)->text = empty_text;
        break;
    case SCHEMA_INT:
        if (f->absent != 0) {
            schema_store_int(at, f->size, f->absent);
        }
        break;
    case SCHEMA_ENUM:
        if (f->absent != 0) {
            *(uint8_t *)at = (uint8_t)f->absent;
        }
        break;
    case SCHEMA_DOUBLE:
        *(double *)at = (double)f->absent;
        break;
    case SCHEMA_PPM:
        *(uint32_t *)at = (uint32_t)f->absent;
        break;
    case SCHEMA_DURATION:
        *(int64_t *)at = f->absent;
        break;
    case SCHEMA_MESSAGE:
        schema_defaults(f->msg, at);
        break;
    case SCHEMA_FLAT:
        schema_defaults(f->msg, base);
        break;
    default:
        break;
    }
}

// Runs twice for each message of each object: what most fields are is sorted out first.
void schema_defaults(const struct schema_msg *msg, char *base) {
    const uint64_t zero_is_absent = 1ull << SCHEMA_ANY | 1ull << SCHEMA_BOOL | 1ull << SCHEMA_TRI |
                                    1ull << SCHEMA_STRINGS | 1ull << SCHEMA_MAP |
                                    1ull << SCHEMA_POINTER | 1ull << SCHEMA_LIST;

    for (const struct schema_field *f = msg->fields, *end = f + msg->n_fields; f < end; f++) {
        if (f->name_off != 0) {
            memcpy(base + f->name_off - 1, &empty_text, sizeof(empty_text));
        }
        if (f->type == SCHEMA_STRING || f->type == SCHEMA_QUANTITY) {
            const char *text = f->absent_text != NULL ? f->absent_text : empty_text;
            memcpy(base + f->off, &text, sizeof(text));
        } else if ((zero_is_absent & 1ull << f->type) == 0) {
            set_default(f, base);
        }
    }
}

bool schema_is_number(const struct cfg_node *key) {
    uint64_t value;
    return slice_to_u64(slice_make(key->text, key->n), INT64_MAX, &value);
}

// "not_principals" names the field notPrincipals.
static bool is_snake_of(const char *snake, const char *camel) {
    while (*snake != '\0' && *camel != '\0') {
        if (*snake == '_') {
            snake++;
            if (*camel != toupper((unsigned char)*snake)) {
                return false;
            }
        } else if (*camel != *snake) {
            return false;
        }
        snake++;
        camel++;
    }
    return *snake == *camel;
}

static bool is_named(const struct schema_msg *msg, const struct cfg_node *key, const char *name) {
    return strcmp(key->text, name) == 0 || (msg->is_snake_ok && is_snake_of(key->text, name));
}

static const struct schema_field *find_between(const struct schema_field *from,
                                               const struct schema_field *to,
                                               const struct cfg_node *key) {
    for (const struct schema_field *f = from; f < to; f++) {
        // "<key>" and the like are no names.
        if (f->name[0] == key->text[0] && strcmp(f->name, key->text) == 0 && f->name[0] != '<') {
            return f;
        }
    }
    return NULL;
}

// `next` is where the search begins: behind the field that was found before, as tables and
// documents mostly go in the same order.
static const struct schema_field *find_field(const struct schema_msg *msg,
                                             const struct cfg_node *key, uint16_t next) {
    const struct schema_field *begin = msg->fields, *end = begin + msg->n_fields;
    const struct schema_field *found = find_between(begin + next, end, key);

    found = found != NULL ? found : find_between(begin, begin + next, key);
    for (uint16_t i = 0; found == NULL && msg->is_snake_ok && i < msg->n_fields; i++) {
        if (begin[i].name[0] != '<' && is_snake_of(key->text, begin[i].name)) {
            found = &begin[i];
        }
    }
    return found;
}

// Takes the next name off a list of names with a space between each.
static bool next_known(const char **list, char name[64]) {
    if (*list == NULL || **list == '\0') {
        return false;
    }
    size_t len = strcspn(*list, " ");
    CHECK(len > 0 && len < 64);
    memcpy(name, *list, len);
    name[len] = '\0';
    *list += len + ((*list)[len] == ' ');
    return true;
}

static bool is_known(const struct schema_msg *msg, const struct cfg_node *key) {
    const char *list = msg->known;
    char name[64];

    if (msg->is_snake_ok) {
        while (next_known(&list, name)) {
            if (is_named(msg, key, name)) {
                return true;
            }
        }
        return false;
    }
    while (list != NULL) {
        const char *end = strchrnul(list, ' ');
        if ((size_t)(end - list) == key->n && memcmp(list, key->text, key->n) == 0) {
            return true;
        }
        list = *end != '\0' ? end + 1 : NULL;
    }
    return false;
}

// A field that a message inside of this one has, or one around it: most likely a wrong indent.
static bool find_place(const struct schema_ctx *ctx, const struct schema_msg *msg,
                       const struct cfg_node *key, char *out, size_t cap) {
    char path[256];

    for (uint16_t i = 0; i < msg->n_fields; i++) {
        const struct schema_field *f = &msg->fields[i];
        bool is_inner = f->type == SCHEMA_MESSAGE || f->type == SCHEMA_FLAT ||
                        f->type == SCHEMA_POINTER || f->type == SCHEMA_LIST;
        const struct schema_field *inner = is_inner ? find_field(f->msg, key, 0) : NULL;
        if (inner != NULL && inner->type != SCHEMA_ANY) {
            snprintf(out, cap, "unknown field here: it belongs into `%.60s`; indent it more",
                     f->name);
            return true;
        }
    }
    for (const struct schema_around *up = ctx->around->parent; up != NULL; up = up->parent) {
        const struct schema_field *outer = find_field(up->msg, key, 0);
        if (outer == NULL || outer->type == SCHEMA_ANY) {
            continue;
        }
        size_t len = schema_path_text(up->path, path, sizeof(path));
        snprintf(out, cap, "unknown field here: it belongs to `%.200s`; indent it less",
                 len > 0 ? path : "the object");
        return true;
    }
    return false;
}

// True when there is more to say than that it is unknown.
static bool explain_unknown(const struct schema_ctx *ctx, const struct schema_msg *msg,
                            const struct cfg_node *node, const struct cfg_pair *pair, char *out,
                            size_t cap) {
    for (const struct schema_note *note = msg->notes; note != NULL && note->name != NULL; note++) {
        if (is_named(msg, &pair->key, note->name)) {
            snprintf(out, cap, "%s", note->text);
            return true;
        }
    }
    const char *text = msg->unknown != NULL ? msg->unknown(node, pair) : NULL;
    if (text != NULL) {
        snprintf(out, cap, "%s", text);
        return true;
    }
    return find_place(ctx, msg, &pair->key, out, cap);
}

static void unknown_field(struct schema_ctx *ctx, const struct schema_msg *msg,
                          const struct cfg_node *node, const struct cfg_pair *pair) {
    const struct cfg_node *key = &pair->key;
    struct schema_path frame = {.parent = ctx->path, .name = key->text};
    unsigned best = schema_max_distance(key->text) + 1;
    const char *list = msg->known;
    char name[64], hint[64] = "", text[400] = "unknown field";

    if (ctx->is_final || ctx->unknown == SCHEMA_UNKNOWN_SILENT) {
        return;
    }
    // A hint costs much more than the rest; past the messages that are kept no one sees it.
    bool is_kept = ctx->errors->n < CONFIG_ERRORS_MAX;
    if (is_kept && explain_unknown(ctx, msg, node, pair, text, sizeof(text))) {
        is_kept = false; // it needs no hint
    }
    for (uint16_t i = 0; is_kept && i < msg->n_fields; i++) {
        const char *field = msg->fields[i].name;
        unsigned distance = schema_distance(key->text, field, best);
        if (distance < best && field[0] != '<') {
            best = distance;
            snprintf(hint, sizeof(hint), "%s", field);
        }
    }
    while (is_kept && next_known(&list, name)) {
        unsigned distance = schema_distance(key->text, name, best);
        if (distance < best) {
            best = distance;
            snprintf(hint, sizeof(hint), "%s", name);
        }
    }
    uint32_t n = ctx->errors->n;
    ctx->path = &frame;
    schema_report(ctx, ctx->unknown == SCHEMA_UNKNOWN_WARNING ? CONFIG_WARNING : CONFIG_ERROR, key,
                  "", text, hint);
    ctx->path = frame.parent;
    if (ctx->errors->n > n) {
        ctx->errors->items[n].is_unknown_field = true;
    }
}

// Something of the right type for a list, with nothing in it.
static bool is_empty_list(const struct schema_field *f, const struct cfg_node *node) {
    bool is_list =
        f->type == SCHEMA_LIST || f->type == SCHEMA_STRINGS || f->type == SCHEMA_STRINGS_POS;

    return node->n == 0 && ((is_list && node->type == CFG_LIST) ||
                            (f->type == SCHEMA_KEYED && node->type == CFG_MAP));
}

static void one_field(struct schema_ctx *ctx, const struct schema_field *f,
                      const struct cfg_pair *pair, char *base) {
    struct schema_path frame = {.parent = ctx->path, .name = pair->key.text};
    bool is_dropped = ctx->is_lean && (f->flags & SCHEMA_LAUNCH) != 0;
    size_t n_structs = ctx->n_structs, n_texts = ctx->n_texts;

    if (is_dropped && ctx->is_final) {
        return;
    }
    ctx->path = &frame;
    if (f->old != NULL) {
        schema_warn(ctx, &pair->key, "", "%s", f->old);
    }
    if ((f->flags & (SCHEMA_REQUIRED | SCHEMA_NONEMPTY)) != 0 && is_empty_list(f, &pair->value)) {
        schema_error(ctx, &pair->value, "", "must not be empty");
    }
    schema_decode_field(ctx, f, &pair->value, base);
    ctx->path = frame.parent;
    if (is_dropped) {
        ctx->n_structs = n_structs;
        ctx->n_texts = n_texts;
    }
}

static void check_required(struct schema_ctx *ctx, const struct schema_msg *msg,
                           const struct cfg_node *node, uint64_t seen) {
    for (uint16_t i = 0; i < msg->n_fields; i++) {
        const struct schema_field *f = &msg->fields[i];
        if ((f->flags & SCHEMA_REQUIRED) != 0 && (seen & 1ull << i) == 0 && f->name[0] != '<') {
            schema_error(ctx, node, f->name, "is required");
        }
    }
}

static void check_oneofs(struct schema_ctx *ctx, const struct schema_msg *msg,
                         const struct cfg_node *node, uint64_t seen) {
    const struct schema_field *first[8] = {0};

    for (uint16_t i = 0; i < msg->n_fields; i++) {
        const struct schema_field *f = &msg->fields[i];
        if (f->oneof == 0 || (seen & 1ull << i) == 0) {
            continue;
        }
        CHECK(f->oneof < ARRAY_LEN(first));
        if (first[f->oneof] != NULL) {
            schema_error(ctx, cfg_get(node, f->name) != NULL ? cfg_get(node, f->name) : node,
                         f->name, "excludes `%s`: only one of them may be set",
                         first[f->oneof]->name);
        } else {
            first[f->oneof] = f;
        }
    }
}

void schema_decode_fields(struct schema_ctx *ctx, const struct schema_msg *msg,
                          const struct cfg_node *node, char *base) {
    struct schema_around around = {.parent = ctx->around, .msg = msg, .path = ctx->path};
    uint64_t seen = 0;
    uint16_t next = 0;

    CHECK(msg->n_fields <= 64);
    if (node->type != CFG_MAP) {
        schema_error(ctx, node, "", "expected a map, found %s", cfg_type_text(node->type));
        return;
    }
    ctx->around = &around;
    for (uint32_t i = 0; i < node->n; i++) {
        const struct cfg_pair *pair = &node->pairs[i];
        const struct schema_field *f = find_field(msg, &pair->key, next);
        if (f == NULL) {
            if (!ctx->is_final && !is_known(msg, &pair->key)) {
                unknown_field(ctx, msg, node, pair);
            }
            continue;
        }
        next = (uint16_t)(f - msg->fields + 1);
        if (pair->value.type == CFG_NULL) {
            continue;
        }
        if ((seen & 1ull << (f - msg->fields)) != 0) { // camelCase and snake_case of one field
            if (msg->is_snake_ok) { // else a duplicate key, which was reported
                schema_error(ctx, &pair->key, pair->key.text, "is set twice");
            }
            continue;
        }
        seen |= 1ull << (f - msg->fields);
        one_field(ctx, f, pair, base);
    }
    ctx->around = around.parent;
    if (ctx->is_final) {
        return;
    }
    check_required(ctx, msg, node, seen);
    check_oneofs(ctx, msg, node, seen);
    if (msg->check != NULL) {
        msg->check(ctx, node, base);
    }
}

void schema_decode(struct schema_ctx *ctx, const struct schema_msg *msg,
                   const struct cfg_node *node, char *base) {
    if (ctx->is_final) {
        memset(base, 0, msg->size);
    }
    schema_defaults(msg, base);
    if (msg->pos_off != 0) {
        *(struct kobj_pos *)(base + msg->pos_off - 1) = (struct kobj_pos){node->line, node->col};
    }
    schema_decode_fields(ctx, msg, node, base);
}

static void *decode_root(struct schema_ctx *ctx, const struct schema_msg *msg,
                         const struct cfg_node *node) {
    size_t size = (msg->size + 7) & ~(size_t)7;
    void *out = ctx->is_final ? ctx->structs + ctx->n_structs : arena_zalloc(ctx->scratch, size);

    ctx->n_structs += size;
    if (out == NULL) {
        ctx->is_full = true;
        return NULL;
    }
    schema_decode(ctx, msg, node, out);
    return out;
}

const void *schema_check(struct schema_ctx *ctx, const struct schema_msg *msg,
                         const struct cfg_node *node) {
    ctx->is_final = false;
    const void *out = decode_root(ctx, msg, node);
    if (ctx->is_full) {
        schema_error(ctx, node, "", "the object is too large");
        return NULL;
    }
    return out;
}

const void *schema_fill(struct schema_ctx *ctx, const struct schema_msg *msg,
                        const struct cfg_node *node) {
    ctx->is_final = true;
    return decode_root(ctx, msg, node);
}

void schema_check_at(struct schema_ctx *ctx, const struct schema_msg *msg,
                     const struct cfg_node *node, void *out) {
    ctx->is_final = false;
    memset(out, 0, msg->size);
    schema_decode(ctx, msg, node, out);
}

void schema_fill_at(struct schema_ctx *ctx, const struct schema_msg *msg,
                    const struct cfg_node *node, void *out) {
    ctx->is_final = true;
    schema_decode(ctx, msg, node, out);
}

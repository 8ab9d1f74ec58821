// SPDX-License-Identifier: Apache-2.0
#include "common/mesh/schema.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "common/mesh/kobj.h"
#include "common/mesh/schema_priv.h"

static void *alloc_struct(struct schema_ctx *ctx, size_t size) {
    size_t aligned = (size + 7) & ~(size_t)7;
    void *ptr = ctx->is_final ? ctx->structs + ctx->n_structs : arena_zalloc(ctx->scratch, aligned);

    ctx->is_full = ctx->is_full || ptr == NULL; // then the first run's result is thrown away
    ctx->n_structs += aligned;
    return ptr;
}

static const char *keep_text(struct schema_ctx *ctx, const struct cfg_node *node) {
    if (node->n == 0) {
        return "";
    }
    const char *text = node->text;
    if (ctx->is_final) {
        text = memcpy(ctx->texts + ctx->n_texts, node->text, node->n + 1);
    }
    ctx->n_texts += node->n + 1;
    return text;
}

// Reports

size_t schema_path_text(const struct schema_path *path, char *out, size_t cap) {
    if (path == NULL) {
        return 0;
    }
    size_t len = schema_path_text(path->parent, out, cap);
    if (len + 1 >= cap) {
        return len;
    }
    int n;
    if (path->name == NULL) {
        n = snprintf(out + len, cap - len, "[%u]", path->index);
    } else if (strpbrk(path->name, "./") != NULL) { // a label's key
        n = snprintf(out + len, cap - len, "[%s]", path->name);
    } else {
        n = snprintf(out + len, cap - len, "%s%s", len > 0 ? "." : "", path->name);
    }
    len += n > 0 ? (size_t)n : 0;
    return MIN(len, cap - 1);
}

void schema_report(struct schema_ctx *ctx, enum config_severity severity,
                   const struct cfg_node *node, const char *sub, const char *text,
                   const char *hint) {
    char path[512] = "";

    if (ctx->is_final) {
        return;
    }
    size_t len = schema_path_text(ctx->path, path, sizeof(path));
    if (sub[0] != '\0') {
        snprintf(path + len, sizeof(path) - len, "%s%s", len > 0 && sub[0] != '[' ? "." : "", sub);
    }
    ctx->n_errors += severity == CONFIG_ERROR;
    config_errors_add(ctx->errors, &(struct config_error){.severity = (uint8_t)severity,
                                                          .file = ctx->file,
                                                          .line = node->line,
                                                          .col = node->col,
                                                          .object = ctx->object,
                                                          .path = path,
                                                          .text = text,
                                                          .hint = hint});
}

void schema_error(struct schema_ctx *ctx, const struct cfg_node *node, const char *sub,
                  const char *fmt, ...) {
    char text[512];
    va_list args;

    va_start(args, fmt);
    vsnprintf(text, sizeof(text), fmt, args);
    va_end(args);
    schema_report(ctx, CONFIG_ERROR, node, sub, text, "");
}

void schema_warn(struct schema_ctx *ctx, const struct cfg_node *node, const char *sub,
                 const char *fmt, ...) {
    char text[512];
    va_list args;

    va_start(args, fmt);
    vsnprintf(text, sizeof(text), fmt, args);
    va_end(args);
    schema_report(ctx, CONFIG_WARNING, node, sub, text, "");
}

static void type_error(struct schema_ctx *ctx, const struct cfg_node *node, const char *expected) {
    bool is_quotable = strcmp(expected, "a string") == 0 &&
                       (node->type == CFG_INT || node->type == CFG_BOOL || node->type == CFG_FLOAT);

    bool is_trap = is_quotable && node->type == CFG_BOOL;
    schema_error(ctx, node, "", "expected %s, found %s%s%s", expected, cfg_type_text(node->type),
                 is_trap ? " (yes, no, on, off, y and n are booleans)" : "",
                 is_quotable ? "; put it in quotes" : "");
}

static bool expect(struct schema_ctx *ctx, const struct cfg_node *node, uint8_t type) {
    if (node->type == type) {
        return true;
    }
    type_error(ctx, node, cfg_type_text(type));
    return false;
}

// Texts from files are shown cut: %.60s below.
static void check_text(struct schema_ctx *ctx, const struct cfg_node *node,
                       const char *(*check)(const char *text)) {
    const char *problem = check != NULL && !ctx->is_final ? check(node->text) : NULL;

    if (problem != NULL) {
        schema_error(ctx, node, "", "`%.60s` %s", node->text, problem);
    }
}

// Scalars

static void decode_string(struct schema_ctx *ctx, const struct schema_field *f,
                          const struct cfg_node *node, char *at) {
    if (!expect(ctx, node, CFG_STRING)) {
        return;
    }
    if (node->n == 0 && (f->flags & (SCHEMA_REQUIRED | SCHEMA_NONEMPTY)) != 0) {
        schema_error(ctx, node, "", "must not be empty");
        return;
    }
    if (node->n > 0) {
        check_text(ctx, node, f->check);
    }
    const char *text = keep_text(ctx, node);
    memcpy(at, &text, sizeof(text));
}

void schema_store_int(char *at, uint8_t size, int64_t value) {
    switch (size) {
    case 1:
        *(uint8_t *)at = (uint8_t)value;
        break;
    case 2:
        *(uint16_t *)at = (uint16_t)value;
        break;
    case 4:
        *(uint32_t *)at = (uint32_t)value;
        break;
    default:
        *(int64_t *)at = value;
        break;
    }
}

// "10%" where a plain number is meant.
static bool is_percent(const struct cfg_node *node) {
    size_t n_digits = node->type == CFG_STRING ? strspn(node->text, "0123456789") : 0;
    return n_digits > 0 && strcmp(node->text + n_digits, "%") == 0;
}

static void decode_int(struct schema_ctx *ctx, const struct schema_field *f,
                       const struct cfg_node *node, char *at) {
    int64_t value;

    if (is_percent(node)) {
        schema_error(ctx, node, "", "expected an integer, found `%.20s`: write it without `%%`",
                     node->text);
        return;
    }
    if (!expect(ctx, node, CFG_INT)) {
        return;
    }
    if (!cfg_to_int(node, &value) || value < f->min || value > f->max) {
        schema_error(ctx, node, "", "%.40s is out of range, must be %lld to %lld", node->text,
                     (long long)f->min, (long long)f->max);
        return;
    }
    schema_store_int(at, f->size, value);
}

static bool decode_number(struct schema_ctx *ctx, const struct schema_field *f,
                          const struct cfg_node *node, double *ret_value) {
    if (is_percent(node)) {
        schema_error(ctx, node, "", "expected a number, found `%.20s`: write it without `%%`",
                     node->text);
        return false;
    }
    if (node->type != CFG_INT && node->type != CFG_FLOAT) {
        type_error(ctx, node, "a number");
        return false;
    }
    char *end;
    double value = strtod(node->text, &end);
    bool is_in = value >= (double)f->min && value <= (double)f->max;
    if (*end != '\0' || !is_in) { // YAML's .nan and .inf are no numbers for strtod
        schema_error(ctx, node, "", "%.40s is out of range, must be %lld to %lld", node->text,
                     (long long)f->min, (long long)f->max);
        return false;
    }
    *ret_value = value;
    return true;
}

static void decode_ppm(struct schema_ctx *ctx, const struct schema_field *f,
                       const struct cfg_node *node, char *at) {
    double percent;

    if (!decode_number(ctx, f, node, &percent)) {
        return;
    }
    if (percent > 0 && percent < 0.0001) {
        schema_error(ctx, node, "", "%.40s is too small: 0.0001 is the least above 0", node->text);
        return;
    }
    *(uint32_t *)at = (uint32_t)(percent * 1e4 + 0.5);
}

static void decode_ints(struct schema_ctx *ctx, const struct schema_field *f,
                        const struct cfg_node *node, char *at, uint32_t *ret_n) {
    if (!expect(ctx, node, CFG_LIST)) {
        return;
    }
    uint32_t *items = alloc_struct(ctx, MAX(node->n, 1u) * sizeof(items[0]));
    if (items == NULL) {
        return;
    }
    struct schema_field item = {.size = sizeof(items[0]), .min = f->min, .max = f->max};
    for (uint32_t i = 0; i < node->n; i++) {
        struct schema_path frame = {.parent = ctx->path, .index = i};
        ctx->path = &frame;
        items[i] = 0;
        decode_int(ctx, &item, &node->items[i], (char *)&items[i]);
        ctx->path = frame.parent;
    }
    memcpy(at, &items, sizeof(items));
    *ret_n = node->n;
}

// A text as a slice, after base64 where the field has that.
static void decode_slice(struct schema_ctx *ctx, const struct schema_field *f,
                         const struct cfg_node *node, char *at) {
    if (!expect(ctx, node, CFG_STRING)) {
        return;
    }
    size_t len = node->n;
    char *text = (char *)keep_text(ctx, node); // ours in the second run
    uint8_t *to = ctx->is_final && len > 0 ? (uint8_t *)text : NULL;
    if (f->type == SCHEMA_BASE64 && !schema_base64(slice_make(node->text, len), to, &len)) {
        schema_error(ctx, node, "", "is not base64");
        return;
    }
    *(struct slice *)at = slice_make(text, len);
}

static void decode_enum(struct schema_ctx *ctx, const struct schema_field *f,
                        const struct cfg_node *node, char *at) {
    char text[400];
    size_t len = 0;
    const char *hint = "";

    if (!expect(ctx, node, CFG_STRING)) {
        return;
    }
    for (const struct schema_name *name = f->names; name->text != NULL; name++) {
        if (strcmp(name->text, node->text) == 0) {
            *(uint8_t *)at = name->value;
            return;
        }
    }
    unsigned best = schema_max_distance(node->text) + 1;
    len = (size_t)snprintf(text, sizeof(text), "`%.60s` is none of ", node->text);
    for (const struct schema_name *name = f->names; name->text != NULL; name++) {
        unsigned distance = schema_distance(node->text, name->text, best);
        if (distance < best) {
            best = distance;
            hint = name->text;
        }
        int n = snprintf(text + len, sizeof(text) - len, "%s%s", name == f->names ? "" : ", ",
                         name->text);
        len = MIN(len + (size_t)MAX(n, 0), sizeof(text) - 1);
    }
    schema_report(ctx, CONFIG_ERROR, node, "", text, hint);
}

static void decode_int_or_string(struct schema_ctx *ctx, const struct schema_field *f,
                                 const struct cfg_node *node, char *at) {
    struct kobj_int_or_string *out = (struct kobj_int_or_string *)at;
    int64_t value;

    if (node->type == CFG_STRING) {
        if (node->n > 0) {
            check_text(ctx, node, f->check);
        }
        out->text = keep_text(ctx, node);
        return;
    }
    if (node->type != CFG_INT) {
        type_error(ctx, node, "an integer or a string");
        return;
    }
    int64_t max = f->max != 0 ? f->max : INT32_MAX;
    if (!cfg_to_int(node, &value) || value < f->min || value > max) {
        schema_error(ctx, node, "", "%.40s is out of range, must be %lld to %lld", node->text,
                     (long long)f->min, (long long)max);
        return;
    }
    out->num = (int32_t)value;
}

static void decode_duration(struct schema_ctx *ctx, const struct schema_field *f,
                            const struct cfg_node *node, char *at) {
    int64_t ms;

    if (node->type == CFG_INT || node->type == CFG_FLOAT) {
        schema_error(ctx, node, "", "`%.40s` is not a duration: it needs a unit, as 10s or 1m30s",
                     node->text);
        return;
    }
    if (!expect(ctx, node, CFG_STRING)) {
        return;
    }
    if (!schema_duration(slice_make(node->text, node->n), &ms)) {
        schema_error(ctx, node, "", "`%.60s` is not a duration such as 10s or 1m30s", node->text);
        return;
    }
    if (ms < f->min) {
        schema_error(ctx, node, "", "`%.60s` is too short, must be at least %lldms", node->text,
                     (long long)f->min);
        return;
    }
    *(int64_t *)at = ms;
}

static void decode_quantity(struct schema_ctx *ctx, const struct cfg_node *node, char *at) {
    int64_t milli;

    if (node->type != CFG_STRING && node->type != CFG_INT && node->type != CFG_FLOAT) {
        type_error(ctx, node, "a quantity");
    } else if (!schema_quantity(slice_make(node->text, node->n), &milli)) {
        schema_error(ctx, node, "", "`%.60s` is not a quantity such as 100m or 64Mi", node->text);
    } else {
        const char *text = keep_text(ctx, node);
        memcpy(at, &text, sizeof(text));
    }
}

// Lists and maps

static void decode_strings(struct schema_ctx *ctx, const struct schema_field *f,
                           const struct cfg_node *node, char *at, uint32_t *ret_n) {
    if (!expect(ctx, node, CFG_LIST)) {
        return;
    }
    const char **items = alloc_struct(ctx, MAX(node->n, 1u) * sizeof(items[0]));
    if (items == NULL) {
        return;
    }
    for (uint32_t i = 0; i < node->n; i++) {
        struct schema_path frame = {.parent = ctx->path, .index = i};
        ctx->path = &frame;
        items[i] = "";
        if (expect(ctx, &node->items[i], CFG_STRING)) {
            check_text(ctx, &node->items[i], f->check);
            items[i] = keep_text(ctx, &node->items[i]);
        }
        ctx->path = frame.parent;
    }
    memcpy(at, &items, sizeof(items));
    *ret_n = node->n;
}

static void decode_map(struct schema_ctx *ctx, const struct schema_field *f,
                       const struct cfg_node *node, char *at) {
    struct kobj_map *out = (struct kobj_map *)at;

    if (!expect(ctx, node, CFG_MAP)) {
        return;
    }
    struct kobj_kv *items = alloc_struct(ctx, MAX(node->n, 1u) * sizeof(items[0]));
    if (items == NULL) {
        return;
    }
    for (uint32_t i = 0; i < node->n; i++) {
        const struct cfg_pair *pair = &node->pairs[i];
        struct schema_path frame = {.parent = ctx->path, .name = pair->key.text};
        ctx->path = &frame;
        check_text(ctx, &pair->key, f->check_key);
        items[i] = (struct kobj_kv){keep_text(ctx, &pair->key), ""};
        if (pair->value.type != CFG_NULL && expect(ctx, &pair->value, CFG_STRING)) {
            check_text(ctx, &pair->value, f->check);
            items[i].value = keep_text(ctx, &pair->value);
        }
        ctx->path = frame.parent;
    }
    *out = (struct kobj_map){items, node->n};
}

static void decode_quantities(struct schema_ctx *ctx, const struct cfg_node *node, char *at,
                              uint32_t *ret_n) {
    if (!expect(ctx, node, CFG_MAP)) {
        return;
    }
    struct kobj_quantity *items = alloc_struct(ctx, MAX(node->n, 1u) * sizeof(items[0]));
    if (items == NULL) {
        return;
    }
    for (uint32_t i = 0; i < node->n; i++) {
        const struct cfg_pair *pair = &node->pairs[i];
        struct schema_path frame = {.parent = ctx->path, .name = pair->key.text};
        const struct cfg_node *value = &pair->value;
        ctx->path = &frame;
        items[i] = (struct kobj_quantity){keep_text(ctx, &pair->key), "", 0};
        decode_quantity(ctx, value, (char *)&items[i].text);
        if (!schema_quantity(slice_str(items[i].text), &items[i].milli)) {
            items[i].milli = 0; // it was reported
        }
        ctx->path = frame.parent;
    }
    memcpy(at, &items, sizeof(items));
    *ret_n = node->n;
}

// data and stringData share one list, which grows by copying: secrets have few keys.
static void decode_bytes(struct schema_ctx *ctx, const struct schema_field *f,
                         const struct cfg_node *node, char *at, uint32_t *n) {
    const struct kobj_bytes *before;

    memcpy(&before, at, sizeof(before));
    if (!expect(ctx, node, CFG_MAP)) {
        return;
    }
    struct kobj_bytes *items = alloc_struct(ctx, (*n + MAX(node->n, 1u)) * sizeof(items[0]));
    if (items == NULL) {
        return;
    }
    if (*n > 0) {
        memcpy(items, before, *n * sizeof(items[0]));
    }
    for (uint32_t i = 0; i < node->n; i++) {
        const struct cfg_pair *pair = &node->pairs[i];
        struct schema_path frame = {.parent = ctx->path, .name = pair->key.text};
        struct kobj_bytes *item = &items[(*n)++];
        ctx->path = &frame;
        *item = (struct kobj_bytes){keep_text(ctx, &pair->key), {(const uint8_t *)"", 0}};
        if (pair->value.type != CFG_NULL && expect(ctx, &pair->value, CFG_STRING)) {
            size_t len = pair->value.n;
            char *text = (char *)keep_text(ctx, &pair->value);
            struct slice source = slice_make(pair->value.text, len);
            uint8_t *to = ctx->is_final && len > 0 ? (uint8_t *)text : NULL;
            if (f->type == SCHEMA_BYTES && !schema_base64(source, to, &len)) {
                schema_error(ctx, &pair->value, "", "is not base64");
            }
            item->value = slice_make(text, len);
        }
        ctx->path = frame.parent;
    }
    memcpy(at, &items, sizeof(items));
}

static bool is_item_kept(const struct schema_ctx *ctx, const struct schema_field *f,
                         const struct cfg_node *item) {
    return !ctx->is_lean || f->is_kept == NULL || f->is_kept(item);
}

static void decode_item(struct schema_ctx *ctx, const struct schema_msg *msg,
                        const struct cfg_node *node, uint32_t index, char *at, bool is_kept) {
    struct schema_path frame = {.parent = ctx->path, .index = index};
    size_t n_structs = ctx->n_structs, n_texts = ctx->n_texts;

    ctx->path = &frame;
    schema_decode(ctx, msg, node, at);
    ctx->path = frame.parent;
    if (!is_kept) {
        ctx->n_structs = n_structs;
        ctx->n_texts = n_texts;
    }
}

static void decode_list(struct schema_ctx *ctx, const struct schema_field *f,
                        const struct cfg_node *node, char *at, uint32_t *ret_n) {
    const struct schema_msg *msg = f->msg;

    if (!expect(ctx, node, CFG_LIST)) {
        return;
    }
    if (f->max != 0 && node->n > f->max) {
        schema_error(ctx, node, "", "has %u items, at most %lld are allowed", node->n,
                     (long long)f->max);
        return;
    }
    uint32_t n = 0;
    for (uint32_t i = 0; i < node->n; i++) {
        n += is_item_kept(ctx, f, &node->items[i]) ? 1 : 0;
    }
    // The first run checks those, too, that the second one leaves out.
    size_t n_structs = ctx->n_structs;
    char *items = alloc_struct(ctx, (ctx->is_final ? n : MAX(node->n, 1u)) * msg->size);
    if (items == NULL) {
        return;
    }
    ctx->n_structs = n_structs + ((n * msg->size + 7) & ~(size_t)7);
    for (uint32_t i = 0, k = 0; i < node->n; i++) {
        bool is_kept = is_item_kept(ctx, f, &node->items[i]);
        if (ctx->is_final && !is_kept) {
            continue;
        }
        decode_item(ctx, msg, &node->items[i], i, items + k++ * msg->size, is_kept);
    }
    memcpy(at, &items, sizeof(items));
    *ret_n = ctx->is_final ? n : node->n;
}

static void decode_keyed_item(struct schema_ctx *ctx, const struct schema_field *f,
                              const struct cfg_pair *pair, char *item) {
    const struct schema_field *key = &f->msg->fields[0], *value = &f->msg->fields[1];

    schema_defaults(f->msg, item);
    if (f->msg->pos_off != 0) {
        *(struct kobj_pos *)(item + f->msg->pos_off - 1) =
            (struct kobj_pos){pair->key.line, pair->key.col};
    }
    check_text(ctx, &pair->key, f->check_key);
    if (key->type == SCHEMA_INT) {
        struct cfg_node number = pair->key;
        number.type = CFG_INT;
        if (schema_is_number(&pair->key)) {
            decode_int(ctx, key, &number, item + key->off);
        } else if (f->check_key == NULL) {
            type_error(ctx, &pair->key, "an integer");
        }
    } else {
        decode_string(ctx, key, &pair->key, item + key->off);
    }
    if (strcmp(value->name, "<value>") == 0) {
        schema_decode_field(ctx, value, &pair->value, item);
    } else {
        schema_decode_fields(ctx, f->msg, &pair->value, item);
    }
}

static void decode_keyed(struct schema_ctx *ctx, const struct schema_field *f,
                         const struct cfg_node *node, char *at, uint32_t *ret_n) {
    if (!expect(ctx, node, CFG_MAP)) {
        return;
    }
    char *items = alloc_struct(ctx, MAX(node->n, 1u) * f->msg->size);
    if (items == NULL) {
        return;
    }
    for (uint32_t i = 0; i < node->n; i++) {
        struct schema_path frame = {.parent = ctx->path, .name = node->pairs[i].key.text};
        ctx->path = &frame;
        decode_keyed_item(ctx, f, &node->pairs[i], items + i * f->msg->size);
        ctx->path = frame.parent;
    }
    memcpy(at, &items, sizeof(items));
    *ret_n = node->n;
}

static bool decode_pointer(struct schema_ctx *ctx, const struct schema_field *f,
                           const struct cfg_node *node, char *at) {
    if (!expect(ctx, node, CFG_MAP)) {
        return false;
    }
    char *item = alloc_struct(ctx, f->msg->size);
    if (item == NULL) {
        return false;
    }
    schema_decode(ctx, f->msg, node, item);
    memcpy(at, &item, sizeof(item));
    return true;
}

// Messages

static void decode_container(struct schema_ctx *ctx, const struct schema_field *f,
                             const struct cfg_node *node, char *base) {
    char *at = base + f->off;
    uint32_t *n = (uint32_t *)(base + f->off_n);

    switch ((enum schema_type)f->type) {
    case SCHEMA_INTS:
        decode_ints(ctx, f, node, at, n);
        break;
    case SCHEMA_STRINGS:
        decode_strings(ctx, f, node, at, n);
        break;
    case SCHEMA_STRINGS_POS: {
        struct kobj_strings *strings = (struct kobj_strings *)at;
        strings->pos = (struct kobj_pos){node->line, node->col};
        decode_strings(ctx, f, node, (char *)&strings->items, &strings->n);
        break;
    }
    case SCHEMA_MAP:
        decode_map(ctx, f, node, at);
        break;
    case SCHEMA_QUANTITIES:
        decode_quantities(ctx, node, at, n);
        break;
    case SCHEMA_BYTES:
    case SCHEMA_TEXT_BYTES:
        decode_bytes(ctx, f, node, at, n);
        break;
    case SCHEMA_LIST:
        decode_list(ctx, f, node, at, n);
        break;
    case SCHEMA_KEYED:
        decode_keyed(ctx, f, node, at, n);
        break;
    case SCHEMA_ONE:
        *n = decode_pointer(ctx, f, node, at);
        break;
    case SCHEMA_POINTER:
        decode_pointer(ctx, f, node, at);
        break;
    case SCHEMA_MESSAGE:
        schema_decode(ctx, f->msg, node, at);
        break;
    default:
        schema_decode_fields(ctx, f->msg, node, base); // SCHEMA_FLAT
        break;
    }
}

void schema_decode_field(struct schema_ctx *ctx, const struct schema_field *f,
                         const struct cfg_node *node, char *base) {
    char *at = base + f->off;

    if (f->tag != 0) {
        *(uint8_t *)(base + f->tag_off) = f->tag;
    }
    if (f->name_off != 0) {
        memcpy(base + f->name_off - 1, &f->name, sizeof(f->name));
    }
    switch ((enum schema_type)f->type) {
    case SCHEMA_ANY:
        break;
    case SCHEMA_STRING:
        decode_string(ctx, f, node, at);
        break;
    case SCHEMA_BOOL:
        if (expect(ctx, node, CFG_BOOL)) {
            *(bool *)at = node->text[0] == 't';
        }
        break;
    case SCHEMA_TRI:
        if (expect(ctx, node, CFG_BOOL)) {
            *(enum tri *)at = node->text[0] == 't' ? TRI_TRUE : TRI_FALSE;
        }
        break;
    case SCHEMA_INT:
        decode_int(ctx, f, node, at);
        break;
    case SCHEMA_DOUBLE:
        decode_number(ctx, f, node, (double *)at);
        break;
    case SCHEMA_PPM:
        decode_ppm(ctx, f, node, at);
        break;
    case SCHEMA_SLICE:
    case SCHEMA_BASE64:
        decode_slice(ctx, f, node, at);
        break;
    case SCHEMA_DURATION:
        decode_duration(ctx, f, node, at);
        break;
    case SCHEMA_ENUM:
        decode_enum(ctx, f, node, at);
        break;
    case SCHEMA_QUANTITY:
        decode_quantity(ctx, node, at);
        break;
    case SCHEMA_INT_OR_STRING:
        decode_int_or_string(ctx, f, node, at);
        break;
    default:
        decode_container(ctx, f, node, base);
        break;
    }
}

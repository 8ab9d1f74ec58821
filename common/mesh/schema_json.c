// SPDX-License-Identifier: Apache-2.0
#include "common/mesh/schema_json.h"

#include <stdlib.h>

#define LABEL "[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?"
#define WORD "[A-Za-z0-9]([-_.A-Za-z0-9]{0,61}[A-Za-z0-9])?"
#define HOST_LABEL "[A-Za-z0-9_]([-A-Za-z0-9_]{0,61}[A-Za-z0-9_])?"

// The checks of schema_syntax.c as regular expressions (ECMA 262), without anchors. A check that
// has none here is the decode's alone.
static const struct {
    const char *(*check)(const char *text);
    const char *pattern;
} patterns[] = {
    {schema_check_dns_label, LABEL},
    {schema_check_dns_name, LABEL "(\\." LABEL ")*"},
    {schema_check_port_name, "(?=.{1,15}$)(?=.*[a-z])[a-z0-9]+(-[a-z0-9]+)*"},
    {schema_check_label_value, "(" WORD ")?"},
    {schema_check_label_key, "(" LABEL "(\\." LABEL ")*/)?" WORD},
    {schema_check_host_wildcard, "\\*|(\\*\\.)?" HOST_LABEL "(\\." HOST_LABEL ")*\\.?"},
    {schema_check_ip, "[0-9A-Fa-f:.]+"},
    {schema_check_cidr, "[0-9A-Fa-f:.]+(/[0-9]{1,3})?"},
    {schema_check_quantity, "[-+.0-9]+([numkMGTPE]|[KMGTPE]i|[eE][-+]?[0-9]+)?"},
};
static const char duration_pattern[] = "^([0-9.]+(ns|us|ms|s|m|h))+$";
static const char quantity_pattern[] = "^[-+.0-9]+([numkMGTPE]|[KMGTPE]i|[eE][-+]?[0-9]+)?$";
static const char base64_pattern[] = "^[A-Za-z0-9+/=\\r\\n]*$";

void schema_json_init(struct schema_json *s, struct json_out *out,
                      const struct schema_json_word *words, size_t n_words) {
    *s = (struct schema_json){.out = out, .words = words, .n_words = n_words};
}

void schema_json_fini(struct schema_json *s) {
    for (size_t i = 0; i < s->n_defs; i++) {
        free(s->defs[i].name);
    }
    free(s->defs);
}

static const char *def_name(struct schema_json *s, const struct schema_msg *msg, const char *name) {
    for (size_t i = 0; i < s->n_defs; i++) {
        if (s->defs[i].msg == msg) {
            return s->defs[i].name;
        }
    }
    if (s->n_defs == s->cap) {
        s->cap = s->cap != 0 ? s->cap * 2 : 64;
        s->defs = xrealloc(s->defs, s->cap * sizeof(s->defs[0]));
    }
    s->defs[s->n_defs] = (struct schema_json_def){msg, xstrdup(name)};
    return s->defs[s->n_defs++].name;
}

void schema_json_ref(struct schema_json *s, const struct schema_msg *msg, const char *name) {
    char *text = xasprintf("#/definitions/%s", def_name(s, msg, name));

    json_out_begin_object(s->out);
    json_out_kv_str(s->out, "$ref", text);
    json_out_end(s->out);
    free(text);
}

// Types

// {"type": type}, or with null, which counts as absent; the object stays open.
static void begin_type(struct json_out *out, const char *type, bool is_nullable) {
    json_out_begin_object(out);
    if (!is_nullable) {
        json_out_kv_str(out, "type", type);
        return;
    }
    json_out_kv_array(out, "type");
    json_out_string(out, slice_str(type));
    json_out_string(out, SLICE_LIT("null"));
    json_out_end(out);
}

static void put_pattern(struct json_out *out, const char *(*check)(const char *text),
                        bool may_be_empty) {
    for (size_t i = 0; check != NULL && i < ARRAY_LEN(patterns); i++) {
        if (patterns[i].check == check) {
            char *text = xasprintf(may_be_empty ? "^(|%s)$" : "^(%s)$", patterns[i].pattern);
            json_out_kv_str(out, "pattern", text);
            free(text);
        }
    }
}

// The value of the key "propertyNames", when there is something to say about keys.
static void put_key_names(struct json_out *out, const struct schema_field *f) {
    const struct schema_field *key = f->type == SCHEMA_KEYED ? &f->msg->fields[0] : NULL;
    bool is_int = key != NULL && key->type == SCHEMA_INT;
    if (!is_int && f->check_key == NULL && (key == NULL || key->check == NULL)) {
        return;
    }
    json_out_kv_object(out, "propertyNames");
    if (is_int) {
        json_out_kv_str(out, "pattern", "^[0-9]+$");
    } else {
        put_pattern(out, f->check_key != NULL ? f->check_key : key->check, false);
    }
    json_out_end(out);
}

static void put_range(struct json_out *out, const struct schema_field *f) {
    json_out_kv_i64(out, "minimum", f->min);
    json_out_kv_i64(out, "maximum", f->max);
}

static bool is_nonempty(const struct schema_field *f) {
    return (f->flags & (SCHEMA_REQUIRED | SCHEMA_NONEMPTY)) != 0;
}

static void put_string(struct json_out *out, const struct schema_field *f, bool is_nullable) {
    begin_type(out, "string", is_nullable);
    if (is_nonempty(f)) {
        json_out_kv_u64(out, "minLength", 1);
    }
    put_pattern(out, f->check, !is_nonempty(f));
    if (f->absent_text != NULL && f->absent_text[0] != '\0') {
        json_out_kv_str(out, "default", f->absent_text);
    }
    json_out_end(out);
}

static void put_number(struct json_out *out, const struct schema_field *f, bool is_nullable) {
    begin_type(out, f->type == SCHEMA_INT ? "integer" : "number", is_nullable);
    put_range(out, f);
    if (f->absent != 0 && f->absent >= f->min && f->absent <= f->max) {
        json_out_kv_i64(out, "default", f->absent);
    }
    json_out_end(out);
}

static void put_enum(struct json_out *out, const struct schema_field *f, bool is_nullable) {
    json_out_begin_object(out);
    json_out_kv_array(out, "enum");
    for (const struct schema_name *name = f->names; name->text != NULL; name++) {
        json_out_string(out, slice_str(name->text));
    }
    if (is_nullable) {
        json_out_null(out);
    }
    json_out_end(out);
    json_out_end(out);
}

static void put_duration(struct json_out *out, const struct schema_field *f, bool is_nullable) {
    begin_type(out, "string", is_nullable);
    json_out_kv_str(out, "pattern", duration_pattern);
    char *text = f->min > 0 ? xasprintf("a duration such as 10s or 1m30s, at least %lldms",
                                        (long long)f->min)
                            : xstrdup("a duration such as 10s or 1m30s");
    json_out_kv_str(out, "description", text);
    free(text);
    json_out_end(out);
}

static void put_quantity(struct json_out *out, bool is_nullable) {
    json_out_begin_object(out);
    json_out_kv_array(out, "type");
    json_out_string(out, SLICE_LIT("string"));
    json_out_string(out, SLICE_LIT("number"));
    if (is_nullable) {
        json_out_string(out, SLICE_LIT("null"));
    }
    json_out_end(out);
    json_out_kv_str(out, "pattern", quantity_pattern);
    json_out_end(out);
}

static void put_int_or_string(struct json_out *out, const struct schema_field *f,
                              bool is_nullable) {
    json_out_begin_object(out);
    json_out_kv_array(out, "type");
    json_out_string(out, SLICE_LIT("integer"));
    json_out_string(out, SLICE_LIT("string"));
    if (is_nullable) {
        json_out_string(out, SLICE_LIT("null"));
    }
    json_out_end(out);
    json_out_kv_i64(out, "minimum", f->min);
    json_out_kv_i64(out, "maximum", f->max != 0 ? f->max : INT32_MAX);
    put_pattern(out, f->check, true);
    json_out_end(out);
}

// Lists and maps

static void put_ref(struct schema_json *s, const struct schema_msg *msg, const char *name,
                    bool is_nullable) {
    if (is_nullable) { // as the definition says
        schema_json_ref(s, msg, name);
        return;
    }
    begin_type(s->out, "object", false);
    json_out_kv_array(s->out, "allOf");
    schema_json_ref(s, msg, name);
    json_out_end(s->out);
    json_out_end(s->out);
}

static void begin_list(struct json_out *out, const struct schema_field *f, bool is_nullable) {
    begin_type(out, "array", is_nullable);
    if (is_nonempty(f) && f->type != SCHEMA_INTS) {
        json_out_kv_u64(out, "minItems", 1);
    }
    if (f->type == SCHEMA_LIST && f->max != 0) {
        json_out_kv_i64(out, "maxItems", f->max);
    }
    json_out_key(out, SLICE_LIT("items"));
}

static void put_list(struct schema_json *s, const struct schema_field *f, const char *name,
                     bool is_nullable) {
    struct json_out *out = s->out;

    begin_list(out, f, is_nullable);
    if (f->type == SCHEMA_LIST) {
        put_ref(s, f->msg, name, false);
    } else if (f->type == SCHEMA_INTS) {
        begin_type(out, "integer", false);
        put_range(out, f);
        json_out_end(out);
    } else {
        begin_type(out, "string", false);
        put_pattern(out, f->check, false);
        json_out_end(out);
    }
    json_out_end(out);
}

static void put_word(struct json_out *out, const struct schema_json_word *word) {
    struct slice rest = slice_str(word->values != NULL ? word->values : ""), value;

    json_out_kv_object(out, word->key);
    json_out_kv_str(out, "description", word->text);
    json_out_kv_array(out, "anyOf");
    if (rest.len > 0) {
        json_out_begin_object(out);
        json_out_kv_array(out, "enum");
        while (slice_split(rest, ' ', &value, &rest)) {
            json_out_string(out, value);
        }
        json_out_string(out, rest);
        json_out_end(out);
        json_out_end(out);
    }
    begin_type(out, "string", true);
    json_out_end(out);
    json_out_end(out);
    json_out_end(out);
}

static void put_words(struct schema_json *s, const struct schema_msg *msg,
                      const struct schema_field *f) {
    bool is_first = true;

    for (size_t i = 0; i < s->n_words; i++) {
        const struct schema_json_word *word = &s->words[i];
        if (word->msg != msg || !slice_eq_str(slice_str(word->field), f->name)) {
            continue;
        }
        if (is_first) {
            json_out_kv_object(s->out, "properties");
        }
        is_first = false;
        put_word(s->out, word);
    }
    if (!is_first) {
        json_out_end(s->out);
    }
}

static void put_field(struct schema_json *s, const struct schema_msg *msg,
                      const struct schema_field *f, const char *name, bool is_nullable);

// What each value of a map is.
static void put_map_value(struct schema_json *s, const struct schema_field *f, const char *name) {
    struct json_out *out = s->out;

    switch ((enum schema_type)f->type) {
    case SCHEMA_KEYED:
        if (slice_eq_str(SLICE_LIT("<value>"), f->msg->fields[1].name)) {
            put_field(s, f->msg, &f->msg->fields[1], name, false);
        } else {
            put_ref(s, f->msg, name, false);
        }
        return;
    case SCHEMA_QUANTITIES:
        put_quantity(out, false);
        return;
    default:
        begin_type(out, "string", true);
        if (f->type == SCHEMA_BYTES) {
            json_out_kv_str(out, "pattern", base64_pattern);
        } else if (f->type == SCHEMA_MAP) {
            put_pattern(out, f->check, false);
        }
        json_out_end(out);
        return;
    }
}

static void put_map(struct schema_json *s, const struct schema_msg *msg,
                    const struct schema_field *f, const char *name, bool is_nullable) {
    struct json_out *out = s->out;

    begin_type(out, "object", is_nullable);
    if (f->type == SCHEMA_KEYED && is_nonempty(f)) {
        json_out_kv_u64(out, "minProperties", 1);
    }
    put_words(s, msg, f);
    put_key_names(out, f);
    json_out_key(out, SLICE_LIT("additionalProperties"));
    put_map_value(s, f, name);
    json_out_end(out);
}

static void put_slice(struct json_out *out, const struct schema_field *f, bool is_nullable) {
    begin_type(out, "string", is_nullable);
    if (f->type == SCHEMA_BASE64) {
        json_out_kv_str(out, "pattern", base64_pattern);
    }
    json_out_end(out);
}

static void put_scalar(struct json_out *out, const struct schema_field *f, bool is_nullable) {
    switch ((enum schema_type)f->type) {
    case SCHEMA_STRING:
        put_string(out, f, is_nullable);
        break;
    case SCHEMA_BOOL:
    case SCHEMA_TRI:
        begin_type(out, "boolean", is_nullable);
        json_out_end(out);
        break;
    case SCHEMA_INT:
    case SCHEMA_DOUBLE:
    case SCHEMA_PPM:
        put_number(out, f, is_nullable);
        break;
    case SCHEMA_DURATION:
        put_duration(out, f, is_nullable);
        break;
    case SCHEMA_ENUM:
        put_enum(out, f, is_nullable);
        break;
    case SCHEMA_QUANTITY:
        put_quantity(out, is_nullable);
        break;
    case SCHEMA_INT_OR_STRING:
        put_int_or_string(out, f, is_nullable);
        break;
    case SCHEMA_SLICE:
    case SCHEMA_BASE64:
        put_slice(out, f, is_nullable);
        break;
    default: // SCHEMA_ANY
        json_out_bool(out, true);
        break;
    }
}

// The value of one field. `name`: of the definition, for a message.
static void put_field(struct schema_json *s, const struct schema_msg *msg,
                      const struct schema_field *f, const char *name, bool is_nullable) {
    switch ((enum schema_type)f->type) {
    case SCHEMA_MESSAGE:
    case SCHEMA_FLAT:
    case SCHEMA_POINTER:
    case SCHEMA_ONE:
        put_ref(s, f->msg, name, is_nullable);
        break;
    case SCHEMA_INTS:
    case SCHEMA_STRINGS:
    case SCHEMA_STRINGS_POS:
    case SCHEMA_LIST:
        put_list(s, f, name, is_nullable);
        break;
    case SCHEMA_MAP:
    case SCHEMA_KEYED:
    case SCHEMA_QUANTITIES:
    case SCHEMA_BYTES:
    case SCHEMA_TEXT_BYTES:
        put_map(s, msg, f, name, is_nullable);
        break;
    default:
        put_scalar(s->out, f, is_nullable);
        break;
    }
}

// Messages

static bool is_hump(char c) {
    return (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
}

// "notPrincipals" as the expression ^not(P|_[Pp])rincipals$, NULL when it has no humps.
static char *snake_pattern(struct slice name) {
    struct buf buf;
    bool has_humps = false;

    buf_init(&buf, SIZE_MAX);
    buf_append_byte(&buf, '^');
    for (size_t i = 0; i < name.len; i++) {
        char c = (char)name.ptr[i];
        if (is_hump(c) && i > 0) {
            has_humps = true;
            buf_printf(&buf, "(%c|_[%c%c])", c, c, c | 0x20);
        } else {
            buf_append_byte(&buf, (uint8_t)c);
        }
    }
    buf_append_byte(&buf, '$');
    char *text = has_humps ? xstrdup(buf_cstr(&buf)) : NULL;
    buf_fini(&buf);
    return text;
}

static void put_known(struct schema_json *s, const struct schema_msg *msg, bool is_snake) {
    struct slice rest = slice_str(msg->known != NULL ? msg->known : ""), name;

    while (rest.len > 0) {
        if (!slice_split(rest, ' ', &name, &rest)) {
            name = rest;
            rest.len = 0;
        }
        char *pattern = is_snake ? snake_pattern(name) : NULL;
        if (!is_snake || pattern != NULL) {
            json_out_key(s->out, pattern != NULL ? slice_str(pattern) : name);
            json_out_bool(s->out, true);
        }
        free(pattern);
    }
}

static bool is_own_name(const struct schema_field *f) {
    return f->name[0] != '<';
}

static void put_one(struct schema_json *s, const struct schema_msg *msg,
                    const struct schema_field *f, const char *name) {
    bool is_required = (f->flags & SCHEMA_REQUIRED) != 0;
    char *inner = xasprintf("%s.%s", name, f->name);

    if (f->old != NULL) { // not beside $ref, where draft 7 ignores what else there is
        json_out_begin_object(s->out);
        json_out_kv_str(s->out, "deprecationMessage", f->old);
        json_out_kv_array(s->out, "allOf");
    }
    put_field(s, msg, f, inner, !is_required);
    if (f->old != NULL) {
        json_out_end(s->out);
        json_out_end(s->out);
    }
    free(inner);
}

static void put_required(struct json_out *out, const struct schema_msg *msg,
                         const char *const *required) {
    bool has_any = required != NULL && *required != NULL;

    // Which of the two names stands there is not said easily; no such message requires anything.
    for (uint16_t i = 0; i < msg->n_fields && !msg->is_snake_ok; i++) {
        has_any = has_any ||
                  ((msg->fields[i].flags & SCHEMA_REQUIRED) != 0 && is_own_name(&msg->fields[i]));
    }
    if (!has_any) {
        return;
    }
    json_out_kv_array(out, "required");
    for (; required != NULL && *required != NULL; required++) {
        json_out_string(out, slice_str(*required));
    }
    for (uint16_t i = 0; i < msg->n_fields && !msg->is_snake_ok; i++) {
        const struct schema_field *f = &msg->fields[i];
        if ((f->flags & SCHEMA_REQUIRED) != 0 && is_own_name(f)) {
            json_out_string(out, slice_str(f->name));
        }
    }
    json_out_end(out);
}

// {"required": [name], "properties": {name: not null}}: it is there.
static void put_present(struct json_out *out, const char *name) {
    json_out_begin_object(out);
    json_out_kv_array(out, "required");
    json_out_string(out, slice_str(name));
    json_out_end(out);
    json_out_kv_object(out, "properties");
    json_out_kv_object(out, name);
    json_out_kv_object(out, "not");
    json_out_kv_str(out, "type", "null");
    json_out_end(out);
    json_out_end(out);
    json_out_end(out);
    json_out_end(out);
}

// Of fields that exclude each other: one of them, or none.
static void put_oneof(struct json_out *out, const struct schema_msg *msg, uint8_t group) {
    json_out_begin_object(out);
    json_out_kv_array(out, "oneOf");
    for (uint16_t i = 0; i < msg->n_fields; i++) {
        if (msg->fields[i].oneof == group) {
            put_present(out, msg->fields[i].name);
        }
    }
    json_out_begin_object(out);
    json_out_kv_object(out, "not");
    json_out_kv_array(out, "anyOf");
    for (uint16_t i = 0; i < msg->n_fields; i++) {
        if (msg->fields[i].oneof == group) {
            put_present(out, msg->fields[i].name);
        }
    }
    json_out_end(out);
    json_out_end(out);
    json_out_end(out);
    json_out_end(out);
    json_out_end(out);
}

static void put_oneofs(struct json_out *out, const struct schema_msg *msg) {
    uint64_t groups = 0;

    for (uint16_t i = 0; i < msg->n_fields && !msg->is_snake_ok; i++) {
        groups |= 1ull << msg->fields[i].oneof;
    }
    groups &= ~1ull;
    if (groups == 0) {
        return;
    }
    json_out_kv_array(out, "allOf");
    for (uint8_t group = 1; group < 64; group++) {
        if ((groups & 1ull << group) != 0) {
            put_oneof(out, msg, group);
        }
    }
    json_out_end(out);
}

// Other spellings of names: they are read, but an editor shall not offer them.
static void put_snake_names(struct schema_json *s, const struct schema_msg *msg, const char *name) {
    json_out_kv_object(s->out, "patternProperties");
    for (uint16_t i = 0; i < msg->n_fields; i++) {
        const struct schema_field *f = &msg->fields[i];
        char *pattern = snake_pattern(slice_str(f->name));
        if (pattern != NULL && is_own_name(f)) {
            json_out_key(s->out, slice_str(pattern));
            put_one(s, msg, f, name);
        }
        free(pattern);
    }
    put_known(s, msg, true);
    json_out_end(s->out);
}

static bool is_among(const char *const *names, const char *name) {
    for (; names != NULL && *names != NULL; names++) {
        if (slice_eq_str(slice_str(*names), name)) {
            return true;
        }
    }
    return false;
}

void schema_json_fields(struct schema_json *s, const struct schema_msg *msg, const char *name,
                        void (*head)(void *arg, struct schema_json *s), void *arg,
                        const char *const *required) {
    struct json_out *out = s->out;

    json_out_kv_object(out, "properties");
    if (head != NULL) {
        head(arg, s);
    }
    for (uint16_t i = 0; i < msg->n_fields; i++) {
        const struct schema_field *f = &msg->fields[i];
        if (is_own_name(f) && !is_among(required, f->name)) {
            json_out_key(out, slice_str(f->name));
            put_one(s, msg, f, name);
        }
    }
    put_known(s, msg, false);
    json_out_end(out);
    if (msg->is_snake_ok) {
        put_snake_names(s, msg, name);
    }
    json_out_kv_bool(out, "additionalProperties", false);
    put_required(out, msg, required);
    put_oneofs(out, msg);
}

void schema_json_defs(struct schema_json *s) {
    for (; s->n_written < s->n_defs; s->n_written++) {
        const struct schema_msg *msg = s->defs[s->n_written].msg;
        const char *name = s->defs[s->n_written].name; // stays where it is when the list grows
        json_out_key(s->out, slice_str(name));
        begin_type(s->out, "object", true);
        schema_json_fields(s, msg, name, NULL, NULL, NULL);
        json_out_end(s->out);
    }
}

// SPDX-License-Identifier: Apache-2.0

#include "ctl/local_check.h"

#include <stdlib.h>
#include <string.h>

#include "common/mesh/kobj.h"
#include "ctl/local_json.h"
#include "ctl/local_kind.h"

bool lab_validation_parse(const char *text, enum lab_validation *ret) {
    static const struct {
        const char *text;
        enum lab_validation mode;
    } modes[] = {{"strict", LAB_VALIDATE_STRICT},
                 {"true", LAB_VALIDATE_STRICT},
                 {"warn", LAB_VALIDATE_WARN},
                 {"ignore", LAB_VALIDATE_IGNORE},
                 {"false", LAB_VALIDATE_IGNORE}};
    for (size_t i = 0; i < ARRAY_LEN(modes); i++) {
        if (strcmp(modes[i].text, text) == 0) {
            *ret = modes[i].mode;
            return true;
        }
    }
    return false;
}

json_t *lab_json_of(const struct cfg_node *node) {
    switch (node->type) {
    case CFG_BOOL:
        return json_boolean(node->text[0] == 't');
    case CFG_INT: {
        int64_t value;
        return cfg_to_int(node, &value) ? json_integer(value) : json_string(node->text);
    }
    case CFG_FLOAT:
        return json_real(strtod(node->text, NULL));
    case CFG_STRING: {
        json_t *text = json_stringn(node->text, node->n);
        return text != NULL ? text : json_string(""); // not UTF-8
    }
    case CFG_LIST: {
        json_t *list = json_array();
        for (uint32_t i = 0; i < node->n; i++) {
            json_array_append_new(list, lab_json_of(&node->items[i]));
        }
        return list;
    }
    case CFG_MAP: {
        json_t *map = json_object();
        for (uint32_t i = 0; i < node->n; i++) {
            json_object_set_new(map, node->pairs[i].key.text, lab_json_of(&node->pairs[i].value));
        }
        return map;
    }
    default:
        return json_null();
    }
}

// The next step of "spec.http[0].labels[a.b/c]": a key, or the index of a list.
static bool next_step(const char **path, char key[256]) {
    const char *at = *path + (**path == '.');
    bool is_bracket = *at == '[';
    at += is_bracket;
    size_t len = is_bracket ? strcspn(at, "]") : strcspn(at, ".[");
    if (len == 0 || len >= 256 || (is_bracket && at[len] != ']')) {
        return false;
    }
    memcpy(key, at, len);
    key[len] = '\0';
    *path = at + len + is_bracket;
    return true;
}

// Takes the field away that the path leads to; false: the path leads nowhere.
static bool drop(json_t *doc, const char *path) {
    char key[256];
    json_t *at = doc;
    while (next_step(&path, key)) {
        if (*path == '\0') {
            return json_object_del(at, key) == 0;
        }
        at = json_is_array(at) ? json_array_get(at, strtoul(key, NULL, 10))
                               : json_object_get(at, key);
    }
    return false;
}

// Messages

static const char *version_of(const json_t *doc) {
    return js_str(doc, "apiVersion", "");
}

// "Error from server (BadRequest): error when creating "x.yaml": "
static void begin(struct lab_check *check, const char *reason, const char *file) {
    text_add(&check->messages, "Error from server%s%s%s: ", reason[0] != '\0' ? " (" : "", reason,
             reason[0] != '\0' ? ")" : "");
    if (file != NULL) {
        text_add(&check->messages, "error when %s \"%s\": ", check->action, file);
    }
}

static void say_unknown(struct lab_check *check, const char *file, const json_t *doc,
                        const struct config_errors *errors) {
    const char *version = strrchr(version_of(doc), '/'), *between = "";
    version = version != NULL ? version + 1 : version_of(doc);
    begin(check, "BadRequest", file);
    text_add(&check->messages,
             "%s in version \"%s\" cannot be handled as a %s: strict decoding error: ",
             js_kind(doc), version, js_kind(doc));
    for (uint32_t i = 0; i < errors->n; i++) {
        if (errors->items[i].is_unknown_field) {
            text_add(&check->messages, "%sunknown field \"%s\"", between, errors->items[i].path);
            between = ", ";
        }
    }
    text_add(&check->messages, "\n");
}

// The apiVersion or the kind is none that there is.
static void say_no_match(struct lab_check *check, const char *file, const json_t *doc) {
    struct text *out = &check->messages;
    if (version_of(doc)[0] == '\0' && check->mode == LAB_VALIDATE_STRICT) {
        text_add(out,
                 "error: error validating \"%s\": error validating data: apiVersion not set; if "
                 "you choose to ignore these errors, turn validation off with --validate=false\n",
                 file != NULL ? file : "");
        return;
    }
    text_add(out,
             "error: resource mapping not found for name: \"%s\" namespace: \"%s\" from \"%s\": no "
             "matches for kind \"%s\" in version \"%s\"\n",
             js_name(doc), js_ns(doc), file != NULL ? file : "", js_kind(doc), version_of(doc));
}

// The type of an API's schema for the words that our decoder has for a type, or for a value.
static const char *schema_type(const char *words) {
    static const struct {
        const char *words, *type;
    } types[] = {
        {"a boolean", "boolean"}, {"an integer", "integer"}, {"a number", "number"},
        {"a string", "string"},   {"a list", "array"},       {"a map", "object"},
        {"null", "null"},         {"`", "string"},
    };
    for (size_t i = 0; i < ARRAY_LEN(types); i++) {
        if (strncmp(words, types[i].words, strlen(types[i].words)) == 0) {
            return types[i].type;
        }
    }
    return NULL;
}

// What the schema of a CRD forbids, in the API server's words; NULL: the schema takes it.
static char *schema_words(const struct config_error *error) {
    static const char required[] = "is required", expected[] = "expected ", found[] = ", found ";
    const char *text = error->text, *at = strstr(text, found);
    if (strncmp(text, required, strlen(required)) == 0) {
        const char *rest = text + strlen(required);
        return *rest == '\0' || *rest == ':' ? xstrdup("Required value") : NULL;
    }
    if (strncmp(text, expected, strlen(expected)) != 0 || at == NULL) {
        return NULL;
    }
    const char *wanted = schema_type(text + strlen(expected));
    const char *have = schema_type(at + strlen(found));
    return wanted == NULL || have == NULL
               ? NULL
               : xasprintf("Invalid value: \"%s\": %s in body must be of type %s: \"%s\"", have,
                           error->path, wanted, have);
}

// A value that the API's own rules forbid, its schema, or Istio.
static void say_invalid(struct lab_check *check, const char *file, const json_t *doc,
                        const struct config_error *error) {
    const struct lab_kind *kind = lab_kind_of(js_kind(doc));
    bool is_istio = kind != NULL && strstr(kind->group, "istio.io") != NULL;
    bool is_custom = is_istio || (kind != NULL && strncmp(kind->group, "gateway.", 8) == 0);
    char *words = is_custom ? schema_words(error) : NULL;
    if (is_istio && words == NULL) {
        begin(check, "", file);
        text_add(&check->messages,
                 "admission webhook \"validation.istio.io\" denied the request: configuration is "
                 "invalid: %s: %s\n",
                 error->path, error->text);
        return;
    }
    text_add(&check->messages, "The %s \"%s\" is invalid: %s: %s\n", js_kind(doc), js_name(doc),
             error->path, words != NULL ? words : error->text);
    free(words);
}

// Where in the file, and what to do.
static void say_places(struct lab_check *check, const struct config_errors *errors) {
    for (uint32_t i = 0; i < errors->n; i++) {
        if (errors->items[i].severity == CONFIG_ERROR && errors->items[i].line != 0) {
            char *line = config_error_text(&errors->items[i]);
            text_add(&check->messages, "  %s\n", line);
            free(line);
        }
    }
}

static void say_warnings(struct lab_check *check, const struct config_errors *errors) {
    for (uint32_t i = 0; i < errors->n; i++) {
        const struct config_error *error = &errors->items[i];
        if (error->severity == CONFIG_WARNING) {
            text_add(&check->messages, "Warning: %s: %s\n", error->path, error->text);
        }
    }
}

// Checking

// What of data.mesh is wrong is not for the API server, to whom it is a text.
static bool is_checked(const struct config_error *error) {
    return error->severity == CONFIG_ERROR && strncmp(error->path, "data.mesh", 9) != 0;
}

static const struct config_error *first_error(const struct config_errors *errors) {
    for (uint32_t i = 0; i < errors->n; i++) {
        if (is_checked(&errors->items[i])) {
            return &errors->items[i];
        }
    }
    return NULL;
}

// There is no such kind or version.
static bool has_no_match(const struct config_errors *errors) {
    for (uint32_t i = 0; i < errors->n; i++) {
        const char *path = errors->items[i].path;
        if (is_checked(&errors->items[i]) &&
            (strcmp(path, "apiVersion") == 0 || strcmp(path, "kind") == 0)) {
            return true;
        }
    }
    return false;
}

static void decode(const char *file, const struct cfg_node *doc, struct config_errors *errors) {
    struct arena arena;
    arena_init(&arena, SIZE_MAX);
    config_errors_init(errors);
    kobj_unref(kobj_decode(doc, file != NULL ? file : "", 0, &arena, errors));
    arena_fini(&arena);
}

// Decodes the JSON tree in the place of what `errors` was made of.
static void decode_again(const json_t *json, struct config_errors *errors) {
    struct arena arena;
    struct config_doc_reader reader;
    struct cfg_node root;
    char *text = json_dumps(json, JSON_COMPACT);
    arena_init(&arena, SIZE_MAX);
    config_errors_clear(errors);
    config_doc_reader_init(&reader, "", slice_str(text), CONFIG_JSON, NULL);
    if (config_doc_next(&reader, &arena, errors, &root) > 0) {
        struct config_errors found;
        decode("", &root, &found);
        config_errors_fini(errors);
        *errors = found;
    }
    for (uint32_t i = 0; i < errors->n; i++) {
        errors->items[i].line = 0; // it was a place in this text
    }
    arena_fini(&arena);
    free(text);
}

// Drops the unknown fields, which WARN names. False: there were none.
static bool prune(struct lab_check *check, json_t *json, const struct config_errors *errors) {
    bool has_dropped = false;
    for (uint32_t i = 0; i < errors->n; i++) {
        const struct config_error *error = &errors->items[i];
        if (!error->is_unknown_field || !is_checked(error) || !drop(json, error->path)) {
            continue;
        }
        has_dropped = true;
        if (check->mode == LAB_VALIDATE_WARN) {
            text_add(&check->messages, "Warning: unknown field \"%s\"\n", error->path);
        }
    }
    return has_dropped;
}

static bool has_unknown(const struct config_errors *errors) {
    for (uint32_t i = 0; i < errors->n; i++) {
        if (errors->items[i].is_unknown_field && is_checked(&errors->items[i])) {
            return true;
        }
    }
    return false;
}

static bool is_good(struct lab_check *check, const char *file, json_t *json,
                    struct config_errors *errors) {
    bool is_strict = check->mode == LAB_VALIDATE_STRICT;
    if (!is_strict && prune(check, json, errors)) {
        decode_again(json, errors);
    }
    const struct config_error *first = first_error(errors);
    if (first == NULL) {
        say_warnings(check, errors);
        return true;
    }
    check->n_refused++;
    if (has_no_match(errors)) {
        say_no_match(check, file, json);
    } else if (is_strict && has_unknown(errors)) {
        say_unknown(check, file, json, errors);
    } else {
        say_invalid(check, file, json, first);
    }
    say_places(check, errors);
    return false;
}

json_t *lab_check_doc(struct lab_check *check, const char *file, const struct cfg_node *doc) {
    json_t *json = lab_json_of(doc);
    if (check->mode == LAB_VALIDATE_NONE) {
        return json;
    }
    struct config_errors errors;
    decode(file, doc, &errors);
    config_errors_sort(&errors);
    bool is_ok = is_good(check, file, json, &errors);
    config_errors_fini(&errors);
    if (!is_ok) {
        json_decref(json);
        return NULL;
    }
    return json;
}

json_t *lab_check_json(struct lab_check *check, json_t *doc) {
    struct config_errors errors;
    config_errors_init(&errors);
    decode_again(doc, &errors);
    bool is_ok = is_good(check, NULL, doc, &errors);
    config_errors_fini(&errors);
    if (!is_ok) {
        json_decref(doc);
        return NULL;
    }
    return doc;
}

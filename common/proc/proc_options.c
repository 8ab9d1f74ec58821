// SPDX-License-Identifier: Apache-2.0
#include "common/proc/proc_options.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>
#include <unistd.h>

#include "common/base/addr.h"
#include "common/base/clock.h"
#include "common/proto/http_rules.h"
#include "common/tls/tls_ctx.h"
#include "version.h"

enum { HEADERS_MAX = 32 };

// ---- values ------------------------------------------------------------------------------------

static bool parse_bool(const char *text, bool *ret) {
    static const char *const yes[] = {"true", "1", "yes", "on"};
    static const char *const no[] = {"false", "0", "no", "off"};
    for (size_t i = 0; i < ARRAY_LEN(yes); i++) {
        if (strcasecmp(text, yes[i]) == 0 || strcasecmp(text, no[i]) == 0) {
            *ret = strcasecmp(text, yes[i]) == 0;
            return true;
        }
    }
    return false;
}

// "90" (seconds), "1500ms", "30s", "5m", "24h", "2d", and sums as "1h30m".
static bool parse_duration_ms(const char *text, uint64_t *ret_ms) {
    uint64_t sum = 0;
    if (*text == 0) {
        return false;
    }
    while (*text != 0) {
        char *end = NULL;
        errno = 0;
        uint64_t n = strtoull(text, &end, 10);
        if (end == text || errno != 0 || n > UINT32_MAX || *text == '-') {
            return false;
        }
        uint64_t unit = 1000;
        if (strncmp(end, "ms", 2) == 0) {
            unit = 1;
            end += 2;
        } else if (*end == 's' || *end == 'm' || *end == 'h' || *end == 'd') {
            unit = *end == 's'   ? 1000
                   : *end == 'm' ? 60 * 1000
                   : *end == 'h' ? 3600 * 1000
                                 : 24 * 3600 * 1000;
            end++;
        } else if (*end != 0) {
            return false;
        }
        sum += n * unit;
        text = end;
    }
    *ret_ms = sum;
    return true;
}

static bool parse_bytes(const char *text, uint64_t *ret) {
    char *end = NULL;
    errno = 0;
    uint64_t n = strtoull(text, &end, 10);
    if (end == text || errno != 0 || *text == '-') {
        return false;
    }
    static const struct {
        const char *suffix;
        uint64_t factor;
    } units[] = {{"", 1},     {"Ki", 1 << 10}, {"Mi", 1 << 20},  {"Gi", 1 << 30},
                 {"k", 1000}, {"M", 1000000},  {"G", 1000000000}};
    for (size_t i = 0; i < ARRAY_LEN(units); i++) {
        if (strcmp(end, units[i].suffix) == 0 && n <= UINT64_MAX / units[i].factor) {
            *ret = n * units[i].factor;
            return true;
        }
    }
    return false;
}

// "12.5" in thousandths, with up to three digits behind the point; *ret_end: what follows.
static bool parse_milli(const char *text, uint64_t max, uint64_t *ret, const char **ret_end) {
    struct slice rest = slice_str(text);
    size_t n = strspn(text, "0123456789");
    uint64_t whole = 0, part = 0;
    if (!slice_to_u64(slice_head(rest, n), max, &whole)) {
        return false;
    }
    text += n;
    if (*text == '.') {
        n = strspn(++text, "0123456789");
        if (n == 0 || n > 3 || !slice_to_u64(slice_make(text, n), 999, &part)) {
            return false;
        }
        part *= n == 1 ? 100 : n == 2 ? 10 : 1;
        text += n;
    }
    *ret = whole * 1000 + part;
    *ret_end = text;
    return true;
}

static bool parse_threads(const char *text, struct proc_threads *ret) {
    const char *end = NULL;
    uint64_t milli = 0;
    if (!parse_milli(text, 1024, &milli, &end)) {
        return false;
    }
    bool is_percent = strcmp(end, "%") == 0;
    if (is_percent ? milli == 0 || milli > 100000 : *end != 0 || milli % 1000 != 0) {
        return false;
    }
    uint64_t n = is_percent ? milli : milli / 1000;
    *ret = (struct proc_threads){.n = (uint32_t)n, .is_percent = is_percent, .is_set = true};
    return true;
}

static bool parse_cpus(const char *text, uint32_t *ret) {
    const char *end = NULL;
    uint64_t milli = 0;
    if (!parse_milli(text, UINT32_MAX, &milli, &end)) {
        return false;
    }
    if (strcmp(end, "m") == 0) {
        milli = (milli + 999) / 1000;
        end++;
    }
    if (*end != 0 || milli == 0) {
        return false;
    }
    *ret = (uint32_t)((milli + 999) / 1000);
    return true;
}

uint32_t proc_options_threads(const struct proc_threads *threads, uint32_t cores) {
    if (!threads->is_set) {
        return 0;
    }
    uint64_t n = threads->n;
    if (threads->is_percent) {
        n = ((uint64_t)cores * threads->n + 99999) / 100000; // rounded up
    } else if (n == 0) {
        n = cores;
    }
    return (uint32_t)MIN(n, (uint64_t)UINT32_MAX);
}

static bool parse_compliance(const char *text, enum tls_compliance *ret) {
    if (*text == 0) {
        *ret = TLS_COMPLIANCE_DEFAULT;
    } else if (strcmp(text, "fips-140-2") == 0) {
        *ret = TLS_COMPLIANCE_FIPS;
    } else if (strcmp(text, "pqc") == 0) {
        *ret = TLS_COMPLIANCE_PQC;
    } else {
        return false;
    }
    return true;
}

static const char *const io_names[] = {"auto", "uring", "epoll"}; // as enum proc_io

const char *proc_options_io_name(enum proc_io io) {
    return io_names[io % ARRAY_LEN(io_names)];
}

static bool parse_io(const char *text, enum proc_io *ret) {
    for (size_t i = 0; i < ARRAY_LEN(io_names); i++) {
        if (strcmp(text, io_names[i]) == 0) {
            *ret = (enum proc_io)i;
            return true;
        }
    }
    return false;
}

static bool set_number(const struct proc_option *option, void *field, const char *text) {
    uint64_t n = 0;
    bool ok = false;
    switch (option->type) {
    case PROC_U32:
        ok = slice_to_u64(slice_str(text), UINT32_MAX, &n);
        break;
    case PROC_BYTES_U32:
    case PROC_BYTES_U64:
        ok = parse_bytes(text, &n);
        break;
    default:
        ok = parse_duration_ms(text, &n);
        break;
    }
    if (!ok) {
        return false;
    }
    if (option->type == PROC_BYTES_U64) {
        *(uint64_t *)field = n;
    } else if (option->type == PROC_NS) {
        *(uint64_t *)field = n * NS_PER_MS;
    } else if (option->type == PROC_SECONDS_U32) {
        *(uint32_t *)field = (uint32_t)(n / 1000);
    } else {
        *(uint32_t *)field = (uint32_t)MIN(n, UINT32_MAX);
    }
    return true;
}

static bool set_value(void *config, const struct proc_option *option, const char *text) {
    void *field = (char *)config + option->offset;
    bool flag = false;
    switch (option->type) {
    case PROC_TEXT:
        *(const char **)field = text;
        return true;
    case PROC_BOOL:
        return parse_bool(text, field);
    case PROC_TRISTATE:
        if (!parse_bool(text, &flag)) {
            return false;
        }
        *(int *)field = flag;
        return true;
    case PROC_ADDR:
        return addr_parse(slice_str(text), field);
    case PROC_COMPLIANCE:
        return parse_compliance(text, field);
    case PROC_IO:
        return parse_io(text, field);
    case PROC_THREADS:
        return parse_threads(text, field);
    case PROC_CPUS:
        return parse_cpus(text, field);
    default:
        return set_number(option, field, text);
    }
}

// ---- sources of values -------------------------------------------------------------------------

void proc_options_grace(uint32_t *ret_ms) {
    const char *grace = getenv("TERMINATION_GRACE_PERIOD_SECONDS");
    uint64_t seconds = 0;
    if (grace != NULL && slice_to_u64(slice_str(grace), 86400, &seconds)) {
        seconds = seconds > 10 ? seconds - 5 : seconds > 2 ? seconds - 1 : 1;
        *ret_ms = (uint32_t)seconds * 1000;
    }
}

static bool from_environment(const struct proc_program *program, void *config) {
    for (size_t i = 0; i < program->n_options; i++) {
        const struct proc_option *option = &program->options[i];
        const char *text = option->env != NULL ? getenv(option->env) : NULL;
        if (text == NULL || *text == 0) {
            continue;
        }
        if (!set_value(config, option, text)) {
            fprintf(stderr, "%s: environment %s: \"%s\" is not a valid value\n", program->name,
                    option->env, text);
            return false;
        }
    }
    return true;
}

static void print_help(const struct proc_program *program) {
    printf("%s %s: %s\n\nusage: %s %s [OPTION]...\n\n%s\n", program->name, ZTUN_VERSION_FULL,
           program->what, program->name, program->usage, program->heading);
    for (size_t i = 0; i < program->n_options; i++) {
        const struct proc_option *option = &program->options[i];
        if (option->flag == NULL) {
            continue;
        }
        char left[64];
        snprintf(left, sizeof(left), "--%s=%s", option->flag, option->arg);
        printf("  %-34s %s%s%s%s\n", left, option->help != NULL ? option->help : "",
               option->env != NULL ? " [" : "", option->env != NULL ? option->env : "",
               option->env != NULL ? "]" : "");
    }
    printf("  %-34s %s\n  %-34s %s\n", "--help", "this text", "--version", "the version");
}

static const struct proc_option *find_flag(const struct proc_program *program, const char *name,
                                           size_t len) {
    for (size_t i = 0; i < program->n_options; i++) {
        const char *flag = program->options[i].flag;
        if (flag != NULL && strlen(flag) == len && memcmp(flag, name, len) == 0) {
            return &program->options[i];
        }
    }
    return NULL;
}

// Where the flags begin.
static int skip_words(const struct proc_program *program, int argc, char **argv) {
    size_t n = 0;
    while (n < program->n_words && (int)n + 1 < argc &&
           strcmp(argv[n + 1], program->words[n]) == 0) {
        n++;
    }
    return (int)n + 1;
}

static int from_flags(const struct proc_program *program, void *config, int argc, char **argv) {
    for (int i = skip_words(program, argc, argv); i < argc; i++) {
        const char *arg = argv[i];
        if (strcmp(arg, "--help") == 0 || strcmp(arg, "-h") == 0) {
            print_help(program);
            return 1;
        }
        if (strcmp(arg, "--version") == 0) {
            printf("%s %s\n", program->name, ZTUN_VERSION_FULL);
            return 1;
        }
        const char *eq = strchr(arg, '=');
        size_t len = eq != NULL ? (size_t)(eq - arg) : strlen(arg);
        const struct proc_option *option =
            strncmp(arg, "--", 2) == 0 ? find_flag(program, arg + 2, len - 2) : NULL;
        if (option == NULL) {
            fprintf(stderr, "%s: unknown argument \"%s\" (see %s --help)\n", program->name, arg,
                    program->name);
            return 2;
        }
        const char *value = eq != NULL ? eq + 1 : i + 1 < argc ? argv[++i] : NULL;
        if (value == NULL || !set_value(config, option, value)) {
            fprintf(stderr, "%s: --%s: %s%s%s, expected %s\n", program->name, option->flag,
                    value != NULL ? "\"" : "", value != NULL ? value : "no value",
                    value != NULL ? "\" is not valid" : "", option->arg);
            return 2;
        }
    }
    return 0;
}

int proc_options_parse(const struct proc_program *program, void *config, int argc, char **argv) {
    return from_environment(program, config) ? from_flags(program, config, argc, argv) : 2;
}

bool proc_options_headers(const char *program, const char *prefix, struct http_field **ret_fields,
                          size_t *ret_n_fields) {
    struct http_field *fields = NULL;
    size_t n = 0;
    for (char **env = environ; *env != NULL; env++) {
        struct slice name, value;
        if (!slice_has_prefix(slice_str(*env), slice_str(prefix)) ||
            !slice_split(slice_skip(slice_str(*env), strlen(prefix)), '=', &name, &value)) {
            continue;
        }
        char *lower = slice_dup(name);
        for (size_t i = 0; i < name.len; i++) {
            lower[i] = (char)(lower[i] >= 'A' && lower[i] <= 'Z' ? lower[i] | 0x20 : lower[i]);
        }
        if (!http_rules_is_name(slice_str(lower)) || http_rules_is_hop_by_hop(slice_str(lower)) ||
            !http_rules_is_value(value) || n == HEADERS_MAX) {
            fprintf(stderr, "%s: %s%.*s: no field of a request, or more than %d of them\n", program,
                    prefix, SLICE_ARG(name), HEADERS_MAX);
            free(lower);
            return false;
        }
        fields = xrealloc(fields, (n + 1) * sizeof(*fields));
        fields[n++] = (struct http_field){.name = slice_str(lower), .value = value};
    }
    *ret_fields = fields;
    *ret_n_fields = n;
    return true;
}

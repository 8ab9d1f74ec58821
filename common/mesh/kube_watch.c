// SPDX-License-Identifier: Apache-2.0
#include "common/mesh/kube_watch.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/obs/metrics.h"

enum {
    SHORT_WATCH_MS = 1000, // one that ends sooner without a word is a failure
    PAUSE_MS = 500, // before the next one, when it was short and said something
    CALM_FAILURES = 3, // a list or a watch that fails after a good answer waits some seconds
    SOON_MS = 5000, // a list that is too old again within that waits, as after a failure
};

const char *kube_event_text(enum kube_event event) {
    static const char *const texts[] = {"ADDED", "MODIFIED", "DELETED", "BOOKMARK", "ERROR"};
    return texts[event];
}

const char *kube_watch_state_text(enum kube_watch_state state) {
    static const char *const texts[] = {"listing", "watching", "waiting", "absent"};
    return texts[state];
}

static struct kube_watch *of(struct kube_request *request) {
    return CONTAINER_OF(request, struct kube_watch, request);
}

// ---- requests ----------------------------------------------------------------------------------

static struct slice nth_version(const struct kube_watch *watch, uint32_t index) {
    struct slice rest = slice_str(watch->params.versions), head = rest;
    for (uint32_t i = 0; i <= index; i++) {
        if (!slice_split(rest, ' ', &head, &rest)) {
            head = rest;
            rest = (struct slice){0};
        }
    }
    return head;
}

static void add_path(const struct kube_watch *watch, struct buf *path) {
    const struct kube_watch_params *params = &watch->params;
    buf_printf(path, "%s%s/%s", params->group[0] != '\0' ? "/apis/" : "/api", params->group,
               watch->version);
    if (params->ns != NULL) {
        buf_printf(path, "/namespaces/%s", params->ns);
    }
    buf_printf(path, "/%s", params->plural);
    if (params->name != NULL) {
        char selector[300];
        snprintf(selector, sizeof(selector), "metadata.name=%s", params->name);
        kube_query_add(path, "fieldSelector", selector);
    }
}

static void add_list(const struct kube_watch *watch, struct buf *path) {
    char limit[16];
    snprintf(limit, sizeof(limit), "%u", watch->params.page_limit);
    if (watch->n_gone < 2) { // else in one piece, which cannot grow old
        kube_query_add(path, "limit", limit);
    }
    if (watch->page != NULL) {
        kube_query_add(path, "continue", watch->page); // has its version in it
    } else if (watch->n_gone == 0) {
        bool is_known = watch->resource_version[0] != '\0';
        kube_query_add(path, "resourceVersion", is_known ? watch->resource_version : "0");
    } // else what the store has, whatever is known
}

static void add_watch(const struct kube_watch *watch, struct buf *path, uint64_t seconds) {
    char timeout[24];
    snprintf(timeout, sizeof(timeout), "%llu", (unsigned long long)seconds);
    kube_query_add(path, "watch", "1");
    kube_query_add(path, "allowWatchBookmarks", "true");
    kube_query_add(path, "resourceVersion", watch->resource_version);
    kube_query_add(path, "timeoutSeconds", timeout);
}

static void set_state(struct kube_watch *watch, enum kube_watch_state state) {
    if (watch->state != state) {
        watch->state = state;
        watch->changed_at = watch->params.loop->now;
    }
    if (watch->params.ops->changed != NULL) {
        watch->params.ops->changed(watch);
    }
}

static void close_split(struct kube_watch *watch) {
    if (watch->is_open) {
        kube_split_fini(&watch->split);
        watch->is_open = false;
    }
}

static void open_request(struct kube_watch *watch) {
    const struct kube_watch_params *params = &watch->params;
    struct slice version = nth_version(watch, watch->version_index);
    uint64_t timeout_ms = params->list_ms;
    struct buf path;
    snprintf(watch->version, sizeof(watch->version), "%.*s", SLICE_ARG(version));
    buf_init(&path, 64 << 10);
    add_path(watch, &path);
    if (watch->is_watch) {
        uint64_t seconds = rand_range(params->rand, params->watch_s, 2 * (uint64_t)params->watch_s);
        add_watch(watch, &path, seconds);
        timeout_ms = seconds * 1000 + params->grace_ms;
        watch->n_watches++;
    } else {
        add_list(watch, &path);
    }
    struct kube_request_params request = {
        .method = "GET", .path = buf_cstr(&path), .timeout_ms = timeout_ms};
    kube_split_init(&watch->split, watch->is_watch ? KUBE_SPLIT_EVENTS : KUBE_SPLIT_LIST,
                    KUBE_ANSWER_MAX);
    watch->is_open = true;
    watch->broken = KUBE_OK;
    watch->has_news = false;
    watch->opened_at = params->loop->now;
    kube_request_open(&watch->request, params->client, &request);
    buf_fini(&path);
}

// ---- what follows ------------------------------------------------------------------------------

static void go_on(struct kube_watch *watch, uint64_t delay_ms) {
    timer_set(&watch->params.loop->timers, &watch->timer,
              watch->params.loop->now + delay_ms * NS_PER_MS);
}

static void on_timer(struct timer *timer, uint64_t now) {
    struct kube_watch *watch = CONTAINER_OF(timer, struct kube_watch, timer);
    if (!watch->is_watch) {
        if (!watch->has_begun) {
            watch->has_begun = true;
            watch->params.ops->begin(watch);
        }
        if (watch->state != KUBE_WATCH_WAITING && watch->state != KUBE_WATCH_ABSENT) {
            set_state(watch, KUBE_WATCH_LISTING); // else the problem is told until it is solved
        }
    }
    open_request(watch);
}

static void drop_page(struct kube_watch *watch) {
    free(watch->page);
    watch->page = NULL;
}

static void list_again(struct kube_watch *watch) {
    drop_page(watch);
    watch->is_watch = watch->has_begun = false;
}

static void failed(struct kube_watch *watch, const struct kube_result *result, const char *text) {
    struct slice labels[] = {slice_str(watch->params.plural),
                             slice_str(kube_outcome_label(result->outcome))};
    metric_count(METRIC_KUBE_FAILURES, labels, 1, watch->params.loop->now);
    watch->n_failures++;
    watch->outcome = result->outcome;
    snprintf(watch->problem, sizeof(watch->problem), "%s", text);
    go_on(watch, kube_backoff_ms(&watch->backoff, watch->params.rand, result->retry_after_ms));
    set_state(watch, KUBE_WATCH_WAITING);
}

// 410: no failure, unless it is the answer again and again.
static void gone(struct kube_watch *watch, const struct kube_result *result) {
    uint64_t now = watch->params.loop->now;
    bool is_soon = watch->n_lists > 0 && now - watch->listed_at < SOON_MS * NS_PER_MS;
    list_again(watch);
    if (++watch->n_gone > 2 || is_soon) {
        failed(watch, result, result->text);
    } else {
        go_on(watch, 0);
    }
}

// The server answers; whether what it says lasts is to be seen.
static void calm_down(struct kube_watch *watch) {
    watch->problem[0] = '\0';
    watch->backoff.n_failures = MIN(watch->backoff.n_failures, (uint32_t)CALM_FAILURES);
}

static void end_list(struct kube_watch *watch) {
    watch->has_synced = true;
    watch->has_begun = false;
    watch->params.ops->end(watch);
}

// 404: another version of the API, or there is none.
static void missing(struct kube_watch *watch, const struct kube_result *result) {
    bool is_last = nth_version(watch, watch->version_index + 1).len == 0;
    drop_page(watch);
    watch->is_watch = false;
    watch->version_index = is_last ? 0 : watch->version_index + 1;
    if (!is_last) {
        go_on(watch, 0);
        return;
    }
    if (++watch->n_missing < 2 && watch->was_there) { // a server that has just started?
        failed(watch, result, result->text);
        return;
    }
    watch->was_there = false;
    watch->resource_version[0] = '\0';
    watch->backoff.n_failures = 0;
    watch->problem[0] = '\0';
    if (watch->state != KUBE_WATCH_ABSENT) {
        end_list(watch);
    }
    uint64_t absent_ms = watch->params.absent_ms;
    go_on(watch, absent_ms / 2 + rand_below(watch->params.rand, absent_ms / 2 + 1));
    set_state(watch, KUBE_WATCH_ABSENT);
}

// ---- objects -----------------------------------------------------------------------------------

static void break_off(struct kube_watch *watch, const char *text) {
    watch->broken = KUBE_BROKEN;
    snprintf(watch->broken_text, sizeof(watch->broken_text), "%s", text);
    kube_request_cancel(&watch->request);
}

// One JSON text. False: it is none.
static bool parse(struct kube_watch *watch, struct slice json, struct cfg_node *ret_root) {
    struct config_doc_reader reader;
    struct config_errors errors;
    config_errors_init(&errors);
    config_doc_reader_init(&reader, watch->params.plural, json, CONFIG_JSON, NULL);
    bool is_good = config_doc_next(&reader, watch->params.scratch, &errors, ret_root) > 0 &&
                   ret_root->type == CFG_MAP;
    config_errors_fini(&errors);
    return is_good;
}

// Items of a list lack what the list says for all of them.
static void set_item(struct kube_watch *watch, const struct cfg_node *item) {
    char api_version[128];
    snprintf(api_version, sizeof(api_version), "%s%s%s", watch->params.group,
             watch->params.group[0] != '\0' ? "/" : "", watch->version);
    struct cfg_pair *pairs = xcalloc(item->n + 2, sizeof(*pairs));
    struct cfg_node whole = *item;
    const struct {
        const char *key, *value;
    } added[] = {{"apiVersion", api_version}, {"kind", watch->params.kind}};
    uint32_t n = 0;
    for (size_t i = 0; i < ARRAY_LEN(added); i++) {
        if (cfg_get(item, added[i].key) == NULL) {
            struct cfg_node key = {.type = CFG_STRING, .text = added[i].key};
            struct cfg_node value = {.type = CFG_STRING, .text = added[i].value};
            key.n = (uint32_t)strlen(key.text);
            value.n = (uint32_t)strlen(value.text);
            pairs[n++] = (struct cfg_pair){key, value};
        }
    }
    for (uint32_t i = 0; i < item->n; i++) {
        pairs[n++] = item->pairs[i];
    }
    whole.pairs = pairs;
    whole.n = n;
    watch->params.ops->set(watch, &whole);
    free(pairs);
}

static const char *version_of(const struct cfg_node *object) {
    return cfg_str(cfg_get(cfg_get(object, "metadata"), "resourceVersion"), "");
}

static void know_version(struct kube_watch *watch, const char *version) {
    if (version[0] != '\0') {
        snprintf(watch->resource_version, sizeof(watch->resource_version), "%s", version);
    }
}

// Versions are opaque, but those of the API server itself are numbers that grow.
static bool is_stale(const struct kube_watch *watch, const char *version) {
    uint64_t seen = 0, known = 0;
    return slice_to_u64(slice_str(version), UINT64_MAX, &seen) &&
           slice_to_u64(slice_str(watch->resource_version), UINT64_MAX, &known) && seen < known;
}

bool kube_watch_read_event(const struct cfg_node *root, enum kube_event *ret_event,
                           const struct cfg_node **ret_object) {
    const struct cfg_node *object = cfg_get(root, "object");
    const char *type = cfg_str(cfg_get(root, "type"), "");
    for (int i = 0; i < KUBE_N_EVENTS; i++) {
        if (object != NULL && object->type == CFG_MAP && strcmp(type, kube_event_text(i)) == 0) {
            *ret_event = (enum kube_event)i;
            *ret_object = object;
            return true;
        }
    }
    return false;
}

static void take_error(struct kube_watch *watch, const struct cfg_node *status) {
    int64_t code = 0;
    (void)cfg_to_int(cfg_get(status, "code"), &code);
    const char *reason = cfg_str(cfg_get(status, "reason"), "");
    bool is_gone = code == 410 || strcmp(reason, "Expired") == 0 || strcmp(reason, "Gone") == 0;
    char text[200];
    snprintf(text, sizeof(text), "the watch ended with %lld %s: %s", (long long)code, reason,
             cfg_str(cfg_get(status, "message"), ""));
    break_off(watch, text);
    watch->broken = is_gone ? KUBE_GONE : KUBE_BUSY;
}

static void take_event(struct kube_watch *watch, const struct cfg_node *root) {
    enum kube_event event = KUBE_ERROR;
    const struct cfg_node *object = NULL;
    if (!kube_watch_read_event(root, &event, &object)) {
        break_off(watch, "what came is no event of a watch");
        return;
    }
    struct slice labels[] = {slice_str(watch->params.plural), slice_str(kube_event_text(event))};
    metric_count(METRIC_KUBE_EVENTS, labels, 1, watch->params.loop->now);
    watch->n_events[event]++;
    if (event == KUBE_ERROR) {
        take_error(watch, object);
        return;
    }
    const char *version = version_of(object);
    if (is_stale(watch, version)) {
        watch->n_stale++;
        return;
    }
    know_version(watch, version);
    watch->has_news = true;
    watch->n_gone = 0;
    if (event == KUBE_DELETED) {
        watch->params.ops->del(watch, object);
    } else if (event != KUBE_BOOKMARK) {
        watch->params.ops->set(watch, object);
    }
}

// The list without its items: where it goes on.
static void take_rest(struct kube_watch *watch, const struct cfg_node *root) {
    const struct cfg_node *metadata = cfg_get(root, "metadata");
    const char *next = cfg_str(cfg_get(metadata, "continue"), "");
    drop_page(watch);
    if (next[0] != '\0') {
        watch->page = xstrdup(next);
        return;
    }
    snprintf(watch->resource_version, sizeof(watch->resource_version), "%s", version_of(root));
    watch->is_watch = true;
}

static void take(struct kube_watch *watch, enum kube_split_step step, struct slice json) {
    struct cfg_node root;
    if (!parse(watch, json, &root)) {
        break_off(watch, "what came is not JSON");
    } else if (watch->split.mode == KUBE_SPLIT_EVENTS) {
        take_event(watch, &root);
    } else if (step == KUBE_SPLIT_OBJECT) {
        set_item(watch, &root);
    } else {
        take_rest(watch, &root);
    }
    arena_reset(watch->params.scratch);
}

// ---- answers -----------------------------------------------------------------------------------

static void conclude(struct kube_watch *watch, const struct kube_result *result);

// After break_off within an answer, which has no on_done.
static void conclude_broken(struct kube_watch *watch) {
    char text[KUBE_TEXT_MAX];
    snprintf(text, sizeof(text), "%s of %s: %s", watch->is_watch ? "watch" : "list",
             watch->params.plural, watch->broken_text);
    struct kube_result result = {.outcome = watch->broken, .reason = "", .text = text};
    conclude(watch, &result);
}

static void on_bytes(struct kube_request *request, struct slice bytes) {
    struct kube_watch *watch = of(request);
    enum kube_split_step step = KUBE_SPLIT_MORE;
    struct slice json;
    while (watch->broken == KUBE_OK &&
           (step = kube_split_next(&watch->split, &bytes, &json)) != KUBE_SPLIT_MORE) {
        if (step == KUBE_SPLIT_BROKEN) {
            break_off(watch, "what came is no answer of the API");
        } else if (step == KUBE_SPLIT_TOO_LARGE) {
            break_off(watch, "an object is too large");
        } else {
            take(watch, step, json);
        }
    }
    if (watch->broken != KUBE_OK) {
        conclude_broken(watch);
    }
}

static void list_ended(struct kube_watch *watch) {
    if (!watch->is_watch) {
        go_on(watch, 0); // the next page
        return;
    }
    struct slice label = slice_str(watch->params.plural);
    metric_count(METRIC_KUBE_LISTS, &label, 1, watch->params.loop->now);
    watch->n_lists++;
    watch->n_missing = 0;
    watch->was_there = true;
    calm_down(watch);
    watch->listed_at = watch->params.loop->now;
    end_list(watch);
    go_on(watch, 0);
    set_state(watch, KUBE_WATCH_WATCHING);
}

static bool has_lived(const struct kube_watch *watch) {
    uint64_t lived = watch->params.loop->now - watch->opened_at;
    return lived >= SHORT_WATCH_MS * NS_PER_MS;
}

static void watch_ended(struct kube_watch *watch, const struct kube_result *result) {
    bool is_long = has_lived(watch);
    if (!kube_split_is_between(&watch->split)) {
        failed(watch, result, "the watch ended within an event");
    } else if (watch->has_news || is_long) {
        watch->n_gone = 0;
        go_on(watch, is_long ? 0 : PAUSE_MS);
    } else {
        failed(watch, result, "the watch ended at once");
    }
}

static void list_failed(struct kube_watch *watch, const struct kube_result *result) {
    watch->is_watch = false;
    failed(watch, result,
           result->outcome == KUBE_OK ? "the list ended before it was whole" : result->text);
}

static bool is_too_new(const struct kube_result *result) {
    return strstr(result->text, "oo large resource version") != NULL;
}

// A version that the server does not have (it was restored), or what cannot be read.
static bool is_lost(const struct kube_result *result) {
    return is_too_new(result) || result->outcome == KUBE_INVALID || result->outcome == KUBE_BROKEN;
}

static void conclude(struct kube_watch *watch, const struct kube_result *result) {
    bool is_list = watch->split.mode == KUBE_SPLIT_LIST;
    bool is_whole = is_list && kube_split_is_between(&watch->split);
    if (watch->has_news || (!is_list && result->status == 200 && has_lived(watch))) {
        watch->backoff.n_failures = 0;
    }
    if (is_whole && (result->outcome == KUBE_OK || result->outcome == KUBE_UNREACHABLE)) {
        list_ended(watch);
    } else if (result->outcome == KUBE_GONE) {
        gone(watch, result);
    } else if (result->outcome == KUBE_NOT_FOUND) {
        missing(watch, result);
    } else if (is_lost(result)) {
        watch->n_gone = MAX(watch->n_gone, 1u);
        list_again(watch);
        failed(watch, result, result->text);
    } else if (is_list) {
        list_failed(watch, result);
    } else if (result->outcome == KUBE_OK) {
        watch_ended(watch, result);
    } else {
        failed(watch, result, result->text);
    }
    close_split(watch);
}

// A watch that is accepted; a quiet one says nothing for long.
static void on_good(struct kube_request *request) {
    struct kube_watch *watch = of(request);
    if (watch->is_watch && watch->state == KUBE_WATCH_WAITING) {
        calm_down(watch);
        set_state(watch, KUBE_WATCH_WATCHING);
    }
}

static void on_done(struct kube_request *request, const struct kube_result *result) {
    conclude(of(request), result);
}

// ---- life --------------------------------------------------------------------------------------

void kube_watch_init(struct kube_watch *watch, const struct kube_watch_params *params) {
    static const struct kube_request_events events = {
        .on_good = on_good, .on_bytes = on_bytes, .on_done = on_done};
    *watch = (struct kube_watch){.params = *params, .changed_at = params->loop->now};
    timer_init(&watch->timer, on_timer);
    kube_request_init(&watch->request, &events);
}

void kube_watch_start(struct kube_watch *watch) {
    go_on(watch, 0);
}

void kube_watch_fini(struct kube_watch *watch) {
    timer_clear(&watch->params.loop->timers, &watch->timer);
    kube_request_cancel(&watch->request);
    close_split(watch);
    drop_page(watch);
}

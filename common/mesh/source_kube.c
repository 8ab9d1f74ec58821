// SPDX-License-Identifier: Apache-2.0
#include "common/mesh/source_kube.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/hash.h"
#include "common/base/hmap.h"
#include "common/mesh/kobj_kind.h"
#include "common/mesh/kobj_l7.h"
#include "common/obs/metrics.h"

enum {
    SCRATCH_MAX = 1 << 30,
    SECRETS_MS = 3000, // for which rules wait for their Secrets
};

enum scope { SCOPE_ALL, SCOPE_SERVED, SCOPE_NAMED };

// Only warned of.
static const struct kobj_type request_auth = {
    .kind = KOBJ_WAYPOINT,
    .group = "security.istio.io",
    .name = "RequestAuthentication",
    .plural = "requestauthentications",
    .versions = "v1 v1beta1",
};
static const struct kobj_type telemetry = {
    .kind = KOBJ_WAYPOINT,
    .group = "telemetry.istio.io",
    .name = "Telemetry",
    .plural = "telemetries",
    .versions = "v1 v1alpha1",
};

static const struct kube_kind {
    enum kobj_kind kind;
    enum scope scope;
    const struct kobj_type *type; // NULL: that of the kind
    const char *without; // what is missing when it is refused; NULL: it is essential
} kinds[] = {
    {KOBJ_NAMESPACE, SCOPE_ALL, NULL, NULL},
    {KOBJ_NODE, SCOPE_ALL, NULL, "zones of endpoints and addresses of nodes are not known"},
    {KOBJ_POD, SCOPE_ALL, NULL, NULL},
    {KOBJ_SERVICE, SCOPE_ALL, NULL, NULL},
    {KOBJ_ENDPOINT_SLICE, SCOPE_ALL, NULL, NULL},
    {KOBJ_SERVICE_ENTRY, SCOPE_ALL, NULL, NULL},
    {KOBJ_WORKLOAD_ENTRY, SCOPE_ALL, NULL, NULL},
    {KOBJ_GATEWAY, SCOPE_ALL, NULL, NULL},
    {KOBJ_GATEWAY_CLASS, SCOPE_ALL, NULL, "labels and annotations of classes do not count"},
    {KOBJ_REFERENCE_GRANT, SCOPE_ALL, NULL, "no route may use Services of other namespaces"},
    {KOBJ_DESTINATION_RULE, SCOPE_ALL, NULL, NULL},
    {KOBJ_PEER_AUTHENTICATION, SCOPE_ALL, NULL, NULL},
    {KOBJ_VIRTUAL_SERVICE, SCOPE_SERVED, NULL, NULL},
    {KOBJ_HTTP_ROUTE, SCOPE_SERVED, NULL, NULL},
    {KOBJ_GRPC_ROUTE, SCOPE_SERVED, NULL, NULL},
    {KOBJ_AUTHORIZATION_POLICY, SCOPE_SERVED, NULL, NULL},
    {KOBJ_WAYPOINT, SCOPE_SERVED, &request_auth, "it is not told where they are not in force"},
    {KOBJ_WAYPOINT, SCOPE_SERVED, &telemetry, "it is not told where they are not in force"},
    {KOBJ_CONFIG_MAP, SCOPE_NAMED, NULL, NULL},
    {KOBJ_SECRET, SCOPE_NAMED, NULL, NULL},
};

enum told { TOLD_ABSENT, TOLD_REFUSED, N_TOLD };

struct kube_stream { // one watch and what it feeds
    struct kube_watch watch;
    struct source_kube *source;
    struct list node; // source_kube.streams
    char *ns, *name; // NULL: all
    const char *without; // of its kind
    char *file; // in the store: "kubernetes:pods", "kubernetes:httproutes/shop"
    bool is_needed; // for the first batch
    bool is_wanted; // a Secret that is still referred to
    bool is_failure_told;
    bool is_told[N_TOLD]; // the same for all of a kind
    enum kube_watch_state counted; // in the metrics
};

struct problem { // an object that has some
    struct hmap_node node; // by the hash of its id
    struct kube_stream *stream;
    bool is_stale; // not seen since the list began
    uint64_t version; // of what came
    struct config_errors errors;
};

struct source_kube {
    struct source_kube_params params;
    char *ns, *root_ns;
    struct config_store *store;
    struct list streams;
    struct hmap problems;
    struct config_errors news;
    struct arena scratch;
    struct rand rand;
    struct timer timer; // end of the batch
    uint64_t batch_at; // when it began; 0: there is none
    uint64_t n_batches, n_problems; // ever
    uint64_t secrets_at; // when one was looked for that is new
    struct metric_series *states[KUBE_WATCH_N_STATES];
    bool is_away_told;
    bool has_new_rules; // in this batch: they may name other Secrets
    bool is_synced;
};

static struct kube_stream *of(struct kube_watch *watch) {
    return CONTAINER_OF(watch, struct kube_stream, watch);
}

// ---- batches -----------------------------------------------------------------------------------

static void open_batch(struct source_kube *s) {
    uint64_t now = s->params.loop->now;
    if (s->batch_at == 0) {
        s->batch_at = MAX(now, 1u);
        config_store_begin(s->store);
    }
    uint64_t last = s->batch_at + SOURCE_KUBE_BATCH_MS * NS_PER_MS;
    timer_set(&s->params.loop->timers, &s->timer,
              MIN(now + SOURCE_KUBE_SETTLE_MS * NS_PER_MS, last));
}

static bool is_excused(const struct kube_stream *stream) {
    return stream->without != NULL && !stream->watch.has_synced &&
           stream->watch.state == KUBE_WATCH_WAITING && stream->watch.outcome == KUBE_FORBIDDEN;
}

static bool is_all_read(const struct source_kube *s) {
    for (const struct list *node = s->streams.next; node != &s->streams; node = node->next) {
        const struct kube_stream *stream = LIST_ITEM(node, struct kube_stream, node);
        if (stream->is_needed && !stream->watch.has_synced && !is_excused(stream)) {
            return false;
        }
    }
    return true;
}

static void want_secrets(struct source_kube *s);

// Rules and the Secrets that they name come together, unless these cannot be had.
static bool waits_for_secrets(const struct source_kube *s, uint64_t now) {
    bool is_waiting = false;
    for (const struct list *node = s->streams.next; node != &s->streams; node = node->next) {
        const struct kube_stream *stream = LIST_ITEM(node, struct kube_stream, node);
        is_waiting = is_waiting || (!stream->is_needed && !stream->watch.has_synced &&
                                    stream->watch.state != KUBE_WATCH_WAITING);
    }
    return is_waiting && now < s->secrets_at + SECRETS_MS * NS_PER_MS;
}

static void end_batch(struct timer *timer, uint64_t now) {
    struct source_kube *s = CONTAINER_OF(timer, struct source_kube, timer);
    if (!s->is_synced && !is_all_read(s)) {
        return; // the last list ends it
    }
    if (s->has_new_rules) {
        s->has_new_rules = false;
        want_secrets(s);
    }
    if (waits_for_secrets(s, now)) {
        timer_set(&s->params.loop->timers, timer, now + SOURCE_KUBE_SETTLE_MS * NS_PER_MS);
        return;
    }
    s->is_synced = true;
    metric_set(METRIC_KUBE_SYNCED, 1);
    s->batch_at = 0;
    timer_clear(&s->params.loop->timers, timer);
    s->n_batches++;
    s->params.on_batch(s->params.arg, config_store_commit(s->store));
    config_errors_clear(&s->news);
}

// ---- problems ----------------------------------------------------------------------------------

static struct problem *find_problem(struct source_kube *s, uint64_t hash) {
    struct hmap_node *node = hmap_find(&s->problems, hash);
    return node != NULL ? HMAP_ITEM(node, struct problem, node) : NULL;
}

static void drop_problem(struct source_kube *s, struct problem *problem) {
    if (problem != NULL) {
        hmap_remove(&s->problems, &problem->node);
        config_errors_fini(&problem->errors);
        free(problem);
    }
}

static bool has_error(const struct config_errors *errors, const struct config_error *error) {
    for (uint32_t i = 0; i < errors->n; i++) {
        if (strcmp(errors->items[i].path, error->path) == 0 &&
            strcmp(errors->items[i].text, error->text) == 0) {
            return true;
        }
    }
    return false;
}

// Takes the errors; those that the object did not have before are news.
static void note_problem(struct kube_stream *stream, uint64_t hash, struct config_errors *errors) {
    struct source_kube *s = stream->source;
    struct problem *problem = find_problem(s, hash);
    for (uint32_t i = 0; i < errors->n; i++) {
        errors->items[i].line = errors->items[i].col = 0; // a place in what nobody has seen
        if (problem == NULL || !has_error(&problem->errors, &errors->items[i])) {
            config_errors_add(&s->news, &errors->items[i]);
        }
    }
    drop_problem(s, problem);
    if (errors->n == 0) {
        config_errors_fini(errors);
        return;
    }
    problem = xcalloc(1, sizeof(*problem));
    problem->stream = stream;
    problem->version = ++s->n_problems;
    problem->errors = *errors;
    hmap_insert(&s->problems, &problem->node, hash);
}

static void mark_problems(struct kube_stream *stream) {
    HMAP_EACH_SAFE(pos, &stream->source->problems) {
        struct problem *problem = HMAP_ITEM(pos, struct problem, node);
        problem->is_stale = problem->is_stale || problem->stream == stream;
    }
}

static void sweep_problems(struct kube_stream *stream, bool is_all) {
    HMAP_EACH_SAFE(pos, &stream->source->problems) {
        struct problem *problem = HMAP_ITEM(pos, struct problem, node);
        if (problem->stream == stream && (problem->is_stale || is_all)) {
            drop_problem(stream->source, problem);
        }
    }
}

// ---- objects -----------------------------------------------------------------------------------

static bool is_rule(const struct kube_stream *stream) {
    return strcmp(stream->watch.params.plural, "destinationrules") == 0;
}

static void on_begin(struct kube_watch *watch) {
    struct kube_stream *stream = of(watch);
    config_store_mark(stream->source->store, stream->file);
    mark_problems(stream);
}

static void on_set(struct kube_watch *watch, const struct cfg_node *object) {
    struct kube_stream *stream = of(watch);
    struct source_kube *s = stream->source;
    struct config_errors errors;
    struct kobj_id id;
    config_errors_init(&errors);
    struct kobj *obj = kobj_decode(object, stream->file, s->params.kobj_flags | KOBJ_FROM_API,
                                   &s->scratch, &errors);
    bool has_id = kobj_id_of(object, &id);
    open_batch(s);
    s->has_new_rules = s->has_new_rules || is_rule(stream);
    if (obj != NULL && has_id) {
        config_store_put(s->store, stream->file, obj);
    } else if (has_id) {
        (void)config_store_keep(s->store, stream->file, &id);
    }
    note_problem(stream, has_id ? kobj_id_hash(&id) : 0, &errors);
    kobj_unref(obj);
}

static void on_del(struct kube_watch *watch, const struct cfg_node *object) {
    struct kube_stream *stream = of(watch);
    struct source_kube *s = stream->source;
    struct kobj_id id;
    if (kobj_id_of(object, &id)) {
        open_batch(s);
        s->has_new_rules = s->has_new_rules || is_rule(stream);
        config_store_remove(s->store, stream->file, &id);
        drop_problem(s, find_problem(s, kobj_id_hash(&id)));
    }
}

static void on_end(struct kube_watch *watch) {
    struct kube_stream *stream = of(watch);
    open_batch(stream->source);
    stream->source->has_new_rules = stream->source->has_new_rules || is_rule(stream);
    config_store_sweep(stream->source->store, stream->file);
    sweep_problems(stream, false);
}

// ---- notices -----------------------------------------------------------------------------------

static void tell(struct kube_stream *stream, enum source_kube_notice notice) {
    const struct source_kube *s = stream->source;
    s->params.on_notice(s->params.arg, notice, &stream->watch,
                        notice == SOURCE_KUBE_REFUSED ? stream->without : "");
}

// Of all watches of the kind (one for each served namespace). Returns whether it was told before.
static bool set_told(struct kube_stream *stream, enum told what, bool is_told) {
    struct source_kube *s = stream->source;
    bool was_told = false;
    for (struct list *node = s->streams.next; node != &s->streams; node = node->next) {
        struct kube_stream *other = LIST_ITEM(node, struct kube_stream, node);
        if (strcmp(other->watch.params.plural, stream->watch.params.plural) == 0) {
            was_told = was_told || other->is_told[what];
            other->is_told[what] = is_told;
        }
    }
    return was_told;
}

static void excuse(struct kube_stream *stream) {
    struct source_kube *s = stream->source;
    if (!set_told(stream, TOLD_REFUSED, true)) {
        tell(stream, SOURCE_KUBE_REFUSED);
    }
    if (!s->is_synced) {
        open_batch(s); // it may have been the last one that was waited for
    }
}

static void tell_failure(struct kube_stream *stream) {
    struct source_kube *s = stream->source;
    const struct kube_watch *watch = &stream->watch;
    bool is_server = watch->outcome == KUBE_UNREACHABLE || watch->outcome == KUBE_UNAUTHORIZED;
    bool *is_told = is_server ? &s->is_away_told : &stream->is_failure_told;
    bool is_lasting = watch->backoff.n_failures > 1 || !watch->has_synced;
    if (is_lasting && !*is_told) {
        *is_told = true;
        tell(stream, is_server ? SOURCE_KUBE_AWAY : SOURCE_KUBE_FAILS);
    }
}

static void tell_success(struct kube_stream *stream) {
    struct source_kube *s = stream->source;
    if (s->is_away_told) {
        s->is_away_told = false;
        tell(stream, SOURCE_KUBE_BACK);
    }
    bool was_refused = stream->is_told[TOLD_REFUSED] && set_told(stream, TOLD_REFUSED, false);
    if (stream->is_failure_told || was_refused) {
        stream->is_failure_told = false;
        tell(stream, SOURCE_KUBE_WORKS);
    }
    if (stream->is_told[TOLD_ABSENT]) {
        (void)set_told(stream, TOLD_ABSENT, false);
        tell(stream, SOURCE_KUBE_FOUND);
    }
}

static void count_state(struct kube_stream *stream, int sign) {
    struct metric_series *series = stream->source->states[stream->counted];
    metric_series_add(series, METRIC_KUBE_WATCHES, (uint64_t)sign);
}

static void on_changed(struct kube_watch *watch) {
    struct kube_stream *stream = of(watch);
    count_state(stream, -1);
    stream->counted = watch->state;
    count_state(stream, 1);
    if (is_excused(stream)) {
        excuse(stream);
    } else if (watch->state == KUBE_WATCH_WAITING) {
        tell_failure(stream);
    } else if (watch->state == KUBE_WATCH_WATCHING) {
        tell_success(stream);
    } else if (watch->state == KUBE_WATCH_ABSENT && !set_told(stream, TOLD_ABSENT, true)) {
        tell(stream, SOURCE_KUBE_ABSENT);
    }
}

// ---- streams -----------------------------------------------------------------------------------

static const struct kobj_type *type_of(const struct kube_kind *kind) {
    return kind->type != NULL ? kind->type : kobj_type_get(kind->kind);
}

static struct kube_stream *add_stream(struct source_kube *s, const struct kube_kind *kind,
                                      const char *ns, const char *name) {
    static const struct kube_watch_ops ops = {
        .begin = on_begin, .set = on_set, .del = on_del, .end = on_end, .changed = on_changed};
    const struct kobj_type *type = type_of(kind);
    struct kube_stream *stream = xcalloc(1, sizeof(*stream));
    stream->source = s;
    stream->without = kind->without;
    stream->ns = ns != NULL ? xstrdup(ns) : NULL;
    stream->name = name != NULL ? xstrdup(name) : NULL;
    stream->file =
        xasprintf("kubernetes:%s%s%s%s%s", type->plural, ns != NULL ? "/" : "",
                  ns != NULL ? ns : "", name != NULL ? "/" : "", name != NULL ? name : "");
    struct kube_watch_params params = {
        .loop = s->params.loop,
        .client = s->params.client,
        .ops = &ops,
        .rand = &s->rand,
        .scratch = &s->scratch,
        .group = type->group,
        .kind = type->name,
        .versions = type->versions,
        .plural = type->plural,
        .ns = stream->ns,
        .name = stream->name,
        .page_limit = SOURCE_KUBE_PAGE,
        .watch_s = SOURCE_KUBE_WATCH_S,
        .grace_ms = SOURCE_KUBE_GRACE_MS,
        .list_ms = SOURCE_KUBE_LIST_MS,
        .absent_ms = SOURCE_KUBE_ABSENT_MS,
    };
    list_push_back(&s->streams, &stream->node);
    count_state(stream, 1);
    kube_watch_init(&stream->watch, &params);
    kube_watch_start(&stream->watch);
    return stream;
}

static void free_stream(struct kube_stream *stream) {
    kube_watch_fini(&stream->watch);
    count_state(stream, -1);
    sweep_problems(stream, true);
    list_del(&stream->node);
    free(stream->ns);
    free(stream->name);
    free(stream->file);
    free(stream);
}

static bool has_stream(const struct source_kube *s, const char *plural, const char *ns) {
    for (const struct list *node = s->streams.next; node != &s->streams; node = node->next) {
        const struct kube_stream *stream = LIST_ITEM(node, struct kube_stream, node);
        if (strcmp(stream->watch.params.plural, plural) == 0 && stream->ns != NULL &&
            strcmp(stream->ns, ns) == 0) {
            return true;
        }
    }
    return false;
}

static void serve_namespace(struct source_kube *s, const char *ns) {
    for (size_t i = 0; i < ARRAY_LEN(kinds); i++) {
        bool is_all = ns == NULL;
        bool is_due = is_all ? kinds[i].scope == SCOPE_ALL : kinds[i].scope == SCOPE_SERVED;
        if (is_due && (is_all || !has_stream(s, type_of(&kinds[i])->plural, ns))) {
            add_stream(s, &kinds[i], ns, NULL)->is_needed = true;
        }
    }
}

static const struct kube_kind *kind_of(enum kobj_kind kind) {
    size_t i = 0;
    while (kinds[i].kind != kind) {
        i++;
    }
    return &kinds[i];
}

// ---- Secrets -----------------------------------------------------------------------------------

// False: there are too many.
static bool want_secret(struct source_kube *s, const char *name) {
    uint32_t n = 0;
    for (struct list *node = s->streams.next; node != &s->streams; node = node->next) {
        struct kube_stream *stream = LIST_ITEM(node, struct kube_stream, node);
        if (!stream->is_needed && strcmp(stream->name, name) == 0) {
            stream->is_wanted = true;
            return true;
        }
        n += !stream->is_needed;
    }
    if (n == SOURCE_KUBE_SECRETS_MAX) {
        return false;
    }
    add_stream(s, kind_of(KOBJ_SECRET), s->ns, name)->is_wanted = true;
    s->secrets_at = s->params.loop->now;
    return true;
}

// Told again with each change of rules, for as long as it is so.
static void report_many(struct source_kube *s, const struct kobj *rule, const char *name) {
    char object[640], text[400];
    snprintf(object, sizeof(object), "DestinationRule %.63s/%.253s", rule->meta.ns,
             rule->meta.name);
    snprintf(text, sizeof(text), "Secret %.253s is not read: rules name more than %d", name,
             SOURCE_KUBE_SECRETS_MAX / 2);
    config_errors_add(&s->news, &(struct config_error){.severity = CONFIG_WARNING,
                                                       .file = rule->file,
                                                       .object = object,
                                                       .text = text});
}

static void want_of_tls(struct source_kube *s, const struct kobj *rule,
                        const struct kobj_client_tls *tls) {
    char ca_name[300];
    if (tls == NULL || tls->credential_name[0] == '\0') {
        return;
    }
    snprintf(ca_name, sizeof(ca_name), "%s-cacert", tls->credential_name);
    bool is_read = want_secret(s, tls->credential_name);
    if (!want_secret(s, ca_name) || !is_read) {
        report_many(s, rule, tls->credential_name);
    }
}

static void want_of_policy(struct source_kube *s, const struct kobj *rule,
                           const struct kobj_traffic_policy *policy) {
    if (policy == NULL) {
        return;
    }
    want_of_tls(s, rule, policy->tls);
    for (uint32_t i = 0; i < policy->n_ports; i++) {
        want_of_tls(s, rule, policy->ports[i].policy.tls);
    }
}

static int want_of_rule(void *arg, const struct kobj *obj) {
    const struct kobj_destination_rule *rule = obj->destination_rule;
    want_of_policy(arg, obj, rule->policy);
    for (uint32_t i = 0; i < rule->n_subsets; i++) {
        want_of_policy(arg, obj, rule->subsets[i].policy);
    }
    return 0;
}

// Within a batch.
static void want_secrets(struct source_kube *s) {
    for (struct list *node = s->streams.next; node != &s->streams; node = node->next) {
        LIST_ITEM(node, struct kube_stream, node)->is_wanted = false;
    }
    config_store_each(s->store, KOBJ_DESTINATION_RULE, want_of_rule, s);
    LIST_EACH_SAFE(node, &s->streams) {
        struct kube_stream *stream = LIST_ITEM(node, struct kube_stream, node);
        if (!stream->is_needed && !stream->is_wanted) {
            config_store_remove_file(s->store, stream->file);
            free_stream(stream);
        }
    }
}

// ---- life --------------------------------------------------------------------------------------

static bool is_ns_name(struct slice name) {
    for (size_t i = 0; i < name.len; i++) {
        uint8_t c = name.ptr[i];
        if (!((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-')) {
            return false;
        }
    }
    return name.len > 0 && name.len <= 63;
}

// A reason, or NULL.
static char *serve_list(struct source_kube *s, const char *namespaces) {
    struct slice rest = slice_str(namespaces), head;
    for (uint32_t n = 0; rest.len > 0; n++) {
        if (!slice_split(rest, ',', &head, &rest)) {
            head = rest;
            rest = (struct slice){0};
        }
        head = slice_trim(head);
        if (!is_ns_name(head) || n == SOURCE_KUBE_NAMESPACES_MAX) {
            return xasprintf("\"%s\" is no list of namespaces, expected \"*\" or up to %d names "
                             "with a comma between each",
                             namespaces, SOURCE_KUBE_NAMESPACES_MAX);
        }
        char *name = slice_dup(head);
        serve_namespace(s, name);
        free(name);
    }
    return NULL;
}

static char *add_streams(struct source_kube *s) {
    const char *namespaces = s->params.namespaces;
    char *error = NULL;
    if (namespaces != NULL && strcmp(namespaces, "*") == 0) {
        for (size_t i = 0; i < ARRAY_LEN(kinds); i++) {
            if (kinds[i].scope == SCOPE_SERVED) {
                add_stream(s, &kinds[i], NULL, NULL)->is_needed = true;
            }
        }
    } else {
        bool is_own = namespaces == NULL || namespaces[0] == '\0';
        error = serve_list(s, is_own ? s->ns : namespaces);
        serve_namespace(s, s->root_ns);
    }
    serve_namespace(s, NULL);
    add_stream(s, kind_of(KOBJ_CONFIG_MAP), s->root_ns, s->params.mesh_config)->is_needed = true;
    return error;
}

static void open_states(struct source_kube *s) {
    for (int i = 0; i < KUBE_WATCH_N_STATES; i++) {
        struct slice label = slice_str(kube_watch_state_text((enum kube_watch_state)i));
        s->states[i] = metric_series_get(METRIC_LABELS_STATE, &label);
    }
}

struct source_kube *source_kube_new(const struct source_kube_params *params, char **ret_error) {
    struct source_kube *s = xcalloc(1, sizeof(*s));
    s->params = *params;
    s->ns = xstrdup(params->ns);
    s->root_ns = xstrdup(params->root_ns);
    s->store = config_store_new();
    list_init(&s->streams);
    hmap_init(&s->problems);
    config_errors_init(&s->news);
    arena_init(&s->scratch, SCRATCH_MAX);
    rand_seed_os(&s->rand);
    timer_init(&s->timer, end_batch);
    open_states(s);
    char *error = add_streams(s);
    s->params.namespaces = s->params.mesh_config = NULL; // borrowed for the call
    if (error != NULL) {
        source_kube_free(s);
        *ret_error = error;
        return NULL;
    }
    return s;
}

void source_kube_free(struct source_kube *s) {
    if (s == NULL) {
        return;
    }
    timer_clear(&s->params.loop->timers, &s->timer);
    LIST_EACH_SAFE(node, &s->streams) {
        free_stream(LIST_ITEM(node, struct kube_stream, node));
    }
    for (int i = 0; i < KUBE_WATCH_N_STATES; i++) {
        metric_series_put(s->states[i], s->params.loop->now);
    }
    hmap_fini(&s->problems);
    config_errors_fini(&s->news);
    config_store_free(s->store);
    arena_fini(&s->scratch);
    free(s->ns);
    free(s->root_ns);
    free(s);
}

// ---- state -------------------------------------------------------------------------------------

const struct config_store *source_kube_store(const struct source_kube *source) {
    return source->store;
}

bool source_kube_is_synced(const struct source_kube *source) {
    return source->is_synced;
}

const struct config_errors *source_kube_news(const struct source_kube *source) {
    return &source->news;
}

static void count_problem(void *arg, const struct config_errors *errors, uint64_t version) {
    (void)version;
    struct source_kube_status *status = arg;
    status->n_problems++;
    status->n_errors += errors->n_errors;
    status->n_warnings += errors->n_warnings;
}

static void count_watch(void *arg, const struct kube_watch *watch, bool needed) {
    (void)needed;
    struct source_kube_status *status = arg;
    status->n_watches++;
    status->n_waiting += watch->state == KUBE_WATCH_WAITING;
    status->n_absent += watch->state == KUBE_WATCH_ABSENT;
}

void source_kube_status(const struct source_kube *source, struct source_kube_status *ret_status) {
    *ret_status = (struct source_kube_status){
        .server = kube_client_target(source->params.client),
        .is_synced = source->is_synced,
        .n_objects = (uint32_t)config_store_size(source->store),
        .n_batches = source->n_batches,
    };
    source_kube_each(source, count_watch, ret_status);
    source_kube_each_problem(source, count_problem, ret_status);
}

void source_kube_each(const struct source_kube *source,
                      void (*fn)(void *arg, const struct kube_watch *watch, bool needed),
                      void *arg) {
    for (const struct list *node = source->streams.next; node != &source->streams;
         node = node->next) {
        const struct kube_stream *stream = LIST_ITEM(node, struct kube_stream, node);
        fn(arg, &stream->watch, stream->is_needed && !is_excused(stream));
    }
}

void source_kube_each_problem(const struct source_kube *source,
                              void (*fn)(void *arg, const struct config_errors *errors,
                                         uint64_t version),
                              void *arg) {
    for (struct hmap_node *pos = hmap_first(&source->problems); pos != NULL;
         pos = hmap_next(&source->problems, pos)) {
        const struct problem *problem = HMAP_ITEM(pos, struct problem, node);
        fn(arg, &problem->errors, problem->version);
    }
}

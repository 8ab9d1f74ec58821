// SPDX-License-Identifier: Apache-2.0
#include "common/mesh/identity.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/clock.h"
#include "common/base/hmap.h"
#include "common/base/rand.h"
#include "common/proto/spiffe.h"

enum {
    LOOK_AGAIN_S = 60, // wall time is compared at least this often
    MAX_IN_FLIGHT = 8, // requests at the CA at once, as istiod expects of a node
    MAX_RENEWALS = 6, // of them: a slow CA keeps no pod waiting behind certificates that are good
    N_ROOTS_SEEN = 8,
    MAX_PER_TICK = 32, // signed by the built-in CA before the control thread does other work
};
static const uint64_t BACKOFF_MIN_NS = NS_PER_SEC;
static const uint64_t ANEW_NS = 500 * NS_PER_MS;
static const uint64_t BACKOFF_MAX_NS = 150 * NS_PER_SEC;

struct entry {
    struct hmap_node by_id;
    struct identity_manager *manager;
    struct ca_request request;
    char *id;
    unsigned n_users;
    uint8_t state;
    bool is_in_flight, is_changed; // is_changed: to be published
    bool is_renewal; // the request in flight
    struct tls_ctx *tls;
    char *chain_pem, *key_pem, *roots_pem, *error;
    int64_t not_before, not_after, renew_at; // wall
    uint64_t retry_at, backoff_ns; // monotonic; 0 = no retry is waiting
    uint64_t n_issued, n_failures;
};

struct identity_manager {
    struct identity_manager_params params;
    struct hmap entries;
    struct rand rand;
    char *crl;
    size_t crl_len;
    uint64_t crl_generation;
    struct slice *aliases; // trust domains
    size_t n_aliases;
    unsigned n_in_flight, n_renewing;
    uint64_t roots_seen[N_ROOTS_SEEN]; // hashes; a roll-out of the CA answers with old and new
    unsigned n_roots_seen;
    uint64_t n_issued, n_failures;
    uint64_t now_mono; // of the tick that runs, or of the last one
    int64_t now_wall;
};

static void send_event(const struct entry *entry, struct identity_event *event) {
    const struct identity_manager_params *params = &entry->manager->params;
    event->spiffe_id = entry->id;
    event->not_after = entry->not_after;
    if (params->on_event != NULL) {
        params->on_event(params->arg, event);
    }
}

static void notify(const struct entry *entry, enum identity_event_kind kind, const char *text) {
    struct identity_event event = {.kind = (uint8_t)kind, .text = text};
    send_event(entry, &event);
}

static void set_text(char **field, const char *text) {
    char *copy = text != NULL ? xstrdup(text) : NULL;
    free(*field);
    *field = copy;
}

static void set_pem(char **field, struct slice text) {
    if (*field != NULL) {
        wipe(*field, strlen(*field));
        free(*field);
    }
    *field = text.ptr != NULL ? slice_dup(text) : NULL;
}

static struct tls_ctx *context_new(const struct identity_manager *m, const struct entry *entry,
                                   const struct ca_answer *pem, struct slice crl,
                                   uint64_t generation, char **ret_error) {
    struct spiffe_id id = {0};
    if (!spiffe_parse(slice_str(entry->id), &id)) {
        *ret_error = xstrdup("not a SPIFFE id of this mesh");
        return NULL;
    }
    struct tls_ctx_params params = {
        .cert_chain_pem = pem->cert_chain_pem,
        .key_pem = pem->key_pem,
        .roots_pem = pem->roots_pem,
        .crl_pem = crl,
        .crl_generation = generation,
        .trust_domain = id.trust_domain,
        .trust_domain_aliases = m->aliases,
        .n_trust_domain_aliases = m->n_aliases,
        .compliance = m->params.compliance,
        .prefer_aes_256 = m->params.prefer_aes_256,
    };
    return tls_ctx_new(&params, ret_error);
}

static struct slice crl_slice(const struct identity_manager *m) {
    return slice_make(m->crl, m->crl_len);
}

// Half of the life that is left (certificates are backdated), later by up to a tenth of it: the
// certificates of one start spread.
static int64_t renewal_time(struct identity_manager *m, int64_t not_before, int64_t not_after) {
    int64_t start = MAX(not_before, m->now_wall);
    int64_t life = not_after > start ? not_after - start : 0;
    int64_t wait = life / 2 + (int64_t)rand_below(&m->rand, (uint64_t)(life / 10) + 1);
    return start + MAX(wait, 1);
}

// Without a certificate, that is what users must know first.
static void set_error(struct entry *entry, const char *error) {
    char text[512];
    bool has_expired = entry->tls == NULL && entry->n_issued > 0;
    snprintf(text, sizeof(text), "%s%s%s", has_expired ? "the certificate has expired" : "",
             has_expired && error[0] != '\0' ? "; renewal: " : "", error);
    set_text(&entry->error, text);
}

static void failed(struct entry *entry, const char *error, const char *label) {
    struct identity_manager *m = entry->manager;
    entry->n_failures++;
    m->n_failures++;
    entry->backoff_ns =
        entry->backoff_ns == 0 ? BACKOFF_MIN_NS : MIN(2 * entry->backoff_ns, BACKOFF_MAX_NS);
    uint64_t fifth = entry->backoff_ns / 5; // so that those that failed together do not stay so
    entry->retry_at =
        m->now_mono + rand_range(&m->rand, entry->backoff_ns - fifth, entry->backoff_ns + fifth);
    set_error(entry, error);
    if (entry->tls == NULL) {
        entry->state = IDENTITY_FAILED;
    }
    entry->is_changed = true;
    struct identity_event event = {
        .kind = IDENTITY_EVENT_FAILED, .text = error, .label = label != NULL ? label : "ca"};
    send_event(entry, &event);
}

// Answers of a CA whose root is being replaced may alternate: what was seen once causes nothing.
static void note_roots(struct identity_manager *m, struct slice roots_pem) {
    uint64_t hash = hash_bytes(roots_pem);
    for (unsigned i = 0; i < MIN(m->n_roots_seen, (unsigned)N_ROOTS_SEEN); i++) {
        if (m->roots_seen[i] == hash) {
            return;
        }
    }
    m->roots_seen[m->n_roots_seen++ % N_ROOTS_SEEN] = hash;
    if (m->n_roots_seen == 1) {
        return;
    }
    HMAP_EACH_SAFE(pos, &m->entries) {
        struct entry *entry = HMAP_ITEM(pos, struct entry, by_id);
        if (entry->tls == NULL || slice_eq_str(roots_pem, entry->roots_pem)) {
            continue;
        }
        int64_t life = MAX(entry->not_after - m->now_wall, 0);
        uint64_t spread = (uint64_t)MIN(life / 8, (int64_t)IDENTITY_ROOTS_SPREAD_S) + 1;
        entry->renew_at =
            MIN(entry->renew_at, m->now_wall + 1 + (int64_t)rand_below(&m->rand, spread));
    }
}

static void issued(struct entry *entry, const struct ca_answer *answer, struct tls_ctx *tls) {
    struct identity_manager *m = entry->manager;
    struct identity_event event = {.kind = IDENTITY_EVENT_ISSUED, .text = ""};
    event.has_new_roots =
        entry->roots_pem != NULL && !slice_eq_str(answer->roots_pem, entry->roots_pem);
    set_pem(&entry->chain_pem, answer->cert_chain_pem);
    set_pem(&entry->key_pem, answer->key_pem);
    set_pem(&entry->roots_pem, answer->roots_pem);
    set_text(&entry->error, NULL);
    tls_ctx_unref(entry->tls);
    entry->tls = tls;
    entry->not_before = tls_ctx_not_before(tls);
    entry->not_after = tls_ctx_not_after(tls);
    entry->renew_at = renewal_time(m, entry->not_before, entry->not_after);
    entry->state = IDENTITY_READY;
    entry->retry_at = entry->backoff_ns = 0;
    entry->is_changed = true;
    entry->n_issued++;
    m->n_issued++;
    note_roots(m, slice_str(entry->roots_pem));
    send_event(entry, &event);
}

static void left_flight(struct entry *entry) {
    entry->is_in_flight = false;
    entry->manager->n_in_flight--;
    entry->manager->n_renewing -= entry->is_renewal;
}

static void on_answer(struct ca_request *request, const struct ca_answer *answer) {
    struct entry *entry = CONTAINER_OF(request, struct entry, request);
    struct identity_manager *m = entry->manager;
    left_flight(entry);
    if (answer->now_mono_ns != 0) {
        m->now_mono = answer->now_mono_ns;
        m->now_wall = answer->now_wall_s;
    }
    if (answer->error != NULL) {
        failed(entry, answer->error, answer->label);
        return;
    }
    char *error = NULL;
    struct tls_ctx *tls = context_new(m, entry, answer, crl_slice(m), m->crl_generation, &error);
    if (tls == NULL) {
        failed(entry, error, "answer");
        free(error);
    } else if (!slice_eq_str(tls_ctx_identity(tls), entry->id)) {
        tls_ctx_unref(tls);
        failed(entry, "the CA answered with a certificate of another identity", "answer");
    } else if (tls_ctx_not_after(tls) <= m->now_wall) {
        tls_ctx_unref(tls);
        failed(entry, "the CA answered with a certificate that has expired", "answer");
    } else {
        issued(entry, answer, tls);
    }
}

static struct entry *find(const struct identity_manager *m, const char *id) {
    HMAP_EACH_WITH_HASH(pos, &m->entries, hash_bytes(slice_str(id))) {
        struct entry *entry = HMAP_ITEM(pos, struct entry, by_id);
        if (strcmp(entry->id, id) == 0) {
            return entry;
        }
    }
    return NULL;
}

static void entry_free(struct entry *entry) {
    struct identity_manager *m = entry->manager;
    if (entry->is_in_flight) {
        m->params.ca->ops->cancel(m->params.ca, &entry->request);
        left_flight(entry);
    }
    hmap_remove(&m->entries, &entry->by_id);
    tls_ctx_unref(entry->tls);
    set_pem(&entry->chain_pem, (struct slice){0});
    set_pem(&entry->key_pem, (struct slice){0});
    set_pem(&entry->roots_pem, (struct slice){0});
    free(entry->error);
    free(entry->id);
    free(entry);
}

// A CA that refuses who has no pod on the node, as istiod does, may answer for the pod that comes
// now. However many come, there is one attempt in ANEW_NS.
static void retry_soon(struct entry *entry) {
    struct identity_manager *m = entry->manager;
    entry->retry_at = MIN(entry->retry_at, m->now_mono + ANEW_NS);
    entry->backoff_ns = 0;
    entry->state = IDENTITY_PENDING;
    set_text(&entry->error, NULL);
    entry->is_changed = true;
}

void identity_manager_want(struct identity_manager *m, const char *spiffe_id, int delta) {
    struct entry *entry = find(m, spiffe_id);
    if (entry == NULL) {
        CHECK(delta >= 0);
        entry = xcalloc(1, sizeof(*entry));
        entry->manager = m;
        entry->id = xstrdup(spiffe_id);
        entry->state = IDENTITY_PENDING;
        entry->is_changed = true;
        entry->request = (struct ca_request){.spiffe_id = entry->id, .done = on_answer};
        hmap_insert(&m->entries, &entry->by_id, hash_bytes(slice_str(spiffe_id)));
    }
    if (delta > 0 && entry->tls == NULL && entry->retry_at != 0) {
        retry_soon(entry);
    }
    CHECK(delta >= 0 || entry->n_users >= (unsigned)-delta);
    entry->n_users = (unsigned)((int)entry->n_users + delta);
}

static void expire(struct entry *entry) {
    char *reason = xstrdup(entry->error != NULL ? entry->error : "");
    tls_ctx_unref(entry->tls);
    entry->tls = NULL;
    entry->state = IDENTITY_FAILED;
    set_error(entry, reason);
    free(reason);
    entry->is_changed = true;
    entry->retry_at = 0; // at once: the clock may have jumped
    notify(entry, IDENTITY_EVENT_EXPIRED, entry->error);
}

// A certificate is replaced when its time has come, and when the clock is before its validity.
static bool is_due(const struct entry *entry, const struct identity_manager *m) {
    if (entry->is_in_flight || entry->n_users == 0) {
        return false;
    }
    if (entry->retry_at != 0) {
        return m->now_mono >= entry->retry_at;
    }
    return entry->tls == NULL || m->now_wall >= entry->renew_at || m->now_wall < entry->not_before;
}

static void issue(struct entry *entry) {
    struct identity_manager *m = entry->manager;
    entry->is_in_flight = true;
    entry->is_renewal = entry->tls != NULL;
    m->n_in_flight++;
    m->n_renewing += entry->is_renewal;
    entry->request.now_wall_s = m->now_wall;
    entry->request.ttl_s = m->params.ttl_s;
    m->params.ca->ops->issue(m->params.ca, &entry->request);
}

// Workloads that have no certificate at all come before renewals. True: some are left for later.
static bool issue_due(struct identity_manager *m) {
    unsigned n = 0;
    for (int round = 0; round < 2; round++) {
        HMAP_EACH_SAFE(pos, &m->entries) {
            struct entry *entry = HMAP_ITEM(pos, struct entry, by_id);
            if (!is_due(entry, m) || (round == 0 && entry->tls != NULL)) {
                continue;
            }
            if (n == MAX_PER_TICK) {
                return true;
            }
            if (m->n_in_flight >= MAX_IN_FLIGHT || (round == 1 && m->n_renewing >= MAX_RENEWALS)) {
                return false; // an answer makes room; the caller ticks then
            }
            issue(entry);
            n++;
        }
    }
    return false;
}

static void publish_entry(struct snapshot *draft, struct entry *entry) {
    struct identity spec = {
        .leaf.key = slice_str(entry->id),
        .tls = entry->tls,
        .state = entry->state,
        .error = entry->error,
        .chain_pem = entry->chain_pem,
        .roots_pem = entry->roots_pem,
    };
    snapshot_set_identity(draft, identity_new(&spec));
    entry->is_changed = false;
}

static void publish(struct identity_manager *m) {
    struct snapshot *draft = NULL;
    HMAP_EACH_SAFE(pos, &m->entries) {
        struct entry *entry = HMAP_ITEM(pos, struct entry, by_id);
        if (entry->n_users > 0 && !entry->is_changed) {
            continue;
        }
        if (draft == NULL) {
            draft = snapshot_draft();
        }
        if (entry->n_users > 0) {
            publish_entry(draft, entry);
        } else {
            snapshot_del_identity(draft, entry->id);
            notify(entry, IDENTITY_EVENT_FORGOTTEN, "");
            entry_free(entry);
        }
    }
    if (draft != NULL) {
        snapshot_publish(draft);
    }
}

static uint64_t entry_deadline(const struct entry *entry, const struct identity_manager *m) {
    if (entry->is_in_flight) {
        return TIME_NEVER;
    }
    int64_t at = entry->tls != NULL ? MIN(entry->renew_at, entry->not_after) : m->now_wall;
    if (entry->retry_at != 0) { // the certificate may expire before the next attempt
        at = entry->not_after;
    }
    uint64_t deadline = entry->retry_at != 0 ? entry->retry_at : TIME_NEVER;
    if (entry->tls != NULL) {
        int64_t wait_s = MIN(MAX(at - m->now_wall, 0), (int64_t)LOOK_AGAIN_S);
        deadline = MIN(deadline, m->now_mono + (uint64_t)wait_s * NS_PER_SEC);
    }
    return deadline;
}

uint64_t identity_manager_tick(struct identity_manager *m, uint64_t now_mono_ns,
                               int64_t now_wall_s) {
    m->now_mono = now_mono_ns;
    m->now_wall = now_wall_s;
    HMAP_EACH_SAFE(pos, &m->entries) {
        struct entry *entry = HMAP_ITEM(pos, struct entry, by_id);
        if (entry->tls != NULL && now_wall_s >= entry->not_after) {
            expire(entry);
        }
    }
    bool is_more = issue_due(m);
    publish(m);
    if (is_more) {
        return now_mono_ns;
    }
    uint64_t deadline = now_mono_ns + LOOK_AGAIN_S * NS_PER_SEC;
    HMAP_EACH_SAFE(pos, &m->entries) {
        deadline = MIN(deadline, entry_deadline(HMAP_ITEM(pos, struct entry, by_id), m));
    }
    return deadline;
}

void identity_manager_reissue(struct identity_manager *m) {
    HMAP_EACH_SAFE(pos, &m->entries) {
        struct entry *entry = HMAP_ITEM(pos, struct entry, by_id);
        entry->renew_at = entry->not_before; // has passed
        entry->retry_at = entry->backoff_ns = 0;
    }
}

// New contexts for all identities, or for none: what one of them refuses changes nothing.
static bool rebuild(struct identity_manager *m, struct slice crl, uint64_t generation,
                    char **ret_error) {
    bool is_bad = false;
    struct rebuilt {
        struct entry *entry;
        struct tls_ctx *tls;
    } *list = xcalloc(m->entries.n_items + 1, sizeof(*list));
    size_t n = 0;
    HMAP_EACH_SAFE(pos, &m->entries) {
        struct entry *entry = HMAP_ITEM(pos, struct entry, by_id);
        if (entry->tls == NULL || is_bad) {
            continue;
        }
        struct ca_answer pem = {
            .cert_chain_pem = slice_str(entry->chain_pem),
            .key_pem = slice_str(entry->key_pem),
            .roots_pem = slice_str(entry->roots_pem),
        };
        struct tls_ctx *tls = context_new(m, entry, &pem, crl, generation, ret_error);
        is_bad = tls == NULL;
        if (!is_bad) {
            list[n++] = (struct rebuilt){entry, tls};
        }
    }
    for (size_t i = 0; i < n; i++) {
        if (is_bad) {
            tls_ctx_unref(list[i].tls);
            continue;
        }
        tls_ctx_unref(list[i].entry->tls);
        list[i].entry->tls = list[i].tls;
        list[i].entry->is_changed = true;
    }
    free(list);
    return !is_bad;
}

bool identity_manager_set_crl(struct identity_manager *m, struct slice crl, char **ret_error) {
    uint64_t generation = m->crl_generation + 1;
    if (!rebuild(m, crl, generation, ret_error)) {
        return false;
    }
    free(m->crl);
    m->crl = slice_dup(crl);
    m->crl_len = crl.len;
    m->crl_generation = generation;
    return true;
}

static void free_aliases(struct identity_manager *m) {
    for (size_t i = 0; i < m->n_aliases; i++) {
        free((void *)(uintptr_t)m->aliases[i].ptr);
    }
    free(m->aliases);
}

bool identity_manager_set_aliases(struct identity_manager *m, const struct slice *aliases,
                                  size_t n_aliases) {
    bool is_same = n_aliases == m->n_aliases;
    for (size_t i = 0; i < n_aliases && is_same; i++) {
        is_same = slice_eq(aliases[i], m->aliases[i]);
    }
    if (is_same) {
        return false;
    }
    free_aliases(m);
    m->aliases = xcalloc(n_aliases + 1, sizeof(*m->aliases));
    m->n_aliases = n_aliases;
    for (size_t i = 0; i < n_aliases; i++) {
        m->aliases[i] = slice_make(slice_dup(aliases[i]), aliases[i].len);
    }
    char *error = NULL;
    CHECK(rebuild(m, crl_slice(m), m->crl_generation,
                  &error)); // they were built from the same once
    return true;
}

struct identity_manager *identity_manager_new(const struct identity_manager_params *params) {
    struct identity_manager *m = xcalloc(1, sizeof(*m));
    m->params = *params;
    hmap_init(&m->entries);
    rand_seed(&m->rand, params->seed);
    return m;
}

void identity_manager_free(struct identity_manager *m) {
    if (m == NULL) {
        return;
    }
    HMAP_EACH_SAFE(pos, &m->entries) {
        entry_free(HMAP_ITEM(pos, struct entry, by_id));
    }
    hmap_fini(&m->entries);
    free(m->crl);
    free_aliases(m);
    free(m);
}

void identity_manager_each(struct identity_manager *m,
                           bool (*fn)(void *arg, const struct identity_info *info), void *arg) {
    HMAP_EACH_SAFE(pos, &m->entries) {
        const struct entry *entry = HMAP_ITEM(pos, struct entry, by_id);
        bool has_cert = entry->tls != NULL;
        struct identity_info info = {
            .spiffe_id = entry->id,
            .state = entry->state,
            .error = entry->error != NULL ? entry->error : "",
            .not_before = has_cert ? entry->not_before : 0,
            .not_after = has_cert ? entry->not_after : 0,
            .renew_at = has_cert ? entry->renew_at : 0,
            .n_issued = entry->n_issued,
            .n_failures = entry->n_failures,
            .n_users = entry->n_users,
        };
        if (!fn(arg, &info)) {
            return;
        }
    }
}

uint64_t identity_manager_n_issued(const struct identity_manager *m) {
    return m->n_issued;
}

uint64_t identity_manager_n_failures(const struct identity_manager *m) {
    return m->n_failures;
}

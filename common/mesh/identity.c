// SPDX-License-Identifier: Apache-2.0
#include "common/mesh/identity.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "common/base/clock.h"
#include "common/base/hmap.h"
#include "common/base/rand.h"
#include "common/obs/log.h"
#include "common/obs/metrics.h"

LOG_SCOPE(log_identity, "ztun::identity");

enum {
    RETRY_MIN_MS = 500,
    RETRY_MAX_MS = 150 * 1000,
    POLL_S = 5,              // files of CA and CRL
    RENEW_PER_TICK = 32,     // certificates asked for in one call: the control thread stays responsive
    CRL_MAX = 16 * 1024 * 1024,
};

struct entry {
    struct hmap_node node;
    struct identity_manager *manager;
    struct ca_request request;
    struct identity *leaf;    // published; NULL before the first answer
    struct metric_series *series;
    char *spiffe_id;
    uint32_t n_users;
    uint32_t backoff_ms;
    int64_t renew_at_s;       // wall clock
    uint64_t retry_at;        // monotonic ns; 0 = not failing
    bool is_asking;           // request is under way
    bool must_renew;          // trust changed
};

struct identity_manager {
    struct identity_manager_options options;
    struct hmap entries;
    struct rand rand;
    char *crl;
    struct stat crl_stat;
    uint64_t crl_generation;
    int64_t next_poll_s;
    uint64_t now;             // of the running tick
    int64_t now_wall_s;
    struct snapshot *draft;   // open while a tick publishes
};

// ---- CRL ---------------------------------------------------------------------------------------

// The CRL's bytes; NULL with a reason.
static char *read_crl(const char *path, struct stat *ret_stat, char **ret_error) {
    FILE *file = fopen(path, "re");
    if (file == NULL || fstat(fileno(file), ret_stat) < 0 || ret_stat->st_size > CRL_MAX) {
        *ret_error = xasprintf("%s: %s", path, strerror(file == NULL ? errno : EFBIG));
        if (file != NULL) {
            (void)fclose(file);
        }
        return NULL;
    }
    char *text = xcalloc(1, (size_t)ret_stat->st_size + 1);
    ret_stat->st_size = (off_t)fread(text, 1, (size_t)ret_stat->st_size, file);
    (void)fclose(file);
    return text;
}

static bool crl_has_changed(const struct identity_manager *manager) {
    struct stat st;
    const struct stat *old = &manager->crl_stat;
    return manager->options.crl_path != NULL && stat(manager->options.crl_path, &st) == 0 &&
           (st.st_ino != old->st_ino || st.st_size != old->st_size ||
            st.st_mtim.tv_sec != old->st_mtim.tv_sec ||
            st.st_mtim.tv_nsec != old->st_mtim.tv_nsec);
}

static bool reload_crl(struct identity_manager *manager) {
    if (!crl_has_changed(manager)) {
        return false;
    }
    struct stat st;
    char *error = NULL;
    char *text = read_crl(manager->options.crl_path, &st, &error);
    if (text == NULL) {
        log_warn(&log_identity, "revocation list not read, the last one stays in force",
                 LOG_STR("reason", error));
        free(error);
        return false;
    }
    free(manager->crl);
    manager->crl = text;
    manager->crl_stat = st;
    manager->crl_generation++;
    log_info(&log_identity, "revocation list loaded",
             LOG_U64("generation", manager->crl_generation));
    return true;
}

// ---- certificates ------------------------------------------------------------------------------

static void publish(struct entry *entry, const struct identity *spec) {
    struct identity_manager *manager = entry->manager;
    struct identity *leaf = identity_new(spec);
    bool is_own_draft = manager->draft == NULL;
    if (is_own_draft) {
        manager->draft = snapshot_draft();
    }
    leaf_ref(leaf); // the entry's own
    snapshot_set_identity(manager->draft, leaf);
    leaf_unref(entry->leaf);
    entry->leaf = leaf;
    if (is_own_draft) {
        snapshot_publish(manager->draft);
        manager->draft = NULL;
    }
}

static void fail(struct entry *entry, const char *reason) {
    struct identity_manager *manager = entry->manager;
    entry->backoff_ms = entry->backoff_ms == 0
                            ? RETRY_MIN_MS + (uint32_t)rand_below(&manager->rand, RETRY_MIN_MS)
                            : MIN(entry->backoff_ms * 2, (uint32_t)RETRY_MAX_MS);
    uint64_t jitter = rand_range(&manager->rand, 80, 120); // percent
    entry->retry_at = manager->now + entry->backoff_ms * NS_PER_MS * jitter / 100;
    log_warn(&log_identity, "no certificate", LOG_STR("identity", entry->spiffe_id),
             LOG_STR("reason", reason), LOG_MS("retry_in", entry->backoff_ms));
    struct slice label = SLICE_LIT("ca");
    metric_count(METRIC_CERT_FAILURES, &label, 1, manager->now);
    struct identity spec = {.error = reason, .chain_pem = "", .roots_pem = ""};
    if (entry->leaf != NULL) { // the certificate in force stays
        spec.tls = entry->leaf->tls;
        spec.state = entry->leaf->state;
        spec.chain_pem = entry->leaf->chain_pem;
        spec.roots_pem = entry->leaf->roots_pem;
    }
    if (spec.tls == NULL) {
        spec.state = IDENTITY_FAILED;
    }
    spec.leaf.key = slice_str(entry->spiffe_id);
    publish(entry, &spec);
}

// With jitter, so that a node's certificates do not all fall due together.
static int64_t renewal_time(struct identity_manager *manager, const struct tls_svid *svid) {
    int64_t life = svid->not_after - svid->not_before;
    int64_t jitter = life >= 100 ? (int64_t)rand_below(&manager->rand, (uint64_t)life / 50) : 0;
    return svid->not_before + life / 2 - jitter;
}

static void on_answer(struct ca_request *request, const struct tls_svid *svid, const char *error) {
    struct entry *entry = CONTAINER_OF(request, struct entry, request);
    struct identity_manager *manager = entry->manager;
    entry->is_asking = false;
    if (svid == NULL) {
        fail(entry, error);
        return;
    }
    struct tls_ctx_params params = {
        .cert_chain_pem = slice_str(svid->cert_chain_pem),
        .key_pem = slice_str(svid->key_pem),
        .roots_pem = slice_str(svid->roots_pem),
        .crl_pem = slice_make(manager->crl, (size_t)manager->crl_stat.st_size),
        .crl_generation = manager->crl_generation,
        .trust_domain = slice_str(manager->options.trust_domain),
        .compliance = manager->options.compliance,
        .prefer_aes_256 = manager->options.prefer_aes_256,
    };
    char *reason = NULL;
    struct tls_ctx *tls = tls_ctx_new(&params, &reason);
    if (tls == NULL) {
        fail(entry, reason);
        free(reason);
        return;
    }
    struct identity spec = {
        .leaf.key = slice_str(entry->spiffe_id),
        .tls = tls,
        .state = IDENTITY_READY,
        .error = "",
        .chain_pem = svid->cert_chain_pem,
        .roots_pem = svid->roots_pem,
    };
    publish(entry, &spec);
    tls_ctx_unref(tls);
    entry->backoff_ms = 0;
    entry->retry_at = 0;
    entry->must_renew = false;
    entry->renew_at_s = renewal_time(manager, svid);
    log_debug(&log_identity, "certificate issued", LOG_STR("identity", entry->spiffe_id),
              LOG_I64("not_after", svid->not_after));
}

static bool is_due(const struct entry *entry) {
    const struct identity_manager *manager = entry->manager;
    if (entry->is_asking) {
        return false;
    }
    if (entry->retry_at != 0) {
        return manager->now >= entry->retry_at;
    }
    if (entry->leaf == NULL || entry->must_renew) {
        return true;
    }
    // The wall clock may have been set: a certificate from the future is as useless as an old one.
    return manager->now_wall_s >= entry->renew_at_s ||
           (entry->leaf->tls != NULL &&
            manager->now_wall_s < tls_ctx_not_before(entry->leaf->tls));
}

static void ask(struct entry *entry) {
    struct identity_manager *manager = entry->manager;
    entry->is_asking = true;
    entry->request = (struct ca_request){
        .spiffe_id = entry->spiffe_id, .ttl_s = manager->options.ttl_s, .done = on_answer};
    manager->options.ca->ops->request(manager->options.ca, &entry->request, manager->now_wall_s);
}

static void show_expiry(struct entry *entry) {
    if (entry->leaf == NULL || entry->leaf->tls == NULL) {
        return;
    }
    if (entry->series == NULL) {
        struct slice label = slice_str(entry->spiffe_id);
        entry->series = metric_series_get(METRIC_LABELS_IDENTITY, &label);
    }
    metric_series_set(entry->series, METRIC_CERT_EXPIRY,
                      tls_ctx_not_after(entry->leaf->tls) - entry->manager->now_wall_s);
}

// ---- interface ---------------------------------------------------------------------------------

struct identity_manager *identity_manager_new(const struct identity_manager_options *options,
                                              char **ret_error) {
    struct identity_manager *manager = xcalloc(1, sizeof(*manager));
    manager->options = *options;
    hmap_init(&manager->entries);
    rand_seed_os(&manager->rand);
    if (options->crl_path != NULL) {
        manager->crl = read_crl(options->crl_path, &manager->crl_stat, ret_error);
        if (manager->crl == NULL) {
            free(manager);
            return NULL;
        }
        manager->crl_generation = 1;
    }
    return manager;
}

static void entry_free(struct entry *entry) {
    struct identity_manager *manager = entry->manager;
    if (entry->is_asking) {
        manager->options.ca->ops->cancel(manager->options.ca, &entry->request);
    }
    if (entry->series != NULL) {
        metric_series_put(entry->series, manager->now);
    }
    hmap_remove(&manager->entries, &entry->node);
    leaf_unref(entry->leaf);
    free(entry->spiffe_id);
    free(entry);
}

void identity_manager_free(struct identity_manager *manager) {
    if (manager == NULL) {
        return;
    }
    HMAP_EACH_SAFE(pos, &manager->entries) {
        entry_free(HMAP_ITEM(pos, struct entry, node));
    }
    hmap_fini(&manager->entries);
    free(manager->crl);
    free(manager);
}

static struct entry *find(struct identity_manager *manager, const char *spiffe_id) {
    HMAP_EACH_WITH_HASH(pos, &manager->entries, hash_bytes(slice_str(spiffe_id))) {
        struct entry *entry = HMAP_ITEM(pos, struct entry, node);
        if (strcmp(entry->spiffe_id, spiffe_id) == 0) {
            return entry;
        }
    }
    return NULL;
}

void identity_manager_want(struct identity_manager *manager, const char *spiffe_id, int delta) {
    struct entry *entry = find(manager, spiffe_id);
    CHECK(entry != NULL || delta > 0);
    if (entry == NULL) {
        entry = xcalloc(1, sizeof(*entry));
        entry->manager = manager;
        entry->spiffe_id = xstrdup(spiffe_id);
        hmap_insert(&manager->entries, &entry->node, hash_bytes(slice_str(spiffe_id)));
        manager->options.on_wanted(manager->options.arg);
    }
    entry->n_users = (uint32_t)((int64_t)entry->n_users + delta);
    if (entry->n_users == 0) {
        struct snapshot *draft = snapshot_draft();
        snapshot_del_identity(draft, spiffe_id);
        snapshot_publish(draft);
        entry_free(entry);
    }
}

static void poll_files(struct identity_manager *manager) {
    if (manager->now_wall_s < manager->next_poll_s &&
        manager->next_poll_s - manager->now_wall_s <= POLL_S) {
        return;
    }
    manager->next_poll_s = manager->now_wall_s + POLL_S;
    struct ca *ca = manager->options.ca;
    bool has_changed = ca->ops->poll(ca, manager->now_wall_s);
    has_changed = reload_crl(manager) || has_changed;
    if (!has_changed) {
        return;
    }
    HMAP_EACH_SAFE(pos, &manager->entries) {
        struct entry *entry = HMAP_ITEM(pos, struct entry, node);
        entry->must_renew = true;
        entry->retry_at = 0;
    }
}

uint64_t identity_manager_tick(struct identity_manager *manager, uint64_t now, int64_t now_wall_s) {
    manager->now = now;
    manager->now_wall_s = now_wall_s;
    poll_files(manager);
    uint64_t next = now + POLL_S * NS_PER_SEC;
    uint32_t n_asked = 0;
    bool trust_was_due = false, is_trust_due = false;
    HMAP_EACH_SAFE(pos, &manager->entries) {
        struct entry *entry = HMAP_ITEM(pos, struct entry, node);
        trust_was_due = trust_was_due || entry->must_renew;
        if (is_due(entry) && n_asked < RENEW_PER_TICK) {
            if (manager->draft == NULL) {
                manager->draft = snapshot_draft();
            }
            n_asked++;
            ask(entry);
        }
        is_trust_due = is_trust_due || entry->must_renew;
        if (is_due(entry)) {
            next = now + NS_PER_MS;
        } else if (entry->retry_at != 0) {
            next = MIN(next, entry->retry_at);
        }
        show_expiry(entry);
    }
    if (manager->draft != NULL) {
        snapshot_publish(manager->draft);
        manager->draft = NULL;
    }
    if (trust_was_due && !is_trust_due) {
        manager->options.on_trust_changed(manager->options.arg);
    }
    return next;
}

size_t identity_manager_n_pending(const struct identity_manager *manager) {
    size_t n = 0;
    HMAP_EACH_SAFE(pos, &manager->entries) {
        const struct entry *entry = HMAP_ITEM(pos, struct entry, node);
        n += entry->leaf == NULL || entry->leaf->tls == NULL;
    }
    return n;
}

// SPDX-License-Identifier: Apache-2.0
#include "waypoint/upstream_tls.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/hmap.h"
#include "common/mesh/config_store.h"
#include "common/mesh/source_file.h"
#include "common/obs/log.h"
#include "common/proc/proc_mesh.h"
#include "common/proc/proc_trust.h"
#include "common/rt/file.h"
#include "waypoint/dial.h"

LOG_SCOPE(log_tls, "waypoint::tls");

enum {
    LOOK_MS = 2000,
    FILE_MAX = 512 * 1024,
    ERROR_MAX = 320,
};

// The parts of a credential, in the order of `texts` below.
enum part { PART_CERT, PART_KEY, PART_CA, PART_CRL, N_PARTS };

// What one set of names stands for; shared by all policies that have the same ones.
struct credentials {
    struct hmap_node node; // of `all`
    uint32_t refs; // under the lock
    bool is_mutual, skips_verify;
    char *files[N_PARTS]; // "" = none
    char *secret; // "" = files
    // Control's.
    struct file_stamp stamps[N_PARTS];
    uint64_t hashes[2]; // of the Secret, and of the one with its CA alone; 0 = there is none
    // Under the lock.
    struct tls_ctx *ctx; // NULL: never good
    char error[ERROR_MAX]; // "" = up to date
};

static struct {
    struct upstream_tls_params params;
    pthread_mutex_t lock;
    struct hmap table; // all zero: empty
    struct timer timer;
} all = {.lock = PTHREAD_MUTEX_INITIALIZER};

// ---- reading -----------------------------------------------------------------------------------

struct material {
    const struct kobj *objs[2]; // the Secret, and the one with its CA alone
    struct slice parts[N_PARTS];
    char *files[N_PARTS]; // heap, to be wiped
    size_t lens[N_PARTS];
    char error[ERROR_MAX];
};

static void material_fini(struct material *material) {
    for (size_t i = 0; i < N_PARTS; i++) {
        if (material->files[i] != NULL) {
            wipe(material->files[i], material->lens[i]);
            free(material->files[i]);
        }
    }
}

static bool read_part(struct material *material, enum part part, const char *path) {
    char **text = &material->files[part];
    int rc = file_read(path, FILE_MAX, text, &material->lens[part]);
    if (rc < 0) {
        snprintf(material->error, sizeof(material->error), "%s: %s", path, strerror(-rc));
        return false;
    }
    material->parts[part] = slice_make(*text, material->lens[part]);
    if (material->lens[part] ==
        0) { // not the same as none: that would trust others, or revoke none
        snprintf(material->error, sizeof(material->error), "%s: the file is empty", path);
        return false;
    }
    return true;
}

static bool read_files(const struct credentials *creds, struct material *material) {
    for (size_t i = 0; i < N_PARTS; i++) {
        if (creds->files[i][0] != '\0' && !read_part(material, (enum part)i, creds->files[i])) {
            return false;
        }
    }
    return true;
}

static const struct kobj *find_secret(const char *name) {
    const struct config_store *store = proc_mesh_store(all.params.mesh);
    return store != NULL ? config_store_get(store, KOBJ_SECRET, all.params.ns, name) : NULL;
}

static void find_secrets(const struct credentials *creds, const struct kobj *ret_objs[2]) {
    char ca_name[300];
    snprintf(ca_name, sizeof(ca_name), "%s-cacert", creds->secret);
    ret_objs[0] = find_secret(creds->secret);
    ret_objs[1] = find_secret(ca_name);
}

static struct slice secret_value(const struct kobj *obj, const char *key) {
    struct slice value = {0};
    for (uint32_t i = 0; obj != NULL && i < obj->secret->n_data; i++) {
        if (strcmp(obj->secret->data[i].key, key) == 0) {
            value = obj->secret->data[i].value; // stringData comes last, and counts
        }
    }
    return value;
}

// The keys of kubernetes.io/tls, else those of Istio's generic Secrets.
static struct slice secret_part(const struct material *material, enum part part) {
    static const char *const keys[N_PARTS][2] = {[PART_CERT] = {"tls.crt", "cert"},
                                                 [PART_KEY] = {"tls.key", "key"},
                                                 [PART_CA] = {"ca.crt", "cacert"},
                                                 [PART_CRL] = {"ca.crl", "crl"}};
    bool is_ca = part == PART_CA || part == PART_CRL;
    for (size_t o = 0; o < (is_ca ? 2 : 1); o++) {
        for (size_t k = 0; k < 2; k++) {
            struct slice value = secret_value(material->objs[o], keys[part][k]);
            if (value.len > 0) {
                return value;
            }
        }
    }
    return (struct slice){0};
}

static bool read_secret(const struct credentials *creds, struct material *material) {
    const char *missing = NULL;
    find_secrets(creds, material->objs);
    if (material->objs[0] == NULL && (creds->is_mutual || material->objs[1] == NULL)) {
        snprintf(material->error, sizeof(material->error),
                 "there is no Secret \"%s\" in namespace \"%s\", which is the waypoint's",
                 creds->secret, all.params.ns);
        return false;
    }
    for (size_t i = 0; i < N_PARTS; i++) {
        if (creds->is_mutual || i == PART_CA || i == PART_CRL) {
            material->parts[i] = secret_part(material, (enum part)i);
        }
    }
    if (creds->is_mutual && material->parts[PART_CERT].len == 0) {
        missing = "tls.crt (or cert)";
    } else if (creds->is_mutual && material->parts[PART_KEY].len == 0) {
        missing = "tls.key (or key)";
    } else if (!creds->skips_verify && material->parts[PART_CA].len == 0) {
        missing = "ca.crt (or cacert)";
    }
    if (missing != NULL) {
        snprintf(material->error, sizeof(material->error), "Secret \"%s\" has no %s", creds->secret,
                 missing);
    }
    return missing == NULL;
}

static struct tls_ctx *make(const struct credentials *creds, struct material *material) {
    bool is_secret = creds->secret[0] != '\0';
    if (!(is_secret ? read_secret(creds, material) : read_files(creds, material))) {
        return NULL;
    }
    if (!is_secret && creds->files[PART_CA][0] == '\0' && !creds->skips_verify &&
        !read_part(material, PART_CA, proc_trust_system())) {
        return NULL;
    }
    struct tls_outside_params params = {
        .cert_chain_pem = material->parts[PART_CERT],
        .key_pem = material->parts[PART_KEY],
        .roots_pem = material->parts[PART_CA],
        .crl_pem = material->parts[PART_CRL],
        .skips_verify = creds->skips_verify,
        .compliance = all.params.compliance,
    };
    char *error = NULL;
    struct tls_ctx *ctx = tls_ctx_new_outside(&params, &error);
    if (ctx == NULL) {
        snprintf(material->error, sizeof(material->error), "%s", error);
        free(error);
    }
    return ctx;
}

// ---- changes -----------------------------------------------------------------------------------

static bool files_changed(struct credentials *creds) {
    bool is_changed = false;
    for (size_t i = 0; i < N_PARTS; i++) {
        bool is_system = i == PART_CA && creds->files[i][0] == '\0' && !creds->skips_verify;
        if (creds->files[i][0] == '\0' && !is_system) {
            continue;
        }
        struct file_stamp stamp = file_stamp_of(is_system ? proc_trust_system() : creds->files[i]);
        if (!file_stamp_eq(&stamp, &creds->stamps[i])) {
            creds->stamps[i] = stamp;
            is_changed = true;
        }
    }
    return is_changed;
}

static bool secrets_changed(struct credentials *creds) {
    const struct kobj *objs[2];
    find_secrets(creds, objs);
    bool is_changed = false;
    for (size_t i = 0; i < ARRAY_LEN(objs); i++) {
        uint64_t hash = objs[i] != NULL ? objs[i]->hash : 0;
        is_changed = is_changed || hash != creds->hashes[i];
        creds->hashes[i] = hash;
    }
    return is_changed;
}

static const char *name_of(const struct credentials *creds) {
    if (creds->secret[0] != '\0') {
        return creds->secret;
    }
    for (size_t i = 0; i < N_PARTS; i++) {
        if (creds->files[i][0] != '\0') {
            return creds->files[i];
        }
    }
    return "system roots";
}

static void renew(struct credentials *creds, bool is_first) {
    bool is_changed = creds->secret[0] != '\0' ? secrets_changed(creds) : files_changed(creds);

    if (!is_changed && !is_first) {
        return;
    }
    struct material material = {0};
    struct tls_ctx *ctx = make(creds, &material), *old = NULL;
    pthread_mutex_lock(&all.lock);
    if (ctx != NULL) {
        old = creds->ctx;
        creds->ctx = ctx;
    }
    bool is_kept = ctx == NULL && creds->ctx != NULL;
    memcpy(creds->error, material.error, sizeof(creds->error));
    pthread_mutex_unlock(&all.lock);
    tls_ctx_unref(old);
    if (ctx == NULL) {
        log_warn(&log_tls,
                 is_kept ? "credentials not renewed, the last good ones stay in force"
                         : "credentials of a DestinationRule cannot be used",
                 LOG_STR("name", name_of(creds)), LOG_STR("reason", material.error));
    } else if (!is_first) {
        log_info(&log_tls, "credentials renewed", LOG_STR("name", name_of(creds)));
    }
    material_fini(&material);
}

// Others may only take entries out (give), under the lock; the references that are taken here keep
// those that are being looked at.
static size_t list_all(struct credentials ***ret_list) {
    pthread_mutex_lock(&all.lock);
    struct credentials **list = xcalloc(all.table.n_items + 1, sizeof(*list));
    size_t n = 0;
    HMAP_EACH_SAFE(pos, &all.table) {
        list[n] = HMAP_ITEM(pos, struct credentials, node);
        list[n++]->refs++;
    }
    pthread_mutex_unlock(&all.lock);
    *ret_list = list;
    return n;
}

void upstream_tls_refresh(void) {
    struct credentials **list;
    size_t n = list_all(&list);
    for (size_t i = 0; i < n; i++) {
        renew(list[i], false);
        upstream_tls_ops.give(list[i]);
    }
    free(list);
}

static void on_timer(struct timer *timer, uint64_t now) {
    upstream_tls_refresh();
    timer_set(&all.params.loop->timers, timer, now + LOOK_MS * NS_PER_MS);
}

void upstream_tls_open(const struct upstream_tls_params *params) {
    all.params = *params;
    timer_init(&all.timer, on_timer);
    timer_set(&params->loop->timers, &all.timer, params->loop->now + LOOK_MS * NS_PER_MS);
}

// ---- policies ----------------------------------------------------------------------------------

// What of the policy makes a credential, part by part.
static void names_of(const struct l7_tls_policy *tls, const char *ret_files[N_PARTS]) {
    bool is_mutual = tls->mode == TLS_MODE_MUTUAL;
    ret_files[PART_CERT] = is_mutual ? tls->client_certificate : "";
    ret_files[PART_KEY] = is_mutual ? tls->private_key : "";
    ret_files[PART_CA] = tls->skips_verify ? "" : tls->ca_certificates;
    ret_files[PART_CRL] = tls->skips_verify ? "" : tls->ca_crl;
}

static bool is_same(const struct credentials *creds, const struct l7_tls_policy *tls,
                    const char *const files[N_PARTS]) {
    bool is_equal = creds->is_mutual == (tls->mode == TLS_MODE_MUTUAL) &&
                    creds->skips_verify == tls->skips_verify &&
                    strcmp(creds->secret, tls->credential_name) == 0;
    for (size_t i = 0; i < N_PARTS && is_equal; i++) {
        is_equal = strcmp(creds->files[i], files[i]) == 0;
    }
    return is_equal;
}

static uint64_t hash_of(const struct l7_tls_policy *tls, const char *const files[N_PARTS]) {
    uint64_t hash = hash_bytes(slice_str(tls->credential_name)) * 2 + tls->mode;
    for (size_t i = 0; i < N_PARTS; i++) {
        hash = hash * 31 + hash_bytes(slice_str(files[i]));
    }
    return hash;
}

static struct credentials *find(const struct l7_tls_policy *tls, uint64_t hash,
                                const char *const files[N_PARTS]) {
    HMAP_EACH_WITH_HASH(pos, &all.table, hash) {
        struct credentials *creds = HMAP_ITEM(pos, struct credentials, node);
        if (is_same(creds, tls, files)) {
            return creds;
        }
    }
    return NULL;
}

static void *take(const struct l7_tls_policy *tls) {
    const char *files[N_PARTS];
    names_of(tls, files);
    uint64_t hash = hash_of(tls, files);
    pthread_mutex_lock(&all.lock);
    struct credentials *creds = find(tls, hash, files);
    bool is_new = creds == NULL;
    if (is_new) {
        creds = xcalloc(1, sizeof(*creds));
        creds->is_mutual = tls->mode == TLS_MODE_MUTUAL;
        creds->skips_verify = tls->skips_verify;
        creds->secret = xstrdup(tls->credential_name);
        for (size_t i = 0; i < N_PARTS; i++) {
            creds->files[i] = xstrdup(files[i]);
        }
        hmap_insert(&all.table, &creds->node, hash);
    }
    creds->refs++;
    pthread_mutex_unlock(&all.lock);
    if (is_new) {
        renew(creds, true);
    }
    return creds;
}

static void give(void *item) {
    struct credentials *creds = item;
    pthread_mutex_lock(&all.lock);
    bool is_last = --creds->refs == 0;
    if (is_last) {
        hmap_remove(&all.table, &creds->node);
    }
    pthread_mutex_unlock(&all.lock);
    if (!is_last) {
        return;
    }
    tls_ctx_unref(creds->ctx);
    for (size_t i = 0; i < N_PARTS; i++) {
        free(creds->files[i]);
    }
    free(creds->secret);
    free(creds);
}

const struct l7_tls_ops upstream_tls_ops = {.take = take, .give = give};

// ---- connections -------------------------------------------------------------------------------

static struct tls_ctx *ctx_of(const struct l7_tls_policy *tls, char *text, size_t size) {
    struct credentials *creds = tls->credentials;
    struct tls_ctx *ctx = NULL;
    pthread_mutex_lock(&all.lock);
    if (creds->ctx != NULL) {
        ctx = tls_ctx_ref(creds->ctx);
    } else {
        snprintf(text, size, "TLS credentials: %s", creds->error);
    }
    pthread_mutex_unlock(&all.lock);
    return ctx;
}

size_t upstream_ahead(const struct l7_settings *settings, const struct addr *client,
                      const struct addr *called, uint8_t ret_header[PROXY_HEADER_MAX]) {
    switch ((enum kobj_proxy_protocol)settings->proxy_protocol) {
    case PROXY_PROTOCOL_V1:
        return proxy_header_v1(client, called, ret_header);
    case PROXY_PROTOCOL_V2:
        return proxy_header_v2(client, called, ret_header);
    case PROXY_PROTOCOL_NONE:
        break;
    }
    return 0;
}

size_t upstream_tls_name(struct slice authority, char ret_name[UPSTREAM_NAME_MAX]) {
    struct slice name = authority, port;
    if (slice_has_prefix(authority, SLICE_LIT("["))) {
        if (!slice_split(slice_skip(authority, 1), ']', &name, &port)) {
            name.len = 0;
        }
    } else {
        (void)slice_split(authority, ':', &name, &port);
    }
    if (name.len >= UPSTREAM_NAME_MAX) {
        name.len = 0; // no name of a host
    }
    for (size_t i = 0; i < name.len; i++) {
        uint8_t c = name.ptr[i];
        ret_name[i] = (char)(c >= 'A' && c <= 'Z' ? c | 0x20 : c);
    }
    ret_name[name.len] = '\0';
    return name.len;
}

// What the certificate has to be for; a heap list.
static size_t accepted_names(const struct l7_tls_policy *tls, const struct service *service,
                             struct slice name, struct slice **ret_names) {
    size_t n = tls->n_sans > 0 ? tls->n_sans : service != NULL ? service->n_sans : 0;
    struct slice *names = xcalloc(n + 1, sizeof(*names));
    *ret_names = names;
    for (size_t i = 0; i < n; i++) {
        names[i] = slice_str(tls->n_sans > 0 ? tls->sans[i] : service->sans[i]);
    }
    if (n == 0 && name.len > 0) {
        names[n++] = name;
    }
    return n;
}

bool upstream_tls_set(const struct l7_settings *settings, const struct service *service,
                      struct slice name, enum tls_alpn alpn, struct upstream_target *target,
                      char *text, size_t size) {
    const struct l7_tls_policy *tls = &settings->tls;
    struct ip ip;
    if (!l7_tls_is_on(tls)) {
        return true;
    }
    struct tls_ctx *ctx = ctx_of(tls, text, size);
    if (ctx == NULL) {
        return false;
    }
    if (tls->sni[0] != '\0') {
        name = slice_str(tls->sni);
    }
    struct slice *names;
    size_t n_names = accepted_names(tls, service, name, &names);
    if (n_names == 0 && !tls->skips_verify) {
        // A chain alone would let any site answer.
        snprintf(text, size,
                 "no name to check the server's certificate against: set sni or "
                 "subjectAltNames");
        free(names);
        tls_ctx_unref(ctx);
        return false;
    }
    target->tls = ctx;
    target->server = (struct tls_outside_server){
        .sni = ip_parse(name, &ip) ? (struct slice){0} : name, // RFC 6066 3: no addresses
        .names = names,
        .n_names = n_names,
        .alpn = alpn,
    };
    return true;
}

void upstream_tls_unset(struct upstream_target *target) {
    if (target->tls != NULL) {
        tls_ctx_unref(target->tls);
        free((void *)(uintptr_t)target->server.names);
        target->tls = NULL;
    }
}

void upstream_tls_each_problem(void (*fn)(void *arg, const char *name, const char *text),
                               void *arg) {
    struct credentials **list;
    size_t n = list_all(&list);
    for (size_t i = 0; i < n; i++) {
        char text[ERROR_MAX];
        pthread_mutex_lock(&all.lock);
        memcpy(text, list[i]->error, sizeof(text));
        pthread_mutex_unlock(&all.lock);
        if (text[0] != '\0') {
            fn(arg, name_of(list[i]), text);
        }
        upstream_tls_ops.give(list[i]);
    }
    free(list);
}

// SPDX-License-Identifier: Apache-2.0
#include "common/net/dns_cache.h"

#include <stdlib.h>
#include <string.h>

struct cached {
    struct hmap_node node; // cache->names
    struct list by_use; // cache->by_use
    struct list told; // cache->told, while its answer waits for the flush
    struct dns_cache *cache; // NULL: that is gone, the look-up frees it
    struct list waiting; // dns_cache_query.node
    char *host;
    struct ip *ips;
    uint32_t n_ips;
    const char *text;
    uint64_t good_until, stale_until; // monotonic; 0: never was
    bool is_running, has_answer, is_told; // is_told: its queries are, now
};

struct dns_cache {
    struct dns_cache_config config;
    struct hmap names;
    struct list by_use; // the one that was asked for last is last
    struct list told; // names whose queries are told in this turn
    struct loop_flush flush;
    struct dns_cache_stats stats;
};

static uint64_t now_of(const struct dns_cache *cache) {
    return cache->config.loop->now;
}

static void entry_free(struct cached *entry) {
    free(entry->host);
    free(entry->ips);
    free(entry);
}

// A look-up that runs keeps the memory.
static void entry_drop(struct cached *entry) {
    hmap_remove(&entry->cache->names, &entry->node);
    list_del(&entry->by_use);
    list_del(&entry->told);
    entry->cache = NULL;
    if (!entry->is_running) {
        entry_free(entry);
    }
}

// ---- answers -----------------------------------------------------------------------------------

static bool is_servers(const struct ip *ip) {
    return !ip_is_loopback(ip) && !ip_is_unspecified(ip) && !ip_is_link_local(ip) &&
           !ip_is_multicast(ip);
}

static void take_addresses(struct cached *entry, const struct dns_result *result) {
    struct ip *ips = xcalloc(result->n_ips + 1, sizeof(*ips));
    uint32_t n = 0;
    for (uint32_t i = 0; i < result->n_ips; i++) {
        if (is_servers(&result->ips[i])) {
            ips[n++] = result->ips[i];
        }
    }
    free(entry->ips);
    entry->ips = ips;
    entry->n_ips = n;
    entry->text = n > 0 ? "" : "no address of a server";
}

static void take_failure(struct cached *entry, const char *text) {
    free(entry->ips);
    entry->ips = NULL;
    entry->n_ips = 0;
    entry->text = text;
}

static void set_times(struct cached *entry, uint32_t good_s, uint32_t stale_s) {
    entry->good_until = now_of(entry->cache) + good_s * NS_PER_SEC;
    entry->stale_until = entry->good_until + stale_s * NS_PER_SEC;
}

static void take_result(struct cached *entry, const struct dns_result *result) {
    if (result->outcome == DNS_FOUND) {
        take_addresses(entry, result);
        uint32_t ttl_s =
            MAX(MIN(result->ttl_s, (uint32_t)DNS_CACHE_TTL_MAX_S), (uint32_t)DNS_CACHE_TTL_MIN_S);
        set_times(entry, ttl_s, entry->n_ips > 0 ? DNS_CACHE_STALE_S : 0);
        return;
    }
    entry->cache->stats.n_failures++;
    if (result->outcome == DNS_NO_NAME || result->outcome == DNS_NO_DATA) {
        take_failure(entry, result->text);
        set_times(entry, DNS_CACHE_NONE_S, 0);
    } else if (entry->n_ips > 0 && now_of(entry->cache) < entry->stale_until) {
        // The last good answer stays; not every query asks again.
        entry->good_until =
            MIN(now_of(entry->cache) + DNS_CACHE_FAILED_S * NS_PER_SEC, entry->stale_until);
    } else {
        take_failure(entry, result->text);
        set_times(entry, DNS_CACHE_FAILED_S, 0);
    }
}

static void tell(struct cached *entry) {
    struct dns_cache *cache = entry->cache;
    struct dns_cache_answer answer = {
        .ips = entry->ips, .n_ips = entry->n_ips, .text = entry->text};
    entry->is_told = true;
    while (!list_empty(&entry->waiting)) {
        struct dns_cache_query *query =
            LIST_ITEM(entry->waiting.next, struct dns_cache_query, node);
        list_del(&query->node);
        query->cache = NULL;
        cache->stats.n_waiting--;
        query->fn(query, &answer); // may ask for another name, and cancel others
    }
    entry->is_told = false;
}

static void on_flush(struct loop_flush *flush) {
    struct dns_cache *cache = CONTAINER_OF(flush, struct dns_cache, flush);
    struct list *node;
    while ((node = list_pop_front(&cache->told)) != NULL) {
        tell(LIST_ITEM(node, struct cached, told));
    }
}

static void on_result(void *arg, const struct dns_result *result) {
    struct cached *entry = arg;
    entry->is_running = false;
    if (entry->cache == NULL) {
        entry_free(entry);
        return;
    }
    take_result(entry, result);
    entry->has_answer = true;
    list_del(&entry->told);
    list_push_back(&entry->cache->told, &entry->told);
    loop_flush_arm(entry->cache->config.loop, &entry->cache->flush);
}

// ---- names -------------------------------------------------------------------------------------

static struct cached *find(const struct dns_cache *cache, const char *host, uint64_t hash) {
    HMAP_EACH_WITH_HASH(pos, &cache->names, hash) {
        struct cached *entry = HMAP_ITEM(pos, struct cached, node);
        if (strcmp(entry->host, host) == 0) {
            return entry;
        }
    }
    return NULL;
}

// False: somebody waits for each of them.
static bool make_room(struct dns_cache *cache) {
    LIST_EACH_SAFE(pos, &cache->by_use) {
        struct cached *entry = LIST_ITEM(pos, struct cached, by_use);
        if (!entry->is_running && !entry->is_told && list_empty(&entry->waiting)) {
            cache->stats.n_evicted++;
            entry_drop(entry);
            return true;
        }
    }
    return false;
}

static struct cached *add(struct dns_cache *cache, const char *host, uint64_t hash) {
    struct cached *entry = xcalloc(1, sizeof(*entry));
    entry->cache = cache;
    entry->host = xstrdup(host);
    entry->text = "";
    list_init(&entry->waiting);
    list_init(&entry->told);
    list_push_back(&cache->by_use, &entry->by_use);
    hmap_insert(&cache->names, &entry->node, hash);
    return entry;
}

static void look_up(struct cached *entry) {
    struct dns_cache *cache = entry->cache;
    entry->is_running = true;
    cache->stats.n_lookups++;
    cache->config.look_up(cache->config.arg, entry->host, on_result, entry);
}

static enum dns_cache_verdict answer_of(const struct cached *entry, struct dns_cache_answer *ret) {
    *ret = (struct dns_cache_answer){.ips = entry->ips, .n_ips = entry->n_ips, .text = entry->text};
    return DNS_CACHE_HERE;
}

enum dns_cache_verdict dns_cache_ask(struct dns_cache *cache, const char *host,
                                     struct dns_cache_query *query,
                                     struct dns_cache_answer *ret_answer) {
    uint64_t now = now_of(cache), hash = hash_bytes(slice_str(host));
    struct cached *entry = find(cache, host, hash);
    if (entry == NULL) {
        if (cache->names.n_items >= cache->config.max_names && !make_room(cache)) {
            return DNS_CACHE_FULL;
        }
        entry = add(cache, host, hash);
    } else {
        list_del(&entry->by_use);
        list_push_back(&cache->by_use, &entry->by_use);
    }
    if (entry->has_answer && now < entry->good_until) {
        return answer_of(entry, ret_answer);
    }
    bool is_usable = entry->n_ips > 0 && now < entry->stale_until;
    if (!is_usable && cache->stats.n_waiting >= cache->config.max_waiting) {
        return DNS_CACHE_BUSY;
    }
    if (!is_usable) {
        query->cache = cache;
        list_init(&query->node);
        list_push_back(&entry->waiting, &query->node);
        cache->stats.n_waiting++;
    }
    if (!entry->is_running) {
        look_up(entry);
    }
    return is_usable ? answer_of(entry, ret_answer) : DNS_CACHE_WAITS;
}

void dns_cache_cancel(struct dns_cache_query *query) {
    if (query->cache != NULL) {
        list_del(&query->node);
        query->cache->stats.n_waiting--;
        query->cache = NULL;
    }
}

// ---- life --------------------------------------------------------------------------------------

struct dns_cache *dns_cache_new(const struct dns_cache_config *config) {
    struct dns_cache *cache = xcalloc(1, sizeof(*cache));
    cache->config = *config;
    if (cache->config.max_names == 0) {
        cache->config.max_names = DNS_CACHE_NAMES_MAX;
    }
    if (cache->config.max_waiting == 0) {
        cache->config.max_waiting = DNS_CACHE_WAITING_MAX;
    }
    hmap_init(&cache->names);
    list_init(&cache->by_use);
    list_init(&cache->told);
    loop_flush_init(&cache->flush, on_flush);
    return cache;
}

void dns_cache_free(struct dns_cache *cache) {
    if (cache == NULL) {
        return;
    }
    CHECK(cache->stats.n_waiting == 0);
    loop_flush_disarm(&cache->flush);
    HMAP_EACH_SAFE(pos, &cache->names) {
        entry_drop(HMAP_ITEM(pos, struct cached, node));
    }
    hmap_fini(&cache->names);
    free(cache);
}

void dns_cache_get_stats(const struct dns_cache *cache, struct dns_cache_stats *ret_stats) {
    *ret_stats = cache->stats;
    ret_stats->n_names = (uint32_t)cache->names.n_items;
}

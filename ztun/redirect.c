// SPDX-License-Identifier: Apache-2.0
#include "ztun/redirect.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "ztun/redirect_nft.h"
#include "ztun/redirect_priv.h"

#define TABLE "inet ztun"
#define OWNER_TAG "comment \"owner gen="

enum {
    ATTEMPTS_MAX = 5, // another process may be at it, too
    SPEC_REMOVED = 0, // the specification after the first stage of removal
    LISTING_MAX = 1 << 20, // of our table; nobody puts that much into it in good faith
};

// What is in the kernel.
struct rules_state {
    bool exists;
    bool has_nat; // something is redirected
    uint64_t owner_handle; // of the owner rule; 0 = there is none
    uint64_t owner, spec, signed_listing; // as the owner rule says
    uint64_t listing; // hash of the table without the owner rule
};

uint64_t redirect_owner(void) {
    struct timespec ts;
    CHECK(clock_gettime(CLOCK_BOOTTIME, &ts) == 0);
    return (uint64_t)ts.tv_sec * 1000000000 + (uint64_t)ts.tv_nsec;
}

// FNV-1a: the value is stored in the kernel, so it must be the same in every process.
static uint64_t stable_hash(uint64_t hash, struct slice bytes) {
    for (size_t i = 0; i < bytes.len; i++) {
        hash = (hash ^ bytes.ptr[i]) * UINT64_C(0x100000001b3);
    }
    return hash;
}
static const uint64_t hash_start = UINT64_C(0xcbf29ce484222325);

static struct slice next_line(struct slice *rest) {
    struct slice line = *rest;
    if (slice_split(*rest, '\n', &line, rest)) {
        return line;
    }
    *rest = slice_skip(*rest, rest->len);
    return line;
}

static void parse_line(const char *line, struct rules_state *state) {
    const char *tag = strstr(line, OWNER_TAG);
    if (tag == NULL) {
        state->listing = stable_hash(state->listing, slice_str(line));
        state->has_nat = state->has_nat || strstr(line, " redirect to ") != NULL;
        return;
    }
    if (sscanf(tag + strlen(OWNER_TAG),
               "%" SCNx64 " spec=%" SCNx64 " list=%" SCNx64 "\" # handle %" SCNu64, &state->owner,
               &state->spec, &state->signed_listing, &state->owner_handle) != 4) {
        state->owner_handle = 0; // not by us: the table will be made anew
    }
}

static int read_state(struct rules_state *ret, char error[REDIRECT_ERROR_MAX]) {
    *ret = (struct rules_state){.listing = hash_start};
    struct buf out;
    buf_init(&out, LISTING_MAX);
    int rc = redirect_nft_run("list table " TABLE "\n",
                              NFT_CTX_OUTPUT_STATELESS | NFT_CTX_OUTPUT_HANDLE |
                                  NFT_CTX_OUTPUT_NUMERIC_ALL,
                              &out, error);
    if (rc == 0) {
        ret->exists = true;
        struct slice rest = buf_slice(&out);
        while (rest.len > 0) {
            char *line = slice_dup(next_line(&rest));
            parse_line(line, ret);
            free(line);
        }
    }
    buf_fini(&out);
    if (rc == -ENOENT) {
        error[0] = '\0';
        rc = 0;
    }
    return rc;
}

static void script_interfaces(const struct redirect_params *p, struct buf *buf,
                              uint32_t *ret_n_bad) {
    struct slice rest = slice_str(p->virtual_interfaces);
    uint32_t n = 0;
    *ret_n_bad = 0;
    while (rest.len > 0) {
        struct slice name = rest;
        if (!slice_split(rest, ',', &name, &rest)) {
            rest = slice_skip(rest, rest.len);
        }
        name = slice_trim(name);
        // The text comes from an annotation: nothing may get into the script that is not a name.
        bool is_good = name.len > 0 && name.len < 16 && n < REDIRECT_INTERFACES_MAX;
        for (size_t i = 0; i < name.len && is_good; i++) {
            uint8_t c = name.ptr[i];
            is_good = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                      c == '-' || c == '_' || c == '.';
        }
        if (!is_good) {
            *ret_n_bad += name.len > 0;
            continue;
        }
        n++;
        buf_printf(buf,
                   "add rule " TABLE
                   " nat_pre iifname \"%.*s\" tcp flags & (fin|syn|rst|ack) == syn"
                   " counter redirect to :%u comment \"interface %.*s\"\n",
                   SLICE_ARG(name), p->outbound_port, SLICE_ARG(name));
    }
}

struct family {
    const char *l3, *name, *loopback;
    const struct ip *probe;
    bool is_on, has_dns;
};

static void script_nat_pre(const struct redirect_params *p, const struct family *f,
                           struct buf *buf) {
    char text[IP_TEXT_MAX];
    if (!f->is_on || p->bypass_inbound) {
        return;
    }
    if (ip_is_set(f->probe)) {
        buf_printf(buf,
                   "add rule " TABLE " nat_pre %s saddr %s meta l4proto tcp counter accept"
                   " comment \"probe %s\"\n",
                   f->l3, ip_text(f->probe, text), f->name);
    }
    for (size_t i = 0; i < ARRAY_LEN(p->free_ports); i++) {
        if (p->free_ports[i] != 0) {
            buf_printf(buf,
                       "add rule " TABLE " nat_pre meta nfproto %s tcp dport %u counter accept"
                       " comment \"port %u %s\"\n",
                       f->name[1] == '4' ? "ipv4" : "ipv6", p->free_ports[i], p->free_ports[i],
                       f->name);
        }
    }
    buf_printf(buf,
               "add rule " TABLE " nat_pre %s daddr != %s tcp dport != %u"
               " tcp flags & (fin|syn|rst|ack) == syn meta mark & 0xfff != 0x%x"
               " counter redirect to :%u comment \"inbound %s\"\n",
               f->l3, f->loopback, p->hbone_port, p->mark, p->inbound_port, f->name);
}

static void script_nat_out(const struct redirect_params *p, const struct family *f,
                           struct buf *buf) {
    char text[IP_TEXT_MAX];
    if (!f->is_on) {
        return;
    }
    if (ip_is_set(f->probe)) {
        buf_printf(buf,
                   "add rule " TABLE " nat_out %s daddr %s meta l4proto tcp counter accept"
                   " comment \"to probe %s\"\n",
                   f->l3, ip_text(f->probe, text), f->name);
    }
    if (f->has_dns) {
        // Resolvers on the loopback interface are the pod's own business.
        buf_printf(buf,
                   "add rule " TABLE " nat_out meta nfproto %s oifname != \"lo\" udp dport 53"
                   " meta mark & 0xfff != 0x%x counter redirect to :%u comment \"dns udp %s\"\n",
                   f->name[1] == '4' ? "ipv4" : "ipv6", p->mark, p->dns_port, f->name);
        buf_printf(buf,
                   "add rule " TABLE " nat_out %s daddr != %s tcp dport 53"
                   " tcp flags & (fin|syn|rst|ack) == syn meta mark & 0xfff != 0x%x"
                   " counter redirect to :%u comment \"dns tcp %s\"\n",
                   f->l3, f->loopback, p->mark, p->dns_port, f->name);
    }
    buf_printf(buf,
               "add rule " TABLE
               " nat_out %s daddr != %s meta l4proto tcp meta mark & 0xfff == 0x%x"
               " counter accept comment \"answers %s\"\n",
               f->l3, f->loopback, REDIRECT_CONN_MARK, f->name);
    buf_printf(buf,
               "add rule " TABLE " nat_out %s daddr != %s oifname \"lo\" counter accept"
               " comment \"to itself %s\"\n",
               f->l3, f->loopback, f->name);
    buf_printf(buf,
               "add rule " TABLE " nat_out %s daddr != %s tcp flags & (fin|syn|rst|ack) == syn"
               " meta mark & 0xfff != 0x%x counter redirect to :%u comment \"outbound %s\"\n",
               f->l3, f->loopback, p->mark, p->outbound_port, f->name);
}

// Tunnels are neither translated nor marked: connection tracking would only cost time. Anybody can
// have the HBONE port as source port, even a captured flow, when the kernel has to give it another
// one: what is not a tunnel's must not pass translation by, or nobody looks at it.
static void script_untracked(const struct redirect_params *p, struct buf *buf) {
    buf_printf(buf,
               "add rule " TABLE " raw_out meta mark & 0xfff == 0x%x tcp dport %u"
               " tcp sport != { %u, %u, %u } counter notrack comment \"tunnels out\"\n"
               "add rule " TABLE " raw_out meta mark & 0xfff == 0x%x tcp sport %u counter"
               " notrack comment \"tunnels' answers\"\n"
               "add rule " TABLE " raw_pre tcp dport %u counter notrack comment \"tunnels in\"\n"
               "add rule " TABLE " raw_pre tcp sport %u socket mark & 0xfff == 0x%x counter notrack"
               " comment \"answers\"\n",
               p->mark, p->hbone_port, p->outbound_port, p->inbound_port, p->dns_port, p->mark,
               p->hbone_port, p->hbone_port, p->hbone_port, p->mark);
}

static void script_marks(const struct redirect_params *p, struct buf *buf) {
    buf_printf(buf, "add chain " TABLE " raw_out { type filter hook output priority -300; }\n"
                    "add chain " TABLE " raw_pre { type filter hook prerouting priority -300; }\n");
    if (!p->track_tunnels) {
        script_untracked(p, buf);
    }
    if (p->dns_v4 || p->dns_v6) {
        // Our own queries must not meet the translation of an application's query that has the
        // same ports: another conntrack zone.
        buf_printf(buf,
                   "add rule " TABLE " raw_out meta mark & 0xfff == 0x%x udp dport 53 counter"
                   " ct zone set 1 comment \"own dns\"\n"
                   "add rule " TABLE " raw_pre meta mark & 0xfff != 0x%x udp sport 53 counter"
                   " ct zone set 1 comment \"dns answers\"\n",
                   p->mark, p->mark);
    }
    if (p->original_source) {
        // A connection of ours that reaches the application over the loopback interface, maybe
        // with the client's address: answers to it are routed back to us, not to the client.
        buf_printf(buf,
                   "add chain " TABLE " mangle_pre { type filter hook prerouting priority -150; }\n"
                   // A client whose source port is that of such a connection: conntrack takes it
                   // for ours. Let it try another port at once, rather than pass us by and hang.
                   "add rule " TABLE
                   " mangle_pre iifname != \"lo\" tcp flags & (fin|syn|rst|ack) == syn"
                   " ct mark & 0xfff == 0x%x counter reject with tcp reset comment \"taken\"\n"
                   "add rule " TABLE
                   " mangle_pre meta l4proto tcp meta mark & 0xfff == 0x%x counter"
                   " ct mark set ct mark & 0xfffff000 | 0x%x comment \"own\"\n"
                   "add chain " TABLE " mangle_out { type route hook output priority -150; }\n"
                   "add rule " TABLE " mangle_out meta l4proto tcp meta mark & 0xfff != 0x%x"
                   // Our own packets find their way: a changed mark costs each a second look-up.
                   // The reset of "taken" is related, and the client's.
                   " ct mark & 0xfff == 0x%x ct state != related counter meta mark set ct mark"
                   " comment \"answers\"\n",
                   REDIRECT_CONN_MARK, p->mark, REDIRECT_CONN_MARK, p->mark, REDIRECT_CONN_MARK);
    }
}

void redirect_script(const struct redirect_params *p, struct buf *buf, uint32_t *ret_n_bad) {
    const struct family families[] = {
        {"ip", "v4", "127.0.0.1", &p->probe_v4, p->has_v4, p->dns_v4},
        {"ip6", "v6", "::1", &p->probe_v6, p->has_v6, p->dns_v6},
    };
    buf_append_str(buf, "add table " TABLE "\nadd chain " TABLE " owner\n");
    script_marks(p, buf);
    buf_append_str(buf, "add chain " TABLE " nat_pre { type nat hook prerouting priority -100; }\n"
                        "add chain " TABLE " nat_out { type nat hook output priority -100; }\n");
    script_interfaces(p, buf, ret_n_bad);
    for (size_t i = 0; i < ARRAY_LEN(families); i++) {
        script_nat_pre(p, &families[i], buf);
        script_nat_out(p, &families[i], buf);
    }
}

static void script_sign(struct buf *buf, uint64_t owner, uint64_t spec, uint64_t listing) {
    buf_printf(buf,
               "add rule " TABLE " owner counter " OWNER_TAG "%" PRIx64 " spec=%" PRIx64
               " list=%" PRIx64 "\"\n",
               owner, spec, listing);
}

// The compare of compare-and-swap: fails the transaction when the owner rule is another one by now.
static void script_unsign(struct buf *buf, const struct rules_state *state) {
    if (state->owner_handle != 0) {
        buf_printf(buf, "delete rule " TABLE " owner handle %" PRIu64 "\n", state->owner_handle);
    }
}

// The table is as the process that signed it left it.
static bool is_intact(const struct rules_state *state) {
    return state->owner_handle != 0 && state->signed_listing == state->listing;
}

static enum redirect_status status_of(const struct rules_state *state, uint64_t spec) {
    if (!state->exists) {
        return REDIRECT_INSTALLED;
    }
    if (!is_intact(state)) {
        return REDIRECT_REPAIRED;
    }
    return state->spec == spec ? REDIRECT_KEPT : REDIRECT_CHANGED;
}

static int sign(const struct rules_state *state, uint64_t owner, uint64_t spec,
                char error[REDIRECT_ERROR_MAX]) {
    struct buf buf;
    buf_init(&buf, LISTING_MAX);
    script_unsign(&buf, state);
    script_sign(&buf, owner, spec, state->listing);
    int rc = redirect_nft_run(buf_cstr(&buf), 0, NULL, error);
    buf_fini(&buf);
    return rc;
}

// Runs commands on a table in the state that was read, and signs it with the listing that results.
static int edit(const struct rules_state *state, uint64_t owner, uint64_t spec,
                struct slice commands, char error[REDIRECT_ERROR_MAX]) {
    struct buf buf;
    buf_init(&buf, LISTING_MAX);
    script_unsign(&buf, state);
    buf_append(&buf, commands);
    script_sign(&buf, owner, spec, 0);
    int rc = redirect_nft_run(buf_cstr(&buf), 0, NULL, error);
    buf_fini(&buf);
    if (rc == 0) {
        struct rules_state made;
        rc = read_state(&made, error);
        if (rc == 0 && made.owner_handle != 0 && made.owner == owner) {
            rc = sign(&made, owner, spec, error);
        }
    }
    return rc;
}

static int replace(const struct rules_state *state, uint64_t owner, uint64_t spec,
                   struct slice script, char error[REDIRECT_ERROR_MAX]) {
    struct buf buf;
    buf_init(&buf, LISTING_MAX);
    // `create` fails when another process has made the table meanwhile.
    buf_append_str(&buf, state->exists ? "delete table " TABLE "\n" : "create table " TABLE "\n");
    buf_append(&buf, script);
    int rc = edit(state, owner, spec, buf_slice(&buf), error);
    buf_fini(&buf);
    return rc;
}

// For a log line only, so a failure does not matter.
static uint32_t count_old_flows(void) {
    uint32_t n = 0;
    return redirect_count_flows(&n) == 0 ? n : 0;
}

static int install_rules(uint64_t owner, struct slice script, struct redirect_result *ret) {
    uint64_t spec = stable_hash(hash_start, script);
    int rc = 0;
    for (int i = 0; i < ATTEMPTS_MAX; i++) {
        struct rules_state state;
        rc = read_state(&state, ret->error);
        if (rc < 0) {
            return rc;
        }
        if (state.owner > owner) {
            ret->status = REDIRECT_FOREIGN;
            return 0;
        }
        ret->status = status_of(&state, spec);
        if (ret->status == REDIRECT_KEPT) {
            rc = state.owner == owner ? 0 : sign(&state, owner, spec, ret->error);
        } else {
            if (!state.exists) {
                ret->n_old_flows = count_old_flows();
            }
            rc = replace(&state, owner, spec, script, ret->error);
        }
        if (rc == 0) {
            return 0;
        }
    }
    return rc;
}

static int install_routes(const struct redirect_params *params, struct redirect_result *ret) {
    int rc = 0;
    if (params->original_source && params->has_v4) {
        rc = redirect_routes_add(AF_INET);
    }
    if (rc == 0 && params->original_source && params->has_v6) {
        rc = redirect_routes_add(AF_INET6);
        // IPv6 is off on the loopback interface, or everywhere: nothing to route.
        rc = rc == -EACCES || rc == -EINVAL || rc == -EOPNOTSUPP || rc == -EAFNOSUPPORT ? 0 : rc;
    }
    if (rc < 0) {
        snprintf(ret->error, sizeof(ret->error), "policy routes: %s%s", strerror(-rc),
                 rc == -ENETDOWN ? " (is the loopback interface up?)" : "");
    }
    return rc;
}

int redirect_install(const struct redirect_params *params, uint64_t owner,
                     struct redirect_result *ret) {
    *ret = (struct redirect_result){0};
    int rc = redirect_nft_begin(ret->error);
    if (rc < 0) {
        return rc;
    }
    struct buf script;
    buf_init(&script, LISTING_MAX);
    redirect_script(params, &script, &ret->n_bad_interfaces);
    rc = install_routes(params, ret);
    if (rc == 0) {
        rc = install_rules(owner, buf_slice(&script), ret);
    }
    if (rc == -ENOENT && !params->track_tunnels) {
        // A kernel without nft_socket.
        struct redirect_params plain = *params;
        plain.track_tunnels = true;
        buf_clear(&script);
        redirect_script(&plain, &script, &ret->n_bad_interfaces);
        rc = install_rules(owner, buf_slice(&script), ret);
    }
    buf_fini(&script);
    redirect_nft_end();
    return rc;
}

static int delete_table(const struct rules_state *state, char error[REDIRECT_ERROR_MAX]) {
    struct buf buf;
    buf_init(&buf, LISTING_MAX);
    script_unsign(&buf, state);
    buf_append_str(&buf, "delete table " TABLE "\n");
    int rc = redirect_nft_run(buf_cstr(&buf), 0, NULL, error);
    buf_fini(&buf);
    return rc;
}

static int try_remove(uint64_t owner, bool nat_only, struct redirect_result *ret) {
    // The empty chains stay: with a namespace's last one the kernel stops to translate the flows
    // that are running, too.
    static const struct slice nat_off =
        SLICE_LIT("flush chain " TABLE " nat_pre\nflush chain " TABLE " nat_out\n");
    int rc = 0;
    for (int i = 0; i < ATTEMPTS_MAX; i++) {
        struct rules_state state;
        rc = read_state(&state, ret->error);
        if (rc < 0) {
            return rc;
        }
        if (state.owner > owner) {
            ret->status = REDIRECT_FOREIGN;
            return 0;
        }
        if (!state.exists || (nat_only && !state.has_nat)) {
            return 0;
        }
        rc = nat_only ? edit(&state, owner, SPEC_REMOVED, nat_off, ret->error)
                      : delete_table(&state, ret->error);
        if (rc == 0) {
            return 0;
        }
    }
    return rc;
}

static int remove_stage(uint64_t owner, bool nat_only, struct redirect_result *ret) {
    *ret = (struct redirect_result){.status = REDIRECT_KEPT};
    int rc = redirect_nft_begin(ret->error);
    if (rc == 0) {
        rc = try_remove(owner, nat_only, ret);
        redirect_nft_end();
    }
    return rc;
}

int redirect_remove_nat(uint64_t owner, struct redirect_result *ret) {
    return remove_stage(owner, true, ret);
}

int redirect_remove(uint64_t owner, struct redirect_result *ret) {
    int rc = remove_stage(owner, false, ret);
    if (rc < 0 || ret->status == REDIRECT_FOREIGN) {
        return rc;
    }
    rc = redirect_routes_del(AF_INET);
    int rc6 = redirect_routes_del(AF_INET6);
    rc = rc < 0 ? rc : rc6;
    if (rc < 0) {
        snprintf(ret->error, sizeof(ret->error), "policy routes: %s", strerror(-rc));
    }
    return rc;
}

int redirect_text(struct buf *buf) {
    int rc = redirect_nft_begin(NULL);
    if (rc == 0) {
        rc = redirect_nft_run("list table " TABLE "\n", NFT_CTX_OUTPUT_NUMERIC_ALL, buf, NULL);
        redirect_nft_end();
    }
    return rc;
}

static bool parse_counter(const char *line, struct redirect_counter *item) {
    const char *counter = strstr(line, "counter packets ");
    const char *comment = strstr(line, "comment \"");
    return counter != NULL && comment != NULL &&
           sscanf(counter, "counter packets %" SCNu64 " bytes %" SCNu64, &item->n_packets,
                  &item->n_bytes) == 2 &&
           sscanf(comment, "comment \"%47[^\"]", item->rule) == 1;
}

int redirect_counters(struct redirect_counter items[REDIRECT_COUNTERS_MAX], uint32_t *ret_n) {
    struct buf out;
    buf_init(&out, LISTING_MAX);
    int rc = redirect_text(&out);
    struct slice rest = rc == 0 ? buf_slice(&out) : slice_make(NULL, 0);
    char chain[24] = "";
    uint32_t n = 0;
    while (rest.len > 0 && n < REDIRECT_COUNTERS_MAX) {
        char *line = slice_dup(next_line(&rest));
        struct redirect_counter *item = &items[n];
        *item = (struct redirect_counter){0};
        (void)sscanf(line, " chain %23s", chain);
        if (strcmp(chain, "owner") != 0 && parse_counter(line, item)) {
            memcpy(item->chain, chain, sizeof(chain));
            n++;
        }
        free(line);
    }
    buf_fini(&out);
    if (rc == 0) {
        *ret_n = n;
    }
    return rc;
}

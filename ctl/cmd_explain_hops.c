// SPDX-License-Identifier: Apache-2.0
//
// What there is on the way in one network namespace. Reads only.
#include <errno.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <nftables/libnftables.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/base/addr.h"
#include "common/base/buf.h"
#include "ctl/cmd_explain.h"
#include "ctl/http_get.h"
#include "ctl/local_json.h"
#include "ctl/local_sys.h"

// ---- interfaces --------------------------------------------------------------------------------

static json_t *interfaces(void) {
    json_t *list = json_object();
    struct ifaddrs *all = NULL;
    if (getifaddrs(&all) < 0) {
        return list;
    }
    for (const struct ifaddrs *at = all; at != NULL; at = at->ifa_next) {
        struct addr addr;
        char text[IP_TEXT_MAX];
        json_t *item = json_object_get(list, at->ifa_name);
        if (item == NULL) {
            item = json_pack("{s:b, s:[]}", "up", (at->ifa_flags & IFF_UP) != 0, "addresses");
            json_object_set_new(list, at->ifa_name, item);
        }
        if (at->ifa_addr != NULL && addr_from_sockaddr(at->ifa_addr, &addr)) {
            json_array_append_new(json_object_get(item, "addresses"),
                                  json_string(ip_text(&addr.ip, text)));
        }
    }
    freeifaddrs(all);
    return list;
}

// ---- redirection rules -------------------------------------------------------------------------

static bool list_table(struct buf *out) {
    struct nft_ctx *ctx = nft_ctx_new(NFT_CTX_DEFAULT); // its socket is of this namespace
    if (ctx == NULL) {
        return false;
    }
    bool is_ok = nft_ctx_buffer_output(ctx) == 0 && nft_ctx_buffer_error(ctx) == 0 &&
                 nft_run_cmd_from_buffer(ctx, "list table inet ztun") == 0;
    if (is_ok) {
        buf_append_str(out, nft_ctx_get_output_buffer(ctx));
    }
    nft_ctx_free(ctx);
    return is_ok;
}

// "... counter packets 5 bytes 300 ... comment "outbound v4"" of chain `chain`.
static void add_rule(json_t *list, const char *chain, const char *rule) {
    static const char counter[] = "counter packets ", comment[] = "comment \"";
    const char *at = strstr(rule, counter), *name = strstr(rule, comment);
    if (at == NULL) {
        return;
    }
    char *end = NULL;
    unsigned long long n_packets = strtoull(at + sizeof(counter) - 1, &end, 10), n_bytes = 0;
    if (strncmp(end, " bytes ", 7) == 0) {
        n_bytes = strtoull(end + 7, &end, 10);
    }
    name = name != NULL ? name + sizeof(comment) - 1 : "";
    json_array_append_new(list,
                          json_pack("{s:s, s:s%, s:I, s:I, s:s%}", "chain", chain, "rule", name,
                                    strcspn(name, "\""), "packets", (json_int_t)n_packets, "bytes",
                                    (json_int_t)n_bytes, "text", rule, strlen(rule)));
}

static json_t *rules(void) {
    json_t *list = json_array();
    struct buf text;
    struct slice rest, line;
    char chain[64] = "";
    buf_init(&text, 1 << 20);
    bool is_ok = list_table(&text);
    rest = buf_slice(&text);
    while (is_ok && slice_split(rest, '\n', &line, &rest)) {
        char *copy = slice_dup(slice_trim(line));
        if (strncmp(copy, "chain ", 6) == 0) {
            snprintf(chain, sizeof(chain), "%.*s", (int)strcspn(copy + 6, " "), copy + 6);
        } else if (strcmp(chain, "owner") != 0) {
            add_rule(list, chain, copy);
        }
        free(copy);
    }
    buf_fini(&text);
    return list;
}

// ---- sockets -----------------------------------------------------------------------------------

// "0100007F:3A98" and its IPv6 form: words in the machine's order.
static bool parse_socket(const char *text, struct addr *ret) {
    uint8_t bytes[16];
    const char *colon = strchr(text, ':');
    size_t n = colon != NULL ? (size_t)(colon - text) / 2 : 0;
    if (n != 4 && n != 16) {
        return false;
    }
    for (size_t word = 0; word < n / 4; word++) {
        char hex[9] = "";
        memcpy(hex, text + word * 8, 8);
        uint32_t value = (uint32_t)strtoul(hex, NULL, 16);
        memcpy(bytes + word * 4, &value, 4);
    }
    ret->port = (uint16_t)strtoul(colon + 1, NULL, 16);
    return ip_from_bytes(slice_make(bytes, n), &ret->ip);
}

struct sockets {
    json_t *listening;
    uint64_t n_established;
};

static void read_sockets(const char *path, const char *protocol, struct sockets *sockets) {
    enum { TCP_ESTABLISHED_STATE = 1, UDP_OPEN_STATE = 7, TCP_LISTEN_STATE = 10 };
    FILE *file = fopen(path, "re");
    char text[512], local[64], remote[64], where[ADDR_TEXT_MAX];
    unsigned state;
    while (file != NULL && fgets(text, sizeof(text), file) != NULL) {
        struct addr addr;
        if (sscanf(text, " %*[0-9]: %63s %63s %x", local, remote, &state) != 3) {
            continue;
        }
        sockets->n_established += state == TCP_ESTABLISHED_STATE;
        if ((state == TCP_LISTEN_STATE || state == UDP_OPEN_STATE) && parse_socket(local, &addr)) {
            char *item = xasprintf("%s %s", protocol, addr_text(&addr, where));
            json_object_set_new(sockets->listening, item, json_true()); // reuseport: once
            free(item);
        }
    }
    if (file != NULL) {
        (void)fclose(file);
    }
}

static void add_sockets(json_t *out) {
    struct sockets sockets = {.listening = json_object()};
    read_sockets("/proc/thread-self/net/tcp", "tcp", &sockets);
    read_sockets("/proc/thread-self/net/tcp6", "tcp", &sockets);
    uint64_t n_established = sockets.n_established;
    read_sockets("/proc/thread-self/net/udp", "udp", &sockets);
    read_sockets("/proc/thread-self/net/udp6", "udp", &sockets);
    json_t *list = json_array();
    const char *key;
    json_t *value;
    json_object_foreach(sockets.listening, key, value) {
        json_array_append_new(list, json_string(key));
    }
    json_decref(sockets.listening);
    json_object_set_new(out, "listening", list);
    json_object_set_new(out, "establishedTcp", json_integer((json_int_t)n_established));
}

// ---- a hop -------------------------------------------------------------------------------------

json_t *explain_hop(const char *title, const char *netns) {
    json_t *out = json_pack("{s:s, s:s}", "hop", title, "netns", netns);
    int fd = netns[0] != '\0' ? http_netns_open(netns) : -ENOENT;
    int previous = fd >= 0 ? lab_netns_enter(fd) : fd;
    if (fd >= 0) {
        close(fd);
    }
    if (previous < 0) {
        json_object_set_new(out, "error",
                            json_string(netns[0] != '\0' ? strerror(-previous)
                                                         : "its network namespace is not known"));
        return out;
    }
    json_object_set_new(out, "interfaces", interfaces());
    json_object_set_new(out, "rules", rules());
    add_sockets(out);
    lab_netns_leave(previous);
    return out;
}

void explain_print_hop(const json_t *hop, FILE *file) {
    const char *error = js_str(hop, "error", NULL), *name;
    size_t i;
    json_t *item;
    fprintf(file, "\nhop: %s, network namespace %s\n", js_str(hop, "hop", ""),
            js_str(hop, "netns", ""));
    if (error != NULL) {
        fprintf(file, "  %s\n", error);
        return;
    }
    json_object_foreach(js_get(hop, "interfaces"), name, item) {
        fprintf(file, "  interface %s %s", name, js_bool(item, "up", false) ? "up" : "down");
        for (i = 0; i < js_len(item, "addresses"); i++) {
            fprintf(file, " %s", json_string_value(json_array_get(js_get(item, "addresses"), i)));
        }
        fputc('\n', file);
    }
    if (js_len(hop, "rules") == 0) {
        fputs("  no redirection rules of ztun\n", file);
    }
    json_array_foreach(js_get(hop, "rules"), i, item) {
        fprintf(file, "  rule %-10s %-14s %8lld packets %10lld bytes\n", js_str(item, "chain", ""),
                js_str(item, "rule", ""), js_int(item, "packets", 0), js_int(item, "bytes", 0));
    }
    json_array_foreach(js_get(hop, "listening"), i, item) {
        fprintf(file, "  socket %s\n", json_string_value(item));
    }
    fprintf(file, "  %lld established TCP connections\n", js_int(hop, "establishedTcp", 0));
}

// SPDX-License-Identifier: Apache-2.0
#include "tests/unit/waypoint/waypoint_talk.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "common/base/buf.h"
#include "common/obs/log.h"

static const char web_key[] = "shop/web.shop.svc.cluster.local";

// ---- endpoints ---------------------------------------------------------------------------------

static void hang_up(struct talk_conn *conn, bool is_reset) {
    fake_close(conn->talk->bed.net, conn->fd, is_reset);
    conn->fd = -1;
    conn->host->n_open--;
}

static void on_request_head(void *arg, const char *head) {
    (void)head;
    ((struct talk_conn *)arg)->n_body = 0;
}

static void on_request_body(void *arg, const uint8_t *bytes, size_t len) {
    (void)bytes;
    ((struct talk_conn *)arg)->n_body += len;
}

static void on_request_end(void *arg) {
    struct talk_conn *conn = arg;
    conn->n_requests++;
    conn->host->n_requests++;
    conn->host->n_body = conn->n_body;
    conn->due = fake_now(conn->talk->bed.net) + conn->host->delay_ms * NS_PER_MS + 1;
}

static void put(struct talk_conn *conn, unsigned status, bool is_last) {
    char text[256], body[16];
    int n = snprintf(body, sizeof(body), "host %d", (int)(conn->host - conn->talk->hosts));
    int len = snprintf(text, sizeof(text), "HTTP/1.1 %u Text\r\n%scontent-length: %d\r\n\r\n%s",
                       status, is_last ? "connection: close\r\n" : "", n, body);
    assert_int_equal(fake_write(conn->talk->bed.net, conn->fd, text, (size_t)len), len);
}

static void act(struct talk_conn *conn) {
    static const unsigned statuses[] = {
        [TALK_OK] = 200,  [TALK_503] = 503,   [TALK_500] = 500,
        [TALK_404] = 404, [TALK_CLOSE] = 200, [TALK_LEAVE] = 200,
    };
    conn->due = 0;
    switch ((enum talk_act)conn->host->act) {
    case TALK_RESET:
        hang_up(conn, true);
        break;
    case TALK_SILENCE:
    case TALK_DEAF:
        break;
    case TALK_LEAVE:
        if (conn->n_requests > 1) {
            hang_up(conn, false);
            break;
        }
        put(conn, 200, false);
        break;
    default:
        put(conn, statuses[conn->host->act], conn->host->act == TALK_CLOSE);
        break;
    }
}

static void step_conn(struct talk_conn *conn) {
    struct fake_net *net = conn->talk->bed.net;
    uint8_t bytes[8192];
    if (conn->due != 0 && fake_now(net) >= conn->due) {
        act(conn);
    }
    while (conn->fd >= 0 && conn->host->act != TALK_DEAF) {
        ssize_t n = fake_read(net, conn->fd, bytes, sizeof(bytes));
        if (n == -EAGAIN) {
            return;
        }
        if (n <= 0) {
            hang_up(conn, false);
            return;
        }
        for (size_t at = 0; at < (size_t)n;) {
            at += h1_reader_read(&conn->reader, bytes + at, (size_t)n - at);
        }
    }
}

static void take_conn(struct talk *talk, struct talk_host *host, int fd) {
    struct talk_conn *conn = talk->conns;
    while (conn->fd >= 0) {
        assert_true(++conn < talk->conns + TALK_CONNS);
    }
    *conn = (struct talk_conn){.talk = talk,
                               .host = host,
                               .fd = fd,
                               .reader = {.on_head = on_request_head,
                                          .on_body = on_request_body,
                                          .on_end = on_request_end,
                                          .arg = conn}};
    host->n_opened++;
    host->n_open++;
    host->max_open = MAX(host->max_open, host->n_open);
}

static void step_hosts(struct talk *talk) {
    struct io *io = talk->bed.workers[0]->loop->io;
    for (uint32_t i = 0; i < talk->n_hosts; i++) {
        struct talk_host *host = &talk->hosts[i];
        int fd;
        while (host->listener >= 0 && (fd = io->ops->accept_now(io, host->listener)) >= 0) {
            take_conn(talk, host, fd);
        }
    }
    for (int i = 0; i < TALK_CONNS; i++) {
        if (talk->conns[i].fd >= 0) {
            step_conn(&talk->conns[i]);
        }
    }
}

// ---- clients -----------------------------------------------------------------------------------

static void on_answer_head(void *arg, const char *head) {
    struct talk_client *client = arg;
    client->status = (uint16_t)strtol(head + 9, NULL, 10);
    client->n_body = 0;
    client->flags[0] = '\0';
    (void)h1_reader_field(head, "x-flags", client->flags, sizeof(client->flags));
    client->cookie[0] = '\0';
    (void)h1_reader_field(head, "set-cookie", client->cookie, sizeof(client->cookie));
}

static void on_answer_body(void *arg, const uint8_t *bytes, size_t len) {
    struct talk_client *client = arg;
    len = MIN(len, sizeof(client->body) - 1 - client->n_body);
    memcpy(client->body + client->n_body, bytes, len);
    client->n_body += len;
    client->body[client->n_body] = '\0';
}

static void on_answer_end(void *arg) {
    struct talk_client *client = arg;
    client->n_answers += client->status >= 200;
}

struct talk_client *talk_client(struct talk *talk, uint32_t worker) {
    assert_true(talk->n_clients < TALK_CLIENTS);
    struct talk_client *client = &talk->clients[talk->n_clients++];
    *client = (struct talk_client){
        .talk = talk,
        .fd = wbed_connect(&talk->bed, worker, talk->called != NULL ? talk->called : web_key, 80),
        .reader = {.on_head = on_answer_head,
                   .on_body = on_answer_body,
                   .on_end = on_answer_end,
                   .arg = client,
                   .is_response = true}};
    return client;
}

static void step_client(struct talk_client *client) {
    struct fake_net *net = client->talk->bed.net;
    uint8_t bytes[8192];
    for (;;) {
        ssize_t n = fake_read(net, client->fd, bytes, sizeof(bytes));
        if (n == -EAGAIN) {
            return;
        }
        if (n <= 0) {
            fake_close(net, client->fd, false);
            client->fd = -1;
            return;
        }
        for (size_t at = 0; at < (size_t)n;) {
            at += h1_reader_read(&client->reader, bytes + at, (size_t)n - at);
        }
    }
}

size_t talk_say(struct talk_client *client, const char *text, size_t len) {
    ssize_t n = fake_write(client->talk->bed.net, client->fd, text, len);
    return n > 0 ? (size_t)n : 0;
}

void talk_get(struct talk_client *client, const char *path) {
    char text[256];
    int len = snprintf(text, sizeof(text), "GET %s HTTP/1.1\r\nhost: web\r\n\r\n", path);
    assert_int_equal(talk_say(client, text, (size_t)len), len);
}

// ---- time --------------------------------------------------------------------------------------

uint64_t talk_now_ms(const struct talk *talk) {
    return fake_now(talk->bed.net) / NS_PER_MS;
}

static void step(struct talk *talk) {
    (void)wbed_turn(&talk->bed);
    step_hosts(talk);
    for (uint32_t i = 0; i < talk->n_clients; i++) {
        if (talk->clients[i].fd >= 0) {
            step_client(&talk->clients[i]);
        }
    }
    fake_skip(talk->bed.net, NS_PER_MS / 10);
}

void talk_run(struct talk *talk, uint64_t ms) {
    uint64_t end = fake_now(talk->bed.net) + ms * NS_PER_MS;
    while (fake_now(talk->bed.net) < end) {
        step(talk);
    }
}

uint16_t talk_wait(struct talk_client *client, uint32_t n) {
    struct talk *talk = client->talk;
    uint64_t end = fake_now(talk->bed.net) + 20 * NS_PER_SEC;
    while (client->n_answers < n && client->fd >= 0 && fake_now(talk->bed.net) < end) {
        step(talk);
    }
    return client->n_answers >= n ? client->status : 0;
}

uint16_t talk_once(struct talk *talk, uint32_t worker, const char *path) {
    struct talk_client *client = talk_client(talk, worker);
    talk_get(client, path);
    uint16_t status = talk_wait(client, 1);
    if (client->fd >= 0) {
        fake_close(talk->bed.net, client->fd, false);
    }
    talk->n_clients--;
    return status;
}

// ---- the mesh ----------------------------------------------------------------------------------

static const char *pod_text(const char *name, uint32_t i, bool is_ready) {
    static char text[512];
    snprintf(text, sizeof(text),
             "apiVersion: v1\nkind: Pod\nmetadata: {name: %s-%u, namespace: shop, labels: {app: "
             "%s}}\nspec: {nodeName: n1, containers: [{name: a}]}\n"
             "status: {phase: Running, podIP: 10.1.0.%u, conditions: [{type: Ready, status: '%s'}]}"
             "\n",
             name, i, name, i + 1, is_ready ? "True" : "False");
    return text;
}

const char *talk_pod(uint32_t i, bool is_ready) {
    return pod_text("web", i, is_ready);
}

static void put_mesh(struct talk *talk, bool has_shadow, struct buf *yaml) {
    static const char *const names[] = {"web", "shadow"};
    buf_append_str(yaml, "apiVersion: v1\nkind: Namespace\nmetadata: {name: shop}\n");
    for (int i = 0; i < 2; i++) {
        buf_printf(yaml,
                   "---\napiVersion: v1\nkind: Service\nmetadata: {name: %s, namespace: shop}\n"
                   "spec: {clusterIP: 10.9.0.%d, selector: {app: %s}, ports: [{name: http, port: "
                   "80, targetPort: 8080}]}\n",
                   names[i], i + 1, names[i]);
    }
    for (uint32_t i = 0; i < talk->n_hosts; i++) {
        const char *name = has_shadow && i == talk->n_hosts - 1 ? "shadow" : "web";
        buf_printf(yaml, "---\n%s", pod_text(name, i, true));
    }
}

void talk_rules(struct talk *talk, const char *rules) {
    wbed_apply(&talk->bed, rules);
}

void talk_open(struct talk *talk, uint32_t n_workers, uint32_t n_hosts, bool has_shadow,
               const char *rules) {
    struct fake_options options = {.seed = 7, .delay = 1000};
    struct buf yaml;
    buf_init(&yaml, SIZE_MAX);
    assert_true(log_filter_set(SLICE_LIT("off"), &yaml)); // failures are what the tests make
    *talk = (struct talk){.n_hosts = n_hosts};
    wbed_init(&talk->bed, &options, n_workers);
    wbed_open(&talk->bed, 7);
    fake_set_quiet(talk->bed.net, true);
    for (int i = 0; i < TALK_CONNS; i++) {
        talk->conns[i].fd = -1;
    }
    for (uint32_t i = 0; i < n_hosts; i++) {
        char text[ADDR_TEXT_MAX];
        snprintf(text, sizeof(text), "10.1.0.%u:8080", i + 1);
        assert_true(addr_parse(slice_str(text), &talk->hosts[i].addr));
        talk->hosts[i].listener = fake_listen(talk->bed.net, -1, &talk->hosts[i].addr);
    }
    put_mesh(talk, has_shadow, &yaml);
    buf_printf(&yaml, "%s%s", rules[0] != '\0' ? "---\n" : "", rules);
    wbed_apply(&talk->bed, buf_cstr(&yaml));
    buf_fini(&yaml);
    talk_run(talk, 1);
}

void talk_close(struct talk *talk) {
    for (uint32_t i = 0; i < talk->n_clients; i++) {
        if (talk->clients[i].fd >= 0) {
            fake_close(talk->bed.net, talk->clients[i].fd, false);
            talk->clients[i].fd = -1;
        }
    }
    uint64_t end = fake_now(talk->bed.net) + 60 * NS_PER_SEC;
    while ((wbed_n_conns(&talk->bed) > 0 || wbed_n_mirrors(&talk->bed) > 0 ||
            !wbed_stop(&talk->bed)) &&
           fake_now(talk->bed.net) < end) {
        step(talk);
    }
    for (uint32_t i = 0; i < talk->n_hosts; i++) {
        if (talk->hosts[i].listener >= 0) {
            fake_close(talk->bed.net, talk->hosts[i].listener, false);
        }
    }
    for (int i = 0; i < TALK_CONNS; i++) {
        if (talk->conns[i].fd >= 0) {
            hang_up(&talk->conns[i], true);
        }
    }
    for (int i = 0; i < 50; i++) {
        (void)wbed_turn(&talk->bed);
        fake_skip(talk->bed.net, NS_PER_MS);
    }
    wbed_fini(&talk->bed);
}

// SPDX-License-Identifier: Apache-2.0
#include "ztun/zds_client.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>
#include <unistd.h>

#include "common/base/hmap.h"
#include "common/obs/log.h"
#include "common/rt/netns.h"
#include "common/rt/watch.h"

LOG_SCOPE(log_zds, "ztun::zds");

enum {
    BACKOFF_MIN_MS = 10,
    BACKOFF_MAX_MS = 15000,
    FDS_MAX = 253, // SCM_MAX_FD: as many as a packet can bring; all of them are closed
};

enum state { POD_WAITS, POD_UP, POD_FAILED };

struct zds_pod {
    struct hmap_node node; // client->pods, by uid
    struct zds_request info;
    struct netns_id netns;
    bool is_listed; // by this connection
    uint8_t state; // enum state
    char *error; // POD_FAILED
};

struct conn {
    struct watch watch;
    struct zds_client *client; // NULL: closed, and waits for its last completion
    int fd;
    bool has_snapshot;
    struct zds_pod *asked; // the agent waits for it
};

struct zds_client {
    struct zds_client_params params;
    struct hmap pods;
    struct conn *conn; // NULL: none
    struct timer retry;
    bool is_reading; // answers that are given at once do not read the next request themselves
    uint32_t backoff_ms;
    char *error; // why there is no connection, or was none
    uint64_t n_connections, n_requests, n_refused;
};

// A packet with its descriptors, which are closed unless they are taken.
struct packet {
    struct slice bytes;
    int fds[FDS_MAX];
    size_t n_fds;
    const char *error; // it did not come whole
};

// ---- pods --------------------------------------------------------------------------------------

static struct zds_pod *find(const struct zds_client *client, const char *uid) {
    HMAP_EACH_WITH_HASH(pos, &client->pods, hash_bytes(slice_str(uid))) {
        struct zds_pod *pod = HMAP_ITEM(pos, struct zds_pod, node);
        if (strcmp(pod->info.uid, uid) == 0) {
            return pod;
        }
    }
    return NULL;
}

static void pod_free(struct zds_client *client, struct zds_pod *pod) {
    hmap_remove(&client->pods, &pod->node);
    free(pod->error);
    free(pod);
}

static void drop(struct zds_client *client, struct zds_pod *pod, bool is_replaced) {
    char uid[ZDS_UID_MAX + 1];
    memcpy(uid, pod->info.uid, sizeof(uid));
    pod_free(client, pod);
    client->params.del(client->params.arg, uid, is_replaced);
}

static bool is_same(const struct zds_pod *pod, const struct zds_request *info,
                    const struct netns_id *netns) {
    return netns_id_eq(&pod->netns, netns) && strcmp(pod->info.ns, info->ns) == 0 &&
           strcmp(pod->info.name, info->name) == 0 &&
           strcmp(pod->info.service_account, info->service_account) == 0;
}

// ---- connection --------------------------------------------------------------------------------

static void on_watch_stopped(struct watch *watch) {
    struct conn *conn = CONTAINER_OF(watch, struct conn, watch);
    close(conn->fd);
    free(conn);
}

static void retry_later(struct zds_client *client) {
    struct loop *loop = client->params.loop;
    timer_set(&loop->timers, &client->retry, loop->now + client->backoff_ms * NS_PER_MS);
    client->backoff_ms = MIN(client->backoff_ms * 2, (uint32_t)BACKOFF_MAX_MS);
}

static void set_error(struct zds_client *client, const char *reason) {
    if (strcmp(client->error, reason) != 0) {
        log_warn(&log_zds, "no connection to the node agent: pods stay as they are",
                 LOG_STR("socket", client->params.path), LOG_STR("reason", reason));
        free(client->error);
        client->error = xstrdup(reason);
    }
}

static void disconnect(struct zds_client *client, const char *reason) {
    struct conn *conn = client->conn;
    client->conn = NULL;
    conn->client = NULL;
    (void)shutdown(conn->fd, SHUT_RDWR); // the agent notices now, and not after the last completion
    watch_stop(&conn->watch, on_watch_stopped);
    if (reason != NULL) {
        set_error(client, reason);
        retry_later(client);
    }
}

// False: the connection is gone.
static bool send_packet(struct zds_client *client, const uint8_t *bytes, size_t len) {
    // One small answer at a time: there is always room, or the agent does not read.
    if (send(client->conn->fd, bytes, len, MSG_NOSIGNAL | MSG_DONTWAIT) != (ssize_t)len) {
        disconnect(client, strerror(errno));
        return false;
    }
    return true;
}

static bool answer(struct zds_client *client, const char *error) {
    uint8_t bytes[ZDS_ANSWER_MAX];
    client->n_refused += error != NULL;
    return send_packet(client, bytes, zds_ack(error, bytes));
}

static bool refuse(struct zds_client *client, const char *error) {
    log_warn(&log_zds, "request of the node agent is refused", LOG_STR("reason", error));
    return answer(client, error);
}

// ---- requests ----------------------------------------------------------------------------------

// The answer, if it is known already.
static bool answer_pod(struct zds_client *client, struct zds_pod *pod) {
    if (pod->state == POD_WAITS) {
        client->conn->asked = pod;
        return true;
    }
    return answer(client, pod->state == POD_FAILED ? pod->error : NULL);
}

// Why the descriptors are not those of an ADD; NULL: *ret_netns is set.
static const char *check_netns(const struct packet *packet, struct netns_id *ret_netns) {
    struct netns_id own;
    if (packet->n_fds != 1) {
        return packet->n_fds == 0 ? "the workload comes without its network namespace"
                                  : "the workload comes with more than one descriptor";
    }
    if (netns_check(packet->fds[0]) < 0 || netns_id(packet->fds[0], ret_netns) < 0) {
        return "the descriptor is no network namespace";
    }
    if (netns_id(netns_own(), &own) < 0 || netns_id_eq(ret_netns, &own)) {
        return "the network namespace is the proxy's own";
    }
    return NULL;
}

static bool do_add(struct zds_client *client, const struct zds_request *request,
                   struct packet *packet) {
    struct netns_id netns;
    const char *error = check_netns(packet, &netns);
    if (error != NULL) {
        return refuse(client, error);
    }
    struct zds_pod *pod = find(client, request->uid);
    if (pod != NULL && is_same(pod, request, &netns)) {
        pod->is_listed = true;
        return answer_pod(client, pod);
    }
    if (pod != NULL) { // a namespace of another boot, say
        drop(client, pod, true);
    }
    pod = xcalloc(1, sizeof(*pod));
    pod->info = *request;
    pod->netns = netns;
    pod->is_listed = true;
    hmap_insert(&client->pods, &pod->node, hash_bytes(slice_str(request->uid)));
    client->conn->asked = pod;
    packet->n_fds = 0; // taken
    client->params.add(client->params.arg, request, packet->fds[0], !client->conn->has_snapshot);
    return client->conn != NULL;
}

static bool do_keep(struct zds_client *client, const struct zds_request *request) {
    if (client->conn->has_snapshot) {
        refuse(client, "KeepWorkload after the snapshot");
        return false;
    }
    struct zds_pod *pod = find(client, request->uid);
    if (pod == NULL) {
        // A proxy that was started meanwhile. It will be added when the agent finds it again.
        log_info(&log_zds, "the node agent has lost a pod that was never here",
                 LOG_STR("uid", request->uid));
        return answer(client, NULL);
    }
    pod->is_listed = true;
    return answer(client, NULL);
}

static bool do_del(struct zds_client *client, const struct zds_request *request) {
    struct zds_pod *pod = find(client, request->uid);
    if (pod != NULL) {
        drop(client, pod, false);
    }
    return answer(client, NULL); // not there: done
}

static bool do_snapshot_sent(struct zds_client *client) {
    if (client->conn->has_snapshot) {
        refuse(client, "a second SnapshotSent");
        return false;
    }
    client->conn->has_snapshot = true;
    client->backoff_ms = BACKOFF_MIN_MS;
    client->error[0] = '\0';
    size_t n_stale = 0;
    HMAP_EACH_SAFE(pos, &client->pods) {
        struct zds_pod *pod = HMAP_ITEM(pos, struct zds_pod, node);
        if (!pod->is_listed) {
            n_stale++;
            drop(client, pod, false);
        }
    }
    log_info(&log_zds, "the node agent's pods are known", LOG_U64("pods", client->pods.n_items),
             LOG_U64("stale", n_stale));
    return answer(client, NULL);
}

// False: the connection is gone, or of no use.
static bool do_request(struct zds_client *client, struct packet *packet) {
    struct zds_request request;
    const char *error = packet->error;
    client->n_requests++;
    if (error == NULL) {
        error = zds_request_decode(packet->bytes, &request);
    }
    if (error == NULL && request.kind != ZDS_ADD && packet->n_fds != 0) {
        error = "a descriptor comes with a request that has none";
    }
    if (error != NULL) {
        return refuse(client, error);
    }
    switch (request.kind) {
    case ZDS_ADD:
        return do_add(client, &request, packet);
    case ZDS_DEL:
        return do_del(client, &request);
    case ZDS_KEEP:
        return do_keep(client, &request);
    case ZDS_SNAPSHOT_SENT:
        break;
    }
    return do_snapshot_sent(client);
}

// ---- packets -----------------------------------------------------------------------------------

static void take_fds(struct packet *packet, struct msghdr *msg) {
    for (struct cmsghdr *c = CMSG_FIRSTHDR(msg); c != NULL; c = CMSG_NXTHDR(msg, c)) {
        if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS) {
            continue;
        }
        size_t n = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        CHECK(packet->n_fds + n <= FDS_MAX); // the kernel puts one such header into a message
        memcpy(packet->fds + packet->n_fds, CMSG_DATA(c), n * sizeof(int));
        packet->n_fds += n;
    }
}

// An empty packet and the end look the same to recvmsg().
static bool has_ended(int fd) {
    struct pollfd poll_fd = {.fd = fd, .events = POLLRDHUP};
    return poll(&poll_fd, 1, 0) == 1;
}

// 1: there is one. 0: not now. -errno: the connection has ended.
static int receive(int fd, uint8_t buffer[ZDS_PACKET_MAX], struct packet *ret_packet) {
    union {
        struct cmsghdr align;
        char bytes[CMSG_SPACE(FDS_MAX * sizeof(int))];
    } control;
    struct iovec iov = {.iov_base = buffer, .iov_len = ZDS_PACKET_MAX};
    struct msghdr msg = {.msg_iov = &iov,
                         .msg_iovlen = 1,
                         .msg_control = control.bytes,
                         .msg_controllen = sizeof(control.bytes)};
    ssize_t n;
    do {
        n = recvmsg(fd, &msg, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    } while (n < 0 && errno == EINTR);
    if (n < 0) {
        return errno == EAGAIN ? 0 : -errno;
    }
    ret_packet->n_fds = 0;
    take_fds(ret_packet, &msg);
    if (n == 0 && ret_packet->n_fds == 0 && has_ended(fd)) {
        return -EPIPE;
    }
    ret_packet->bytes = slice_make(buffer, (size_t)n);
    ret_packet->error = (msg.msg_flags & MSG_TRUNC) != 0 ? "the packet is too long"
                        : (msg.msg_flags & MSG_CTRUNC) != 0
                            ? "descriptors were lost: the proxy has no free ones"
                            : NULL;
    return 1;
}

static void pump(struct zds_client *client) {
    uint8_t buffer[ZDS_PACKET_MAX];
    struct packet packet;
    if (client->is_reading) {
        return;
    }
    client->is_reading = true;
    while (client->conn != NULL && client->conn->asked == NULL) {
        int rc = receive(client->conn->fd, buffer, &packet);
        if (rc == 0) {
            break;
        }
        if (rc < 0) {
            disconnect(client, rc == -EPIPE ? "the node agent has closed it" : strerror(-rc));
            break;
        }
        bool is_good = do_request(client, &packet);
        for (size_t i = 0; i < packet.n_fds; i++) {
            close(packet.fds[i]);
        }
        if (!is_good && client->conn != NULL) {
            disconnect(client, "the node agent's requests are out of order");
        }
    }
    client->is_reading = false;
}

static void on_readable(struct watch *watch, uint32_t ready) {
    struct conn *conn = CONTAINER_OF(watch, struct conn, watch);
    if (conn->client == NULL) {
        return;
    }
    if (conn->asked != NULL && (ready & (POLLHUP | POLLERR)) != 0) {
        disconnect(conn->client, "the node agent has closed it");
        return;
    }
    pump(conn->client);
}

static int connect_to(const char *path) {
    struct sockaddr_un sa = {.sun_family = AF_UNIX};
    CHECK(strlen(path) < sizeof(sa.sun_path)); // ztun_config_parse
    memcpy(sa.sun_path, path, strlen(path));
    int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0) {
        return -errno;
    }
    if (connect(fd, (struct sockaddr *)&sa, sizeof(sa)) < 0) {
        int rc = -errno;
        close(fd);
        return rc;
    }
    return fd;
}

static void on_retry(struct timer *timer, uint64_t now) {
    (void)now;
    struct zds_client *client = CONTAINER_OF(timer, struct zds_client, retry);
    int fd = connect_to(client->params.path);
    if (fd < 0) {
        set_error(client, strerror(-fd));
        retry_later(client);
        return;
    }
    struct conn *conn = xcalloc(1, sizeof(*conn));
    conn->client = client;
    conn->fd = fd;
    client->conn = conn;
    client->n_connections++;
    HMAP_EACH_SAFE(pos, &client->pods) {
        HMAP_ITEM(pos, struct zds_pod, node)->is_listed = false;
    }
    watch_init(&conn->watch, client->params.loop, fd, POLLIN, on_readable);
    uint8_t bytes[ZDS_ANSWER_MAX];
    if (send_packet(client, bytes, zds_hello(bytes))) {
        log_info(&log_zds, "connected to the node agent", LOG_STR("socket", client->params.path));
    }
}

// ---- the client --------------------------------------------------------------------------------

struct zds_client *zds_client_new(const struct zds_client_params *params) {
    struct zds_client *client = xcalloc(1, sizeof(*client));
    client->params = *params;
    client->error = xstrdup("");
    client->backoff_ms = BACKOFF_MIN_MS;
    hmap_init(&client->pods);
    timer_init(&client->retry, on_retry);
    timer_set(&params->loop->timers, &client->retry, params->loop->now);
    return client;
}

void zds_client_free(struct zds_client *client) {
    if (client == NULL) {
        return;
    }
    timer_clear(&client->params.loop->timers, &client->retry);
    if (client->conn != NULL) {
        disconnect(client, NULL);
    }
    HMAP_EACH_SAFE(pos, &client->pods) {
        pod_free(client, HMAP_ITEM(pos, struct zds_pod, node));
    }
    hmap_fini(&client->pods);
    free(client->error);
    free(client);
}

void zds_client_answer(struct zds_client *client, const char *uid, const char *error) {
    struct zds_pod *pod = find(client, uid);
    if (pod == NULL) {
        return; // told too late
    }
    free(pod->error);
    pod->error = error != NULL ? xstrdup(error) : NULL;
    pod->state = error != NULL ? POD_FAILED : POD_UP;
    if (client->conn != NULL && client->conn->asked == pod) {
        client->conn->asked = NULL;
        if (answer(client, error)) {
            pump(client);
        }
    }
}

void zds_client_get_status(const struct zds_client *client, struct zds_client_status *ret_status) {
    *ret_status = (struct zds_client_status){
        .is_connected = client->conn != NULL,
        .has_snapshot = client->conn != NULL && client->conn->has_snapshot,
        .error = client->error,
        .n_connections = client->n_connections,
        .n_requests = client->n_requests,
        .n_refused = client->n_refused,
        .n_pods = (uint32_t)client->pods.n_items,
    };
}

bool zds_client_is_ready(const struct zds_client *client, struct buf *ret_reasons) {
    if (client->conn != NULL && client->conn->has_snapshot) {
        return true;
    }
    buf_printf(ret_reasons, "node agent: %s\n",
               client->conn != NULL       ? "its snapshot is not complete"
               : client->error[0] != '\0' ? client->error
                                          : "not connected yet");
    return false;
}

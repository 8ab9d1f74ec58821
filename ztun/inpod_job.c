// SPDX-License-Identifier: Apache-2.0
#include "ztun/inpod_job.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/rt/netns.h"
#include "common/rt/sock.h"

enum {
    USER_TIMEOUT_MS = 30000, // of tunnels
    DNS_BACKLOG = 128,
};

// What a finished job sends to the control loop; outlives the helper if it must.
struct wake_mail {
    struct mail mail;
    struct inpod_helper *helper; // NULL: gone
};

struct inpod_helper {
    struct inpod_config config;
    uint64_t owner;
    void (*wake)(void *arg);
    void *arg;
    pthread_t thread;
    pthread_mutex_t lock; // for all below
    pthread_cond_t cond;
    struct list first, later, done; // jobs: sockets; all other; finished
    bool stop;
    struct wake_mail *wake_mail; // not NULL: it is on its way
};

struct inpod_job *inpod_job_new(enum inpod_job_kind kind, void *entry) {
    struct inpod_job *job = xcalloc(1, sizeof(*job));
    list_init(&job->node);
    job->kind = kind;
    job->entry = entry;
    job->netns_fd = -1;
    for (int i = 0; i < POD_LISTENERS_MAX; i++) {
        pod_sockets_init(&job->sets[i]);
    }
    return job;
}

void inpod_job_free(struct inpod_job *job) {
    for (uint32_t i = 0; i < job->n_sets; i++) {
        pod_sockets_close(&job->sets[i]);
    }
    for (uint32_t i = 0; i < job->n_items; i++) {
        pod_unref(job->items[i].pod);
        free(job->items[i].netns);
    }
    free(job->items);
    pod_unref(job->pod);
    if (job->netns_fd >= 0) {
        close(job->netns_fd);
    }
    pod_params_fini(&job->params);
    free(job->netns);
    free(job->interfaces);
    free(job);
}

static void fail(struct inpod_job *job, int rc, const char *what, uint16_t port) {
    job->rc = rc;
    if (port != 0) {
        snprintf(job->reason, sizeof(job->reason), "%s %u: %s", what, port, strerror(-rc));
    } else {
        snprintf(job->reason, sizeof(job->reason), "%s: %s", what, strerror(-rc));
    }
}

static int listen_on(const struct inpod_helper *h, struct pod *pod, uint16_t port) {
    bool is_tunnel = port == h->config.hbone_port;
    struct sock_listen_params params = {
        .netns_fd = -1,
        .bind = {.ip.family = pod->has_v6 ? 6 : 4, .port = port},
        .mark = h->config.mark,
        .transparent = pod->original_source,
        .reuse_port = true,
        .keepalive_s = h->config.keepalive_s,
        .keepalive_interval_s = h->config.keepalive_interval_s,
        .keepalive_probes = h->config.keepalive_probes,
        .is_tunnel = is_tunnel,
        .cut_on_death = !is_tunnel,
        .user_timeout_ms = is_tunnel ? USER_TIMEOUT_MS : 0,
    };
    return sock_listen(&params);
}

// On the loopback interface, too (as the DNS sockets): it is for the pod alone.
static int listen_socks(const struct inpod_helper *h) {
    struct sock_listen_params params = {
        .netns_fd = -1,
        .bind = {.port = h->config.socks_port},
        .mark = h->config.mark,
        .device = "lo",
        .reuse_port = true,
        .cut_on_death = true,
    };
    CHECK(ip_parse(SLICE_LIT("127.0.0.1"), &params.bind.ip));
    return sock_listen(&params);
}

// Finds out what the namespace can do, with the first listener. Returns it, or -errno.
static int probe(const struct inpod_helper *h, struct pod *pod, uint16_t port) {
    pod->has_v4 = true;
    pod->has_v6 = h->config.ipv6;
    pod->original_source = h->config.original_source != 0 && !pod->is_self;
    int fd = listen_on(h, pod, port);
    if (fd == -EAFNOSUPPORT && pod->has_v6) {
        pod->has_v6 = false; // a kernel without IPv6
        fd = listen_on(h, pod, port);
    }
    if (fd == -EPERM && pod->original_source && h->config.original_source < 0) {
        pod->original_source = false;
        fd = listen_on(h, pod, port);
    }
    return fd;
}

// IPv4: bound to the loopback interface, too, since an address of 127/8 alone does not keep other
// pods out when route_localnet is set. For ::1 the kernel always does (and a socket bound to lo
// could not answer to the pod's own addresses, whose routes are on other interfaces).
static int dns_socket(const struct inpod_helper *h, int family, int type) {
    int fd = socket(family, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0) {
        return -errno;
    }
    struct addr addr = {.ip.family = family == AF_INET ? 4 : 6, .port = h->config.dns_port};
    CHECK(ip_parse(slice_str(family == AF_INET ? "127.0.0.1" : "::1"), &addr.ip));
    struct sockaddr_storage sa;
    socklen_t len = addr_to_sockaddr(&addr, family == AF_INET6, &sa);
    int one = 1;
    bool ok = setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)) == 0 &&
              setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &one, sizeof(one)) == 0 &&
              setsockopt(fd, SOL_SOCKET, SO_MARK, &h->config.mark, sizeof(uint32_t)) == 0 &&
              (family != AF_INET || setsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, "lo", 2) == 0) &&
              bind(fd, (struct sockaddr *)&sa, len) == 0 &&
              (type != SOCK_STREAM || listen(fd, DNS_BACKLOG) == 0);
    if (!ok) {
        int rc = -errno;
        close(fd);
        return rc;
    }
    return fd;
}

// A family without a loopback address (IPv6 is off) has no DNS sockets. 0 or -errno.
static int open_dns(const struct inpod_helper *h, struct inpod_job *job, int index) {
    int family = index == 0 ? AF_INET : AF_INET6;
    bool *has = index == 0 ? &job->pod->dns_v4 : &job->pod->dns_v6;
    if (index == 1 && !job->pod->has_v6) {
        return 0;
    }
    for (uint32_t i = 0; i < job->n_sets; i++) {
        int udp = dns_socket(h, family, SOCK_DGRAM);
        if (udp == -EADDRNOTAVAIL || udp == -EAFNOSUPPORT) {
            return 0;
        }
        if (udp < 0) {
            return udp;
        }
        job->sets[i].dns_udp[index] = udp;
        int tcp = dns_socket(h, family, SOCK_STREAM);
        if (tcp < 0) {
            return tcp;
        }
        job->sets[i].dns_tcp[index] = tcp;
        *has = true;
    }
    return 0;
}

static void open_sockets(const struct inpod_helper *h, struct inpod_job *job) {
    const struct inpod_config *config = &h->config;
    bool is_probed = false, is_self = job->pod->is_self;
    job->n_sets = MIN(config->n_workers, (uint32_t)POD_LISTENERS_MAX);
    for (uint32_t i = 0; i < job->n_sets; i++) {
        struct {
            uint16_t port;
            int *fd;
        } items[] = {
            {config->outbound_port, &job->sets[i].outbound},
            {config->inbound_port, &job->sets[i].inbound},
            {config->hbone_port, &job->sets[i].hbone},
        };
        for (size_t k = is_self ? ARRAY_LEN(items) - 1 : 0; k < ARRAY_LEN(items); k++) {
            int fd = is_probed ? listen_on(h, job->pod, items[k].port)
                               : probe(h, job->pod, items[k].port);
            if (fd < 0) {
                fail(job, fd, "cannot listen on port", items[k].port);
                return;
            }
            *items[k].fd = fd;
            is_probed = true;
        }
    }
    for (uint32_t i = 0; i < job->n_sets && config->socks_port != 0 && !is_self; i++) {
        int fd = listen_socks(h);
        if (fd < 0) {
            fail(job, fd, "cannot listen on port", config->socks_port);
            return;
        }
        job->sets[i].socks = fd;
    }
    for (int i = 0; i < 2 && config->dns_capture && !is_self; i++) {
        int rc = open_dns(h, job, i);
        if (rc < 0) {
            fail(job, rc, "cannot open DNS port", config->dns_port);
            return;
        }
    }
}

// In the namespace that the thread is in. A read-only /proc/sys is no error.
static void set_sysctl(const char *path, const char *value) {
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd >= 0) {
        (void)!write(fd, value, strlen(value));
        close(fd);
    }
}

// When one of several listeners on a port closes (another process takes over), the kernel hands
// connections whose handshake is under way, or that nobody has accepted yet, to the others instead
// of resetting them. A setting of the namespace; without it (read-only /proc/sys, Linux before
// 5.14) a connection may be lost in that moment.
static void migrate_requests(void) {
    set_sysctl("/proc/sys/net/ipv4/tcp_migrate_req", "1");
}

// Where a router drops what is too large and a firewall drops its ICMP message, the first flight of
// a handshake (its key share alone has 1 200 bytes) would never arrive. With this the kernel tries
// smaller segments after some lost ones. What the pod has set itself stays.
static void probe_mtu(void) {
    enum { OFF = '0' };
    int fd = open("/proc/sys/net/ipv4/tcp_mtu_probing", O_RDONLY | O_CLOEXEC);
    char value = 0;
    bool is_off = fd >= 0 && read(fd, &value, 1) == 1 && value == OFF;
    if (fd >= 0) {
        close(fd);
    }
    if (is_off) {
        set_sysctl("/proc/sys/net/ipv4/tcp_mtu_probing", "1");
    }
}

static void run_open(struct inpod_helper *h, struct inpod_job *job) {
    int netns = job->netns != NULL ? netns_open(job->netns) : job->netns_fd;
    if (netns < 0) {
        fail(job, netns, "cannot open the network namespace", 0);
        return;
    }
    job->netns_fd = -1;
    job->pod = pod_new(&job->params, netns);
    job->pod->is_self = job->is_self;
    int rc = netns_enter(netns);
    if (rc < 0) {
        fail(job, rc, "cannot enter the network namespace", 0);
        return;
    }
    migrate_requests();
    if (!job->is_self) {
        probe_mtu();
    }
    open_sockets(h, job);
    netns_leave();
}

static bool leads_to(const char *netns, const struct pod *pod) {
    int fd = netns_open(netns);
    if (fd < 0) {
        return false;
    }
    struct netns_id id, wanted = {.dev = pod->netns_dev, .inode = pod->netns_ino};
    bool is_same = netns_id(fd, &id) == 0 && netns_id_eq(&id, &wanted);
    close(fd);
    return is_same;
}

static void run_rules(struct inpod_helper *h, struct inpod_job *job) {
    if (job->netns != NULL && !leads_to(job->netns, job->pod)) {
        job->is_other_netns = true;
        return;
    }
    bool is_look = job->kind == JOB_RULES && !h->config.redirect;
    if (job->pod->is_self || (!h->config.redirect && !is_look)) {
        return;
    }
    int rc = netns_enter(job->pod->netns_fd);
    if (rc < 0) {
        fail(job, rc, "cannot enter the network namespace", 0);
        return;
    }
    switch (job->kind) {
    case JOB_RULES:
        if (is_look) {
            // Where it cannot be seen, nobody is alarmed.
            job->is_redirected = redirect_find(h->config.outbound_port, &job->is_redirected) < 0 ||
                                 job->is_redirected;
            break;
        }
        job->rules.virtual_interfaces = job->interfaces;
        rc = redirect_install(&job->rules, h->owner, &job->redirect);
        if (rc == 0 && redirect_generation(&job->generation) < 0) {
            job->generation = 0;
        }
        break;
    case JOB_NAT_OFF:
        rc = redirect_remove_nat(h->owner, &job->redirect);
        break;
    default:
        rc = redirect_remove(h->owner, &job->redirect);
    }
    netns_leave();
    if (rc < 0) {
        job->rc = rc;
        snprintf(job->reason, sizeof(job->reason), "redirection: %s", job->redirect.error);
    }
}

static void run_sweep(struct inpod_helper *h, struct inpod_job *job) {
    for (uint32_t i = 0; i < job->n_items; i++) {
        struct inpod_sweep_item *item = &job->items[i];
        item->is_changed = item->netns != NULL && !leads_to(item->netns, item->pod);
        if (item->generation == 0 || item->is_changed || netns_enter(item->pod->netns_fd) < 0) {
            continue;
        }
        uint32_t generation;
        item->is_changed = redirect_generation(&generation) == 0 && generation != item->generation;
        netns_leave();
    }
}

static void run(struct inpod_helper *h, struct inpod_job *job) {
    if (job->kind == JOB_OPEN) {
        run_open(h, job);
    } else if (job->kind == JOB_SWEEP) {
        run_sweep(h, job);
    } else {
        run_rules(h, job);
    }
}

static void deliver_wake(struct mail *mail, void *loop_owner) {
    struct wake_mail *wake = CONTAINER_OF(mail, struct wake_mail, mail);
    struct inpod_helper *h = wake->helper;
    free(wake);
    if (h != NULL) {
        pthread_mutex_lock(&h->lock);
        h->wake_mail = NULL;
        pthread_mutex_unlock(&h->lock);
        h->wake(h->arg);
    }
}

static void *helper_main(void *arg) {
    struct inpod_helper *h = arg;
    pthread_mutex_lock(&h->lock);
    while (!h->stop) {
        struct list *node = list_pop_front(&h->first);
        node = node != NULL ? node : list_pop_front(&h->later);
        if (node == NULL) {
            pthread_cond_wait(&h->cond, &h->lock);
            continue;
        }
        struct inpod_job *job = LIST_ITEM(node, struct inpod_job, node);
        pthread_mutex_unlock(&h->lock);
        run(h, job);
        pthread_mutex_lock(&h->lock);
        list_push_back(&h->done, &job->node);
        if (h->wake_mail == NULL) {
            h->wake_mail = xcalloc(1, sizeof(*h->wake_mail));
            *h->wake_mail = (struct wake_mail){.mail.fn = deliver_wake, .helper = h};
            loop_send(h->config.loop, &h->wake_mail->mail);
        }
    }
    pthread_mutex_unlock(&h->lock);
    return NULL;
}

struct inpod_helper *inpod_helper_new(const struct inpod_config *config, void (*wake)(void *arg),
                                      void *arg) {
    struct inpod_helper *h = xcalloc(1, sizeof(*h));
    h->config = *config;
    h->owner = redirect_owner();
    h->wake = wake;
    h->arg = arg;
    list_init(&h->first);
    list_init(&h->later);
    list_init(&h->done);
    netns_own(); // before any thread moves
    CHECK(pthread_mutex_init(&h->lock, NULL) == 0);
    CHECK(pthread_cond_init(&h->cond, NULL) == 0);
    sigset_t all, old;
    sigfillset(&all);
    CHECK(pthread_sigmask(SIG_SETMASK, &all, &old) == 0); // signals are the control thread's
    CHECK(pthread_create(&h->thread, NULL, helper_main, h) == 0);
    CHECK(pthread_sigmask(SIG_SETMASK, &old, NULL) == 0);
    (void)pthread_setname_np(h->thread, "inpod");
    return h;
}

static void drop_jobs(struct list *jobs) {
    struct list *node;
    while ((node = list_pop_front(jobs)) != NULL) {
        inpod_job_free(LIST_ITEM(node, struct inpod_job, node));
    }
}

void inpod_helper_free(struct inpod_helper *h) {
    pthread_mutex_lock(&h->lock);
    h->stop = true;
    pthread_cond_signal(&h->cond);
    pthread_mutex_unlock(&h->lock);
    CHECK(pthread_join(h->thread, NULL) == 0);
    if (h->wake_mail != NULL) {
        h->wake_mail->helper = NULL;
    }
    drop_jobs(&h->first);
    drop_jobs(&h->later);
    drop_jobs(&h->done);
    pthread_cond_destroy(&h->cond);
    pthread_mutex_destroy(&h->lock);
    free(h);
}

void inpod_helper_give(struct inpod_helper *h, struct inpod_job *job) {
    pthread_mutex_lock(&h->lock);
    list_push_back(job->kind == JOB_OPEN ? &h->first : &h->later, &job->node);
    pthread_cond_signal(&h->cond);
    pthread_mutex_unlock(&h->lock);
}

struct inpod_job *inpod_helper_take(struct inpod_helper *h) {
    pthread_mutex_lock(&h->lock);
    struct list *node = list_pop_front(&h->done);
    pthread_mutex_unlock(&h->lock);
    return node != NULL ? LIST_ITEM(node, struct inpod_job, node) : NULL;
}

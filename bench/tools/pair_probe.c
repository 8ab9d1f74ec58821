// SPDX-License-Identifier: Apache-2.0
//
// The least that a pair of tunnel ends has to do, as a floor for the real one:
//
//   pair_probe seal LISTEN TARGET     plain in, records out (and back)
//   pair_probe open LISTEN TARGET     records in, plain out (and back)
//
// Blocking reads and writes, one thread a direction, a buffer of four records, 16 KiB AES-128-GCM
// records sealed and opened in place by BoringSSL's EVP_AEAD, an HTTP/2 DATA header written in
// front of the payload. No handshake (the keys are fixed: this protects nothing), no HTTP/2 state,
// no multiplexing: one outer connection a flow, and no policy, metrics or log.
#include <openssl/aead.h>
#include <pthread.h>
#include <signal.h>
#include <sys/uio.h>

#include "bench/tools/load.h"

enum {
    RECORD_HEAD = 5,
    DATA_HEAD = 9,
    HEAD = RECORD_HEAD + DATA_HEAD,
    TAIL = 17, // content type and tag
    PAYLOAD_MAX = 16384 - DATA_HEAD,
    RECORD_MAX = HEAD + PAYLOAD_MAX + TAIL,
    N_RECORDS = 4,
};

static struct load_addr target;
static bool is_sealer;

struct flow {
    int plain, records;
    int n_left; // directions, atomic
};

static void aead_init(EVP_AEAD_CTX *aead, bool is_up) {
    uint8_t key[16];
    memset(key, is_up ? 0x11 : 0x22, sizeof(key));
    if (!EVP_AEAD_CTX_init(aead, EVP_aead_aes_128_gcm(), key, sizeof(key), 16, NULL)) {
        die("no AEAD");
    }
}

static void next_nonce(uint64_t *seq, uint8_t nonce[12]) {
    memset(nonce, 0, 12);
    memcpy(nonce + 4, seq, sizeof(*seq));
    (*seq)++;
}

// The payload lies at record + HEAD. Returns the length of the record.
static size_t seal(const EVP_AEAD_CTX *aead, uint64_t *seq, uint8_t *record, size_t payload) {
    size_t inner = DATA_HEAD + payload + 1, sealed = inner + 16, out = 0;
    uint8_t nonce[12];
    next_nonce(seq, nonce);
    const uint8_t head[HEAD] = {23,
                                3,
                                3,
                                (uint8_t)(sealed >> 8),
                                (uint8_t)sealed,
                                0,
                                (uint8_t)(payload >> 8),
                                (uint8_t)payload,
                                0,
                                0,
                                0,
                                0,
                                0,
                                1};
    memcpy(record, head, sizeof(head));
    record[HEAD + payload] = 23;
    if (!EVP_AEAD_CTX_seal(aead, record + RECORD_HEAD, &out, sealed, nonce, sizeof(nonce),
                           record + RECORD_HEAD, inner, record, RECORD_HEAD)) {
        die("seal failed");
    }
    return RECORD_HEAD + out;
}

static void run_sealing(struct flow *flow) {
    static __thread uint8_t buf[N_RECORDS * RECORD_MAX];
    EVP_AEAD_CTX aead;
    uint64_t seq = 0;
    aead_init(&aead, is_sealer);
    for (;;) {
        struct iovec iov[N_RECORDS];
        for (size_t i = 0; i < N_RECORDS; i++) {
            iov[i] =
                (struct iovec){.iov_base = buf + i * RECORD_MAX + HEAD, .iov_len = PAYLOAD_MAX};
        }
        ssize_t n = readv(flow->plain, iov, N_RECORDS);
        if (n <= 0) {
            break;
        }
        size_t len = 0, left = (size_t)n;
        for (size_t i = 0; left > 0; i++) { // full records lie side by side
            size_t payload = left < PAYLOAD_MAX ? left : PAYLOAD_MAX;
            len += seal(&aead, &seq, buf + i * RECORD_MAX, payload);
            left -= payload;
        }
        if (!load_send(flow->records, buf, len, 0)) {
            break;
        }
    }
    EVP_AEAD_CTX_cleanup(&aead);
}

static bool write_all(int fd, struct iovec *iov, int n) {
    while (n > 0) {
        ssize_t done = writev(fd, iov, n);
        if (done <= 0) {
            return false;
        }
        while (n > 0 && (size_t)done >= iov->iov_len) {
            done -= (ssize_t)iov->iov_len;
            iov++;
            n--;
        }
        if (n > 0) {
            iov->iov_base = (uint8_t *)iov->iov_base + done;
            iov->iov_len -= (size_t)done;
        }
    }
    return true;
}

static void run_opening(struct flow *flow) {
    enum { MAX_PIECES = 64 };
    static __thread uint8_t buf[N_RECORDS * RECORD_MAX];
    EVP_AEAD_CTX aead;
    uint64_t seq = 0;
    size_t have = 0;
    aead_init(&aead, !is_sealer);
    for (;;) {
        ssize_t n = read(flow->records, buf + have, sizeof(buf) - have);
        if (n <= 0) {
            break;
        }
        have += (size_t)n;
        size_t off = 0;
        bool ok = true;
        do {
            struct iovec iov[MAX_PIECES];
            int n_pieces = 0;
            while (n_pieces < MAX_PIECES && have - off >= RECORD_HEAD) {
                uint8_t *record = buf + off, nonce[12];
                size_t sealed = (size_t)record[3] << 8 | record[4], out = 0;
                if (have - off < RECORD_HEAD + sealed) {
                    break;
                }
                next_nonce(&seq, nonce);
                if (!EVP_AEAD_CTX_open(&aead, record + RECORD_HEAD, &out, sealed, nonce,
                                       sizeof(nonce), record + RECORD_HEAD, sealed, record,
                                       RECORD_HEAD)) {
                    die("open failed");
                }
                iov[n_pieces++] =
                    (struct iovec){.iov_base = record + HEAD, .iov_len = out - DATA_HEAD - 1};
                off += RECORD_HEAD + sealed;
            }
            if (n_pieces == 0) {
                break;
            }
            ok = write_all(flow->plain, iov, n_pieces);
        } while (ok);
        if (!ok) {
            break;
        }
        memmove(buf, buf + off, have - off);
        have -= off;
    }
    EVP_AEAD_CTX_cleanup(&aead);
}

static void end_direction(struct flow *flow, int to) {
    (void)shutdown(to, SHUT_WR);
    if (__atomic_sub_fetch(&flow->n_left, 1, __ATOMIC_ACQ_REL) == 0) {
        close(flow->plain);
        close(flow->records);
        free(flow);
    }
}

static void *opener(void *arg) {
    struct flow *flow = arg;
    run_opening(flow);
    end_direction(flow, flow->plain);
    return NULL;
}

static void *sealer(void *arg) {
    struct flow *flow = arg;
    run_sealing(flow);
    end_direction(flow, flow->records);
    return NULL;
}

static void *serve(void *arg) {
    int down = (int)(intptr_t)arg;
    load_tune(down, 0);
    int up = load_connect(&target, 0);
    struct flow *flow = calloc(1, sizeof(*flow));
    pthread_t thread;
    if (flow == NULL) {
        die("no memory");
    }
    *flow = (struct flow){
        .plain = is_sealer ? down : up, .records = is_sealer ? up : down, .n_left = 2};
    if (pthread_create(&thread, NULL, opener, flow) != 0) {
        die("no thread");
    }
    pthread_detach(thread);
    return sealer(flow);
}

int main(int argc, char **argv) {
    is_sealer = argc == 4 && strcmp(argv[1], "seal") == 0;
    if (argc != 4 || (!is_sealer && strcmp(argv[1], "open") != 0)) {
        die("usage: pair_probe seal|open LISTEN_ADDR TARGET_ADDR");
    }
    signal(SIGPIPE, SIG_IGN);
    load_raise_files();
    struct load_addr addr = load_addr(argv[2]);
    target = load_addr(argv[3]);
    int listener = load_listen(&addr);
    for (;;) {
        int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
        pthread_t thread;
        if (fd >= 0 && pthread_create(&thread, NULL, serve, (void *)(intptr_t)fd) == 0) {
            pthread_detach(thread);
        }
    }
}

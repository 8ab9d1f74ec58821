// SPDX-License-Identifier: Apache-2.0
//
// Workers share contexts, trust bundles and the cache of verified chains, while the control thread
// rotates and empties them. Meant for the thread sanitizer.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <pthread.h>
#include <stdatomic.h>

#include "common/tls/tls_verify.h"
#include "tests/unit/tls/tls_fixture.h"

enum { N_WORKERS = 3, N_ROUNDS = 40 };

static struct fix_ca root;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct tls_ctx *current; // under lock; replaced by the control thread
static struct tls_peer *shared_peer; // dropped by whoever comes last
static atomic_int n_done;

static struct tls_ctx *take_current(void) {
    pthread_mutex_lock(&lock);
    struct tls_ctx *ctx = tls_ctx_ref(current);
    pthread_mutex_unlock(&lock);
    return ctx;
}

static void *worker(void *arg) {
    fix_pool_setup(NULL);
    for (int i = 0; i < N_ROUNDS; i++) {
        struct fix_pair pair;
        struct tls_ctx *ctx = take_current();
        fix_pair_run(&pair, ctx, ctx, FIX_SERVER, FIX_NOW, 0);
        CHECK(pair.client_step == TLS_STEP_DONE && pair.server_step == TLS_STEP_DONE);
        struct tls_peer *peer = tls_peer_dup(tls_handshake_peer(pair.client));
        CHECK(tls_peer_recheck(ctx, peer, FIX_NOW) == TLS_OK);
        fix_pair_free(&pair);
        pthread_mutex_lock(&lock);
        struct tls_peer *old = shared_peer;
        shared_peer = peer;
        pthread_mutex_unlock(&lock);
        CHECK(old == NULL || slice_eq_str(old->identity, FIX_SERVER));
        tls_peer_free(old);
        tls_ctx_unref(ctx);
    }
    blk_pool_fini(&fix_pool);
    atomic_fetch_add(&n_done, 1);
    return NULL;
}

static void test_threads(void **state) {
    pthread_t threads[N_WORKERS];
    current = fix_ctx(&root, FIX_SERVER, NULL, NULL);
    for (int i = 0; i < N_WORKERS; i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, worker, NULL), 0);
    }
    for (uint64_t n = 0; atomic_load(&n_done) < N_WORKERS; n++) {
        struct tls_ctx_params params = {.crl_generation = n % 3};
        struct tls_ctx *fresh = fix_ctx(&root, FIX_SERVER, &params, NULL);
        pthread_mutex_lock(&lock);
        struct tls_ctx *old = current;
        current = fresh;
        pthread_mutex_unlock(&lock);
        tls_ctx_unref(old);
        if (n % 5 == 0) {
            tls_verify_cache_clear();
        }
    }
    for (int i = 0; i < N_WORKERS; i++) {
        assert_int_equal(pthread_join(threads[i], NULL), 0);
    }
    tls_peer_free(shared_peer);
    tls_ctx_unref(current);
}

static int setup(void **state) {
    fix_pool_setup(state);
    fix_ca_init(&root);
    return 0;
}

static int teardown(void **state) {
    fix_ca_fini(&root);
    return fix_pool_teardown(state);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_threads)};
    return cmocka_run_group_tests(tests, setup, teardown);
}

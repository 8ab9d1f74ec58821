// SPDX-License-Identifier: Apache-2.0
#include "common/rt/worker.h"

#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { DEFAULT_BULK_FREE = 8 };

static void set_cpu(int cpu) {
    if (cpu >= 0 && cpu < CPU_SETSIZE) {
        cpu_set_t set;
        CPU_ZERO(&set);
        CPU_SET((unsigned)cpu, &set);
        (void)sched_setaffinity(0, sizeof(set), &set); // a wish: the cpuset may say no
    }
}

static void report(struct worker *worker, int rc) {
    pthread_mutex_lock(&worker->lock);
    worker->is_started = true;
    worker->start_rc = rc;
    pthread_cond_signal(&worker->cond);
    pthread_mutex_unlock(&worker->lock);
}

// The message that ended the loop may have been read before its sender was through with wake().
static void wait_for_stopper(struct worker *worker) {
    pthread_mutex_lock(&worker->lock);
    while (!worker->is_stop_sent) {
        pthread_cond_wait(&worker->cond, &worker->lock);
    }
    pthread_mutex_unlock(&worker->lock);
}

static void *thread_main(void *arg) {
    struct worker *worker = arg;
    const struct worker_options *options = &worker->options;
    if (options->name != NULL) {
        char name[16];
        snprintf(name, sizeof(name), "%s", options->name);
        pthread_setname_np(pthread_self(), name);
    }
    set_cpu(options->cpu);
    blk_pool_init(&worker->pool,
                  options->max_bulk_free != 0 ? options->max_bulk_free : DEFAULT_BULK_FREE);
    int rc = io_open(options->io, &options->uring, &worker->pool, worker->error, &worker->io);
    if (rc < 0) {
        goto out;
    }
    loop_init(&worker->loop, worker->io, &worker->pool, worker->arg);
    if (options->start != NULL) {
        rc = options->start(worker);
    }
    if (rc < 0) {
        snprintf(worker->error, sizeof(worker->error), "worker: %s", strerror(-rc));
    } else {
        report(worker, 0);
        loop_run(&worker->loop);
        wait_for_stopper(worker);
        if (options->stop != NULL) {
            options->stop(worker);
        }
    }
    loop_fini(&worker->loop);
    worker->io->ops->free(worker->io);
out:
    blk_pool_fini(&worker->pool);
    if (rc < 0) {
        report(worker, rc);
    }
    return NULL;
}

int worker_start(struct worker *worker, const struct worker_options *options,
                 char error[URING_ERROR_MAX]) {
    *worker = (struct worker){.options = *options, .arg = options->arg};
    pthread_mutex_init(&worker->lock, NULL);
    pthread_cond_init(&worker->cond, NULL);
    // Signals are the control thread's: blocked here from the first instruction on.
    sigset_t all, old;
    sigfillset(&all);
    const int faults[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT, SIGTRAP, SIGSYS, SIGPROF};
    for (size_t i = 0; i < ARRAY_LEN(faults); i++) {
        sigdelset(&all, faults[i]);
    }
    pthread_sigmask(SIG_SETMASK, &all, &old);
    int rc = -pthread_create(&worker->thread, NULL, thread_main, worker);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    if (rc < 0) {
        snprintf(error, URING_ERROR_MAX, "pthread_create: %s", strerror(-rc));
        goto out;
    }
    pthread_mutex_lock(&worker->lock);
    while (!worker->is_started) {
        pthread_cond_wait(&worker->cond, &worker->lock);
    }
    rc = worker->start_rc;
    pthread_mutex_unlock(&worker->lock);
    if (rc == 0) {
        return 0;
    }
    pthread_join(worker->thread, NULL);
    memcpy(error, worker->error, sizeof(worker->error));
out:
    pthread_mutex_destroy(&worker->lock);
    pthread_cond_destroy(&worker->cond);
    return rc;
}

struct stop_mail {
    struct mail mail;
    struct worker *worker;
};

static void on_stop(struct mail *mail, void *owner) {
    struct stop_mail *stop = CONTAINER_OF(mail, struct stop_mail, mail);
    loop_stop(&stop->worker->loop);
    free(stop);
}

void worker_stop(struct worker *worker) {
    struct stop_mail *stop = xmalloc(sizeof(*stop));
    *stop = (struct stop_mail){.mail.fn = on_stop, .worker = worker};
    loop_send(&worker->loop, &stop->mail);
    pthread_mutex_lock(&worker->lock);
    worker->is_stop_sent = true;
    pthread_cond_signal(&worker->cond);
    pthread_mutex_unlock(&worker->lock);
    pthread_join(worker->thread, NULL);
    pthread_mutex_destroy(&worker->lock);
    pthread_cond_destroy(&worker->cond);
}

// SPDX-License-Identifier: Apache-2.0
// A main() for fuzz targets where libFuzzer is not linked: runs the target over every file of the
// given corpus directories (or files), then over fixed mutations of each. The mutations come from a
// generator with a constant seed, so every run does the same. With FUZZ_REPLAY_ONLY=1 in the
// environment only the files are run, as one wants for a crash that libFuzzer has saved.

#include <dirent.h>
#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);
__attribute__((weak)) int LLVMFuzzerInitialize(int *argc, char ***argv);

enum {
    INPUT_MAX = 1 << 20,
    MUTATIONS_PER_FILE = 64,
    BLIND_INPUTS = 256,
    BLIND_LEN_MAX = 96,
};

static uint64_t rand_state = 0x9e3779b97f4a7c15;
static size_t n_runs;

// splitmix64
static uint64_t rand_next(void) {
    uint64_t z = rand_state += 0x9e3779b97f4a7c15;

    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
    z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
    return z ^ (z >> 31);
}

static void *must_alloc(size_t len) {
    void *p = malloc(len > 0 ? len : 1);

    if (p == NULL) {
        perror("malloc");
        exit(2);
    }
    return p;
}

// Each run gets an allocation of exactly its length, so that ASan sees a read past the end.
static void run_one(const uint8_t *data, size_t len) {
    uint8_t *copy = must_alloc(len);

    if (len > 0) {
        memcpy(copy, data, len);
    }
    (void)LLVMFuzzerTestOneInput(copy, len);
    free(copy);
    n_runs++;
}

// Changes data in place, within cap; returns the new length.
static size_t mutate(uint8_t *data, size_t len, size_t cap) {
    static const uint8_t edges[] = {0x00, 0x01, 0x7f, 0x80, 0xfe, 0xff, '\n', '\0'};
    size_t at = len > 0 ? rand_next() % len : 0;
    size_t span;

    switch (len > 0 ? rand_next() % 7 : 4) {
    case 0: // flip a bit
        data[at] ^= (uint8_t)(1U << (rand_next() % 8));
        return len;
    case 1: // a value at the edge of its range
        data[at] = edges[rand_next() % sizeof(edges)];
        return len;
    case 2: // cut short
        return at;
    case 3: // drop a span
        span = 1 + rand_next() % (len - at);
        memmove(data + at, data + at + span, len - at - span);
        return len - span;
    case 4: // insert noise
        span = 1 + rand_next() % 8;
        if (len + span > cap) {
            return len;
        }
        memmove(data + at + span, data + at, len - at);
        for (size_t i = 0; i < span; i++) {
            data[at + i] = (uint8_t)rand_next();
        }
        return len + span;
    case 5: // repeat a span
        span = 1 + rand_next() % (len - at);
        if (len + span > cap) {
            return len;
        }
        memmove(data + at + span, data + at, len - at);
        return len + span;
    default: // any byte
        data[at] = (uint8_t)rand_next();
        return len;
    }
}

static void run_mutations(const uint8_t *data, size_t len) {
    size_t cap = len + 4096;
    uint8_t *work = must_alloc(cap);

    for (size_t i = 0; i < MUTATIONS_PER_FILE; i++) {
        size_t n = len;

        if (len > 0) {
            memcpy(work, data, len);
        }
        for (uint64_t rounds = 1 + rand_next() % 4; rounds > 0; rounds--) {
            n = mutate(work, n, cap);
        }
        run_one(work, n);
    }
    free(work);
}

static int run_file(const char *path, bool is_replay_only) {
    FILE *f = fopen(path, "rb");
    uint8_t *data;
    size_t len;

    if (f == NULL) {
        fprintf(stderr, "%s: %s\n", path, strerror(errno));
        return -errno;
    }
    data = must_alloc(INPUT_MAX);
    len = fread(data, 1, INPUT_MAX, f);
    fclose(f);
    run_one(data, len);
    if (!is_replay_only) {
        run_mutations(data, len);
    }
    free(data);
    return 0;
}

static int is_visible(const struct dirent *entry) {
    return entry->d_name[0] != '.';
}

// Files are taken in the order of their names, else the mutations would differ between machines.
static int run_path(const char *path, bool is_replay_only, size_t *ret_n_files) {
    struct stat st;
    struct dirent **entries = NULL;
    int n_entries;
    int rc = 0;

    if (stat(path, &st) != 0) {
        return errno == ENOENT ? 0 : -errno;
    }
    if (!S_ISDIR(st.st_mode)) {
        *ret_n_files += 1;
        return run_file(path, is_replay_only);
    }
    n_entries = scandir(path, &entries, is_visible, alphasort);
    if (n_entries < 0) {
        return -errno;
    }
    for (int i = 0; i < n_entries; i++) {
        char name[4096];

        snprintf(name, sizeof(name), "%s/%s", path, entries[i]->d_name);
        if (rc == 0) {
            rc = run_path(name, is_replay_only, ret_n_files);
        }
        free(entries[i]);
    }
    free(entries);
    return rc;
}

// Without a corpus the target still sees short random inputs.
static void run_blind(void) {
    uint8_t data[BLIND_LEN_MAX];

    run_one(NULL, 0);
    for (size_t i = 0; i < BLIND_INPUTS; i++) {
        size_t len = rand_next() % (sizeof(data) + 1);

        for (size_t j = 0; j < len; j++) {
            data[j] = (uint8_t)rand_next();
        }
        run_one(data, len);
    }
}

int main(int argc, char **argv) {
    const char *replay = getenv("FUZZ_REPLAY_ONLY");
    bool is_replay_only = replay != NULL && strcmp(replay, "1") == 0;
    size_t n_files = 0;

    if (LLVMFuzzerInitialize != NULL) {
        LLVMFuzzerInitialize(&argc, &argv);
    }
    for (int i = 1; i < argc; i++) {
        int rc = run_path(argv[i], is_replay_only, &n_files);

        if (rc != 0) {
            fprintf(stderr, "%s: %s\n", argv[i], strerror(-rc));
            return 1;
        }
    }
    if (!is_replay_only) {
        run_blind();
    }
    printf("%zu files, %zu runs\n", n_files, n_runs);
    return 0;
}

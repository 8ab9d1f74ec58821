// SPDX-License-Identifier: Apache-2.0
#include "ztun/redirect_nft.h"

#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <stdio.h>

#define LIBRARY "libnftables.so.1"

// What is used of the library, with the types of its header.
#define EACH_SYMBOL(x)                                                                             \
    x(nft_ctx_new) x(nft_ctx_free) x(nft_ctx_buffer_error) x(nft_ctx_buffer_output)                \
        x(nft_ctx_output_set_flags) x(nft_ctx_get_error_buffer) x(nft_ctx_get_output_buffer)       \
            x(nft_run_cmd_from_buffer)

#define MEMBER(name) __typeof__(name) *name;
struct library {
    void *handle;
    unsigned int n_users;
    EACH_SYMBOL(MEMBER)
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct library library; // under the lock; its pointers are constant while it has users

static bool library_load(void) {
#define RESOLVE(name)                                                                              \
    library.name = (__typeof__(name) *)dlsym(library.handle, #name);                               \
    is_complete = is_complete && library.name != NULL;

    library.handle = dlopen(LIBRARY, RTLD_NOW | RTLD_LOCAL);
    bool is_complete = library.handle != NULL;
    if (is_complete) {
        EACH_SYMBOL(RESOLVE)
    }
    return is_complete;
}

static void library_unload(void) {
    if (library.handle != NULL) {
        (void)dlclose(library.handle);
        library.handle = NULL;
    }
}

int redirect_nft_begin(char error[REDIRECT_ERROR_MAX]) {
    int rc = 0;
    pthread_mutex_lock(&lock);
    if (library.n_users == 0 && !library_load()) {
        const char *reason = dlerror();
        if (error != NULL) {
            snprintf(error, REDIRECT_ERROR_MAX, "cannot load " LIBRARY ": %s",
                     reason != NULL ? reason : "unknown");
        }
        library_unload();
        rc = -ELIBACC;
    } else {
        library.n_users++;
    }
    pthread_mutex_unlock(&lock);
    return rc;
}

void redirect_nft_end(void) {
    pthread_mutex_lock(&lock);
    CHECK(library.n_users > 0);
    if (--library.n_users == 0) {
        library_unload();
    }
    pthread_mutex_unlock(&lock);
}

int redirect_nft_run(const char *commands, unsigned int flags, struct buf *out,
                     char error[REDIRECT_ERROR_MAX]) {
    // The context's netlink socket belongs to the namespace that the thread is in now.
    struct nft_ctx *ctx = library.nft_ctx_new(NFT_CTX_DEFAULT);
    if (ctx == NULL) {
        return -ENOMEM;
    }
    int rc = -ENOMEM;
    if (library.nft_ctx_buffer_error(ctx) == 0 && library.nft_ctx_buffer_output(ctx) == 0) {
        library.nft_ctx_output_set_flags(ctx, flags);
        rc = library.nft_run_cmd_from_buffer(ctx, commands) == 0 ? 0 : -EIO;
        const char *message = library.nft_ctx_get_error_buffer(ctx);
        if (rc != 0 && message != NULL) {
            // The library hands out no error codes.
            rc = strstr(message, "No such file or directory") != NULL ? -ENOENT : -EIO;
            if (error != NULL) {
                snprintf(error, REDIRECT_ERROR_MAX, "nftables: %.*s", (int)strcspn(message, "\n"),
                         message);
            }
        }
        if (rc == 0 && out != NULL) {
            buf_append_str(out, library.nft_ctx_get_output_buffer(ctx));
        }
    }
    library.nft_ctx_free(ctx);
    return rc;
}

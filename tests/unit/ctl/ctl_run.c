// SPDX-License-Identifier: Apache-2.0
#include "tests/unit/ctl/ctl_run.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "common/base/check.h"

int ctl_run(int (*command)(int argc, char **argv), const char *name, const char *const *args,
            char **ret_out, char **ret_err) {
    char *argv[CTL_ARGS_MAX] = {xstrdup(name)};
    int argc = 1, saved[2] = {dup(1), dup(2)};
    FILE *files[2] = {tmpfile(), tmpfile()};
    char *texts[2];
    for (; *args != NULL; args++) {
        assert_in_range(argc, 1, CTL_ARGS_MAX - 2);
        argv[argc++] = xstrdup(*args);
    }
    fflush(stdout);
    fflush(stderr);
    dup2(fileno(files[0]), 1);
    dup2(fileno(files[1]), 2);
    int code = command(argc, argv);
    fflush(stdout);
    fflush(stderr);
    for (int i = 0; i < 2; i++) {
        dup2(saved[i], i + 1);
        close(saved[i]);
        long len = lseek(fileno(files[i]), 0, SEEK_END);
        texts[i] = xcalloc(1, (size_t)len + 1);
        assert_int_equal(pread(fileno(files[i]), texts[i], (size_t)len, 0), len);
        fclose(files[i]);
    }
    for (int i = 0; i < argc; i++) {
        free(argv[i]);
    }
    *ret_out = texts[0];
    *ret_err = texts[1];
    return code;
}

// SPDX-License-Identifier: Apache-2.0
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

#include "common/base/buf.h"
#include "common/obs/log.h"
#include "ztun/control.h"

// No core dumps: they would hold private keys and traffic secrets.
static void harden_process(void) {
    struct rlimit none = {0}, files;
    (void)setrlimit(RLIMIT_CORE, &none);
    (void)prctl(PR_SET_DUMPABLE, 0);
    if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
        files.rlim_cur = files.rlim_max;
        (void)setrlimit(RLIMIT_NOFILE, &files);
    }
}

int main(int argc, char **argv) {
    static struct ztun ztun; // zero; lives as long as the process
    int rc = ztun_config_parse(&ztun.config, argc, argv);
    if (rc != 0) {
        return rc == 1 ? 0 : rc;
    }
    harden_process();
    struct log_config log = {
        .fd = STDOUT_FILENO,
        .format = ztun.config.log_format[0] == 'j' ? LOG_FORMAT_JSON : LOG_FORMAT_TEXT,
        .filter = ztun.config.log_filter,
    };
    struct buf error;
    buf_init(&error, 512);
    if (!log_init(&log, &error)) {
        fprintf(stderr, "ztun: log filter: %s\n", buf_cstr(&error));
        return 2;
    }
    buf_fini(&error);
    return control_run(&ztun);
}

// SPDX-License-Identifier: Apache-2.0
#include "common/proc/proc_log.h"
#include "common/proc/proc_start.h"
#include "ztun/control.h"

int main(int argc, char **argv) {
    static struct ztun ztun; // zero; lives as long as the process
    int rc = ztun_config_parse(&ztun.config, argc, argv);
    if (rc != 0) {
        return rc == 1 ? 0 : rc;
    }
    proc_harden();
    if (!proc_log_init("ztun", ztun.config.proc.log_format, ztun.config.proc.log_filter)) {
        return 2;
    }
    return control_run(&ztun);
}

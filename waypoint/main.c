// SPDX-License-Identifier: Apache-2.0
#include "common/proc/proc_log.h"
#include "common/proc/proc_start.h"
#include "waypoint/control.h"

int main(int argc, char **argv) {
    static struct waypoint waypoint; // zero; lives as long as the process
    int rc = waypoint_config_parse(&waypoint.config, argc, argv);
    if (rc != 0) {
        return rc == 1 ? 0 : rc;
    }
    proc_harden();
    if (!proc_log_init("waypoint", waypoint.config.proc.log_format,
                       waypoint.config.proc.log_filter)) {
        return 2;
    }
    return control_run(&waypoint);
}

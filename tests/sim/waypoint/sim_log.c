// SPDX-License-Identifier: Apache-2.0
//
// The access log as an operator has it: one line for each request, with the reason of those that
// were not answered.
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "common/obs/log.h"
#include "tests/sim/waypoint/sim_waypoint.h"

static FILE *file;

void sim_log_open(void) {
    file = tmpfile();
    CHECK(file != NULL);
    struct log_config config = {.fd = fileno(file), .filter = "info,waypoint=off"};
    struct buf error;
    buf_init(&error, SIZE_MAX);
    CHECK(log_init(&config, &error));
    buf_fini(&error);
}

// Of a connection as bytes: told by its client's port.
static void take_flow(struct sim *sim, const char *line) {
    const char *at = strstr(line, "src.addr=10.0.0.1:");
    unsigned long port = at != NULL ? strtoul(at + strlen("src.addr=10.0.0.1:"), NULL, 10) : 0;
    if (strstr(line, "direction=\"waypoint\"") == NULL || port < SIM_FLOW_PORT ||
        port >= SIM_FLOW_PORT + (unsigned long)sim->n_flows) {
        return;
    }
    struct sim_flow *flow = &sim->flows[port - SIM_FLOW_PORT];
    flow->n_lines++;
    flow->has_reason = strstr(line, "error=") != NULL;
    sim_tracef(sim, "log: %s", line);
}

static void take_line(struct sim *sim, const char *line) {
    unsigned id, status;
    unsigned long long len;
    char flags[64], details[256];
    if (sscanf(line, "sim %u %u %63s %255s %llu", &id, &status, flags, details, &len) != 5) {
        take_flow(sim, line); // or not a request of ours: it was none at all
        return;
    }
    CHECK(id < sim->n_requests);
    struct sim_request *request = &sim->requests[id];
    request->n_lines++;
    request->logged_status = (uint16_t)status;
    request->logged_len = len;
    request->has_reason = strcmp(flags, "-") != 0;
    request->was_passed_on = strcmp(details, "via_upstream") == 0;
    sim_tracef(sim, "log: %s", line);
}

void sim_log_read(struct sim *sim) {
    char line[2048];
    rewind(file);
    while (fgets(line, sizeof(line), file) != NULL) {
        take_line(sim, line);
    }
    (void)fclose(file);
}

// SPDX-License-Identifier: Apache-2.0
#include "common/proc/proc_config.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/base/blk.h"
#include "common/base/clock.h"
#include "common/proc/proc_memory.h"

enum { WORKERS_MAX = 64 };

void proc_config_defaults(struct proc_config *config) {
    *config = (struct proc_config){
        .log_filter = "info",
        .log_format = "plain",
        .trust_domain = "cluster.local",
        .cluster_domain = "cluster.local",
        .cluster_id = "Kubernetes",
        .network = "",
        .root_namespace = "istio-system",
        .ca_roots = "./var/run/secrets/istio/root-cert.pem",
        .xds_roots = "./var/run/secrets/istio/root-cert.pem",
        .instance_ip = "127.0.0.1",
        .token = "./var/run/secrets/tokens/istio-token",
        .secret_ttl_s = 24 * 3600,
        .stream_window_max = 4 * 1024 * 1024,
        .conn_window = 16 * 1024 * 1024,
        .frame_size = 1024 * 1024,
        .max_streams = 100,
        .pool_idle_ns = 300 * NS_PER_SEC,
        .keepalive = true,
        .keepalive_s = 180,
        .keepalive_interval_s = 180,
        .keepalive_probes = 9,
        .termination_ms = 5000,
        .rebind_ms = 30000,
        .response_baggage = true,
    };
    CHECK(addr_parse(slice_str("127.0.0.1:15000"), &config->admin));
    CHECK(addr_parse(slice_str("[::]:15020"), &config->metrics));
    CHECK(addr_parse(slice_str("[::]:15021"), &config->readiness));
    proc_options_grace(&config->termination_ms);
}

uint32_t proc_config_workers(const struct proc_config *config, uint32_t cores) {
    cores = config->cpu_limit != 0 ? config->cpu_limit : config->cpus != 0 ? config->cpus : cores;
    uint32_t n = proc_options_threads(&config->workers, cores);
    if (n != 0) {
        return n;
    }
    n = config->cpu_limit != 0 ? config->cpu_limit : MAX(2, (cores + 3) / 4);
    n = MAX(n, config->cpu_request);
    return MIN(n, (uint32_t)WORKERS_MAX);
}

// As ztunnel. An empty text, also of the environment, says that there is none.
static void find_istiod(struct proc_config *config) {
    static const char istiod[] = "https://istiod.istio-system.svc:15012";
    if (!config->knows_istiod || getenv("KUBERNETES_SERVICE_HOST") == NULL) {
        return;
    }
    if (config->xds_address == NULL && config->config_path == NULL &&
        getenv("XDS_ADDRESS") == NULL) {
        config->xds_address = istiod;
    }
    if (config->ca_address == NULL && config->ca_dir == NULL && getenv("CA_ADDRESS") == NULL) {
        config->ca_address = istiod;
    }
}

static bool check_ca(struct proc_config *config, const char *program) {
    if (config->ca_address != NULL && config->ca_address[0] == '\0') {
        config->ca_address = NULL; // CA_ADDRESS="" is how ztunnel is told to have none
    }
    if (config->ca_address != NULL && config->ca_dir != NULL) {
        fprintf(stderr, "%s: --ca-dir is a CA of our own, --ca-address another's: give one\n",
                program);
        return false;
    }
    if (config->ca_address == NULL && config->ca_dir == NULL) {
        fprintf(stderr, "%s: --ca-dir or --ca-address is required (see %s --help)\n", program,
                program);
        return false;
    }
    return proc_options_headers(program, "CA_HEADER_", &config->ca_headers, &config->n_ca_headers);
}

static bool check_sources(struct proc_config *config, const char *program) {
    struct ip ip;
    if (config->xds_address != NULL && config->xds_address[0] == '\0') {
        config->xds_address = NULL; // how ztunnel is told to have none
    }
    if (config->config_path == NULL && config->xds_address == NULL && !config->has_other_source) {
        const char *other = config->other_source;
        fprintf(stderr, "%s: --config%s%s or --xds-address is required (see %s --help)\n", program,
                other != NULL ? ", " : "", other != NULL ? other : "", program);
        return false;
    }
    if (!ip_parse(slice_str(config->instance_ip), &ip)) {
        fprintf(stderr, "%s: --instance-ip: \"%s\" is not an IP address\n", program,
                config->instance_ip);
        return false;
    }
    return proc_options_headers(program, "XDS_HEADER_", &config->xds_headers,
                                &config->n_xds_headers);
}

// As istiod names it; its first revision may be called `default`.
static bool take_revision(struct proc_config *config, const char *program) {
    const char *name = config->revision;
    if (name == NULL || name[0] == '\0') {
        return true;
    }
    size_t len = strlen(name);
    if (len > 63 || strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789-") != len) {
        fprintf(stderr, "%s: --revision: \"%s\" is no name of a revision\n", program, name);
        return false;
    }
    config->mesh_config =
        strcmp(name, "default") == 0 ? "istio" : xasprintf("istio-%s", name); // for good
    return true;
}

bool proc_config_check(struct proc_config *config, const char *program) {
    find_istiod(config);
    if (!check_sources(config, program) || !check_ca(config, program) ||
        !take_revision(config, program)) {
        return false;
    }
    config->memory_limit = proc_memory_limit(config->memory_limit);
    if (config->stream_window == 0) {
        config->stream_window =
            MIN(proc_memory_stream_window(config->memory_limit), config->stream_window_max);
    }
    if (strcmp(config->log_format, "plain") != 0 && strcmp(config->log_format, "json") != 0) {
        fprintf(stderr, "%s: --log-format: \"%s\", expected plain or json\n", program,
                config->log_format);
        return false;
    }
    config->n_workers = proc_config_workers(config, (uint32_t)sysconf(_SC_NPROCESSORS_ONLN));
    if (config->n_workers > WORKERS_MAX) {
        fprintf(stderr, "%s: --workers: %u, expected 1 to %d\n", program, config->n_workers,
                WORKERS_MAX);
        return false;
    }
    if (config->stream_window < 65535 || config->stream_window_max < config->stream_window ||
        config->stream_window_max > INT32_MAX || config->conn_window > INT32_MAX) {
        fprintf(stderr, "%s: windows: 65535 <= --stream-window <= --stream-window-max < 2 GiB\n",
                program);
        return false;
    }
    if (config->frame_size < 16384 || config->frame_size > 16777215) {
        fprintf(stderr, "%s: --frame-size: %u, expected 16384 to 16777215\n", program,
                config->frame_size);
        return false;
    }
    return true;
}

void proc_config_h2(const struct proc_config *config, bool is_server, struct h2_parked *parked,
                    struct h2_config *ret_h2) {
    h2_config_init(ret_h2, is_server);
    ret_h2->stream_window = config->stream_window;
    ret_h2->stream_window_max = config->stream_window_max;
    ret_h2->conn_window = config->conn_window;
    ret_h2->parked_all = parked;
    ret_h2->max_frame_size = config->frame_size;
    ret_h2->header_table_size = 0;
    ret_h2->send_frame_max = BLK_DATA_MAX;
    ret_h2->max_streams = 2 * config->max_streams;
    ret_h2->max_streams_local = config->max_streams;
    ret_h2->max_header_list = is_server ? 64 * 1024 : 16 * 1024;
}

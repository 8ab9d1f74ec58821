// SPDX-License-Identifier: Apache-2.0
//
// scale_probe [--services=10000] [--endpoints=100000] [--changes=200] [--write]: what a mesh of
// that size costs the control thread, each step by itself, in CPU time:
//
//   libyaml_cpu_s  libyaml's own event parse of the text
//   decode_cpu_s   text to objects           publish_cpu_s  objects to a published root
//   change_us      one endpoint's change, decoded, to its published root: mean, and the worst
//   bytes_kb       resident memory that objects and snapshot took
//
// With --write only the text, on stdout: a Service and its Pods after one another. JSON otherwise.
#include <yaml.h>

#include "bench/tools/mesh_objects.h"

enum { N_NAMESPACES = 100 };

static uint64_t n_services = 10000, n_endpoints = 100000, n_changes = 200, is_write;

// ---- Text

static void write_pod(FILE *out, uint64_t i, int version) {
    uint64_t app = i % n_services;
    fprintf(out,
            "---\napiVersion: v1\nkind: Pod\nmetadata:\n  name: app%lu-5d4f8c7b9f-%06lu\n"
            "  namespace: ns%lu\n  labels:\n    app: app%lu\n    version: v%d\n"
            "    pod-template-hash: 5d4f8c7b9f\nspec:\n  nodeName: far%lu\n"
            "  serviceAccountName: app%lu\n  containers:\n  - name: main\n    image: registry/app\n"
            "    ports:\n    - name: http\n      containerPort: 8080\nstatus:\n  phase: Running\n"
            "  podIP: 11.%lu.%lu.%lu\n  conditions:\n  - type: Ready\n    status: \"True\"\n",
            app, i, app % N_NAMESPACES, app, version, i % 1000, app, i >> 16, (i >> 8) & 255,
            i & 255);
}

static void write_all(FILE *out) {
    for (uint64_t i = 0; i < n_services; i++) {
        fprintf(out,
                "---\napiVersion: v1\nkind: Service\nmetadata:\n  name: app%lu\n"
                "  namespace: ns%lu\nspec:\n  clusterIP: 12.%lu.%lu.%lu\n  selector:\n"
                "    app: app%lu\n  ports:\n  - name: http\n    port: 80\n    targetPort: http\n",
                i, i % N_NAMESPACES, i >> 16, (i >> 8) & 255, i & 255, i);
        for (uint64_t pod = i; pod < n_endpoints; pod += n_services) {
            write_pod(out, pod, 1);
        }
    }
}

// ---- Steps

static void parse_events(struct slice text) {
    yaml_parser_t parser;
    yaml_event_t event;
    bool is_end = false;
    if (!yaml_parser_initialize(&parser)) {
        die("no memory");
    }
    yaml_parser_set_input_string(&parser, text.ptr, text.len);
    while (!is_end) {
        if (!yaml_parser_parse(&parser, &event)) {
            die("libyaml: %s", parser.problem);
        }
        is_end = event.type == YAML_STREAM_END_EVENT;
        yaml_event_delete(&event);
    }
    yaml_parser_delete(&parser);
}

static void change(struct mesh_builder *builder, double *ret_mean_us, double *ret_max_us) {
    struct objects one;
    double sum = 0;
    objects_init(&one, 1);
    *ret_max_us = 0;
    for (uint64_t i = 0; i < n_changes; i++) {
        char *text = NULL;
        size_t len = 0;
        FILE *out = open_memstream(&text, &len);
        if (out == NULL) {
            die("no memory");
        }
        write_pod(out, i * 7919 % n_endpoints, 2 + (int)(i / n_endpoints));
        fclose(out);
        objects_decode((struct slice){(const uint8_t *)text, len}, &one);
        double begin = own_cpu_s();
        objects_publish(builder, &one);
        double us = (own_cpu_s() - begin) * 1e6;
        sum += us;
        *ret_max_us = us > *ret_max_us ? us : *ret_max_us;
        snapshot_quiescent();
        snapshot_reclaim();
        free(text);
    }
    *ret_mean_us = n_changes > 0 ? sum / (double)n_changes : 0;
    objects_fini(&one);
}

static void measure(struct slice text) {
    struct objects all;
    struct mesh_builder *builder = objects_builder();
    objects_init(&all, n_services + n_endpoints);
    double at[4], mean_us, max_us;
    at[0] = own_cpu_s();
    parse_events(text);
    at[1] = own_cpu_s();
    uint64_t before_kb = load_resident_kb();
    objects_decode(text, &all);
    at[2] = own_cpu_s();
    objects_publish(builder, &all);
    at[3] = own_cpu_s();
    uint64_t after_kb = load_resident_kb();
    if (snapshot_current()->workloads.n_items != n_endpoints ||
        snapshot_current()->services.n_items != n_services) {
        die("the snapshot has %zu workloads and %zu services",
            (size_t)snapshot_current()->workloads.n_items,
            (size_t)snapshot_current()->services.n_items);
    }
    change(builder, &mean_us, &max_us);
    printf("{\"services\": %lu, \"endpoints\": %lu, \"text_kb\": %zu, \"libyaml_cpu_s\": %.4f, "
           "\"decode_cpu_s\": %.4f, \"publish_cpu_s\": %.4f, \"load_cpu_s\": %.4f, "
           "\"bytes_kb\": %lu, \"changes\": %lu, \"change_us\": %.1f, \"change_max_us\": %.1f}\n",
           (unsigned long)n_services, (unsigned long)n_endpoints, text.len / 1024, at[1] - at[0],
           at[2] - at[1], at[3] - at[2], at[3] - at[1], (unsigned long)(after_kb - before_kb),
           (unsigned long)n_changes, mean_us, max_us);
    fflush(stdout);
    // The program ends: nobody needs the memory back in pieces.
}

int main(int argc, char **argv) {
    const struct load_option options[] = {{"services", &n_services, 1000000},
                                          {"endpoints", &n_endpoints, 10000000},
                                          {"changes", &n_changes, 1000000},
                                          {"write", &is_write, 1},
                                          {NULL, NULL, 0}};
    const char *usage =
        "scale_probe [--services=10000] [--endpoints=100000] [--changes=200] [--write]";
    if (load_options(argc, argv, options, usage) != 0 || n_services == 0 ||
        n_endpoints < n_services) {
        die("usage: %s", usage);
    }
    if (is_write != 0) {
        write_all(stdout);
        return 0;
    }
    char *text = NULL;
    size_t len = 0;
    FILE *out = open_memstream(&text, &len);
    if (out == NULL) {
        die("no memory");
    }
    write_all(out);
    fclose(out);
    measure((struct slice){(const uint8_t *)text, len});
    free(text);
    return 0;
}

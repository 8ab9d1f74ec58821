// SPDX-License-Identifier: Apache-2.0
#include <stdio.h>
#include <string.h>

#include "common/base/check.h"
#include "common/l7/l7_log_format.h"
#include "common/l7/l7_regex.h"
#include "common/mesh/kobj_l7.h"
#include "common/mesh/schema.h"
#include "ctl/cmd.h"
#include "ctl/cmd_local.h"
#include "version.h"

struct command {
    const char *name;
    int (*run)(int argc, char **argv);
    const char *summary;
};

static int cmd_help(int argc, char **argv);
static int cmd_version(int argc, char **argv);

static const struct command commands[] = {
    {"validate", cmd_validate, "check configuration files, strictly, before anything runs them"},
    {"check", cmd_check, "look whether a cluster or a node has what the mesh needs, and works"},
    {"explain", cmd_explain,
     "tell where a flow or an HTTP request goes, and why, decision by decision"},
    {"config", cmd_config, "show what a running ztun or waypoint has in force"},
    {"top", cmd_top, "live flows or HTTP requests, and their rates, in a terminal"},
    {"metrics", cmd_metrics, "print metrics of running ztuns"},
    {"log-level", cmd_log_level, "show or change the log filter of running ztuns"},
    {"waypoint", cmd_waypoint, "apply, list and delete the Gateways of waypoints in a cluster"},
    {"schema", cmd_schema, "print JSON Schemas of the configuration, for editors"},
    {"local", cmd_local, "a lab on this machine: nodes, pods and services without Kubernetes"},
    {"version", cmd_version, "print the version"},
    {"help", cmd_help, "explain a command: ztunctl help COMMAND"},
};

static void print_help(FILE *out) {
    fputs("ztunctl - the operator's hand of ztun, a service mesh without sidecars\n"
          "\n"
          "usage: ztunctl COMMAND [ARGUMENTS]\n"
          "\n"
          "commands:\n",
          out);
    for (size_t i = 0; i < ARRAY_LEN(commands); i++) {
        fprintf(out, "  %-12s %s\n", commands[i].name, commands[i].summary);
    }
    fputs("\n"
          "`ztunctl help COMMAND` or `ztunctl COMMAND --help` tells more.\n"
          "Exit codes: 0 done, 1 failed (for validate: invalid), 2 wrong usage.\n",
          out);
}

static const struct command *find(const char *name) {
    for (size_t i = 0; i < ARRAY_LEN(commands); i++) {
        if (strcmp(commands[i].name, name) == 0) {
            return &commands[i];
        }
    }
    return NULL;
}

static int unknown_command(const char *name) {
    unsigned best = schema_max_distance(name) + 1;
    const char *hint = NULL;

    for (size_t i = 0; i < ARRAY_LEN(commands); i++) {
        unsigned distance = schema_distance(name, commands[i].name, best);
        if (distance < best) {
            best = distance;
            hint = commands[i].name;
        }
    }
    fprintf(stderr, "ztunctl: there is no command `%s`", name);
    if (hint != NULL) {
        fprintf(stderr, " (did you mean `%s`?)", hint);
    }
    fputs("; `ztunctl help` lists them\n", stderr);
    return CMD_USAGE;
}

static int cmd_help(int argc, char **argv) {
    static char option[] = "--help";

    if (argc < 2 || strcmp(argv[1], "help") == 0 || strcmp(argv[1], option) == 0) {
        print_help(stdout);
        return CMD_OK;
    }
    const struct command *command = find(argv[1]);
    if (command == NULL) {
        return unknown_command(argv[1]);
    }
    char *args[] = {argv[1], option, NULL};
    return command->run(2, args);
}

static int cmd_version(int argc, char **argv) {
    (void)argc, (void)argv;
    puts("ztunctl " ZTUN_VERSION_FULL);
    return CMD_OK;
}

int main(int argc, char **argv) {
    kobj_regex_problem = l7_regex_problem;
    kobj_access_log_problem = l7_log_format_problem;
    if (argc < 2) {
        print_help(stderr);
        return CMD_USAGE;
    }
    const char *name = argv[1];
    if (strcmp(name, "--help") == 0 || strcmp(name, "-h") == 0) {
        name = "help";
    } else if (strcmp(name, "--version") == 0) {
        name = "version";
    }
    const struct command *command = find(name);
    if (command == NULL) {
        return unknown_command(name);
    }
    return command->run(argc - 1, argv + 1);
}

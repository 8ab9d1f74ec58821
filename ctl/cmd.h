// SPDX-License-Identifier: Apache-2.0
//
// The subcommands of ztunctl. Each is a function in its own cmd_*.c with a row in main.c: argv[0]
// is its name, the result is the exit code. It answers --help by itself (on stdout, 0); wrong usage
// is one line on stderr and 2.
#pragma once

enum { CMD_OK = 0, CMD_FAILED = 1, CMD_USAGE = 2 };

int cmd_validate(int argc, char **argv);
int cmd_check(int argc, char **argv);
int cmd_config(int argc, char **argv);
int cmd_explain(int argc, char **argv);
int cmd_log_level(int argc, char **argv);
int cmd_metrics(int argc, char **argv);
int cmd_schema(int argc, char **argv);
int cmd_top(int argc, char **argv);
int cmd_waypoint(int argc, char **argv);

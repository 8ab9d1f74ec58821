// SPDX-License-Identifier: Apache-2.0
//
// What the simulators share: a run for each seed, in a child of its own, where nothing is random
// but by the seed: the system's random bytes and the wall clock are replaced, and memory is at the
// same addresses in each run.
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct sim_program {
    const char *name;
    uint64_t n_seeds; // unless the command line says another number
    void (*prepare)(void); // once, in the parent; NULL ok
    void (*run)(uint64_t seed, bool trace); // a failed CHECK fails the seed
};

// usage: NAME [--seeds N] [--first SEED] [--trace]. A failing seed prints the command that repeats
// it. Returns the exit code.
int sim_seeds_main(const struct sim_program *program, int argc, char **argv);

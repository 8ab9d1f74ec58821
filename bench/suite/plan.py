# SPDX-License-Identifier: Apache-2.0
"""Which parts a run has, how long each may take, and where a run that was cut short goes on."""

import json
import os

from .procs import BenchError

# Rounds are A B B A: every series twice. `seconds` is one measurement.
PROFILES = {
    "default": {"rounds": 5, "seconds": 2},
    "quick": {"rounds": 2, "seconds": 1},
    "matrix": {"rounds": 5, "seconds": 4},
}
# Series that QUICK=1 leaves out: a floor and a peer that no goal row needs.
NOT_QUICK_SERIES = ("pair", "envoy-pair")


class Parts:
    """`quick` and `default` are the parts of these profiles; the matrix has every part."""

    def __init__(self):
        self.all, self.quick, self.default, self.wants = {}, [], [], {}

    def add(self, name, run, quick=False, default=True, wants=None):
        """`wants`: a function of the context that gives the reason why the part cannot be run here,
        or None."""
        self.all[name] = run
        self.wants[name] = wants or (lambda ctx: None)
        if quick:
            self.quick.append(name)
        if default:
            self.default.append(name)

    def select(self, names, quick):
        """Parts by name or beginning of a name ("l4-bulk"); those of the profile when none is
        named; all of them for "matrix"."""
        if not names:
            return self.quick if quick else self.default
        if "matrix" in names:
            return list(self.all)
        chosen = [p for p in self.all if any(p == n or p.startswith(n + "-") for n in names)]
        missing = [n for n in names if not any(p == n or p.startswith(n + "-") for p in chosen)]
        if missing:
            raise BenchError(f"BENCH={','.join(missing)}: there is matrix, {', '.join(self.all)}")
        return chosen


class State:
    """What is done of a run that may be cut short: one file, written after each part, removed at
    the end. It counts only for the same source on the same machine with the same settings."""

    def __init__(self, directory, key, is_wanted):
        self.path = os.path.join(directory, ".unfinished.json")
        self.key, self.is_wanted = key, is_wanted
        self.done = []

    def load(self, ctx):
        """Takes over what an earlier run has done; returns the names of its parts."""
        if not self.is_wanted:
            return []
        try:
            with open(self.path, encoding="utf-8") as f:
                saved = json.load(f)
        except (OSError, ValueError):
            return []
        if saved.get("key") != self.key:
            ctx.say(f"bench: {self.path} is of another source, machine or setting: begun anew")
            return []
        self.done = saved["done"]
        ctx.results.update(saved["results"])
        ctx.paths.update(saved["paths"])
        ctx.warnings += saved["warnings"]
        ctx.reasons.update(saved["reasons"])
        ctx.say(f"bench: goes on where it was cut short, {len(self.done)} parts are done")
        return self.done

    def save(self, ctx, part):
        if not self.is_wanted:
            return
        self.done.append(part)
        os.makedirs(os.path.dirname(self.path), exist_ok=True)
        with open(self.path + ".new", "w", encoding="utf-8") as out:
            json.dump({"key": self.key, "done": self.done, "results": ctx.results,
                       "paths": ctx.paths, "warnings": ctx.warnings, "reasons": ctx.reasons}, out)
        os.rename(self.path + ".new", self.path)

    def end(self):
        if self.is_wanted and os.path.exists(self.path):
            os.unlink(self.path)

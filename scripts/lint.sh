#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# clang-tidy over the sources that the given build directory compiles.
set -euo pipefail
cd "$(dirname "$0")/.."

dir=${1:-build/release}
root=$PWD
python3 - "$dir/compile_commands.json" "$root" <<'PY' |
import json, os, sys
seen = set()
for entry in json.load(open(sys.argv[1])):
    path = os.path.relpath(entry["file"], sys.argv[2])
    if path not in seen and not path.startswith(("..", "build/", "/")):
        seen.add(path)
        print(path)
PY
    sort | xargs -r -n 1 -P "$(nproc)" clang-tidy --quiet -p "$dir"

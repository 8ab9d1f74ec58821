#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# clang-format over every C and C++ file of the project; --check only reports.
set -euo pipefail
cd "$(dirname "$0")/.."

# Debian 12 has clang-format 14; other versions format a few constructs differently.
clang_format=$(command -v clang-format-14 || command -v clang-format)
mapfile -d '' files < <(
    for dir in common ztun waypoint ctl tests bench; do
        [[ ! -d $dir ]] || find "$dir" -type f \( -name '*.[ch]' -o -name '*.cc' -o -name '*.def' \) -print0
    done
)
((${#files[@]})) || exit 0

if [[ ${1:-} == --check ]]; then
    printf '%s\0' "${files[@]}" | xargs -0 -n 16 -P "$(nproc)" "$clang_format" --dry-run -Werror
else
    printf '%s\0' "${files[@]}" | xargs -0 -n 16 -P "$(nproc)" "$clang_format" -i
fi

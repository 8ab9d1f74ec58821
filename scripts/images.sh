#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# `make images`: the container images ztun and ztun-waypoint, by docker, podman or buildah.
#
#   TAG=0.1.0         the tag; by default the project's version
#   REGISTRY=HOST/DIR in front of the names
#   PUSH=1            push them, too
#   BUILDER=NAME      one of the three; by default the first that is usable
set -euo pipefail
cd "$(dirname "$0")/.."

# Whether it can build, else the reason.
usable() {
    command -v "$1" >/dev/null || { echo "$1 is not installed"; return 1; }
    case $1 in
    docker) timeout 20 docker info >/dev/null 2>&1 || { echo "docker has no daemon that answers"; return 1; } ;;
    podman) timeout 20 podman info >/dev/null 2>&1 || { echo "podman info fails"; return 1; } ;;
    buildah) ;;
    *) echo "BUILDER=$1 is none of docker, podman, buildah"; return 1 ;;
    esac
}

builder='' reasons=()
for candidate in ${BUILDER:-docker podman buildah}; do
    if reason=$(usable "$candidate"); then
        builder=$candidate
        break
    fi
    reasons+=("$reason")
done
if [[ -z $builder ]]; then
    printf 'images: nothing here can build an image:\n' >&2
    printf '  %s\n' "${reasons[@]}" >&2
    exit 1
fi

tag=${TAG:-$(sed -n 's/^ *VERSION \([0-9.]*\)$/\1/p' CMakeLists.txt)}
registry=${REGISTRY:+${REGISTRY%/}/}
version=$(git describe --tags --always --dirty 2>/dev/null || echo release)

for pair in ztun:ztun waypoint:ztun-waypoint; do
    name=$registry${pair#*:}:$tag
    echo "images: $name by $builder"
    "$builder" build --file images/Dockerfile --target "${pair%%:*}" \
        --build-arg "ZTUN_GIT_VERSION=$version" --tag "$name" .
    if [[ ${PUSH:-} == 1 ]]; then
        "$builder" push "$name"
    fi
done

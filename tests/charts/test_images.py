# SPDX-License-Identifier: Apache-2.0
"""The images, as far as that goes without a builder: the Dockerfile, what is in the context, whether the
programs run on the packages of their stage, and what `make images` tells the builders."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from conftest import ROOT, run

IMAGES = {"ztun": ["ztun", "ztunctl"], "waypoint": ["waypoint", "ztunctl"]}
FOR_OTHERS = {"ca-certificates"}  # files, no libraries
LOADED = {"ztun": ["libnftables.so.1"], "waypoint": []}  # by dlopen()
# Of debian:12-slim: what the stages' own commands and those of the charts need.
CHROOT = shutil.which("chroot", path=f"{os.environ['PATH']}:/usr/sbin")
BASE = ["base-files", "coreutils", "dash", "libc6"]


def stage(name):
    """The lines of a stage of the Dockerfile."""
    text = (ROOT / "images/Dockerfile").read_text()
    return re.search(rf"^FROM \S+ AS {name}\n(.*?)(?=^FROM |\Z)", text, re.M | re.S).group(1)


def packages():
    text = re.search(r"--no-install-recommends \\\n(.*?)    &&", stage("runtime"), re.S).group(1)
    return re.findall(r"[a-z0-9][a-z0-9.+-]+", text)


def libraries(program):
    """Name to path, as the loader finds them."""
    return dict(re.findall(r"^\s*(\S+) => (/\S+)", run("ldd", program).stdout, re.M))


def owners(paths):
    """The Debian packages of files, whose names in the lists may be those of before the /usr merge."""
    real = {os.path.realpath(path) for path in paths}
    text = run("dpkg-query", "--search", *real, *(path.removeprefix("/usr") for path in real)).stdout
    found = dict(line.split(": ")[::-1] for line in text.splitlines())
    lost = [path for path in real if path not in found and path.removeprefix("/usr") not in found]
    assert not lost, f"of no package: {lost}"
    return {package.split(":")[0] for package in found.values()}


def needed(program):
    """The libraries that the program itself names."""
    names = re.findall(r"NEEDED +(\S+)", run("objdump", "-p", program).stdout)
    found = libraries(program)
    return {found[name] for name in names if name in found}


def test_lint(tools):
    done = run(tools / "hadolint", ROOT / "images/Dockerfile")
    assert done.returncode == 0, done.stdout


def test_packages_are_those_of_the_libraries(bin_dir):
    programs = sorted(set(sum(IMAGES.values(), [])))
    paths = set().union(*(needed(bin_dir / program) for program in programs))
    loaded = {f"/usr/lib/x86_64-linux-gnu/{name}" for names in LOADED.values() for name in names}
    want = owners(paths | loaded) - {"libc6"}
    listed = packages()
    assert listed == sorted(listed)
    # libgcc-s1: needed with libstdc++, whose compiler decides whether a program names it.
    assert set(listed) - FOR_OTHERS - {"libgcc-s1"} == want - {"libgcc-s1"}


@pytest.mark.parametrize("image", sorted(IMAGES))
def test_what_the_stages_hand_on(image):
    text = stage("runtime") + stage(image)
    assert f"FROM runtime AS {image}\n" in (ROOT / "images/Dockerfile").read_text()
    copied = re.search(r"^COPY --from=build (.*) /usr/local/bin/$", text, re.M).group(1)
    assert [Path(path).name for path in copied.split()] == IMAGES[image]
    assert f'ENTRYPOINT ["/usr/local/bin/{image}"]' in text
    user = re.search(r"^USER (.*)$", text, re.M)
    assert (user.group(1) if user else None) == {"ztun": None, "waypoint": "1337:1337"}[image]
    for source in re.findall(r"^COPY (?!--from)(.*) \S+$", stage("build") + text, re.M):
        assert all((ROOT / name).exists() for name in source.split())


def closure(names):
    """The packages and what they depend on, as they are installed here."""
    fields = run("dpkg-query", "--show", "-f", "${Package}\t${Pre-Depends},${Depends}\t${Status}\n").stdout
    depends = {}
    for line in fields.splitlines():
        package, text, status = line.split("\t")
        if status.endswith(" installed"):
            depends[package] = re.findall(r"(?:^|[,|])\s*([a-z0-9.+-]+)", text)
    assert set(names) <= set(depends), set(names) - set(depends)
    done, todo = set(), list(names)
    while todo:
        name = todo.pop()
        if name in depends and name not in done:
            done.add(name)
            todo += depends[name]
    return done


@pytest.fixture
def root_dir(tmp_path, request, bin_dir):
    """An image's file system: its packages and what they depend on, and the programs."""
    image = request.param
    root = tmp_path / "root"
    for name in ("usr/bin", "usr/sbin", "usr/lib", "usr/lib64", "usr/local/bin", "tmp"):
        (root / name).mkdir(parents=True)
    for name in ("bin", "sbin", "lib", "lib64"):
        (root / name).symlink_to(f"usr/{name}")
    # debconf and the like are for installing; they bring perl.
    names = closure(packages() + BASE) - closure(["debconf"]) | set(BASE)
    files = run("dpkg-query", "--listfiles", *sorted(names | closure(BASE))).stdout.splitlines()
    for name in files:
        source, target = Path(name), root / name.lstrip("/")
        if name.startswith(("/usr/share/", "/usr/lib/x86_64-linux-gnu/gconv/")) or target.exists() or \
                not (source.is_file() or source.is_symlink()):
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(source, target, follow_symlinks=False)
    for program in IMAGES[image]:
        shutil.copy2(bin_dir / program, root / "usr/local/bin")
    return image, root


@pytest.mark.parametrize("root_dir", sorted(IMAGES), indirect=True)
def test_programs_run_on_the_packages(root_dir):
    """Nothing of this machine but the kernel is there."""
    image, root = root_dir

    def inside(*command):
        return run(CHROOT, root, *command, env={"PATH": "/usr/local/bin:/usr/bin"})

    for program in IMAGES[image]:
        done = inside(f"/usr/local/bin/{program}", "--version")
        assert done.returncode == 0 and done.stdout.startswith(f"{program} "), done.stderr
    # Its own usage error: it was found, loaded and has looked at its arguments.
    args = ["proxy", "ztunnel"] if image == "ztun" else []
    done = inside(f"/usr/local/bin/{image}", *args)
    assert done.returncode == 2 and done.stderr.startswith(f"{image}: --"), done.stderr
    # What the charts call beside it.
    assert inside("/bin/sh", "-ec", "cp /etc/debian_version /tmp/x && mv /tmp/x /tmp/y && sleep 0.01"
                  ).returncode == 0
    for name in LOADED[image]:
        loaded = subprocess.run([CHROOT, root, "/lib64/ld-linux-x86-64.so.2", "--list",
                                 f"/usr/lib/x86_64-linux-gnu/{name}"], capture_output=True, text=True,
                                timeout=30, check=False)
        assert loaded.returncode == 0 and "not found" not in loaded.stdout, loaded.stderr


def context(tmp_path):
    """What .dockerignore lets through, of the files that git knows or would."""
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    assert [line for line in lines if line and line[0] not in "#!"] == ["*"]
    names = [line[1:] for line in lines if line.startswith("!")]
    assert all((ROOT / name).exists() for name in names)
    for name in names:
        source, target = ROOT / name, tmp_path / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target, symlinks=True)
        else:
            shutil.copy2(source, target)
    return tmp_path


def test_the_context_has_what_the_build_needs(tmp_path):
    """Configures in a copy of it, and looks whether there is a rule for every file that is needed."""
    tree = context(tmp_path / "src")
    env = {**os.environ, "BUILD_DIR": str(tmp_path / "build")}
    done = run("scripts/build.sh", "release", "--configure", cwd=tree, env=env)
    assert done.returncode == 0, done.stdout + done.stderr
    done = run("ninja", "-C", tmp_path / "build", "-n", "ztun", "waypoint", "ztunctl")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "main.c" in run("ninja", "-C", tmp_path / "build", "-t", "inputs", "ztun").stdout


@pytest.fixture
def builders(tmp_path):
    """builders(NAME...): runs scripts/images.sh with stand-ins for these, which write down their
    arguments; the finished process and what was written."""

    def start(*names, **more):
        path = tmp_path / "bin"
        path.mkdir()
        for tool in ("bash", "dirname", "sed", "timeout", "git", "printf"):
            (path / tool).symlink_to(shutil.which(tool))
        for name in names:
            (path / name).write_text(f'#!/bin/bash\necho "{name} $*" >>{tmp_path}/told\n'
                                     f'[[ $1 != info || ! -e {tmp_path}/no-{name} ]]\n')
            (path / name).chmod(0o755)
        done = run(ROOT / "scripts/images.sh", env={"PATH": str(path), **more})
        told = (tmp_path / "told").read_text().splitlines() if (tmp_path / "told").exists() else []
        return done, [line for line in told if not line.endswith(" info")]

    return start


def version():
    text = (ROOT / "CMakeLists.txt").read_text()
    return re.search(r"VERSION ([0-9.]+)$", text, re.M).group(1)


def test_no_builder(builders, tmp_path):
    (tmp_path / "no-docker").touch()
    done, told = builders("docker")
    assert done.returncode == 1 and told == []
    for reason in ("docker has no daemon that answers", "podman is not installed",
                   "buildah is not installed"):
        assert reason in done.stderr


def test_another_builder(builders):
    done, told = builders("buildah", BUILDER="kaniko")
    assert done.returncode == 1 and told == []
    assert "kaniko" in done.stderr


def test_names(builders):
    done, told = builders("podman", "buildah")
    assert done.returncode == 0, done.stderr
    assert len(told) == 2
    for line, image, name in zip(told, ("ztun", "waypoint"), ("ztun", "ztun-waypoint")):
        assert re.fullmatch(rf"podman build --file images/Dockerfile --target {image} --build-arg "
                            rf"ZTUN_GIT_VERSION=\S+ --tag {name}:{re.escape(version())} \.", line)


def test_registry_tag_and_push(builders):
    done, told = builders("docker", TAG="1.2", REGISTRY="r.example/mesh/", PUSH="1")
    assert done.returncode == 0, done.stderr
    assert told[1] == "docker push r.example/mesh/ztun:1.2"
    assert "--tag r.example/mesh/ztun-waypoint:1.2 ." in told[2]
    assert told[3] == "docker push r.example/mesh/ztun-waypoint:1.2"


def test_charts_name_these_images(render):
    assert render("ztun").container()["image"] == f"ztun:{version()}"


def test_version_of_an_image(tmp_path):
    """Without .git, what the build is told counts."""
    out = tmp_path / "version.h"
    for told in ("v1-2-gabc", ""):
        done = run("cmake", "-D", f"SOURCE_DIR={tmp_path}", "-D", "VERSION=1.2", "-D", f"OUT={out}", "-P",
                   ROOT / "cmake/version.cmake", env={**os.environ, "ZTUN_GIT_VERSION": told})
        assert done.returncode == 0, done.stderr
        assert f'"1.2 ({told or "release"})"' in out.read_text()

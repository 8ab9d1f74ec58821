#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""app_images.py [--registry HOST/DIR] ARCHIVE: the sample services of conf/local as container images.

One archive, as `docker save` writes it, with an image for every name that the objects in conf and the rows of
scripts/tutorial have; what each runs is said by conf/local/images.yaml. All share one layer: the services, and
Python, aiohttp, curl and the like from this machine. With --registry the names are HOST/DIR/NAME:TAG.
"""

import argparse
import fnmatch
import hashlib
import io
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[2]
LOCAL = ROOT / "conf" / "local"
APPS_DIR = "/opt/ztun"
PROGRAMS = "bash cat curl grep head python3 seq sh sleep tail tcpdump timeout".split()
# What the services import is found by importing it; these parts of Python's library nothing here needs.
UNUSED = {"test", "tests", "idlelib", "lib2to3", "turtledemo", "tkinter", "ensurepip"}
USERS = "root:x:0:0:root:/:/bin/sh\ntcpdump:x:104:104::/:/bin/false\n"
ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}


def names():
    """Images that objects and rows name."""
    found = set()
    for path in (ROOT / "conf").rglob("*.yaml"):
        found.update(re.findall(r"(?m)^\s*(?:- )?image: (\S+)", path.read_text()))
    for path in (ROOT / "scripts" / "tutorial").glob("rows*.py"):
        found.update(re.findall(r'"((?:docker|quay)\.io/[\w./-]+:[\w.-]+)"', path.read_text()))
    return sorted(found)


def bare(image):
    return image.rpartition("/")[2]


def entry_of(image, entries):
    """As `ztunctl local` chooses: the first that fits the whole name, or the bare one."""
    for entry in entries:
        for name in (image, bare(image), bare(image).partition(":")[0]):
            if fnmatch.fnmatchcase(name, entry["match"]):
                return entry
    return None


def full_name(image, registry=None):
    """With a tag, and with a registry: what a node's container runtime looks for."""
    image = image if ":" in bare(image) else image + ":latest"
    if registry:
        return f"{registry.rstrip('/')}/{bare(image)}"
    return image if "/" in image else "docker.io/library/" + image


class Layer:
    """A tar of files of this machine, each with the libraries that it is linked with."""

    def __init__(self):
        self.data = io.BytesIO()
        self.tar = tarfile.open(fileobj=self.data, mode="w")
        self.seen = set()
        for name, mode in (("tmp", 0o1777), ("etc", 0o755), ("proc", 0o755), ("sys", 0o755), ("dev", 0o755)):
            info = tarfile.TarInfo(name)
            info.type, info.mode = tarfile.DIRTYPE, mode
            self.tar.addfile(info)

    def put(self, data, where, mode=0o644, mtime=0):
        if where in self.seen:
            return False
        self.seen.add(where)
        info = tarfile.TarInfo(where.lstrip("/"))
        info.size, info.mode, info.mtime = len(data), mode, mtime
        self.tar.addfile(info, io.BytesIO(data))
        return True

    def file(self, source, where=None):
        data, status = Path(source).read_bytes(), os.stat(source)
        # Compiled modules know the times of their sources.
        if not self.put(data, where or str(source), status.st_mode & 0o755, int(status.st_mtime)):
            return
        if data[:4] == b"\x7fELF":
            said = subprocess.run(["ldd", source], capture_output=True, text=True, timeout=30).stdout
            for library in re.findall(r"(/\S+) \(0x", said):
                self.file(library)

    def tree(self, top):
        for path in sorted(Path(top).rglob("*")):
            if path.is_file() and ".opt-" not in path.name and \
                    not UNUSED.intersection(path.relative_to(top).parts):
                self.file(path)

    def close(self):
        self.tar.close()
        return self.data.getvalue()


def imported():
    """Directories and files outside of Python's own library that aiohttp wants."""
    program = ("import sys, aiohttp, aiohttp.web, json\n"
               "print(json.dumps(sorted({m.__file__ for m in list(sys.modules.values()) "
               "if getattr(m, '__file__', None) and 'dist-packages' in m.__file__})))")
    said = subprocess.run(["/usr/bin/python3", "-s", "-c", program], check=True, capture_output=True,
                          text=True, timeout=60).stdout
    found = set()
    for file in json.loads(said):
        before, _, inside = file.partition("dist-packages/")
        found.add(before + "dist-packages/" + inside.partition("/")[0])
    return sorted(found)


def make_layer():
    layer = Layer()
    layer.put(USERS.encode(), "/etc/passwd")
    layer.put(b"root:x:0:\ntcpdump:x:104:\n", "/etc/group")
    for program in PROGRAMS:
        path = shutil.which(program, path="/usr/bin:/bin:/usr/sbin:/sbin")
        if path is None:
            sys.exit(f"app_images: no {program} on this machine: make deps")
        layer.file(path, f"/usr/bin/{program}")
    layer.put(Path("/bin/sh").read_bytes(), "/bin/sh", 0o755)
    version = "python%d.%d" % sys.version_info[:2]
    layer.tree(f"/usr/lib/{version}")
    for path in imported():
        if Path(path).is_dir():
            layer.tree(path)
        else:
            layer.file(path)
    for path in sorted((LOCAL / "apps").glob("*.py")):
        layer.file(path, f"{APPS_DIR}/apps/{path.name}")
    return layer.close()


def config(entry, layer_id):
    """An image's JSON: `command` is the ENTRYPOINT, `args` the CMD."""
    words = [word.replace("$(IMAGES_DIR)", APPS_DIR) for word in entry["command"]]
    env = {"PATH": "/usr/bin:/bin", "PYTHONDONTWRITEBYTECODE": "1", **entry.get("env", {})}
    return json.dumps({
        "architecture": ARCHITECTURES[platform.machine()], "os": "linux",
        "config": {"Entrypoint": words or None, "Cmd": entry.get("args"),
                   "Env": [f"{name}={value}" for name, value in env.items()]},
        "rootfs": {"type": "layers", "diff_ids": [layer_id]}}).encode()


def make_archive(out, registry=None):
    """Writes it; returns the names of its images."""
    entries = yaml.safe_load((LOCAL / "images.yaml").read_text())["images"]
    layer = make_layer()
    layer_id = hashlib.sha256(layer).hexdigest()
    manifest, blobs = {}, {f"{layer_id}.tar": layer}
    for image in names():
        entry = entry_of(image, entries)
        if entry is None:
            sys.exit(f"app_images: {image}: nothing in conf/local/images.yaml fits")
        blob = config(entry, f"sha256:{layer_id}")
        name = f"{hashlib.sha256(blob).hexdigest()}.json"
        blobs[name] = blob
        item = manifest.setdefault(name, {"Config": name, "RepoTags": [], "Layers": [f"{layer_id}.tar"]})
        item["RepoTags"].append(full_name(image, registry))
    blobs["manifest.json"] = json.dumps(list(manifest.values())).encode()
    with tarfile.open(out, "w") as tar:
        for name, data in blobs.items():
            info = tarfile.TarInfo(name)
            info.size, info.mode = len(data), 0o644
            tar.addfile(info, io.BytesIO(data))
    return [tag for item in manifest.values() for tag in item["RepoTags"]]


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("archive", metavar="ARCHIVE")
    parser.add_argument("--registry", metavar="HOST/DIR")
    args = parser.parse_args()
    print("\n".join(make_archive(args.archive, args.registry)))


if __name__ == "__main__":
    main()

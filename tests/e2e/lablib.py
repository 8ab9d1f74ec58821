# SPDX-License-Identifier: Apache-2.0
"""Labs for the end-to-end tests: `ztunctl local` from Python, builders for objects, small helpers.

Tests get a Lab from the fixtures of conftest.py, which always take it down again:

    def test_x(make_lab):
        lab = make_lab([pod("client"), pod("server", image="ztun-http-server")])
        assert lab.curl("default/client", "http://server/").ok
"""

import json
import os
import re
import signal
import subprocess
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
BIN_DIR = Path(os.environ.get("ZTUN_BIN_DIR", ROOT / "build" / "bin"))
ZTUNCTL = BIN_DIR / "ztunctl"
ZTUN = BIN_DIR / "ztun"
IMAGES = ROOT / "conf" / "local" / "images.yaml"
STATE_DIR = Path(os.environ.get("ZTUN_LAB_STATE", "/run/ztun-lab"))
# The programs have a sanitizer in them: times and sizes are not what they are without.
SANITIZED = b"san.so" in subprocess.run(["ldd", ZTUN], capture_output=True, check=False).stdout
# A sanitizer, or a loaded machine, needs more time; a test that fails waits this long.
PATIENCE = float(os.environ.get("ZTUN_TEST_PATIENCE", "1"))


def wait_until(condition, timeout=10.0, what=None, interval=0.03):
    """Calls `condition` until it is true; returns its value. Exceptions count as not yet. The time is
    what an idle machine would never need; one that is busy with other things has three times that."""
    timeout *= 3 * PATIENCE
    end = time.monotonic() + timeout
    error = None
    while True:
        try:
            value = condition()
            if value:
                return value
            error = None
        except (AssertionError, subprocess.SubprocessError, LookupError, OSError,
                ValueError) as e:
            error = e
        if time.monotonic() > end:
            name = what or getattr(condition, "__name__", "condition")
            raise AssertionError(f"not true after {timeout:g} s: {name}"
                                 + (f" ({error})" if error else ""))
        time.sleep(interval)


def note_failure(item, call, report):
    """Keeps the error of a try for the JUnit file, where a second one would hide it."""
    if not report.failed or call.excinfo is None:
        return
    own = [entry for entry in call.excinfo.traceback if Path(entry.path) == item.path]
    lines = [f"{item.path.name}:{entry.lineno + 1}: {str(entry.statement).splitlines()[0].strip()}"
             for entry in own[-1:]]
    error = call.excinfo.exconly(tryshort=True)
    item.user_properties.append(("failed try", "\n".join([*lines, error[:2000]])))


def stays(condition, seconds=1.0, interval=0.05):
    """Asserts that `condition` is true all the time."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        assert condition()
        time.sleep(interval)


# Objects


def meta(name, ns="default", labels=None, annotations=None):
    out = {"name": name, "namespace": ns}
    if labels:
        out["labels"] = labels
    if annotations:
        out["annotations"] = annotations
    return out


def namespace(name, ambient=False, labels=None):
    labels = dict(labels or {})
    if ambient:
        labels["istio.io/dataplane-mode"] = "ambient"
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}


def container(name="main", image="ztun-client", command=None, env=None, port=None, ready=None,
              **more):
    """`ready`: a path for an httpGet readiness probe on `port`."""
    out = {"name": name, "image": image, **more}
    if command:
        out["command"] = command
    if env:
        out["env"] = [{"name": k, "value": v} for k, v in env.items()]
    if port:
        out["ports"] = [{"name": "http", "containerPort": port}]
    if ready:
        out["readinessProbe"] = {"httpGet": {"path": ready, "port": port}, "periodSeconds": 1,
                                 "failureThreshold": 1}
    return out


def pod_spec(node=None, sa=None, containers=None, grace=1, **more):
    """Keywords that are a container's go to the one container, the others to the pod."""
    inner = {k: more.pop(k) for k in list(more)
             if k in ("image", "command", "args", "env", "port", "ready", "volumeMounts",
                      "lifecycle", "livenessProbe", "readinessProbe", "startupProbe", "envFrom",
                      "workingDir")}
    spec = {"containers": containers or [container(**inner)],
            "terminationGracePeriodSeconds": grace, **more}
    if node:
        spec["nodeName"] = node
    if sa:
        spec["serviceAccountName"] = sa
    return spec


def pod(name, ns="default", labels=None, annotations=None, **spec):
    return {"apiVersion": "v1", "kind": "Pod",
            "metadata": meta(name, ns, labels or {"app": name}, annotations),
            "spec": pod_spec(**spec)}


def server(name, ns="default", version="v1", labels=None, **spec):
    """A pod with the lab's HTTP server on 8080; ready when it answers."""
    spec.setdefault("ready", "/ready")
    return pod(name, ns, labels or {"app": name}, image="ztun-http-server", port=8080,
               env={"VERSION": version, **spec.pop("env", {})}, **spec)


def deployment(name, ns="default", replicas=1, labels=None, strategy=None, **spec):
    labels = labels or {"app": name}
    out = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": meta(name, ns),
           "spec": {"replicas": replicas, "selector": {"matchLabels": labels},
                    "template": {"metadata": {"labels": labels}, "spec": pod_spec(**spec)}}}
    if strategy:
        out["spec"]["strategy"] = strategy
    return out


def service(name, ns="default", selector=None, port=80, target=8080, **spec):
    return {"apiVersion": "v1", "kind": "Service", "metadata": meta(name, ns),
            "spec": {"selector": selector or {"app": name},
                     "ports": spec.pop("ports", [{"name": "http", "port": port,
                                                  "targetPort": target}]), **spec}}


def config_map(name, ns="default", **data):
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta(name, ns), "data": data}


def authorization_policy(name, ns="default", action="ALLOW", rules=None, selector=None, **spec):
    out = {"apiVersion": "security.istio.io/v1", "kind": "AuthorizationPolicy",
           "metadata": meta(name, ns), "spec": {"action": action, **spec}}
    if rules is not None:
        out["spec"]["rules"] = rules
    if selector:
        out["spec"]["selector"] = {"matchLabels": selector}
    return out


def peer_authentication(name, ns="default", mode="STRICT", selector=None, ports=None):
    out = {"apiVersion": "security.istio.io/v1", "kind": "PeerAuthentication",
           "metadata": meta(name, ns), "spec": {"mtls": {"mode": mode}}}
    if selector:
        out["spec"]["selector"] = {"matchLabels": selector}
    if ports:
        out["spec"]["portLevelMtls"] = {str(p): {"mode": m} for p, m in ports.items()}
    return out


# Results


class Result:
    """What a command in a pod did. True when it exited with 0."""

    def __init__(self, done):
        self.code, self.out, self.err = done.returncode, done.stdout, done.stderr

    @property
    def ok(self):
        return self.code == 0

    __bool__ = lambda self: self.ok

    def __repr__(self):
        return f"exit {self.code}\n{self.out}{self.err}"


class Metrics:
    """A scrape: value() sums the series of a name whose labels include the given ones."""

    LINE = re.compile(r'^([a-zA-Z_:][\w:]*)(?:\{(.*)\})? (\S+)')
    LABEL = re.compile(r'(\w+)="((?:\\.|[^"\\])*)"')

    def __init__(self, text):
        self.text = text
        self.series = []
        for line in text.splitlines():
            match = self.LINE.match(line)
            if match and not line.startswith("#"):
                labels = dict(self.LABEL.findall(match.group(2) or ""))
                self.series.append((match.group(1), labels, float(match.group(3))))

    def find(self, name, **labels):
        return [(have, value) for series, have, value in self.series
                if series == name and all(have.get(k) == v for k, v in labels.items())]

    def value(self, name, **labels):
        return sum(value for _, value in self.find(name, **labels))


class Lab:
    def __init__(self, name):
        self.name = name
        self.dir = STATE_DIR / name

    def local(self, command, *args, check=True, timeout=60, **kw):
        """`ztunctl local COMMAND --name ... ARGS`."""
        done = subprocess.run([ZTUNCTL, "local", command, "--name", self.name, "--state-dir",
                               STATE_DIR, *map(str, args)],
                              capture_output=True, text=True, timeout=timeout * PATIENCE, **kw)
        if check and done.returncode != 0:
            raise AssertionError(f"ztunctl local {command} {args}: exit {done.returncode}\n"
                                 f"{done.stdout}{done.stderr}")
        return done

    # Life

    def up(self, objects=(), *args, mesh=True, host=False, wait=30, images=IMAGES):
        """objects: documents, or paths of files and directories."""
        paths = [o for o in objects if not isinstance(o, dict)]
        docs = [o for o in objects if isinstance(o, dict)]
        args = list(args) + ["--images", images] + paths
        if not mesh:
            args.append("--no-mesh")
        if not host:
            args.append("--no-host")
        if wait:
            args.append(f"--wait={int(wait * PATIENCE)}")
        stdin = None
        if docs:
            args += ["-f", "-"]
            stdin = json.dumps({"apiVersion": "v1", "kind": "List", "items": docs})
        self.local("up", *args, input=stdin, timeout=(wait or 0) + 30)
        return self

    def down(self):
        return self.local("down")

    @property
    def supervisor_pid(self):
        return int((self.dir / "supervisor.pid").read_text())

    def kill_supervisor(self):
        os.kill(self.supervisor_pid, signal.SIGKILL)

    def apply(self, *objects, wait=30):
        """Documents or paths. Returns what ztunctl printed."""
        args, stdin = [], None
        docs = [o for o in objects if isinstance(o, dict)]
        for path in (o for o in objects if not isinstance(o, dict)):
            args += ["-f", path]
        if docs:
            args += ["-f", "-"]
            stdin = json.dumps({"apiVersion": "v1", "kind": "List", "items": docs})
        if wait:
            args.append(f"--wait={int(wait * PATIENCE)}")
        return self.local("apply", *args, input=stdin).stdout

    def delete(self, kind, name, grace=None):
        self.local("delete", kind, name, *(["--grace", grace] if grace is not None else []))

    def scale(self, name, replicas):
        self.local("scale", name, "--replicas", replicas)

    def wait_ready(self, timeout=30):
        self.local("wait", f"--wait={int(timeout * PATIENCE)}", timeout=timeout + 10)

    # State

    def status(self):
        return json.loads(self.local("status", "-o", "json").stdout)

    def pods(self, app=None, ns="default"):
        """Status of the pods whose name is `app`, or starts with `app-`, without those that go."""
        return [p for p in self.status()["pods"]
                if p["namespace"] == ns and p["status"] != "Terminating"
                and (app is None or p["name"] == app or p["name"].startswith(app + "-"))]

    def pod(self, name, ns="default"):
        for p in self.status()["pods"]:
            if (p["namespace"], p["name"]) == (ns, name):
                return p
        raise LookupError(f"no pod {ns}/{name}")

    def ip(self, name, ns="default", family=4):
        for ip in self.pod(name, ns)["ips"]:
            if (":" in ip) == (family == 6):
                return ip
        raise LookupError(f"{ns}/{name} has no IPv{family} address")

    def get(self, kind, name, ns="default"):
        """The effective object, as the proxies read it; None when there is none."""
        done = self.local("get", kind, f"{ns}/{name}" if ns else name, "-o", "json", check=False)
        return json.loads(done.stdout) if done.returncode == 0 else None

    def effective(self, kind):
        return json.loads(self.local("get", kind, "-A", "-o", "json").stdout)["items"]

    def vip(self, name, ns="default", family=4):
        for ip in self.get("Service", name, ns)["spec"]["clusterIPs"]:
            if (":" in ip) == (family == 6):
                return ip
        raise LookupError(f"Service {ns}/{name} has no IPv{family} address")

    def ready_endpoints(self, name, ns="default"):
        """Names of the pods that are ready endpoints of a Service."""
        out = set()
        for item in self.effective("EndpointSlice"):
            labels = item["metadata"].get("labels", {})
            if item["metadata"]["namespace"] == ns and \
                    labels.get("kubernetes.io/service-name") == name:
                out |= {e["targetRef"]["name"] for e in item["endpoints"]
                        if e["conditions"]["ready"]}
        return out

    # Inside

    def argv(self, where, *cmd, container=None):
        args = [ZTUNCTL, "local", "exec", "--name", self.name, "--state-dir", STATE_DIR, where]
        if container:
            args += ["-c", container]
        return [*map(str, args), "--", *map(str, cmd)]

    def exec(self, where, *cmd, container=None, timeout=30, **kw):
        """Runs a command in "NS/POD", or in a node's network namespace. Returns a Result."""
        return Result(subprocess.run(self.argv(where, *cmd, container=container),
                                     capture_output=True, text=True,
                                     timeout=timeout * PATIENCE, **kw))

    def popen(self, where, *cmd, container=None, **kw):
        kw.setdefault("stdout", subprocess.PIPE)
        kw.setdefault("stderr", subprocess.STDOUT)
        return subprocess.Popen(self.argv(where, *cmd, container=container), text=True, **kw)

    def curl(self, where, url, *args, max_time=5):
        """curl -sS; the Result's `out` is the body. Fails on HTTP errors only with --fail."""
        return self.exec(where, "curl", "-sS", "--max-time", max_time * PATIENCE, *args, url,
                         timeout=max_time + 20)

    def python(self, where, code, *args, timeout=30):
        return self.exec(where, "python3", "-c", code, *args, timeout=timeout)

    def logs(self, where, container=None):
        args = [where] + (["-c", container] if container else [])
        return self.local("logs", *args).stdout

    def ztun_pid(self, node):
        for n in self.status()["nodes"]:
            if n["name"] == node:
                return n["ztunPid"]
        raise LookupError(node)

    def metrics(self, node):
        done = self.exec(node, "curl", "-sS", "--max-time", 5, "http://127.0.0.1:15020/metrics")
        assert done.ok, done
        return Metrics(done.out)

    def config_dump(self, node):
        done = self.exec(node, "curl", "-sS", "--max-time", 5,
                         "http://127.0.0.1:15000/config_dump")
        assert done.ok, done
        return json.loads(done.out)

    def dump(self):
        """Everything that helps to see why a test failed."""
        parts = [f"==== lab {self.name}", self.local("status", check=False).stdout]
        for log in [self.dir / "supervisor.log", *sorted((self.dir / "logs").glob("*.log"))]:
            try:
                text = log.read_text(errors="replace")
            except OSError:
                continue
            if text:
                parts += [f"---- {log.name}", text[-6000:]]
        return "\n".join(parts)


def leftovers(prefix=""):
    """What labs left on this machine: names of namespaces, links, tables, state, processes."""
    found = []
    netns = Path("/run/netns")
    names = [p for p in netns.iterdir() if p.name.startswith(f"zl-{prefix}")] \
        if netns.exists() else []
    found += [f"netns {p.name}" for p in names]
    if not prefix:
        found += [f"link {p.name}" for p in Path("/sys/class/net").iterdir()
                  if re.fullmatch(r"zl[0-9a-f]{8}", p.name)]
    tables = subprocess.run(["nft", "list", "tables"], capture_output=True, text=True).stdout
    found += [f"nft {t}" for t in tables.splitlines() if f" zl-{prefix}" in t]
    if STATE_DIR.exists():
        found += [f"state {p.name}" for p in STATE_DIR.iterdir() if p.name.startswith(prefix)]
    for proc in Path("/proc").iterdir():
        if not proc.name.isdigit():
            continue
        try:
            words = (proc / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        # The supervisor, and the PID 1 of its pods, have its command line.
        if b"local" in words and b"up" in words and b"--name" in words and \
                words[words.index(b"--name") + 1].decode().startswith(prefix):
            found.append(f"process {proc.name} {b' '.join(words).decode()}")
    return found

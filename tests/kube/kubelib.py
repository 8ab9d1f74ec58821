# SPDX-License-Identifier: Apache-2.0
"""A cluster, the proxies on its nodes, and pods with app.py in them."""

import contextlib
import json
import os
import re
import shlex
import subprocess
import time
from pathlib import Path

HERE = Path(__file__).parent
SYSTEM = os.environ.get("ZTUN_KUBE_ISTIO_NAMESPACE", "istio-system")
AMBIENT = {"istio.io/dataplane-mode": "ambient"}


class Settings:
    """What the environment says; README.md describes each."""

    def __init__(self):
        def get(name, default=None):
            value = os.environ.get("ZTUN_KUBE_" + name, default)
            assert value, f"ZTUN_KUBE_{name} is not set: see tests/kube/README.md"
            return value

        self.image = get("IMAGE")
        self.is_ours = get("PROXY", "ztun") == "ztun"
        self.chart = get("CHART")
        self.peer_image = os.environ.get("ZTUN_KUBE_PEER_IMAGE")
        self.app_image = get("APP_IMAGE", "docker.io/library/python:3-slim")
        self.waypoint_image = os.environ.get("ZTUN_KUBE_WAYPOINT_IMAGE")
        self.sidecar_image = os.environ.get("ZTUN_KUBE_SIDECAR_IMAGE")
        self.kubelet_dir = get("KUBELET_DIR", "/var/lib/kubelet")
        self.pause_image = get("PAUSE_IMAGE", "registry.k8s.io/pause:3.10")
        self.pull_policy = get("PULL_POLICY", "IfNotPresent")
        self.load_image = os.environ.get("ZTUN_KUBE_LOAD_IMAGE")
        self.restart_api = os.environ.get("ZTUN_KUBE_RESTART_API")
        self.prefix = get("PREFIX", "ztun-test")
        self.n_pods = int(get("PODS", "200"))
        self.scale_services = int(get("SCALE_SERVICES", "2000"))
        self.scale_pods = int(get("SCALE_PODS", "10000"))
        self.scale_rounds = int(get("SCALE_ROUNDS", "5"))
        self.scale_results = os.environ.get("ZTUN_KUBE_SCALE_RESULTS")
        # A busy machine needs more patience; no test says how fast something has to be.
        self.patience = float(get("PATIENCE", "1"))


SETTINGS = Settings()


def wait_until(look, timeout=30, pause=0.2):
    """What `look` returns, once that is true. Exceptions of failed commands count as not yet."""
    end = time.monotonic() + timeout * SETTINGS.patience
    last = None
    while True:
        try:
            if found := look():
                return found
        except (AssertionError, subprocess.SubprocessError) as error:
            last = error
        if time.monotonic() > end:
            raise AssertionError(f"not within {timeout} s: {last}") from last
        time.sleep(pause)


def run(command, *args, input=None, timeout=120, check=True):
    """Runs a program; the command may be several words, from the environment."""
    done = subprocess.run([*shlex.split(command), *map(str, args)], input=input, text=True,
                          capture_output=True, timeout=timeout * SETTINGS.patience)
    if check:
        assert done.returncode == 0, f"{command} {' '.join(map(str, args))}: {done.stderr.strip()}"
    return done.stdout


def program(name):
    return os.environ.get("ZTUN_KUBE_" + name.upper(), name)


def kubectl(*args, **how):
    return run(program("kubectl"), *args, **how)


def helm(*args, **how):
    return run(program("helm"), *args, timeout=300, **how)


def istioctl(*args, **how):
    return run(program("istioctl"), *args, **how)


def apply(*objects):
    kubectl("apply", "-f", "-", input=json.dumps({"apiVersion": "v1", "kind": "List",
                                                  "items": objects}))


def get(kind, ns=None, *args):
    where = ("-n", ns) if ns else ()
    return json.loads(kubectl("get", kind, *where, *args, "-o", "json"))


def metadata(name, ns=None, labels=None, annotations=None):
    return {"name": name, **({"namespace": ns} if ns else {}),
            "labels": labels or {}, "annotations": annotations or {}}


# ---- objects -----------------------------------------------------------------------------------


def pod(name, ns, node=None, account=None, labels=None, image=None):
    """A Pod with app.py, its service account's name being its own."""
    container = {"name": "app", "image": image or SETTINGS.app_image,
                 "imagePullPolicy": SETTINGS.pull_policy}
    if image is None:
        container |= {
            "command": ["python3", "/app/app.py", "serve"],
            "volumeMounts": [{"name": "app", "mountPath": "/app"}],
            "env": [{"name": name_, "valueFrom": {"fieldRef": {"fieldPath": path}}}
                    for name_, path in (("POD_NAME", "metadata.name"),
                                        ("NODE_NAME", "spec.nodeName"))],
            "readinessProbe": {"httpGet": {"port": 8080, "path": "/"}, "periodSeconds": 1,
                               "timeoutSeconds": 5},
        }
    return {
        "apiVersion": "v1", "kind": "Pod",
        "metadata": metadata(name, ns, {"app": name, **(labels or {})}),
        "spec": {"containers": [container], "terminationGracePeriodSeconds": 1,
                 "serviceAccountName": account or name,
                 **({"nodeSelector": {"kubernetes.io/hostname": node}} if node else {}),
                 **({} if image else {"volumes": [{"name": "app", "configMap": {"name": "app"}}]})},
    }


def account(name, ns):
    return {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata(name, ns)}


def service(name, ns, selector=None, **spec):
    return {"apiVersion": "v1", "kind": "Service", "metadata": metadata(name, ns),
            "spec": {"selector": selector or {"app": name},
                     "ports": [{"name": "http", "port": 8080}, {"name": "tcp", "port": 9000}],
                     **spec}}


def policy(name, ns, spec):
    return {"apiVersion": "security.istio.io/v1", "kind": "AuthorizationPolicy",
            "metadata": metadata(name, ns), "spec": spec}


class Namespace:
    """A namespace with app.py in a ConfigMap. Everything in it goes with it."""

    def __init__(self, name, is_enrolled, labels=None):
        self.name = name
        self.apps = {}
        kubectl("delete", "namespace", name, "--ignore-not-found", "--wait")  # of a former run
        apply({"apiVersion": "v1", "kind": "Namespace",
               "metadata": metadata(name, labels={**(AMBIENT if is_enrolled else {}), **(labels or {})})},
              {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata("app", name),
               "data": {"app.py": (HERE / "app.py").read_text()}})
        wait_until(lambda: kubectl("get", "sa", "default", "-n", name), 30)

    def enrol(self, is_enrolled):
        mode = "ambient" if is_enrolled else None
        kubectl("label", "namespace", self.name, "--overwrite",
                f"istio.io/dataplane-mode{'=' + mode if mode else '-'}")
        self.wait_redirected(is_enrolled)

    def wait_redirected(self, is_enrolled=True, timeout=120):
        """Until istio-cni says of each pod that it is redirected, or that it is not."""
        def look():
            states = [p["metadata"].get("annotations", {}).get("ambient.istio.io/redirection")
                      == "enabled" for p in get("pods", self.name)["items"]]
            return states and all(state == is_enrolled for state in states)
        wait_until(look, timeout)

    def run(self, *pods, services=()):
        """Starts pods, waits until they are ready, and gives an App for each."""
        names = sorted({p["spec"]["serviceAccountName"] for p in pods} - {"default"})
        apply(*[account(name, self.name) for name in names], *pods, *services)
        names = [p["metadata"]["name"] for p in pods]
        self.wait_ready(*names)
        for name in names:
            self.apps[name] = App(self.name, name)
        return [self.apps[name] for name in names]

    def wait_ready(self, *names):
        wait_until(lambda: kubectl("wait", "-n", self.name, "--for=condition=Ready",
                                   "--timeout=5s", *[f"pod/{name}" for name in names]), 180)

    def delete(self):
        for app in self.apps.values():
            app.close()
        # pods first: of one that goes together with its namespace istio-cni may not notice that
        kubectl("delete", "pods", "--all", "-n", self.name, "--wait")
        kubectl("delete", "namespace", self.name, "--wait=false", "--ignore-not-found")


class App:
    """A pod with app.py that is told what to ask, over one `kubectl exec`."""

    def __init__(self, ns, name):
        self.ns, self.name = ns, name
        self.process = None
        found = get(f"pod/{name}", ns)
        self.ip, self.node = found["status"]["podIP"], found["spec"]["nodeName"]

    def close(self):
        if self.process is not None:
            self.process.kill()
            self.process.communicate()
            self.process = None

    def tell(self, **command):
        for is_last in (False, True):  # a session does not outlive the API server
            if self.process is None:
                self.process = subprocess.Popen(
                    [*shlex.split(program("kubectl")), "exec", "-i", "-n", self.ns, self.name,
                     "--", "python3", "/app/app.py", "ctl"],
                    text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
            try:
                self.process.stdin.write(json.dumps(command) + "\n")
                self.process.stdin.flush()
                if line := self.process.stdout.readline():
                    return json.loads(line)
            except OSError:
                pass
            self.close()
            assert not is_last, f"{self.ns}/{self.name}: kubectl exec has ended"
        return None

    def get(self, url, n=1, timeout=5):
        answers = self.tell(do="get", url=url, n=n, timeout=timeout)
        return answers if n > 1 else answers[0]

    def reaches(self, url, within=20):
        """The answer, once there is one: changes take a moment to arrive everywhere."""
        return wait_until(lambda: "status" in (answer := self.get(url)) and answer, within)

    def fails(self, url, within=20):
        return wait_until(lambda: "error" in (answer := self.get(url)) and answer, within)

    def wait_status(self, url, statuses, within=60):
        """Until requests have one of these statuses; None is none, as with a connection refused."""
        return wait_until(lambda: self.get(url).get("status") in statuses, within)

    def begin(self, name, url, mode="new", **how):
        self.tell(do="begin", name=name, url=url, mode=mode, **how)

    def look(self, name):
        return self.tell(do="look", name=name)

    def end(self, name):
        return self.tell(do="end", name=name)


# ---- proxies -----------------------------------------------------------------------------------


class Proxies:
    """A release of Istio's ztunnel chart."""

    name = "ztunnel"

    def __init__(self, image, **env):
        self.image = image
        self.args = ["--set", f"image={image},imagePullPolicy={SETTINGS.pull_policy}",
                     "--set", "resources.requests.cpu=20m,resources.requests.memory=64Mi",
                     "--set", f"istioNamespace={SYSTEM}"]
        for key, value in env.items():
            self.args += ["--set-string", f"env.{key}={value}"]

    def install(self):
        helm("upgrade", "--install", self.name, SETTINGS.chart, "-n", SYSTEM, *self.args)
        self.wait_ready()

    def uninstall(self):
        helm("uninstall", self.name, "-n", SYSTEM, "--ignore-not-found", "--wait")

    def wait_ready(self):
        kubectl("rollout", "status", "-n", SYSTEM, f"daemonset/{self.name}", "--timeout=170s",
                timeout=180)

    def leave(self, node):
        """Serves all nodes but this one; None: all."""
        wanted = {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {
            "nodeSelectorTerms": [{"matchExpressions": [
                {"key": "kubernetes.io/hostname", "operator": "NotIn", "values": [node]}]}]}}}
        kubectl("patch", "-n", SYSTEM, f"daemonset/{self.name}", "--type=merge", "-p", json.dumps(
            {"spec": {"template": {"spec": {"affinity": wanted if node else None}}}}))
        self.wait_ready()

    @contextlib.contextmanager
    def with_peer(self, node, image):
        """A node of which another image takes care. Its DaemonSet is a copy of the chart's: the
        service account is the one that istiod trusts."""
        made = get(f"daemonset/{self.name}", SYSTEM)
        spec, name = made["spec"], f"{self.name}-peer"
        spec["selector"]["matchLabels"]["ztun-test"] = "peer"
        spec["template"]["metadata"]["labels"]["ztun-test"] = "peer"
        spec["template"]["spec"]["containers"][0]["image"] = image
        spec["template"]["spec"]["nodeSelector"] = {"kubernetes.io/hostname": node}
        self.leave(node)
        try:
            apply({"apiVersion": "apps/v1", "kind": "DaemonSet",
                   "metadata": metadata(name, SYSTEM), "spec": spec})
            kubectl("rollout", "status", "-n", SYSTEM, f"daemonset/{name}", "--timeout=170s",
                    timeout=180)
            yield
        finally:
            kubectl("delete", "-n", SYSTEM, f"daemonset/{name}", "--ignore-not-found", "--wait")
            self.leave(None)

    def restart(self):
        kubectl("rollout", "restart", "-n", SYSTEM, f"daemonset/{self.name}")


def proxy_pods(node=None):
    return [p for p in get("pods", SYSTEM, "-l", "app=ztunnel")["items"]
            if node in (None, p["spec"]["nodeName"]) and "deletionTimestamp" not in p["metadata"]]


def metrics(node):
    """Series of the proxy of a node, as {(name, labels): value}."""
    name = proxy_pods(node)[0]["metadata"]["name"]
    text = kubectl("get", "--raw",
                   f"/api/v1/namespaces/{SYSTEM}/pods/{name}:15020/proxy/metrics")
    series = {}
    for line in text.splitlines():
        if found := re.fullmatch(r'([a-z_]+)(?:\{(.*)\})? ([0-9.e+]+)', line):
            labels = tuple(sorted(re.findall(r'(\w+)="([^"]*)"', found[2] or "")))
            series[found[1], labels] = float(found[3])
    return series


def total(series, name, **labels):
    wanted = set(labels.items())
    return sum(value for (key, have), value in series.items()
               if key == name and wanted <= set(have))


def connections(node, **labels):
    return total(metrics(node), "istio_tcp_connections_opened_total", **labels)

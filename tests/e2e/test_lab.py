# SPDX-License-Identifier: Apache-2.0
"""The lab itself, without the mesh: what `ztunctl local` promises (docs/LAB.md)."""

import json
import os
import signal
import subprocess
import time

import pytest
from lablib import (ROOT, config_map, container, deployment, leftovers, meta, pod, pod_spec,
                    server, service, stays, wait_until)


@pytest.fixture(scope="module")
def shared(make_module_lab):
    """Two nodes, dual stack: a client on each, three servers, services of all types."""
    return make_module_lab([
        pod("client1", node="node1"),
        pod("client2", node="node2"),
        pod("host", node="node1", hostNetwork=True),
        server("a", node="node1", labels={"app": "web", "id": "a"}),
        server("b", node="node2", labels={"app": "web", "id": "b"}),
        server("six", node="node2", annotations={"ztun.io/ip-families": "IPv6"}),
        service("web", ipFamilyPolicy="PreferDualStack"),
        service("headless", selector={"app": "web"}, clusterIP="None",
                ipFamilyPolicy="PreferDualStack"),
        service("np", selector={"app": "web"}, type="NodePort"),
        service("lb", selector={"app": "web"}, type="LoadBalancer"),
        service("only-b", selector={"id": "b"}),
        service("local-b", selector={"id": "b"}, internalTrafficPolicy="Local"),
        service("six", ipFamilies=["IPv6"]),
        service("nobody", selector={"app": "nobody"}),
        service("named", selector={"app": "web"}, target="http"),
        {"apiVersion": "v1", "kind": "Service", "metadata": meta("alias"),
         "spec": {"type": "ExternalName", "externalName": "outside.example.com"}},
    ], "--ip-families", "IPv4,IPv6", "--dns", "outside.example.com=172.28.0.99", mesh=False,
        host=True)


def url(ip, path="/", port=8080):
    return f"http://[{ip}]:{port}{path}" if ":" in ip else f"http://{ip}:{port}{path}"


@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize("to", ["a", "b"])
def test_pods_reach_each_other(shared, to, family):
    ip = shared.ip(to, family=family)
    got = shared.curl("default/client1", url(ip))
    assert got.out == f"server v1 {to} from {shared.ip('client1', family=family)}\n"


def test_ipv6_only_pod(shared):
    assert len(shared.pod("six")["ips"]) == 1
    assert shared.curl("default/client1", url(shared.ip("six", family=6))).ok
    assert shared.curl("default/client1", "http://six/").ok
    got = shared.exec("default/six", "curl", "-sS", "-m", 3, "http://[::1]:8080/")
    assert "six from ::1" in got.out


def test_hostname_and_etc(shared):
    got = shared.exec("default/client1", "sh", "-c",
                      "hostname; cat /etc/hostname /etc/resolv.conf; getent ahostsv4 client1")
    lines = got.out.splitlines()
    assert lines[:2] == ["client1", "client1"]
    assert "nameserver 10.96.0.10" in lines
    assert "search default.svc.cluster.local svc.cluster.local cluster.local" in lines
    assert "options ndots:5" in lines
    assert shared.ip("client1") in lines[-1]


@pytest.mark.parametrize("client", ["default/client1", "default/client2", "default/host", "node1"])
@pytest.mark.parametrize("family", [4, 6])
def test_cluster_ip_reaches_every_endpoint(shared, client, family):
    vip = shared.vip("web", family=family)
    seen = set()
    wait_until(lambda: seen.add(shared.curl(client, url(vip, port=80)).out.split()[2]) or
               seen == {"a", "b"}, what="both endpoints answer")


def test_service_by_name_and_named_port(shared):
    for name in ("web", "web.default", "web.default.svc.cluster.local", "headless:8080", "named"):
        assert shared.curl("default/client1", f"http://{name}/").out.startswith("server v1")


def test_hairpin(shared):
    """A pod reaches itself by its service's address."""
    got = shared.exec("default/b", "curl", "-sS", "-m", 3, url(shared.vip("only-b"), port=80))
    assert got.out.startswith("server v1 b")


@pytest.mark.parametrize("entry", ["172.28.0.11", "172.28.0.12", "fd00:28::11"])
def test_node_port(shared, entry):
    ports = shared.get("Service", "np")["spec"]["ports"]
    if ":" in entry:
        shared.apply(service("np", selector={"app": "web"}, type="NodePort",
                             ipFamilies=["IPv4", "IPv6"], ipFamilyPolicy="RequireDualStack",
                             clusterIPs=[]), wait=None)
    address = url(entry, port=ports[0]["nodePort"])
    for client in ("default/client1", "node2"):
        wait_until(lambda: shared.curl(client, address).out.startswith("server v1"))
    host = subprocess.run(["curl", "-sS", "-m", "3", address], capture_output=True, text=True)
    assert host.stdout.startswith("server v1"), host


def test_load_balancer_and_host(shared):
    ingress = shared.get("Service", "lb")["status"]["loadBalancer"]["ingress"]
    addresses = [url(ingress[0]["ip"], port=80), url(shared.vip("web"), port=80),
                 url(shared.vip("web", family=6), port=80), url(shared.ip("b"))]
    for address in addresses:
        got = subprocess.run(["curl", "-sS", "-m", "3", address], capture_output=True, text=True)
        assert got.stdout.startswith("server v1"), (address, got)
    assert shared.curl("default/client2", addresses[0]).ok


def test_no_endpoint_is_refused_at_once(shared):
    begin = time.monotonic()
    for client in ("default/client1", "node1"):
        got = shared.curl(client, "http://" + shared.vip("nobody") + "/")
        assert got.code == 7, got
    assert time.monotonic() - begin < 3


def test_internal_traffic_policy_local(shared):
    address = url(shared.vip("local-b"), port=80)
    assert shared.curl("default/client2", address).ok
    assert shared.curl("default/client1", address).code == 7


def test_dns_answers(shared):
    def dig(name, kind="A", *more):
        return shared.exec("default/client1", "dig", "+short", name, kind, *more).out.split()

    web = "web.default.svc.cluster.local"
    assert dig(web) == [shared.vip("web")]
    assert dig(web, "AAAA", "+tcp") == [shared.vip("web", family=6)]
    assert set(dig("headless.default.svc.cluster.local")) == {shared.ip("a"), shared.ip("b")}
    assert dig("outside.example.com") == ["172.28.0.99"]
    assert dig("alias.default.svc.cluster.local") == ["outside.example.com."]
    dashed = shared.ip("a").replace(".", "-")
    assert dig(f"{dashed}.default.pod.cluster.local") == [shared.ip("a")]
    status = shared.exec("default/client1", "dig", "nothing.example.com").out
    assert "NXDOMAIN" in status
    status = shared.exec("default/client1", "dig", "six.default.svc.cluster.local", "A").out
    assert "NOERROR" in status and "ANSWER: 0" in status


def test_effective_objects(shared):
    """What the proxies read: status, annotations, slices, as kubectl would print them."""
    a = shared.get("Pod", "a")
    assert a["spec"]["nodeName"] == "node1" and a["spec"]["serviceAccountName"] == "default"
    assert a["status"]["phase"] == "Running" and a["status"]["podIP"] == shared.ip("a")
    assert {c["type"]: c["status"] for c in a["status"]["conditions"]}["Ready"] == "True"
    name = a["metadata"]["annotations"]["ztun.io/netns"]
    assert os.path.exists(f"/run/netns/{name}")
    host = shared.get("Pod", "host")
    assert host["status"]["podIP"] == "172.28.0.11"
    assert "ztun.io/netns" not in host["metadata"].get("annotations", {})
    node = shared.get("Node", "node1", ns="")
    assert node["spec"]["podCIDR"] == "10.244.1.0/24"
    assert node["metadata"]["labels"]["topology.kubernetes.io/zone"] == "zone-a"
    slices = [s for s in shared.effective("EndpointSlice")
              if s["metadata"]["labels"]["kubernetes.io/service-name"] == "web"]
    assert {s["addressType"] for s in slices} == {"IPv4", "IPv6"}
    for file in (shared.dir / "config").iterdir():
        assert file.name.endswith(".json")
        json.loads(file.read_text())


def test_exec_passes_all_through(shared):
    got = shared.exec("default/client1", "sh", "-c", "cat; echo err >&2; exit 7", input="in\n")
    assert (got.code, got.out) == (7, "in\n")
    assert got.err == "err\ncommand terminated with exit code 7\n"  # the last line is kubectl's
    assert shared.exec("default/client1", "/no/such").code == 127
    assert shared.exec("default/nobody", "true").code == 1
    # A process that exec started ends with its parent.
    child = shared.popen("default/client1", "sleep", "987")
    wait_until(lambda: "987" in shared.exec("default/client1", "ps", "ax").out)
    child.kill()
    child.wait()
    wait_until(lambda: "987" not in shared.exec("default/client1", "ps", "ax").out)


def test_container_files_stay_inside(shared):
    shared.exec("default/client1", "sh", "-c", "echo x > /etc/zl-test; mkdir -p /srv/zl-test")
    assert shared.exec("default/client1", "cat", "/etc/zl-test").out == "x\n"
    assert not os.path.exists("/etc/zl-test") and not os.path.exists("/srv/zl-test")
    assert not shared.exec("default/client2", "cat", "/etc/zl-test").ok


# Volumes and environment


def test_config_map_secret_env_and_volumes(make_lab):
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": meta("s"),
              "stringData": {"password": "hunter2"}}
    env = [
        {"name": "PLAIN", "value": "p"},
        {"name": "EXPANDED", "value": "$(PLAIN)-$(POD)-$$(PLAIN)-$(NOPE)"},
        {"name": "CM", "valueFrom": {"configMapKeyRef": {"name": "cm", "key": "k"}}},
        {"name": "SECRET", "valueFrom": {"secretKeyRef": {"name": "s", "key": "password"}}},
        {"name": "MAYBE", "valueFrom": {"configMapKeyRef": {"name": "no", "key": "k",
                                                            "optional": True}}},
        {"name": "IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
        {"name": "LABEL", "valueFrom": {"fieldRef": {"fieldPath": "metadata.labels['app']"}}},
    ]
    env.insert(1, {"name": "POD", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}})
    volumes = [
        {"name": "cm", "configMap": {"name": "cm"}},
        {"name": "items", "configMap": {"name": "cm", "items": [{"key": "k", "path": "d/x"}]}},
        {"name": "s", "secret": {"secretName": "s", "defaultMode": 0o400}},
        {"name": "shared", "emptyDir": {}},
        {"name": "down", "downwardAPI": {"items": [
            {"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}}]}},
        {"name": "all", "projected": {"sources": [{"configMap": {"name": "cm"}},
                                                  {"secret": {"name": "s"}}]}},
    ]
    mounts = [{"name": v["name"], "mountPath": f"/new/{v['name']}"} for v in volumes]
    mounts.append({"name": "cm", "mountPath": "/etc/one-file", "subPath": "k"})
    first = container("first", env=None, volumeMounts=mounts)
    first["env"] = env
    first["envFrom"] = [{"prefix": "CM_", "configMapRef": {"name": "cm"}}]
    second = container("second", volumeMounts=[{"name": "shared", "mountPath": "/there"}])
    lab = make_lab([secret, config_map("cm", k="v1", other="o"),
                    pod("p", volumes=volumes, containers=[first, second])], mesh=False)

    def sh(command, name="first"):
        return lab.exec("default/p", "sh", "-c", command, container=name).out

    got = dict(line.split("=", 1) for line in sh("env").splitlines() if "=" in line)
    assert got["EXPANDED"] == "p-p-$(PLAIN)-$(NOPE)"
    assert (got["CM"], got["SECRET"], got["LABEL"]) == ("v1", "hunter2", "p")
    assert got["IP"] == lab.ip("p") and got["CM_other"] == "o" and "MAYBE" not in got
    assert sh("cat /new/cm/k /new/items/d/x /new/s/password /etc/one-file /new/all/password") == \
        "v1v1hunter2v1hunter2"
    assert sh("stat -L -c %a /new/s/password").strip() == "400"
    assert 'app="p"' in sh("cat /new/down/labels")
    sh("echo shared > /new/shared/f")
    assert sh("cat /there/f", "second") == "shared\n"
    # Mounted files follow; an environment does not.
    lab.apply(config_map("cm", k="v2", other="o"))
    wait_until(lambda: sh("cat /new/cm/k") == "v2")
    assert sh("cat /new/items/d/x; echo $CM") == "v2v1\n"


def test_missing_config_map_delays_the_pod(make_lab):
    lab = make_lab([pod("p", volumes=[{"name": "v", "configMap": {"name": "late"}}],
                        volumeMounts=[{"name": "v", "mountPath": "/v"}])], mesh=False, wait=None)
    wait_until(lambda: "late" in lab.pod("p")["message"])
    lab.apply(config_map("late", a="b"))
    assert lab.exec("default/p", "cat", "/v/a").out == "b"


# Life of a pod


def test_init_containers_run_in_order(make_lab):
    mounts = [{"name": "v", "mountPath": "/v"}]
    inits = [container(f"i{i}", command=["sh", "-c", f"sleep 0.2; echo {i} >> /v/log"],
                       volumeMounts=mounts) for i in (1, 2)]
    lab = make_lab([pod("p", initContainers=inits, volumes=[{"name": "v", "emptyDir": {}}],
                        volumeMounts=mounts)], mesh=False)
    assert lab.exec("default/p", "cat", "/v/log").out == "1\n2\n"


def test_readiness_gates_endpoints(make_lab):
    lab = make_lab([server("a", labels={"app": "web"}), server("b", labels={"app": "web"}),
                    service("web"), pod("client")], mesh=False)
    assert lab.ready_endpoints("web") == {"a", "b"}
    lab.exec("default/a", "touch", "/tmp/not-ready")
    wait_until(lambda: lab.ready_endpoints("web") == {"b"}, timeout=5)
    for _ in range(10):
        assert " b " in lab.curl("default/client", "http://web/").out
    lab.exec("default/a", "rm", "/tmp/not-ready")
    wait_until(lambda: lab.ready_endpoints("web") == {"a", "b"}, timeout=5)


def test_probe_kinds(make_lab):
    once = {"periodSeconds": 1, "failureThreshold": 1}
    lab = make_lab([
        pod("exec", readinessProbe={"exec": {"command": ["test", "-e", "/tmp/ok"]}, **once}),
        pod("tcp", image="ztun-http-server", port=8080,
            readinessProbe={"tcpSocket": {"port": "http"}, **once}),
        pod("startup", command=["sh", "-c", "sleep 1; touch /tmp/up; sleep 100"],
            startupProbe={"exec": {"command": ["test", "-e", "/tmp/up"]}, "periodSeconds": 1,
                          "failureThreshold": 10}),
        pod("live", command=["sh", "-c", "touch /tmp/live; sleep 100"],
            livenessProbe={"exec": {"command": ["test", "-e", "/tmp/live"]},
                           "initialDelaySeconds": 1, **once}),
    ], mesh=False, wait=None)
    wait_until(lambda: lab.pod("tcp")["ready"] and lab.pod("live")["ready"])
    assert not lab.pod("exec")["ready"] and not lab.pod("startup")["ready"]
    lab.exec("default/exec", "touch", "/tmp/ok")
    wait_until(lambda: lab.pod("exec")["ready"] and lab.pod("startup")["ready"])
    lab.exec("default/live", "rm", "/tmp/live")
    wait_until(lambda: lab.pod("live")["restarts"] == 1 and lab.pod("live")["ready"])


def test_deletion_order(make_lab, tmp_path):
    """deletionTimestamp and endpoints first, then preStop, SIGTERM, SIGKILL; then nothing is left."""
    script = ("trap 'echo term >> /v/log' TERM; echo start >> /v/log; "
              "while :; do sleep 0.05; done")
    lab = make_lab([
        pod("p", labels={"app": "web"}, grace=3, command=["sh", "-c", script],
            lifecycle={"preStop": {"exec": {"command": ["sh", "-c",
                                                        "echo pre >> /v/log; sleep 0.7"]}}},
            volumes=[{"name": "v", "hostPath": {"path": str(tmp_path)}}],
            volumeMounts=[{"name": "v", "mountPath": "/v"}]),
        service("web")], mesh=False)
    netns = lab.pod("p")["netns"]
    ip = lab.ip("p")
    begin = time.monotonic()
    lab.delete("pod", "default/p")
    assert lab.get("Pod", "p")["metadata"]["deletionTimestamp"]
    wait_until(lambda: lab.ready_endpoints("web") == set(), timeout=1)
    wait_until(lambda: (tmp_path / "log").read_text().split() == ["start", "pre"], timeout=2)
    wait_until(lambda: (tmp_path / "log").read_text().split() == ["start", "pre", "term"],
               timeout=2)
    assert lab.get("Pod", "p")["status"]["podIP"] == ip
    wait_until(lambda: lab.get("Pod", "p") is None, timeout=5)
    assert 2.5 < time.monotonic() - begin < 5
    assert not os.path.exists(f"/run/netns/{netns}")
    assert not list((lab.dir / "pods").iterdir())


def test_sigterm_ends_a_willing_container_at_once(make_lab):
    lab = make_lab([server("p", grace=30)], mesh=False)
    begin = time.monotonic()
    lab.delete("pod", "default/p")
    wait_until(lambda: lab.get("Pod", "p") is None)
    assert time.monotonic() - begin < 5


def test_crash_restarts_with_back_off(make_lab):
    lab = make_lab([pod("p", command=["sh", "-c", "echo run; exit 3"])], mesh=False, wait=None)
    wait_until(lambda: lab.pod("p")["restarts"] >= 2)
    wait_until(lambda: lab.pod("p")["status"] == "CrashLoopBackOff")
    state = lab.get("Pod", "p")["status"]["containerStatuses"][0]
    assert state["lastState"]["terminated"]["exitCode"] == 3
    time.sleep(1)
    assert lab.pod("p")["restarts"] <= 4
    everything = (lab.dir / "logs" / "default_p_main.log").read_text()
    assert everything.count("run") == lab.pod("p")["restarts"] + 1
    assert lab.logs("default/p") == "run\n"  # of the last start


def test_kill_of_the_main_process_restarts_only_that(make_lab):
    lab = make_lab([pod("p", containers=[container("a"), container("b")])], mesh=False)
    before = {c["name"]: c["pid"] for c in lab.pod("p")["containers"]}
    os.kill(before["a"], signal.SIGKILL)
    wait_until(lambda: lab.pod("p")["restarts"] == 1 and lab.pod("p")["ready"])
    after = {c["name"]: c["pid"] for c in lab.pod("p")["containers"]}
    assert after["a"] != before["a"] and after["b"] == before["b"]


def test_start_errors_are_shown(make_lab):
    lab = make_lab([pod("command", command=["/no/such/program"]), pod("image", image="unknown:1"),
                    pod("nowhere", node="node9")], mesh=False, wait=None)
    wait_until(lambda: "/no/such/program" in lab.pod("command")["containers"][0]["error"])
    wait_until(lambda: lab.pod("image")["status"] == "ErrImagePull")
    assert lab.pod("nowhere")["status"] == "Unschedulable"
    assert "unknown:1" in lab.local("status").stdout


def test_ignored_fields_are_named_once(make_lab):
    lab = make_lab([pod("a", affinity={}), pod("b", affinity={})], mesh=False)
    notes = lab.status()["notes"]
    assert [n for n in notes if "affinity" in n] == ["Pod spec.affinity is ignored"]


# Controllers


def test_deployment_scales_and_rolls(make_lab):
    web = dict(image="ztun-http-server", port=8080, ready="/ready")
    lab = make_lab([deployment("web", replicas=2, env={"VERSION": "v1"}, **web), service("web"),
                    pod("client")], mesh=False)
    first = {p["name"] for p in lab.pods("web")}
    assert len(first) == 2 and {p["node"] for p in lab.pods("web")} == {"node1", "node2"}
    lab.scale("default/web", 3)
    wait_until(lambda: sum(p["ready"] for p in lab.pods("web")) == 3)
    assert first < {p["name"] for p in lab.pods("web")}

    # During the change there are always enough ready pods, and no request is lost that retries.
    lab.apply(deployment("web", replicas=3, env={"VERSION": "v2"}, **web), wait=None)
    least = 3
    while True:
        pods = lab.pods("web")
        least = min(least, sum(p["ready"] for p in pods))
        versions = {lab.curl("default/client", "http://web/").out.split()[1] for _ in range(3)
                    if pods}
        if len(pods) == 3 and all(p["ready"] for p in pods) and versions == {"v2"} and \
                not first & {p["name"] for p in pods}:
            break
    assert least >= 2
    sets = lab.effective("ReplicaSet")
    assert len(sets) == 2  # the old one stays, for `rollout undo`
    wait_until(lambda: sorted(s["spec"]["replicas"] for s in lab.effective("ReplicaSet")) == [0, 3])
    hashes = {p["metadata"]["labels"]["pod-template-hash"] for p in lab.effective("Pod")
              if p["metadata"]["name"].startswith("web")}
    assert len(hashes) == 1 and sets
    lab.delete("deploy", "default/web")
    wait_until(lambda: not lab.pods("web") and not lab.effective("ReplicaSet"))


def test_rollout_waits_for_readiness(make_lab):
    web = dict(image="ztun-http-server", port=8080, ready="/ready")
    lab = make_lab([deployment("web", replicas=1, **web)], mesh=False)
    old = lab.pods("web")[0]["name"]
    lab.apply(deployment("web", replicas=1, image="ztun-http-server", port=8080,
                         ready="/status/503"), wait=None)
    wait_until(lambda: len(lab.pods("web")) == 2)
    stays(lambda: any(p["name"] == old and p["ready"] for p in lab.pods("web")), 1.5)


def test_restart_replaces_all_pods(make_lab):
    lab = make_lab([deployment("web", replicas=2)], mesh=False)
    before = {p["name"] for p in lab.pods("web")}
    lab.local("restart", "default/web")
    wait_until(lambda: len(lab.pods("web")) == 2 and
               not before & {p["name"] for p in lab.pods("web")})


def test_stateful_set(make_lab):
    stateful = {"apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": meta("db"),
                "spec": {"replicas": 2, "serviceName": "db",
                         "selector": {"matchLabels": {"app": "db"}},
                         "volumeClaimTemplates": [{"metadata": {"name": "data"}}],
                         "template": {"metadata": {"labels": {"app": "db"}},
                                      "spec": pod_spec(image="ztun-http-server", port=8080,
                                                       ready="/ready", volumeMounts=[
                                                           {"name": "data",
                                                            "mountPath": "/data"}])}}}
    lab = make_lab([stateful, service("db", clusterIP="None"), pod("client")], mesh=False)
    assert [p["name"] for p in lab.pods("db")] == ["db-0", "db-1"]
    assert " db-1 " in lab.curl("default/client", "http://db-1.db:8080/").out
    lab.exec("default/db-1", "sh", "-c", "echo kept > /data/f")
    lab.delete("pod", "default/db-1")
    wait_until(lambda: lab.pods("db")[-1]["ready"] and len(lab.pods("db")) == 2)
    wait_until(lambda: lab.exec("default/db-1", "cat", "/data/f").out == "kept\n")
    lab.scale("default/db", 1)
    wait_until(lambda: [p["name"] for p in lab.pods("db")] == ["db-0"])


def test_daemon_set_and_job(make_lab):
    daemon = {"apiVersion": "apps/v1", "kind": "DaemonSet", "metadata": meta("agent"),
              "spec": {"selector": {"matchLabels": {"app": "agent"}},
                       "template": {"metadata": {"labels": {"app": "agent"}}, "spec": pod_spec()}}}
    job = {"apiVersion": "batch/v1", "kind": "Job", "metadata": meta("once"),
           "spec": {"completions": 2, "template": {
               "spec": pod_spec(command=["sh", "-c", "echo done"], restartPolicy="Never")}}}
    lab = make_lab([daemon, job], "--nodes", "3", mesh=False, wait=None)
    wait_until(lambda: {p["node"] for p in lab.pods("agent")} == {"node1", "node2", "node3"})
    wait_until(lambda: lab.get("Job", "once")["status"]["succeeded"] == 2)
    assert len(lab.pods("once")) == 2


def test_delete_by_file_and_namespace(make_lab):
    lab = make_lab([ROOT / "conf" / "demo"], mesh=False)
    assert lab.exec("demo/client", "true").ok
    lab.local("delete", "--grace", "0", "-f", ROOT / "conf" / "demo" / "20-server.yaml")
    wait_until(lambda: not lab.pods("server", ns="demo"))
    lab.local("delete", "--grace", "0", "namespace", "demo")
    wait_until(lambda: not [p for p in lab.status()["pods"] if p["namespace"] == "demo"])
    assert lab.get("AuthorizationPolicy", "server", "demo") is None
    assert not [f for f in (lab.dir / "config").iterdir() if ".demo." in f.name]


def test_pod_changes_replace_or_relabel(make_lab):
    lab = make_lab([pod("p", env={"A": "1"})], mesh=False)
    uid = lab.get("Pod", "p")["metadata"]["uid"]
    lab.apply(pod("p", labels={"app": "p", "x": "y"}, env={"A": "1"}))
    now = lab.get("Pod", "p")["metadata"]
    assert now["uid"] == uid and now["labels"]["x"] == "y" and "ztun.io/netns" in now["annotations"]
    lab.apply(pod("p", env={"A": "2"}), wait=None)
    wait_until(lambda: lab.get("Pod", "p")["metadata"]["uid"] != uid and lab.pod("p")["ready"])
    assert lab.exec("default/p", "sh", "-c", "echo $A").out == "2\n"


def test_exported_objects_apply_again(make_lab):
    """`kubectl get -o yaml` of everything, with status and owners, makes the same lab."""
    lab = make_lab([deployment("web", replicas=1, image="ztun-http-server", port=8080, ready="/ready"),
                    service("web"), pod("client")], mesh=False)
    docs = [o for o in lab.effective("Deployment") + lab.effective("ReplicaSet") +
            lab.effective("Pod") + lab.effective("Service") + lab.effective("EndpointSlice")]
    again = make_lab(docs, mesh=False)
    assert len(again.pods("web")) == 1 and len(again.effective("ReplicaSet")) == 1
    assert again.vip("web") == lab.vip("web")
    assert again.curl("default/client", "http://web/").out.startswith("server")


# The machinery


def test_down_removes_everything(make_lab):
    lab = make_lab([pod("p"), service("s")], mesh=False, host=True)
    assert leftovers(lab.name + ".")
    lab.down()
    assert not leftovers(lab.name)
    assert "nothing to remove" in lab.down().stdout


@pytest.mark.parametrize("when", ["running", "stopping", "no-state"])
def test_down_after_kill_of_the_supervisor(make_lab, when):
    lab = make_lab([pod("p", grace=30, command=["sh", "-c", "trap '' TERM; sleep 1000 & "
                                                            "setsid sleep 2000 & wait"]),
                    pod("h", hostNetwork=True)], mesh=False, host=True)
    if when == "stopping":
        lab.delete("pod", "default/p")
    lab.kill_supervisor()
    wait_until(lambda: lab.local("status", check=False).returncode != 0)
    if when == "no-state":
        subprocess.run(["rm", "-rf", str(lab.dir)], check=True)
    lab.down()
    assert not leftovers(lab.name)
    names = subprocess.run(["ps", "axo", "args"], capture_output=True, text=True).stdout
    assert "sleep 2000" not in names


def test_up_after_crash_starts_afresh(make_lab):
    lab = make_lab([pod("p")], mesh=False)
    lab.kill_supervisor()
    wait_until(lambda: lab.local("status", check=False).returncode != 0)
    lab.up([pod("q")], mesh=False)
    assert [p["name"] for p in lab.status()["pods"]] == ["q"]


def test_failed_up_leaves_nothing(make_lab):
    lab = make_lab([], mesh=False, wait=None)
    lab.down()
    bad = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n"},
           "spec": {"podCIDR": "10.0.0.0/33"}}
    with pytest.raises(AssertionError, match="podCIDR"):
        lab.up([bad], mesh=False)
    assert not leftovers(lab.name)
    with pytest.raises(AssertionError, match="no such file|No such file"):
        lab.up(["/no/such/file.yaml"], mesh=False)
    assert not leftovers(lab.name)


def test_bad_yaml_says_where(make_lab, tmp_path):
    lab = make_lab([], mesh=False, wait=None)
    file = tmp_path / "bad.yaml"
    file.write_text("apiVersion: v1\nkind: Pod\nmetadata: {name: [\n")
    done = lab.local("apply", "-f", file, check=False)
    assert done.returncode == 1 and f"{file}:" in done.stderr


def test_two_labs_side_by_side(make_lab):
    one = make_lab([server("a"), pod("client")], mesh=False)
    two = make_lab([server("a", version="v2"), pod("client")], mesh=False)
    assert one.ip("a") == two.ip("a")
    assert " v1 " in one.curl("default/client", url(one.ip("a"))).out
    assert " v2 " in two.curl("default/client", url(two.ip("a"))).out
    one.down()
    assert two.curl("default/client", url(two.ip("a"))).ok


def test_nodes_from_objects(make_lab):
    node = {"apiVersion": "v1", "kind": "Node",
            "metadata": {"name": "worker", "labels": {"disk": "ssd"}},
            "spec": {"podCIDRs": ["10.77.0.0/24"]},
            "status": {"addresses": [{"type": "InternalIP", "address": "172.28.0.77"}]}}
    lab = make_lab([node, pod("p", nodeSelector={"disk": "ssd"})], mesh=False)
    assert [n["name"] for n in lab.status()["nodes"]] == ["worker"]
    assert lab.ip("p").startswith("10.77.0.")
    lab.apply({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "late"}},
              server("q", node="late"))
    assert lab.curl("default/p", url(lab.ip("q"))).ok


def test_sysctls_can_switch_ipv6_off(make_lab):
    lab = make_lab([server("p", securityContext={"sysctls": [
        {"name": "net.ipv6.conf.all.disable_ipv6", "value": "1"},
        {"name": "net.ipv6.conf.default.disable_ipv6", "value": "1"}]}), pod("c")], mesh=False)
    assert "inet6" not in lab.exec("default/p", "ip", "addr").out
    assert lab.curl("default/c", url(lab.ip("p"))).ok


def test_ztun_is_started_and_started_again(make_lab, tmp_path):
    """With a stand-in: its arguments, its namespace, its log, restarts; gone after down."""
    fake = tmp_path / "ztun"
    fake.write_text("#!/bin/sh\necho args \"$@\" env $EXTRA\nip -br addr show eth0\nexec sleep 3000\n")
    fake.chmod(0o755)
    lab = make_lab([], "--ztun-bin", fake, "--ztun-arg=--flag", "--ztun-env", "EXTRA=yes",
                   wait=None)
    wait_until(lambda: "172.28.0.12" in lab.logs("node2"))
    log = lab.logs("node2")
    assert f"args --config {lab.dir}/config --ca-dir {lab.dir}/ca " \
           f"--state-dir {lab.dir}/state --node node2 --flag env yes" in log
    pid = lab.ztun_pid("node2")
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: lab.ztun_pid("node2") not in (0, pid))
    assert lab.ztun_pid("node1") != 0
    lab.down()
    assert not leftovers(lab.name)


def test_up_is_quick(make_lab):
    """Not a timed test: an order of magnitude that would make all others slow."""
    begin = time.monotonic()
    make_lab([ROOT / "conf" / "demo"], mesh=False)
    assert time.monotonic() - begin < 15

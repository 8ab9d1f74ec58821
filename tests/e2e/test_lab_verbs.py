# SPDX-License-Identifier: Apache-2.0
"""The verbs of `ztunctl local` that kubectl's users know, with kubectl's columns and words."""

import json
import os
import subprocess

import pytest
import yaml
from lablib import deployment, namespace, pod, service, wait_until


@pytest.fixture(scope="module")
def lab(make_module_lab):
    return make_module_lab([
        namespace("shop", labels={"team": "a"}),
        pod("client", ns="shop"),
        deployment("web", ns="shop", replicas=2, image="ztun-http-server", port=8080,
                   ready="/ready"),
        service("web", ns="shop"),
        {"apiVersion": "networking.istio.io/v1", "kind": "VirtualService",
         "metadata": {"name": "web", "namespace": "shop"},
         "spec": {"hosts": ["web"], "http": [{"route": [{"destination": {"host": "web"}}]}]}},
    ], mesh=False)


def run(lab, *args, check=True, **kw):
    return lab.local(*args, check=check, **kw)


def rows(lab, *args):
    return [line.split() for line in run(lab, "get", *args, "-n", "shop").stdout.splitlines()]


def test_tables(lab):
    pods = rows(lab, "pods", "-l", "app=web")
    assert pods[0] == ["NAME", "READY", "STATUS", "RESTARTS", "AGE"]
    assert [p[1:4] for p in pods[1:]] == [["1/1", "Running", "0"]] * 2
    assert rows(lab, "po", "-o", "wide")[0][-6:] == \
        ["IP", "NODE", "NOMINATED", "NODE", "READINESS", "GATES"]
    assert rows(lab, "deploy")[1][:4] == ["web", "2/2", "2", "2"]
    assert rows(lab, "rs")[1][1:4] == ["2", "2", "2"]
    svc = rows(lab, "svc")
    assert svc[0] == ["NAME", "TYPE", "CLUSTER-IP", "EXTERNAL-IP", "PORT(S)", "AGE"]
    assert svc[1][:2] == ["web", "ClusterIP"] and svc[1][3:5] == ["<none>", "80/TCP"]
    endpoints = rows(lab, "endpoints", "web")[1][1]
    assert endpoints.count(":8080") == 2
    assert rows(lab, "virtualservice")[1][:2] == ["web", '["web"]']
    assert rows(lab, "all")[0][0] == "NAME"
    assert ["shop", "client"] in [line.split()[:2] for line in
                                  run(lab, "get", "pods", "-A").stdout.splitlines()]


def test_outputs(lab):
    assert run(lab, "get", "deploy/web", "-n", "shop", "-o", "name").stdout == \
        "deployment.apps/web\n"
    as_json = json.loads(run(lab, "get", "svc", "web", "-n", "shop", "-o", "json").stdout)
    as_yaml = yaml.safe_load(run(lab, "get", "svc", "web", "-n", "shop", "-o", "yaml").stdout)
    as_json["metadata"].pop("creationTimestamp")
    as_yaml["metadata"].pop("creationTimestamp")
    assert as_json == as_yaml
    assert json.loads(run(lab, "get", "pods", "-n", "shop", "-o", "json").stdout)["kind"] == "List"


@pytest.mark.parametrize("args, message", [
    (["get", "pod", "nobody", "-n", "shop"],
     'Error from server (NotFound): pods "nobody" not found'),
    (["get", "deploy/nobody"], 'Error from server (NotFound): deployments.apps "nobody" not found'),
    (["get", "thing"], 'error: the server doesn\'t have a resource type "thing"'),
    (["create", "namespace", "shop"],
     'Error from server (AlreadyExists): namespaces "shop" already exists'),
    (["scale", "deploy/nobody", "--replicas", "1"],
     'Error from server (NotFound): deployments.apps "nobody" not found'),
    (["set", "image", "deploy/web", "-n", "shop", "nobody=x"],
     'error: unable to find container named "nobody"'),
    (["label", "pod/client", "-n", "shop", "app=y"],
     "error: 'app' already has a value (client), and --overwrite is false"),
    (["delete", "svc", "nobody", "-n", "shop"],
     'Error from server (NotFound): services "nobody" not found'),
    (["delete", "thing", "x"], 'error: the server doesn\'t have a resource type "thing"'),
    (["delete", "pods"], "error: resource(s) were provided, but no name was specified"),
    (["get", "pods", "-l", "app in web"], 'error: unable to parse requirement: "app in web"'),
    (["logs", "nobody", "-n", "shop"], 'Error from server (NotFound): pods "nobody" not found'),
    (["logs", "client", "-n", "shop", "-c", "x"],
     "Error from server (BadRequest): container x is not valid for pod client"),
    (["logs", "client", "-n", "shop", "-p"], 'Error from server (BadRequest): previous terminated '
     'container "main" in pod "client" not found'),
    (["exec", "nobody", "-n", "shop", "--", "true"],
     'Error from server (NotFound): pods "nobody" not found'),
    (["rollout", "undo", "deploy/web", "-n", "shop", "--to-revision", "99"],
     "error: unable to find specified revision 99 in history"),
    (["rollout", "status", "svc/web", "-n", "shop"],
     "error: no status viewer has been implemented for Service"),
    (["patch", "deploy/web", "-n", "shop", "-p", "{a: ["], "neither JSON nor YAML"),
    (["patch", "vs/web", "-n", "shop", "-p", "{}"], "is not supported"),
    (["patch", "deploy/web", "-n", "shop", "--type", "json", "-p",
      '[{"op": "remove", "path": "/spec/none"}]'], "operation 1, remove"),
])
def test_errors(lab, args, message):
    done = run(lab, *args, check=False)
    assert done.returncode == 1 and message in done.stderr


def test_nothing_found_is_no_error(lab):
    done = run(lab, "get", "pods", "-n", "empty")
    assert (done.stdout, done.stderr) == ("", "No resources found in empty namespace.\n")


def test_create_apply_delete(lab):
    assert run(lab, "create", "namespace", "new").stdout == "namespace/new created\n"
    doc = json.dumps({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c"},
                      "data": {"a": "1"}})
    words = [run(lab, "apply", "-n", "new", "-f", "-", input=text).stdout.split()[-1]
             for text in (doc, doc, doc.replace('"1"', '"2"'))]
    assert words == ["created", "unchanged", "configured"]
    other = run(lab, "apply", "-n", "shop", "-f", "-", check=False,
                input=doc.replace('"name": "c"', '"name": "c", "namespace": "new"'))
    assert "does not match the namespace" in other.stderr
    assert run(lab, "delete", "cm/c", "-n", "new").stdout == 'configmap "c" deleted\n'
    run(lab, "delete", "namespace", "new")
    assert lab.get("Namespace", "new", ns=None) is None


def test_apply_validates(lab):
    """As kubectl: strict, unless it is told to drop what is unknown; never what the rules forbid."""
    def rule(weight_of):
        return "# two\n" + "\n---\n".join(json.dumps(doc) for doc in (
            {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "beside"}},
            {"apiVersion": "networking.istio.io/v1", "kind": "VirtualService", "metadata": {
                "name": "strict"}, "spec": {"hosts": ["web"], "http": [{"route": [
                    {"destination": {"host": "web", "weight": 1}}] * weight_of}]}}))
    done = run(lab, "apply", "-n", "shop", "-f", "-", input=rule(1), check=False)
    assert done.returncode == 1 and done.stdout == "configmap/beside created\n"  # the others go on
    assert done.stderr.startswith(
        'Error from server (BadRequest): error when creating "STDIN": VirtualService in version "v1" '
        'cannot be handled as a VirtualService: strict decoding error: unknown field '
        '"spec.http[0].route[0].destination.weight"\n  STDIN:4:')
    done = run(lab, "apply", "-n", "shop", "-f", "-", "--validate=ignore", input=rule(2), check=False)
    assert done.returncode == 1 and done.stdout == "configmap/beside unchanged\n"
    assert 'admission webhook "validation.istio.io" denied the request' in done.stderr
    done = run(lab, "apply", "-n", "shop", "-f", "-", "--validate=warn", input=rule(1))
    assert done.stdout.splitlines()[1] == "virtualservice.networking.istio.io/strict created"
    assert done.stderr == 'Warning: unknown field "spec.http[0].route[0].destination.weight"\n'
    route = lab.get("VirtualService", "strict", ns="shop")["spec"]["http"][0]["route"]
    assert route == [{"destination": {"host": "web"}}]
    done = run(lab, "patch", "vs/strict", "-n", "shop", "--type", "merge", "-p",
               '{"spec": {"http": [{"timeout": "1x"}]}}', check=False)
    assert done.returncode == 1 and "validation.istio.io" in done.stderr
    assert run(lab, "apply", "-f", "x", "--validate=no", check=False).returncode == 2
    run(lab, "delete", "vs/strict", "-n", "shop")


def test_labels(lab):
    assert run(lab, "label", "pod", "client", "-n", "shop", "tier=front").stdout == \
        "pod/client labeled\n"
    assert rows(lab, "pods", "-l", "tier=front,app!=web")[1][0] == "client"
    run(lab, "label", "pod/client", "-n", "shop", "tier=back", "--overwrite")
    assert len(rows(lab, "pods", "-l", "tier=front")) == 0
    assert run(lab, "label", "pod/client", "-n", "shop", "tier=back").stdout == \
        "pod/client not labeled\n"
    for selector, n in (("tier in (front, back)", 1), ("tier notin (back),app=client", 0),
                        ("!tier,app=client", 0), ("tier,app in (client)", 1)):
        assert max(0, len(rows(lab, "pods", "-l", selector)) - 1) == n, selector
    assert run(lab, "label", "pod/client", "-n", "shop", "tier-").stdout == \
        "pod/client unlabeled\n"
    assert run(lab, "label", "pod/client", "-n", "shop", "tier-").stdout == \
        'label "tier" not found.\npod/client not labeled\n'
    run(lab, "annotate", "svc", "web", "-n", "shop", "note=some text")
    assert lab.get("Service", "web", "shop")["metadata"]["annotations"]["note"] == "some text"
    # A pod of a ReplicaSet stays its own: it goes with it.
    web = rows(lab, "pods", "-l", "app=web")[1][0]
    run(lab, "label", "pod", web, "-n", "shop", "x=y")
    assert lab.get("Pod", web, "shop")["metadata"]["ownerReferences"]


def test_patch_rolls_out(lab):
    image = {"spec": {"template": {"spec": {"containers": [
        {"name": "main", "env": [{"name": "VERSION", "value": "v2"}]}]}}}}
    assert run(lab, "patch", "deployment", "web", "-n", "shop", "-p", json.dumps(image)).stdout == \
        "deployment.apps/web patched\n"
    out = run(lab, "rollout", "status", "deployment/web", "-n", "shop", "--timeout", "20s").stdout
    assert out.endswith('deployment "web" successfully rolled out\n') and "Waiting for" in out
    got = lab.exec("shop/client", "curl", "-sS", "-m", 3, "http://web/")
    assert got.out.startswith("server v2")
    containers = lab.get("Deployment", "web", "shop")["spec"]["template"]["spec"]["containers"]
    assert containers[0]["image"] == "ztun-http-server"
    assert run(lab, "patch", "deployment", "web", "-n", "shop", "-p", json.dumps(image)).stdout == \
        "deployment.apps/web patched (no change)\n"


def test_set_image_scale_restart(lab):
    assert run(lab, "set", "image", "deploy/web", "-n", "shop", "main=ztun-http-server:v3").stdout \
        == "deployment.apps/web image updated\n"
    run(lab, "rollout", "status", "deploy/web", "-n", "shop", "--timeout", "20s")
    assert run(lab, "scale", "deployment", "web", "-n", "shop", "--replicas=1").stdout == \
        "deployment.apps/web scaled\n"
    assert run(lab, "rollout", "restart", "deploy", "web", "-n", "shop").stdout == \
        "deployment.apps/web restarted\n"
    run(lab, "rollout", "status", "deploy/web", "-n", "shop", "--timeout", "20s")
    assert rows(lab, "deploy", "web")[1][1] == "1/1"


def test_rollout_history_and_undo(lab):
    run(lab, "apply", "-f", "-", input=json.dumps(deployment(
        "hist", ns="shop", image="ztun-client", env={"V": "1"})))

    def history():
        lines = run(lab, "rollout", "history", "deploy/hist", "-n", "shop").stdout.splitlines()
        assert lines[:2] == ["deployment.apps/hist ", "REVISION  CHANGE-CAUSE"] and lines[-1] == ""
        return [line.split() for line in lines[2:-1]]

    def value():
        pods = lab.get("Deployment", "hist", "shop")["spec"]["template"]["spec"]["containers"]
        return pods[0]["env"][0]["value"]

    def undo(*args):
        return run(lab, "rollout", "undo", "deploy/hist", "-n", "shop", *args, check=False)
    run(lab, "rollout", "status", "deploy/hist", "-n", "shop", "--timeout", "20s")
    assert 'error: no rollout history found for deployment "hist"' in undo().stderr
    for v in ("2", "3"):
        run(lab, "patch", "deploy/hist", "-n", "shop", "-p", json.dumps({"spec": {"template": {
            "spec": {"containers": [{"name": "main", "env": [{"name": "V", "value": v}]}]}}}}))
        run(lab, "rollout", "status", "deploy/hist", "-n", "shop", "--timeout", "20s")
    assert history() == [["1", "<none>"], ["2", "<none>"], ["3", "<none>"]]
    assert undo().stdout == "deployment.apps/hist rolled back\n" and value() == "2"
    assert history() == [["1", "<none>"], ["3", "<none>"], ["4", "<none>"]]
    assert undo("--to-revision", "1").stdout == "deployment.apps/hist rolled back\n"
    assert value() == "1" and history()[-1] == ["5", "<none>"]
    assert "skipped rollback (current template already matches revision 5)" in \
        undo("--to-revision", "5").stdout
    # The limit: the oldest go.
    run(lab, "patch", "deploy/hist", "-n", "shop", "-p", '{"spec": {"revisionHistoryLimit": 1}}')
    wait_until(lambda: len(history()) == 2)
    assert run(lab, "delete", "deploy", "hist", "-n", "shop").stdout == \
        'deployment.apps "hist" deleted\n'
    wait_until(lambda: rows(lab, "rs", "-l", "app=hist") == [])


def test_delete_several(lab):
    names = ["one", "two", "three"]
    for name in names:
        lab.apply({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {
            "name": name, "namespace": "shop", "labels": {"n": name}}}, wait=None)
    assert run(lab, "delete", "cm", "one", "cm/x", "-n", "shop", check=False).stdout == \
        'configmap "one" deleted\n'
    assert run(lab, "delete", "cm", "-l", "n in (two, four)", "-n", "shop").stdout == \
        'configmap "two" deleted\n'
    assert run(lab, "delete", "cm", "--all", "-n", "shop").stdout.endswith(
        'configmap "three" deleted\n')
    assert run(lab, "delete", "cm", "--all", "-n", "shop").stdout == "No resources found\n"


def test_logs_of_starts(lab):
    lab.apply({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "again", "namespace": "shop"},
               "spec": {"containers": [
                   {"name": "main", "image": "x", "command": ["sh", "-c", "for i in 1 2 3; do echo "
                    "$i of $(ls /seen | wc -l); done; [ -e /seen/1 ] && sleep 60; touch /seen/1"],
                    "volumeMounts": [{"name": "seen", "mountPath": "/seen"}]},
                   {"name": "side", "image": "x", "command": ["sleep", "60"]}],
                   "volumes": [{"name": "seen", "emptyDir": {}}]}}, wait=None)

    def logs(*args):
        return run(lab, "logs", "again", "-n", "shop", *args)
    wait_until(lambda: "3 of 1" in logs("-c", "main").stdout)
    done = logs()
    assert done.stdout == "1 of 1\n2 of 1\n3 of 1\n"
    assert done.stderr == 'Defaulted container "main" out of: main, side\n'
    assert logs("-p", "-c", "main").stdout == "1 of 0\n2 of 0\n3 of 0\n"
    assert logs("--tail", "2", "-c", "main").stdout == "2 of 1\n3 of 1\n"
    assert logs("--tail=1", "--previous", "-c", "main").stdout == "3 of 0\n"
    assert logs("--tail=0", "-c", "main").stdout == ""
    run(lab, "delete", "pod", "again", "-n", "shop", "--grace", "0")


def test_status_of_init_containers(lab):
    lab.apply({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "init", "namespace": "shop"},
               "spec": {"terminationGracePeriodSeconds": 0, "initContainers": [
                   {"name": "side", "image": "x", "command": ["sleep", "60"],
                    "restartPolicy": "Always"},
                   {"name": "wait", "image": "x", "command": ["sh", "-c", "until [ -e /go/x ]; do "
                    "sleep 0.1; done; exit $(cat /go/x)"],
                    "volumeMounts": [{"name": "go", "mountPath": "/go"}]}],
                   "containers": [{"name": "main", "image": "x", "command": ["sleep", "60"]}],
                   "volumes": [{"name": "go", "emptyDir": {}}]}}, wait=None)

    def status():
        return run(lab, "get", "pod", "init", "-n", "shop").stdout.splitlines()[1].split()[2]

    def end_with(code):
        run(lab, "exec", "-n", "shop", "init", "-c", "wait", "--", "sh", "-c", f"echo {code} >/go/x")
    wait_until(lambda: status() == "Init:1/2")
    end_with(3)
    wait_until(lambda: status() in ("Init:Error", "Init:CrashLoopBackOff"))
    wait_until(lambda: status() == "Init:CrashLoopBackOff")
    done = run(lab, "exec", "-n", "shop", "init", "-c", "wait", "--", "true", check=False)
    assert done.returncode == 1 and 'container not found ("wait")' in done.stderr
    run(lab, "exec", "-n", "shop", "init", "-c", "side", "--", "true")
    run(lab, "delete", "pod", "init", "-n", "shop")


def test_merge_and_json_patch(lab):
    run(lab, "patch", "vs/web", "-n", "shop", "--type", "merge", "-p",
        '{"spec": {"http": [{"timeout": "1s", "route": [{"destination": {"host": "web"}}]}]}}')
    assert lab.get("VirtualService", "web", "shop")["spec"]["http"][0]["timeout"] == "1s"
    run(lab, "patch", "vs/web", "-n", "shop", "--type", "json", "-p",
        '[{"op": "replace", "path": "/spec/http/0/timeout", "value": "2s"},'
        ' {"op": "add", "path": "/spec/hosts/-", "value": "web.shop"}]')
    spec = lab.get("VirtualService", "web", "shop")["spec"]
    assert (spec["http"][0]["timeout"], spec["hosts"]) == ("2s", ["web", "web.shop"])


def test_jsonpath(lab):
    def get(template, *what):
        return run(lab, "get", *what, "-n", "shop", "-o", "jsonpath=" + template).stdout
    web = rows(lab, "pods", "-l", "app=web")[1][0]
    assert get("{.items[0].metadata.name}", "pod", "-l", "app=web") == web
    assert get("{.spec.ports[?(@.port==80)].targetPort}", "svc", "web") == "8080"
    assert get('{range .items[*]}{.metadata.name}{"\\n"}{end}', "vs") == "web\n"
    done = run(lab, "get", "pods", "-n", "shop", "-l", "none=x", "-o", "jsonpath={.items[0].x}",
               check=False)
    assert (done.returncode, done.stderr) == (1, 'error: error executing jsonpath "{.items[0].x}": '
                                              'array index out of bounds: index 0, length 0\n')


def test_describe(lab):
    def described(*args):
        return run(lab, "describe", *args, "-n", "shop").stdout
    text = described("pod/client")
    assert text.startswith("Name:             client\nNamespace:        shop\nPriority:         0\n")
    assert "\nNode:             node" in text and "\nLabels:           app=client\n" in text
    assert "\nContainers:\n  main:\n    Image: " in text and "    State:          Running\n" in text
    assert text.endswith("Events:                      <none>\n")
    text = described("svc", "web")
    assert "\nType:              ClusterIP\n" in text and "\nTargetPort:        8080/TCP\n" in text
    addresses = text.split("Endpoints:")[1].split()[0].split(",")
    assert len(addresses) == len(lab.ready_endpoints("web", "shop"))
    text = described("deploy", "web")
    assert " desired | " in text and " | 0 unavailable\n" in text
    assert "\nRollingUpdateStrategy:  25% max unavailable, 25% max surge\n" in text
    assert "\nNewReplicaSet:   web-" in text
    text = described("vs/web")
    assert "\nAPI Version:  networking.istio.io/v1\nKind:         VirtualService\n" in text
    assert "\nSpec:\n  Hosts:\n    web\n" in text and "        Host:  web\n" in text
    assert described("pods", "-l", "app=web").count("Name:  ") == len(rows(lab, "pods", "-l", "app=web")) - 1
    missing = run(lab, "describe", "pod", "nobody", "-n", "shop", check=False)
    assert (missing.returncode, missing.stderr) == \
        (1, 'Error from server (NotFound): pods "nobody" not found\n')


def test_edit(lab):
    env = {**os.environ, "KUBE_EDITOR": "sed -i s/app:.web/app:\\ shop/"}
    assert run(lab, "edit", "svc/web", "-n", "shop", env=env).stdout == "service/web edited\n"
    assert lab.get("Service", "web", "shop")["spec"]["selector"] == {"app": "shop"}
    env["KUBE_EDITOR"] = "sed -i s/app:.shop/app:\\ web/"
    run(lab, "edit", "svc/web", "-n", "shop", env=env)
    env["KUBE_EDITOR"] = "true"
    assert "no changes made" in run(lab, "edit", "svc/web", "-n", "shop", env=env).stdout


def test_expose_exec_logs(lab):
    run(lab, "expose", "deployment", "web", "-n", "shop", "--port", "81", "--target-port", "8080",
        "--service", "again")
    wait_until(lambda: lab.ready_endpoints("again", "shop"))
    out = run(lab, "exec", "-n", "shop", "-it", "client", "--", "curl", "-sS", "http://again:81/")
    assert out.stdout.startswith("server v2")
    assert run(lab, "exec", "-n", "shop", "deploy/web", "-c", "main", "--", "hostname").stdout \
        .startswith("web-")
    assert "listens on 8080" in run(lab, "logs", "-n", "shop", "deploy/web").stdout


def test_port_forward(lab):
    argv = [str(a) for a in lab.argv("x")]
    argv = [argv[0], "local", "port-forward", *argv[3:7], "-n", "shop", "svc/web", "18080:80"]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as forward:
        try:
            assert forward.stdout.readline() == "Forwarding from 127.0.0.1:18080 -> 8080\n"
            got = subprocess.run(["curl", "-sS", "-m", "3", "http://127.0.0.1:18080/"],
                                 capture_output=True, text=True, check=True)
            assert got.stdout.startswith("server v2")
        finally:
            forward.terminate()


def test_watch(lab):
    argv = [str(a) for a in lab.argv("x")]
    argv = [argv[0], "local", "get", "pods", *argv[3:7], "-n", "shop", "-l", "watched=yes", "-w"]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as watch:
        try:
            lab.apply(pod("seen", ns="shop", labels={"watched": "yes"}))
            assert watch.stdout.readline().split()[0] == "NAME"
            lines = []
            while "Running" not in (lines[-1] if lines else ""):
                lines.append(watch.stdout.readline())
                assert lines[-1].startswith("seen ")
        finally:
            watch.terminate()

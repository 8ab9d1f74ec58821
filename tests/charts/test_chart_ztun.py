# SPDX-License-Identifier: Apache-2.0
"""The chart ztun: in ztunnel's place, for all who look for that."""

import json


def test_ztun_stands_where_ztunnel_stood(render):
    """What istiod, istio-cni and istioctl find it by."""
    objects = render("ztun")
    daemon_set = objects["DaemonSet"]
    assert daemon_set["metadata"]["name"] == "ztunnel"
    assert daemon_set["metadata"]["namespace"] == "istio-system"
    # Not to be changed: a release of Istio's chart is upgraded to this one in place.
    assert daemon_set["spec"]["selector"] == {"matchLabels": {"app": "ztunnel"}}
    assert daemon_set["spec"]["updateStrategy"]["rollingUpdate"] == {"maxSurge": 1, "maxUnavailable": 0}
    pod = objects.pod()
    assert pod["metadata"]["labels"]["istio.io/dataplane-mode"] == "none"
    assert pod["spec"]["serviceAccountName"] == objects["ServiceAccount"]["metadata"]["name"] == "ztunnel"
    assert "hostNetwork" not in pod["spec"]
    assert pod["spec"]["priorityClassName"] == "system-node-critical"
    container = objects.container()
    assert container["name"] == "istio-proxy" and container["args"] == ["proxy", "ztunnel"]
    security = container["securityContext"]
    assert security["capabilities"] == {"drop": ["ALL"], "add": ["NET_ADMIN", "NET_RAW", "SYS_ADMIN"]}
    assert security["readOnlyRootFilesystem"] and not security["privileged"]
    assert (security["runAsUser"], security["runAsGroup"]) == (0, 1337)
    assert container["readinessProbe"]["httpGet"] == {"path": "/healthz/ready", "port": 15021}
    env = objects.env()
    assert env["CA_ADDRESS"] == env["XDS_ADDRESS"] == "istiod.istio-system.svc:15012"
    assert env["INPOD_ENABLED"] == "true" and env["ISTIO_META_CLUSTER_ID"] == "Kubernetes"
    assert env["TERMINATION_GRACE_PERIOD_SECONDS"] == "30"
    assert {"POD_NAME", "POD_NAMESPACE", "NODE_NAME", "INSTANCE_IP", "SERVICE_ACCOUNT"} <= set(env)
    mounts = {mount["mountPath"]: mount["name"] for mount in container["volumeMounts"]}
    volumes = {volume["name"]: volume for volume in pod["spec"]["volumes"]}
    assert volumes[mounts["/var/run/secrets/istio"]]["configMap"] == {"name": "istio-ca-root-cert"}
    token, = volumes[mounts["/var/run/secrets/tokens"]]["projected"]["sources"]
    assert token["serviceAccountToken"] == {"path": "istio-token", "audience": "istio-ca",
                                            "expirationSeconds": 43200}
    assert volumes[mounts["/var/run/ztunnel"]]["hostPath"]["path"] == "/var/run/ztunnel"


def test_ztun_of_another_name_and_revision(render):
    objects = render("ztun", 'resourceName="proxy"', 'revision="canary"', 'istioNamespace="mesh"')
    assert {obj["metadata"]["name"] for obj in objects} == {"proxy"}
    assert objects.pod()["spec"]["serviceAccountName"] == "proxy"
    assert objects.env()["XDS_ADDRESS"] == "istiod-canary.mesh.svc:15012"
    assert objects.pod()["metadata"]["annotations"]["istio.io/rev"] == "canary"


def test_env_of_the_user_counts(render):
    env = render("ztun", 'env={"XDS_ADDRESS": "other:15012", "POD_NAME": "fixed", "KEEPALIVE_TIME": 60}',
                 'meshConfig={"defaultConfig": {"proxyMetadata": {"KEEPALIVE_TIME": 50, "ISTIO_META_X": "y"}}}',
                 'logAsJson=true').env()
    assert (env["XDS_ADDRESS"], env["POD_NAME"], env["KEEPALIVE_TIME"]) == ("other:15012", "fixed", "60")
    assert (env["ISTIO_META_X"], env["LOG_FORMAT"]) == ("y", "json")


def test_cpus(render):
    """The program makes its workers from these."""
    plain = render("ztun").env()
    assert plain["ZTUNNEL_CPU_LIMIT"] == "limits.cpu"
    assert plain["ZTUNNEL_RESOURCE_CPU_REQUEST"] == "requests.cpu"
    assert "ZTUNNEL_RESOURCE_CPU_LIMIT" not in plain
    limited = render("ztun", 'resources={"limits": {"cpu": "2"}}', 'env={"ZTUNNEL_CPU_LIMIT": 1}').env()
    assert limited["ZTUNNEL_RESOURCE_CPU_LIMIT"] == "limits.cpu" and limited["ZTUNNEL_CPU_LIMIT"] == "1"


def test_crl(render):
    objects = render("ztun", 'peerCaCrl={"enabled": true}')
    path = objects.env()["CRL_PATH"]
    mount = max((mount for mount in objects.container()["volumeMounts"]
                 if path.startswith(mount["mountPath"] + "/")), key=lambda mount: len(mount["mountPath"]))
    volume, = [v for v in objects.pod()["spec"]["volumes"] if v["name"] == mount["name"]]
    assert volume["configMap"] == {"name": "istio-ca-crl"}
    assert "CRL_PATH" not in render("ztun").env()


def test_seccomp(render):
    objects = render("ztun", 'seccompInstall={"enabled": true}')
    assert objects.container()["securityContext"]["seccompProfile"] == {
        "type": "Localhost", "localhostProfile": "ztun.json"}
    init, = objects.pod()["spec"]["initContainers"]
    assert init["image"] == objects.container()["image"]
    assert init["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    profile = json.loads(objects["ConfigMap"]["data"]["seccomp.json"])
    names = [name for group in profile["syscalls"] for name in group["names"]]
    assert {"io_uring_setup", "io_uring_enter", "io_uring_register", "setns"} <= set(names)
    assert len(set(names)) == len(names)
    assert not {"mount", "umount2", "ptrace", "bpf", "init_module", "kexec_load", "unshare", "keyctl",
                "pivot_root", "process_vm_writev", "perf_event_open", "reboot"} & set(names)
    # Installed for waypoints, while ztun has another one.
    other = render("ztun", 'seccompInstall={"enabled": true}', 'seccompProfile={"type": "Unconfined"}')
    assert other.container()["securityContext"]["seccompProfile"] == {"type": "Unconfined"}
    assert "seccompProfile" not in render("ztun").container()["securityContext"]

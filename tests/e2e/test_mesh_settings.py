# SPDX-License-Identifier: Apache-2.0
"""Settings under ztunnel's names, from the environment alone: how istiod is found and trusted, what
ProxyConfig says, and what cannot be had."""

import json
import os
import subprocess

import pytest
from lablib import ZTUN, wait_until
from mesh.fixtures import shown  # noqa: F401
from mesh.istiod import NAME, Root
from mesh.topology import Mesh
from mesh.xds import ADDRESS, Discovery, Own, workload

FLAGS = [f"--{name}=127.0.0.1:0" for name in ("admin", "metrics", "readiness")]


@pytest.fixture(scope="module")
def mesh():
    made = Mesh(1)
    istiod = made.istiod = Discovery(made, where="node1", address="10.77.0.1")
    try:
        pod = made.pod("client", 1)
        node = made.own = made.nodes["own"] = Own(made, pod)
        node.source_args = node.ca_args = []
        istiod.set(ADDRESS, workload(pod))
        istiod.start()
        yield made
        made.gauges_are_zero()
    finally:
        bad = made.stop()
        istiod.stop()
    assert not bad, "\n".join(bad)


@pytest.fixture
def started(mesh):
    """(settings) -> the ztun that has them. Those that all have: where istiod is, and its token."""
    node, istiod = mesh.own, mesh.istiod

    def start(env, *args, wait=True):
        if node.process is not None:
            node.end()
        url = f"https://{istiod.address}:{istiod.port}"
        base = {"INSTANCE_IP": mesh.pods["client"].ip, "XDS_ADDRESS": url, "CA_ADDRESS": url,
                "ALT_XDS_HOSTNAME": NAME, "ALT_CA_HOSTNAME": NAME, "AUTH_TOKEN": istiod.token_file}
        node.env = {k: str(v) for k, v in {**base, **env}.items() if v is not None}
        node.start(*args, wait=wait)
        return node

    yield start
    istiod.tls_root, istiod.tls_name = istiod.root, NAME


def config(node):
    return node.config_dump()["config"]


@pytest.mark.main
def test_roots(mesh, started):
    """As PEM, as the machine's own, and as a file; with a token as it is, and by the address."""
    pem, istiod = mesh.istiod.root.pem, mesh.istiod
    node = started({"XDS_ROOT_CA": pem, "CA_ROOT_CA": pem, "AUTH_TOKEN": "the.token.itself"})
    assert istiod.connected(1)[0].metadata["authorization"] == "Bearer the.token.itself"
    assert istiod.requests[-1].metadata["authorization"] == "Bearer the.token.itself"
    shown = config(node)
    assert shown["xdsRootCert"] == shown["caRootCert"] == "PEM"
    assert "the.token.itself" not in json.dumps(node.config_dump())
    node = started({"XDS_ROOT_CA": "SYSTEM", "CA_ROOT_CA": "SYSTEM",
                    "SSL_CERT_FILE": istiod.roots_file})
    assert config(node)["xdsRootCert"] == "SYSTEM"
    # ALT_XDS_HOSTNAME is one more name, not the only one.
    istiod.tls_name = istiod.address
    istiod.restart()
    node = started({"XDS_ROOT_CA": istiod.roots_file, "CA_ROOT_CA": istiod.roots_file})
    assert config(node)["caRootCert"] == str(istiod.roots_file)


def test_roots_of_others(mesh, started):
    """Whom only the machine trusts is not trusted with PEM, and the other way round."""
    istiod = mesh.istiod
    istiod.tls_root = Root("strangers")
    istiod.restart()
    file = istiod.dir / "strangers.pem"
    istiod.put(file, istiod.tls_root.pem)
    pem = istiod.root.pem
    node = started({"XDS_ROOT_CA": pem, "CA_ROOT_CA": "SYSTEM", "SSL_CERT_FILE": file}, wait=False)

    def problem():
        return "as configured" in node.get("/healthz/ready", 15021)[1]

    wait_until(lambda: node.log(message="certificate issued"), 10, "the CA is trusted")
    wait_until(problem, 10, "the source is not")
    assert not istiod.streams
    istiod.tls_root = istiod.root
    istiod.restart()
    node.wait_ready()


def test_proxy_config(mesh, started):
    """ProxyConfig has defaults: the environment counts before it, and flags before both."""
    istiod = mesh.istiod
    roots = {"XDS_ROOT_CA": istiod.roots_file, "CA_ROOT_CA": istiod.roots_file}
    proxy = {"discoveryAddress": f"{istiod.address}:{istiod.port}", "concurrency": 1,
             "binaryPath": "/usr/local/bin/envoy",
             "proxyMetadata": {"ISTIO_META_ONE": "config", "TWO": "config"}}
    node = started({**roots, "XDS_ADDRESS": None, "PROXY_CONFIG": json.dumps(proxy),
                    "ISTIO_META_ONE": "environment",
                    "ISTIO_METAJSON_THREE": '{"a": [1]}'})
    shown = config(node)
    assert shown["numWorkerThreads"] == 1
    assert shown["xdsAddress"] == proxy["discoveryAddress"]
    metadata = istiod.connected(1)[0].asks[0].metadata
    assert metadata["ONE"] == "environment" and metadata["TWO"] == "config"
    assert "THREE" in metadata
    node = started({**roots, "PROXY_CONFIG": "{concurrency: 1, statsPort: 15120}",
                    "ZTUNNEL_WORKER_THREADS": 2}, "--metrics=127.0.0.1:15020")
    assert config(node)["numWorkerThreads"] == 2
    assert config(node)["statsAddr"] == "127.0.0.1:15020"


def test_dns_proxy_addr(mesh, started):
    istiod = mesh.istiod
    node = started({"XDS_ROOT_CA": istiod.roots_file, "CA_ROOT_CA": istiod.roots_file,
                    "ISTIO_META_DNS_PROXY_ADDR": "localhost:15153"}, "--dns-capture=true")
    assert config(node)["dnsProxyPort"] == 15153
    rules = mesh.run("client", "nft", "list", "ruleset", text=True).stdout
    assert "15153" in rules and "15053" not in rules


BAD = {
    "proxy": ({"ENABLE_PROXY": "false"}, "ENABLE_PROXY"),
    "fake-ca": ({"FAKE_CA": "true"}, "--ca-dir"),
    "local-xds": ({"LOCAL_XDS_PATH": "/x.yaml"}, "--config"),
    "tls12": ({"TLS12_ENABLED": "true"}, "TLS12_ENABLED"),
    "port-reuse": ({"INPOD_PORT_REUSE": "false"}, "INPOD_PORT_REUSE"),
    "proxy-config": ({"PROXY_CONFIG": "concurrency: [2]"}, "PROXY_CONFIG: concurrency: expected"),
    "dns-address": ({"ISTIO_META_DNS_PROXY_ADDR": "10.0.0.1:53"}, "expected localhost:PORT"),
    "dns-port": ({"ISTIO_META_DNS_PROXY_ADDR": "localhost:15008"}, "expected localhost:PORT"),
    "limit": ({"ZTUNNEL_RESOURCE_CPU_LIMIT": "none"}, "ZTUNNEL_RESOURCE_CPU_LIMIT"),
}


@pytest.mark.parametrize("name", BAD)
def test_refused(tmp_path, name):
    """What is set and cannot be had ends ztun, with what to do."""
    env, text = BAD[name]
    done = subprocess.run([ZTUN, "--config", tmp_path, "--ca-dir", tmp_path / "ca", "--node", "n",
                           *FLAGS], env={**os.environ, **env}, capture_output=True, text=True,
                          timeout=20, check=False)
    assert done.returncode == 2 and text in done.stderr, done


def test_within_kubernetes(tmp_path):
    """Where nothing is said, istiod is source and CA; an empty address says that it is not."""
    base = {**os.environ, "KUBERNETES_SERVICE_HOST": "10.0.0.1"}
    for env, code, text in (({}, 1, "discovery cannot begin"),
                            ({"XDS_ADDRESS": ""}, 2, "--xds-address is required"),
                            ({"CA_ADDRESS": ""}, 2, "--ca-dir or --ca-address is required")):
        # Metadata that are none end it before anybody is looked for.
        env = {**env, "ISTIO_METAJSON_X": "["}
        done = subprocess.run([ZTUN, "proxy", "ztunnel", "--node", "n", *FLAGS], cwd=tmp_path,
                              env={**base, **env}, capture_output=True, text=True, timeout=20,
                              check=False)
        assert done.returncode == code and text in done.stdout + done.stderr, done
        assert code == 2 or "https://istiod.istio-system.svc:15012" in done.stdout, done

# SPDX-License-Identifier: Apache-2.0
"""Envoy as HBONE client and as HBONE server, configured as Istio's gateways and waypoints are."""

import json
import os
import subprocess

from lablib import wait_until
from mesh.topology import read_all

TYPE = "type.googleapis.com/envoy.extensions."


def tls_context(kind, credentials, **more):
    common = {
        "alpn_protocols": ["h2"],
        "tls_params": {"tls_minimum_protocol_version": "TLSv1_3",
                       "tls_maximum_protocol_version": "TLSv1_3"},
        "tls_certificates": [{"certificate_chain": {"filename": str(credentials.cert)},
                              "private_key": {"filename": str(credentials.key)}}],
        "validation_context": {"trusted_ca": {"filename": str(credentials.root)}}}
    sans = more.pop("sans", None)
    if sans:
        common["validation_context"]["match_typed_subject_alt_names"] = [
            {"san_type": "URI", "matcher": {"exact": s}} for s in sans]
    return {"name": "envoy.transport_sockets.tls", "typed_config": {
        "@type": f"{TYPE}transport_sockets.tls.v3.{kind}", "common_tls_context": common, **more}}


def address(ip, port):
    return {"socket_address": {"address": ip, "port_value": port}}


def cluster(name, ip, port, **more):
    return {"name": name, "type": "STATIC", "connect_timeout": "5s", "load_assignment": {
        "cluster_name": name, "endpoints": [{"lb_endpoints": [
            {"endpoint": {"address": address(ip, port)}}]}]}, **more}


def listener(name, ip, port, filter_name, config, **more):
    return {"name": name, "address": address(ip, port), "filter_chains": [{
        "filters": [{"name": filter_name, "typed_config": config}], **more}]}


def client(listen, target, authority, credentials, sans):
    """A TCP listener whose connections become CONNECT streams to `target`'s port 15008."""
    h2 = {"@type": f"{TYPE}upstreams.http.v3.HttpProtocolOptions",
          "explicit_http_config": {"http2_protocol_options": {"allow_connect": True}}}
    return [listener("plain", "0.0.0.0", listen, "envoy.filters.network.tcp_proxy", {
        "@type": f"{TYPE}filters.network.tcp_proxy.v3.TcpProxy", "stat_prefix": "plain",
        "cluster": "hbone", "tunneling_config": {"hostname": authority}})], \
        [cluster("hbone", target, 15008, typed_extension_protocol_options={
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": h2},
            transport_socket=tls_context("UpstreamTlsContext", credentials, sans=sans))]


def server(ip, credentials, to_port):
    """CONNECT on 15008 with client certificates, ended here: bytes go to a local port."""
    config = {
        "@type": f"{TYPE}filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "hbone", "codec_type": "HTTP2", "stream_idle_timeout": "0s",
        "http2_protocol_options": {"allow_connect": True},
        "upgrade_configs": [{"upgrade_type": "CONNECT"}],
        "http_filters": [{"name": "envoy.filters.http.router", "typed_config": {
            "@type": f"{TYPE}filters.http.router.v3.Router"}}],
        "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [{
            "match": {"connect_matcher": {}},
            "route": {"cluster": "local", "timeout": "0s", "upgrade_configs": [
                {"upgrade_type": "CONNECT", "connect_config": {}}]}}]}]}}
    return [listener("hbone", ip, 15008, "envoy.filters.network.http_connection_manager", config,
                     transport_socket=tls_context("DownstreamTlsContext", credentials,
                                                  require_client_certificate=True))], \
        [cluster("local", "127.0.0.1", to_port)]


class Envoy:
    def __init__(self, program, mesh, where, listeners, clusters):
        self.mesh, self.where = mesh, where
        config = {"static_resources": {"listeners": listeners, "clusters": clusters},
                  "admin": {"address": address("127.0.0.1", 19000)}}
        self.log = mesh.dir / f"envoy-{where}.log"
        with open(self.log, "wb") as log:
            self.process = mesh.popen(
                where, program, "--config-yaml", json.dumps(config), "--disable-hot-restart",
                "--concurrency", "1", "--log-level", os.environ.get("ENVOY_LOG", "warning"), stdin=subprocess.DEVNULL,
                stdout=log, stderr=subprocess.STDOUT)
        wait_until(self.is_live, 20, "Envoy is live")

    def is_live(self):
        if self.process.poll() is not None:
            raise RuntimeError(self.log.read_text()[-2000:])
        with self.mesh.connect(self.where, ("127.0.0.1", 19000), 1) as conn:
            conn.sendall(b"GET /ready HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            return b"LIVE" in read_all(conn)

    def stop(self):
        self.process.terminate()
        self.process.wait(10)

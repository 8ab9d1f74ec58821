# SPDX-License-Identifier: Apache-2.0
"""Configurations of Envoy: a plain reverse proxy, a waypoint as Istio sets one up (CONNECT ended on
15008, HTTP on an internal listener, CONNECT again towards the pod's 15008), and the two halves of a
pair that carries TCP in HBONE."""

EXT = "type.googleapis.com/envoy.extensions."
HCM = EXT + "filters.network.http_connection_manager.v3.HttpConnectionManager"
NO_LIMITS = {"thresholds": [{"max_connections": 1 << 30, "max_pending_requests": 1 << 30,
                             "max_requests": 1 << 30, "max_retries": 1 << 30}]}


def socket(ip, port):
    return {"socket_address": {"address": ip, "port_value": port}}


def internal(name):
    return {"envoy_internal_address": {"server_listener_name": name}}


def cluster(name, address, **more):
    return {"name": name, "type": "STATIC", "connect_timeout": "10s",
            "circuit_breakers": NO_LIMITS, "load_assignment": {
                "cluster_name": name, "endpoints": [{"lb_endpoints": [
                    {"endpoint": {"address": address}}]}]}, **more}


def internal_cluster(name, listener):
    """What goes there stays in the process."""
    return cluster(name, internal(listener), transport_socket={
        "name": "envoy.transport_sockets.internal_upstream", "typed_config": {
            "@type": EXT + "transport_sockets.internal_upstream.v3.InternalUpstreamTransport",
            "transport_socket": {"name": "envoy.transport_sockets.raw_buffer", "typed_config": {
                "@type": EXT + "transport_sockets.raw_buffer.v3.RawBuffer"}}}})


def access_log(path):
    return [{"name": "envoy.access_loggers.file", "typed_config": {
        "@type": EXT + "access_loggers.file.v3.FileAccessLog", "path": path}}]


def http_filter(stat_prefix, route, log_path=None, **more):
    config = {
        "@type": HCM, "stat_prefix": stat_prefix, "stream_idle_timeout": "0s",
        "http_filters": [{"name": "envoy.filters.http.router", "typed_config": {
            "@type": EXT + "filters.http.router.v3.Router"}}],
        "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [route],
                                            "include_request_attempt_count": True}]}, **more}
    if log_path:
        config["access_log"] = access_log(log_path)
    return {"name": "envoy.filters.network.http_connection_manager", "typed_config": config}


def app_route():
    """The default retries of Istio."""
    return {"match": {"prefix": "/"}, "route": {"cluster": "app", "timeout": "0s", "retry_policy": {
        "retry_on": "connect-failure,refused-stream,unavailable,cancelled", "num_retries": 2}}}


def bootstrap(listeners, clusters):
    return {"static_resources": {"listeners": listeners, "clusters": clusters},
            "admin": {"address": socket("127.0.0.1", 19000)},
            "bootstrap_extensions": [{"name": "envoy.bootstrap.internal_listener", "typed_config": {
                "@type": EXT + "bootstrap.internal_listener.v3.InternalListener"}}]}


def plain(ip, port, backend, log_path):
    filters = [http_filter("plain", app_route(), log_path)]
    return bootstrap([{"name": "plain", "address": socket(ip, port), "tcp_backlog_size": 4096,
                       "filter_chains": [{"filters": filters}]}],
                     [cluster("app", socket(*backend))])


def tls(kind, certs, **more):
    common = {
        "alpn_protocols": ["h2"],
        "tls_params": {"tls_minimum_protocol_version": "TLSv1_3",
                       "tls_maximum_protocol_version": "TLSv1_3"},
        "tls_certificates": [{"certificate_chain": {"filename": certs["cert"]},
                              "private_key": {"filename": certs["key"]}}],
        "validation_context": {"trusted_ca": {"filename": certs["root"]}, **more.pop("check", {})}}
    return {"name": "envoy.transport_sockets.tls", "typed_config": {
        "@type": f"{EXT}transport_sockets.tls.v3.{kind}", "common_tls_context": common, **more}}


def waypoint(backend, backend_id, certs, log_path):
    """`backend` is the pod's (address, port); its tunnel is on port 15008 there."""
    h2 = {"allow_connect": True, "initial_stream_window_size": 1 << 20,
          "initial_connection_window_size": 16 << 20}
    connect = {"match": {"connect_matcher": {}}, "route": {
        "cluster": "main", "timeout": "0s",
        "upgrade_configs": [{"upgrade_type": "CONNECT", "connect_config": {}}]}}
    terminate = {
        "name": "connect_terminate", "address": socket("0.0.0.0", 15008),
        "filter_chains": [{
            "filters": [http_filter("terminate", connect, codec_type="HTTP2",
                                    http2_protocol_options=h2,
                                    upgrade_configs=[{"upgrade_type": "CONNECT"}])],
            "transport_socket": tls("DownstreamTlsContext", certs,
                                    require_client_certificate=True)}]}
    main = {"name": "main", "internal_listener": {},
            "filter_chains": [{"filters": [http_filter("main", app_route(), log_path)]}]}
    originate = {"name": "connect_originate", "internal_listener": {}, "filter_chains": [{
        "filters": [{"name": "envoy.filters.network.tcp_proxy", "typed_config": {
            "@type": EXT + "filters.network.tcp_proxy.v3.TcpProxy", "stat_prefix": "originate",
            "cluster": "hbone", "tunneling_config": {"hostname": f"{backend[0]}:{backend[1]}"}}}]}]}
    options = {"@type": EXT + "upstreams.http.v3.HttpProtocolOptions",
               "explicit_http_config": {"http2_protocol_options": h2}}
    check = {"match_typed_subject_alt_names": [{"san_type": "URI",
                                                "matcher": {"exact": backend_id}}]}
    hbone = cluster("hbone", socket(backend[0], 15008), typed_extension_protocol_options={
        "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": options},
        transport_socket=tls("UpstreamTlsContext", certs, check=check))
    return bootstrap([terminate, main, originate],
                     [internal_cluster("main", "main"), internal_cluster("app", "connect_originate"),
                      hbone])


# ---- A pair for TCP ------------------------------------------------------------------------------

# Windows as large as those that ztun grows to.
PAIR_H2 = {"allow_connect": True, "initial_stream_window_size": 4 << 20,
           "initial_connection_window_size": 16 << 20}
HOSTS = {"requests": "requests.bench:80", "bulk": "bulk.bench:81"}


def pair_client(ip, ports, server, certs, log_path):
    """TCP listeners `ports` {name: port}; each connection becomes a CONNECT stream to `server`."""
    options = {"@type": EXT + "upstreams.http.v3.HttpProtocolOptions",
               "explicit_http_config": {"http2_protocol_options": PAIR_H2}}
    hbone = cluster("hbone", socket(server, 15008), typed_extension_protocol_options={
        "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": options},
        transport_socket=tls("UpstreamTlsContext", certs))
    listeners = [{"name": name, "address": socket(ip, port), "tcp_backlog_size": 4096,
                  "filter_chains": [{"filters": [{
                      "name": "envoy.filters.network.tcp_proxy", "typed_config": {
                          "@type": EXT + "filters.network.tcp_proxy.v3.TcpProxy",
                          "stat_prefix": name, "cluster": "hbone", "idle_timeout": "0s",
                          "access_log": access_log(log_path),
                          "tunneling_config": {"hostname": HOSTS[name]}}}]}]}
                 for name, port in ports.items()]
    return bootstrap(listeners, [hbone])


def pair_server(ip, apps, certs, log_path):
    """CONNECT on 15008, ended here; `apps` {name: (ip, port)}."""
    hosts = [{"name": name, "domains": [HOSTS[name]], "routes": [{
        "match": {"connect_matcher": {}}, "route": {
            "cluster": name, "timeout": "0s",
            "upgrade_configs": [{"upgrade_type": "CONNECT", "connect_config": {}}]}}]}
             for name in apps]
    made = http_filter("hbone", {}, log_path, codec_type="HTTP2", http2_protocol_options=PAIR_H2,
                       upgrade_configs=[{"upgrade_type": "CONNECT"}])
    made["typed_config"]["route_config"] = {"virtual_hosts": hosts}
    listener = {"name": "hbone", "address": socket(ip, 15008), "tcp_backlog_size": 4096,
                "filter_chains": [{"filters": [made], "transport_socket": tls(
                    "DownstreamTlsContext", certs, require_client_certificate=True)}]}
    return bootstrap([listener], [cluster(name, socket(*app)) for name, app in apps.items()])

#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# A guided tour of the mesh: two nodes in network namespaces, one ztun each, the objects of
# conf/demo. Each step prints a command, its real output, and checks what it claims; the exit code is
# 0 only if all claims held.
#
#   scripts/demo.sh             comes up, shows, goes down
#   KEEP=1 scripts/demo.sh      leaves the lab up at the end and says how to play with it
#   BIN_DIR=build/bin           where ztun and ztunctl are
set -uo pipefail
cd "$(dirname "$0")/.."

BIN_DIR=${BIN_DIR:-build/bin}
export ZTUN_LAB=demo
ZTUNCTL=$BIN_DIR/ztunctl
LAB_DIR=/run/ztun-lab/$ZTUN_LAB
WORK=$(mktemp -d)
n_step=0
n_failed=0
pids=()

if [[ -t 1 ]]; then
    bold=$'\e[1m' dim=$'\e[2m' red=$'\e[31m' green=$'\e[32m' off=$'\e[0m'
else
    bold='' dim='' red='' green='' off=''
fi

local_() { "$ZTUNCTL" local "$@"; }

finish() {
    local code=$?
    trap - EXIT
    for pid in "${pids[@]}"; do kill "$pid" 2>/dev/null; done
    rm -rf "$WORK"
    if [[ ${KEEP:-0} == 1 && $code == 0 ]]; then
        cat <<EOF

The lab is still up. Try:
  export ZTUN_LAB=$ZTUN_LAB
  $ZTUNCTL local status
  $ZTUNCTL local exec demo/client -- curl -s http://server/
  $ZTUNCTL local exec node1 -- curl -s http://127.0.0.1:15020/metrics
  $ZTUNCTL local logs node2 -f
  $ZTUNCTL local apply -f conf/demo/40-policy.yaml
  $ZTUNCTL local down
EOF
    else
        local_ down
    fi
    exit "$code"
}
trap finish EXIT
trap 'exit 130' INT TERM

step() {
    n_step=$((n_step + 1))
    printf '\n%s%d. %s%s\n' "$bold" "$n_step" "$1" "$off"
    shift
    (($# == 0)) || printf '%s\n' "$@" | sed 's/^/   /'
}

show() { printf '%s   $ %s%s\n' "$dim" "$*" "$off"; }

indent() { cut -c1-"${1:-400}" | sed 's/^/   | /'; }

# run NAME COMMAND...: shows the command and its output, which is then in $WORK/NAME; the command's
# exit code.
run() {
    local name=$1 code
    shift
    show "${@/#$ZTUNCTL/ztunctl}"
    "$@" >"$WORK/$name" 2>&1
    code=$?
    indent <"$WORK/$name"
    return $code
}

# claim TEXT COMMAND...: the claim holds when the command succeeds.
claim() {
    local text=$1
    shift
    if "$@" >/dev/null 2>&1; then
        printf '   %sok%s: %s\n' "$green" "$off" "$text"
    else
        printf '   %sFAILED%s: %s\n' "$red" "$off" "$text"
        n_failed=$((n_failed + 1))
    fi
}

not() { ! "$@"; }

has() { grep -qE -- "$2" "$WORK/$1"; }

# wait_for SECONDS COMMAND...: until it succeeds.
wait_for() {
    local end=$(($(date +%s) + $1))
    shift
    until "$@" >/dev/null 2>&1; do
        (($(date +%s) < end)) || return 1
        sleep 0.1
    done
}

exec_() {
    local where=$1
    shift
    "$ZTUNCTL" local exec "$where" -- "$@"
}

# The log lines of a node's ztun since a mark.
mark() { log_mark=$(local_ logs "$1" | wc -l); }
since_mark() { local_ logs "$1" | tail -n +$((log_mark + 1)); }

log_has() { since_mark "$1" | grep -E -- "$2" | tail -1 >"$WORK/$3" && [[ -s $WORK/$3 ]]; }

((EUID == 0)) || { echo "the demo needs root, for network namespaces" >&2; exit 1; }
for program in ztun ztunctl waypoint; do
    [[ -x $BIN_DIR/$program ]] || { echo "no $BIN_DIR/$program: make build" >&2; exit 1; }
done

# --------------------------------------------------------------------------------------------------
step "Two nodes, five pods, one ztun per node, and a waypoint that has nothing to do yet" \
    "conf/demo is plain Kubernetes YAML. Nodes and pods are network namespaces on this machine;" \
    "the namespace \"demo\" carries istio.io/dataplane-mode: ambient, so its pods are in the mesh."
local_ down >/dev/null
show "ztunctl local up conf/demo --wait"
if ! local_ up conf/demo --images conf/local/images.yaml --wait=30; then
    echo "the lab does not come up"
    exit 1
fi
run status "$ZTUNCTL" local status
claim "both nodes' ztun are ready" test "$(grep -cE '^node[12] .* Ready$' "$WORK/status")" = 2
claim "no pod has a sidecar: every pod runs one container" not has status ' [0-9]+/[2-9] '

# --------------------------------------------------------------------------------------------------
step "A request through the mesh" \
    "The client knows nothing of it: it asks for http://server/, and both versions answer."
for _ in 1 2 3 4 5 6 7 8; do exec_ demo/client curl -sS -m 5 http://server/; done >"$WORK/answers" 2>&1
show "ztunctl local exec demo/client -- curl -s http://server/      (8 times)"
indent <"$WORK/answers"
client_ip=$(exec_ demo/client hostname -I | awk '{print $1}')
claim "all 8 requests were answered" test "$(grep -c '^server v' "$WORK/answers")" = 8
claim "the server sees the client's own address, $client_ip" \
    test "$(grep -c "from $client_ip\$" "$WORK/answers")" = 8

# --------------------------------------------------------------------------------------------------
step "What is on the wire between the nodes" \
    "A capture on node1's only interface, while the client asks with a secret in its request."
secret=secret-$RANDOM$RANDOM
"$ZTUNCTL" local exec node1 -- tcpdump -Z root --immediate-mode -i eth0 -U -s 0 -w "$WORK/wire.pcap" tcp \
    >"$WORK/tcpdump" 2>&1 &
pids+=($!)
wait_for 5 grep -q listening "$WORK/tcpdump"
exec_ demo/client curl -sS -m 5 -H "X-Token: $secret" http://server/headers >"$WORK/echoed"
sleep 0.5
kill "${pids[-1]}" 2>/dev/null
wait "${pids[-1]}" 2>/dev/null
show "tcpdump -i eth0 -w wire.pcap &  curl -H 'X-Token: $secret' http://server/headers"
tcpdump -nr "$WORK/wire.pcap" 2>/dev/null | head -5 | indent 150
claim "the server got the secret" has echoed "$secret"
claim "the capture has packets" grep -qE '[1-9][0-9]* packets? captured' "$WORK/tcpdump"
claim "the secret is nowhere in the capture" not grep -qa "$secret" "$WORK/wire.pcap"
claim "nor is anything that looks like HTTP" not grep -qaE 'HTTP/1|GET /|server v[12]' "$WORK/wire.pcap"
claim "all packets are of tunnels (port 15008)" \
    test -z "$(tcpdump -nr "$WORK/wire.pcap" 'not port 15008' 2>/dev/null)"
claim "they carry TLS records" grep -qaP '\x17\x03\x03' "$WORK/wire.pcap"

# --------------------------------------------------------------------------------------------------
step "Who was it" "The access log of the server's node names the identity that the client proved."
mark node2
exec_ demo/client curl -sS -m 5 http://server/ >/dev/null
wait_for 5 log_has node2 'direction="inbound"' access
show "ztunctl local logs node2 | tail -1"
tr '\t' ' ' <"$WORK/access" | indent 700
claim "the log has the client's SPIFFE identity" \
    has access 'src.identity="spiffe://cluster.local/ns/demo/sa/client"'

# --------------------------------------------------------------------------------------------------
step "A policy by identity" \
    "conf/demo/40-policy.yaml allows the service account demo/client and no one else. Another" \
    "service account, and a pod outside the mesh that has no identity at all, are refused."
mark node2
run denied "$ZTUNCTL" local exec demo/denied -- curl -sS -m 5 http://server/
claim "demo/denied is refused: its connection ends" not has denied '^server v'
run plain "$ZTUNCTL" local exec outside/plain -- curl -sS -m 5 http://server.demo/
claim "outside/plain is refused" not has plain '^server v'
wait_for 5 log_has node2 'sa/denied.*(denied|policy|policies)' refusal
show "ztunctl local logs node2 | grep denied"
tr '\t' ' ' <"$WORK/refusal" | indent 700
claim "the server's node says who, and why" has refusal 'sa/denied.*policies'

# --------------------------------------------------------------------------------------------------
step "A policy change ends a running flow" \
    "A long download runs. The policy then allows only another identity: the flow is closed."
exec_ demo/client curl -sSN -m 60 http://server/stream/60 >"$WORK/stream" 2>&1 &
stream=$!
pids+=("$stream")
wait_for 5 has stream 'tick 3'
claim "the flow runs" has stream 'tick 3'
mark node2
sed 's#/sa/client#/sa/someone-else#' conf/demo/40-policy.yaml >"$WORK/policy.yaml"
run apply "$ZTUNCTL" local apply -f "$WORK/policy.yaml"
wait_for 5 not kill -0 "$stream"
claim "the download has ended" not kill -0 "$stream"
wait "$stream"
claim "and not as if it were complete: curl's exit code is not 0" test $? != 0
tail -2 "$WORK/stream" | indent
wait_for 5 log_has node2 'sa/client.*error=' cut
tr '\t' ' ' <"$WORK/cut" | indent 700
claim "the log says that the policy did it" has cut 'policy|policies'
run apply "$ZTUNCTL" local apply -f conf/demo/40-policy.yaml
claim "with the first policy the client is served again" \
    wait_for 5 exec_ demo/client curl -sSf -m 2 http://server/

# --------------------------------------------------------------------------------------------------
step "Reload and pod deletion under load" \
    "Four clients at once, each request on a new connection, while configuration is applied again" \
    "and again, and the pods of server-v1 and server-v2 are replaced."
run scale "$ZTUNCTL" local scale demo/server-v1 --replicas 2
local_ wait >/dev/null
exec_ demo/client python3 "$PWD/conf/local/apps/load.py" http://server/ 12 4 >"$WORK/load" 2>&1 &
load=$!
pids+=("$load")
sleep 1
old=$(local_ status | awk '$2 ~ /^server-v1/ {print $2; exit}')
for _ in 1 2 3; do
    local_ apply -f conf/demo >/dev/null
    sleep 0.3
done
run delete "$ZTUNCTL" local delete pod "demo/$old"
run restart "$ZTUNCTL" local restart demo/server-v2
wait "$load"
show "load.py http://server/ 12 4"
indent <"$WORK/load"
claim "no request failed" has load '"failed": 0'
claim "there were hundreds" grep -qE '"requests": [0-9]{3,}' "$WORK/load"
claim "the deleted pod has gone" not grep -q "$old " <(local_ status)
local_ wait >/dev/null

# --------------------------------------------------------------------------------------------------
step "Why does a flow go where it goes" "ztunctl explain runs the proxy's own decisions."
run explain "$ZTUNCTL" explain --config "$LAB_DIR/config" --from demo/client --to server.demo:80
claim "it names the service, a tunnel and the policy" has explain 'server'
run explain_denied "$ZTUNCTL" explain --config "$LAB_DIR/config" --from demo/denied --to server.demo:80
claim "and says that demo/denied is refused" has explain_denied 'den(y|ied)|refus'

# --------------------------------------------------------------------------------------------------
step "Metrics" "The names and labels are those of Istio's ztunnel."
show "ztunctl local exec node2 -- curl -s http://127.0.0.1:15020/metrics | grep istio_tcp"
exec_ node2 curl -sS -m 5 http://127.0.0.1:15020/metrics >"$WORK/metrics"
grep -E '^istio_tcp_(connections_opened|sent_bytes)_total' "$WORK/metrics" | head -4 | indent 400
claim "connections are counted by identity" \
    has metrics '^istio_tcp_connections_opened_total\{.*source_principal="spiffe://cluster.local/ns/demo/sa/client"'

# --------------------------------------------------------------------------------------------------
# Requests as demo/client sees them.
ask() { exec_ demo/client curl -sS -m 10 "$@" 2>&1; }
# How many of N requests version V answered: share V N PATH [CURL-OPTION...]
share() {
    local version=$1 n=$2 url=http://server$3
    shift 3
    local urls=()
    for ((i = 0; i < n; i++)); do urls+=("$url"); done
    ask "$@" "${urls[@]}" >"$WORK/share"
    grep -c "^server $version " "$WORK/share"
}
between() { (($1 >= $2 && $1 <= $3)); }

step "HTTP rules: a canary" \
    "So far every flow went straight from node to node. Now come a VirtualService and a" \
    "DestinationRule; the namespace's label ztun.io/use-waypoint: auto sends the service's requests" \
    "through the waypoint from here on."
ask -i http://server/ >"$WORK/direct"
claim "before: the answer is the server's own, no proxy spoke HTTP" not has direct '^server: istio-envoy'
run apply_http "$ZTUNCTL" local apply -f conf/demo-http
claim "the next requests go through the waypoint" \
    wait_for 10 sh -c "$ZTUNCTL local exec demo/client -- curl -sSi -m 5 http://server/ | grep -qi '^server: istio-envoy'"
show "curl -si http://server/"
ask -i http://server/ | indent
n=$(share v2 200 /)
printf '   | of 200 requests v2 answered %s\n' "$n"
claim "10 % of the requests go to v2 (1 to 45 of 200)" between "$n" 1 45
sed 's/weight: 90/weight: 0/; s/weight: 10$/weight: 100/' conf/demo-http/30-routes.yaml >"$WORK/routes.yaml"
exec_ demo/client python3 "$PWD/conf/local/apps/load.py" http://server/ 4 4 >"$WORK/load_http" 2>&1 &
load=$!
pids+=("$load")
sleep 1
run apply_http "$ZTUNCTL" local apply -f "$WORK/routes.yaml"
all_v2() { test "$(share v2 20 /)" = 20; }
claim "weights changed live to 0/100: all requests go to v2" wait_for 5 all_v2
wait "$load"
indent <"$WORK/load_http"
claim "none was lost meanwhile" has load_http '"failed": 0'
run apply_http "$ZTUNCTL" local apply -f conf/demo-http/30-routes.yaml

# --------------------------------------------------------------------------------------------------
step "HTTP rules: match, mirror, fault, retry, ejection" "conf/demo-http/30-routes.yaml has them all."
mostly_v1() { test "$(share v1 20 /)" -ge 12; }
wait_for 5 mostly_v1
claim "a header match: all of jason's requests go to v2" \
    test "$(share v2 20 / -H 'end-user: jason')" = 20
run fault "$ZTUNCTL" local exec demo/client -- curl -sS -w ' (%{http_code})\n' -m 5 http://server/abort
claim "a fault: 500, and the text says whose" has fault '^fault filter abort \(500\)'
mirrored() { local_ logs "demo/$v2_pod" | grep -c "GET /mirror/$1 " | grep -qx 5; }
v2_pod=$(local_ status | awk '$2 ~ /^server-v2/ {print $2; exit}')
token=$RANDOM
claim "a mirror: v1 answers all 5 requests" test "$(share v1 5 /mirror/$token)" = 5
claim "and v2 got a copy of each" wait_for 5 mirrored $token
n=$(share v1 20 /unless/v2 -H 'x-retry: yes')
printf '   | v2 fails each request; with retries v1 answered %s of 20\n' "$n"
claim "retries hide a failing version" test "$n" = 20
fails() { ask -o /dev/null -w '%{http_code}' http://server/unless/v2 | grep -qx 503; }
claim "without retries its errors are seen, one is enough" wait_for 15 fails
sleep 0.2
n=$(share v1 20 /unless/v2)
claim "then it is ejected: the next 20 requests are all well" test "$n" = 20

# --------------------------------------------------------------------------------------------------
step "And back" "Without HTTP rules the service takes the direct path again."
run delete_http "$ZTUNCTL" local delete -f conf/demo-http/30-routes.yaml -f conf/demo-http/20-subsets.yaml
direct_again() { ask -i http://server/ >"$WORK/direct" && has direct '^server v' && not has direct '^server: istio-envoy'; }
claim "new requests are direct" wait_for 10 direct_again

# --------------------------------------------------------------------------------------------------
printf '\n'
if ((n_failed > 0)); then
    printf '%s%d claims did not hold.%s\n' "$red" "$n_failed" "$off"
    exit 1
fi
printf '%sEvery claim held.%s\n' "$green" "$off"
exit 0

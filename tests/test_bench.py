# SPDX-License-Identifier: Apache-2.0
"""The bench suite's own arithmetic: rounds, goals without figures, runs that go on, plots."""

import pathlib
import sys
import xml.etree.ElementTree as tree
from types import SimpleNamespace

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "bench"))

import run  # noqa: E402 pylint: disable=wrong-import-position
from suite import (  # noqa: E402 pylint: disable=wrong-import-position
    catalogue, checks, goals, l7_goals, parts, plan, plots, stats, windows, wire)
from suite.procs import BenchError  # noqa: E402 pylint: disable=wrong-import-position


def context(results=None):
    said = []
    return SimpleNamespace(results=results or {}, reasons={}, paths={}, warnings=[], say=said.append,
                           said=said)


def test_rounds_take_out_what_drifts_evenly():
    # A B B A on a machine that gets slower by one with each measurement
    assert stats.ratio([1, 4, 5, 8], [2, 3, 6, 7])[0] == 1
    assert stats.ratio([1, 2, 3], [2, 4, 6])[0] == 0.5  # single rounds stay as they are
    assert stats.confidence(6) > 0.96 > 0.94 > stats.confidence(5) > 0.93


def test_a_hello_of_two_segments_is_read_whole():
    extensions = bytes.fromhex("0033046411ec0460") + b"k" * 1120 + bytes.fromhex("002b00020304")
    body = b"\x03\x03" + b"r" * 32 + b"\x20" + b"s" * 32 + b"\x13\x01\x00" + \
        len(extensions).to_bytes(2, "big") + extensions
    record = b"\x16\x03\x03" + (len(body) + 4).to_bytes(2, "big") + b"\x02" + \
        len(body).to_bytes(3, "big") + body
    hellos = wire.Hellos()
    assert hellos.add(b"client", b"\x16\x03\x01\x00\x10\x01") is None
    assert hellos.add(b"server", record[:1208]) is None
    want = {"cipher": "TLS_AES_128_GCM_SHA256", "version": "TLS 1.3", "group": "X25519MLKEM768"}
    assert hellos.add(b"server", record[1208:] + b"\x14\x03\x03") == want
    assert wire.Hellos().add(b"server", record) == want


def test_every_goal_has_a_part_and_a_row():
    table = run.all_parts()
    assert {g.part for g in catalogue.GOALS} <= set(table.all)
    assert {g.line for g in catalogue.GOALS} == set(catalogue.LINES)
    rows = goals.goal_rows(context(), l7_goals.MAKERS, [])
    assert [r["id"] for r in rows] == [g.id for g in catalogue.GOALS]
    assert len({r["id"] for r in rows}) == len(rows)
    for row in rows:
        assert (row["ours"], row["met"]) == (None, None)
        assert row["note"].startswith("not measured: ")


def flow_results(ours, peer):
    return {"node-flows": {"ztun-node": [{"cpu_us": v} for v in ours],
                           "ztunnel": [{"cpu_us": v} for v in peer]}}


def row_of(goal_id, results):
    rows = goals.goal_rows(context(results), l7_goals.MAKERS, list(results))
    return next(r for r in rows if r["id"] == goal_id)


def test_a_goal_is_met_or_missed():
    assert row_of("node-flow-pooled", flow_results([60, 64], [100, 100]))["met"] is True
    missed = row_of("node-flow-pooled", flow_results([66, 66], [100, 100]))
    assert missed["met"] is False and missed["ratio"] == 0.66
    alone = row_of("node-flow-pooled", flow_results([60, 60], []))
    assert alone["met"] is None and alone["ours"] == 60 and "no ratio" in alone["note"]


def xds_results(cpu, p99_high, turns, server_cpu_s=0.1):
    loads = [{"cpu_s": v, "seconds": 1.0, "bytes": 1 << 25, "server_cpu_s": server_cpu_s,
              "pss_kb": 100 << 10} for v in cpu]
    return {"scale-xds": {
        "probe": {"load_cpu_s": 0.4, "change_us": 20.0, "change_max_us": 90.0, "changes": 200},
        "loads": loads, "cpu_s": stats.median(cpu), "pss_kb": 100 << 10, "change_us": 700.0,
        "p99_ratio": 1.1, "p99_low": 1.0, "p99_high": p99_high, "pairs": 20,
        "long_turns": {"quiet": 0, "event": 0}, "long_config_turns": turns}}


def test_a_mesh_by_xds_has_its_rows():
    good = xds_results([0.5, 0.55, 0.7], 1.2, 0)
    assert [row_of(g, good)["met"] for g in ("scale-xds", "scale-xds-change", "scale-xds-turns",
                                             "scale-xds-p99")] == [True] * 4
    assert row_of("scale-xds", good)["ours"] == 0.55
    assert row_of("scale-xds-change", good)["ours"] == 0.02
    bad = xds_results([0.6, 0.7, 0.8], 1.3, 1)
    assert [row_of(g, bad)["met"] for g in ("scale-xds", "scale-xds-turns", "scale-xds-p99")] == \
        [False] * 3
    assert not next(v for v in checks.verdicts(xds_results([0.5], 1.2, 0, server_cpu_s=0.96))
                    if v["part"] == "scale-xds")["ok"]


def test_a_tunnel_with_x25519_has_a_floor_of_that_group():
    one = {"cpu_us": [400, 350], "kb": [9.0, 8.0], "bare_us": [16, 4],
           "handshake": {"client_us": 250, "server_us": 240},
           "x25519_server_us": 240, "x25519_client_us": 339,
           "x25519_handshake": {"client_us": 210, "server_us": 196}}
    results = {"l4-tunnels": {"tls": {"group": "X25519MLKEM768"}, "tunnels": 256, "rounds": [one]}}
    assert row_of("l4-tunnel-server-x25519", results)["f"] == 1.2
    assert row_of("l4-tunnel-server", results)["f"] == 350 / 244
    assert row_of("l4-tunnel-client", results)["f"] == 400 / 266
    client = row_of("l4-tunnel-client-x25519", results)
    assert (client["f"], client["met"]) == (1.5, False)


def test_a_short_cut_is_in_no_goal():
    table = run.all_parts()
    parts_of_it = table.select(["shortcut"], False)
    assert parts_of_it == ["shortcut-requests-1000", "shortcut-bulk-1"]
    assert not set(parts_of_it) & {*table.select([], False), *(g.part for g in catalogue.GOALS)}
    one = {"busy_s": 2.0, "server_cpu_s": 0.5, "load": {"own_cpu_s": 0.5, "requests": 1000}}
    assert parts.machine_us({"bpf-node": [one, one]}) == {"bpf-node": 1000}


def test_the_floor_saves_a_row():
    row = goals.row("l4-bulk-1", ours=[1.0, 1.0], peer=[1.2, 1.2], floor=[0.9, 0.9])
    assert row["met"] is True and row["ratio"] > row["goal"]
    assert goals.row("l4-bulk-1", ours=[1.0], peer=[1.2], floor=[0.5])["met"] is False


def test_parts_by_name():
    table = run.all_parts()
    assert table.select(["l4-bulk"], False) == ["l4-bulk-1", "l4-bulk-8"]
    assert table.select(["matrix"], False) == list(table.all)
    assert set(table.select([], True)) < set(table.select([], False)) < set(table.all)
    lines = {g.line for g in catalogue.GOALS if g.part in table.select([], True)}
    assert lines >= set(range(1, 9))  # QUICK=1 keeps a row of each line
    with pytest.raises(BenchError):
        table.select(["l4-bulk", "nonsense"], False)


def test_a_run_goes_on(tmp_path):
    ctx = context({"l4-flows": {"ztun": [1]}})
    state = plan.State(str(tmp_path), ["commit"], True)
    state.save(ctx, "l4-flows")
    later = context()
    assert plan.State(str(tmp_path), ["commit"], True).load(later) == ["l4-flows"]
    assert later.results == ctx.results
    assert plan.State(str(tmp_path), ["other"], True).load(context()) == []
    assert plan.State(str(tmp_path), ["commit"], False).load(context()) == []
    state.end()
    assert plan.State(str(tmp_path), ["commit"], True).load(context()) == []


def test_self_check_says_when_it_is_not_even():
    def verdict(a, b):
        return checks.self_verdicts({"self": {"x": {"a": a, "b": b, "series": "ztun"}}})[0]
    assert verdict([1.0, 1.1, 0.9, 1.0], [1.1, 1.0, 1.0, 0.9])["ok"]
    assert not verdict([1.2, 1.2, 1.3, 1.3], [1.0, 1.0, 1.0, 1.0])["ok"]


def test_a_busy_generator_is_found():
    ctx = context()
    result = {"load": {"own_cpu_s": 0.99, "rate": 1000, "send_late_p50_us": 1, "p50_us": 100},
              "wall_s": 1.0, "server_cpu_s": 0.2, "cpu_halves_s": [0.5, 0.5]}
    checks.check_load(ctx, "l4-requests-saturated", "ztun", result, 0)
    assert [v["what"] for v in checks.load_verdicts(ctx.results) if not v["ok"]] == \
        ["load generator, share of a core"]


def test_p99_of_windows():
    def window(slow):
        return {"load": {"slots": [[100.0, 980], [1000.0 if slow else 110.0, 20]]}}
    ratio, low, high = windows.bootstrap([(window(False), window(True))] * 5, 0.99)
    assert ratio == low == high == pytest.approx(1000 / 110)


@pytest.mark.parametrize("ours, machine, met", [
    (1.2, 2.0, True),   # the goal holds, whatever the machine does
    (1.6, 1.5, None),   # as much as programs do that only compute
    (1.6, 1.2, False),  # they would have met it
    (3.0, 1.5, False)])  # far more than they do
def test_p99_beside_a_change(ours, machine, met):
    def p99(high):
        return {"p99_ratio": high - 0.1, "p99_low": high - 0.2, "p99_high": high, "pairs": 20,
                "quiet_p99_us": 100, "event_p99_us": 100 * high}
    made = goals.p99_beside_change("scale-p99", dict(p99(ours), machine=p99(machine),
                                                     change_cpu_s=0.02), "note")
    assert made["met"] is met
    assert "20.0 ms" in made["note"] and ("no verdict" in made["note"]) == (met is None)


def storm_run(p99, relay_p99, own_turns=0, probe_late_us=100, probe_long=0):
    def ratio(value):
        return {"p99_ratio": value, "p99_low": value, "p99_high": value, "quiet_p99_us": 100,
                "event_p99_us": 100 * value, "pairs": 3}
    def kinds(quiet, event):
        return {"quiet": quiet, "event": event}
    machine = {"steal_s": kinds(0, 0), "run_delay_s": kinds(0, 0.1),
               "probe_long": kinds(probe_long, 3), "probe_long_cpu": kinds(0, 0),
               "probe_late_p99_us": kinds(probe_late_us, 900)}
    return dict(ratio(p99), relay=ratio(relay_p99), core_share=0.25, machine=machine,
                turns=kinds(0, 9), turns_cpu=kinds(1, 1 + own_turns), before_kb=[100, 100],
                after_kb=[105, 101])


def storm_rows(normal, real_time=None):
    storm = {"normal": normal, "real_time": real_time} if real_time else {"normal": normal}
    return {r["id"]: r for r in goals.storm_rows(context({"l4-storm": storm}))}


def test_a_storm_on_a_quiet_machine():
    rows = storm_rows(storm_run(1.2, 1.0), storm_run(1.5, 1.0))
    assert (rows["l4-storm-p99"]["ours"], rows["l4-storm-p99"]["met"]) == (1.2, True)
    assert storm_rows(storm_run(1.4, 1.0))["l4-storm-p99"]["met"] is False
    # what the storm does to bare relays is not the proxy's
    assert storm_rows(storm_run(1.4, 1.5))["l4-storm-p99"]["met"] is None
    assert rows["l4-memory-storm"]["ours"] == pytest.approx(1.05)


@pytest.mark.parametrize("noise", [{"probe_late_us": 1500}, {"probe_long": 1}])
def test_a_storm_on_a_machine_that_others_use(noise):
    rows = storm_rows(storm_run(3.0, 1.0, **noise), storm_run(1.1, 1.0))
    assert (rows["l4-storm-p99"]["ours"], rows["l4-storm-p99"]["met"]) == (1.1, True)
    assert storm_rows(storm_run(3.0, 1.0, **noise))["l4-storm-p99"]["met"] is False


def test_turns_that_compute_count_whatever_the_machine_does():
    rows = storm_rows(storm_run(1.0, 1.0), storm_run(1.0, 1.0))
    assert (rows["l4-storm-turns"]["ours"], rows["l4-storm-turns"]["met"]) == (0, True)
    rows = storm_rows(storm_run(1.0, 1.0, probe_long=5), storm_run(1.0, 1.0, own_turns=2))
    assert (rows["l4-storm-turns"]["ours"], rows["l4-storm-turns"]["met"]) == (2, False)


def test_plots_are_svg(tmp_path):
    rounds = [{"load": {"rate": 1000.0}, "cpu_us": 100.0}]
    names = plots.write(str(tmp_path / "r"), {
        "histograms": {"l4-requests-1000": {"ztun": {"100.0": 990, "400.0": 10}}},
        "l4-requests-1000": {"direct": rounds, "ztun": rounds},
        "l4-bulk-1": {"ztun": [{"cpu_s_per_gb": 1.0}]}, "l4-bulk-8": {"ztun": [{"cpu_s_per_gb": 2.0}]},
        "l4-memory": {"before_kb": [4000, 5000], "waves": [{"count": 10, "during_kb": [5000, 6000]}]}})
    assert names == ["r-latency-l4-requests-1000.svg", "r-cpu-rate-l4.svg", "r-cpu-streams-l4.svg",
                     "r-memory.svg"]
    for name in names:
        assert tree.parse(tmp_path / name).getroot().tag.endswith("svg")

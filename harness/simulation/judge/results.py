"""The results of a run: its verdict, and results.json. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Any

from harness.clauses import all_clauses
from harness.profile import WRITTEN, Profile
from harness.simulation.history import CANNOT_JUDGE, COMPLETE, History
from harness.simulation.judge.figures import RECEIVERS, Figures
from harness.simulation.judge.judgement import KINDS, Judgement
from harness.simulation.judge.reached import reached, required
from harness.simulation.scenario.scenario import MOMENTS
from harness.wording import counted, visible

LATE = 100.0
"""Maximum of the 99th percentile of the harness's own delay, in ms. If this percentile is higher,
the run is INVALID, because the harness itself was too slow."""

PASS, FAIL, INVALID, UNKNOWN = "pass", "fail", "invalid", "unknown"
UNDECIDED = "undecided"
"""Verdict for a run without violations that has not reached all pairs in the scenario's `reach`."""

EXIT_STATUS = {PASS: 0, FAIL: 1, INVALID: 2, UNKNOWN: 2, UNDECIDED: 2}
PASSED_IN_DIALECT = 4
"""Exit status of a pass if a check of a MUST clause took another form, as in `conform`."""

SHOWN = 5
"""Maximum number of causes of violations shown on a terminal."""


def results(
    history: History, judgement: Judgement, figures: Figures, profile: Profile | None = None
) -> dict[str, Any]:
    """Return the content of results.json: latencies and lag in ms, memory in bytes, times in s.

    profile: dialect in which the history was judged; None: the dialect of PROTOCOL.md.
    """
    header = history.header
    profile = profile or WRITTEN
    forms = profile.forms()
    table = reached(history)
    pairs = required(history, table)
    verdict, why = verdict_of(history, judgement, figures)
    never = [pair for pair, times in pairs.items() if not times]
    if verdict == PASS and never:
        verdict, why = UNDECIDED, f"never reached: {', '.join(never)}"
    return {
        "verdict": verdict,
        "why": why,
        **{name: header.get(name) for name in ("scenario", "seed", "target", "seconds")},
        "startup_seconds": header.get("startup"),
        "end": history.end or "cut short",
        "dialect": profile.dialect(),
        "forms": {clause: forms[clause] for clause in KINDS.values() if clause in forms},
        "clients": figures.most,
        "sessions": figures.sessions,
        "messages": judgement.messages,
        "deliveries": judgement.deliveries,
        **{kind: judgement.counts[kind] for kind in KINDS},
        "undecided": judgement.undecided,
        "latency_ms": {
            "corrected": figures.corrected,
            "raw": figures.raw,
            "by_population": figures.by_population,
        },
        "schedule_lag_ms": figures.lag,
        "target_costs": figures.costs,
        "faults": dict(figures.faults),
        "left_out": header.get("left_out", {}),
        "reached": table,
        "required": pairs,
        "causes": [
            {
                "kind": cause.kind,
                "clause": cause.clause,
                "cause": cause.cause,
                "count": cause.count,
                "clients": len(cause.who),
                "first": cause.first,
                "last": cause.last,
                "example": cause.example,
            }
            for cause in sorted(judgement.causes.values(), key=lambda cause: cause.first)
        ],
        "violations": [asdict(violation) for violation in judgement.violations],
    }


def verdict_of(history: History, judgement: Judgement, figures: Figures) -> tuple[str, str]:
    """Return the verdict, and the reason unless it is PASS.

    If the history contradicts itself or the judgement, the run is INVALID: the profile does not
    describe the server, or the harness has a defect. Otherwise, a run with a violation is a FAIL,
    even if the harness was late. A run without a violation is INVALID if the harness failed or was
    late.
    """
    if contradiction := judgement.contradiction or figures.contradiction:
        return INVALID, contradiction
    if judgement.counts:
        counts = ", ".join(f"{n} {kind}" for kind, n in sorted(judgement.counts.items()))
        return FAIL, counts
    if judgement.cannot_judge:
        return INVALID, judgement.cannot_judge
    if history.end.startswith(CANNOT_JUDGE):
        return INVALID, history.end
    if history.end != COMPLETE:
        return UNKNOWN, history.end or "the history was cut short"
    lag = figures.lag["p99"]
    if lag is not None and lag > LATE:
        return INVALID, (
            f"the harness itself was late: it sent 1 in 100 messages {lag:.0f} ms late or more"
        )
    if not judgement.deliveries:
        return UNKNOWN, "no client received a message"
    return PASS, ""


def exit_status(results: Mapping[str, Any]) -> int:
    return PASSED_IN_DIALECT if passed_in_dialect(results) else EXIT_STATUS[results["verdict"]]


def passed_in_dialect(results: Mapping[str, Any]) -> bool:
    """Return True if the run passed, but a MUST clause was judged as it reads in the dialect."""
    return results["verdict"] == PASS and any(
        all_clauses()[clause].level == "MUST" for clause in results["forms"]
    )


def lines(results: Mapping[str, Any]) -> Iterator[str]:
    """Yield the lines that describe the results on a terminal."""
    why = f": {results['why']}" if results["why"] else ""
    yield f"{results['verdict']}{' in the dialect' if passed_in_dialect(results) else ''}{why}"
    if results["dialect"]:
        yield f"dialect: {visible('; '.join(results['dialect']))}"
    if results["verdict"] == FAIL and results["end"] != COMPLETE:
        yield f"the run is incomplete: {results['end']}"
    yield (
        f"{counted(results['clients'], 'member')} at once, "
        f"{counted(results['sessions'], 'connection')}, {counted(results['messages'], 'message')}, "
        f"{counted(results['deliveries'], 'delivery', 'deliveries')}, "
        f"{results['undecided']:,} undecided"
    )
    if results["startup_seconds"] is not None:
        yield f"start-up: the first client had joined after {results['startup_seconds']:.2f} s"
    yield from _latencies(results["latency_ms"])
    lag, costs = results["schedule_lag_ms"], results["target_costs"]
    yield f"delay of the harness: {_ms(lag['p50'])} (p50), {_ms(lag['p99'])} (p99) ms"
    if costs:
        yield (
            f"the target used {costs['cpu_seconds']:.1f} s of processor time, at most "
            f"{costs['memory_most'] / (1 << 20):.1f} MiB and {costs['descriptors_most']:.0f} "
            f"descriptors"
        )
    if results["faults"]:
        faults = (f"{name} × {times}" for name, times in sorted(results["faults"].items()))
        yield f"faults: {', '.join(faults)}"
    yield from _reached(results["reached"])
    for fault, reason in results["left_out"].items():
        yield f"left out: {fault}: {reason}"
    for cause in results["causes"][:SHOWN]:
        times = f" × {cause['count']:,}" if cause["count"] > 1 else ""
        yield f"{cause['kind']}{times} ({cause['clause']}): {cause['cause']}"
        yield f"  {'first ' if times else ''}at {cause['first']:.3f} s: {cause['example']}"
    if len(results["causes"]) > SHOWN:
        yield f"and {counted(len(results['causes']) - SHOWN, 'more cause')}"


def _latencies(latencies: Mapping[str, Any]) -> Iterator[str]:
    """Yield a row for each receiver: corrected latencies, and raw latencies in parentheses."""
    yield f"{'ms until received by':22}{'p50':>16}{'p99':>16}{'p99.9':>16}{'max':>16}"
    for receiver in RECEIVERS:
        corrected, raw = latencies["corrected"][receiver], latencies["raw"][receiver]
        cells = (f"{_ms(corrected[name])} ({_ms(raw[name])})" for name in corrected)
        yield f"  {receiver:20}" + "".join(f"{cell:>16}" for cell in cells)
    populations = latencies["by_population"]
    for name, theirs in populations.items() if len(populations) > 1 else ():
        cells = (_ms(value) for value in theirs["last"].values())
        yield f"  {f'last, from {name}':20}" + "".join(f"{cell:>16}" for cell in cells)
    yield "  (in parentheses: raw, as if each client waited until its last message was received)"


def _reached(table: Mapping[str, Any]) -> Iterator[str]:
    """Yield a row for each fault: how often it struck, and how often at each moment."""
    if not table:
        return
    yield f"{'faults that struck while':24}" + "".join(f"{moment:>12}" for moment in MOMENTS)
    for fault, counts in table.items():
        cells = "".join(f"{counts[moment]:>12,}" for moment in MOMENTS)
        missed = f"  ({counts['missed']:,} found no process)" if counts["missed"] else ""
        yield f"  {fault + ' × ' + format(counts['times'], ','):22}{cells}{missed}"


def _ms(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"

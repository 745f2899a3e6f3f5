"""Rows of a fleet's report from what became of its tasks, and what changed since the last run."""

from __future__ import annotations

from collections.abc import Mapping

from converter.core.foreign import Json, JsonObject
from converter.core.text import printable
from converter.fleets.tasks import FleetRow, Status, Task
from converter.fleets.work import Outcome
from converter.report.summary import total_size, worst_error

GROWTH = 2.0
"""Factor from which another error is a change."""


def row_of(task: Task, key: str, outcome: Outcome, attempts: int, before: JsonObject) -> FleetRow:
    """The row of a task that was run; `before` is its summary of the last run, empty if there was none."""
    summary: Mapping[str, Json] = outcome.summary
    return FleetRow(
        task.name, task.source, task.kind, key, "failed" if outcome.exit_code else "proven", outcome.exit_code,
        printable(outcome.message), str(summary.get("directory", "")), outcome.worker, attempts, outcome.seconds,
        outcome.memory, tuple(summary.get("comparisons", ())), tuple(summary.get("artifacts", ())),
        summary.get("timings", {}), change_of(before, {**summary, "exit_code": outcome.exit_code}),
    )  # fmt: skip


def row_not_run(task: Task, key: str, status: Status, summary: JsonObject, state: JsonObject) -> FleetRow:
    """The row of a task that was not run: proven before, or with a problem, which `summary` says."""
    seconds, memory = state.get("seconds", 0.0), state.get("memory", 0)
    return FleetRow(
        task.name, task.source, task.kind, key, status, int(summary.get("exit_code", 0)),
        printable(str(summary.get("message", ""))), str(summary.get("directory", "")),
        seconds=seconds if isinstance(seconds, int | float) else 0.0, memory=memory if isinstance(memory, int) else 0,
        comparisons=tuple(summary.get("comparisons", ())), artifacts=tuple(summary.get("artifacts", ())),
        timings=summary.get("timings", {}),
    )  # fmt: skip


def change_of(before: JsonObject, now: JsonObject) -> str:
    """What changed between two summaries of a task, as a few words; "" if nothing did."""
    if not before:
        return "new"
    if bool(before.get("exit_code")) != bool(now.get("exit_code")):
        return "fails now" if now.get("exit_code") else "failed before"
    parts = []
    old, new = worst_error(before), worst_error(now)
    if old is not None and new is not None and not old / GROWTH <= new <= old * GROWTH:
        parts.append(f"error {old:.1e} to {new:.1e}")
    if (was := total_size(before)) != (size := total_size(now)):
        parts.append(f"size {was:,} to {size:,} bytes")
    return ", ".join(parts)

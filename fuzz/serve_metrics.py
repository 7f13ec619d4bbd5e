# SPDX-License-Identifier: GPL-2.0-only
"""The service's numbers for Prometheus: as an answer, and as a file for a node's collector."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry, generate_latest, write_to_textfile
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

PREFIX = "cleanrace_"
GAUGES = {
    "interleavings": "Distinct interleavings, estimated by HyperLogLog.",
    "edges": "Edges of the kernel side that were reached.",
    "pairs": "Interleaving pairs that the corpus reaches.",
    "inputs": "Inputs in the corpus folder.",
    "signatures": "Distinct findings that were met, known ones as well.",
    "memory": "Resident bytes of all processes.",
}


class _Told:
    """One snapshot, as the client library wants it."""

    def __init__(self, told: dict[str, Any]) -> None:
        self.told = told

    def collect(self) -> Iterator[Metric]:
        """All metrics."""
        told = self.told
        yield _gauge("up", "1 while the service runs.", float(bool(told.get("running"))))
        if not told:
            return
        totals = told["totals"]
        yield CounterMetricFamily(
            f"{PREFIX}schedules", "Schedules that were run.", value=totals["schedules"]
        )
        yield CounterMetricFamily(
            f"{PREFIX}seconds", "Seconds of all searches.", value=totals["seconds"]
        )
        yield _gauge("schedules_per_second", "Of the last half minute.", told["rate"])
        for name, text in GAUGES.items():
            unit = "_bytes" if name == "memory" else ""
            yield _gauge(f"{name}{unit}", text, totals[name])
        yield _gauge("waiting_findings", "Not minimised yet.", len(told["waiting"]))
        yield _gauge("paused", "1 while searching is paused.", float(told["paused"]))
        yield _gauge("disk_full", "1 while something waits for room.", float(told["full"]))
        yield _gauge("troubles", "Things that a person should look at.", len(told["health"]))
        yield _gauge("snapshot_timestamp_seconds", "When this was so.", told["at"])
        new = told["new_at"]
        if new is not None:
            yield _gauge("new_timestamp_seconds", "When the last new thing was met.", new)
        yield from self._methods()

    def _methods(self) -> Iterator[Metric]:
        rows = self.told["methods"]
        for name, text in (
            ("schedules", "Schedules of a method."),
            ("seconds", "Seconds of a method's searches."),
            ("deaths", "Processes that died."),
            ("findings", "Findings that the method was the first to meet."),
        ):
            family = CounterMetricFamily(f"{PREFIX}method_{name}", text, labels=["method"])
            for row in rows:
                family.add_metric([row["name"]], row[name])
            yield family
        shares = GaugeMetricFamily(
            f"{PREFIX}method_share", "Its right to the time, of 1.", labels=["method"]
        )
        for row in rows:
            shares.add_metric([row["name"]], row["share"])
        yield shares


def _gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(f"{PREFIX}{name}", text, value=value)


def _registry(told: dict[str, Any]) -> CollectorRegistry:
    registry = CollectorRegistry()
    registry.register(_Told(told))
    return registry


def text(told: dict[str, Any]) -> bytes:
    """As /metrics answers."""
    return generate_latest(_registry(told))


def write(path: Path, told: dict[str, Any]) -> None:
    """As a file, which is there whole or not at all. OSError."""
    write_to_textfile(str(path), _registry(told))

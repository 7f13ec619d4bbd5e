# SPDX-License-Identifier: GPL-2.0-only
"""What the service tells the dashboard, as one value that the database keeps."""

import os
import shutil
import time
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from cleanrace import Summary
from fuzz import serve_state
from fuzz.serve_posts import memory_of

if TYPE_CHECKING:
    from fuzz.serve_supervisor import Supervisor

RATE_SECONDS = 30.0  # that schedules per second are counted over
ROOM_BYTES = 64 << 20  # with less the disk is nearly full


def told(service: "Supervisor", total: Summary, *, running: bool) -> dict[str, Any]:
    """What the dashboard shows, from the database alone."""
    state = service.so_far()
    first, last = service.recent[0], service.recent[-1]
    for one in service.recent:
        if last[0] - one[0] <= RATE_SECONDS:
            first = one
            break
    seconds = last[0] - first[0]
    shares = state.shares(service.searches)
    memory = memory_of(os.getpid()) + sum(post.memory for post in service.posts.values())
    schedules = total.schedules - first[1]
    return {
        "at": time.time(),
        "running": running,
        "paused": state.paused,
        "full": service.books.full,
        "pid": os.getpid(),
        "starts": state.starts,
        "uptime": time.monotonic() - service.begin,
        "new_at": state.new_at,
        "target": {
            "name": service.target.name,
            "version": service.target.version,
            "sha256": service.target.sha256,
            "compiler": str(service.target.info["compiler"]),
            "build": service.target.build_id,
            "edges": service.target.info["edges"],
            "planted": list(service.options.planted),
        },
        "findings_folder": str(service.options.findings.resolve()),
        "shift": service.options.shift,
        "memory_max": service.options.memory,
        "canary": service.canary,
        "rate": schedules / seconds if seconds > 0 and running else 0.0,
        "fresh": {
            "schedules": schedules,
            "interleavings": last[2] - first[2],
            "seconds": seconds,
        },
        "totals": {
            "schedules": total.schedules,
            "interleavings": round(total.interleavings),
            "edges": len(service.edges),
            "pairs": state.coverage["pairs"],
            "inputs": state.coverage["inputs"],
            "signatures": len(state.signatures),
            "memory": memory,
            "seconds": state.seconds,
        },
        "violations": total.violations,
        "methods": [
            {"name": name, "share": shares[name]} | asdict(state.method(name))
            for name in service.searches
        ],
        "absent": service.absent,
        "workers": [post.told() for post in service.posts.values()],
        "waiting": [
            {
                "signature": one.finding.signature,
                "met": one.met,
                "saved": one.saved,
                "reserved": one.reserved,
            }
            for one in service.pipeline.waiting.values()
        ],
        "stuck": service.pipeline.stuck,
        "checks": state.checks,
        "unseen": {
            "signatures": asdict(serve_state.unseen(state.signatures.values(), state.shifts)),
            "edges": asdict(serve_state.unseen(state.edges.values(), state.shifts)),
        },
        "exhausted": len(state.exhausted),
        "exchange": service.exchanged if service.options.exchange is not None else None,
        "health": health(service),
    }


def health(service: "Supervisor") -> list[str]:
    """What a person should look at, in words."""
    lines = [line for line, _, _ in service.books.troubles.values()]
    if service.commit_failed:
        lines.append(f"not committed: {service.commit_failed}")
    lines += [
        f"{post.name} died {post.deaths} times in a row, soon after its start"
        for post in service.posts.values()
        if post.deaths > 1
    ]
    lines += [
        f"{family} could not be minimised: {why}" for family, why in service.pipeline.stuck.items()
    ]
    room = shutil.disk_usage(service.layout.root).free
    if room < ROOM_BYTES:
        lines.append(f"little room is left on the disk: {room >> 20} MiB")
    return list(dict.fromkeys(lines))

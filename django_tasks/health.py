"""``python -m django_tasks.health FILE [--ready]``: is the worker alive?

Exit code 0 for yes, 1 for no, 2 for misuse.

FILE is the worker's ``--healthcheck-file``. Alive: its supervisor and janitor go round, and so do every slot that
runs no task and the beat of ``-B``; how long a task runs is no matter of health. ``--ready``: the broker has answered
lately, too.

This module imports neither Django nor the rest of the package; a probe runs every few seconds. The layout is that of
``worker/shared.py``; in every version it begins with the eight bytes and the version that are looked at here first.
"""

from __future__ import annotations

import struct
import sys
import time

#: Of the layout.
VERSION = 1
#: Seconds: how old a sign of the supervisor or the janitor, of an idle slot, of the broker may be.
PROCESS_AGE, SLOT_AGE, BROKER_AGE = 15.0, 30.0, 20.0
#: And of the beat: its supervisor replaces one that hangs after 60, which mostly is all that it takes.
BEAT_AGE = 90.0


def problem(data: bytes, now: float, ready: bool) -> str | None:
    """Return what is wrong with the worker whose page this is; None if nothing is.

    Args:
        data: the page.
        now: seconds of the monotonic clock.
        ready: whether the broker counts, too.
    """
    if data[:8] != b"CELERIAC" or len(data) < 128:
        return "the file is not a worker's health file"
    version = struct.unpack_from("=q", data, 8)[0]
    if version != VERSION:
        return (
            f"the health file has layout {version} and this probe reads {VERSION}: worker and probe are of different "
            "versions of django_tasks; restart the worker after an upgrade"
        )
    supervisor, janitor, broker = (struct.unpack_from("=d", data, offset)[0] for offset in (24, 40, 48))
    if now - supervisor > PROCESS_AGE:
        return f"the supervisor has not gone round for {now - supervisor:.0f} s"
    if now - janitor > PROCESS_AGE:
        return f"the janitor has not gone round for {now - janitor:.0f} s"
    (beat,) = struct.unpack_from("=d", data, 104)
    if beat and now - beat > BEAT_AGE:
        return f"the beat has not gone round for {now - beat:.0f} s"
    for number in range(struct.unpack_from("=q", data, 56)[0]):
        state, _, pid, tick = struct.unpack_from("=BB6xqd", data, 128 + 512 * number)
        frozen = struct.unpack_from("=d", data, 128 + 512 * number + 40)[0]
        if state == 2 and now - tick > SLOT_AGE:
            return f"the loop of process {pid} has not gone round for {now - tick:.0f} s"
        if state in (2, 3) and frozen:
            return f"process {pid} has been stopped for {now - frozen:.0f} s"
    if ready and now - broker > BROKER_AGE:
        return "the broker has not answered yet" if not broker else f"no answer of the broker for {now - broker:.0f} s"
    return None


def main(arguments: list[str]) -> int:
    """Look at a health file."""
    paths = [argument for argument in arguments if argument != "--ready"]
    if len(paths) != 1 or paths[0].startswith("-"):
        print("usage: python -m django_tasks.health FILE [--ready]")
        return 2
    try:
        with open(paths[0], "rb") as file:
            data = file.read()
    except OSError as exc:
        print(f"no worker: {exc}")
        return 1
    wrong = problem(data, time.monotonic(), "--ready" in arguments)
    print(wrong or "ok")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

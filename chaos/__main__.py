"""``python -m chaos SCENARIO``: break things, then audit. Exit code 0 when every promise was kept.

    python -m chaos faults --database postgresql --seconds 60 --seed 1

``python -m chaos SCENARIO --help`` shows what else a scenario takes.
"""

from __future__ import annotations

import argparse
import signal
import sys
from types import ModuleType

from chaos import beat, beside, delayed, failover, faults, idle, locked, long, mixed, outage, snapshot

SCENARIOS: dict[str, ModuleType] = {
    "faults": faults,
    "beat": beat,
    "beside": beside,
    "delayed": delayed,
    "failover": failover,
    "idle": idle,
    "locked": locked,
    "long": long,
    "mixed": mixed,
    "outage": outage,
    "snapshot": snapshot,
}


def main(argv: list[str]) -> int:
    """Play one scenario."""
    parser = argparse.ArgumentParser(prog="python -m chaos")
    scenarios = parser.add_subparsers(required=True, metavar="SCENARIO")
    for name, module in SCENARIOS.items():
        what = (module.__doc__ or "").partition("\n")[0]
        scenario = scenarios.add_parser(name, help=what, description=what)
        scenario.add_argument("--keep", action="store_true", help="keep the logs and the record")
        module.add_arguments(scenario)
        scenario.set_defaults(play=module.play)
    options = parser.parse_args(argv)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped"))  # so that all that was started is ended
    return 0 if options.play(options) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""The demo: ``python -m example_project.demo``.

Starts a worker and a web server, imports a sample of real airports, shows what becomes of it, and serves the site until
Ctrl-C. With ``--once`` it stops after the sample and needs no web server. With ``--broker redis`` messages and
results are on a Redis that it finds or starts.

Exit code 0 if all went well, 1 if something failed, 130 after a Ctrl-C before the sample was through.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from django_tasks.conf import mask_url
from example_project import redis_server
from example_project.processes import (
    DemoFailed,
    Interrupted,
    Program,
    catch_ctrl_c,
    free_port,
    pause,
    shown,
    start,
    wait_for_port,
)

#: Seconds that the sample may take.
TIMEOUT = 60


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the demo; return the exit code."""
    options = parse(arguments)
    catch_ctrl_c()
    try:
        with ExitStack() as stack:
            run(options, stack)
    except DemoFailed as failure:
        print(f"\nThe demo failed: {failure}", file=sys.stderr)
        return 1
    except Interrupted:
        print("\nInterrupted; everything is stopped.")
        return 130
    return 0


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Return the options from the command line."""
    parser = argparse.ArgumentParser(prog="python -m example_project.demo", description="A demo of django-celeriac.")
    parser.add_argument("--once", action="store_true", help="import the sample, check the result and stop")
    brokers = "where messages and results are: the database, or a Redis (REDIS_URL, localhost:6379, or one of its own)"
    parser.add_argument("--broker", choices=("database", "redis"), default="database", help=brokers)
    parser.add_argument("--port", type=int, default=8000, help="of the web server (default: 8000)")
    return parser.parse_args(arguments)


def run(options: argparse.Namespace, stack: ExitStack) -> None:
    """Go through the demo's steps; ``stack`` stops what they start."""
    port = free_port(options.port)
    if options.broker == "redis":
        os.environ["EXAMPLE_REDIS_URL"] = redis_server.find_or_start(stack)
    settings = set_up_django(port)
    # Only now: it needs Django to be set up.
    from example_project import walkthrough

    walkthrough.prepare()
    pause(0)
    logs = Path(settings.VAR_DIR)
    worker = launch(stack, "worker", logs, ["runworker", "-c", "2", "-l", "INFO", "-Q", "celery,mail", "--beat"])
    programs = [worker]
    if not options.once:
        programs.append(launch(stack, "web server", logs, ["runserver", "--noreload", f"127.0.0.1:{port}"]))
        wait_for_port(port, programs[-1], seconds=20)
    introduce(programs, settings, None if options.once else settings.SITE_URL)
    csv_import = walkthrough.follow(walkthrough.send_sample(), worker, TIMEOUT)
    walkthrough.print_result(csv_import)
    walkthrough.print_schedule(worker, TIMEOUT)
    if options.once:
        walkthrough.check_pages(csv_import)
    else:
        print(f"The report's page:   {settings.SITE_URL}{csv_import.get_absolute_url()}")
        serve(programs)


def set_up_django(port: int) -> Any:
    """Load the example's settings, here and (through the environment) in the programs started later; return them."""
    # Loading Django takes a while. Here, Ctrl-C does not end it with a traceback.
    import django
    from django.conf import settings

    os.environ["DJANGO_SETTINGS_MODULE"] = "example_project.settings"
    os.environ["EXAMPLE_SITE_URL"] = f"http://127.0.0.1:{port}"
    os.environ["EXAMPLE_FLAKY_MAIL"] = "1"
    django.setup()
    os.environ["EXAMPLE_VAR"] = str(settings.VAR_DIR)
    return settings


def launch(stack: ExitStack, name: str, logs: Path, arguments: list[str]) -> Program:
    """Start a program that ``stack`` will stop."""
    program = start(name, arguments, logs / f"{name.replace(' ', '-')}.log")
    stack.callback(program.stop)
    return program


def introduce(programs: list[Program], settings: Any, address: str | None) -> None:
    """Print what runs and where to look."""
    if address:
        print(f"Open this page:      {address}/")
        print(f"Admin:               {address}/admin/  (user demo, password demo: for your own machine only)")
    if redis_url := os.environ.get("EXAMPLE_REDIS_URL"):
        print(f"Messages, results:   {mask_url(redis_url)}")
    print(f"Database and files:  {shown(Path(settings.VAR_DIR))}")
    for program in programs:
        print(f"{program.name.capitalize() + ' log:':<20} {shown(program.log)}")
    print(f"\nA worker imports {shown(Path(settings.DATA_DIR) / 'airports.csv')}, then mails a report.")
    print("Two things are staged: a pause after each hundred rows, so that there is progress to see,")
    print("and a mail server that fails at the first attempt, so that there is a retry to see.", flush=True)


def serve(programs: list[Program]) -> None:
    """Keep the programs running until Ctrl-C."""
    print("\nUpload a file of your own, or stop with Ctrl-C.", flush=True)
    try:
        while True:
            for program in programs:
                program.check()
            pause(0.5)
    except Interrupted:
        print("\nStopping.", flush=True)


if __name__ == "__main__":
    sys.exit(main())

"""BullMQ, whose programs run on Node: jobs are sent, and results waited for, by ``bullmq_client.js``."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from benchmarks.systems.redis_store import RedisSystem

HERE = Path(__file__).parent
MODULES = Path(sys.prefix) / "node_modules"


class BullMQ(RedisSystem):
    """A worker does up to a hundred jobs at a time. It keeps all jobs that have ended, with their results."""

    bulk_size = 10_000
    has_get = True
    client_program: subprocess.Popen[str]

    def versions(self, package: str | None) -> dict[str, str]:
        """Return the versions of BullMQ and Node."""
        node = subprocess.run(["node", "--version"], capture_output=True, text=True, check=True).stdout.strip()
        return {"": json.loads((MODULES / "bullmq" / "package.json").read_text())["version"], "Node": node.strip("v")}

    def prepare(self) -> None:
        """Start the program that sends."""
        os.environ["NODE_PATH"] = str(MODULES)
        command = ["node", str(HERE / "bullmq_client.js")]
        self.client_program = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def _do(self, action: str, argument: float) -> None:
        assert self.client_program.stdin is not None
        assert self.client_program.stdout is not None
        print(json.dumps([action, argument]), file=self.client_program.stdin, flush=True)
        if not self.client_program.stdout.readline():
            raise RuntimeError(f"bullmq_client.js ended with {self.client_program.wait()}")

    def enqueue_some(self, count: int) -> None:
        self._do("add", count)

    def enqueue_bulk(self, count: int) -> None:
        self._do("bulk", count)

    def get_stamp(self, sent: float) -> None:
        self._do("stamp", sent)

    def finished(self) -> int:
        return int(self.client.zcard("bull:benchmarks:completed"))

    def worker(self, processes: int) -> list[list[str]]:
        # The environment of workers is the measuring process's.
        return [["env", f"NODE_PATH={MODULES}", "node", str(HERE / "bullmq_worker.js")]] * processes


SYSTEM = BullMQ()

"""Who looks after a farm as an operator would: workers that have ended, or stand still, are started again."""

from __future__ import annotations

import time

from chaos import record
from chaos.farm import Farm
from chaos.plan import Breaker

#: Seconds between two looks; after which a worker that begins nothing is restarted while calls are sent.
LOOK, PATIENCE = 0.05, 30.0
#: Seconds since the last call that count as sending.
SENDING = 1.0


class Attendant:
    """Restarts workers, and undoes faults that are over.

    Attributes:
        ended: how often a worker was started again since it had ended by itself.
        stuck: the same since it had begun nothing for 30 s, though calls were sent and nothing was broken that hit it.
    """

    def __init__(self, farm: Farm, breaker: Breaker) -> None:
        self.farm = farm
        self.breaker = breaker
        self.ended = self.stuck = 0
        self._record = farm.record.open()
        self._last = dict.fromkeys(farm.workers, time.time())
        self._sent = 0.0

    def look(self) -> None:
        """Wait for a moment, and do what there is to do."""
        time.sleep(LOOK)
        self.breaker.mend()
        for event in record.read_on(self._record):
            if event.kind == "start":
                self._last[event.detail] = event.time
            elif event.kind == "sent":
                self._sent = event.time
        for name, worker in list(self.farm.workers.items()):
            if worker.poll() is not None:
                self.ended += 1
                self.farm.replace(name)
            elif self._is_stuck(name, time.time()):
                self.stuck += 1
                self._last[name] = time.time()
                self.farm.replace(name)

    def _is_stuck(self, name: str, now: float) -> bool:
        faults = (each for each in self.breaker.faults if each.lasts and (each.hits_all or name in each.nodes))
        since = max([self._last[name], *(fault.end or now for fault in faults)])
        return now - self._sent < SENDING and now - since > PATIENCE

    def close(self) -> None:
        """Close the record."""
        self._record.close()

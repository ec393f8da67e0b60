"""Results in one of Django's caches, under Celery's keys."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import fields
from typing import Any

from django.core.cache import caches

from django_tasks.backends.base import ResultBackend
from django_tasks.conf import parse_url
from django_tasks.exceptions import EncodeError, OperationalError
from django_tasks.outcome import TaskMeta
from django_tasks.serialization import Encoded

KEY_PREFIX = "celery-task-meta-"
_FIELDS = {field.name for field in fields(TaskMeta)}
#: What ``RESULT_EXTENDED`` is about. (Celery counts the retries among them; here a resumed task needs them.)
_EXTENDED = {"name", "args", "kwargs", "queue", "worker"}
_PROBE = "celery-task-probe"
_PLAIN = re.compile("[!-~]*")


class CacheBackend(ResultBackend):
    """Results in the cache ``django-cache://alias`` (``default`` when no alias is given).

    A cache cannot compare and set, so of two ends of one task that are stored in the same instant the later may stay;
    and a cache may drop a result before its time.
    """

    def __init__(self, url: str, **options: Any) -> None:
        super().__init__(url, **options)
        self.alias = parse_url(url)[1] or "default"

    def store(self, metas: Sequence[TaskMeta]) -> list[TaskMeta]:
        """Write what has not ended yet, all in one call of the cache."""
        known = self.get([meta.task_id for meta in metas])
        winners: dict[str, TaskMeta] = {task_id: meta for task_id, meta in known.items() if meta.ready}
        fresh: dict[str, Any] = {}
        result = []
        for meta in metas:
            winner = winners.setdefault(meta.task_id, meta) if meta.ready else winners.get(meta.task_id, meta)
            if winner is meta:
                fresh[meta.task_id] = meta
            result.append(winner)
        self._write([meta for meta in fresh.values() if meta.ready], self.expires)
        self._write([meta for meta in fresh.values() if not meta.ready], self.expires_unfinished)
        return result

    def _write(self, metas: list[TaskMeta], timeout: float | None) -> None:
        """Write all, or say whether the cache is away or does not take them."""
        kept = _FIELDS if self.extended else _FIELDS - _EXTENDED
        values = {_key(meta.task_id): {name: getattr(meta, name) for name in kept} for meta in metas}
        error = self._set_many(values, timeout)
        if error and self._answers():
            error = self._set_many(values, timeout)  # maybe it has just come back
            if error:
                names = ", ".join(f"{meta.name}[{meta.task_id}]" for meta in metas[:5])
                raise EncodeError(
                    f"The cache {self.alias!r} does not take the results of {names} ({error}). Maybe they are larger "
                    "than it allows (memcached: 1 MB): return less, or raise its limit."
                )
        if error:
            raise OperationalError(f"Cache {self.alias!r}: {error}")

    def _set_many(self, values: dict[str, Any], timeout: float | None) -> str:
        """Return what went wrong; nothing as a rule."""
        try:
            failed = caches[self.alias].set_many(values, timeout=timeout) if values else []
        except Exception as exc:  # each client has its own
            return f"{type(exc).__name__}: {exc}"
        return f"{len(failed)} of {len(values)} values were not stored" if failed else ""

    def _answers(self) -> bool:
        """Whether the cache takes and gives back something small."""
        try:
            caches[self.alias].set(_PROBE, "1", timeout=60)
            return bool(caches[self.alias].get(_PROBE) == "1")
        except Exception:  # each client has its own
            return False

    @contextmanager
    def _errors_translated(self) -> Iterator[None]:
        try:
            yield
        except Exception as exc:  # each client has its own
            raise OperationalError(f"Cache {self.alias!r}: {type(exc).__name__}: {exc}") from exc

    def get(self, task_ids: Sequence[str]) -> dict[str, TaskMeta]:
        """Read ids in one call of the cache."""
        with self._errors_translated():
            found = caches[self.alias].get_many([_key(task_id) for task_id in task_ids])
        # What looks otherwise was written by somebody else: Celery uses the same keys.
        ours = [data for data in found.values() if isinstance(data, dict) and {"task_id", "status"} <= data.keys()]
        return {data["task_id"]: _from_dict(data) for data in ours}

    def forget(self, task_ids: Sequence[str]) -> None:
        """Delete ids."""
        with self._errors_translated():
            caches[self.alias].delete_many([_key(task_id) for task_id in task_ids])

    def close(self) -> None:
        """Close the cache's connections."""
        caches[self.alias].close()


def _key(task_id: str) -> str:
    """Return the key of an id; memcached takes no spaces in keys, and 250 characters with Django's own prefix."""
    if len(task_id) > 150 or not _PLAIN.fullmatch(task_id):
        return KEY_PREFIX + hashlib.sha256(task_id.encode("utf-8", "surrogatepass")).hexdigest()
    return KEY_PREFIX + task_id


def _from_dict(data: dict[str, Any]) -> TaskMeta:
    meta = TaskMeta(**{name: value for name, value in data.items() if name in _FIELDS})  # a later version may have more
    if meta.result is not None:
        meta.result = Encoded(*meta.result)
    return meta

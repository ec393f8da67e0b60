"""Files that command lines name."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from django_tasks.exceptions import ImproperlyConfigured


@contextmanager
def written(option: str, path: str | None) -> Iterator[None]:
    """Let an error of the file system, in a block that writes a file, say which option named it.

    Raises:
        ImproperlyConfigured: there was one.
    """
    try:
        yield
    except OSError as exc:
        raise ImproperlyConfigured(
            f"{option} {path} cannot be written: {exc.strerror or exc}. Name a file in a directory that is there and "
            "that this process may write to."
        ) from exc

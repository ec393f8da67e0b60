"""Facts of the machine that numbers were taken on."""

from __future__ import annotations

import os
import platform
from datetime import datetime, timezone
from pathlib import Path

import psutil

GIB = 1024**3


def facts(directory: Path) -> dict[str, str]:
    """Return what a reader has to know of this machine.

    Args:
        directory: where the databases are.
    """
    load, _, _ = os.getloadavg()
    return {
        "Date": f"{datetime.now(timezone.utc):%Y-%m-%d}",
        "Processor": f"{_processor()}, {os.cpu_count()} cores",
        "Memory": f"{psutil.virtual_memory().total / GIB:.0f} GiB",
        "System": f"{platform.system()} {platform.release()}, file system {_file_system(directory)}",
        "Load before the run": f"{load:.2f}",
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def _file_system(directory: Path) -> str:
    """Return the type of the file system: on tmpfs there is no disk to wait for."""
    mounted = [part for part in psutil.disk_partitions(all=True) if directory.is_relative_to(part.mountpoint)]
    return max(mounted, key=lambda part: len(part.mountpoint)).fstype if mounted else "unknown"

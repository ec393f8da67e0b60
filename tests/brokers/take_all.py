"""A process that reserves all there is and prints the ids: ``python -m tests.brokers.take_all NAME``."""

from __future__ import annotations

import json
import sys

import django

if __name__ == "__main__":
    django.setup()
    from tests.brokers.hands import Clock, make_orm
    from tests.brokers.test_orm_concurrency import take_all

    print(json.dumps(take_all(make_orm(Clock()), sys.argv[1], 5)))

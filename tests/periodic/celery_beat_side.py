"""Makes a SQLite file with django-celery-beat's tables and rows; runs where that package is, and may use nothing else.

python celery_beat_side.py FILE
"""

import sys
from datetime import datetime, timezone

import django
from django.conf import settings

UTC = timezone.utc


def main(file: str) -> None:
    settings.configure(
        DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": file}},
        INSTALLED_APPS=["django_celery_beat"],
        DEFAULT_AUTO_FIELD="django.db.models.AutoField",
        USE_TZ=True,
    )
    django.setup()
    from django.core.management import call_command

    call_command("migrate", verbosity=0)
    fill()


def fill() -> None:
    from django_celery_beat.models import (
        ClockedSchedule,
        CrontabSchedule,
        IntervalSchedule,
        PeriodicTask,
        SolarSchedule,
    )

    every = IntervalSchedule.objects.create(every=90, period=IntervalSchedule.SECONDS)
    hourly = IntervalSchedule.objects.create(every=1, period=IntervalSchedule.HOURS)
    mondays = CrontabSchedule.objects.create(
        minute="30", hour="7", day_of_month="1-7", day_of_week="mon", timezone="Europe/Berlin"
    )
    nightly = CrontabSchedule.objects.create(minute="0", hour="4")
    sunset = SolarSchedule.objects.create(event="sunset", latitude="52.520000", longitude="-13.400000")
    moment = ClockedSchedule.objects.create(clocked_time=datetime(2999, 1, 31, 8, tzinfo=UTC))
    task = "tests.testapp.tasks.echo"
    PeriodicTask.objects.create(
        name="interval", task=task, interval=every, args="[1, 2]", kwargs='{"a": {"b": null}}', queue="slow",
        priority=7, headers='{"who": "me"}', expire_seconds=60, start_time=datetime(2026, 1, 1, tzinfo=UTC),
        description="every now and then",
    )  # fmt: skip
    PeriodicTask.objects.create(
        name="crontab", task=task, crontab=mondays, expires=datetime(2028, 1, 1, tzinfo=UTC), enabled=False
    )
    PeriodicTask.objects.create(name="solar", task=task, solar=sunset, exchange="x", routing_key="slow.rate")
    PeriodicTask.objects.create(name="clocked", task=task, clocked=moment, one_off=True)
    over = ClockedSchedule.objects.create(clocked_time=datetime(2020, 1, 31, 8, tzinfo=UTC))
    PeriodicTask.objects.create(name="over", task=task, clocked=over, one_off=True)
    PeriodicTask.objects.create(name="once", task=task, interval=hourly, one_off=True)
    PeriodicTask.objects.create(name="broken", task=task, interval=hourly)
    PeriodicTask.objects.filter(name="broken").update(args="[1,")
    PeriodicTask.objects.create(name="celery.backend_cleanup", task="celery.backend_cleanup", crontab=nightly)


if __name__ == "__main__":
    main(sys.argv[1])

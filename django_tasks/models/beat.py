"""What has become of the entries of the schedule."""

from __future__ import annotations

from django.db import models


class ScheduleState(models.Model):
    """One entry of the schedule: which slots are done with (``brokers/beat.py`` says what the columns mean).

    Beats move ``version`` on from what they have read, so that each slot is claimed by one of them.
    """

    id = models.BigAutoField(primary_key=True)
    name = models.CharField(max_length=200)
    anchor = models.FloatField()
    begun = models.FloatField()
    slot = models.FloatField(null=True)
    fired = models.FloatField(null=True)
    runs = models.BigIntegerField(default=0)
    last_id = models.CharField(max_length=255, default="")
    definition = models.CharField(max_length=64, default="")
    claimed_at = models.FloatField(default=0.0)
    version = models.BigIntegerField(default=1)

    class Meta:
        db_table = "django_tasks_schedule"
        verbose_name = "schedule state"
        # Not as ``unique=True``, for which Django makes two indexes on PostgreSQL, the other one for LIKE.
        constraints = [models.UniqueConstraint(fields=["name"], name="django_tasks_sch_name")]

    def __str__(self) -> str:
        return str(self.name)

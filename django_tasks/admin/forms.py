"""The form of a periodic task."""

from __future__ import annotations

import json
from typing import Any
from zoneinfo import available_timezones

from django import forms
from django.core.exceptions import ValidationError
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

from django_tasks.current import get_current_app
from django_tasks.models import PeriodicTask
from django_tasks.models.periodic import TypedEncoder
from django_tasks.periodic.texts import EXAMPLES

#: Characters of a value that an error repeats.
_SHOWN = 80


class Suggesting(forms.TextInput):
    """A text with suggestions, which takes any other text too."""

    def __init__(self, suggestions: Any, attrs: dict[str, Any] | None = None) -> None:
        super().__init__({"class": "vTextField", "autocomplete": "off", "spellcheck": "false", **(attrs or {})})
        self.suggestions = suggestions

    def render(self, name: str, value: Any, attrs: Any = None, renderer: Any = None) -> SafeString:
        """Write the field and its list, which is looked up only now: tasks may have been registered since."""
        known = f"{name}_suggestions"
        field = super().render(name, value, {**(attrs or {}), "list": known}, renderer)
        options = format_html_join("", '<option value="{}"></option>', ((each,) for each in sorted(self.suggestions())))
        return format_html('{}<datalist id="{}">{}</datalist>', field, known, options)


class JSONText(forms.JSONField):
    """JSON whose errors say where it breaks off, and what to write.

    Args:
        kind: ``list`` or ``dict``.
        example: a value as it is to be written.
    """

    def __init__(self, kind: type, example: str, **kwargs: Any) -> None:
        widget = forms.Textarea({"rows": 2, "cols": 80, "class": "vLargeTextField json", "spellcheck": "false"})
        super().__init__(required=False, initial=kind, encoder=TypedEncoder, widget=widget, **kwargs)
        self.kind, self.example = kind, example

    def to_python(self, value: Any) -> Any:
        """Read the text; none is an empty list or object."""
        if value in self.empty_values:
            return self.kind()
        if isinstance(value, str):
            try:
                value = json.loads(value, parse_constant=_refused)
            except json.JSONDecodeError as exc:
                raise ValidationError(
                    f"This is not JSON: {exc.msg} at line {exc.lineno}, column {exc.colno}, before "
                    f"{value[exc.pos : exc.pos + _SHOWN]!r}. Write it like {self.example}.",
                    code="invalid",
                ) from exc
        if not isinstance(value, self.kind):
            what = "a list in square brackets" if self.kind is list else "an object in braces"
            raise ValidationError(
                f"{json.dumps(value)[:_SHOWN]} is not {what}. Write it like {self.example}.", code="invalid"
            )
        return value

    def has_changed(self, initial: Any, data: Any) -> bool:
        """Tell whether another value is given, however it is written."""
        try:
            return bool(self.to_python(data) != (initial if initial is not None else self.kind()))
        except ValidationError:
            return True


def _refused(constant: str) -> Any:
    raise json.JSONDecodeError(f"{constant} is no number that JSON knows", constant, 0)


def _tasks() -> list[str]:
    return list(get_current_app().tasks)


class PeriodicTaskForm(forms.ModelForm):
    """What a person fills in; ``PeriodicTask.clean`` checks it."""

    args = JSONText(list, '[1, "two"]', label="Arguments", help_text='A JSON list, such as [1, "two"].')
    kwargs = JSONText(dict, '{"size": 3}', label="Keyword arguments", help_text='A JSON object, such as {"size": 3}.')
    options = JSONText(
        dict,
        '{"queue": "mail"}',
        label="Options",
        help_text='Options of apply_async as a JSON object, such as {"queue": "mail", "priority": 5}.',
    )

    class Meta:
        model = PeriodicTask
        fields = "__all__"
        help_texts = {
            "name": "Tells schedules apart. With the name of an entry of the settings it takes that entry's place.",
            "task": "The name of the task; one that is not listed can be given too.",
            "timezone": "Such as Europe/Berlin; that of the settings if empty.",
            "enabled": "Untick to pause it. What is missed meanwhile is not caught up.",
            "start_time": "No run before that.",
            "end_time": "No run after that.",
            "one_off": "It is disabled as soon as it has fired.",
            "expires": "Seconds after its time when a call that still waits is dropped; never if empty.",
            "catch_up": "What becomes of the times at which no beat was running.",
            "catch_up_max": "How many missed runs are made up for where each one is.",
            "grace": "Seconds after which a missed run is not made up for any more. If empty: never, or 60 s for none.",
            "overlap": "What happens when the next run is due.",
            "jitter": "Seconds over which runs are spread after their time.",
            "relative": "For intervals: count from full minutes, hours or days.",
        }
        widgets = {
            "task": Suggesting(_tasks),
            "timezone": Suggesting(available_timezones),
            "schedule": forms.TextInput({"class": "vTextField", "autocomplete": "off", "spellcheck": "false"}),
            "description": forms.Textarea({"rows": 2, "cols": 80, "class": "vLargeTextField"}),
        }

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # Fields are missing where a user may only look, or the row is the settings'.
        if "schedule" in self.fields:
            self.fields["schedule"].help_text = format_html(
                '<span class="periodic-examples">{}</span>',
                format_html_join(" ", '<span data-kind="{}">For {}: {}.</span>',
                                 ((kind, dict(PeriodicTask.KINDS)[kind].partition(",")[0], text)
                                  for kind, text in EXAMPLES.items())),
            )  # fmt: skip
        if "kind" in self.fields:
            self.fields["kind"].choices = [each for each in PeriodicTask.KINDS if each[0] != PeriodicTask.CUSTOM]

"""The upload form."""

from __future__ import annotations

import io

from django import forms
from django.core.files.uploadedfile import UploadedFile

from example_project.imports.validation import COLUMNS, UnreadableFile, read_rows

MAX_BYTES = 5 * 1024 * 1024


class UploadForm(forms.Form):
    """A CSV file and the address that the report goes to."""

    file = forms.FileField(
        label="CSV file",
        help_text="UTF-8, at most 5 MB, first line: " + ", ".join(COLUMNS),
        widget=forms.ClearableFileInput(attrs={"accept": ".csv,text/csv", "aria-describedby": "file-help file-errors"}),
    )
    email = forms.EmailField(
        label="Send the report to",
        help_text="Nothing leaves this computer: e-mails are written to files.",
        initial="you@example.org",
        widget=forms.EmailInput(attrs={"autocomplete": "email", "aria-describedby": "email-help email-errors"}),
    )

    def clean_file(self) -> UploadedFile:
        """Refuse at once what can be seen at once: size and header. The rows are the worker's business."""
        file: UploadedFile = self.cleaned_data["file"]
        if file.size is None or file.size > MAX_BYTES:
            raise forms.ValidationError("This file is larger than 5 MB. Split it and upload the parts.")
        text = io.TextIOWrapper(file.file, encoding="utf-8-sig", newline="")
        try:
            next(read_rows(text), None)
        except UnreadableFile as error:
            raise forms.ValidationError(str(error)) from error
        finally:
            text.detach()
            file.seek(0)
        return file

"""The pages: upload and list, progress and report, and the JSON that the progress bar asks for."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from django.conf import settings
from django.core.files import File
from django.db import transaction
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from example_project.imports.charts import bar_chart, dot_map, most_common
from example_project.imports.forms import UploadForm
from example_project.imports.models import CsvImport
from example_project.imports.status import status_of
from example_project.imports.tasks import import_csv

#: The files that can be imported by a click.
SAMPLES = ("airports.csv", "airports_with_errors.csv")

MOST_STATES = 15
MOST_REFUSED_SHOWN = 200


@require_http_methods(["GET", "HEAD", "POST"])
def index(request: HttpRequest) -> HttpResponse:
    """Show the upload form and the latest imports; take an upload."""
    form = UploadForm(request.POST or None, request.FILES or None)
    if request.method == "POST" and form.is_valid():
        return redirect(start_import(form.cleaned_data["file"], form.cleaned_data["email"]))
    imports = CsvImport.objects.all()[:10]
    return render(request, "imports/index.html", {"form": form, "imports": imports, "samples": SAMPLES})


@require_POST
def sample(request: HttpRequest) -> HttpResponse:
    """Import one of the files that come with the example."""
    name = request.POST.get("name", SAMPLES[0])
    if name not in SAMPLES:
        return HttpResponse(f"There is no sample {name!r}.", status=404, content_type="text/plain")
    with (Path(settings.DATA_DIR) / name).open("rb") as file:
        return redirect(start_import(File(file, name=name), "you@example.org"))


def start_import(file: File[bytes], email: str) -> CsvImport:
    """Keep the file and queue its import: both or neither.

    Inside ``atomic()`` the message is sent when the transaction commits, so no worker can look for a row that is not
    there yet, and nothing is queued when the transaction rolls back. The id is known at once.
    """
    with transaction.atomic():
        csv_import = CsvImport.objects.create(file=file, file_name=Path(file.name or "upload.csv").name, email=email)
        csv_import.task_id = import_csv.delay(csv_import.pk).id
        csv_import.save(update_fields=["task_id"])
    return csv_import


@require_safe
@never_cache
def detail(request: HttpRequest, pk: int) -> HttpResponse:
    """Show an import: how far it has come or, once finished, its report."""
    csv_import = get_object_or_404(CsvImport, pk=pk)
    status = status_of(csv_import)
    context = {"import": csv_import, "status": status}
    if status.phase == "finished":
        context |= report(csv_import)
    return render(request, "imports/detail.html", context)


def report(csv_import: CsvImport) -> dict[str, object]:
    """Return what the report shows besides the numbers: charts and refused rows."""
    airports = list(csv_import.airports.values_list("state", "latitude", "longitude"))
    states = most_common((state for state, _, _ in airports), MOST_STATES)
    return {
        "states": states,
        "state_chart": bar_chart(f"Airports in the {len(states)} states with most of them", states),
        "map": dot_map("Where the airports are", [(latitude, longitude) for _, latitude, longitude in airports]),
        "refused": csv_import.refused_rows.all()[:MOST_REFUSED_SHOWN],
        "refused_shown": MOST_REFUSED_SHOWN,
    }


@require_safe
@never_cache
def status(request: HttpRequest, pk: int) -> JsonResponse:
    """Tell how far an import has come, as JSON."""
    return JsonResponse(asdict(status_of(get_object_or_404(CsvImport, pk=pk))))

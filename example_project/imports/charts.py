"""Charts drawn on the server as inline SVG: no script and no library needed to see them."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence

from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString, mark_safe

# Sizes are in the units of the picture, which the page scales to the room there is.
WIDTH = 640
BAR_HEIGHT, BAR_GAP, CHARACTER_WIDTH, VALUE_WIDTH = 18, 8, 17, 72
MAX_LABEL = 14

MAP_HEIGHT, MAP_MARGIN = 380, 10
#: One airport far away would shrink all the others to a spot. So this share at either end does not decide how large the
#: map is, and is shown only as far as it lies within this share of the map's width or height beyond the rest.
FAR_SHARE, FAR_REACH = 0.005, 0.15


def bar_chart(title: str, counts: Sequence[tuple[str, int]]) -> SafeString:
    """Return horizontal bars, one per label.

    Args:
        title: what the chart shows, also read to those who cannot see it.
        counts: label and number, in the order wanted.
    """
    longest = max((count for _, count in counts), default=1)
    left = 10 + CHARACTER_WIDTH * max((min(len(label), MAX_LABEL) for label, _ in counts), default=0)
    room = WIDTH - left - VALUE_WIDTH
    height = len(counts) * (BAR_HEIGHT + BAR_GAP)
    bars = format_html_join(
        "",
        '<g transform="translate(0 {})"><text class="label" x="{}" y="9">{}</text>'
        '<rect x="{}" width="{}" height="{}" rx="2"/><text x="{}" y="9">{}</text></g>',
        (
            (
                index * (BAR_HEIGHT + BAR_GAP),
                left - 10,
                label if len(label) <= MAX_LABEL else label[: MAX_LABEL - 1] + "…",
                left,
                width := max(1, round(room * count / longest)),
                BAR_HEIGHT,
                left + width + 8,
                f"{count:,}",
            )
            for index, (label, count) in enumerate(counts)
        ),
    )
    spoken = ", ".join(f"{label}: {count}" for label, count in counts)
    return svg("bars", height, title, spoken, bars)


def dot_map(title: str, points: Sequence[tuple[float, float]]) -> SafeString:
    """Return a map with a dot for every point; points far from all others are left out.

    Args:
        title: what the map shows.
        points: latitude and longitude in degrees.
    """
    if not points:
        return mark_safe("")
    south, north = inner_range(latitude for latitude, _ in points)
    west, east = inner_range(longitude for _, longitude in points)
    # A degree of longitude is shorter than one of latitude, the more so the further from the equator.
    shrink = math.cos(math.radians((south + north) / 2))
    scale = min(
        (WIDTH - 2 * MAP_MARGIN) / max((east - west) * shrink, 0.1),
        (MAP_HEIGHT - 2 * MAP_MARGIN) / max(north - south, 0.1),
    )
    left = (WIDTH - (east - west) * shrink * scale) / 2
    top = (MAP_HEIGHT - (north - south) * scale) / 2
    inside = [(lat, lon) for lat, lon in points if south <= lat <= north and west <= lon <= east]
    # Each dot is a line of no length with round ends: one element for thousands of dots.
    path = "".join(
        f"M{left + (lon - west) * shrink * scale:.1f} {top + (north - lat) * scale:.1f}h0" for lat, lon in inside
    )
    dot = 2.2 if len(inside) > 500 else 6
    spoken = f"{len(inside):,} of {len(points):,} airports, from {south:.0f} to {north:.0f} degrees north"
    return svg("dots", MAP_HEIGHT, title, spoken, format_html('<path stroke-width="{}" d="{}"/>', dot, path))


def inner_range(values: Iterable[float]) -> tuple[float, float]:
    """Return the smallest and the largest value that are not far from the others."""
    ordered = sorted(values)
    aside = int(len(ordered) * FAR_SHARE)
    low, high = ordered[aside], ordered[-1 - aside]
    reach = (high - low) * FAR_REACH
    return max(ordered[0], low - reach), min(ordered[-1], high + reach)


def svg(kind: str, height: int, title: str, spoken: str, body: SafeString) -> SafeString:
    """Wrap shapes into a picture with a title and a description for screen readers."""
    return format_html(
        '<svg class="chart {}" viewBox="0 0 {} {}" role="img" aria-label="{}. {}">{}</svg>',
        kind,
        WIDTH,
        height,
        title,
        spoken,
        body,
    )


def most_common(labels: Iterable[str], number: int) -> list[tuple[str, int]]:
    """Return the most frequent labels with their counts, equal counts in the order of the alphabet."""
    counts = Counter(labels)
    return sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:number]

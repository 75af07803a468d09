"""What a drawn figure shows: its words with their places, its lines, and what its legend explains."""

from __future__ import annotations

import itertools
import struct
import zlib
from typing import Any

import pytest


def text_boxes(figure: Any) -> list[tuple[str, Any]]:
    """Every text that is drawn, with the place it takes."""
    from matplotlib.text import Text

    drawn: list[Any] = []
    draw = Text.draw

    def noted(text: Any, *rest: Any) -> None:
        drawn.append(text)
        draw(text, *rest)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Text, "draw", noted)
        figure.canvas.draw()
    renderer = figure.canvas.get_renderer()
    texts = [text for text in dict.fromkeys(drawn) if text.get_visible() and text.get_text().strip()]
    return [(text.get_text(), text.get_window_extent(renderer)) for text in texts]


def texts(figure: Any) -> list[str]:
    return [text for text, _ in text_boxes(figure)]


def unreadable(figure: Any) -> list[str]:
    """Texts that leave the figure, pairs of texts that cover each other, and those between a legend and axes."""
    boxes, frame = text_boxes(figure), figure.bbox
    problems = []
    for text, box in boxes:
        if box.x0 < 0 or box.y0 < 0 or box.x1 > frame.x1 or box.y1 > frame.y1:
            problems.append(f"outside: {text}")
    for (text, box), (other, other_box) in itertools.combinations(boxes, 2):
        if box.overlaps(other_box):
            problems.append(f"{text} / {other}")
    legend = figure.legends[0].get_window_extent(figure.canvas.get_renderer())
    if legend.x1 > frame.x1 or any(legend.overlaps(axes.get_window_extent()) for axes in figure.axes):
        problems.append("the legend covers axes, or leaves the figure")
    return problems


def look(artist: Any) -> tuple[object, ...]:
    """What tells one kind of line, marker or band from another, whatever its colour."""
    from matplotlib.lines import Line2D

    if not isinstance(artist, Line2D):
        return ("band", artist.get_alpha())
    has_line = artist.get_linestyle() not in ("None", "none", "")
    line = (artist.get_linestyle(), artist.get_linewidth()) if has_line else ()
    marker = () if artist.get_marker() in ("None", "none", "") else (artist.get_marker(), artist.get_fillstyle())
    return (*line, *marker)


def unexplained(figure: Any) -> list[object]:
    """Looks of drawn artists that no entry of the legend has, and entries that nothing drawn looks like."""
    entries = {look(handle) for handle in figure.legends[0].legend_handles}
    drawn = set()
    for axes in figure.axes:
        for line in axes.get_lines():
            if len(line.get_xdata()):
                drawn.add(look(line))
        drawn |= {look(collection) for collection in axes.collections}
    return sorted(map(str, entries ^ drawn))


def lines(axes: Any) -> list[tuple[list[float], list[float], str]]:
    """Every line of an axes: x, y, colour."""
    return [(list(line.get_xdata()), list(line.get_ydata()), line.get_color()) for line in axes.get_lines()]


def png_size(data: bytes) -> tuple[int, int]:
    """Width and height of a PNG whose chunks are all sound."""
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    place, size = 8, (0, 0)
    while place < len(data):
        length = struct.unpack(">I", data[place : place + 4])[0]
        kind, body = data[place + 4 : place + 8], data[place + 8 : place + 8 + length]
        assert struct.unpack(">I", data[place + 8 + length : place + 12 + length])[0] == zlib.crc32(kind + body)
        if kind == b"IHDR":
            size = struct.unpack(">II", body[:8])
        place += 12 + length
    return size

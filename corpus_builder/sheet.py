"""What every page of ours is made of: one HTML file that needs no network, no script and no other file.

A page's content policy forbids everything but its own styles and `data:` images and sounds, so that a stranger's text could
not fetch or run anything even if it were not escaped; it is escaped all the same, by jinja2 and by `printable`.
"""

from __future__ import annotations

import base64
import io
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from manifests.errors import printable
from manifests.files import write_text

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import jinja2
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

PLOT_INCHES = (4.2, 2.6)
INK = "#2b5d8a"
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#1c2430", "#8a8f98")
LEGEND_COLUMNS = 4
MARKERS = ("o", "s", "^", "D", "v", "P")


def environment(folder: Path) -> jinja2.Environment:
    """Where templates come from: a room's own folder, and the sheet they all extend."""
    import jinja2

    folders = [folder, Path(__file__).with_name("pages")]
    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(folders), autoescape=True, undefined=jinja2.StrictUndefined
    )


def write_sheet(path: Path, template: str, *, folder: Path, content: Mapping[str, Any]) -> None:
    """Render a template into one file, atomically.

    Args:
        path: The page.
        template: Name of the template.
        folder: Where it lies.
        content: What the template asks for.
    """
    write_text(path, environment(folder).get_template(template).render(**content))


def data_uri(content: bytes, *, kind: str) -> str:
    """Bytes as a `data:` URI of a media type such as `image/png`."""
    return f"data:{kind};base64,{base64.b64encode(content).decode('ascii')}"


def new_figure() -> Figure:
    """An empty figure of the size of our plots, without a window system or global state."""
    from matplotlib.figure import Figure

    return Figure(figsize=PLOT_INCHES, layout="constrained")


def svg_of(figure: Figure) -> Any:
    """A figure as SVG to stand in the page, the same bytes for the same figure; letters are drawn, no font is needed."""
    import matplotlib as mpl
    from markupsafe import Markup

    stream = io.StringIO()
    with mpl.rc_context({"svg.hashsalt": "stillroom", "svg.fonttype": "path"}):
        figure.savefig(stream, format="svg", metadata={"Date": None, "Creator": None})
    text = stream.getvalue()
    return Markup(text[text.index("<svg") :])  # noqa: S704 (matplotlib escapes what it writes)


def plain_label(text: object) -> str:
    """A stranger's text for a plot: matplotlib would read `$...$` as mathematics."""
    return printable(text, limit=40).replace("$", r"\$")


def histogram(values: Sequence[float] | NDArray[Any], *, title: str, unit: str, bins: int = 40) -> Any:
    """How often values of one number occur, as SVG."""
    figure = new_figure()
    axes = figure.subplots()
    axes.hist(values, bins=bins, color=INK)
    axes.set_title(plain_label(title), fontsize=10)
    axes.set_xlabel(unit)
    return finished(figure)


def histograms(values: Mapping[str, Sequence[float]], *, title: str, unit: str, bins: int = 40, most: int = 9) -> Any:
    """Several histograms over one another on shared edges, as lines, with a legend; those beyond `most` as one, by their number."""
    import numpy as np

    if len(values) > most + 1:
        largest = sorted(values, key=lambda name: (-len(values[name]), name))
        kept = {name: values[name] for name in values if name in largest[:most]}
        others = [value for name in largest[most:] for value in values[name]]
        values = {**kept, f"{len(largest) - most} others": others}
    figure = new_figure()
    axes = figure.subplots()
    edges = np.histogram_bin_edges(
        np.concatenate([np.asarray(part, dtype=float) for part in values.values()]), bins=bins
    )
    for name, part in values.items():
        axes.hist(part, bins=list(edges), histtype="step", linewidth=1.4, label=plain_label(name))
    axes.set_title(plain_label(title), fontsize=10)
    axes.set_xlabel(unit)
    axes.legend(fontsize=7, frameon=False)
    return finished(figure)


def bars(counts: Mapping[str, int], *, title: str, most: int = 16) -> Any:
    """The commonest of something with their counts, as SVG."""
    commonest = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    shown = commonest[:most]
    if len(commonest) > most:
        shown.append((f"{len(commonest) - most} others", sum(count for _, count in commonest[most:])))
    figure = new_figure()
    axes = figure.subplots()
    axes.barh(range(len(shown)), [count for _, count in shown], color=INK)
    axes.set_yticks(range(len(shown)), [plain_label(name) for name, _ in shown], fontsize=7)
    axes.invert_yaxis()
    axes.set_title(plain_label(title), fontsize=10)
    return finished(figure)


def curves(series: Mapping[str, Sequence[tuple[float, float, float]]], *, unit: str, marks: Mapping[float, str]) -> Any:
    """Lines through points with error bars, one a name, with a legend, as SVG; what it is about stands in the page.

    Args:
        series: Of each name its points: place, value, half the length of the bar.
        unit: Of the values.
        marks: What stands under a place; the places are its keys.
    """
    figure = new_figure()
    axes = figure.subplots()
    for number, (name, points) in enumerate(series.items()):
        places, values, spreads = zip(*points, strict=True) if points else ((), (), ())
        axes.errorbar(places, values, yerr=spreads, label=plain_label(name), capsize=2, linewidth=1.3, **look(number))
    axes.set_xticks(list(marks), [plain_label(mark) for mark in marks.values()])
    return with_legend(figure, unit=unit)


def spans(
    ends: Mapping[str, tuple[float, float, float]], *, unit: str, place: str, whole_width: Sequence[str] = ()
) -> Any:
    """From one value to another for each name at its place on a logarithmic axis, hollow to full, with a legend, as SVG.

    Args:
        ends: Of each name its place (above 0, where it is not in `whole_width`), the value it comes from and the one it goes to.
        unit: Of the values.
        place: What the places are.
        whole_width: Names that have no place: two lines across the plot.
    """
    from matplotlib.ticker import EngFormatter, LogLocator, NullFormatter

    figure = new_figure()
    axes = figure.subplots()
    taken: dict[float, int] = {}
    for number, (name, (at, before, after)) in enumerate(ends.items()):
        style = look(number)
        if name in whole_width:
            axes.axhline(before, color=style["color"], linestyle=":", linewidth=1.0)
            axes.axhline(after, color=style["color"], linestyle="-", linewidth=1.0, label=plain_label(name))
            continue
        beside = at * 1.04 ** taken.get(at, 0)  # several at one place stand side by side
        taken[at] = taken.get(at, 0) + 1
        axes.plot([beside, beside], [before, after], color=style["color"], linewidth=1.3)
        axes.plot([beside], [before], **style, markerfacecolor="white", linestyle="none")
        axes.plot([beside], [after], **style, linestyle="none", label=plain_label(name))
    if taken:
        axes.set_xscale("log")
        axes.margins(x=0.15)
        axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        axes.xaxis.set_major_formatter(EngFormatter(sep=" "))
        axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_xlabel(place, fontsize=8)
    return with_legend(figure, unit=unit)


def intervals(
    rows: Sequence[tuple[str, Mapping[str, tuple[float, float, float]]]],
    *,
    unit: str,
    marks: Mapping[int, float] | None = None,
    with_zero: bool = False,
    colours: Mapping[str, str] | None = None,
) -> Any:
    """Values with their intervals on a common horizontal axis, a row a name, with a legend, as SVG.

    Args:
        rows: From top to bottom: what it is, and of each series that it has: value, lower and upper end.
        unit: Of the values.
        marks: Values that are marked by a vertical stroke, by the number of the row: a margin, for instance.
        with_zero: Whether a line stands at 0.
        colours: Of the series that have one of their own.
    """
    series = list(dict.fromkeys(name for _, values in rows for name in values))
    figure = new_figure()
    axes = figure.subplots()
    if with_zero:
        axes.axvline(0.0, color=COLOURS[6], linewidth=0.8)
    for number, name in enumerate(series):
        style = look(number) | ({"color": colours[name]} if colours and name in colours else {})
        found = [(row, *values[name]) for row, (_, values) in enumerate(rows) if name in values]
        places, middles, lows, highs = (list(column) for column in zip(*found, strict=True))
        reach = [
            [middle - low for middle, low in zip(middles, lows, strict=True)],
            [high - middle for middle, high in zip(middles, highs, strict=True)],
        ]
        axes.errorbar(
            middles, places, xerr=reach, label=plain_label(name), linestyle="none", elinewidth=1.5, capsize=2, **style
        )
    for row, mark in (marks or {}).items():
        axes.plot([mark, mark], [row - 0.3, row + 0.3], color=COLOURS[7], linewidth=1.2)
    axes.set_yticks(range(len(rows)), [plain_label(name) for name, _ in rows])
    axes.invert_yaxis()
    height_in = 0.6 + 0.19 * len(rows)
    return with_legend(figure, unit=unit, inches=(1.5 * PLOT_INCHES[0], height_in), axis="x")


def look(number: int) -> dict[str, Any]:
    """Colour and marker of the so manieth line: colours that the colour-blind can tell (Okabe and Ito), then other markers."""
    return {
        "color": COLOURS[number % len(COLOURS)],
        "marker": MARKERS[number // len(COLOURS) % len(MARKERS)],
        "markersize": 4.5,
    }


def with_legend(
    figure: Figure,
    *,
    unit: str,
    inches: tuple[float, float] = PLOT_INCHES,
    axis: Literal["x", "y"] = "y",
) -> Any:
    """A plot with the unit of the axis that its values lie on, and a legend below it, which makes it higher."""
    axes = figure.axes[0]
    (axes.set_ylabel if axis == "y" else axes.set_xlabel)(unit, fontsize=8)
    axes.grid(visible=True, axis=axis, color="#e3e7ed", linewidth=0.6)
    axes.set_axisbelow(True)
    handles, _ = axes.get_legend_handles_labels()
    rows = -(-len(handles) // LEGEND_COLUMNS)
    figure.set_size_inches(inches[0], inches[1] + 0.17 * rows)
    if handles:
        figure.legend(loc="outside lower center", ncols=min(len(handles), LEGEND_COLUMNS), fontsize=7, frameon=False)
    return finished(figure)


def shade(value: float, *, low: float, high: float) -> str:
    """Style of a cell of a heat map: from white at `low` to our ink at `high`, with letters that can be read on it."""
    share = min(1.0, max(0.0, (value - low) / (high - low))) if high > low else 0.0
    ink = [int(INK[at : at + 2], 16) for at in (1, 3, 5)]
    mixed = "".join(f"{round(255 + (channel - 255) * share):02x}" for channel in ink)
    return f"background:#{mixed};color:{'#fff' if share > 0.55 else '#1c2430'}"


def finished(figure: Figure) -> Any:
    """Without the upper and right frame."""
    for axes in figure.axes:
        axes.spines[["top", "right"]].set_visible(False)
        axes.tick_params(labelsize=8)
    return svg_of(figure)

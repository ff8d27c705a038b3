"""Plots of HTML pages as inline SVG: histograms, bars, legends and the common style."""

from __future__ import annotations

import io
import textwrap
from typing import TYPE_CHECKING, Any, Literal

from corpus_builder.pages.colours import SERIES, light, with_variables
from manifests.errors import printable

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from matplotlib.figure import Figure
    from numpy.typing import NDArray


PLOT_INCHES = (4.2, 2.6)
TITLE_POINTS, LABEL_POINTS = 11, 9
"""Of letters; a plot as wide as a phone is 1.2 times as large as it is drawn."""
LETTER_INCHES = 0.6 * LABEL_POINTS / 72
ROW_INCHES = 0.17
ROW_LETTERS = 24
LEGEND_COLUMNS = 4
MARKERS = ("o", "s", "^", "D", "v", "P")
DASHES = ("-", "--", "-.", ":")


def new_figure() -> Figure:
    """An empty figure of the size of our plots, without a window system or global state."""
    from matplotlib.figure import Figure

    return Figure(figsize=PLOT_INCHES, layout="constrained")


def svg_of(figure: Figure) -> Any:
    """A figure as inline SVG, the same bytes for the same figure; letters are drawn, so that no font is needed."""
    import matplotlib as mpl
    from markupsafe import Markup

    stream = io.StringIO()
    with mpl.rc_context({"svg.hashsalt": "stillroom", "svg.fonttype": "path"}):
        figure.savefig(stream, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    text = stream.getvalue()
    return Markup(with_variables(text[text.index("<svg") :]))  # noqa: S704 (matplotlib escapes what it writes)


def plain_label(text: object) -> str:
    """Untrusted text for a plot: matplotlib would read `$...$` as mathematics."""
    return printable(text, limit=40).replace("$", r"\$")


def row_labels(names: Sequence[object]) -> list[str]:
    """Names of rows beside a plot, the long ones in several lines."""
    return ["\n".join(map(plain_label, textwrap.wrap(printable(name, limit=40), ROW_LETTERS))) or " " for name in names]


def height_of(labels: Sequence[str]) -> float:
    """Inches of a plot with these rows."""
    return 0.7 + ROW_INCHES * len(labels) * max((label.count("\n") + 1 for label in labels), default=1)


def histogram(values: Sequence[float] | NDArray[Any], *, title: str, unit: str, bins: int = 40) -> Any:
    """A histogram as SVG."""
    figure = new_figure()
    axes = figure.subplots()
    axes.hist(values, bins=bins, color=light("faint"))
    axes.set_title(plain_label(title))
    return with_legend(figure, unit=unit, axis="x")


def histograms(
    values: Mapping[str, Sequence[float]],
    *,
    title: str,
    unit: str,
    styles: Mapping[str, Mapping[str, Any]],
    bins: int = 40,
    most: int = 9,
) -> Any:
    """Several histograms in one plot with shared bins, as lines, with a legend; those beyond `most` are one line.

    Args:
        values: Of each name.
        title: Of the plot.
        unit: Of the values.
        styles: Of each name, the same in all plots of a page.
        bins: How many bins.
        most: How many lines, without that of the others.
    """
    import numpy as np

    if len(values) > most + 1:
        largest = sorted(values, key=lambda name: (-len(values[name]), name))
        shown = {name: values[name] for name in values if name in largest[:most]}
        others = [value for name in largest[most:] for value in values[name]]
        values = {**shown, f"{len(largest) - most} others": others}
    figure = new_figure()
    axes = figure.subplots()
    edges = np.histogram_bin_edges(
        np.concatenate([np.asarray(part, dtype=float) for part in values.values()]), bins=bins
    )
    for name, part in values.items():
        style = styles.get(name, {"color": light("faint"), "linestyle": ":"})
        axes.hist(part, bins=list(edges), histtype="step", linewidth=1.4, label=plain_label(name), **style)
    axes.set_title(plain_label(title))
    return with_legend(figure, unit=unit, axis="x")


def bars(counts: Mapping[str, int], *, title: str, most: int = 16) -> Any:
    """The largest counts as bars, as SVG."""
    commonest = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    shown = commonest[:most]
    if len(commonest) > most:
        shown.append((f"{len(commonest) - most} others", sum(count for _, count in commonest[most:])))
    figure = new_figure()
    axes = figure.subplots()
    axes.barh(range(len(shown)), [count for _, count in shown], color=light("faint"))
    labels = row_labels([name for name, _ in shown])
    axes.set_yticks(range(len(shown)), labels)
    axes.invert_yaxis()
    axes.set_title(plain_label(title))
    figure.set_size_inches(PLOT_INCHES[0], max(PLOT_INCHES[1], height_of(labels)))
    return finished(figure)


def outline_style(number: int, *, colour: str | None = None) -> dict[str, Any]:
    """Colour and dashes of an outline by its number: first colours, then dashes; in one colour only dashes."""
    if colour is not None:
        return {"color": light(colour), "linestyle": DASHES[number % len(DASHES)]}
    return {"color": SERIES[number % len(SERIES)], "linestyle": DASHES[number // len(SERIES) % len(DASHES)]}


def line_style(number: int) -> dict[str, Any]:
    """Colour and marker of a line by its number: first colours, then other markers."""
    return {
        "color": SERIES[number % len(SERIES)],
        "marker": MARKERS[number // len(SERIES) % len(MARKERS)],
        "markersize": 4.5,
    }


def with_legend(
    figure: Figure,
    *,
    unit: str,
    inches: tuple[float, float] = PLOT_INCHES,
    axis: Literal["x", "y"] = "y",
) -> Any:
    """A plot with the unit on the axis of its values, and a legend below it, which makes it higher."""
    axes = figure.axes[0]
    (axes.set_ylabel if axis == "y" else axes.set_xlabel)(unit)
    axes.grid(visible=True, axis=axis, color=light("line"), linewidth=0.6)
    axes.set_axisbelow(True)
    handles, labels = axes.get_legend_handles_labels()
    columns = legend_columns(labels, width=inches[0])
    figure.set_size_inches(inches[0], inches[1] + 0.19 * -(-len(handles) // columns))
    if handles:
        figure.legend(
            loc="outside lower center", ncols=columns, fontsize=LABEL_POINTS, frameon=False, labelcolor=light("ink")
        )
    return finished(figure)


def legend_columns(labels: Sequence[str], *, width: float) -> int:
    """How many names a line of the legend has room for."""
    room = int(width / (LETTER_INCHES * max(map(len, labels), default=1) + 0.45))
    return max(1, min(room, LEGEND_COLUMNS, len(labels)))


def finished(figure: Figure) -> Any:
    """A figure as SVG, its frame and letters in ink, without the upper and right frame."""
    ink = light("ink")
    for axes in figure.axes:
        axes.spines[["top", "right"]].set_visible(False)
        axes.spines[["left", "bottom"]].set_color(ink)
        axes.tick_params(which="both", labelsize=LABEL_POINTS, color=ink, labelcolor=ink)
        axes.title.set(color=ink, fontsize=TITLE_POINTS)
        for label in (axes.xaxis.label, axes.yaxis.label):
            label.set(color=ink, fontsize=LABEL_POINTS)
    return svg_of(figure)

"""Plots of HTML pages as inline SVG: histograms, bars, legends and the common style."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any, Literal

from manifests.errors import printable

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from matplotlib.figure import Figure
    from numpy.typing import NDArray


PLOT_INCHES = (4.2, 2.6)
INK = "#2b5d8a"
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#1c2430", "#8a8f98")
LEGEND_COLUMNS = 4
MARKERS = ("o", "s", "^", "D", "v", "P")


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
        figure.savefig(stream, format="svg", metadata={"Date": None, "Creator": None})
    text = stream.getvalue()
    return Markup(text[text.index("<svg") :])  # noqa: S704 (matplotlib escapes what it writes)


def plain_label(text: object) -> str:
    """Untrusted text for a plot: matplotlib would read `$...$` as mathematics."""
    return printable(text, limit=40).replace("$", r"\$")


def histogram(values: Sequence[float] | NDArray[Any], *, title: str, unit: str, bins: int = 40) -> Any:
    """A histogram as SVG."""
    figure = new_figure()
    axes = figure.subplots()
    axes.hist(values, bins=bins, color=INK)
    axes.set_title(plain_label(title), fontsize=10)
    axes.set_xlabel(unit)
    return finished(figure)


def histograms(values: Mapping[str, Sequence[float]], *, title: str, unit: str, bins: int = 40, most: int = 9) -> Any:
    """Several histograms in one plot with shared bins, as lines, with a legend; those beyond `most` are one line."""
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
        axes.hist(part, bins=list(edges), histtype="step", linewidth=1.4, label=plain_label(name))
    axes.set_title(plain_label(title), fontsize=10)
    axes.set_xlabel(unit)
    axes.legend(fontsize=7, frameon=False)
    return finished(figure)


def bars(counts: Mapping[str, int], *, title: str, most: int = 16) -> Any:
    """The largest counts as bars, as SVG."""
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


def line_style(number: int) -> dict[str, Any]:
    """Colour and marker of a line by its number: colours for colour-blind readers (Okabe and Ito), then other markers."""
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
    """A plot with the unit on the axis of its values, and a legend below it, which makes it higher."""
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


def finished(figure: Figure) -> Any:
    """A figure as SVG without the upper and right frame."""
    for axes in figure.axes:
        axes.spines[["top", "right"]].set_visible(False)
        axes.tick_params(labelsize=8)
    return svg_of(figure)

"""Colours of HTML pages and their plots: one name a meaning, with a value for light and one for dark screens.

Pages name a colour only as `var(--NAME)`. Texts and signs have a contrast of at least 4.5 with what they are on, lines
of plots at least 3 (WCAG 2.2, 1.4.3 and 1.4.11). Series are after Okabe and Ito, for colour-blind readers.
"""

from __future__ import annotations

import re

COLOURS = {
    "paper": ("#ffffff", "#14181f"),
    "tint": ("#f4f6f9", "#1e242d"),  # behind headers of tables and clips
    "line": ("#d9dee6", "#39424f"),  # borders and grids
    "ink": ("#1c2430", "#e4e8ee"),
    "faint": ("#5a6575", "#a3adbb"),  # asides, and bars that count everything
    "accent": ("#2b5d8a", "#7fb7e8"),  # links
    "heat": ("#8db9e2", "#2f6090"),  # the high end of a heat map, under text in ink
    "good": ("#00734f", "#3fc796"),
    "bad": ("#a34400", "#ff9a5c"),
    "series-1": ("#0072b2", "#4aa3e0"),
    "series-2": ("#c2410c", "#ff8f5e"),
    "series-3": ("#008a63", "#35b98a"),
    "series-4": ("#b5568f", "#e58fc0"),
    "series-5": ("#a87400", "#e6b53c"),
    "series-6": ("#3a97d4", "#a9d8f5"),
    "series-7": ("#5b3fa0", "#ad95ef"),
    "series-8": ("#7a4a2b", "#c9a184"),
}
SERIES = tuple(light for name, (light, _) in COLOURS.items() if name.startswith("series-"))
NAMES = {light: name for name, (light, _) in COLOURS.items()}


def light(name: str) -> str:
    """The value that stands for a colour while a plot is drawn; `with_variables` makes it the page's."""
    return COLOURS[name][0]


def with_variables(svg: str) -> str:
    """An SVG whose colours are those of the page that it is in."""
    return re.sub(
        r"(?<=: )#[0-9a-f]{6}\b", lambda found: f"var(--{NAMES[found[0]]})" if found[0] in NAMES else found[0], svg
    )


def declarations() -> str:
    """The colours as CSS: light, and dark where the reader's system is."""
    values = [" ".join(f"--{name}: {pair[dark]};" for name, pair in COLOURS.items()) for dark in (False, True)]
    return f":root {{ {values[0]} }}\n@media (prefers-color-scheme: dark) {{ :root {{ {values[1]} }} }}"

"""`python -m benchmarks.plot GROWTH.json [--write PAGE]`: the figure of a growth run, and its table in Markdown.

--write puts the table into a page, between `<!-- growth -->` and `<!-- /growth -->`, and the figure beside it as
growth.svg. The figure needs matplotlib: `pip install vmastore[bench]`.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from benchmarks.fit import Series, power_law
from benchmarks.table import number, where, written

_HOLDS = {True: "yes", False: "**no**"}
_UNITS = {"events": "events (about 1,700 VMAs)", "VMAs": "VMAs (50,000 events)"}


def markdown(document: dict[str, Any]) -> str:
    """What was measured, the exponents and what is claimed."""
    lines = [f"{where(document)}; {document['build']} build.", ""]
    lines += ["| job | in | from | to | exponent | steepest | claimed | holds |", "|---|---|---|---|---|---|---|---|"]
    for shown in document["series"]:
        one = Series.from_json(shown)
        first, last = (f"{number(s * 1000)} ms at {n:,.0f}" for n, s in (one.points[0], one.points[-1]))
        exponent = f"{one.exponent:.3f} ± {one.error:.3f}"
        cells = (one.job, one.axis, first, last, exponent, f"{one.steepest:.2f}", one.claimed, _HOLDS[one.holds])
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def figure(document: dict[str, Any], place: Path) -> None:
    """Both families of curves, log-log, each point with the power law through it."""
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "vmastore"  # the same bytes for the same figures
    from matplotlib import pyplot

    sheet, panels = pyplot.subplots(1, 2, figsize=(11, 4.6), sharey=True, layout="constrained")
    for panel, axis in zip(panels, _UNITS, strict=True):
        for shown in document["series"]:
            if shown["axis"] == axis:
                _curve(panel, Series.from_json(shown))
        panel.set(xscale="log", yscale="log", xlabel=_UNITS[axis])
        panel.grid(alpha=0.3)
        panel.legend(fontsize=8, loc="upper left")
    panels[0].set_ylabel("seconds of CPU time")
    sheet.savefig(place, metadata={"Date": None})
    pyplot.close(sheet)


def _curve(panel: Any, one: Series) -> None:
    exponent, _, factor = power_law(one.points)
    sizes = [size for size, _ in one.points]
    label = f"{one.job}: {exponent:.2f}"
    (drawn,) = panel.plot(sizes, [seconds for _, seconds in one.points], "o", label=label, markersize=4)
    panel.plot(sizes, [factor * size**exponent for size in sizes], "-", color=drawn.get_color(), linewidth=1)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.plot", description=__doc__)
    parser.add_argument("file", type=Path, help="what --json of benchmarks.growth wrote")
    parser.add_argument("--write", type=Path, metavar="PAGE", help="the page to put the table into")
    options = parser.parse_args()
    document = json.loads(options.file.read_text())
    if options.write is None:
        sys.stdout.write(markdown(document))
        return
    figure(document, options.write.with_name("growth.svg"))
    options.write.write_text(written(options.write.read_text(), markdown(document), "growth"))


if __name__ == "__main__":
    main()

"""The report's figures as inline SVG, with text in the page's own typeface and no ids that clash."""

import math
import re
import warnings
from collections.abc import Collection, Mapping, Sequence
from io import StringIO
from typing import Any

import numpy as np
from markupsafe import Markup, escape
from matplotlib import rc_context, style
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

INK, FAINT, RULE = "#22252a", "#6b7280", "#d5d8dd"
CONTROL = "#8a919c"
COLOURS = {"search": "#a3341f", "oracle": "#2b6777", "genuine": "#2b4f81"}
"""The attack stands out, what it could have reached is blue, and every control is grey."""

LINES = ("#a3341f", "#2b6777", "#85600f", "#41597a", "#6a3d7c", "#3d7c4a", "#c0703a", "#22252a")
"""The colours of a ladder's rungs."""

VARIABLES = {"#ffffff": "paper", INK: "ink", FAINT: "faint", RULE: "rule", CONTROL: "line", "#a3341f": "leak"}
VARIABLES |= {"#2b6777": "reach", "#2b4f81": "photo", "#85600f": "doubt", "#41597a": "calm"}
VARIABLES |= {"#6a3d7c": "plum", "#3d7c4a": "leaf", "#c0703a": "rust"}
"""The names that style.css has for these colours, which are others on a dark screen."""

WIDTH = 10.2  # inches: the page's width at 96 pixels an inch
_STYLE = {
    "font.size": 8.5,
    "text.color": INK,
    "text.parse_math": False,
    "axes.edgecolor": RULE,
    "axes.labelcolor": FAINT,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 9,
    "axes.titlelocation": "left",
    "xtick.color": RULE,
    "xtick.labelcolor": FAINT,
    "ytick.color": RULE,
    "ytick.labelcolor": INK,
    "svg.fonttype": "none",
}


def forest(
    panels: Mapping[str, Sequence[Mapping[str, Any]]],
    methods: Mapping[str, str],
    judges: Mapping[str, str],
    percent: set[str],
) -> Markup:
    """One panel a metric: for each method and judge the value, its 95 % interval, and what chance would give.

    Args:
        panels: title -> rows of report.json's `results`, whose values lie between 0 and 1.
        methods: name -> label, from top to bottom.
        judges: name -> label; the first is drawn filled.
        percent: the titles of the panels that show rates.
    """
    first, *_ = names = list(judges)
    columns = min(3, len(panels))
    lines = math.ceil(len(panels) / columns)
    height = 0.5 + lines * (0.55 + len(methods) * (0.13 + 0.1 * len(judges)))
    with style.context(["default", _STYLE]):
        figure = Figure(figsize=(WIDTH, height), layout="constrained")
        grid = figure.subplots(lines, columns, sharey=True, squeeze=False).ravel()
        for axes, (title, rows) in zip(grid, panels.items(), strict=False):
            axes.set_title(title)
            _frame(axes, list(methods.values()), title in percent)
            for row in rows:
                lane = list(methods).index(row["method"])
                inside = (names.index(row["judge"]) - (len(judges) - 1) / 2) * 0.62 / len(judges)
                _mark(axes, lane, lane + inside, row, filled=row["judge"] == first)
        for axes in grid[len(panels) :]:
            axes.set_axis_off()
        key = [_key(label, "white" if name != first else INK) for name, label in judges.items()]
        key.append(Line2D([], [], color=INK, linewidth=1, marker="|", linestyle="", markersize=9, label="chance"))
        figure.legend(handles=key, loc="outside upper left", ncols=len(key), frameon=False)
        return _svg(
            figure, "Estimates with 95 % intervals by method, metric and judge; the tables below give the numbers"
        )


def _key(label: str, fill: str) -> Line2D:
    return Line2D([], [], color=INK, marker="o", markersize=4.5, markerfacecolor=fill, label=label)


def _frame(axes: Axes, labels: list[str], percent: bool) -> None:
    axes.set_xlim(-0.02, 1.02)
    axes.set_xticks(
        [0, 0.25, 0.5, 0.75, 1], ["0", "25", "50", "75", "100 %"] if percent else ["0", ".25", ".5", ".75", "1"]
    )
    axes.set_yticks(range(len(labels)), labels)
    axes.set_ylim(len(labels) - 0.45, -0.55)
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    axes.grid(axis="x", color=RULE, linewidth=0.5)
    axes.set_axisbelow(True)


def _mark(axes: Axes, lane: float, y: float, row: Mapping[str, Any], *, filled: bool) -> None:
    colour = COLOURS.get(row["method"], CONTROL)
    if row["chance"] is not None:
        axes.vlines(row["chance"], lane - 0.5, lane + 0.5, colors=INK, linewidth=0.8, zorder=1.5)
    outcome = row["estimate"]
    if "failed" in outcome:
        axes.text(0.01, y, "failed", color=FAINT, fontsize=7.5, fontstyle="italic", va="center")
        return
    axes.hlines(y, outcome["low"], outcome["high"], colors=colour, linewidth=1.6)
    axes.plot([outcome["value"]], [y], "o", color=colour, markersize=4.5, markerfacecolor=colour if filled else "white")


def curves(
    panels: Mapping[str, str],
    lines: Mapping[str, Sequence[Mapping[str, Any]]],
    levels: Mapping[str, Mapping[str, float]],
    over: str = "queries",
    controls: Collection[str] | None = None,
    alt: str = "Each level of access over queries; the table below gives the numbers",
) -> Markup:
    """One panel a metric, over the number of queries: each line's values with their 95 % intervals.

    Args:
        panels: metric -> title.
        lines: label -> points, each with `queries` and, in `figures`, the estimate of every metric.
        levels: label -> metric -> value of a level that does not depend on queries, drawn across.
        over: what `queries` counts.
        controls: labels of lines in grey; None: the last line is the control.
        alt: what the figure shows, in words.
    """
    grey = {list(lines)[-1]} if controls is None else controls
    with style.context(["default", _STYLE]):
        figure = Figure(figsize=(WIDTH, 3.6 + 0.18 * math.ceil(len(lines) / 3)), layout="constrained")
        grid = figure.subplots(1, len(panels), squeeze=False).ravel()
        for axes, (metric, title) in zip(grid, panels.items(), strict=True):
            axes.set_title(title)
            for number, (label, values) in enumerate(levels.items()):
                axes.axhline(values[metric], color=INK, linewidth=0.8, linestyle=("-", ":")[number % 2], label=label)
            for number, (label, points) in enumerate(lines.items()):
                colour = CONTROL if label in grey else LINES[number % len(LINES)]
                drawn = [point for point in points if "failed" not in point["figures"][metric]]
                figures = [point["figures"][metric] for point in drawn]
                shift = 1.03 ** (number - len(lines) / 2)  # no two lines coincide
                at = [point["queries"] * shift for point in drawn]
                marker = "osD^"[number // len(LINES) % 4]  # where colours come again
                values = [outcome["value"] for outcome in figures]
                axes.plot(at, values, f"{marker}-", color=colour, markersize=4, label=label)
                for x, outcome in zip(at, figures, strict=True):
                    axes.vlines(x, outcome["low"], outcome["high"], colors=colour, linewidth=1, alpha=0.6)
            axes.set_xscale("log")
            axes.set_ylim(-0.02, 1.02)
            axes.set_xlabel(over)
            axes.grid(color=RULE, linewidth=0.5)
            axes.minorticks_off()
            ticks = [tick for tick in (100, 300, 1000, 3000, 10_000, 30_000, 100_000) if _within(axes, tick)]
            if not ticks:
                queries = [point["queries"] for points in lines.values() for point in points]
                ticks = sorted({min(queries), max(queries)})
            axes.set_xticks(ticks, [f"{tick:,}".replace(",", "\u202f") for tick in ticks])
        handles, labels = grid[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside upper left", ncols=3, frameon=False)
        return _svg(figure, alt)


def tradeoff(arms: Sequence[Mapping[str, Any]], metric: str, title: str, front: Sequence[str]) -> Markup:
    """One panel a level of access: what the strongest attack finds over the accuracy that is left, with 95 % intervals.

    Args:
        arms: rows of comparison.json's `arms` of one target; the first is the undefended one.
        metric: whose figure is shown; title: its label.
        front: names of the arms on the Pareto front, which are filled.
    """
    levels = [leak["access"] for leak in arms[0]["leaks"]]
    with style.context(["default", _STYLE]):
        figure = Figure(figsize=(WIDTH, 3.6 + 0.18 * math.ceil(len(arms) / 3)), layout="constrained")
        grid = figure.subplots(1, len(levels), squeeze=False, sharey=True).ravel()
        for axes, level in zip(grid, levels, strict=True):
            axes.set_title(f"{level} access")
            for number, arm in enumerate(arms):
                leak = next(leak["figures"][metric] for leak in arm["leaks"] if leak["access"] == level)
                right = arm["accuracy"]
                if "failed" in leak or "failed" in right:
                    continue
                colour = INK if number == 0 else LINES[(number - 1) % len(LINES)]
                x, y = right["value"], leak["value"]
                axes.errorbar(
                    x,
                    y,
                    yerr=[[y - leak["low"]], [leak["high"] - y]],
                    xerr=[[x - right["low"]], [right["high"] - x]],
                    fmt="osD^vP"[(number - 1) // len(LINES) % 6] if number else "*",
                    color=colour,
                    markerfacecolor=colour if arm["name"] in front else "white",
                    markersize=9 if number == 0 else 6,
                    elinewidth=0.8,
                    label=arm["name"],
                )
            axes.set_xlabel("accuracy on other photographs")
            axes.grid(color=RULE, linewidth=0.5)
        grid[0].set_ylabel(title)
        handles, labels = grid[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside upper left", ncols=4, frameon=False)
        return _svg(
            figure, "What each defence leaves to an attack over what it leaves to a user; the table gives the numbers"
        )


def _within(axes: Axes, tick: float) -> bool:
    low, high = axes.get_xlim()
    return low <= tick <= high


def ridges(
    samples: Mapping[str, np.ndarray],
    labels: Mapping[str, str],
    cuts: Sequence[tuple[str, float, bool]],
    axis: str,
    width: float,
) -> Markup:
    """How alike single comparisons are: one histogram under the other, each scaled to its own peak.

    Args:
        samples: name -> similarities (n,), from top to bottom; what is not finite is left out and counted.
        labels: name -> label.
        cuts: the thresholds: label, value, trusted.
        axis: the label of the axis.
        width: inches.
    """
    finite = {name: values[np.isfinite(values)] for name, values in samples.items()}
    everything = np.concatenate([*finite.values(), np.array([value for _, value, _ in cuts])])
    low, high = (float(everything.min()), float(everything.max())) if everything.size else (0.0, 1.0)
    edges = np.linspace(low, high if high > low else low + 1, 61)
    with style.context(["default", _STYLE]):
        figure = Figure(figsize=(width, 0.7 + 0.46 * len(samples) + 0.15 * len(cuts)), layout="constrained")
        axes = figure.add_subplot()
        for lane, (name, values) in enumerate(finite.items()):
            counts = np.histogram(values, edges)[0]
            top = lane - 0.78 * counts / max(1, counts.max())
            colour = COLOURS.get(name, CONTROL)
            axes.fill_between(edges, np.append(top, lane), lane, step="post", color=colour, alpha=0.28, linewidth=0)
            axes.stairs(top, edges, baseline=lane, color=colour, linewidth=1)
        for step, (label, value, trusted) in enumerate(sorted(cuts, key=lambda cut: -cut[1])):
            top = -1.1 - 0.34 * step  # the further left, the higher: no label meets another's line
            axes.vlines(value, top, len(samples) - 0.9, colors=INK, linewidth=0.9, linestyles="-" if trusted else "--")
            axes.annotate(label, (value, top), (3, 0), textcoords="offset points", fontsize=7.5, va="top")
        axes.set_yticks([lane - 0.36 for lane in range(len(samples))], [labels[name] for name in samples])
        for lane, name in enumerate(samples):
            lost = len(samples[name]) - len(finite[name])
            count = f"n = {len(finite[name]):,}".replace(",", "\u202f") + (f" + {lost} faceless" if lost else "")
            at: dict[str, Any] = {"xycoords": axes.get_yaxis_transform(), "textcoords": "offset points", "ha": "right"}
            axes.annotate(count, (0, lane), (-6, 0), color=FAINT, fontsize=7, **at)
        axes.set_ylim(len(samples) - 0.9, -1 - 0.34 * len(cuts))
        axes.set_xlabel(axis)
        axes.tick_params(axis="y", length=0, pad=6)
        axes.spines["left"].set_visible(False)
        return _svg(figure, f"Histograms, {axis}: {', '.join(labels[name] for name in finite)}")


def exposures(values: Sequence[float], who: str) -> Markup:
    """How exposed each person is: a dot for each AUC, in the order in which they come, above and below guessing."""
    with style.context(["default", _STYLE]):
        figure = Figure(figsize=(WIDTH, 1.7), layout="constrained")
        axes = figure.add_subplot()
        axes.axhline(0.5, color=INK, linewidth=0.8)
        axes.plot(range(1, len(values) + 1), values, "o", color=COLOURS["search"], markersize=3.5)
        axes.set_ylim(-0.04, 1.04)
        axes.set_yticks([0, 0.5, 1], ["0", "AUC .5", "1"])
        axes.set_xlim(0, len(values) + 1)
        axes.set_xlabel(who)
        axes.grid(axis="y", color=RULE, linewidth=0.5)
        axes.set_axisbelow(True)
        return _svg(figure, f"AUC of each of {len(values)} {who}, from {max(values):.2f} to {min(values):.2f}")


def _svg(figure: Figure, alt: str) -> Markup:
    """The figure as `svg` in the colours of the page; ids that nothing refers to go: they would repeat in one page."""
    out = StringIO()
    FigureCanvasAgg(figure)
    with warnings.catch_warnings(), rc_context({"svg.hashsalt": alt}):
        warnings.filterwarnings("ignore", "Glyph .* missing")  # the reader's browser draws the text, in its own fonts
        figure.savefig(out, format="svg", metadata=dict.fromkeys(("Creator", "Date", "Format", "Type")))
    width, height = figure.get_size_inches() * 72
    inner = out.getvalue().partition("<svg")[2].partition(">")[2]
    inner = re.sub(r"<g id=\"[^\"]*\"", "<g", inner)
    inner = re.sub("|".join(VARIABLES), lambda colour: f"var(--{VARIABLES[colour[0]]}, {colour[0]})", inner)
    start = f'<svg viewBox="0 0 {width:g} {height:g}" width="{width:g}pt" role="img" aria-label="{escape(alt)}">'
    return Markup(start + inner)

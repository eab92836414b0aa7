"""Measurements as pictures: PNG, each for a light and for a dark page.

Figures are made without pyplot: no window, no state that a second picture would meet.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Place → value.
Values = Mapping[str, float] | Mapping[int, float]

OURS = "ours, Spark"
DPI = 110
LEAST_MS = 0.5  # of a phase that is drawn
CROWDED = 1.5  # places nearer to the next one stay without their number
INCHES = (7.0, 4.2)


@dataclass(frozen=True)
class Theme:
    """Colours: the page's, the writing's, and the series' (told apart by colour-blind people too)."""

    page: str
    ink: str
    series: tuple[str, ...]


THEMES = {
    "light": Theme("#ffffff", "#24292f", ("#0072b2", "#d55e00", "#009e73", "#8a6d3b")),
    "dark": Theme("#0d1117", "#d0d7de", ("#56b4e9", "#e69f00", "#2fbf93", "#cc79a7")),
}


@dataclass(frozen=True)
class Chart:
    """One picture.

    Attributes:
        name: of the file, without theme and ending.
        unit: what a value is.
        axis: what the places are.
        series: each one's name → place → value. Places that are numbers are drawn as lines on logarithmic axes,
            others as bars.
        goal: a line at this value, named after its figure; None: there is none.
    """

    name: str
    title: str
    unit: str
    axis: str
    series: Mapping[str, Values]
    goal: float | None = None

    @property
    def is_lines(self) -> bool:
        """Whether the places are numbers."""
        return all(isinstance(place, int) for values in self.series.values() for place in values)


def draw(charts: Sequence[Chart], folder: Path) -> list[Path]:
    """Write each chart as NAME-light.png and NAME-dark.png into `folder`; return the files."""
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for chart in charts:
        for name, theme in THEMES.items():
            path = folder / f"{chart.name}-{name}.png"
            _draw(chart, theme, path)
            written.append(path)
    return written


def charts(what: str, result: dict[str, Any]) -> list[Chart]:
    """Return the pictures of a command's result, as `bench WHAT --json` prints it.

    Raises:
        KeyError: nothing is drawn of that command, or the result isn't its.
    """
    return DRAWN[what](result)


def _draw(chart: Chart, theme: Theme, path: Path) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure: Figure = Figure(figsize=INCHES, layout="constrained", facecolor=theme.page)
    FigureCanvasAgg(figure)
    axes = figure.add_subplot(facecolor=theme.page)
    (_lines if chart.is_lines else _bars)(axes, chart, theme)
    if chart.goal is not None:
        axes.axhline(chart.goal, color=theme.ink, linestyle=":", linewidth=1, label=f"goal {chart.goal:g}")
    axes.set_title(chart.title, color=theme.ink, loc="left")
    axes.set_xlabel(chart.axis, color=theme.ink)
    axes.set_ylabel(chart.unit, color=theme.ink)
    axes.tick_params(colors=theme.ink, which="both")
    axes.grid(axis="y", alpha=0.25)
    for side, spine in axes.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_color(theme.ink)
    if len(chart.series) > 1 or chart.goal is not None:
        figure.legend(loc="outside right upper", facecolor=theme.page, edgecolor="none", labelcolor=theme.ink)
    # Without the version of matplotlib: the same figures, the same bytes.
    figure.savefig(path, format="png", dpi=DPI, metadata={"Software": None})


def _lines(axes: "Axes", chart: Chart, theme: Theme) -> None:
    from matplotlib.ticker import FuncFormatter, NullLocator

    for (label, values), colour in zip(chart.series.items(), theme.series, strict=False):
        axes.plot([int(place) for place in values], list(values.values()), marker="o", color=colour, label=label)
    places = sorted({int(place) for values in chart.series.values() for place in values})
    axes.set_xscale("log")
    axes.set_yscale("log")
    crowded = {place for place, after in pairwise(places) if after < CROWDED * place}
    axes.set_xticks(places, ["" if place in crowded else f"{place:,}" for place in places])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,g}"))
    axes.yaxis.set_minor_formatter(FuncFormatter(_some_minor))


def _some_minor(value: float, _: int) -> str:
    """Name 2 and 5 between the powers of ten."""
    return f"{value:,g}" if f"{value:e}"[0] in "25" else ""


def _bars(axes: "Axes", chart: Chart, theme: Theme) -> None:
    series = [{str(place): value for place, value in values.items()} for values in chart.series.values()]
    places = list(dict.fromkeys(place for values in series for place in values))
    width = 0.8 / len(chart.series)
    for number, (label, values, colour) in enumerate(zip(chart.series, series, theme.series, strict=False)):
        left = [at + (number - (len(chart.series) - 1) / 2) * width for at in range(len(places))]
        bars = axes.bar(left, [values.get(place, 0.0) for place in places], width * 0.9, color=colour, label=label)
        axes.bar_label(bars, fmt=_figure, color=theme.ink, fontsize=8, padding=2)
    axes.set_xticks(range(len(places)), places)


def _figure(value: float) -> str:
    """Return four digits of a bar's value, and all of a large one's before the point.

    >>> _figure(59_289.8), _figure(27.31)
    ('59,290', '27.31')
    """
    return f"{value:,.0f}" if value >= 1_000 else f"{value:.4g}"


def _stream(result: dict[str, Any]) -> list[Chart]:
    paced = {int(rate): figures for rate, figures in result["paced"].items()}
    if not paced:
        return []
    names = {"median": "p50", "95 %": "p95", "99 %": "p99", "99.9 %": "p999"}
    latency = {label: {rate: figures[key] for rate, figures in paced.items()} for label, key in names.items()}
    phases = {f"{rate:,}/s": _phases(figures) for rate, figures in paced.items()}
    return [
        Chart(
            "stream-latency", "From transaction to prediction", "ms, broker to broker", "transactions a second", latency
        ),
        Chart(
            "stream-batch",
            "Where a micro-batch's time goes",
            "ms, median",
            "phase",
            {k: v for k, v in phases.items() if v},
        ),
    ]


def _phases(figures: dict[str, float]) -> dict[str, float]:
    """Return a micro-batch's phases of half a millisecond and more, the whole among them."""
    known = ((key, ms) for key, ms in figures.items() if key.startswith("batch_") and key.endswith("_ms"))
    return {"whole" if key == "batch_ms" else key[6:-3]: ms for key, ms in known if ms >= LEAST_MS}


def _peers(result: dict[str, Any]) -> list[Chart]:
    systems = [name for name in result if isinstance(result[name], dict) and "cpu_s_per_million" in result[name]]
    return [
        Chart(
            f"peers-{key}",
            title,
            unit,
            "",
            {"": {OURS if name == "spark" else name: result[name][figure] for name in systems}},
        )
        for key, figure, title, unit in (
            ("cpu", "cpu_s_per_million", "Processor time", "s per million events"),
            ("rate", "events_per_s", "A backlog drained", "events a second"),
        )
    ]


def _recovery(result: dict[str, Any]) -> list[Chart]:
    seconds = {f"kill {number}": each["seconds"] for number, each in enumerate(result["runs"], 1)}
    return [Chart("recovery", "kill -9 to the first new prediction", "s", "", {"": seconds}, goal=15)]


def _scale(result: dict[str, Any]) -> list[Chart]:
    rates = {
        f"{int(count):,} {what}": figures["events_per_s"]
        for what in ("users", "entries")
        for count, figures in result[what].items()
    }
    return [Chart("scale", "A backlog drained", "events a second", "", {"": rates})]


def _store(result: dict[str, Any]) -> list[Chart]:
    series: dict[str, Values] = {}
    for store, by_length in result["stores"].items():
        for what in ("read", "commit") if by_length else ():
            batches = by_length["mix"].items()
            series[f"{store}, {what}"] = {int(batch): row[what]["p99_us_per_key"] for batch, row in batches}
    goal = result["goal"]["p99_us_per_key"]
    return [Chart("store", "The online store, realistic histories", "µs per key, p99", "keys in a batch", series, goal)]


def _features(result: dict[str, Any]) -> list[Chart]:
    names = {"fold": "fold", "unpack": "unpack", "pack": "pack"}
    series = {
        label: {int(length): row[key]["median"] for length, row in result["entries"].items() if int(length)}
        for label, key in names.items()
    }
    return [Chart("features", "A user's features", "ns per event", "entries of the history", series)]


def _model(result: dict[str, Any]) -> list[Chart]:
    names = {"compiled forest": "compiled_us", "XGBoost": "xgboost_us", "ONNX Runtime": "onnx_us"}
    series = {
        label: {int(rows): row[key]["median"] for rows, row in result["rows"].items() if row[key] is not None}
        for label, key in names.items()
    }
    title = "Scoring, one thread"
    return [Chart("model", title, "µs per row", "rows of a batch", {k: v for k, v in series.items() if v})]


def _codec(result: dict[str, Any]) -> list[Chart]:
    both = {name: row for name, row in result["calls"].items() if row["ratio"] is not None}
    series = {
        "ours, contract checked": {name: row["us"]["median"] for name, row in both.items()},
        "the standard library's json": {name: row["json_us"]["median"] for name, row in both.items()},
    }
    return [Chart("codec", "Reading and writing a message", "µs", "", series)]


DRAWN: dict[str, Callable[[dict[str, Any]], list[Chart]]] = {
    "stream": _stream,
    "peers": _peers,
    "recovery": _recovery,
    "scale": _scale,
    "store": _store,
    "features": _features,
    "model": _model,
    "codec": _codec,
}

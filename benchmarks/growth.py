"""How cost grows with batch, channels, pixels and depth: `python -m benchmarks.growth`, which draws growth.png.

Operators run in place, as in inference; flows make training steps and samples. Each legend gives the exponent b of
time ~ size^b, fitted to the larger half of the sizes, where a call's fixed cost no longer shows; 1 is linear.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from benchmarks.parts import models
from benchmarks.parts.models import Vectors
from benchmarks.parts.rows import Settings
from benchmarks.table import place
from flowkit import bijections as bij
from flowkit import nets
from flowkit.bench.operators import OPERATORS, random
from flowkit.bench.report import machine
from flowkit.bench.runner import in_place_contender
from flowkit.bench.timing import Contender, calling

Make = Callable[[int, torch.device], Contender]
HERE = Path(__file__).parent
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#666666", "#7A4B00")
MARKERS = "osD^vPX*"


@dataclass(frozen=True)
class Axis:
    """One panel: what grows, through which sizes, and what is timed at each."""

    name: str
    label: str
    sizes: tuple[int, ...]
    series: Mapping[str, Make]


def operator(name: str, shape: Callable[[int], tuple[int, ...]]) -> Make:
    """The operator's forward, in place, on a tensor of ``shape(size)``."""
    (found,) = (o for o in OPERATORS if o.name == name)

    def make(size: int, device: torch.device) -> Contender:
        x = random(torch.empty(shape(size), device=device), shape(size)[1])
        return in_place_contender(found.forward, (x, *found.operands(x)))

    return make


def flow(vary: Callable[[int], Vectors], training: bool) -> Make:
    """A training step, or sampling, of the tabular flow ``vary(size)``."""

    def make(size: int, device: torch.device) -> Contender:
        chosen = vary(size)
        plain = models.ours(models.vector_flow(chosen))
        x = torch.randn(chosen.batch, chosen.features, device=device)
        plain.start(x)
        model = models.optimised(plain, training)
        latents = model.start(x)
        return models.training_step(model, x) if training else models.sampling(model, latents)

    return make


def flows(vary: Callable[[int], Vectors]) -> dict[str, Make]:
    """Both tasks of the tabular flow."""
    return {"flow: training step": flow(vary, True), "flow: sampling": flow(vary, False)}


def operators(shape: Callable[[int], tuple[int, ...]]) -> dict[str, Make]:
    """The elementwise operators."""
    names = {
        "affine coupling": "affine_coupling",
        "RQS coupling": "rational_quadratic_coupling",
        "actnorm": "actnorm",
        "leaky ReLU": "leaky_relu",
    }
    return {name: operator(found, shape) for name, found in names.items()}


def inverse(layer: Callable[[int], bij.Bijection], shape: Callable[[int], tuple[int, ...]]) -> Make:
    """The inverse of ``layer(size)`` on a tensor of ``shape(size)``."""

    def make(size: int, device: torch.device) -> Contender:
        return calling(layer(size).to(device).eval().inverse, torch.randn(shape(size), device=device))

    return make


def autoregressive(features: int) -> bij.Bijection:
    """A masked autoregressive layer, its hidden width fixed, so that its network grows with the features."""
    return bij.MaskedAutoregressive(features, nets.made(hidden=128, depth=1))


def square(pixels: int) -> tuple[int, int]:
    """Height and width of a square of so many pixels."""
    return math.isqrt(pixels), math.isqrt(pixels)


def powers(first: int, last: int) -> tuple[int, ...]:
    """2^first, ..., 2^last."""
    return tuple(2**n for n in range(first, last + 1))


SMALL = Vectors(features=32, blocks=4, hidden=64, batch=512)
AXES = (
    Axis(
        "batch",
        "batch, 64 channels (flow: 32 features, 4 blocks)",
        powers(8, 15),
        {**operators(lambda n: (n, 64)), **flows(lambda n: replace(SMALL, batch=n))},
    ),
    Axis(
        "channels",
        "channels, 16 samples of 16 x 16 pixels or 256 vectors",
        powers(3, 10),
        {
            **operators(lambda n: (16, n, 16, 16)),
            "autoregressive inverse, vectors": inverse(autoregressive, lambda n: (256, n)),
        },
    ),
    Axis(
        "pixels",
        "pixels, 8 samples of 16 channels",
        tuple(4**n for n in range(3, 9)),
        {
            **operators(lambda n: (8, 16, *square(n))),
            "emerging inverse": inverse(lambda _: bij.EmergingConv(16), lambda n: (8, 16, *square(n))),
        },
    ),
    Axis(
        "depth",
        "depth in blocks, 512 samples of 32 features",
        powers(1, 7),
        flows(lambda n: replace(SMALL, blocks=n)),
    ),
)


def measure(axis: Axis, settings: Settings) -> dict[str, Any]:
    """Milliseconds of each series at each size, the series in turns; ``exponent`` of the larger half."""
    sizes = axis.sizes[:2] if settings.quick else axis.sizes
    found: dict[str, list[float]] = {name: [] for name in axis.series}
    for size in sizes:
        with torch.no_grad():
            contenders = {name: make(size, settings.device) for name, make in axis.series.items()}
            times = settings.times(contenders)
        for name, milliseconds in times.items():
            found[name].append(milliseconds)
        print(f"{axis.name} {size}: " + ", ".join(f"{name} {times[name]:.3g} ms" for name in times), flush=True)
    series = {name: {"ms": values, "exponent": exponent(sizes, values)} for name, values in found.items()}
    return {"label": axis.label, "sizes": list(sizes), "series": series}


def exponent(sizes: tuple[int, ...], values: list[float]) -> float:
    """The slope of log(values) over log(sizes), by least squares on the larger half of the sizes."""
    half = min(len(sizes) // 2, len(sizes) - 2)
    x, y = (torch.tensor(v[half:], dtype=torch.float64).log() for v in (sizes, values))
    x, y = x - x.mean(), y - y.mean()
    return float((x * y).sum() / x.square().sum())


def draw(content: dict[str, Any], file: Path) -> None:
    """The panels as one picture."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    names = list(dict.fromkeys(name for panel in content["axes"].values() for name in panel["series"]))
    figure, panels = pyplot.subplots(2, 2, figsize=(10, 9), dpi=110, layout="constrained")
    for axes, (name, panel) in zip(panels.flat, content["axes"].items(), strict=True):
        sizes = panel["sizes"]
        for series, found in panel["series"].items():
            index = names.index(series)
            style = {"color": COLOURS[index], "marker": MARKERS[index], "markersize": 5, "linewidth": 1.6}
            axes.loglog(sizes, found["ms"], label=f"{series}, {found['exponent']:.2f}", **style)
        start = 0.6 * min(found["ms"][-1] for found in panel["series"].values())
        axes.loglog(
            sizes, [start * size / sizes[-1] for size in sizes], "--", color="black", linewidth=1, label="slope 1"
        )
        axes.set(title=f"growing {name}", xlabel=panel["label"], ylabel="time, ms")
        axes.grid(which="major", color="#dddddd", linewidth=0.6)
        axes.spines[["top", "right"]].set_visible(False)
        place_below = {"loc": "upper center", "bbox_to_anchor": (0.5, -0.17), "ncols": 2, "frameon": False}
        axes.legend(fontsize=9, title="series, fitted exponent", title_fontsize=9, **place_below)
    figure.suptitle(place(content["machine"]), fontsize=9, color="#555555")
    figure.savefig(file)
    pyplot.close(figure)


def main(arguments: list[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=HERE / "growth.png", help="the picture (default: %(default)s)")
    parser.add_argument("--json", type=Path, default=HERE / "results" / "growth.json", help="default: %(default)s")
    parser.add_argument("--device", default="cpu", help="cpu (default) or cuda")
    parser.add_argument("--quick", action="store_true", help="few small sizes: tries the code, measures nothing")
    parser.add_argument("--draw", action="store_true", help="measure nothing, draw what the JSON file holds")
    options = parser.parse_args(arguments)
    if options.draw:
        content = json.loads(options.json.read_text(encoding="utf-8"))
    else:
        settings = Settings(torch.device(options.device), options.quick, seconds=0.5)
        torch.manual_seed(0)
        axes = {axis.name: measure(axis, settings) for axis in AXES}
        content = {"machine": machine(settings.device), "axes": axes}
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    draw(content, options.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())

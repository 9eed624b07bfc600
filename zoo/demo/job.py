"""The demo from end to end: train, measure, draw, report; whatever an earlier run finished is reused."""

from __future__ import annotations

import json
import time
from pathlib import Path

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from zoo.data.digits import digits
from zoo.demo import experiment, pictures, report
from zoo.demo.evaluation import MEANINGS, evaluate
from zoo.demo.settings import Settings
from zoo.training.stage import forget
from zoo.training.trainer import one_thread

FILES = (*(f"{name}.png" for name in report.PICTURES), "graph.svg", "report.html", "metrics.json")


def run(settings: Settings, folder: Path, console: Console, fresh: bool = False) -> dict[str, float]:
    """Runs what is not done yet and returns the figures.

    Arguments:
        folder: where everything goes; made if it does not exist.
        fresh: forget what an earlier run of the demo left there.

    Raises:
        KeyboardInterrupt: on Ctrl-C; the next call goes on where it was.
        ValueError: if ``folder`` is a file.
    """
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"--out: expected a folder, {str(folder)!r} is a file")
    if fresh:
        forget(folder, *FILES, "weights")
    folder.mkdir(parents=True, exist_ok=True)
    with one_thread():
        return _run(settings, folder, console)


def _run(settings: Settings, folder: Path, console: Console) -> dict[str, float]:
    parts = digits(settings.seed)
    sizes = ", ".join(f"{len(part)} {name}" for name, part in parts.items())
    console.print(f"Handwritten digits, 8x8 pixels: {sizes}", highlight=False)
    translation = experiment.train(settings, parts, folder / "weights", console)
    console.rule("[bold]4/4 Figures, pictures and report[/bold]", align="left", style="dim")
    begun = time.perf_counter()
    metrics = _known_metrics(folder, translation.fingerprint)
    if metrics is None:
        metrics = evaluate(translation, parts, settings)
        pictures.draw_all(translation, parts, metrics, settings.seed, folder)
        translation.stages["translator"].network.graph.draw(folder / "graph.svg")
        training = sum(stage.seconds for stage in translation.stages.values())
        metrics["seconds"] = training + time.perf_counter() - begun
        report.write(folder, metrics)
        kept = {**metrics, "fingerprint": translation.fingerprint}
        (folder / "metrics.json").write_text(json.dumps(kept, indent=2) + "\n", encoding="utf-8")
    console.print(_table(metrics))
    console.print(f"Report: {folder / 'report.html'}", highlight=False, soft_wrap=True)
    return metrics


def _known_metrics(folder: Path, fingerprint: str) -> dict[str, float] | None:
    """The figures of an earlier run of the same job, if it finished and its files are still there."""
    if not all((folder / name).is_file() for name in FILES):
        return None
    try:
        kept = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
        if kept["fingerprint"] == fingerprint:
            return {key: float(kept[key]) for key in MEANINGS}
    except (json.JSONDecodeError, KeyError):
        pass
    return None


def _table(metrics: dict[str, float]) -> Table:
    table = Table(title="On held-out digits", title_justify="left", title_style="bold", box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("figure", no_wrap=True)
    table.add_column("value", justify="right", no_wrap=True)
    table.add_column("meaning", style="dim")
    for key, meaning in MEANINGS.items():
        table.add_row(key, report.shown(key, metrics[key]), meaning)
    return table

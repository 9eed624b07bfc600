"""Progress of a stage: a live bar in a terminal, one line now and then in a log file."""

from __future__ import annotations

from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn


class StageProgress:
    """Shows how far a stage is.

    Arguments:
        console: where to; a live bar only if it is a terminal.
        epochs: how many there are in all.
        unit: what the losses are measured in, for the lines.
        word: what is counted.
    """

    def __init__(self, console: Console, epochs: int, unit: str, word: str = "epoch") -> None:
        self.console, self.epochs, self.unit, self.word = console, epochs, unit, word
        self._next_line = 0.0
        self._bar = Progress(
            BarColumn(bar_width=16),
            TextColumn(word),
            MofNCompleteColumn(),
            TextColumn("{task.fields[figures]}"),
            TimeRemainingColumn(),
            TextColumn("left"),
            console=console,
            disable=not console.is_terminal,
        )
        self._task = self._bar.add_task("", total=epochs, figures="starting")

    def __enter__(self) -> StageProgress:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def advance(self, epoch: int) -> None:
        """``epoch`` epochs are done."""
        self._bar.update(self._task, completed=epoch)

    def measured(self, epoch: int, train: float, validation: float | None) -> None:
        """New figures; in a log file, a line about every fifth of the way."""
        figures = f"training {train:.3f}" + (f", validation {validation:.3f}" if validation is not None else "")
        self._bar.update(self._task, figures=figures)
        if not self.console.is_terminal and (epoch >= self._next_line or epoch == self.epochs):
            self._next_line = epoch + self.epochs / 5
            self.console.print(
                f"  {self.word} {epoch:3d} of {self.epochs}: {figures} {self.unit}".rstrip(), highlight=False
            )

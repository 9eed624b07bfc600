"""What every use of Lightning's Trainer here shares: Ctrl-C that is an exception, no banners, few threads."""

from __future__ import annotations

import logging
import signal
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def keyboard_interrupt() -> Iterator[None]:
    """Lightning turns Ctrl-C into an exit and leaves the signal ignored; this gives KeyboardInterrupt back."""
    handler = signal.getsignal(signal.SIGINT)
    try:
        yield
    except SystemExit as stop:
        signal.signal(signal.SIGINT, handler)
        raise KeyboardInterrupt from stop


@contextmanager
def one_thread() -> Iterator[None]:
    """For small layers: a second thread saves nothing there, and waits for its turn on a busy machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


LOGGERS = ("lightning.pytorch", "lightning.fabric")


def silence() -> None:
    """``quiet`` for the rest of the process, one that a Trainer has started."""
    for name in LOGGERS:
        logging.getLogger(name).setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="lightning")


@contextmanager
def quiet() -> Iterator[None]:
    """Without Lightning's advice and banners; its errors still show."""
    loggers = [logging.getLogger(name) for name in LOGGERS]
    levels = [logger.level for logger in loggers]
    try:
        with warnings.catch_warnings():
            silence()
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)

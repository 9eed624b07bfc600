"""Published files: where they are, fetched once and checked."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Source:
    """A published file.

    Arguments:
        url: where it is.
        file: the name to keep it under.
        md5, sha256: of its content, those that were published.
        size: in bytes, None if it was not published.
    """

    url: str
    file: str
    md5: str | None = None
    sha256: str | None = None
    size: int | None = None


def fetch(source: Source, folder: Path | None = None) -> Path:
    """The file in the cache folder, fetched if it is not there; in the making: only a file that is there is found."""
    path = (Path.home() / ".cache" / "flowkit-zoo" if folder is None else folder) / source.file
    if not path.is_file():
        raise FileNotFoundError(f"weights: download {source.url} to {path}")
    return path

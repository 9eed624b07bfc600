"""Published files: where they are, what they must hash to, and how an interrupted download goes on."""

from __future__ import annotations

import hashlib
import os
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from http.client import HTTPException, HTTPResponse
from pathlib import Path

from zoo.extras import require

BLOCK = 1 << 18
TIMEOUT = 30  # seconds without a byte


@dataclass(frozen=True)
class Source:
    """A file that someone published.

    Arguments:
        url: http or https.
        file: what it is called in the cache, folders included.
        md5, sha256: hexadecimal; one of them where the authors give one. Without, only the size can be checked.
        size: in bytes, if known.
    """

    url: str
    file: str
    md5: str | None = None
    sha256: str | None = None
    size: int | None = None

    def __post_init__(self) -> None:
        if not self.url.startswith(("http://", "https://")):
            raise ValueError(f"url: expected http:// or https://, got {self.url!r}")
        if Path(self.file).is_absolute() or ".." in Path(self.file).parts or not self.file:
            raise ValueError(f"file: expected a name inside the cache, got {self.file!r}")

    def __str__(self) -> str:
        facts = [f"{self.size} bytes"] if self.size is not None else []
        facts += [f"{kind} {digest}" for kind, digest in self.digests.items()]
        return f"{self.url} ({', '.join(facts) or 'no hash published'})"

    @property
    def digests(self) -> dict[str, str]:
        """The hashes there are, in lower case by the name of their function."""
        given = {"md5": self.md5, "sha256": self.sha256}
        return {kind: digest.lower() for kind, digest in given.items() if digest}


def cache() -> Path:
    """Where files are kept: $FLOWKIT_ZOO_CACHE, or ~/.cache/flowkit-zoo."""
    return Path(os.environ.get("FLOWKIT_ZOO_CACHE") or Path.home() / ".cache" / "flowkit-zoo")


def fetch(source: Source, folder: Path | None = None) -> Path:
    """The file of a source, downloaded unless it is there; its size and hash are checked either way.

    A download that was cut off lies beside it as ``<file>.partial`` and is continued by the next call.

    Arguments:
        folder: of the file; ``cache()`` if None.

    Raises:
        FileNotFoundError: if it is not there and cannot be downloaded; says which file to put where by hand.
        ValueError: if its size or hash is wrong, or a web page comes in its place. Nothing is removed; a download with
            the wrong hash is renamed.
    """
    target = (cache() if folder is None else folder) / source.file
    if target.is_file():
        fault = _fault(source, target)
        if fault:
            raise ValueError(
                f"downloads: {str(target)!r} is not the published file: {fault}; move it away and call again to "
                f"download {source}"
            )
        return target
    partial = target.with_name(target.name + ".partial")
    partial.parent.mkdir(parents=True, exist_ok=True)
    try:
        _download(source, partial)
    except (OSError, HTTPException) as error:
        raise FileNotFoundError(_advice(source, target, partial, error)) from error
    fault = _fault(source, partial)
    if fault:
        rejected = target.with_name(target.name + ".rejected")
        partial.replace(rejected)
        raise ValueError(
            f"downloads: {source.url} gave another file than was published: {fault}; it is kept as {str(rejected)!r}, "
            f"the next call downloads anew; expected {source}"
        )
    partial.replace(target)
    return target


def _advice(source: Source, target: Path, partial: Path, error: Exception) -> str:
    reason = str(getattr(error, "reason", None) or error) or type(error).__name__
    if isinstance(error, urllib.error.HTTPError):
        reason = f"HTTP {error.code} {reason}"
    have = partial.stat().st_size if partial.is_file() else 0
    kept = f"; {have} bytes are kept in {str(partial)!r}, the same call goes on from there" if have else ""
    return (
        f"downloads: {str(target)!r} is not there and could not be downloaded ({reason}){kept}\n"
        f"  by hand: download {source}\n  and save it as {target}"
    )


def _download(source: Source, partial: Path) -> None:
    """Appends to ``partial`` what it lacks.

    Raises:
        OSError, HTTPException: if the connection fails, or ends early.
        ValueError: if the server sends a web page, or announces another size.
    """
    have = partial.stat().st_size if partial.is_file() else 0
    if have and have == source.size:
        return
    request = urllib.request.Request(source.url, headers={"Range": f"bytes={have}-"} if have else {})
    try:
        opened = urllib.request.urlopen(request, timeout=TIMEOUT)
    except urllib.error.HTTPError as error:
        if have and error.code == 416:  # there is nothing after what we have; the hash will tell whether it is all
            return
        raise
    with closing(opened) as response:
        if response.headers.get_content_type() == "text/html":
            raise ValueError(
                f"downloads: {source.url} answers with a web page in place of the file: the share may have ended, or "
                f"asks for something; look at it in a browser; expected {source}"
            )
        if have and not _continues(response, have):
            have = 0
        total = _total(response, have)
        if None not in (total, source.size) and total != source.size:
            raise ValueError(f"downloads: {source.url} has {total} bytes now; expected {source}")
        with partial.open("ab" if have else "wb") as file:
            for block in _shown(_blocks(response), source.file, have, total):
                file.write(block)
                have += len(block)
        if total is not None and have != total:
            raise OSError(f"the connection ended after {have} of {total} bytes")


def _continues(response: HTTPResponse, have: int) -> bool:
    """Whether the server sends the rest; else it sends the whole file."""
    return response.status == 206 and response.headers.get("Content-Range", "").startswith(f"bytes {have}-")


def _total(response: HTTPResponse, have: int) -> int | None:
    length = response.headers.get("Content-Length")
    return have + int(length) if length is not None else None


def _blocks(response: HTTPResponse) -> Iterator[bytes]:
    while block := response.read(BLOCK):
        yield block


def _shown(blocks: Iterator[bytes], name: str, have: int, total: int | None) -> Iterator[bytes]:
    """The blocks, with a progress bar in a terminal."""
    require("rich")
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    console = Console(stderr=True)
    columns = (TextColumn(name), BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        task = progress.add_task(name, total=total, completed=have)
        for block in blocks:
            yield block
            progress.advance(task, len(block))


def _fault(source: Source, file: Path) -> str | None:
    """What is wrong with a file, or None."""
    size = file.stat().st_size
    if source.size is not None and size != source.size:
        return f"expected {source.size} bytes, got {size}"
    hashes = {kind: hashlib.new(kind) for kind in source.digests}
    if hashes:
        with file.open("rb") as opened:
            while block := opened.read(BLOCK):
                for state in hashes.values():
                    state.update(block)
    for kind, digest in source.digests.items():
        found = hashes[kind].hexdigest()
        if found != digest:
            return f"expected {kind} {digest}, got {found}"
    return None

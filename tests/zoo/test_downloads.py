"""Downloads resume, are checked, and say what to do by hand when they cannot be had."""

import hashlib
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch

from zoo.downloads import Source, cache, fetch
from zoo.experts import classifiers, lpips

CONTENT = bytes(range(256)) * 4096  # 1 MiB
MD5, SHA256 = hashlib.md5(CONTENT).hexdigest(), hashlib.sha256(CONTENT).hexdigest()


class Server(ThreadingHTTPServer):
    """Serves CONTENT, with ranges; hangs up early or ignores ranges when told to."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.hang_up_after: int | None = None
        self.ranges = True
        self.kind = "application/octet-stream"
        self.asked: list[str | None] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/weights.ckpt"


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        server = self.server
        assert isinstance(server, Server)
        wanted = self.headers.get("Range")
        server.asked.append(wanted)
        if self.path != "/weights.ckpt":
            self.send_error(404, "Not Found")
            return
        first = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted and server.ranges else 0
        if first >= len(CONTENT):
            self.send_error(416)
            return
        self.send_response(206 if wanted and server.ranges else 200)
        if wanted and server.ranges:
            self.send_header("Content-Range", f"bytes {first}-{len(CONTENT) - 1}/{len(CONTENT)}")
        self.send_header("Content-Length", str(len(CONTENT) - first))
        self.send_header("Content-Type", server.kind)
        self.end_headers()
        last = len(CONTENT) if server.hang_up_after is None else first + server.hang_up_after
        self.wfile.write(CONTENT[first:last])

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as running:
        thread = threading.Thread(target=running.serve_forever, args=(0.01,))
        thread.start()
        yield running
        running.shutdown()
        thread.join()


def source(server: Server, **given: object) -> Source:
    facts = {"md5": MD5, "sha256": SHA256, "size": len(CONTENT)} | given
    return Source(server.url, "iin/weights.ckpt", **facts)  # type: ignore[arg-type]


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / "iin").iterdir())


def test_a_file_is_downloaded_once(server: Server, tmp_path: Path) -> None:
    file = fetch(source(server), tmp_path)
    assert file == tmp_path / "iin" / "weights.ckpt" and file.read_bytes() == CONTENT
    assert fetch(source(server), tmp_path) == file and server.asked == [None]
    assert names(tmp_path) == ["weights.ckpt"]


@pytest.mark.parametrize("ranges", [True, False])
def test_an_interrupted_download_goes_on(server: Server, tmp_path: Path, ranges: bool) -> None:
    server.hang_up_after, server.ranges = 300_000, ranges
    with pytest.raises(FileNotFoundError, match="ended after 300000 of 1048576 bytes.*goes on from there"):
        fetch(source(server), tmp_path)
    assert names(tmp_path) == ["weights.ckpt.partial"]
    server.hang_up_after = None
    assert fetch(source(server), tmp_path).read_bytes() == CONTENT
    assert server.asked == [None, "bytes=300000-"] and names(tmp_path) == ["weights.ckpt"]


@pytest.mark.parametrize("size", [len(CONTENT), None])
def test_a_whole_partial_file_is_taken(server: Server, tmp_path: Path, size: int | None) -> None:
    (tmp_path / "iin").mkdir()
    (tmp_path / "iin" / "weights.ckpt.partial").write_bytes(CONTENT)
    assert fetch(source(server, size=size), tmp_path).read_bytes() == CONTENT
    assert server.asked == ([] if size else [f"bytes={len(CONTENT)}-"])


@pytest.mark.parametrize("kind", ["md5", "sha256"])
def test_a_download_with_the_wrong_hash_is_not_used_but_kept(server: Server, tmp_path: Path, kind: str) -> None:
    with pytest.raises(ValueError, match=f"expected {kind} 00ff, got .*rejected"):
        fetch(source(server, **{kind: "00FF"}), tmp_path)
    assert names(tmp_path) == ["weights.ckpt.rejected"]
    assert fetch(source(server), tmp_path).read_bytes() == CONTENT


def test_a_wrong_size_is_told_before_the_download(server: Server, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="has 1048576 bytes now; expected .*7 bytes"):
        fetch(source(server, size=7), tmp_path)
    assert names(tmp_path) == []


def test_a_file_that_lies_there_is_checked_and_left_alone(server: Server, tmp_path: Path) -> None:
    file = tmp_path / "iin" / "weights.ckpt"
    file.parent.mkdir()
    for content, fault in ((b"short", "expected 1048576 bytes, got 5"), (CONTENT[::-1], f"expected md5 {MD5}")):
        file.write_bytes(content)
        with pytest.raises(ValueError, match=f"not the published file: {fault}.*move it away"):
            fetch(source(server), tmp_path)
        assert file.read_bytes() == content and server.asked == []


def test_offline_the_error_says_what_to_put_where(server: Server, tmp_path: Path) -> None:
    gone = Source("http://127.0.0.1:9/model.ckpt", "model.ckpt", md5=MD5, size=12)
    with pytest.raises(FileNotFoundError) as caught:
        fetch(gone, tmp_path)
    for part in (gone.url, MD5, "12 bytes", str(tmp_path / "model.ckpt"), "by hand"):
        assert part in str(caught.value)
    assert not isinstance(caught.value, ConnectionError)
    missing = Source(server.url.replace("weights", "other"), "other.ckpt")
    with pytest.raises(FileNotFoundError, match=r"HTTP 404 Not Found(.|\n)*no hash published"):
        fetch(missing, tmp_path)


def test_a_web_page_is_not_taken_for_the_file(server: Server, tmp_path: Path) -> None:
    server.kind = "text/html; charset=utf-8"
    with pytest.raises(ValueError, match="web page in place of the file"):
        fetch(Source(server.url, "iin/weights.ckpt"), tmp_path)
    assert names(tmp_path) == []


def test_offline_the_experts_of_torchvision_say_what_to_put_where(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def offline(*_: object, **__: object) -> None:
        raise urllib.error.URLError("no network")

    monkeypatch.setattr(urllib.request, "urlopen", offline)
    monkeypatch.setattr(torch.hub, "urlopen", offline)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setenv("FLOWKIT_ZOO_CACHE", str(tmp_path))
    linear = {f"lin{i}.model.1.weight": torch.ones(1, width, 1, 1) for i, width in enumerate(lpips.WIDTHS)}
    torch.save(linear, tmp_path / "linear.pth")
    for load, name in (
        (lambda: lpips.published(tmp_path / "linear.pth"), "vgg16-397923af.pth"),
        (lambda: classifiers.classifier("squeezenet1_1", weights="imagenet"), "squeezenet1_1-b8a52dc0.pth"),
    ):
        with pytest.raises(FileNotFoundError, match=f"{name}' is not there(.|\n)*by hand: download https"):
            load()


def test_the_cache_is_where_the_environment_says(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("FLOWKIT_ZOO_CACHE", str(tmp_path))
    assert cache() == tmp_path
    monkeypatch.delenv("FLOWKIT_ZOO_CACHE")
    assert cache() == Path.home() / ".cache" / "flowkit-zoo"
    with pytest.raises(ValueError, match="expected http:// or https://"):
        Source("file:///etc/passwd", "a")
    with pytest.raises(ValueError, match="a name inside the cache"):
        Source("https://example.org/a", "../a")

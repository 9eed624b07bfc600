"""Videos as frames: read from a film, an animated GIF or a folder of images, and written as a GIF or a film."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from zoo.data.folders import SUFFIXES, read_image
from zoo.data.images import U8, centre_crop, nchw, resize_smallest, to_float, to_u8
from zoo.extras import require

FRAMES_PER_SECOND = 25
"""Of the authors' video demo."""
FILMS = (".mp4", ".avi", ".mov", ".webm", ".mkv")


def read(path: str | Path, size: int) -> Tensor:
    """The frames of a film, a GIF or a folder of images (in the order of names): (N, 3, size, size) in [-1, 1].

    Raises:
        FileNotFoundError: if there is nothing, or no frame in it.
        ValueError: for a file that is no video.
        ModuleNotFoundError: for a film where PyAV, which reads films, is not installed.
    """
    path = Path(path)
    if path.is_dir():
        frames = [read_image(file) for file in sorted(path.iterdir()) if file.suffix.lower() in SUFFIXES]
    elif not path.is_file():
        raise FileNotFoundError(f"frames: no film, GIF or folder {str(path)!r}")
    else:
        frames = _film(path) if path.suffix.lower() in FILMS else _gif(path)
    if not frames:
        raise FileNotFoundError(f"frames: none in {str(path)!r}; expected images ({', '.join(SUFFIXES)})")
    return torch.stack([nchw(to_float(centre_crop(resize_smallest(frame, size), size))) for frame in frames])


def write(frames: Tensor, path: str | Path, per_second: int = FRAMES_PER_SECOND) -> None:
    """Writes frames (N, 3, H, W) in [-1, 1] with the greys of (x + 1) * 127.5, truncated.

    Arguments:
        path: a .gif, or a film (.mp4, even height and width) where PyAV is installed; its folder is made.

    Raises:
        ValueError: for another suffix; ModuleNotFoundError without PyAV for a film.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    arrays = [to_u8(frame.clamp(-1, 1).movedim(0, 2).numpy()) for frame in frames]
    if path.suffix.lower() in FILMS:
        _write_film(arrays, path, per_second)
    elif path.suffix.lower() == ".gif":
        from PIL import Image

        pictures = [Image.fromarray(array) for array in arrays]
        pictures[0].save(path, save_all=True, append_images=pictures[1:], duration=1000 // per_second, loop=0)
    else:
        raise ValueError(f"video: expected a file name that ends in .gif or {', '.join(FILMS)}, got {str(path)!r}")


def _gif(path: Path) -> list[U8]:
    from PIL import Image, ImageSequence, UnidentifiedImageError

    try:
        with Image.open(path) as image:
            return [np.asarray(frame.convert("RGB")) for frame in ImageSequence.Iterator(image)]
    except UnidentifiedImageError as error:
        raise ValueError(
            f"frames: expected a film ({', '.join(FILMS)}), a GIF or a folder of images, got {str(path)!r}"
        ) from error


def _film(path: Path) -> list[U8]:
    _require_films()
    import av

    with av.open(str(path)) as container:
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]


def _write_film(arrays: Sequence[U8], path: Path, per_second: int) -> None:
    _require_films()
    import av

    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=per_second)
        stream.height, stream.width = arrays[0].shape[:2]
        stream.pix_fmt = "yuv420p"
        for array in arrays:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(array, format="rgb24")))
        container.mux(stream.encode())


def _require_films() -> None:
    try:
        require("av")
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "video: films need PyAV, which is not installed; run pip install av, or use a GIF or a folder of images"
        ) from error

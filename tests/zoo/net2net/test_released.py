"""The published configurations from the command line, at reduced width between stand-ins."""

from pathlib import Path

import pytest

from zoo import cli
from zoo.net2net.graph import RELEASED
from zoo.net2net.released import NEEDED

LABELLED = ("anime-photography", "portraits-photography", "celeba-celebahq-ffhq")


@pytest.mark.parametrize("name", RELEASED)
def test_it_trains_and_draws(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, less = [f"net2net/{name}", "--out", str(tmp_path)], ["depth=2", "hidden=8"]
    assert cli.main(["sample", *out, "--random", *less, "count=2", "samples=1"]) == 0
    assert cli.main(["sample", *out, "count=2"]) == 1
    assert NEEDED[name] in capsys.readouterr().err
    assert cli.main(["train", *out, "--random", *less, "steps=1"]) == 0
    assert cli.main(["swap", *out, "count=2", "alpha=0.5"]) == 0
    assert cli.main(["reconstruct", *out, "count=2", "depth=3", "hidden=8"]) == 1
    assert "was not trained with depth=3" in capsys.readouterr().err
    assert cli.main(["reconstruct", *out, "count=2"]) == 0
    for verb in ("transfer", "sample-all-labels"):
        assert cli.main([verb, *out, "count=2"]) == (0 if name in LABELLED else 1)
    drawn = ["samples", "swap", "reconstruct", *(["transfer", "labels"] if name in LABELLED else [])]
    assert {path.stem for path in tmp_path.glob("*.png")} == set(drawn)
    assert all(path.stat().st_size > 1000 for path in tmp_path.glob("*.png"))

"""Numbers of FrEIA, normflows, nflows, zuko and glow-pytorch, computed by flowkit modules that hold their weights.

For every file in ``fixtures``: both directions and their log-dets in float32, the forward in float64, and the gradients
with respect to the input and every published parameter, as ``zoo parity`` runs them; see :mod:`tests.parity.peers`.
"""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from flowkit.bijections import InvertibleLinear
from tests.parity.importers import LIBRARIES
from tests.parity.peers import EXACT, INITIALISED, NOT_COVERED, ROUNDING, Peer
from zoo import parity

FIXTURES = Path(__file__).parent / "fixtures"
NAMES = sorted(path.stem.removeprefix("peer_") for path in FIXTURES.glob("peer_*.npz"))
FORWARD_ONLY = ["freia_rqs_identity"]  # FrEIA does not find its way back: errors of 14 in float32


def read(name: str) -> Peer:
    return Peer.of(parity.Fixture(FIXTURES / f"peer_{name}.npz"))


def agree(ours: Tensor, theirs: Tensor, tolerance: float = 1e-5) -> None:
    assert ours.shape == theirs.shape
    error, size = float((ours - theirs).detach().abs().max()), float(theirs.abs().max())
    assert error <= tolerance * max(1.0, size), f"off by {error:.1e}, numbers up to {size:.1e}"


@pytest.mark.parametrize("name", NAMES)
def test_agrees_with_the_peer(name: str) -> None:
    report = parity.run(FIXTURES / f"peer_{name}.npz")
    assert report.passed, report.fault or [f"{line.key}: {line.fault}" for line in report.lines if line.fault]


@pytest.mark.parametrize("name", [name for name in NAMES if name not in (*INITIALISED, *FORWARD_ONLY)])
def test_inverse_without_gradients(name: str) -> None:
    """A flow then takes the in-place path."""
    peer = read(name)
    (module, _), _ = peer.load()
    with torch.no_grad():
        x, logdet = module.inverse(*[peer.data[key] for key in peer.outputs()], **peer.conditions())
    agree(x, peer.data["out/x_rec"], ROUNDING.get(name, EXACT)[0])
    if "out/logdet_inv" in peer.data:
        agree(logdet, peer.data["out/logdet_inv"], ROUNDING.get(name, EXACT)[0])


def test_what_flowkit_does_not_have_is_a_failed_file_that_says_so(tmp_path: Path) -> None:
    whole = (FIXTURES / "peer_zuko_affine.npz").read_bytes()
    for name in NOT_COVERED:
        path = tmp_path / f"peer_{name}.npz"
        path.write_bytes(whole)
        assert "not in flowkit: " in parity.run(path).fault


@pytest.mark.parametrize("name", ["nflows_qrlinear", "nflows_svdlinear", "nflows_lulinear"])
def test_qr_layer_holds_the_matrix_of_nflows(name: str) -> None:
    peer = read(name)
    bias = peer.state["bias"]
    (module, state), _ = peer.load(torch.float64)
    columns = module(torch.eye(len(bias)).double())[0].detach() - bias.double()
    layer = InvertibleLinear(len(bias), parameterization="qr", bias=True, weight=columns.mT.float())
    layer.load_state_dict({**layer.state_dict(), "bias": bias})
    y, logdet = layer(peer.data["in/x"])
    agree(y, peer.data["out/y"])
    agree(logdet, peer.data["out/logdet"])
    x, inverse_logdet = layer.inverse(peer.data["out/y"])
    agree(x, peer.data["out/x_rec"])
    agree(inverse_logdet, peer.data["out/logdet_inv"])


def test_every_file_is_covered_or_listed_with_a_reason() -> None:
    assert not set(NAMES) & set(NOT_COVERED)
    assert len(NAMES) + len(NOT_COVERED) == 120
    assert all(name.split("_")[0] in LIBRARIES for name in [*NAMES, *NOT_COVERED])

"""FastFlow's flows against the model that anomalib assembles from FrEIA's AllInOneBlock, where FrEIA is installed."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from flowkit.bijections import AllInOneBlock, Compose
from flowkit.interop import anomalib, freia

LEVELS = {0: 4, 1: 6}


def subnet(kernel: int, padded: bool) -> Callable[[int, int], nn.Module]:
    """Two convolutions, in newer anomalib with their padding as layers of its own."""

    def make(inputs: int, outputs: int) -> nn.Module:
        hidden = int(inputs * 1.5)
        pad = [nn.ZeroPad2d(kernel // 2)] if padded else []
        same = 0 if padded else kernel // 2
        first, last = nn.Conv2d(inputs, hidden, kernel, padding=same), nn.Conv2d(hidden, outputs, kernel, padding=same)
        return nn.Sequential(*pad, first, nn.ReLU(), *pad, last)

    return make


def published(padded: bool = False) -> dict[str, Tensor]:
    """A state dict in the layout of anomalib, its numbers random."""
    state = {"model.norms.0.weight": torch.ones(3), "model.feature_extractor.conv1.weight": torch.ones(3)}
    for level, channels in LEVELS.items():
        for step in range(3):
            prefix = f"model.fast_flow_blocks.{level}.module_list.{step}."
            shape = (1, channels, 1, 1)
            order = torch.eye(channels)[torch.randperm(channels)][..., None, None]
            own = {"global_scale": 10 + torch.randn(shape), "global_offset": torch.randn(shape)}
            own |= {"w_perm": order, "w_perm_inv": order.transpose(0, 1).contiguous()}
            passive = channels - channels // 2
            net = subnet(1 if step % 2 else 3, padded)(passive, 2 * (channels // 2))
            own |= {f"subnet.{key}": 3 * value.detach() for key, value in net.state_dict().items()}
            state |= {prefix + key: value for key, value in own.items()}
    return state


@pytest.mark.parametrize("padded", [False, True])
def test_flows_of_both_layouts_invert(padded: bool) -> None:
    flows = anomalib.fastflow(published(padded))
    assert [len(flow) for flow in flows] == [3, 3] and not flows.training
    for flow, channels in zip(flows, LEVELS.values(), strict=True):
        assert isinstance(flow, Compose) and all(isinstance(step, AllInOneBlock) for step in flow)
        x = torch.randn(2, channels, 5, 7)
        y, logdet = flow(x)
        back, inverse_logdet = flow.inverse(y)
        torch.testing.assert_close(back, x, atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(inverse_logdet, -logdet)


@pytest.mark.parametrize("padded", [False, True])
def test_flows_equal_those_of_freia(padded: bool) -> None:
    framework = pytest.importorskip("FrEIA.framework")
    modules = pytest.importorskip("FrEIA.modules")
    state = published(padded)
    flows = anomalib.fastflow(state)
    for level, channels in LEVELS.items():
        theirs = framework.SequenceINN(channels, 5, 7)
        for step in range(3):
            make = subnet(1 if step % 2 else 3, padded)
            theirs.append(modules.AllInOneBlock, subnet_constructor=make, affine_clamping=2.0, permute_soft=False)
        prefix = f"model.fast_flow_blocks.{level}."
        own = {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}
        theirs.load_state_dict(own)
        x = torch.randn(2, channels, 5, 7)
        expected, expected_logdet = theirs(x)
        y, logdet = flows[level](x)
        scale = max(1.0, float(expected.abs().max()))
        assert float((y - expected).abs().max()) <= 1e-5 * scale
        assert float((logdet - expected_logdet).abs().max()) <= 1e-5 * max(1.0, float(expected_logdet.abs().max()))
        back, _ = theirs(expected, rev=True)
        assert float((flows[level].inverse(expected)[0] - back).abs().max()) <= 1e-4 * max(1.0, float(back.abs().max()))


def test_a_freshly_built_freia_block_is_read_as_it_is() -> None:
    modules = pytest.importorskip("FrEIA.modules")
    for soft in (False, True):
        theirs = modules.AllInOneBlock([(4,)], subnet_constructor=lambda i, o: nn.Linear(i, o), permute_soft=soft)
        ours = freia.all_in_one_block(
            {**theirs.state_dict()}, lambda i, o: nn.Linear(i, o), release="0.2", permute_soft=soft
        )
        x = torch.randn(3, 4)
        (expected,), expected_logdet = theirs([x])
        y, logdet = ours(x)
        torch.testing.assert_close(y, expected, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(logdet, expected_logdet, atol=1e-5, rtol=1e-5)


def test_what_does_not_fit_is_refused() -> None:
    net = subnet(3, False)
    block = {key.removeprefix("model.fast_flow_blocks.0.module_list.0."): v for key, v in published().items()}
    own = {key: v for key, v in block.items() if not key.startswith("model.")}
    with pytest.raises(ValueError, match="state: expected entries below fast_flow_blocks"):
        anomalib.fastflow({"model.norms.0.weight": torch.ones(3)})
    with pytest.raises(ValueError, match="state: expected a tensor 'global_offset', got nothing"):
        freia.all_in_one_block({k: v for k, v in own.items() if k != "global_offset"}, net)
    with pytest.raises(ValueError, match="also model"):
        freia.all_in_one_block(block, net)
    with pytest.raises(ValueError, match="release: expected '0.2' or 'git', since both"):
        rotation = torch.linalg.qr(torch.randn(4, 4))[0]
        freia.all_in_one_block({**own, "w_perm": rotation[..., None, None]}, net)
    with pytest.raises(ValueError, match="state: expected entries that fit the block"):
        freia.all_in_one_block(own, subnet(1, False))
    with pytest.raises(ValueError, match="state: expected two convolutions in each subnet"):
        anomalib.fastflow({"fast_flow_blocks.0.module_list.0.subnet.0.weight": torch.ones(1)})

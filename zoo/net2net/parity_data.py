"""Net2Net's data and its captioner beside recorded numbers of the authors' code."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from zoo.data import zcodes
from zoo.data.parity import net2net_preprocess
from zoo.experts.captioner import BEAMS, END, START, Decoder
from zoo.parity import Fixture

Answers = dict[str, Tensor]


def preprocess(fixture: Fixture) -> Answers:
    """Images of the data sets, and the condition of super-resolution."""
    found = net2net_preprocess(fixture.config, fixture.arrays)
    return {f"out/{key}": torch.from_numpy(value.copy()) for key, value in found.items()}


def captioner(fixture: Fixture) -> Answers:
    """Beam search from the encoder's map on, and the decoder's first state and look."""
    params, numbers = fixture.config["params"], fixture.config["word_map"]
    decoder = Decoder(
        params["vocab_size"],
        params.get("encoder_dim", 2048),
        params["embed_dim"],
        params["decoder_dim"],
        params["attention_dim"],
    ).eval()
    decoder.load_state_dict(fixture.state)
    pixels = fixture["in/feats"].flatten(2).transpose(1, 2)
    h, c = decoder.begin(pixels)
    seen, weights = decoder.attention(pixels, h)
    answers = {"out/h0": h, "out/c0": c, "out/awe": seen, "out/alpha": weights}
    for i, one in enumerate(pixels):
        found = decoder.search(one, numbers[START], numbers[END], params.get("beam_size", BEAMS), legacy=True)
        answers[f"out/seq{i}"] = torch.tensor(found)
    return answers


def codes(fixture: Fixture) -> Answers:
    """Both test sets of latents and classes."""
    params = fixture.config["params"]
    shape = params.get("z_shape", [zcodes.CODE])
    count, size, truncation = params["n_samples"], math.prod(shape), params.get("truncation", zcodes.TRUNCATION)
    sets = {
        "test": zcodes.test_samples(count, size, params.get("n_classes", zcodes.CLASSES), truncation),
        "restricted": zcodes.restricted_test_samples(count, size, truncation),
    }
    answers = {f"out/{name}_z": torch.from_numpy(z).reshape(-1, *shape) for name, (z, _) in sets.items()}
    return answers | {f"out/{name}_class": torch.from_numpy(drawn) for name, (_, drawn) in sets.items()}

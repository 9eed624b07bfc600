"""Emoji as data: rendering, names, and that no variant of a held-out emoji is trained on."""

import numpy as np
import pytest
import torch

from zoo.data import emoji
from zoo.metrics.retrieval import directions, found_among, linear_reader, most_likely_among

SQUARE = '<rect x="{x}" y="20" width="30" height="30" fill="{c}"/>'
SVG = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 72 72">{SQUARE}</svg>'
NAMES = {
    "1F600": ("cook",),
    "1F601": ("man cook dark skin tone",),
    "1F602": ("woman cook",),
    "1F603": ("one o'clock",),
    "1F604": ("twelve-thirty",),
    "1F605": ("red square",),
    "1F606": ("crimson square",),
    "1F607": ("tree",),
}
COLOURS = ["red", "blue", "green", "yellow", "purple", "#f00000", "#f10000", "black"]


def pictures() -> np.ndarray:
    pytest.importorskip("resvg_py")
    return np.stack([emoji.render(SVG.format(x=8 + 4 * (k if k < 5 else 5), c=c), 32) for k, c in enumerate(COLOURS)])


def test_a_picture_is_rendered_on_white_without_its_margin() -> None:
    picture = pictures()[0]
    assert picture.shape == (32, 32, 3) and picture.dtype == np.uint8
    assert (picture[0, 0] == 255).all() and (picture[15, 8] == (255, 0, 0)).all()


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("woman cook medium-light skin tone", "cook"),
        ("man dark skin tone curly hair", "person"),
        ("ten o'clock", "clock"),
        ("seven-thirty", "clock"),
        ("up-right arrow", "arrow"),
        ("green heart", "green heart"),
    ],
)
def test_a_family_is_the_name_without_the_words_of_variants(name: str, expected: str) -> None:
    assert emoji.family(name) == expected


def test_variants_by_name_and_by_picture_are_one_group() -> None:
    groups = emoji.of(pictures(), NAMES).groups.tolist()
    assert groups[0] == groups[1] == groups[2]  # by name
    assert groups[3] == groups[4]
    assert groups[5] == groups[6]  # by picture
    assert len({groups[0], groups[3], groups[5], groups[7]}) == 4


def test_no_group_is_in_both_parts_and_each_has_one_plain_member() -> None:
    found = emoji.of(pictures(), NAMES)
    for seed in range(10):
        train, held_out = found.split(0.4, seed)
        assert not set(train.groups.tolist()) & set(held_out.groups.tolist())
        assert len(train) + len(held_out) == len(found)
        assert len(held_out.plain_part()) == len(held_out.groups.unique())
        assert train.limited(1, seed).names == tuple(n for n in train.limited(1, seed + 1).names)
    assert ("cook",) in found.plain_part().names


def test_pictures_and_names_must_match() -> None:
    with pytest.raises(ValueError, match="one picture for each of 8 names, got 7"):
        emoji.of(pictures()[1:], NAMES)


def test_names_and_flags() -> None:
    pytest.importorskip("emoji")
    assert emoji.spoken("1F44B-1F3FD")[0] == "waving hand medium skin tone"
    assert emoji.spoken("1F600") == ("grinning face",)
    assert emoji.spoken("E346") == ()


def test_retrieval_is_perfect_at_the_own_candidate_and_at_chance_for_noise() -> None:
    generator = torch.Generator().manual_seed(0)
    candidates = torch.randn(60, 5, generator=generator)
    assert found_among(candidates[:, None] + 1e-4, candidates, 20, 0) == 1.0
    assert found_among(candidates[:, None].roll(1, 0), candidates, 60, 0) == 0.0
    noise = torch.randn(60, 30, 5, generator=generator)
    assert abs(found_among(noise, torch.randn(60, 5, generator=generator), 20, 0) - 0.05) < 0.03
    with pytest.raises(ValueError, match="expected 2 to 60"):
        found_among(noise, candidates, 61, 0)


def test_a_reader_finds_conditions_that_pictures_tell_and_no_others() -> None:
    generator = torch.Generator().manual_seed(0)
    conditions, mixing = torch.randn(300, 6, generator=generator), torch.randn(6, 9, generator=generator)
    features = conditions @ mixing
    read = linear_reader(features[:200], conditions[:200], ridge=1e-3)
    wanted = directions(conditions[200:], conditions[:200])
    assert found_among(read(features[200:])[:, None], wanted, 20, 0) > 0.95
    assert found_among(read(torch.randn(100, 1, 9, generator=generator)), wanted, 20, 0) < 0.15


def test_the_likeliest_condition_is_found_among_the_others() -> None:
    log_probs = torch.eye(40)
    assert most_likely_among(log_probs, 20, 0) == 1.0
    assert most_likely_among(-log_probs, 20, 0) == 0.0
    with pytest.raises(ValueError, match="among: expected 2 to 40"):
        most_likely_among(log_probs, 41, 0)

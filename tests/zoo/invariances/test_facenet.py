"""FaceNet: the size and keys of the published network, its layers by name, its normalisation, its files."""

from pathlib import Path

import pytest
import torch

from zoo.experts.facenet import HOOKS, InceptionResnetV1, facenet

PARAMETERS = 27_910_327  # of facenet-pytorch's network with the head for the 8,631 people of VGGFace2
PEOPLE = 8631
WITHOUT_SCALES = 23.469e6  # of the TensorFlow original without that head, whose norms have no scales
SHAPES = {"input": (3, 160, 160), "conv4a": (192, 36, 36), "mixed6a": (896, 8, 8), "avgpool1a": (1792,)}
SHAPES["embedding"] = (512,)


def test_as_many_parameters_as_published() -> None:
    sizes = {name: p.numel() for name, p in InceptionResnetV1().named_parameters()}
    assert sum(sizes.values()) + PEOPLE * (512 + 1) == PARAMETERS
    unscaled = sum(size for name, size in sizes.items() if not name.endswith("bn.weight"))
    assert abs(unscaled - WITHOUT_SCALES) < 2000


def test_halves_make_the_whole_at_every_layer_of_the_paper() -> None:
    assert SHAPES.keys() == {"input", *HOOKS}
    images = torch.rand(2, 3, 128, 128, generator=torch.Generator().manual_seed(0)) * 2 - 1
    with torch.no_grad():
        for cut, shape in SHAPES.items():
            box = facenet(cut)
            z = box.encode(images)
            assert z.shape == (2, *shape) and box.shape == shape
            answer = box(images)
            assert torch.equal(box.decode(z), answer)
            torch.testing.assert_close(answer.norm(dim=1), torch.ones(2))
    bytes_ = torch.tensor([0.0, 127.5, 255.0]).reshape(1, 3, 1, 1).expand(1, 3, 160, 160)
    wanted = (bytes_ - 127.5) / 128
    torch.testing.assert_close(facenet("input").encode(bytes_ / 127.5 - 1), wanted)


def test_a_file_in_the_published_layout_loads_without_its_head(tmp_path: Path) -> None:
    state = InceptionResnetV1().state_dict()
    head = {"logits.weight": torch.zeros(PEOPLE, 512), "logits.bias": torch.zeros(PEOPLE)}
    torch.save({**state, **head}, tmp_path / "vggface2.pt")
    loaded = facenet(weights=tmp_path / "vggface2.pt").network.state_dict()
    assert loaded.keys() == state.keys() and all(torch.equal(loaded[key], value) for key, value in state.items())
    assert {"conv2d_1a.conv.weight", "repeat_1.4.branch2.2.bn.running_var", "mixed_7a.branch1.1.conv.weight"} <= set(
        state
    )
    del state["block8.conv2d.bias"]
    torch.save(state, tmp_path / "short.pt")
    with pytest.raises(ValueError, match=r"missing: block8.conv2d.bias \(1792,\)"):
        facenet(weights=tmp_path / "short.pt")

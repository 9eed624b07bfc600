"""The paper's published numbers as data (arXiv 2005.13580), and the cost of a training worked out (table 2)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

EURO, CARBON = 0.216, 0.296
"""Price and kilograms of CO2 of a kilowatt hour, of the paper's table 2."""


@dataclass(frozen=True)
class Training:
    """A training.

    Arguments:
        days: how long.
        kilowatts: of the machine.
    """

    days: float
    kilowatts: float

    @property
    def energy(self) -> float:
        """Kilowatt hours."""
        return self.days * 24 * self.kilowatts

    @property
    def euros(self) -> float:
        """What the energy costs."""
        return self.energy * EURO

    @property
    def carbon(self) -> float:
        """Kilograms of CO2."""
        return self.energy * CARBON


TITAN_X, EIGHT_V100 = 0.6, 3.5
"""Kilowatts of a machine with one Titan X and of one with eight V100."""
TRAININGS = {
    "cINN": Training(1, TITAN_X),
    "BigGAN": Training(15, EIGHT_V100),
    "FUNIT": Training(14, EIGHT_V100),
    "BERT": Training(10.3, EIGHT_V100),
}
PRINTED = {
    "cINN": (14.4, 3.11, 4.26),
    "BigGAN": (1260.0, 272.16, 372.96),
    "FUNIT": (1176.0, 254.02, 348.10),
    "BERT": (865.2, 186.88, 256.10),
}
"""Table 2 as it is printed: kWh, EUR, kg."""

Figures = Mapping[str, Mapping[str, float | None]]
TEXT_TO_IMAGE: Figures = {
    "ours": {"IS": 34.7, "FID": 30.63},
    "SD-GAN": {"IS": 35.7, "FID": None},
    "AttnGAN": {"IS": 25.9, "FID": 35.49},
    "StackGAN": {"IS": 8.5, "FID": None},
    "DM-GAN": {"IS": 30.5, "FID": 32.64},
    "MirrorGAN": {"IS": 26.5, "FID": None},
    "HDGAN": {"IS": 11.9, "FID": None},
}
"""Table 1, COCO: inception score (higher is better) and FID (lower is better); None where none is printed."""
ATTRIBUTES: Figures = {
    "hair": {"ours": 15.18, "StarGAN": 20.94},
    "glasses": {"ours": 37.32, "StarGAN": 41.27},
    "gender": {"ours": 16.38, "StarGAN": 20.04},
    "beard": {"ours": 12.02, "StarGAN": 19.88},
    "age": {"ours": 10.77, "StarGAN": 21.77},
    "smiling": {"ours": 9.57, "StarGAN": 14.47},
}
"""Figure 6: FID after one attribute of all test images is flipped."""
FLIPPED = {
    "hair": "Blond_Hair",
    "glasses": "Eyeglasses",
    "gender": "Male",
    "beard": "No_Beard",
    "age": "Young",
    "smiling": "Smiling",
}
"""CelebA's attributes of figure 6."""
LAYERS: Figures = {
    "early": {"cINN": 34.0, "MLP": 24.2},
    "middle": {"cINN": 23.4, "MLP": 25.6},
    "last": {"cINN": 27.6, "MLP": 264.0},
}
"""Figure 12: FID of translations from layers of a segmentation network."""


def beside(published: Figures, measured: Figures) -> dict[str, dict[str, float | None]]:
    """A published table with a run's figures in further columns, None where nothing was measured.

    Arguments:
        measured: by row and new column.

    Raises:
        ValueError: for a row that the table does not have, or a column that it has.
    """
    strangers = [*(measured.keys() - published.keys())]
    columns = list(dict.fromkeys(column for row in measured.values() for column in row))
    taken = [column for column in columns if any(column in row for row in published.values())]
    if strangers or taken:
        raise ValueError(
            f"measured: expected rows among {', '.join(published)} and new columns, got "
            f"{', '.join(sorted(strangers) or taken)}"
        )
    new: dict[str, float | None] = dict.fromkeys(columns)
    return {name: {**row, **new, **measured.get(name, {})} for name, row in published.items()}


def cost_table() -> dict[str, tuple[float, float, float]]:
    """Table 2 worked out: kWh to one decimal, EUR to the cent, kg to ten grams."""
    return {name: (round(t.energy, 1), round(t.euros, 2), round(t.carbon, 2)) for name, t in TRAININGS.items()}

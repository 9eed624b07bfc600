"""report.html: the pictures, the figures and the commands in one file that needs no other."""

from __future__ import annotations

import base64
import html
from pathlib import Path

from zoo.demo.evaluation import MEANINGS

PICTURES = {
    "samples_per_condition": (
        "What does the classifier know?",
        "Each row starts with a digit that no training has seen, the most typical of its class in the test part. Only "
        "the classifier's representation of it is kept. The flow translates that into latents of the autoencoder, for "
        "each sample with another random z. What the samples of a row share, the classifier knows: which digit it is, "
        "and a good deal of its shape. Where they differ in slant, width or stroke, it has forgotten.",
    ),
    "invariances": (
        "What did it forget?",
        "The representation of each row stays as it is; only z moves, from the value that gives the input back to a "
        "random one. The last column shows how much each pixel varies over many z.",
    ),
    "swapped": (
        "Join what one image shows with how another is written",
        "The representation of one image and the z of another make a third. Down a column, z is the same; along a row, "
        "the representation is. The diagonal joins what belongs together.",
    ),
    "curves": (
        "How well does the flow fit?",
        "Bits that it takes to write down one dimension of a latent; the lower, the better the density fits. One "
        "Gaussian knows nothing of the representation; the other follows it linearly. The flow kept is the one with "
        "the lowest value on the validation part; the test part has no say in that.",
    ),
}

STYLE = """
:root { color-scheme: light; }
body { font: 16px/1.55 system-ui, sans-serif; color: #1b1b1b; background: #fff; max-width: 62rem; margin: 2.5rem auto;
       padding: 0 1.2rem; }
h1 { font-size: 1.9rem; line-height: 1.2; margin-bottom: .3rem; }
h2 { font-size: 1.25rem; margin-top: 2.6rem; }
p { max-width: 46rem; }
table { border-collapse: collapse; width: 100%; font-size: .95rem; }
th, td { text-align: left; padding: .35rem .8rem .35rem 0; border-bottom: 1px solid #e5e7eb; vertical-align: top; }
td:nth-child(2) { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; padding-right: 1.4rem; }
figure { margin: 1rem 0; overflow-x: auto; }
img { max-width: 100%; height: auto; }
pre { background: #f3f4f6; padding: .8rem 1rem; border-radius: .4rem; overflow-x: auto; }
.quiet { color: #6b7280; }
"""


def write(folder: Path, metrics: dict[str, float]) -> Path:
    """Writes ``report.html`` from the pictures in ``folder`` and returns its path."""
    sections = "\n".join(_section(folder, name, *texts) for name, texts in PICTURES.items())
    rows = "\n".join(
        f"<tr><td><code>{key}</code></td><td>{shown(key, metrics[key])}</td><td>{html.escape(MEANINGS[key])}</td></tr>"
        for key in MEANINGS
    )
    page = f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>flowkit demo</title><style>{STYLE}</style></head><body>
<h1>What a classifier knows, seen through an autoencoder</h1>
<p class="quiet">A small Network-to-Network translation (Rombach, Esser, Ommer, NeurIPS 2020, arXiv 2005.13580) on
scikit-learn's 8×8 handwritten digits. All figures and pictures are of held-out digits.</p>
<p>Two experts are trained apart and then fixed. A classifier turns an image into a representation, and that into a
digit. An autoencoder turns an image into a latent, and back. Between them stands one invertible network: given the
representation, it maps the latent to z, which is normally distributed and holds what the classifier does not represent.
Run backwards, it turns a representation and any z into a latent, which the autoencoder paints.</p>
<h2>Figures</h2>
<table><thead><tr><th>figure</th><th></th><th>meaning</th></tr></thead><tbody>
{rows}
</tbody></table>
{sections}
<h2>The flow</h2>
<figure>{(folder / "graph.svg").read_text(encoding="utf-8")}</figure>
<h2>Commands</h2>
<pre>python -m zoo demo                        # again: reuses what is trained; --fresh starts over
python -m zoo demo --seed 1 --out out/demo1  # another split, other networks
python -m zoo show demo/translator        # the flow as text; --svg FILE draws it

from zoo import weights
flow = weights.load("{html.escape((folder / "weights" / "translator.safetensors").as_posix())}")
z, logdet = flow(x=latent, condition=representation)
latent, _ = flow.inverse(z=z, condition=representation)</pre>
</body></html>
"""
    path = folder / "report.html"
    path.write_text(page, encoding="utf-8")
    return path


def shown(key: str, value: float) -> str:
    """A figure as people read it."""
    if key == "round_trip_error":
        return f"{value:.1e}"
    if key == "seconds":
        return f"{value:.0f}"
    if "bits" in key or key == "reconstruction_error":
        return f"{value:.3f}"
    return f"{100 * value:.1f} %"


def _section(folder: Path, name: str, title: str, text: str) -> str:
    data = base64.b64encode((folder / f"{name}.png").read_bytes()).decode("ascii")
    image = f'<img alt="{html.escape(title)}" src="data:image/png;base64,{data}">'
    return f"<h2>{html.escape(title)}</h2>\n<p>{html.escape(text)}</p>\n<figure>{image}</figure>"

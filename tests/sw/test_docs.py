"""The documentation's examples work as they stand."""

import re
from pathlib import Path

from spikeloom.training import config

DOCS = Path(__file__).parents[2] / "docs"


def test_the_example_configuration_is_valid(tmp_path):
    text = re.search(r"```toml\n(.*?)```", (DOCS / "training.md").read_text(), re.DOTALL)[1]
    path = tmp_path / "example.toml"
    path.write_text(text)
    assert [layer.size for layer in config.load(str(path)).layers] == [64, 10]


def test_readme_python_runs(tmp_path, monkeypatch):
    """Against a network of a few epochs where the README has the demo's."""
    from spikeloom.training import quantize, train
    monkeypatch.chdir(tmp_path)
    checkpoint = train.train("digits", "runs/digits", epochs=(1, 1), progress=False)
    quantize.quantize(checkpoint).save("runs/digits/network.npz")
    code = re.search(r"```python\n(.*?)```", (DOCS.parent / "README.md").read_text(), re.DOTALL)[1]
    exec(compile(code, "README.md", "exec"), {})

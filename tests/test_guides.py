"""The commands of the guides run as they stand, on less data and with a shorter training."""

import re
import shlex

import pytest
from conftest import ROOT

SMALLER = {
    "base_channels: 16": "base_channels: 16, num_stages: 2, inflate_stages: [], down_stages: [2]",
    "num_clips: 10": "num_clips: 1",
    "../../configs": str(ROOT / "configs"),
}


def commands(guide):
    """[[tool, argument, ...]] of a guide's indented lines that call python."""
    text = (ROOT / "docs" / guide).read_text().replace("\\\n", " ")
    lines = re.findall(r"^    python (\S+\.py .*)$", text, re.MULTILINE)
    return [shlex.split(line, comments=True) for line in lines]


@pytest.mark.parametrize("guide", ["custom_data.md", "layouts.md", "data_format.md"])
def test_the_commands_of_a_guide_run(run, tmp_path, guide):
    """data/ and output/ are put elsewhere, in the commands and in the configs they name."""
    moved = lambda text: re.sub(r"(?<![\w/])(data|output)/", rf"{tmp_path}/\1/", text)
    for config in (ROOT / "docs" / "examples").glob("*.yaml"):
        text = moved(config.read_text())
        for part, smaller in SMALLER.items():
            text = text.replace(part, smaller)
        name = re.search(r"^model_name: (\w+)", text, re.MULTILINE)
        text += f"output_dir: {tmp_path}/output/{name[1]}\n" if name else ""
        (tmp_path / config.name).write_text(text.replace("docs/examples", str(tmp_path)))
    if guide == "data_format.md":  # which takes the toy set for granted
        made = run("prepare_data", "toy", "--subjects", 3, "--repeats", 1, "-o", tmp_path / "data" / "toy_2d.pkl")
        assert made.code == 0
    for tool, *arguments in commands(guide):
        module = tool.split("/")[-1].removesuffix(".py")
        arguments = [moved(part).replace("docs/examples", str(tmp_path)) for part in arguments]
        if module == "benchmark":
            continue  # tests/benchmark runs it
        if module == "prepare_data" and arguments[0] == "toy":
            out = [] if "--out" in arguments else ["--out", tmp_path / "data" / "toy_2d.pkl"]
            arguments = [*arguments, *out, "--subjects", 3, "--repeats", 1]
        if module == "main":
            arguments += ["--max_iters", 2, "-o", "epochs=1"]
        result = run(module, *arguments)
        assert result.code == 0, f"{module} {arguments}\n{result.out[-1500:]}{result.err[-1500:]}"


def test_every_local_link_of_the_guides_leads_somewhere():
    for page in (ROOT / "docs").glob("*.md"):
        for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name}: {target}"

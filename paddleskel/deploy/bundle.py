"""`inference.yml`: everything besides the network that is needed to run an exported model.

It carries the pipeline the model was trained with, so that prediction cannot prepare its input in another way.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from paddleskel.config import dump_yaml, read_yaml
from paddleskel.errors import UserError
from paddleskel.files import write_atomically
from paddleskel.registry import conform
from paddleskel.skeleton.layout import Layout, load_layout

FORMAT = 1
MODEL_SUFFIXES = (".json", ".pdmodel")  # Paddle 3 and Paddle 2


@dataclass(frozen=True)
class TensorSpec:
    """An input or output: name, shape (-1 where any size goes) and type."""

    name: str
    shape: list[int]
    dtype: str


@dataclass(frozen=True)
class Bundle:
    """The content of inference.yml.

    Attributes:
        transforms: the config's PIPELINE. num_clips: clips the test of the config averages.
        average_clips: "prob" or "score".
        files: file name -> SHA-256.
        versions: what wrote it. metrics: scores recorded with the weights.
    """

    model_name: str
    layout: dict[str, Any]
    stream: str | list[str]
    num_classes: int
    transforms: list[Any]
    input: TensorSpec
    output: TensorSpec
    class_names: list[str] | None = None
    num_clips: int = 1
    average_clips: str = "prob"
    files: dict[str, str] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    metrics: dict[str, Any] = field(default_factory=dict)
    format: int = FORMAT

    def load_layout(self) -> Layout:
        return load_layout(self.layout)

    def label(self, index: int) -> str:
        """Name of a class, or its number."""
        return self.class_names[index] if self.class_names else str(index)


def write_bundle(path: Path, bundle: Bundle) -> None:
    write_atomically(path, dump_yaml(asdict(bundle)))


def read_bundle(path: Path) -> Bundle:
    """Read and check inference.yml."""
    if not path.is_file():
        raise UserError(
            f"{path}: no such file; tools/export_model.py writes it beside the model, and prediction needs it"
        )
    values = read_yaml(path)
    if not isinstance(values, Mapping) or values.get("format") != FORMAT:
        raise UserError(f"{path}: not the description of a model exported by this version; export the model again")
    return conform(values, Bundle, str(path))


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def find_model_file(path: Path) -> Path:
    """Return the model file, whichever of Paddle's two endings it has.

    Raises:
        UserError: neither `<stem>.json` nor `<stem>.pdmodel` is there.
    """
    for candidate in (path, *(path.with_suffix(suffix) for suffix in MODEL_SUFFIXES)):
        if candidate.is_file():
            return candidate
    raise UserError(f"{path}: no such model, nor one ending in {' or '.join(MODEL_SUFFIXES)}; export it first")


def check_files(bundle: Bundle, files: list[Path]) -> None:
    """Make sure that files are those that were exported together."""
    for file in files:
        if not file.is_file():
            raise UserError(f"{file}: no such file")
        expected = bundle.files.get(file.name)
        if expected is not None and sha256(file) != expected:
            raise UserError(
                f"{file}: differs from the file that was exported with its inference.yml; export the model again"
            )

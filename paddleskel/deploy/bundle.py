"""`inference.yml`: everything besides the network that is needed to run an exported model.

It carries the pipeline the model was trained with, so that prediction cannot prepare its input in another way, and
what the export found each engine to compute.
"""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from paddleskel.config import dump_yaml, read_yaml
from paddleskel.errors import UserError
from paddleskel.files import write_atomically
from paddleskel.registry import conform
from paddleskel.skeleton.layout import Layout, load_layout

FORMAT = 2
MODEL_SUFFIXES = (".json", ".pdmodel", ".onnx")  # Paddle 3, Paddle 2, ONNX
Precision = Literal["fp32", "fp16", "bf16", "int8"]


@dataclass(frozen=True)
class TensorSpec:
    """An input or output: name, shape (-1 where any size goes) and type."""

    name: str
    shape: list[int]
    dtype: str = "float32"


@dataclass(frozen=True)
class ModelFiles:
    """One form of the network: its files, the graph first, and what each tensor is called there."""

    format: Literal["paddle", "pdmodel", "onnx"]
    files: list[str]
    input: TensorSpec
    output: TensorSpec
    precision: Precision = "fp32"


@dataclass(frozen=True)
class Proof:
    """How an engine's output for one batch compares with the trained network's.

    difference: largest absolute difference over the largest logit; None where the engine gave nothing. note: why.
    """

    format: str
    precision: Precision
    engine: str
    version: str
    batch: int
    difference: float | None
    usable: bool
    note: str = ""


@dataclass(frozen=True)
class Accuracy:
    """What a form of the network costs and gives on an engine of the machine that exported it.

    top1: on `samples` validation clips, None without any. milliseconds: median of one clip. size: bytes of its files.
    """

    format: str
    precision: Precision
    engine: str
    top1: float | None
    samples: int
    milliseconds: float
    size: int


@dataclass(frozen=True)
class Bundle:
    """The content of inference.yml.

    Attributes:
        output: "logits", or "probs" where the graph ends in a softmax.
        streams: what the network sees; computed in the graph where `in_graph_streams` is set.
        transforms: the config's PIPELINE, which makes the model's input.
        num_clips: clips the test of the config averages. average_clips: "prob" or "score".
        checksums: file name -> SHA-256.
        versions: what wrote it. metrics: scores recorded with the weights.
    """

    model_name: str
    layout: dict[str, Any]
    stream: str | list[str]
    num_classes: int
    transforms: list[Any]
    models: list[ModelFiles]
    proof: list[Proof]
    output: Literal["logits", "probs"] = "logits"
    in_graph_streams: list[str] | None = None
    class_names: list[str] | None = None
    num_clips: int = 1
    average_clips: Literal["prob", "score"] = "prob"
    sample: str | None = None
    checksums: dict[str, str] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    metrics: dict[str, Any] = field(default_factory=dict)
    accuracy: list[Accuracy] = field(default_factory=list)
    format: int = FORMAT

    def load_layout(self) -> Layout:
        return load_layout(self.layout)

    def label(self, index: int) -> str:
        """Name of a class, or its number."""
        return self.class_names[index] if self.class_names else str(index)

    @property
    def input_shape(self) -> list[int]:
        """(M, T, V, C)."""
        return self.models[0].input.shape[1:]

    def is_usable(self, model: ModelFiles, engine: str) -> bool:
        """Whether the export proved that an engine computes a form of the network correctly."""
        rows = [
            row
            for row in self.proof
            if (row.format, row.precision, row.engine) == (model.format, model.precision, engine)
        ]
        return bool(rows) and all(row.usable for row in rows)


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
    bundle = conform(values, Bundle, str(path))
    if not bundle.models:
        raise UserError(f"{path}: names no model file; export the model again")
    return bundle


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def find_description(path: Path) -> Path:
    """Return the description of an exported model, given its folder, one of its model files, or itself.

    Raises:
        UserError: nothing exported is there, or several models in one folder.
    """
    if path.suffix == ".yml":
        return path
    if path.is_dir():
        if (path / "inference.yml").is_file():
            return path / "inference.yml"
        found = [file for file in sorted(path.glob("*.yml")) if file.with_suffix(".pdiparams").is_file()]
        if len(found) == 1:
            return found[0]
        if found:
            names = ", ".join(file.name for file in found)
            raise UserError(f"{path}: holds several exported models ({names}); name one of these files")
        raise UserError(f"{path}: no such model: the folder holds no inference.yml; tools/export_model.py writes it")
    if path.suffix not in MODEL_SUFFIXES:
        raise UserError(f"{path}: no such model; name the folder that tools/export_model.py wrote")
    if not path.is_file() and not any(path.with_suffix(suffix).is_file() for suffix in MODEL_SUFFIXES):
        raise UserError(f"{path}: no such model, nor one ending in {', '.join(MODEL_SUFFIXES)}; export it first")
    return path.with_suffix(".yml")


def check_files(bundle: Bundle, files: Iterable[Path]) -> None:
    """Make sure that files are those that were exported together."""
    for file in files:
        if not file.is_file():
            raise UserError(f"{file}: no such file")
        expected = bundle.checksums.get(file.name)
        if expected is not None and sha256(file) != expected:
            raise UserError(
                f"{file}: differs from the file that was exported with its inference.yml; export the model again"
            )

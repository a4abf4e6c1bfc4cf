"""From a skeleton sequence to an action, with nothing but an exported folder."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from paddleskel.data.annotation import parse_annotation, read_annotations
from paddleskel.data.clip import Clip
from paddleskel.data.transforms import build_pipeline
from paddleskel.deploy.bundle import Bundle, ModelFiles, check_files, find_description, read_bundle
from paddleskel.deploy.engines import ENGINES, EngineOptions, engine_kind
from paddleskel.deploy.proof import TOLERANCE
from paddleskel.errors import UserError
from paddleskel.metrics import softmax


@dataclass(frozen=True)
class Prediction:
    """Scores of one sample. probs: (classes,). classes: indices, best first."""

    id: str
    probs: np.ndarray
    labels: list[str]

    @property
    def classes(self) -> np.ndarray:
        return np.argsort(-self.probs, kind="stable")


def choose(bundle: Bundle, name: str, only: str | None, where: Path, use_gpu: bool = False) -> tuple[str, ModelFiles]:
    """Return an engine and the form of the network to run on it.

    Args:
        name: an engine, or "auto": the fastest that is installed and proved right at export; on a GPU, Paddle first.
        only: a format to keep to.

    Raises:
        UserError: the engine asked for gave wrong numbers at export or reads none of the formats, or there is none.
    """
    models = [model for model in bundle.models if only in (None, model.format)]
    if name != "auto":
        kind = engine_kind(name)
        fitting = [model for model in models if model.format in kind.formats]
        if not fitting:
            have = ", ".join(sorted({model.format for model in models}))
            raise UserError(f"{where}: --engine {name} reads {' or '.join(kind.formats)}, but there is only {have}")
        for model in fitting:
            if bundle.is_usable(model, name):
                return name, model
        notes = {row.note for row in bundle.proof if row.engine == name and row.note} or {"it was not tried"}
        raise UserError(
            f"{where}: --engine {name} was not proved right when this model was exported ({'; '.join(notes)}); use "
            "another engine, or export again with it installed"
        )
    order = sorted(ENGINES, key=lambda engine: not engine.startswith("paddle")) if use_gpu else list(ENGINES)
    for engine in order:
        if ENGINES[engine].version is None:
            continue
        for model in models:
            if model.format in ENGINES[engine].formats and bundle.is_usable(model, engine):
                return engine, model
    right = sorted({row.engine for row in bundle.proof if row.usable})
    raise UserError(f"{where}: no engine that was proved right is installed here; install one of {', '.join(right)}")


class Predictor:
    """Run an exported model.

    Args:
        model: the exported folder, or one model file in it (then that form of the network is used).
        engine: "auto", "paddle", "paddle-onednn", "onnxruntime" or "openvino".
        num_clips: clips sampled from each sequence and averaged; the config's test uses the number in inference.yml.
        options: see `EngineOptions`.
        params_file: of a Paddle model that does not lie beside its graph.
    """

    def __init__(
        self,
        model: str | Path,
        engine: str = "auto",
        num_clips: int = 1,
        options: EngineOptions = EngineOptions(),  # noqa: B008, frozen
        params_file: str | Path | None = None,
    ):
        description = find_description(Path(model))
        self.bundle = read_bundle(description)
        only = _format_of(Path(model), self.bundle)
        self.engine_name, self.model = choose(self.bundle, engine, only, description.parent, options.use_gpu)
        files = [description.parent / file for file in self.model.files]
        if params_file and len(files) > 1:
            files[1] = Path(params_file)
        check_files(self.bundle, files)
        self.layout = self.bundle.load_layout()
        self.pipeline = build_pipeline(self.bundle.transforms, self.layout, self.bundle.stream, num_clips=num_clips)
        self.engine = ENGINES[self.engine_name].make(files, options)
        if self.bundle.sample:
            self._check_on_sample(description.parent / self.bundle.sample)

    def _check_on_sample(self, path: Path) -> None:
        """Make sure that what was right on the machine of the export is right on this one."""
        check_files(self.bundle, [path])
        with np.load(path) as sample:
            got, expected = self.engine(sample["input"]), sample["output"]
        difference = np.abs(got - expected).max() / np.abs(expected).max()
        if not difference <= TOLERANCE[self.model.precision]:
            raise UserError(
                f"{path.parent}: {self.engine_name} computes something else on this machine than the trained network "
                f"(off by {difference:.2g} of the largest output); choose another --engine"
            )

    def read(self, path: str | Path) -> list[Clip]:
        """Read the samples of a pickle: a whole annotation file, a list, or one annotation. Labels are not needed."""
        file = read_annotations(path)
        return [parse_annotation(item, file.path, self.layout, need_label=False) for item in file.select(None)]

    def predict(self, clips: Iterable[Clip], batch_size: int = 1) -> Iterator[Prediction]:
        """Yield the prediction of each sample, running `batch_size` of them at a time."""
        waiting: list[Clip] = []
        for clip in clips:
            waiting.append(clip)
            if len(waiting) == batch_size:
                yield from self._run(waiting)
                waiting = []
        if waiting:
            yield from self._run(waiting)

    def _run(self, clips: Sequence[Clip]) -> Iterator[Prediction]:
        rng = np.random.RandomState(0)  # unused outside training; transforms take one
        inputs = np.stack([self.pipeline(clip, rng) for clip in clips])
        samples, num_clips = inputs.shape[:2]
        expected = self.bundle.input_shape
        if list(inputs.shape[2:]) != expected:
            raise UserError(
                f"sample '{clips[0].id}' becomes an input of shape {list(inputs.shape[2:])}, the model wants "
                f"{expected} (persons, frames, joints, channels); does it have confidences where the training data had "
                "none, or the reverse?"
            )
        outputs = self.engine(inputs.reshape(-1, *inputs.shape[2:])).reshape(samples, num_clips, -1)
        for clip, row in zip(clips, average(outputs, self.bundle)):
            yield Prediction(clip.id, row, self.bundle.class_names or [])


def average(outputs: np.ndarray, bundle: Bundle) -> np.ndarray:
    """(N, clips, classes) of the network -> (N, classes) probabilities, averaged as the config's test does."""
    if bundle.output == "probs":
        return outputs.astype(np.float64).mean(axis=1)
    if bundle.average_clips == "prob":
        return softmax(outputs).mean(axis=1)
    return softmax(outputs.mean(axis=1))


def _format_of(path: Path, bundle: Bundle) -> str | None:
    """The format that a model file stands for; either of Paddle's names finds either of its files."""
    if path.suffix == ".onnx":
        return "onnx"
    if path.suffix in (".json", ".pdmodel"):
        kinds = [model.format for model in bundle.models if model.format != "onnx"]
        exact = "paddle" if path.suffix == ".json" else "pdmodel"
        return exact if exact in kinds or not kinds else kinds[0]
    return None


def find_inputs(paths: Sequence[str | Path]) -> list[Path]:
    """Return the pickles that files and folders name; a folder stands for the .pkl files in it, sorted.

    Raises:
        UserError: a path that is not there, or a folder without pickles.
    """
    found = []
    for path in map(Path, paths):
        inside = sorted(path.glob("*.pkl")) if path.is_dir() else [path]
        if not inside:
            raise UserError(f"{path}: no .pkl file in this folder")
        found += inside
    for path in found:
        if not path.is_file():
            raise UserError(f"{path}: no such file")
    return found

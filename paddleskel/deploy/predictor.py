"""From a skeleton sequence to an action, with nothing but an exported folder.

predictor = Predictor("output/STGCN_PlusPlus")
for prediction in predictor.predict(predictor.read("clip.pkl")):
    print(prediction.id, prediction.label, prediction.score)
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from paddleskel.data.annotation import parse_annotation
from paddleskel.data.clip import Clip
from paddleskel.data.npz import read_npz
from paddleskel.data.transforms import build_pipeline
from paddleskel.deploy.bundle import Bundle, ModelFiles, check_files, find_description, read_bundle
from paddleskel.deploy.engines import ENGINES, EngineOptions, engine_kind
from paddleskel.deploy.inputs import Reading, list_inputs, read_items
from paddleskel.deploy.proof import TOLERANCE
from paddleskel.deploy.stream import Stream
from paddleskel.deploy.window import Timeline, timeline, tracks
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

    @property
    def label(self) -> str:
        """Name of the best class, or its number."""
        best = int(self.probs.argmax())
        return self.labels[best] if self.labels else str(best)

    @property
    def score(self) -> float:
        """Probability of the best class."""
        return float(self.probs.max())


def choose(
    bundle: Bundle, name: str, only: str | None, where: Path, use_gpu: bool = False, precision: str | None = None
) -> tuple[str, ModelFiles]:
    """Return an engine and the form of the network to run on it.

    Args:
        name: an engine, or "auto": the fastest that is installed and proved right at export; on a GPU, Paddle first.
        only: a format to keep to. precision: default: fp32 where there is one.

    Raises:
        UserError: the engine asked for gave wrong numbers at export or reads none of the formats, or there is none.
    """
    models = [model for model in bundle.models if only in (None, model.format)]
    have = sorted({model.precision for model in models}, key=lambda kind: kind != "fp32")
    if precision is not None and precision not in have:
        raise UserError(f"{where}: --precision {precision}: this model was exported in {', '.join(have)}")
    models = [model for model in models if model.precision == (precision or have[0])]
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
        precision: which of the exported precisions; default: fp32 where there is one.
        params_file: of a Paddle model that does not lie beside its graph.
    """

    def __init__(
        self,
        model: str | Path,
        engine: str = "auto",
        num_clips: int = 1,
        options: EngineOptions = EngineOptions(),  # noqa: B008, frozen
        precision: str | None = None,
        params_file: str | Path | None = None,
    ):
        description = find_description(Path(model))
        self.bundle = read_bundle(description)
        only = _format_of(Path(model), self.bundle)
        self.engine_name, self.model = choose(self.bundle, engine, only, description.parent, options.use_gpu, precision)
        files = [description.parent / file for file in self.model.files]
        if params_file and len(files) > 1:
            files[1] = Path(params_file)
        check_files(self.bundle, files)
        self.layout = self.bundle.load_layout()
        self.pipeline = build_pipeline(self.bundle.transforms, self.layout, self.bundle.stream, num_clips=num_clips)
        options = replace(options, precision=self.model.precision)
        self.engine = ENGINES[self.engine_name].make(files, options)
        self.sample: Clip | None = None
        if self.bundle.sample:
            self.sample = self._check_on_sample(description.parent / self.bundle.sample)

    def _check_on_sample(self, path: Path) -> Clip:
        """Make sure that what was right on the machine of the export is right on this one; return the sample."""
        check_files(self.bundle, [path])
        sample = read_npz(path)
        got = self.engine(sample["input"])
        expected = sample["output_int8" if self.model.precision == "int8" else "output"]
        size = tuple(sample["image_size"].tolist()) if "image_size" in sample else None
        clip = Clip(sample["raw_keypoint"], sample.get("raw_score"), id="sample", image_size=size)
        difference = np.abs(got - expected).max() / np.abs(expected).max()
        if not difference <= TOLERANCE[self.model.precision]:
            raise UserError(
                f"{path.parent}: {self.engine_name} computes something else on this machine than the trained network "
                f"(off by {difference:.2g} of the largest output); choose another --engine"
            )
        return clip

    @property
    def num_person(self) -> int:
        """Persons the model looks at."""
        return self.bundle.input_shape[0]

    @property
    def frames(self) -> int:
        """Frames of one clip of the model."""
        return self.bundle.input_shape[1]

    def read(self, path: str | Path) -> list[Clip]:
        """Read the samples of any pose file or folder (see deploy/inputs.py). Labels are not needed."""
        items = read_items(list_inputs([str(path)]), Reading(self.layout, self.num_person))
        return [item.clip for item in items if item.clip is not None]

    def predict(self, clips: Iterable[Clip | Mapping], batch_size: int = 1) -> Iterator[Prediction]:
        """Yield the prediction of each sample, running `batch_size` of them at a time.

        clips: Clips, or annotations (mappings with `keypoint` of shape (M, T, V, C), see data/annotation.py).
        """
        waiting: list[Clip] = []
        for clip in clips:
            if isinstance(clip, Mapping):
                clip = parse_annotation(clip, "annotation", self.layout, need_label=False)
            waiting.append(clip)
            if len(waiting) == batch_size:
                yield from self._run(waiting)
                waiting = []
        if waiting:
            yield from self._run(waiting)

    def probs(self, clips: Sequence[Clip], batch_size: int = 8) -> np.ndarray:
        """Return (N, classes) probabilities."""
        return np.array([prediction.probs for prediction in self.predict(clips, batch_size)])

    def stream(
        self,
        fps: float = 30.0,
        window: int | None = None,
        stride: int | None = None,
        smoothing: float = 0.0,
        threshold: float = 0.0,
        image_size: tuple[int, int] | None = None,
    ) -> Stream:
        """Return an object that takes frames one at a time and decides every `stride` of them; see `Stream`.

        Args:
            window: frames a decision looks at; default: as many as the model's clip. stride: default: a quarter of it.
            smoothing: share of the last decision in the next. threshold: below it the label is "unknown".
        """
        window = window or self.frames
        return Stream(
            self.probs, self.bundle.label, self.frames, self.layout.num_joints, window, stride or max(1, window // 4),
            fps, smoothing, threshold, image_size, self.num_person,
        )  # fmt: skip

    def timelines(
        self, clip: Clip, window: int | None = None, stride: int | None = None, by_person: bool = False,
        threshold: float = 0.0, batch_size: int = 8,
    ) -> list[Timeline]:  # fmt: skip
        """Score an untrimmed sequence window by window: one timeline, or one for each person."""
        window = window or self.frames
        stride = stride or max(1, window // 4)
        people = tracks(clip) if by_person else [(None, clip)]
        return [
            timeline(part, lambda clips: self.probs(clips, batch_size), window, stride, self.frames, threshold, person)
            for person, part in people
        ]

    def prepare(self, clip: Clip) -> np.ndarray:
        """Return a clip as the network takes it, (clips, M, T, V, C) float32.

        Raises:
            UserError: it does not fit the network.
        """
        inputs = self.pipeline(clip, np.random.RandomState(0))  # unused outside training; transforms take one
        if list(inputs.shape[1:]) != self.bundle.input_shape:
            raise UserError(
                f"sample '{clip.id}' becomes an input of shape {list(inputs.shape[1:])}, the model wants "
                f"{self.bundle.input_shape} (persons, frames, joints, channels); does it have confidences where the "
                "training data had none, or the reverse?"
            )
        return inputs

    def score(self, inputs: Sequence[np.ndarray]) -> np.ndarray:
        """Return the probabilities, (N, classes), of N prepared clips in one run of the network."""
        batch = np.stack(inputs)
        outputs = self.engine(batch.reshape(-1, *batch.shape[2:])).reshape(*batch.shape[:2], -1)
        return average(outputs, self.bundle)

    def _run(self, clips: Sequence[Clip]) -> Iterator[Prediction]:
        probs = self.score([self.prepare(clip) for clip in clips])
        for clip, row in zip(clips, probs):
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

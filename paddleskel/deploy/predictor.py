"""From a skeleton sequence to an action, with nothing but an exported folder."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from paddleskel.data.annotation import parse_annotation, read_annotations
from paddleskel.data.clip import Clip
from paddleskel.data.transforms import build_pipeline
from paddleskel.deploy.bundle import check_files, find_model_file, read_bundle
from paddleskel.deploy.engines import PaddleEngine
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


class Predictor:
    """Run an exported model.

    Args:
        model_file: `inference.json` or `inference.pdmodel`; either is found under either name.
        params_file: default: the `.pdiparams` beside it.
        num_clips: clips sampled from each sequence and averaged; the config's test uses the number in inference.yml.
        use_gpu, threads: see `PaddleEngine`.
    """

    def __init__(
        self,
        model_file: str | Path,
        params_file: str | Path | None = None,
        num_clips: int = 1,
        use_gpu: bool = False,
        threads: int | None = None,
    ):
        model = find_model_file(Path(model_file))
        params = Path(params_file) if params_file else model.with_suffix(".pdiparams")
        self.bundle = read_bundle(model.with_suffix(".yml"))
        check_files(self.bundle, [model, params])
        self.layout = self.bundle.load_layout()
        self.pipeline = build_pipeline(self.bundle.transforms, self.layout, self.bundle.stream, num_clips=num_clips)
        self.engine = PaddleEngine(model, params, use_gpu, threads)

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
        expected = self.bundle.input.shape[1:]
        if list(inputs.shape[2:]) != expected:
            raise UserError(
                f"sample '{clips[0].id}' becomes an input of shape {list(inputs.shape[2:])}, the model wants "
                f"{expected} (persons, frames, joints, channels); does it have confidences where the training data had "
                "none, or the reverse?"
            )
        logits = self.engine(inputs.reshape(-1, *inputs.shape[2:])).reshape(samples, num_clips, -1)
        by_prob = self.bundle.average_clips == "prob"
        probs = softmax(logits).mean(axis=1) if by_prob else softmax(logits.mean(axis=1))
        for clip, row in zip(clips, probs):
            yield Prediction(clip.id, row, self.bundle.class_names or [])


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

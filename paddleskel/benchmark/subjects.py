"""The steps that are measured, by name.

    train/STGCNPlusPlus/coco/16x2x100     a training step: network / layout / batch x persons x frames
    eval/...                              a forward pass
    paddle/..., onnxruntime/...           the exported network on that engine
    test/...                              one sample of `batch` clips through the 10-clip test's path: packed, one pass
    separate/...                          the same sample, a pass for every clip, prepared anew
    matmul/2048                           a product of two square matrices
    copy/64                               a copy of that many MiB

A fifth part of a network step's name says what is unlike the default: train/.../16x2x100/classes=400,recompute=1
(classes of the last layer; blocks computed again for the gradient), train/.../processes=2 (that share the batch and the
threads), openvino/.../1x2x100/precision=bf16,
test/.../10x2x100/engine=openvino,precision=bf16 (what computes the test instead of the network, and in what).

A name that starts with "stock:" runs in Paddle's environment as a plain `import paddle` finds it.
"""

import contextlib
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from paddleskel import runtime
from paddleskel.benchmark.group import lead
from paddleskel.errors import UserError

Step = Callable[[], object]


class Subject(NamedTuple):
    """What a name of a network step says."""

    kind: str
    network: str
    layout: str
    batch: int
    persons: int
    frames: int
    classes: int = 60
    recompute: int = 0
    precision: str = "fp32"
    engine: str = ""
    processes: int = 1

    @property
    def name(self) -> str:
        name = f"{self.kind}/{self.network}/{self.layout}/{self.batch}x{self.persons}x{self.frames}"
        unusual = [f"{key}={getattr(self, key)}" for key, usual in self._field_defaults.items()
                   if getattr(self, key) != usual]  # fmt: skip
        return "/".join([name, ",".join(unusual)]) if unusual else name

    @classmethod
    def parse(cls, name: str) -> "Subject":
        kind, network, layout, size, *unusual = name.split("/")
        extra = dict(part.split("=") for part in unusual[0].split(",")) if unusual else {}
        extra = {key: type(cls._field_defaults[key])(value) for key, value in extra.items()}
        return cls(kind, network, layout, *map(int, size.split("x")), **extra)


def build(name: str) -> Step:
    """Return the step of that name."""
    stock = name.startswith("stock:")
    name = name.removeprefix("stock:")
    if name.startswith("train/") and "PADDLE_TRAINER_ID" not in os.environ:
        subject = Subject.parse(name)
        if subject.batch % subject.processes:
            raise UserError(f"{name}: {subject.processes} processes cannot share {subject.batch} clips evenly")
        if subject.processes > 1:
            lead(name, subject.processes)
    if stock:
        os.environ.pop("MKL_DEBUG_CPU_TYPE", None)  # set when paddleskel was imported
    runtime.import_paddle(tuned=not stock)
    runtime.select_device()
    kind = name.split("/")[0]
    if kind == "matmul":
        return matmul_step(int(name.split("/")[1]))
    if kind == "copy":
        return copy_step(int(name.split("/")[1]))
    subject = Subject.parse(name)
    if kind in ("train", "eval"):
        return network_step(subject)
    if kind in ("test", "separate"):
        return clips_step(subject)
    return engine_step(subject)


def matmul_step(size: int) -> Step:
    import paddle

    a, b = paddle.randn([size, size]), paddle.randn([size, size])
    return lambda: paddle.matmul(a, b).numpy()


def copy_step(mebibytes: int) -> Step:
    import paddle

    x = paddle.randn([mebibytes * 2**18])
    return lambda: paddle.assign(x)


def _network(subject: Subject):
    import paddle

    from paddleskel.models.recognizer import build_model
    from paddleskel.skeleton.layout import load_layout

    paddle.seed(0)
    layout = load_layout(subject.layout)
    model = build_model({"backbone": _backbone(subject), "head": "GCNHead"}, layout, subject.classes)
    if subject.recompute:
        from paddleskel.nn.recompute import recompute_blocks

        recompute_blocks(model.backbone.blocks)
    return model, [subject.batch, subject.persons, subject.frames, layout.num_joints, 3]


def _backbone(subject: Subject) -> dict:
    spec = {"name": subject.network}
    if subject.network in ("AGCN", "AAGCN", "CTRGCN", "MSG3D"):
        spec["num_person"] = subject.persons
    return spec


def network_step(subject: Subject) -> Step:
    """A training step (forward, backward, SGD) or an evaluation, on random clips."""
    import paddle

    from paddleskel.engine import distributed
    from paddleskel.engine.optim import build_optimizer
    from paddleskel.engine.pieces import in_pieces

    distributed.start()
    model, shape = _network(subject._replace(batch=subject.batch // subject.processes))
    inputs, labels = paddle.randn(shape), paddle.randint(0, subject.classes, shape[:1])
    network = distributed.parallel(model, sync_bn=False)
    optimizer = build_optimizer(model, 0.9, True, 5e-4, None)
    optimizer.set_lr(0.01)

    def train() -> None:
        distributed.meet("step")
        paddle.nn.functional.cross_entropy(network(inputs), labels).backward()
        optimizer.step()
        optimizer.clear_grad()

    model.train()
    if subject.kind == "train":
        return train
    model.eval()
    kept = contextlib.ExitStack()
    forward = kept.enter_context(in_pieces(model))

    def evaluate(_keep=kept) -> None:
        with paddle.no_grad():
            forward(inputs).numpy()

    return evaluate


def clips_step(subject: Subject) -> Step:
    """The clips of one sample: its sequence through the pipeline and the network, together or clip by clip."""
    import paddle

    from paddleskel.data.clip import Clip
    from paddleskel.data.transforms import build_pipeline
    from paddleskel.deploy.engines import EngineOptions
    from paddleskel.deploy.standin import on_engine
    from paddleskel.engine.pieces import in_pieces
    from paddleskel.skeleton.layout import load_layout

    model, shape = _network(subject)
    model.eval()
    layout = load_layout(subject.layout)
    three = subject.layout.startswith("nturgb")
    specs = ["PreNormalize3D" if three else "PreNormalize2D", "Stream"]
    specs += [{"name": "UniformSample", "clip_len": subject.frames}, {"name": "Pack", "num_person": subject.persons}]
    rng = np.random.RandomState(0)
    seen = (subject.persons, 250, layout.num_joints)
    points = rng.uniform(1, 2, (*seen, 3 if three else 2)).astype(np.float32)
    score = None if three else np.ones(seen, np.float32)
    clip = Clip(points, score, image_size=None if three else (4, 4))
    together = subject.kind == "test"
    pipeline = build_pipeline(specs, layout, "j", num_clips=subject.batch if together else 1)
    kept, way = contextlib.ExitStack(), in_pieces(model)
    if subject.engine:
        options = EngineOptions(threads=runtime.cpu_threads(), precision=subject.precision)
        way = on_engine(model, shape[1:], subject.classes, subject.engine, options)
    forward = kept.enter_context(way)

    def step(_keep=kept) -> None:
        for _ in range(1 if together else subject.batch):
            inputs = pipeline(clip, np.random.RandomState(0))
            with paddle.no_grad():
                forward(paddle.to_tensor(inputs)).numpy()

    return step


def engine_step(subject: Subject) -> Step:
    """The exported network on an inference engine."""
    from paddleskel.deploy.engines import EngineOptions, engine_kind
    from paddleskel.deploy.fold import fold
    from paddleskel.deploy.formats import write_onnx, write_paddle

    model, shape = _network(subject)
    model.eval()
    folder = tempfile.TemporaryDirectory()
    engine = engine_kind(subject.kind)
    written = write_paddle(fold(model), shape[1:], subject.classes, Path(folder.name) / "inference")
    if "onnx" in engine.formats:
        written = write_onnx(written, Path(folder.name), {}, 13, "logits")
    files = [Path(folder.name) / name for name in written.files]
    run = engine.make(files, EngineOptions(threads=runtime.cpu_threads(), precision=subject.precision))
    inputs = np.random.RandomState(0).randn(*shape).astype(np.float32)

    def step(_keep=folder) -> None:
        run(inputs)

    return step

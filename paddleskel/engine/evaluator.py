"""Score every sample of a split."""

import contextlib
from collections.abc import Callable

import numpy as np
import paddle

from paddleskel.data.loader import Loader
from paddleskel.data.sampler import BatchSampler
from paddleskel.engine import distributed
from paddleskel.engine.build import Data
from paddleskel.engine.log import EpochProgress, Log
from paddleskel.engine.mixed import autocast
from paddleskel.engine.pieces import in_pieces
from paddleskel.engine.settings import Settings
from paddleskel.metrics import cross_entropy, softmax, top_k_accuracy
from paddleskel.results import Results


def make_eval_loader(settings: Settings, data: Data, part: str) -> Loader:
    """Return the loader of the validation or test split. Batches hold about `batch_size` clips unless a size is set."""
    sizes, dataset = settings.DATASET, data.dataset(part)
    size = sizes.valid_batch_size if part == "valid" else sizes.test_batch_size
    size = size or max(1, sizes.batch_size // len(dataset[0][0]))
    sampler = BatchSampler(len(dataset), size, rank=distributed.rank(), world_size=distributed.world_size())
    return Loader(dataset, sampler, sizes.num_workers, sizes.worker_timeout)


def evaluate(
    model: paddle.nn.Layer,
    loader: Loader,
    settings: Settings,
    class_names: list[str] | None = None,
    on_batch: Callable[[int, int, np.ndarray, np.ndarray], None] | None = None,
    forward: Callable[[paddle.Tensor], paddle.Tensor] | None = None,
) -> Results:
    """Run a network over a loader; scores of a sample's clips are averaged, as logits and as probabilities.

    With several processes each takes whole batches in turn, with rank 0's running statistics, and all return the
    scores of all samples in the split's order: the same bits as one process gives.

    Args:
        on_batch: called after each batch with its number, the number of batches, its logits and its labels.
        forward: what computes the scores of clips (N, M, T, V, C); default: the network, on all cores (`in_pieces`).
    """
    was_training = model.training
    model.eval()
    distributed.meet("evaluation")
    distributed.share_statistics(model)
    batches = []
    with paddle.no_grad(), contextlib.nullcontext(forward) if forward else in_pieces(model) as forward:
        for number, (inputs, labels, positions) in enumerate(loader):
            with autocast(settings):
                scores = forward(paddle.to_tensor(inputs).flatten(0, 1))
            scores = scores.astype("float32").numpy().reshape(len(labels), inputs.shape[1], -1)
            logits, probs = scores.mean(axis=1), softmax(scores).mean(axis=1).astype(np.float32)
            batches.append((logits, probs, labels, positions))
            if on_batch:
                on_batch(number, len(loader), logits, labels)
    if was_training:
        model.train()
    classes = class_count(model)
    empty = (np.zeros((0, classes), np.float32), np.zeros((0, classes), np.float32), *[np.zeros(0, np.int64)] * 2)
    distributed.meet("end of the evaluation")
    gathered = [distributed.gather(np.concatenate(parts)) for parts in zip(empty, *batches)]
    order = np.argsort(gathered[3], kind="stable")
    logits, probs, labels, positions = (array[order] for array in gathered)
    return Results([loader.dataset.clips[position].id for position in positions], labels, logits, probs, class_names)


def class_count(model: paddle.nn.Layer) -> int:
    return model.head.fc.weight.shape[1]


def validate_epoch(
    model: paddle.nn.Layer,
    loader: Loader,
    log: Log,
    settings: Settings,
    epoch: int,
    on_batch: Callable[[], None] | None = None,
) -> dict[str, float]:
    """Score the validation split; return its metrics, exact over samples. on_batch: called after every batch."""
    top = min(5, settings.num_classes)
    bar = EpochProgress(log, "val", epoch + 1, settings.epochs, len(loader), interval=settings.log_interval)

    def report(number: int, _batches: int, logits: np.ndarray, labels: np.ndarray) -> None:
        values = None
        if bar.wants_values(number):
            values = {"loss": cross_entropy(logits, labels), "top1": top_k_accuracy(logits, labels)}
        bar.step_done(number, len(labels), values)
        if on_batch:
            on_batch()

    results = evaluate(model, loader, settings, on_batch=report)
    names = ["top_k_accuracy", "mean_class_accuracy"]
    metrics = results.metrics(names, [1, top], settings.METRIC.average_clips)
    values = {
        "val_loss": results.loss(),
        "val_top1": metrics["top1_acc"],
        f"val_top{top}": metrics[f"top{top}_acc"],
        "val_mean_class_accuracy": metrics["mean_class_accuracy"],
    }
    bar.finish({"loss": values["val_loss"], "top1": values["val_top1"], f"top{top}": values[f"val_top{top}"]})
    return values

"""Score every sample of a split."""

from collections.abc import Callable

import numpy as np
import paddle

from paddleskel.data.dataset import SkeletonDataset, collate
from paddleskel.data.sampler import BatchSampler
from paddleskel.metrics import softmax
from paddleskel.results import Results


def make_loader(dataset: SkeletonDataset, sampler: BatchSampler, num_workers: int) -> paddle.io.DataLoader:
    """Return a loader of (inputs, labels, positions); its workers live as long as it does."""
    return paddle.io.DataLoader(
        dataset,
        batch_sampler=sampler,
        collate_fn=collate,
        num_workers=num_workers,
        persistent_workers=num_workers > 0,
        return_list=True,
    )


def evaluate(
    model: paddle.nn.Layer,
    loader: paddle.io.DataLoader,
    class_names: list[str] | None = None,
    amp: str | None = None,
    on_batch: Callable[[int, int, np.ndarray, np.ndarray], None] | None = None,
) -> Results:
    """Run a network over a loader; scores of a sample's clips are averaged, as logits and as probabilities.

    Args:
        on_batch: called after each batch with its number, the number of batches, its logits and its labels.
    """
    was_training = model.training
    model.eval()
    logits, probs, labels, positions = [], [], [], []
    with paddle.no_grad():
        for number, (inputs, label, position) in enumerate(loader):
            with paddle.amp.auto_cast(enable=amp is not None, level=amp or "O1", dtype=amp_dtype()):
                scores = model(inputs.flatten(0, 1))
            scores = scores.astype("float32").numpy().reshape(len(label), inputs.shape[1], -1)
            logits.append(scores.mean(axis=1))
            probs.append(softmax(scores).mean(axis=1).astype(np.float32))
            labels.append(label.numpy())
            positions.append(position.numpy())
            if on_batch:
                on_batch(number, len(loader), logits[-1], labels[-1])
    if was_training:
        model.train()
    dataset = loader.dataset
    ids = [dataset.clips[position].id for position in np.concatenate(positions)]
    return Results(ids, np.concatenate(labels), np.concatenate(logits), np.concatenate(probs), class_names)


def amp_dtype() -> str:
    """The half type of mixed precision: float16 on a GPU, bfloat16 on a CPU."""
    return "float16" if paddle.get_device().startswith("gpu") else "bfloat16"

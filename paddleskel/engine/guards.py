"""What goes wrong while training: values that are not finite, a loss that does not move, memory that does not stop."""

import io
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import paddle
from paddle import nn

from paddleskel.engine import distributed
from paddleskel.errors import UserError
from paddleskel.files import write_atomically

_MOST_SKIPPED = 20  # steps in a row
_GROWTH, _GROWING_EPOCHS = 1.2, 5


class FiniteGuard:
    """Watches for NaN and infinity in losses and gradients.

    Args:
        skip: leave out such a step and go on, instead of ending the run.
        folder: where the batch is saved.
    """

    def __init__(self, model: nn.Layer, skip: bool, folder: Path, say: Callable[[str], None]):
        self.model, self.skip, self.folder, self.say = model, skip, folder, say
        self._statistics: list[tuple[paddle.Tensor, paddle.Tensor]] = []
        self._in_a_row = 0

    def probe(self) -> paddle.Tensor:
        """Return a number that is finite if all gradients are."""
        gradients = [p.grad.sum().astype("float32") for p in self.model.parameters() if p.grad is not None]
        return paddle.add_n(gradients)

    def before_step(self) -> None:
        """Remember the running statistics, which a bad batch would spoil."""
        if self.skip:
            fixed = [tensor for tensor in self.model.state_dict().values() if tensor.stop_gradient]
            self._statistics = [(tensor, tensor.clone()) for tensor in fixed]

    def passed(self) -> None:
        self._in_a_row = 0

    def failed(
        self,
        where: str,
        inputs: np.ndarray,
        labels: np.ndarray,
        ids: list[str],
        forward: Callable[[], paddle.Tensor] | None,
    ) -> None:
        """Report a step whose loss or gradient is not finite; put the statistics back, or end the run.

        Args:
            where: "epoch 2, step 7".
            inputs, labels: the batch of this process. ids: its samples.
            forward: runs the network on them again; None if its parameters have changed since.

        Raises:
            UserError: `skip` is off, or nothing but such steps came for a while.
        """
        causes = distributed.gather_texts(_cause(self.model, inputs, ids, forward))
        cause = causes[0] if len(causes) == 1 else "; ".join(f"process {i}: {text}" for i, text in enumerate(causes))
        name = f"nonfinite_{where.replace(', ', '_').replace(' ', '')}_rank{distributed.rank()}.npz"
        saved = self._save(self.folder / name, inputs=inputs, labels=labels, ids=np.array(ids))
        listed = ", ".join(ids[:8]) + (f" and {len(ids) - 8} more" if len(ids) > 8 else "")
        text = f"loss or gradient not finite in {where}: {cause}; samples {listed}; {saved}"
        self._in_a_row += 1
        if not self.skip:
            raise UserError(
                f"{text}. Lower OPTIMIZER.learning_rate.value, set OPTIMIZER.grad_clip, mend the samples, or leave "
                "such steps out with on_nonfinite=skip. Earlier checkpoints are kept"
            )
        if self._in_a_row >= _MOST_SKIPPED:
            raise UserError(f"{text}. {_MOST_SKIPPED} steps in a row were left out: training has diverged")
        for tensor, old in self._statistics:
            tensor.set_value(old)
        self.say(f"WARNING: {text}. The step is left out")

    def _save(self, path: Path, **arrays: np.ndarray) -> str:
        buffer = io.BytesIO()
        np.savez(buffer, **arrays)
        try:
            write_atomically(path, buffer.getvalue())
        except UserError as error:
            return f"the batch could not be saved: {error}"
        return f"the batch is saved in {path}"


def _cause(model: nn.Layer, inputs: np.ndarray, ids: list[str], forward: Callable[[], paddle.Tensor] | None) -> str:
    """Say where the first value that is not finite stands: in the input, a parameter, a layer's output, a gradient.

    The network runs in any case: with synchronised BatchNorm it takes all processes.
    """
    if forward is None:
        return _bad_input(inputs, ids) or "check_every_step=true names the layer"
    found: list[str] = []

    def look(name: str, layer: nn.Layer) -> Callable:
        def hook(_layer, _inputs, output):
            if not found and isinstance(output, paddle.Tensor) and not _is_finite(output):
                found.append(f"the first layer whose output is not finite is {name} ({type(layer).__name__})")

        return hook

    hooks = [
        layer.register_forward_post_hook(look(name, layer))
        for name, layer in model.named_sublayers()
        if not layer.sublayers()
    ]
    try:
        with paddle.no_grad():
            output = forward()
    finally:
        for hook in hooks:
            hook.remove()
    if bad := _bad_input(inputs, ids):
        return bad
    for name, parameter in model.named_parameters():
        if not parameter.stop_gradient and not _is_finite(parameter):
            return f"the parameter {name} is not finite"
    if found:
        return found[0]
    if not _is_finite(output):
        return "the network's output is not finite, though each layer's is"
    gradients = [name for name, p in model.named_parameters() if p.grad is not None and not _is_finite(p.grad)]
    if gradients:
        return f"every layer's output is finite, the gradient is not from {gradients[-1]} backwards"
    return "all values are finite" if distributed.world_size() > 1 else "the loss is not finite"


def _bad_input(inputs: np.ndarray, ids: list[str]) -> str | None:
    bad = [name for name, sample in zip(ids, inputs) if not np.isfinite(sample).all()]
    return f"the input of sample {', '.join(bad[:8])} is not finite" if bad else None


def _is_finite(tensor: paddle.Tensor) -> bool:
    return bool(paddle.isfinite(tensor.astype("float32")).all())


def stuck_warning(loss: float, top1: float, num_classes: int, epoch: int) -> str | None:
    """Return a warning if after `epoch` epochs the training loss is still that of guessing."""
    guessing = math.log(num_classes)
    if epoch < 2 or abs(loss - guessing) > 0.02 * guessing or top1 > 2 / num_classes:
        return None
    return (
        f"WARNING: after {epoch} epochs the training loss is {loss:.4f}, about ln({num_classes}) = {guessing:.4f}: the "
        "network guesses. Look at the labels, the normalisation and the learning rate; --overfit-one-batch tells "
        "whether it can learn at all"
    )


class MemoryWatch:
    """Warns once when the process grows epoch after epoch."""

    def __init__(self):
        self.history: list[float] = []
        self.warned = False

    def look(self, used: float | None = None) -> str | None:
        """Note the memory in use (MiB) at the end of an epoch; return a warning if it has grown in each of the last
        epochs, and by a fifth in all.
        """
        used = memory_in_use() if used is None else used
        if used is None:
            return None
        self.history.append(used)
        last = self.history[-_GROWING_EPOCHS - 1 :]
        grows = len(last) > _GROWING_EPOCHS and last == sorted(set(last))
        if self.warned or not grows or last[-1] < _GROWTH * last[0]:
            return None
        self.warned = True
        return (
            f"WARNING: memory has grown in each of the last {_GROWING_EPOCHS} epochs, from {last[0]:.0f} to "
            f"{last[-1]:.0f} MiB; if it goes on, the system will end the run (--resume auto continues it)"
        )


def memory_in_use() -> float | None:
    """Resident memory of this process in MiB; None where the system does not tell."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except (OSError, ValueError, IndexError):
        return None
    return pages * 4096 / 2**20

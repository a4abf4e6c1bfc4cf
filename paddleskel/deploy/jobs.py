"""What tools/predict.py does: samples one by one, timelines of untrimmed sequences, shards of huge lists."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from paddleskel.deploy.inputs import Item, Reading, read_items
from paddleskel.deploy.measure import Meter
from paddleskel.deploy.outputs import UNKNOWN, GrowingFile, record, write_records
from paddleskel.deploy.predictor import Prediction, Predictor
from paddleskel.deploy.window import draw_timeline, name_of, timeline_csv
from paddleskel.errors import UserError
from paddleskel.files import write_atomically


@dataclass(frozen=True)
class JobOptions:
    """What is done with every sample.

    batch_size: samples a run. topk: classes a result. threshold: below it, "unknown". num_clips: of a sequence.
    """

    batch_size: int = 1
    topk: int = 1
    threshold: float = 0.0
    num_clips: int = 1


def predict_all(
    predictor: Predictor,
    inputs: Iterable[str],
    reading: Reading,
    options: JobOptions,
    out: str | None = None,
    benchmark: bool = False,
) -> None:
    """Predict every sample, print it in PaddleVideo's lines, and write the results at the end."""
    print(f"Inference model({predictor.bundle.model_name})...")
    items, records, meter = read_items(inputs, reading), [], Meter()
    pairs = _paired(predictor, items, options.batch_size)
    for item, prediction in meter.watch(pairs, options.batch_size) if benchmark else pairs:
        print(f"Current video file: {item.source}" + ("" if item.alone else f" [{prediction.id}]"))
        _print_ranks(prediction, options)
        if out:
            records.append(_record(item, prediction, options))
    if out:
        write_records(Path(out), records)
        print(f"wrote {len(records)} results to {out}")
    if benchmark:
        print(f"engine: {predictor.engine_name}, {predictor.model.format}, {predictor.model.precision}")
        print("\n".join(meter.lines()))


def _print_ranks(prediction: Prediction, options: JobOptions) -> None:
    for rank, index in enumerate(prediction.classes[: options.topk], start=1):
        known = rank > 1 or prediction.probs[index] >= options.threshold
        print(f"\ttop-{rank} class: {index if known else -1}")
        print(f"\ttop-{rank} score: {prediction.probs[index]}")
        if prediction.labels or not known:
            print(f"\ttop-{rank} label: {prediction.labels[index] if known else UNKNOWN}")


def _paired(predictor: Predictor, items: Iterable[Item], batch_size: int) -> Iterator[tuple[Item, Prediction]]:
    """Yield items with their predictions. Only the items of one batch are kept."""
    waiting: list[Item] = []

    def clips():
        for item in items:
            waiting.append(item)
            yield item.clip

    for prediction in predictor.predict(clips(), batch_size):
        yield waiting.pop(0), prediction


def _record(item: Item, prediction: Prediction, options: JobOptions) -> dict:
    return record(item.source, prediction.id, prediction.probs, prediction.labels, options.topk, options.threshold)


def predict_shard(
    predictor: Predictor,
    inputs: Iterable[str],
    reading: Reading,
    options: JobOptions,
    shard: tuple[int, int],
    out: str,
) -> None:
    """Append a line a sample to a file, going on where an earlier run stopped. Memory does not grow with the inputs.

    What cannot be read becomes a line with an `error`.
    """
    file = GrowingFile(Path(out))
    before = file.count
    if before:
        print(f"{out}: going on after {before} results")
    try:
        for item, result in results_of(predictor, _remaining(read_items(inputs, reading, shard), file), options):
            file.append({"position": item.position, **result})
    finally:
        file.close()
    print(f"{file.count - before} results added to {out}, {file.count} in all")


def _remaining(items: Iterable[Item], file: GrowingFile) -> Iterator[Item]:
    """Skip what the file holds already."""
    skip_at, skip = file.position, file.done
    for item in items:
        if item.position < skip_at:
            continue
        if item.position == skip_at and skip:
            skip -= 1
            continue
        yield item


def results_of(predictor: Predictor, items: Iterable[Item], options: JobOptions) -> Iterator[tuple[Item, dict]]:
    """Yield a result for each item, in order; one that cannot be read or predicted has an `error`."""
    batch: list[Item] = []
    for item in items:
        batch.append(item)
        if len(batch) == options.batch_size:
            yield from _results(predictor, batch, options)
            batch = []
    yield from _results(predictor, batch, options)


def _results(predictor: Predictor, batch: list[Item], options: JobOptions) -> Iterator[tuple[Item, dict]]:
    good = [item for item in batch if item.clip is not None]
    try:
        predictions = dict(zip(map(id, good), predictor.predict([item.clip for item in good], len(good) or 1)))
    except UserError as error:
        if len(batch) == 1:
            yield batch[0], _failed(batch[0], str(error))
            return
        for item in batch:  # one sample spoils the batch: find out which
            yield from _results(predictor, [item], options)
        return
    for item in batch:
        if item.clip is None:
            yield item, _failed(item, item.error or "not readable")
        else:
            yield item, _record(item, predictions[id(item)], options)


def _failed(item: Item, why: str) -> dict:
    return {"input": item.source, "id": item.clip.id if item.clip else "", "error": why}


@dataclass(frozen=True)
class WindowOptions:
    """How untrimmed sequences are scored.

    window, stride: frames; stride defaults to a quarter window. by_person: a timeline for each person. fps: for times.
    """

    window: int
    stride: int | None = None
    by_person: bool = False
    fps: float = 30.0


def predict_timelines(
    predictor: Predictor,
    inputs: Iterable[str],
    reading: Reading,
    options: JobOptions,
    windows: WindowOptions,
    out: str | None = None,
) -> None:
    """Print the segments of untrimmed sequences; with `out`, write them as CSV and draw them."""
    print(f"Inference model({predictor.bundle.model_name})...")
    lines, names = [], predictor.bundle.class_names or []
    for item in read_items(inputs, reading):
        if windows.by_person and not item.clip.keypoint.any():
            raise UserError(f"{item.source}: sample '{item.clip.id}': nobody in any frame")
        found = predictor.timelines(
            item.clip, windows.window, windows.stride, windows.by_person, options.threshold, max(8, options.batch_size)
        )
        for line in found:
            who = "" if line.person is None else f", person {line.person}"
            print(f"Current video file: {item.source} [{line.id}]{who}")
            for part in line.segments:
                seconds = f"{part.start / windows.fps:8.2f} s to {part.end / windows.fps:8.2f} s"
                print(f"\t{seconds}  {name_of(part, names)}  {part.score:.3f}")
        lines += found
    if out:
        write_atomically(Path(out), timeline_csv(lines, names, windows.fps))
        picture = Path(out).with_suffix(".png")
        write_atomically(picture, draw_timeline(lines, names, windows.fps))
        print(f"wrote {out} and {picture}")

"""How fast samples come out of the training pipelines, and how much memory workers add: `tools/benchmark.py data`."""

import pickle
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

from paddleskel.data.annotation import read_annotations
from paddleskel.data.clip import Clip
from paddleskel.data.dataset import SkeletonDataset, load_clips
from paddleskel.data.loader import Loader
from paddleskel.data.sampler import BatchSampler
from paddleskel.data.store import Store, StoreClips, write_store
from paddleskel.data.store_files import cached_steps, store_annotations
from paddleskel.data.transforms import build_pipeline
from paddleskel.errors import UserError
from paddleskel.skeleton.layout import load_layout

IMAGE = (1080, 1920)


def synthetic(samples: int, dimensions: str, seed: int = 0) -> Iterator[Clip]:
    """Yield clips of NTU's size: float16, 20 to 300 frames (84 on average), two people in every fifth."""
    rng = np.random.RandomState(seed)
    joints, axes = (17, 2) if dimensions == "2d" else (25, 3)
    walk = np.cumsum(rng.randn(2, 400, joints, axes) * 0.01, axis=1) + rng.randn(2, 1, joints, axes) * 0.3
    walk = (walk * 150 + 700 if dimensions == "2d" else walk + 3).astype(np.float16)
    for number in range(samples):
        frames = int(np.clip(np.exp(rng.normal(np.log(75), 0.45)), 20, 300))
        people, start = 1 + (rng.rand() < 0.2), rng.randint(100)
        points = walk[:people, start : start + frames] + np.float16(rng.uniform(-0.2, 0.2))
        score = np.full(points.shape[:3], 0.9, np.float16) if axes == 2 else None
        yield Clip(points, score, number % 120, f"{number:06d}", IMAGE if axes == 2 else None)


def pipeline_rates(folder: Path, seconds: float, rounds: int, samples: int = 512) -> dict[str, list[float]]:
    """Measure the training pipelines of NTU's configs, from pickled clips and from a store with cached steps.

    Returns:
        {what: samples in a second of one core's time, one number a round}; the rounds of all kinds take turns.
    """
    datasets = {}
    for dimensions, layout, norm in (("3d", "nturgb+d", "PreNormalize3D"), ("2d", "coco", "PreNormalize2D")):
        path = folder / f"{dimensions}.pkl"
        path.write_bytes(pickle.dumps(_as_annotations(synthetic(samples, dimensions))))
        skeleton = load_layout(layout)
        pipeline = build_pipeline(
            [norm, "Stream", {"name": "UniformSample", "clip_len": 100}, "Pack"], skeleton, "j", True
        )
        datasets[f"{dimensions} from pickled clips"] = SkeletonDataset(
            load_clips(str(path), None, skeleton, 120), pipeline
        )
        store_annotations(read_annotations(path), folder / f"{dimensions}.store")
        clips = Store(folder / f"{dimensions}.store").select(None, skeleton, 120)
        datasets[f"{dimensions} from the store"] = SkeletonDataset(clips, pipeline)
        steps, rest = pipeline.split()
        cached = StoreClips(cached_steps(clips.store, steps, lambda text: None), clips.positions)
        datasets[f"{dimensions} from the store, first steps cached"] = SkeletonDataset(cached, rest)
    rates: dict[str, list[float]] = {name: [] for name in datasets}
    for turn in range(rounds + 1):  # the first is not counted
        for name, dataset in datasets.items():
            rate = _rate(dataset, seconds, turn)
            if turn:
                rates[name].append(rate)
    return rates


def _as_annotations(clips: Iterator[Clip]) -> list[dict]:
    fields = lambda clip: {"keypoint_score": clip.score, "img_shape": clip.image_size} if clip.score is not None else {}
    return [{"frame_dir": c.id, "label": c.label, "keypoint": c.keypoint, **fields(c)} for c in clips]


def _rate(dataset: SkeletonDataset, seconds: float, epoch: int) -> float:
    """Samples in a second of this process's time, which others on the machine do not slow down much."""
    count, began = 0, time.process_time()
    while count == 0 or time.process_time() - began < seconds:
        for position in range(0, len(dataset), 4):
            dataset[position, epoch]
            count += 1
    return count / (time.process_time() - began)


def _write_store(path: Path, samples: int) -> None:
    write_store(path, synthetic(samples, "3d"), {}, None, np.dtype(np.float16))


def _open_store(path: Path) -> SkeletonDataset:
    """A store's clips through the training pipeline of NTU's 3D configs."""
    skeleton = load_layout("nturgb+d")
    steps = ["PreNormalize3D", "Stream", {"name": "UniformSample", "clip_len": 100}, "Pack"]
    return SkeletonDataset(Store(path).select(None, skeleton, 120), build_pipeline(steps, skeleton, "j", training=True))


def batch_times(folder: Path, sizes: Sequence[int], rounds: int, seconds: float) -> list[dict[str, float]]:
    """Time to take a shuffled batch of 16 from stores of different sizes, first batch of an epoch included, in turns.

    Returns {"size", "seconds"} for each size: of this process's time.
    """
    times: dict[int, list[float]] = {size: [] for size in sizes}
    for size in sizes:
        _write_store(folder / f"{size}.store", size)
    for turn in range(rounds + 1):  # the first is not counted
        for size in sizes:
            loader = Loader(_open_store(folder / f"{size}.store"), BatchSampler(size, 16, shuffle=True), 0)
            count, began = 0, time.process_time()
            for _ in loader:
                count += 1
                if time.process_time() - began >= seconds:
                    break
            if turn:
                times[size].append((time.process_time() - began) / count)
            loader.close()
    return [{"size": size, "seconds": statistics.median(found)} for size, found in times.items()]


# ---- memory ----


def store_at_scale(folder: Path, samples: int, workers: int, batches: int, say: Callable[[str], None]) -> int:
    """Write a store of NTU120's size, train on it with one and with several workers, and report times and memory.

    Returns:
        The bytes by which several workers use more than one.
    """
    if not Path("/proc/self/smaps_rollup").exists():
        raise UserError("benchmark data: memory is measured through /proc, which this system does not have")
    path = folder / f"ntu_like_{samples}.store"
    began = time.perf_counter()
    _write_store(path, samples)
    size = (path / "keypoint.bin").stat().st_size / 1e9
    say(f"store of {samples:,} clips, {size:.2f} GB: written in {time.perf_counter() - began:.0f} s")
    began = time.perf_counter()
    dataset = _open_store(path)
    say(f"opened in {1000 * (time.perf_counter() - began):.1f} ms")
    used = {}
    for number in (1, workers):
        used[number] = _run(dataset, number, batches, say)
    added = used[workers] - used[1]
    say(f"{workers} workers together use {added / 2**20:.0f} MiB more than one (pages that they share counted once)")
    return added


def _run(dataset: SkeletonDataset, workers: int, batches: int, say: Callable[[str], None]) -> int:
    """Take batches from some workers; return the bytes that they and this process use."""
    loader = Loader(dataset, BatchSampler(len(dataset), 16, shuffle=True), workers)
    try:
        began = time.perf_counter()
        iterator = iter(loader)
        for _ in range(workers):
            next(iterator)
        started = time.perf_counter() - began
        began = time.perf_counter()
        batches = min(batches, len(loader) - workers)
        for _ in range(batches):
            next(iterator)
        rate = 16 * batches / (time.perf_counter() - began)
        total = sum(_proportional_size(process) for process in _family())
    finally:
        loader.close()
    memory = f"{total / 2**20:.0f} MiB in all"
    say(f"{workers} workers: first batch of each after {started:.2f} s, {rate:,.0f} clips/s, {memory}")
    return total


def _family() -> list[int]:
    """This process and its children."""
    me = int(Path("/proc/self").resolve().name)
    children = Path(f"/proc/{me}/task/{me}/children").read_text().split()
    return [me, *map(int, children)]


def _proportional_size(process: int) -> int:
    """Bytes of memory of a process; pages that several share are divided among them."""
    for line in Path(f"/proc/{process}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) * 1024
    raise UserError(f"/proc/{process}/smaps_rollup has no Pss line")


def speed_of_data(folder: Path, seconds: float, rounds: int, samples: int, workers: int) -> list[dict]:
    """Measure and print all of it; `seconds` a round for each pipeline."""
    print("samples of one core's second through the training pipeline")
    rows = []
    for name, rates in pipeline_rates(folder, seconds, rounds).items():
        print(f"  {name}: {statistics.median(rates):,.0f} samples/s ({min(rates):,.0f} to {max(rates):,.0f})")
        rows.append({"what": name, "samples_a_second": rates})
    added = store_at_scale(folder, samples, workers, 200, lambda text: print(f"  {text}"))
    return [*rows, {"what": f"{workers} workers more than one", "bytes": added}]

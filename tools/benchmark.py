"""Measure speed and memory on this machine.

    python tools/benchmark.py train --model all                   training steps of the seven networks
    python tools/benchmark.py eval --layout coco nturgb+d         forward passes
    python tools/benchmark.py infer                               one exported clip, on every engine installed
    python tools/benchmark.py test                                the 10 clips of a sample, together and one by one
    python tools/benchmark.py data                                pipelines from pickles and stores, memory of workers
    python tools/benchmark.py startup                             seconds to the first step and the first answer
    python tools/benchmark.py memory                              peak memory of a step against the batch size
    python tools/benchmark.py scaling --plot FILE.png             a step's time against frames, joints, persons, batch,
                                                                  classes, dataset, processes

Every implementation runs in a process of its own on the same cores, in turns, for several rounds; the table gives the
median, the slowest and the fastest round, and ratios of rounds. --stock adds this project in Paddle's own environment.
--peer adds any other implementation: a module or .py file whose `build(name)` returns a step to call, where name is
for example "train/STGCNPlusPlus/coco/16x2x100" (a step on 16 clips of 2 persons and 100 frames); --peer-python is its
interpreter. tools/torch_peer.py is one: the same networks written plainly in torch.
"""

import argparse
import importlib.util
import json
import statistics
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from paddleskel import runtime
from paddleskel.benchmark import machine, studies
from paddleskel.benchmark.data import batch_times, speed_of_data
from paddleskel.benchmark.rounds import Series, Worker, ratio, run_rounds
from paddleskel.benchmark.subjects import Subject
from paddleskel.errors import UserError, exit_code
from paddleskel.files import write_atomically

NETWORKS = ("STGCN", "STGCNPlusPlus", "AGCN", "AAGCN", "CTRGCN", "DGSTGCN", "MSG3D")
ENGINES = ("paddle", "onnxruntime", "openvino")
OURS = "paddleskel.benchmark.subjects"
PEER = {"peer": {}}  # see `ways`


def compare(labels: list[tuple[str, Worker]], units: float, flags: argparse.Namespace) -> list[dict]:
    """Run workers in turns; print a line for each, with the ratio of the first to it, and return rows."""
    series = run_rounds([worker for _, worker in labels], units, flags.rounds, flags.seconds)
    rows = []
    for (label, worker), one in zip(labels, series):
        worker.close()
        rows.append(row(label, worker.name, one) | {"ratio": ratio(series[0], one)})
        times = f"  x {rows[-1]['ratio']:.2f}" if one is not series[0] else ""
        use = f"{one.cores:>5.2f} cores {one.peak_mib:>7.0f} MiB"
        print(f"  {label:<16}{one.median:>10.2f}  ({one.spread()}) {use}{times}")
    return rows


def row(label: str, name: str, series: Series) -> dict:
    return {
        "who": label,
        "step": name,
        "median": series.median,
        "rounds": series.rates,
        "cores_busy": series.cores,
        "peak_mib": series.peak_mib,
    }


def with_bfloat16(kinds: dict[str, dict], **kind) -> dict[str, dict]:
    """Add OpenVINO in bfloat16 to ways of computing, where it is installed and the processor has units for it."""
    if not runtime.has_bfloat16(runtime.cpuinfo()) or importlib.util.find_spec("openvino") is None:
        return kinds
    return {**kinds, "OpenVINO, bf16": {**kind, "precision": "bf16"}}


def workers(name: str, flags: argparse.Namespace) -> list[tuple[str, Worker]]:
    """This project's step, and those to compare it with."""
    found = [("paddleskel", Worker(OURS, name, flags.threads))]
    if flags.stock:
        found.append(("stock Paddle", Worker(OURS, f"stock:{name}", flags.threads)))
    if flags.peer:
        found.append(("peer", peer_worker(name, flags)))
    return found


def peer_worker(name: str, flags: argparse.Namespace, share: float = 1.0) -> Worker:
    return Worker(flags.peer, name, flags.threads, flags.peer_python, share)


def subjects(kind: str, batch: int, flags: argparse.Namespace) -> list[Subject]:
    """Every network asked for on every layout."""
    names = list(NETWORKS) if flags.model == ["all"] else flags.model
    return [
        Subject(kind, name, layout, batch, flags.persons, flags.frames) for layout in flags.layout for name in names
    ]


def steps(flags: argparse.Namespace) -> list[dict]:
    """train and eval, eval on what main.py --test --engine takes too."""
    rows = []
    for subject in subjects(flags.what, flags.batch_size, flags):
        print(f"{subject.name}, clips/s")
        found = workers(subject.name, flags)
        if flags.processes > 1 and flags.what == "train":
            together = subject._replace(processes=flags.processes).name
            found.append((f"{flags.processes} processes", Worker(OURS, together, flags.threads)))
        if flags.what == "eval":
            kinds = with_bfloat16({"ONNX Runtime": {"kind": "onnxruntime"}}, kind="openvino")
            found += start_ways(kinds, subject, flags)[0]
        rows += compare(found, flags.batch_size, flags)
    return rows


def infer(flags: argparse.Namespace) -> list[dict]:
    """One clip on every engine; in bfloat16 too where the processor has units for it."""
    kinds: dict[str, dict] = {engine: {"kind": engine} for engine in ENGINES}
    return ways(with_bfloat16(kinds, kind="openvino"), 1, "one clip, clips/s", flags)


def clips(flags: argparse.Namespace) -> list[dict]:
    """test: ten clips in one pass, on engines too, against ten passes."""
    kinds = {
        "together": {"kind": "test"},
        "on ONNX Runtime": {"kind": "test", "engine": "onnxruntime"},
        "one by one": {"kind": "separate"},
    }
    peers = {**PEER, "peer, one by one": {"kind": "eval", "batch": 1}}
    return ways(with_bfloat16(kinds, kind="test", engine="openvino"), 10, "samples of 10 clips/s", flags, peers)


def ways(
    kinds: dict[str, dict], batch: int, unit: str, flags: argparse.Namespace, peers: dict[str, dict] = PEER
) -> list[dict]:
    """Compare ways to compute the same, {label: what changes of the step}; those that do not work here are left out.

    peers: the same of the peer; a step of fewer clips counts for as much less.
    """
    rows = []
    for subject in subjects(flags.what, batch, flags):
        print(f"{subject.network} {subject.layout}, {unit}")
        found, failures = start_ways(kinds, subject, flags)
        if not found:
            raise failures[-1]
        if flags.peer:
            for label, kind in peers.items():
                step = subject._replace(**kind)
                found.append((label, peer_worker(step.name, flags, share=step.batch / batch)))
        rows += compare(found, 1, flags)
    return rows


def start_ways(
    kinds: dict[str, dict], subject: Subject, flags: argparse.Namespace
) -> tuple[list[tuple[str, Worker]], list[UserError]]:
    """Start the ways that work here, see `ways`; say which are left out, and return why."""
    found, failures = [], []
    for label, kind in kinds.items():
        try:
            found.append((label, Worker(OURS, subject._replace(**kind).name, flags.threads)))
        except UserError as error:
            failures.append(error)
            print(f"  {label}: left out: {error}")
    return found, failures


def startup(flags: argparse.Namespace) -> list[dict]:
    rows = []
    for what, times in studies.startup(flags.rounds).items():
        print(f"{what}: {statistics.median(times):.2f} s ({min(times):.2f} to {max(times):.2f})")
        rows.append({"what": what, "seconds": times})
    return rows


def memory(flags: argparse.Namespace) -> list[dict]:
    rows = []
    for subject in subjects("train", flags.batch_size, flags):
        print(f"training {subject.network} {subject.layout}, peak resident MiB")
        for batch in (4, 8, 16, 32):
            sized, found = subject._replace(batch=batch), []
            again = ("recomputing", Worker(OURS, sized._replace(recompute=1).name, flags.threads))
            for label, worker in [*workers(sized.name, flags), again]:
                found.append({"who": label, "step": worker.name, "peak_mib": worker.run(0)["peak_mib"]})
                worker.close()
            print(f"  batch {batch:>3}: " + ", ".join(f"{one['who']} {one['peak_mib']:.0f}" for one in found))
            rows += found
    return rows


def scaling(flags: argparse.Namespace) -> list[dict]:
    rows = []
    subject = subjects("train", flags.batch_size, flags)[0]
    for what in studies.SWEEPS:
        found = studies.sweep(what, subject, flags.threads, flags.rounds, flags.seconds)
        print(f"{subject.name} against {what}: time ~ size^{studies.exponent(found):.2f}")
        for one in found:
            print(f"  {one['size']:>5}: {one['seconds'] * 1e3:>9.1f} ms {one['peak_mib']:>7.0f} MiB")
        rows.append({"what": what, "step": subject.name, "exponent": studies.exponent(found), "rows": found})
    with tempfile.TemporaryDirectory() as folder:
        found = batch_times(Path(folder), studies.DATASETS, flags.rounds, flags.seconds)
    print("a batch of 16 clips against the clips of the dataset")
    for one in found:
        print(f"  {one['size']:>6,}: {one['seconds'] * 1e3:>8.2f} ms")
    rows.append({"what": "dataset", "step": "16 clips from a store", "rows": found})
    counts = [count for count in (1, 2, 4, 8, 16) if count <= flags.threads]
    found = studies.processes(counts, flags.threads, flags.rounds)
    print("training of ST-GCN++ on the toy set against processes that share the cores")
    for one in found:
        print(f"  {one['size']:>5}: {one['clips_per_second']:>9.1f} clips/s")
    rows.append({"what": "processes", "step": "ST-GCN++, toy set", "rows": found})
    if flags.plot:
        studies.draw(rows, Path(flags.plot))
        print(f"wrote {flags.plot}")
    return rows


def matmul(flags: argparse.Namespace) -> list[dict]:
    print("product of two 2048 x 2048 matrices, GFLOP/s")
    rows = compare(workers("matmul/2048", flags), 2 * 2048**3 / 1e9, flags)
    print("copy of 64 MiB, GiB/s")
    return rows + compare(workers("copy/64", flags), 64 / 1024, flags)


def data(flags: argparse.Namespace) -> list[dict]:
    with tempfile.TemporaryDirectory() as folder:
        return speed_of_data(Path(folder), flags.seconds, flags.rounds, flags.samples, flags.workers)


WHAT = {
    "train": steps,
    "eval": steps,
    "infer": infer,
    "test": clips,
    "data": data,
    "startup": startup,
    "memory": memory,
    "scaling": scaling,
    "matmul": matmul,
}


@exit_code
def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("what", choices=list(WHAT))
    add("--model", nargs="+", default=["STGCNPlusPlus"], help="networks, or all (default: STGCNPlusPlus)")
    add("--layout", nargs="+", default=["coco"], help="skeleton layouts (default: coco)")
    add("--batch_size", type=int, default=16)
    add("--frames", type=int, default=100)
    add("--persons", type=int, default=2)
    add("--threads", type=int, default=runtime.available_cores(), help="CPU threads (default: all cores)")
    add("--processes", type=int, default=1, help="train: compare with so many processes that share batch and cores")
    add("--rounds", type=int, default=5)
    add("--seconds", type=float, default=4.0, help="how long a round measures each (default: 4)")
    add("--samples", type=int, default=114_000, help="data: clips in the large store (default: 114000, as NTU120)")
    add("--workers", type=int, default=8, help="data: workers whose memory is measured (default: 8)")
    add("--stock", action="store_true", help="compare with Paddle's own environment")
    add("--peer", metavar="MODULE|FILE.py", help="compare with another implementation")
    add("--peer-python", default=sys.executable, metavar="PYTHON", help="the peer's interpreter (default: this one)")
    add("--plot", metavar="FILE.png", help="scaling: draw the curves")
    add("--json", metavar="FILE", help="write the figures to a file too")
    flags = parser.parse_args(arguments)
    for name in ("batch_size", "frames", "persons", "threads", "processes", "rounds", "samples", "workers"):
        if getattr(flags, name) < 1:
            parser.error(f"--{name}: must be at least 1")
    if (
        flags.peer
        and (flags.peer.endswith(".py") or Path(flags.peer).name != flags.peer)
        and not Path(flags.peer).is_file()
    ):
        parser.error(f"--peer: no file {flags.peer}; give a .py file or the name of an importable module")

    about = machine.describe(flags.threads)
    print(", ".join(f"{key} {value}" for key, value in about.items()))
    rows = WHAT[flags.what](flags)
    if flags.json:
        write_atomically(Path(flags.json), json.dumps({"machine": about, "rows": rows}, indent=1).encode())


if __name__ == "__main__":
    sys.exit(main())

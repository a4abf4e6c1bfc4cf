"""Damage valid files in every way, and read them: a reader may refuse, with its one error type, and nothing else.

    python tests/fuzz.py --minutes 30

Every reader of files that a user may have downloaded is a target. A file is made from a valid one by flipping, cutting,
repeating and splicing bytes, also inside the members of an archive and under a fresh checksum; pickles are also
assembled from opcodes. A reader that raises anything but UserError, takes longer than 20 seconds, or calls something it
was not meant to is a finding; its file is kept in --findings.
"""

import argparse
import contextlib
import csv
import io
import itertools
import json
import os
import pickle
import pickletools
import random
import signal
import struct
import sys
import tempfile
import time
import traceback
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from paddleskel.config import dump_yaml, read_yaml
from paddleskel.convert.torch_file import read_torch, torch_file
from paddleskel.convert.weights import read_any
from paddleskel.data.annotation import parse_annotation, read_annotations
from paddleskel.data.npz import read_npz
from paddleskel.data.safe_pickle import read_pickle
from paddleskel.data.sources import SOURCES, ReadOptions, read_poses
from paddleskel.data.sources.toy import make_toy
from paddleskel.deploy.bundle import FORMAT, read_bundle
from paddleskel.engine.progress import parse_run
from paddleskel.engine.settings import load_settings
from paddleskel.errors import UserError
from paddleskel.files import _SEAL, seal
from paddleskel.models.checkpoint import META, read_checkpoint
from paddleskel.results import read_results
from paddleskel.skeleton.layout import load_layout

_SECONDS = 20
_NUMBERS = [0, 1, -1, 127, 128, 255, 2**15, 2**16 - 1, 2**31 - 1, 2**31, 2**32 - 1, 2**63 - 1, 2**64 - 1]


@dataclass(frozen=True)
class Target:
    """One reader: `read` of a file with this ending, and valid contents to start from."""

    name: str
    suffix: str
    read: Callable[[Path], object]
    seeds: list[bytes]


# ---- the readers and their valid files ----


def _annotations(path: Path) -> None:
    file = read_annotations(path)
    for item in file.annotations:
        parse_annotation(item, str(path))
    for split in file.splits:
        file.select(split)


def _poses(source: str) -> Callable[[Path], object]:
    return lambda path: read_poses(path, source, options=ReadOptions())


def _npz(**arrays: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    return buffer.getvalue()


def _npy(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


def _csv(rows: list[list]) -> bytes:
    text = io.StringIO()
    csv.writer(text).writerows(rows)
    return text.getvalue().encode()


def _skeleton() -> bytes:
    """Two frames of NTU's text format: one body, 25 joints."""
    body = ["72057594037931101 0 1 1 0 0 0 0.1 0.2 2", "25", *["0.1 0.2 3.1 270 190 1040 500 0.1 0.2 0.3 0.9 2"] * 25]
    return "\n".join(["2", *(["1", *body] * 2)]).encode()


def targets() -> list[Target]:
    """Return all targets. Their valid files are small, so that a change is likely to hit something."""
    clip = make_toy("2d", subjects=2, repeats=1)["annotations"][0]
    clip = clip | {key: clip[key][:, :3] for key in ("keypoint", "keypoint_score")} | {"total_frames": 3}
    file = {"split": {"train": [clip["frame_dir"]]}, "annotations": [clip], "class_names": ["a", "b"]}
    pickles = [pickle.dumps(file, protocol=protocol) for protocol in (0, 2, 4, 5)]
    pickles += [pickle.dumps([clip, {"x": {1, 2.5, None, 2**70}, "y": b"bytes"}], protocol=4)]
    state = {"head.fc.weight": np.ones((2, 3), np.float32), "backbone.blocks.0.gcn.bias": np.zeros(2, np.float32)}
    progress = {"epoch": 1, "step": 2, "sums": {"loss": 1.5}, "best_top1": 0.5, "best_epoch": 1, "records": [{"a": 1}]}
    meta = {"progress": progress, "setup": {"config": {"epochs": 3}}, "scaler": {}}
    sealed = [
        seal(pickle.dumps({**state, META: json.dumps(content)}, protocol=4)) for content in ({"config": {}}, meta)
    ]
    torch = torch_file({"cls_head.fc_cls.weight": np.ones((2, 3), np.float32), "x": np.zeros(4, np.int64)})
    scores = {"ids": ["a", "b"], "labels": np.array([0, 1]), "logits": np.eye(2), "probs": np.eye(2)}
    plain = {key: value.tolist() if isinstance(value, np.ndarray) else value for key, value in scores.items()}
    about = np.array(json.dumps({"class_names": ["a", "b"]}))
    results = {
        ".pkl": [pickle.dumps(scores, protocol=4), pickle.dumps([np.ones(2)] * 2, protocol=2)],
        ".npz": [_npz(**{key: np.asarray(value) for key, value in scores.items()}, about=about)],
        ".json": [json.dumps(plain).encode()],
        ".csv": [_csv([["id", "label", "prediction", "prob:a", "prob:b"], ["x", 0, 0, 0.9, 0.1]])],
    }
    config = ROOT / "configs/recognition/stgcn_plusplus/stgcn_plusplus_toy.yaml"
    layouts = [(ROOT / "paddleskel/skeleton/layouts" / name).read_bytes() for name in ("coco.yaml", "nturgb+d.yaml")]
    bundle = {
        "model_name": "m", "layout": load_layout("coco").to_dict(), "stream": "j", "num_classes": 2, "format": FORMAT,
        "transforms": [{"name": "Pack"}], "class_names": ["a", "b"], "output": "logits",
        "models": [{"format": "paddle", "files": ["m.json", "m.pdiparams"], "output": {"name": "y", "shape": [-1, 2]},
                    "input": {"name": "x", "shape": [-1, 2, 8, 17, 3]}}],
        "proof": [{"format": "paddle", "precision": "fp32", "engine": "paddle", "version": "3", "batch": 1,
                   "difference": 1e-6, "usable": True}],
    }  # fmt: skip
    resolved = dump_yaml(load_settings(str(config))[1]).encode()
    made = [
        Target("pickle", ".pkl", read_pickle, pickles),
        Target("annotations", ".pkl", _annotations, pickles),
        Target("checkpoint", ".pdparams", read_checkpoint, sealed),
        Target("state of a run", ".pdopt", lambda path: parse_run(path.read_bytes(), path), sealed),
        Target("any weights", ".pdparams", read_any, [*sealed, pickle.dumps(state, protocol=2)]),
        Target("torch", ".pth", read_torch, [torch]),
        Target("torch weights", ".pth", read_any, [torch]),
        Target("npz", ".npz", read_npz, [_npz(**state, text=np.array(["a"]))]),
        Target("npz weights", ".npz", read_any, [_npz(**state)]),
        Target("yaml", ".yaml", read_yaml, [resolved, *layouts, b"a: &a [1, 2]\nb: [*a, *a]\n<<: {c: 2020-01-01}\n"]),
        Target("config", ".yaml", lambda path: load_settings(str(path)), [resolved]),
        Target("layout", ".yaml", lambda path: load_layout(str(path)), layouts),
        Target("inference.yml", ".yml", read_bundle, [dump_yaml(bundle).encode()]),
        *(Target(f"results {suffix}", suffix, read_results, seeds) for suffix, seeds in results.items()),
    ]
    return made + _pose_targets(clip, pickles)


def _pose_targets(clip: dict, pickles: list[bytes]) -> list[Target]:
    points, score = clip["keypoint"].astype(np.float64), clip["keypoint_score"].astype(np.float64)
    rows = np.concatenate([points, score[..., None]], axis=-1)[0]
    people = [{"person_id": [-1], "pose_keypoints_2d": row.ravel().round(2).tolist()} for row in rows[:1]]
    kinetics = {
        "label": "wave", "label_index": 1,
        "data": [{"frame_index": 1, "skeleton": [{"pose": [0.5] * 36, "score": [0.5] * 18}]}],
    }  # fmt: skip
    instances = [
        {"frame_id": 0, "instances": [{"keypoints": row[:, :2].tolist(), "keypoint_scores": row[:, 2].tolist()}]}
        for row in rows
    ]
    coco = [{"image_id": i, "category_id": 1, "keypoints": row.ravel().tolist(), "score": 0.9}
            for i, row in enumerate(rows)]  # fmt: skip
    flat = rows.reshape(len(rows), -1).round(3).tolist()
    seeds = {
        ".json": [json.dumps(item).encode() for item in (
            {"version": 1.3, "people": people}, kinetics, {"meta_info": {}, "instance_info": instances}, coco
        )],
        ".npy": [_npy(points.astype(np.float32)), _npy(np.zeros((2, 3, 4, 25, 2), np.float32))],
        ".npz": [_npz(keypoint=points, keypoint_score=score), _npz(x_train=np.zeros((2, 4, 150)), y_train=np.eye(2))],
        ".csv": [_csv([[f"{axis}{joint}" for joint in range(17) for axis in "xyz"], *flat])],
        ".skeleton": [_skeleton()],
        ".pkl": pickles,
    }  # fmt: skip
    made = []
    for suffix, contents in seeds.items():
        made.append(Target(f"poses {suffix}", suffix, lambda path: read_poses(path), contents))
        for name in SOURCES if suffix == ".json" else ():
            made.append(Target(f"poses {suffix} as {name}", suffix, _poses(name), contents))
    return made


# ---- damage ----


def mutate(rng: random.Random, seeds: list[bytes]) -> bytes:
    """Return a damaged file."""
    data = rng.choice(seeds)
    if data[:2] == b"PK" and rng.random() < 0.7:
        return _mutate_member(rng, data)
    if _SEAL in data and rng.random() < 0.8:
        return seal(_mutate_bytes(rng, data[: data.rindex(_SEAL)], seeds))
    if data[:1] == b"\x80" and rng.random() < 0.2:
        return _assemble(rng, data)
    return _mutate_bytes(rng, data, seeds)


def _mutate_member(rng: random.Random, data: bytes) -> bytes:
    """Damage one member of an archive, its name, or how it is stored."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = [(entry.filename, archive.read(entry), entry.compress_type) for entry in archive.infolist()]
    number = rng.randrange(len(members))
    name, content, kind = members[number]
    way = rng.random()
    if way < 0.8:
        content = _mutate_bytes(rng, content, [content])
    elif way < 0.9:
        name = rng.choice(["../" + name, "/" + name, name[1:], name * 2])
    else:
        kind = rng.choice([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
    members[number] = name, content, kind
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content, kind in members:
            archive.writestr(name or "x", content, kind)
    return buffer.getvalue()


def _mutate_bytes(rng: random.Random, data: bytes, seeds: list[bytes]) -> bytes:
    changed = bytearray(data)
    for _ in range(rng.choice([1, 1, 1, 2, 4, 8])):
        at = rng.randrange(len(changed) + 1)
        length = min(rng.choice([1, 1, 2, 4, 8, 64, 1000]), len(changed) - at)
        way = rng.randrange(7)
        if way == 0 and at < len(changed):
            changed[at] ^= 1 << rng.randrange(8)
        elif way == 1 and at < len(changed):
            changed[at] = rng.randrange(256)
        elif way == 2:
            del changed[at : at + length]
        elif way == 3:
            changed[at:at] = changed[at : at + length] * rng.choice([1, 2, 50])
        elif way == 4:
            number = struct.pack("<q", rng.choice(_NUMBERS[:-1]) % 2**63)[: rng.choice([1, 2, 4, 8])]
            changed[at : at + len(number)] = number
        elif way == 5:
            text = rng.choice([b"-1", b"1e309", b"nan", b"9" * 5000, b"null", b"[" * 3000, b'"', b"\n", b"\xff", b"[]",
                               b"{}", b"!!python/name:os.system", b"&a", b"*a", b": ", b"true", b"'x'"])  # fmt: skip
            changed[at : at + rng.choice([0, length])] = text
        else:
            other = rng.choice(seeds)
            start = rng.randrange(len(other) + 1)
            changed[at : at + length] = other[start : start + rng.choice([1, 8, 64, 512])]
    return bytes(changed)


def _assemble(rng: random.Random, data: bytes) -> bytes:
    """Take a pickle apart into its opcodes, and leave out, repeat, exchange or put in some."""
    try:
        places = [place for _, _, place in pickletools.genops(data)] + [len(data)]
    except Exception:
        return data[: rng.randrange(len(data) + 1)]
    parts = [data[a:b] for a, b in itertools.pairwise(places)]
    extra = [
        b"cbuiltins\nset\n", b"cbuiltins\nrange\n", b"cnumpy\ndtype\n", b"cnumpy\nndarray\n", b"cos\nsystem\n",
        b"cnumpy._core.multiarray\n_reconstruct\n", b"cnumpy.core.multiarray\nscalar\n", b"R", b"b", b"N", b"(", b"t",
        b"d", b"]", b"}", b"\x81", b"0", b"a", b"s", b"u", b"e", b"r\xff\xff\xff\x7f", b"j\x00\x00\x00\x00", b"2",
        b"\x8e" + struct.pack("<Q", 2**40), b"\x96" + struct.pack("<Q", 2**35), b"\x8b\x04\x00\x00\x00\xff\xff\xff\x7f",
        b"\x8a\xff" + b"\xff" * 255, b"I" + b"9" * 5000 + b"\n", b"cbuiltins\nbytearray\n", b"\x95" + b"\xff" * 8,
    ]  # fmt: skip
    for _ in range(rng.choice([1, 2, 3, 6])):
        at = rng.randrange(len(parts))
        way = rng.randrange(4)
        if way == 0 and len(parts) > 1:
            del parts[at]
        elif way == 1:
            parts.insert(at, rng.choice(parts))
        elif way == 2:
            parts[at] = rng.choice(parts)
        else:
            parts.insert(at, rng.choice(extra))
    return b"".join(parts)


# ---- running ----


class Slow(BaseException):
    """A reader that takes too long."""


@contextlib.contextmanager
def _limited_time() -> Iterator[None]:
    def stop(_number, _frame):
        raise Slow(f"takes longer than {_SECONDS} s")

    old = signal.signal(signal.SIGALRM, stop)
    signal.alarm(_SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, old)


def try_file(target: Target, data: bytes, folder: Path) -> str:
    """Read a file; return "read" or "refused", or the traceback of a finding."""
    path = folder / f"file{target.suffix}"
    path.write_bytes(data)
    try:
        with _limited_time():
            target.read(path)
    except UserError as error:
        return "refused" if str(error) else "an error without a sentence"
    except (Exception, Slow):
        return traceback.format_exc()
    return "read"


def fuzz(minutes: float, seed: int, findings: Path, only: str | None) -> int:
    """Fuzz all targets in turn; return the number of kinds of findings."""
    rng, chosen = random.Random(seed), [target for target in targets() if only is None or only in target.name]
    until, counts, kinds = time.monotonic() + 60 * minutes, Counter(), Counter()
    with tempfile.TemporaryDirectory() as folder, open(os.devnull, "w") as nowhere:
        for target in chosen:  # the valid files themselves
            for data in target.seeds:
                outcome = try_file(target, data, Path(folder))
                counts["read as it is" if outcome == "read" else "seed not read"] += 1
        while time.monotonic() < until:
            for target in chosen:
                data = mutate(rng, target.seeds)
                with contextlib.redirect_stderr(nowhere):
                    outcome = try_file(target, data, Path(folder))
                if outcome in ("read", "refused"):
                    counts[outcome] += 1
                    continue
                lines = outcome.strip().splitlines()
                where = next((line.strip() for line in reversed(lines) if "paddleskel/" in line), "")
                kind = f"{target.name}: {lines[-1][:80]} at {where}"
                kinds[kind] += 1
                if kinds[kind] == 1:
                    findings.mkdir(parents=True, exist_ok=True)
                    (findings / f"finding_{len(kinds)}{target.suffix}").write_bytes(data)
                    (findings / f"finding_{len(kinds)}.txt").write_text(f"{target.name}\n{outcome}")
    total = counts["read"] + counts["refused"] + sum(kinds.values())
    print(
        f"{total} files for {len(chosen)} readers: {counts['refused']} refused, {counts['read']} read, "
        f"{sum(kinds.values())} findings of {len(kinds)} kinds"
    )
    for kind, count in kinds.most_common():
        print(f"    {count} x {kind}")
    return len(kinds)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--findings", type=Path, default=Path("output/fuzz"), help="where files of findings are kept")
    parser.add_argument("--only", metavar="TEXT", help="only the targets whose name holds this text")
    flags = parser.parse_args()
    return 1 if fuzz(flags.minutes, flags.seed, flags.findings, flags.only) else 0


if __name__ == "__main__":
    sys.exit(main())

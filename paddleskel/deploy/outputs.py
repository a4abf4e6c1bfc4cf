"""What prediction writes: CSV, JSON, and JSON lines that grow as results come."""

import csv
import io
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from paddleskel.errors import UserError
from paddleskel.files import write_atomically

UNKNOWN = "unknown"
SUFFIXES = (".csv", ".json", ".jsonl")


def check_output(path: Path) -> None:
    """Raise a UserError for a results file of an unknown kind, before anything is computed for it."""
    if path.suffix not in SUFFIXES:
        raise UserError(f"--out {path}: the file must end in one of {', '.join(SUFFIXES)}")


def record(source: str, name: str, probs: np.ndarray, names: Sequence[str], topk: int, threshold: float) -> dict:
    """One sample as plain values. class is -1 and label "unknown" where no score reaches the threshold."""
    order = np.argsort(-probs, kind="stable")[:topk]
    label = lambda index: names[index] if names else str(index)
    best = int(order[0])
    known = float(probs[best]) >= threshold
    return {
        "input": source,
        "id": name,
        "class": best if known else -1,
        "label": label(best) if known else UNKNOWN,
        "score": round(float(probs[best]), 6),
        "top": [{"class": int(i), "label": label(i), "score": round(float(probs[i]), 6)} for i in order],
    }


def write_records(path: Path, records: Sequence[dict[str, Any]]) -> None:
    """Write all results at once, by the file's ending."""
    if path.suffix == ".json":
        write_atomically(path, json.dumps(list(records), ensure_ascii=False, indent=1))
    elif path.suffix == ".jsonl":
        write_atomically(path, "".join(as_line(item) for item in records))
    else:
        write_atomically(path, _as_csv(records))


def as_line(item: dict[str, Any]) -> str:
    return json.dumps(item, ensure_ascii=False) + "\n"


def _as_csv(records: Sequence[dict[str, Any]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text)
    ranks = max((len(item.get("top", [])) for item in records), default=0)
    extra = [f"{what}_{rank}" for rank in range(1, ranks + 1) for what in ("class", "label", "score")]
    writer.writerow(["input", "id", "class", "label", "score", *extra, "error"])
    for item in records:
        top = [value for entry in item.get("top", []) for value in entry.values()]
        top += [""] * (3 * ranks - len(top))
        writer.writerow([*(item.get(key, "") for key in ("input", "id", "class", "label", "score")), *top,
                         item.get("error", "")])  # fmt: skip
    return text.getvalue()


class GrowingFile:
    """JSON lines that are appended one by one; opened again, it tells how far it came.

    Attributes:
        position: of the input that the last result belongs to, -1 for none. done: results of that input.
        count: results in all.
    """

    def __init__(self, path: Path):
        self.path, self.position, self.done, self.count = path, -1, 0, 0
        whole = 0
        try:
            for end, item in _lines(path):
                position = item["position"]
                self.done = self.done + 1 if position == self.position else 1
                self.position, self.count, whole = position, self.count + 1, end
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = path.open("ab")
            self._file.truncate(whole)  # what a crash cut short is done again
        except OSError as error:
            raise UserError(f"--out {path}: cannot be written: {error.strerror or error}") from error

    def append(self, item: dict[str, Any]) -> None:
        self._file.write(as_line(item).encode())
        self._file.flush()
        self.count += 1

    def close(self) -> None:
        self._file.close()


_START = b'{"position": '  # of each line


def _lines(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield the end and the content of every whole line; the last may have been cut short."""
    if not path.exists():
        return
    foreign = f"--out {path}: holds something else than results of --shard; remove it or name another file"
    end = 0
    with path.open("rb") as file:
        for line in file:
            if not line.startswith(_START[: len(line)]):
                raise UserError(foreign)
            if not line.endswith(b"\n"):
                return
            end += len(line)
            try:
                item = json.loads(line)
                item["position"] + 0
            except (ValueError, TypeError, KeyError) as error:
                raise UserError(foreign) from error
            yield end, item

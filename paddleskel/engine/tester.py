"""Testing: score the test split of a config with saved weights."""

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from paddle import nn

from paddleskel.convert.weights import read_weights
from paddleskel.data.transforms.stream import parse_stream
from paddleskel.engine import distributed
from paddleskel.engine.build import Data, build_network, check_fit, fingerprint, part_name, pipeline_of
from paddleskel.engine.evaluator import evaluate, make_eval_loader
from paddleskel.engine.log import Log
from paddleskel.engine.mixed import precision_notes
from paddleskel.engine.reporting import FILES, report_folder, write_report
from paddleskel.engine.settings import Settings
from paddleskel.errors import UserError
from paddleskel.models.checkpoint import load_into
from paddleskel.results import Results, check_format

# (network, (M, T, V, C), classes) -> a context whose value computes scores as the network does
StandIn = Callable[[nn.Layer, list[int], int], contextlib.AbstractContextManager[Callable]]


def find_weights(settings: Settings, weights: str | None) -> Path:
    """Return the weights to test: those given, or the best, or else the last, of the config's output folder."""
    if weights is not None:
        return Path(weights)
    for which in ("best", "last"):
        if settings.checkpoint(which).is_file():
            return settings.checkpoint(which)
    raise UserError(f"--test: no --weights given, and no checkpoint in {settings.output}; train first or name a file")


def find_stream_weights(settings: Settings, folder: Path) -> Path:
    """Return the weights of a stream's run below a folder: of DIR/<its output folder>, DIR/<stream> or DIR itself.

    Raises:
        UserError: none; the message lists where they were looked for.
    """
    stream = "+".join(parse_stream(settings.stream))
    candidates = [folder / settings.output.name / settings.checkpoint(which).name for which in ("best", "last")]
    candidates += [folder / stream / settings.checkpoint(which).name for which in ("best", "last")]
    candidates += [folder / f"{stream}{ending}" for ending in (".pdparams", ".pth")]
    for path in candidates:
        if path.is_file():
            return path
    raise UserError(f"no weights of stream {stream}: looked for {', '.join(map(str, candidates))}")


def run_test(
    settings: Settings,
    config: dict,
    weights: str | Path,
    out: str | None = None,
    names: Sequence[str] | None = None,
    stand_in: StandIn | None = None,
) -> Results:
    """Score the test split, print its metrics, and report on it beside the weights (`reporting.FILES`).

    Args:
        config: the resolved plain values behind `settings`, saved with the scores.
        weights: a .pdparams file.
        out: file for the scores (.pkl, .npz, .json or .csv).
        names: metrics to report; default: the config's.
        stand_in: what computes the scores in the network's place (`deploy.standin`); default: the network itself.
    """
    if out:
        check_format(Path(out))
    model = build_network(settings)
    pipeline_of(settings, "test")
    checkpoint, notes = read_weights(weights, model)
    load_into(model, checkpoint, weights)
    data = Data(settings)
    with distributed.first_alone("reading of the data"):
        loader = make_eval_loader(settings, data, "test")
    check_fit(model, loader.dataset, settings)
    first = distributed.rank() == 0
    folder = report_folder(settings, weights) if first else None
    log = Log(quiet=not first)
    for note in (*notes, *precision_notes(settings)):
        log.line(note)

    def report(number: int, batches: int, _probs, _labels) -> None:
        if number % settings.log_interval == 0:
            log.line(f"[TEST] Processing batch {number}/{batches} ...")

    log.line(f"testing {weights} on {len(loader.dataset)} samples, {settings.DATASET.test.num_clips} clips each")
    shape = list(loader.dataset[0][0].shape[1:]) if stand_in else []
    with stand_in(model, shape, settings.num_classes) if stand_in else contextlib.nullcontext() as forward:
        scored = evaluate(model, loader, settings, data.class_names(), report, forward)
    results = replace(
        scored,
        train_counts=checkpoint.meta.get("train_data", {}).get("class_counts"),
        config=config,
        data={**part_name(settings, "test"), **fingerprint(loader.dataset.clips), "seen": data.seen_in_training()},
    )
    top = min(5, settings.num_classes)
    basic = results.metrics(["top_k_accuracy"], [1, top], settings.METRIC.average_clips)
    log.line(f"[TEST] finished, avg_acc1= {basic['top1_acc']}, avg_acc{top}= {basic[f'top{top}_acc']}")
    rule = settings.METRIC
    metrics = results.metrics(names or rule.names, rule.topk, rule.average_clips, rule.count_predicted, rule.shots)
    for name, value in metrics.items():
        log.line(f"{name}: {value:.4f}")
    unseen = results.unseen()
    if unseen is not None:
        log.line(
            f"{len(results) - len(unseen)} of the {len(results)} test samples are training samples, number for number"
        )
    if unseen:
        without = unseen.metrics(names or rule.names, rule.topk, rule.average_clips, rule.count_predicted, rule.shots)
        log.line("without them " + ", ".join(f"{name}: {value:.4f}" for name, value in without.items()))
    if out and first:
        results.save(Path(out))
        log.line(f"writing results to {out}")
    if folder:
        write_report(folder, results, settings, model, data, weights)
        log.line(f"wrote {', '.join(FILES)} to {folder}")
    return results

"""Say what a network costs: parameters, multiply-accumulates, receptive field, memory.

    python tools/summary.py -c configs/recognition/stgcn_plusplus/stgcn_plusplus_ntu60_xsub_3d.yaml

No data are read. MACs are those of the network as published, so that they compare with papers.
"""

import argparse
import dataclasses
import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from paddleskel.errors import exit_code


@exit_code
def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("-c", "--config", required=True, metavar="FILE", help="the YAML config")
    add("-o", "--override", action="append", default=[], metavar="KEY=VALUE", help="set a config value; repeatable")
    add("--json", action="store_true", help="print JSON instead of a table")
    flags = parser.parse_args(arguments)

    from paddleskel.engine.build import build_network, expected_shape
    from paddleskel.engine.settings import load_settings
    from paddleskel.engine.summary import summarize
    from paddleskel.runtime import select_device

    select_device(use_gpu=False)
    settings, _ = load_settings(flags.config, flags.override)
    model = build_network(settings)
    summary = summarize(model, expected_shape(settings, model))
    clips = settings.DATASET.test.num_clips if settings.DATASET.test else 1
    if flags.json:
        print(json.dumps({"model_name": settings.model_name, **dataclasses.asdict(summary), "test_clips": clips}))
        return
    print(f"{settings.model_name}: {settings.MODEL.backbone['name']}, layout {settings.load_layout().name}")
    print(f"{'part':<28}{'unit':<22}{'output':<24}{'parameters':>12}{'M MACs':>10}")
    for row in summary.rows:
        indent = "  " * sum(row.name.startswith(f"{other.name}.") for other in summary.rows)
        name, shape = indent + row.name.removeprefix("backbone."), "x".join(map(str, row.shape))
        print(f"{name:<28}{row.kind:<22}{shape:<24}{row.params:>12,}{row.macs / 1e6:>10,.1f}")
    print(f"one clip: {' x '.join(map(str, summary.input_shape))} (persons, frames, joints, channels)")
    print(f"parameters: {summary.params:,}; {summary.published_params:,} with the biases of the published code")
    print(f"MACs: {summary.macs / 1e9:.3f} G a clip, {clips * summary.macs / 1e9:.2f} G a {clips}-clip test")
    print(f"MACs and BatchNorm, as MMAction2 counts: {(summary.macs + summary.batch_norm) / 1e9:.3f} G a clip")
    whole = "; averages over the whole clip besides" if summary.whole_clip else ""
    print(f"receptive field: {summary.receptive_field or 'unknown number of'} frames{whole}")
    print(
        f"memory: weights {summary.weights_mb:.1f} MiB; one clip takes {summary.inference_mb:.1f} MiB more to infer, "
        f"{summary.training_mb:.1f} MiB more to train on"
    )


if __name__ == "__main__":
    sys.exit(main())

"""What `amp` comes to, on a GPU that is pretended."""

import contextlib
from types import SimpleNamespace

import paddle
import pytest

from paddleskel.engine import mixed


@pytest.mark.parametrize("device", ["cpu", "gpu:1", "xpu:0"])
@pytest.mark.parametrize("amp", [None, "O1", "O2"])
def test_half_types_are_for_gpus(monkeypatch, device, amp):
    monkeypatch.setattr(paddle, "get_device", lambda: device)
    monkeypatch.setattr(paddle.amp, "auto_cast", lambda **options: contextlib.nullcontext(options))
    settings = SimpleNamespace(amp=amp, amp_dtype="bfloat16")
    level = amp if device != "cpu" else None
    assert mixed.amp_level(settings) == level
    with mixed.autocast(settings) as options:
        assert options == (None if level is None else {"level": level, "dtype": "bfloat16"})
    notes = mixed.precision_notes(settings)
    if amp is None:
        assert notes == []
    else:
        assert notes == [
            f"mixed precision {amp} with bfloat16" if level
            else "note: mixed precision needs a GPU; this run computes in float32"
        ]  # fmt: skip

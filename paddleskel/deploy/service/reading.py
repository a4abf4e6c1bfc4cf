"""From the body of a request to clips: limits on size and time, JSON, npz, and files of any pose format."""

import asyncio
import json
import tempfile
import threading
from pathlib import Path, PurePosixPath

from fastapi import HTTPException, Request

from paddleskel.data.annotation import parse_annotation
from paddleskel.data.clip import Clip
from paddleskel.deploy.inputs import Reading, annotation_from_json, annotation_from_npz, read_file
from paddleskel.deploy.predictor import Predictor
from paddleskel.errors import UserError

# readers of files limit the memory of the whole process while they run, so two must not overlap
_ONE_AT_A_TIME = threading.Lock()
NPZ_TYPES = ("application/octet-stream", "application/x-npz", "application/zip", "application/x-zip-compressed")


async def read_body(request: Request, limit: int, seconds: float) -> bytes:
    """Return the body.

    Raises:
        HTTPException: 413 above `limit` bytes, 408 where it has not come after `seconds`.
    """
    try:
        return await asyncio.wait_for(_collect(request, limit), seconds)
    except (asyncio.TimeoutError, TimeoutError) as error:
        raise HTTPException(408, f"the request had not come after {seconds:g} seconds") from error


async def _collect(request: Request, limit: int) -> bytes:
    """A body that is too large is read to its end, and not kept, so that the answer reaches whoever sends it."""
    kept, size = [], 0
    async for chunk in request.stream():
        size += len(chunk)
        if size <= limit:
            kept.append(chunk)
        else:
            kept.clear()
    if size > limit:
        raise HTTPException(413, f"the request is larger than {limit / 2**20:g} MiB")
    return b"".join(kept)


def clips_from(body: bytes, content_type: str, predictor: Predictor) -> list[Clip]:
    """Return the clips in a JSON or npz body.

    Raises:
        HTTPException: 400 not readable, 415 neither of both, 422 not what the model takes.
    """
    kind = content_type.partition(";")[0].strip().lower()
    if body[:2] == b"PK" or kind in NPZ_TYPES:
        try:
            annotation = annotation_from_npz(body, "request")
        except UserError as error:
            raise HTTPException(400, str(error)) from error
        if annotation is None:
            raise HTTPException(422, "request: the .npz file has no array 'keypoint'")
        annotations = [annotation]
    elif kind in ("application/json", "text/json", "") or kind.endswith("+json"):
        annotations = _from_json(body)
    else:
        raise HTTPException(415, f"content type {kind}: send application/json or application/octet-stream (npz)")
    try:
        clips = [
            parse_annotation({"frame_dir": str(number), **item}, "request", predictor.layout, need_label=False)
            for number, item in enumerate(annotations)
        ]
    except UserError as error:
        raise HTTPException(422, str(error)) from error
    return clips


def _from_json(body: bytes) -> list[dict]:
    try:
        content = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise HTTPException(400, f"request: not JSON: {error}") from error
    listed = content.get("samples") if isinstance(content, dict) and "samples" in content else [content]
    if not isinstance(listed, list) or not listed:
        raise HTTPException(422, 'request: "samples" must be a list of at least one sample')
    try:
        return [annotation_from_json(item, f"request: sample {number}") for number, item in enumerate(listed)]
    except UserError as error:
        raise HTTPException(422, str(error)) from error


def clips_from_file(body: bytes, name: str, predictor: Predictor) -> list[Clip]:
    """Return the clips in an uploaded file of any pose format; its name tells the format.

    Raises:
        HTTPException: 422 with the reason.
    """
    plain = PurePosixPath(name.replace("\\", "/")).name  # nothing of the sender's folders
    if not plain or plain.startswith(".") or len(plain) > 200 or any(ord(letter) < 32 for letter in plain):
        plain = "upload.json"
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / plain
        path.write_bytes(body)
        try:
            with _ONE_AT_A_TIME:
                annotations = read_file(path, Reading(predictor.layout, predictor.num_person))
            return [parse_annotation(item, plain, predictor.layout, need_label=False) for item in annotations]
        except UserError as error:
            raise HTTPException(422, str(error).replace(f"{folder}/", "")) from error

"""The HTTP application: /predict, /analyze, /health, /metrics, and the demo page at /."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass

import numpy as np
from fastapi import FastAPI, HTTPException, Query, Request
from fastapi.responses import HTMLResponse, JSONResponse, Response
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from pydantic import BaseModel

import paddleskel
from paddleskel.data.clip import Clip
from paddleskel.deploy.predictor import Predictor
from paddleskel.deploy.service.batcher import Batcher, Overloaded
from paddleskel.deploy.service.page import analysis, render_page
from paddleskel.deploy.service.reading import clips_from, clips_from_file, read_body
from paddleskel.errors import UserError


@dataclass(frozen=True)
class Limits:
    """What a request may ask for.

    max_bytes: of a body. body_seconds: for it to arrive. answer_seconds: for the prediction. max_samples: a request.
    max_batch, batch_wait, max_waiting: see `Batcher`.
    """

    max_bytes: int = 10 * 2**20
    body_seconds: float = 20.0
    answer_seconds: float = 30.0
    max_samples: int = 64
    max_batch: int = 16
    batch_wait: float = 0.004
    max_waiting: int = 256


class Ranked(BaseModel):
    """One class and its probability. `class` counts from 0."""

    class_index: int
    label: str
    score: float


class Result(BaseModel):
    """One sample: the best class (-1 and "unknown" below the threshold), and the best few."""

    id: str
    class_index: int
    label: str
    score: float
    top: list[Ranked]


class Answer(BaseModel):
    """What /predict returns."""

    model: str
    results: list[Result]


_SAMPLE_SCHEMA = {
    "type": "object",
    "required": ["keypoint"],
    "properties": {
        "keypoint": {
            "type": "array",
            "items": {},
            "description": "persons x frames x joints x 2 or 3; or one person's",
        },
        "keypoint_score": {"type": "array", "items": {}, "description": "persons x frames x joints"},
        "img_shape": {"type": "array", "items": {"type": "integer"}, "description": "height, width in pixels (2D)"},
        "frame_dir": {"type": "string", "description": "the sample's name"},
    },
}
_PREDICT_BODY = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": {
                    "oneOf": [
                        _SAMPLE_SCHEMA,
                        {
                            "type": "object",
                            "required": ["samples"],
                            "properties": {"samples": {"type": "array", "items": _SAMPLE_SCHEMA}},
                        },
                    ]
                }
            },
            "application/octet-stream": {
                "schema": {"type": "string", "format": "binary", "description": "npz with the same names"}
            },
        },
    }
}


def make_app(predictor: Predictor, limits: Limits = Limits()) -> FastAPI:
    """Return the application of one model."""
    registry = CollectorRegistry()
    requests = Counter(
        "paddleskel_requests_total", "Requests by path and status", ["path", "status"], registry=registry
    )
    latency = Histogram("paddleskel_request_seconds", "Seconds to answer", ["path"], registry=registry)
    batches = Histogram("paddleskel_batch_size", "Clips a run of the network", registry=registry,
                        buckets=(1, 2, 4, 8, 16, 32, 64))  # fmt: skip
    batcher = Batcher(predictor.score, limits.max_batch, limits.batch_wait, limits.max_waiting, batches.observe)
    Gauge("paddleskel_waiting", "Clips in the queue", registry=registry).set_function(lambda: batcher.waiting)
    page = render_page(predictor)

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        batcher.start()
        yield
        await batcher.stop()

    title = f"paddleskel: {predictor.bundle.model_name}"
    app = FastAPI(title=title, version=paddleskel.__version__, lifespan=lifespan)

    @app.middleware("http")
    async def measure(request: Request, call_next):
        start = time.perf_counter()
        response = await call_next(request)
        known = request.url.path if request.url.path in _PATHS else "other"
        requests.labels(known, response.status_code).inc()
        latency.labels(known).observe(time.perf_counter() - start)
        return response

    @app.exception_handler(HTTPException)
    async def say(_: Request, error: HTTPException) -> JSONResponse:
        return JSONResponse({"error": error.detail}, error.status_code, error.headers)

    async def score(clips: list[Clip]) -> np.ndarray:
        """(N, classes) of clips, within the limits."""
        if len(clips) > limits.max_samples:
            raise HTTPException(413, f"{len(clips)} samples in one request; at most {limits.max_samples}")
        try:
            prepared = [await asyncio.to_thread(predictor.prepare, clip) for clip in clips]
            answers = asyncio.gather(*(batcher.submit(inputs) for inputs in prepared), return_exceptions=False)
            return np.stack(await asyncio.wait_for(answers, limits.answer_seconds))
        except UserError as error:
            raise HTTPException(422, str(error)) from error
        except Overloaded as error:
            raise HTTPException(503, "too many requests are waiting; try again", {"Retry-After": "1"}) from error
        except (asyncio.TimeoutError, TimeoutError) as error:
            raise HTTPException(503, f"no answer within {limits.answer_seconds:g} seconds") from error

    @app.post("/predict", response_model=Answer, openapi_extra=_PREDICT_BODY)
    async def predict(
        request: Request, topk: int = Query(5, ge=1), threshold: float = Query(0.0, ge=0, le=1)
    ) -> Answer:
        """Recognise the actions in one sample or several, sent as JSON or as an npz file."""
        body = await read_body(request, limits.max_bytes, limits.body_seconds)
        kind = request.headers.get("content-type", "")
        clips = await asyncio.to_thread(clips_from, body, kind, predictor)
        probs = await score(clips)
        return Answer(
            model=predictor.bundle.model_name,
            results=[_result(clip, row, predictor, topk, threshold) for clip, row in zip(clips, probs)],
        )

    @app.post("/analyze", include_in_schema=False)
    async def analyze(request: Request, name: str = "upload.json") -> JSONResponse:
        """What the demo page shows about a pose file: the skeleton, and scores over time."""
        body = await read_body(request, limits.max_bytes, limits.body_seconds)
        clips = await asyncio.to_thread(clips_from_file, body, name, predictor)
        return JSONResponse(await _analysis(clips))

    @app.get("/sample", include_in_schema=False)
    async def sample() -> JSONResponse:
        """The same for the sample that comes with the model."""
        if predictor.sample is None:
            raise HTTPException(404, "this model has no sample")
        return JSONResponse(await _analysis([predictor.sample]))

    async def _analysis(clips: list[Clip]) -> dict:
        (whole,) = await score(clips[:1])
        try:
            return await asyncio.to_thread(analysis, predictor, clips, whole)
        except UserError as error:
            raise HTTPException(422, str(error)) from error

    @app.get("/health")
    async def health() -> dict:
        """Whether the service is up, and what it serves."""
        return {
            "status": "ok",
            "model": predictor.bundle.model_name,
            "engine": predictor.engine_name,
            "precision": predictor.model.precision,
            "classes": predictor.bundle.num_classes,
            "layout": predictor.layout.name,
            "input_shape": predictor.bundle.input_shape,
            "versions": predictor.bundle.versions,
        }

    @app.get("/metrics", include_in_schema=False)
    async def metrics() -> Response:
        return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)

    @app.get("/", response_class=HTMLResponse, include_in_schema=False)
    async def index() -> str:
        return page

    return app


_PATHS = ("/", "/predict", "/analyze", "/sample", "/health", "/metrics", "/docs", "/openapi.json")


def _result(clip: Clip, probs: np.ndarray, predictor: Predictor, topk: int, threshold: float) -> Result:
    order = np.argsort(-probs, kind="stable")[:topk]
    ranked = [Ranked(class_index=int(i), label=predictor.bundle.label(int(i)), score=float(probs[i])) for i in order]
    best = ranked[0]
    known = best.score >= threshold
    return Result(
        id=clip.id,
        class_index=best.class_index if known else -1,
        label=best.label if known else "unknown",
        score=best.score,
        top=ranked,
    )

"""GET /metrics, for Prometheus.

Names are vLLM's with another beginning: gemmary_ for vllm:. Dashboards that were made for vLLM work, because
what means the same is told under both names (`PEER`); it is counted once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping

from fastapi import APIRouter, Request, Response
from fastapi.responses import PlainTextResponse
from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.registry import Collector
from prometheus_client.samples import Sample

from ..engine.model import Model
from ..engine.request import Run

OURS, PEER = "gemmary_", "vllm:"
OURS_ALONE = ("http_requests", "pages")  # beginnings of names that vLLM does not have
MODEL = ("model_name",)
# Bounds, in seconds: a token of a small model takes a millisecond, a long prompt on a small machine minutes.
SOON = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1, 2.5)
LATE = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10, 20, 40, 80, 160, 640, 2560)
TOKENS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000, 20000, 50000, 100000, 200000)

router = APIRouter(tags=["Server"])


@router.get("/metrics", response_class=PlainTextResponse)
async def metrics(request: Request) -> Response:
    """Numbers about the server, in Prometheus' text format."""
    return Response(request.app.state.metrics.text(), media_type=CONTENT_TYPE_LATEST)


class Metrics:
    """All numbers of a server. Its methods may be called from any thread."""

    def __init__(self, models: Callable[[], Mapping[str, Model]]) -> None:
        """`models`: those that are loaded."""
        self.registry = CollectorRegistry()
        own = CollectorRegistry()

        def counter(name: str, text: str, labels: tuple[str, ...] = MODEL) -> Counter:
            return Counter(OURS + name, text, labels, registry=own)

        def histogram(name: str, text: str, bounds: tuple[float, ...]) -> Histogram:
            return Histogram(OURS + name, text, MODEL, registry=own, buckets=bounds)

        self._prompt = counter("prompt_tokens", "Tokens of prompts that were read.")
        self._made = counter("generation_tokens", "Tokens that were made.")
        self._asked = counter("prefix_cache_queries", "Prompt tokens that were looked up.")
        self._found = counter("prefix_cache_hits", "Prompt tokens that were remembered.")
        self._ended = counter("request_success", "Answers that ended.", (*MODEL, "finished_reason"))
        self._http = counter("http_requests", "HTTP requests.", ("path", "status"))
        self._first = histogram("time_to_first_token_seconds", "From request to first token.", LATE)
        self._next = histogram("inter_token_latency_seconds", "From token to token.", SOON)
        self._whole = histogram("e2e_request_latency_seconds", "From request to the end of the answer.", LATE)
        self._queued = histogram("request_queue_time_seconds", "Waiting.", LATE)
        self._reading = histogram("request_prefill_time_seconds", "Reading the prompt.", LATE)
        self._writing = histogram("request_decode_time_seconds", "Writing the answer.", LATE)
        self._prompts = histogram("request_prompt_tokens", "Tokens of a prompt.", TOKENS)
        self._answers = histogram("request_generation_tokens", "Tokens of an answer.", TOKENS)
        own.register(Now(models))
        self.registry.register(Both(own))

    def text(self) -> bytes:
        """All of them, as Prometheus reads them."""
        return generate_latest(self.registry)

    def first_token(self, model: str, seconds: float, prompt: int) -> None:
        """An answer has begun: its prompt is read."""
        self._first.labels(model).observe(seconds)
        self._prompt.labels(model).inc(prompt)
        self._made.labels(model).inc()

    def next_tokens(self, model: str, seconds: float, count: int) -> None:
        """An answer goes on."""
        for _ in range(count):
            self._next.labels(model).observe(seconds)
        self._made.labels(model).inc(count)

    def ended(
        self, model: str, reason: str, seconds: float, prompt: int, tokens: int, run: Run | None
    ) -> None:
        """An answer is over."""
        self._ended.labels(model, reason).inc()
        self._whole.labels(model).observe(seconds)
        self._prompts.labels(model).observe(prompt)
        self._answers.labels(model).observe(tokens)
        if run is None:
            return
        self._asked.labels(model).inc(prompt)
        self._found.labels(model).inc(run.cached if prompt else 0)
        self._queued.labels(model).observe(run.queued_seconds)
        self._reading.labels(model).observe(run.prefill_seconds)
        self._writing.labels(model).observe(run.decode_seconds)

    def answered(self, path: str, status: int) -> None:
        """An HTTP request is over."""
        self._http.labels(path, str(status)).inc()


class Now(Collector):
    """What is looked up when somebody asks."""

    def __init__(self, models: Callable[[], Mapping[str, Model]]) -> None:
        self._models = models

    def collect(self) -> Iterator[Metric]:
        """The state of each loaded model."""

        def gauge(name: str, text: str) -> GaugeMetricFamily:
            return GaugeMetricFamily(OURS + name, text, labels=MODEL)

        running = gauge("num_requests_running", "Answers that are being made.")
        waiting = gauge("num_requests_waiting", "Answers that wait.")
        share = gauge("kv_cache_usage_perc", "Share of the pages that is in use, 1 is all.")
        used = gauge("pages_used", "Pages of keys and values in use, of texts and of what is remembered.")
        total = gauge("pages_total", "Pages of keys and values.")
        gave_way = CounterMetricFamily(
            OURS + "num_preemptions", "Texts that gave their pages to others.", labels=MODEL
        )
        for name, model in self._models().items():
            scheduler = model.scheduler
            if scheduler is None:
                continue
            pages, all_pages = scheduler.pages.counts
            for family, value in ((running, scheduler.running), (waiting, scheduler.waiting),
                                  (share, pages / max(all_pages, 1)), (used, pages), (total, all_pages),
                                  (gave_way, scheduler.gave_way)):  # fmt: skip
                family.add_metric([name], value)
        yield from (running, waiting, share, used, total, gave_way)


class Both(Collector):
    """Metrics under our names and, where vLLM has the same, under its."""

    def __init__(self, own: CollectorRegistry) -> None:
        self._own = own

    def collect(self) -> Iterator[Metric]:
        """All of them."""
        for metric in map(_without_births, self._own.collect()):
            yield metric
            name = metric.name.removeprefix(OURS)
            if not name.startswith(OURS_ALONE):
                yield _renamed(metric, PEER + name)


def _renamed(metric: Metric, name: str) -> Metric:
    copy = Metric(name, metric.documentation, metric.type)
    copy.samples = list(_samples(metric.samples, metric.name, name))
    return copy


def _without_births(metric: Metric) -> Metric:
    """Without the times at which series began, which nobody reads and which are as many as all else."""
    metric.samples = [sample for sample in metric.samples if not sample.name.endswith("_created")]
    return metric


def _samples(samples: Iterable[Sample], old: str, new: str) -> Iterator[Sample]:
    for sample in samples:
        yield sample._replace(name=new + sample.name.removeprefix(old))

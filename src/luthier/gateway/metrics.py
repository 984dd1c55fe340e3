"""What GET /metrics tells Prometheus.

Names, types, labels and buckets of the `vllm:` metrics are those of vLLM's V1 engine (vllm/v1/metrics/loggers.py and
docs/design/metrics.md of vllm-project/vllm), so that a dashboard made for vLLM shows this server as it stands. What
vLLM has no word for begins with `luthier:`.
"""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

LABELS = ("model_name", "engine")
ENGINE = "0"  # vLLM numbers its engines; here there is one
FIRST_TOKEN = (
    *(0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75),
    *(1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0, 80.0, 160.0, 640.0, 2560.0),
)
BETWEEN_TOKENS = (
    *(0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75),
    *(1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0, 80.0),
)
LATENCY = (
    *(0.3, 0.5, 0.8, 1.0, 1.5, 2.0, 2.5, 5.0, 10.0, 15.0, 20.0, 30.0),
    *(40.0, 50.0, 60.0, 120.0, 240.0, 480.0, 960.0, 1920.0, 7680.0),
)


def round_numbers(most: int) -> list[float]:
    """1, 2, 5, 10, 20, 50 ... up to `most`: vLLM's buckets for numbers of tokens."""
    found = [float(m * 10**power) for power in range(len(str(most))) for m in (1, 2, 5)]
    return [number for number in found if number <= most]


class Metrics:
    """The server's counters, gauges and histograms; `context` is the longest row of the model in tokens."""

    def __init__(self, context: int) -> None:
        self.registry = registry = CollectorRegistry()
        lengths = round_numbers(context)

        def histogram(name: str, what: str, buckets: list[float] | tuple[float, ...]) -> Histogram:
            return Histogram(name, what, LABELS, buckets=buckets, registry=registry)

        self.running = Gauge("vllm:num_requests_running", "Requests being answered.", LABELS, registry=registry)
        self.waiting = Gauge(
            "vllm:num_requests_waiting", "Requests without a first token yet.", LABELS, registry=registry
        )
        self.prompt_tokens = Counter("vllm:prompt_tokens", "Tokens of prompts.", LABELS, registry=registry)
        self.generation_tokens = Counter("vllm:generation_tokens", "Tokens of answers.", LABELS, registry=registry)
        self.success = Counter(
            "vllm:request_success", "Finished answers.", (*LABELS, "finished_reason"), registry=registry
        )
        self.prompt_length = histogram("vllm:request_prompt_tokens", "Tokens of a prompt.", lengths)
        self.answer_length = histogram("vllm:request_generation_tokens", "Tokens of an answer.", lengths)
        self.most_tokens = histogram("vllm:request_params_max_tokens", "Most tokens of an answer asked for.", lengths)
        self.first_token = histogram("vllm:time_to_first_token_seconds", "Time to the first token.", FIRST_TOKEN)
        self.between = histogram("vllm:inter_token_latency_seconds", "Time between two tokens.", BETWEEN_TOKENS)
        self.latency = histogram("vllm:e2e_request_latency_seconds", "Time of a whole answer.", LATENCY)
        self.http = Counter(
            "luthier:http_requests", "Requests by route and status.", ("route", "method", "status"), registry=registry
        )
        self.feedback = Counter(
            "luthier:feedback", "Ratings of answers.", ("model_name", "rating"), registry=registry
        )
        self.unrecorded = Counter(
            "luthier:traffic_unrecorded", "Requests whose record could not be kept.", registry=registry
        )

    def text(self) -> bytes:
        """The exposition in Prometheus' text format."""
        return generate_latest(self.registry)

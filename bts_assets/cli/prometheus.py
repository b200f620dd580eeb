"""`/metrics` in Prometheus' format, on loopback: `bts up` runs it. What the figures are is decided in `services`."""

import signal
import sys
import threading
from collections.abc import Iterator

from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from bts_assets.services.prometheus import read_metrics
from bts_assets.settings import Settings, load_settings


class HomeCollector(Collector):
    """Reads a home's figures at each scrape."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def collect(self) -> Iterator[Metric]:
        for metric in read_metrics(self._settings):
            family = CounterMetricFamily if metric.kind == "counter" else GaugeMetricFamily
            found = family(metric.name, metric.about, labels=metric.labels)
            for labels, figure in metric.figures.items():
                found.add_metric(list(labels), figure)
            yield found

    def describe(self) -> Iterator[Metric]:
        """Nothing: to know the names a database would have to be asked before anybody looks."""
        return iter(())


def serve(settings: Settings, port: int) -> None:
    """Serve the figures of a home until the process is told to end."""
    registry = CollectorRegistry()
    registry.register(HomeCollector(settings))
    server, _ = start_http_server(port, "127.0.0.1", registry)
    ended = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: ended.set())
    ended.wait()
    server.shutdown()


if __name__ == "__main__":
    serve(load_settings(), int(sys.argv[1]))

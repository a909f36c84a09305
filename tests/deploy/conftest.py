"""One hospital for all who look at it; whoever breaks or stops something in it need not mend it."""

from collections.abc import Iterator

import pytest

from tests.deploy.hospital import Hospital
from tests.services.influxdb import InfluxDB
from tests.services.kafka import Kafka


@pytest.fixture(scope="package")
def _begun(tmp_path_factory: pytest.TempPathFactory, kafka: Kafka, influxdb: InfluxDB) -> Iterator[Hospital]:
    made = Hospital(tmp_path_factory.mktemp("hospital"), kafka, influxdb)
    try:
        made.begin()
        yield made
    finally:
        made.end()


@pytest.fixture
def hospital(_begun: Hospital) -> Hospital:
    """Everything runs and is ready."""
    _begun.be_whole()
    return _begun

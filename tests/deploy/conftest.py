"""One running site for all tests of this folder; processes that a test stops are started again for the next."""

from collections.abc import Iterator

import pytest

from tests.deploy.hospital import Hospital
from tests.services.influxdb import InfluxDB
from tests.services.kafka import Kafka


@pytest.fixture(scope="package")
def _running_site(tmp_path_factory: pytest.TempPathFactory, kafka: Kafka, influxdb: InfluxDB) -> Iterator[Hospital]:
    made = Hospital(tmp_path_factory.mktemp("hospital"), kafka, influxdb)
    try:
        made.start()
        yield made
    finally:
        made.end()


@pytest.fixture
def hospital(_running_site: Hospital) -> Hospital:
    """The site with all processes running and ready."""
    _running_site.start_all()
    return _running_site

"""A bad and a good hour in a real InfluxDB, for the tests of queries.

The hours are those of `wards`: North/2 deteriorates and is not acknowledged, North/3 deteriorates and is acknowledged,
North/4 has a gap of fifteen minutes, South/1 falls silent while ill, South/2 loses its SpO2, South/3 is discharged,
South/4 was ill for ten minutes, and all patients in the East are well.
"""

import pytest

from tests.dashboards.hours import Hour, written_hour
from tests.dashboards.wards import (
    A_BAD_HOUR,
    A_GOOD_HOUR,
    hour,
)
from tests.services.influxdb import InfluxDB


@pytest.fixture(scope="package")
def bad(influxdb: InfluxDB, tmp_path_factory: pytest.TempPathFactory) -> Hour:
    return written_hour(influxdb, tmp_path_factory.mktemp("bad"), "bad_hour", hour(A_BAD_HOUR))


@pytest.fixture(scope="package")
def good(influxdb: InfluxDB, tmp_path_factory: pytest.TempPathFactory) -> Hour:
    return written_hour(influxdb, tmp_path_factory.mktemp("good"), "good_hour", hour(A_GOOD_HOUR))

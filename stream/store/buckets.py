"""Names of the buckets of a site."""

from typing import NamedTuple

from stream.config import InfluxConfig


class Buckets(NamedTuple):
    """Names of the three buckets: events, aggregates of one minute, aggregates of one hour."""

    raw: str
    minutes: str
    hours: str

    @classmethod
    def of(cls, config: InfluxConfig) -> "Buckets":
        return cls(config.bucket, f"{config.bucket}_1m", f"{config.bucket}_1h")

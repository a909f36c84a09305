"""The connection to InfluxDB: it goes by the token that is in the file now."""

import asyncio
from pathlib import Path

from stream.store.influx import Database
from tests.stream.store.influx_stand_in import influx_stand_in


def test_a_token_that_was_replaced_is_used_by_the_next_request(tmp_path: Path) -> None:
    async def story() -> None:
        async with Database(server.config) as database:
            await database.write("vitals", ["a v=1 1"])
            server.config.token_file.write_text("another", encoding="utf-8")
            await database.write("vitals", ["a v=1 2"])
            await database.query("buckets()")
            server.config.token_file.unlink()  # while it is replaced
            await database.write("vitals", ["a v=1 3"])

    with influx_stand_in(tmp_path) as server:
        asyncio.run(story())

    assert server.tokens == ["Token of-tests-only", *["Token another"] * 3]

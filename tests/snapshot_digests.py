"""Writes new digests of stored states and events, where their format was meant to change.

`python -m tests.snapshot_digests`; `tests/vitals/test_snapshot_bytes.py` says what is a change of the format.
"""

import json

from tests.vitals.test_snapshot_bytes import DIGESTS, PLANS, digests_of

STEPS = ("1", "10", "100", "500", "1000", "2000")


def main() -> None:
    digests = {name: digests_of(plan, STEPS) for name, plan in PLANS.items()}
    DIGESTS.write_text(json.dumps(digests, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

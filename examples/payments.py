"""A seeded log of payments as JSON lines on standard output: eight weeks, five percent out of order, one in a thousand late.

python examples/payments.py --events 5000000 | kappa log append payments.captured.v1 -
"""

from __future__ import annotations

import argparse
import random
import sys
from collections.abc import Iterator
from itertools import accumulate

START_MS = 1_772_303_400_000  # 2026-03-01T00:00 in Asia/Kolkata
SPAN_MS = 8 * 7 * 86_400_000
MERCHANTS = 40_000
POOL = 1 << 18  # prepared middles of records; each record picks one
CHUNK = 100_000


def middles(chance: random.Random) -> list[str]:
    """What stands between a payment's id and its time. Merchants follow Zipf's law: few large ones, many small ones."""
    weights = list(accumulate(1 / rank for rank in range(1, MERCHANTS + 1)))
    merchants = chance.choices(range(MERCHANTS), cum_weights=weights, k=POOL)
    statuses = chance.choices(["captured", "authorized", "refunded", "failed"], weights=[85, 7, 3, 5], k=POOL)
    amounts = [0 if chance.random() < 0.01 else int(chance.lognormvariate(11, 1.2)) for _ in range(POOL)]
    currencies = chance.choices(["INR", "USD", "EUR"], weights=[90, 6, 4], k=POOL)
    return [
        f'"merchant_id":"mrc_{merchant:010d}","status":"{status}","amount":{amount},"currency":"{currency}"'
        for merchant, status, amount, currency in zip(merchants, statuses, amounts, currencies, strict=True)
    ]


def times(chance: random.Random, first: int, count: int, total: int) -> list[int]:
    """Event times in ms: rising, but for five percent up to 25 s back, and one in a thousand up to six hours."""
    result = [START_MS + index * SPAN_MS // total for index in range(first, first + count)]
    for index in chance.sample(range(count), count // 20):
        result[index] = max(START_MS, result[index] - chance.randrange(1, 25_000))
    for index in chance.sample(range(count), count // 1000):
        result[index] = max(START_MS, result[index] - chance.randrange(60_000, 6 * 3_600_000))
    return result


def payments(events: int, seed: int) -> Iterator[str]:
    """The records, many at a time."""
    chance = random.Random(seed)
    pool = middles(chance)
    for first in range(0, events, CHUNK):
        count = min(CHUNK, events - first)
        picked = chance.choices(pool, k=count)
        stamped = times(chance, first, count, events)
        lines = zip(range(first, first + count), picked, stamped, strict=True)
        yield "".join([f'{{"payment_id":"pay_{i:016x}",{middle},"event_time":{at}}}\n' for i, middle, at in lines])


def main() -> None:
    """Writes the records to standard output."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--events", type=int, default=5_000_000, help="how many (5000000)")
    parser.add_argument("--seed", type=int, default=1, help="the same seed gives the same records (1)")
    args = parser.parse_args()
    for lines in payments(args.events, args.seed):
        sys.stdout.write(lines)


if __name__ == "__main__":
    main()

"""Compares the demo's table with what DuckDB computes from the same records, row by row. Exit status 1 if they differ."""

from __future__ import annotations

import sys

import duckdb

import kappa

# Asia/Kolkata has been 5 h 30 min ahead of UTC, without exception, since 1945.
QUERY = """
select date '1970-01-01' + cast((event_time + 19800000) // 86400000 as integer) as day,
       count(distinct merchant_id) as merchants
from read_json($1, format = 'newline_delimited',
               columns = {status: 'VARCHAR', amount: 'BIGINT', merchant_id: 'VARCHAR', event_time: 'BIGINT'})
where status = 'captured' and amount > 0
group by 1
"""


def main(records: str, table: str) -> int:
    """Prints the verdict, and every row that differs."""
    expected = dict(duckdb.execute(QUERY, [records]).fetchall())
    rows = kappa.read(table).to_dicts()
    found = {row["day"]: row["merchants"] for row in rows}
    for day in sorted(expected.keys() | found.keys()):
        if expected.get(day) != found.get(day):
            print(f"DIFFERS  {day}: kappa {found.get(day)}, DuckDB {expected.get(day)}")
    if found != expected or len(rows) != len(found):
        print(f"{len(rows)} rows in {table}, {len(expected)} by DuckDB: they differ")
        return 1
    print(f"all {len(rows)} rows of {table} equal DuckDB's answer")
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))

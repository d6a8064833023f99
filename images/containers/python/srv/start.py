"""What a small service imports, and one use of each, whose result is printed."""

import argparse
import datetime
import decimal
import hashlib
import json
import re
import sqlite3
import ssl
import sys
import zlib


def main() -> None:
    """Print one line of JSON."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--names", default="ada, grace, edsger")
    names = re.split(r"\s*,\s*", parser.parse_args().names)
    values = {name: decimal.Decimal(len(name)) / 8 for name in names}
    database = sqlite3.connect(":memory:")
    database.execute("create table readings (name text, value text)")
    database.executemany("insert into readings values (?, ?)", [(name, str(value)) for name, value in values.items()])
    ordered = [name for (name,) in database.execute("select name from readings order by name desc")]
    database.close()
    told = {
        "ordered": ordered,
        "sum": str(sum(values.values())),
        "sha256": hashlib.sha256(",".join(ordered).encode()).hexdigest()[:16],
        "crc32": zlib.crc32(b"testbed"),
        "day": (datetime.date(2000, 2, 28) + datetime.timedelta(days=2)).isoformat(),
        "verifies": ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).check_hostname,
    }
    sys.stdout.write(json.dumps(told, sort_keys=True) + "\n")


if __name__ == "__main__":
    main()

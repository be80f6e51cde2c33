"""A ClickHouse table of the export `videos`, in chdb. `clickhouse local` and a server take the same statements."""

import subprocess
from pathlib import Path

from chdb.session import Session

database = Session("clickhouse-data")
database.query("CREATE DATABASE IF NOT EXISTS lake")
database.query("USE lake")
# The file() function of a server reads below its user_files directory; s3() reads a bucket.
printed = subprocess.run(
    ["pagehaul", "schema", "--for", "clickhouse", "--out", Path("videos").absolute()],
    check=True, capture_output=True, text=True,
)
for statement in printed.stdout.split(";\n"):
    if statement.strip():
        database.query(statement)

print(database.query("SELECT region, count(), sum(total_views_cnt) FROM product_videos GROUP BY region", "CSV"))

"""Runs the recipes on exports, and compares what each prints with what the export says: rows, regions and a sum.

    check.py DIRECTORY..      each with an export `videos` in it; the last part of its name is also a database's
"""

import csv
import glob
import json
import os
import shutil
import subprocess
import sys
import time
from collections import defaultdict
from pathlib import Path
from urllib.parse import unquote

import pyarrow.parquet as pq

HERE = Path(__file__).resolve().parent
SUM = "total_views_cnt"
QUERY = f"SELECT region, count(*), sum({SUM}) FROM {{}} GROUP BY region"
# The statements of `pagehaul schema`, where no recipe runs them.
SCHEMA_DUCKDB = "pagehaul schema --for duckdb --out videos | duckdb schema.db && duckdb schema.db -csv -noheader -c "
SCHEMA_ARROW = f"""
for row in dataset.to_table().group_by("region").aggregate([([], "count_all"), ("{SUM}", "sum")]).to_pylist():
    print(row["region"] or "", row["count_all"], row["{SUM}_sum"], sep=",")
"""
SCHEMA_JSON = f"""
import json
import jsonschema
import polars

validator = jsonschema.Draft202012Validator(json.load(open("schema.json", encoding="utf-8")))
videos = polars.read_parquet("videos/region=*/*.parquet", hive_schema={{"region": polars.String}})
times = polars.selectors.datetime().dt.to_string("iso:strict")
for row in videos.with_columns(times).iter_rows(named=True):
    validator.validate(row)
print(videos.group_by("region").agg(polars.len(), polars.col("{SUM}").sum()).write_csv(include_header=False))
"""
# Each prints a line a region: its name, its rows, the sum.
RECIPES = {
    "duckdb": f"duckdb -csv -noheader videos.db <'{HERE}/duckdb.sql'",
    "duckdb schema": SCHEMA_DUCKDB + f"'{QUERY.format('product_videos')}'",
    "arrow schema": f"(pagehaul schema --for arrow --out videos; echo '{SCHEMA_ARROW}') | python -",
    "json schema": f"pagehaul schema --for json-schema >schema.json && python -c '{SCHEMA_JSON}'",
    "polars": f"python '{HERE}/polars_scan.py'",
    "clickhouse": f"python '{HERE}/clickhouse.py'",
    "postgres": f"'{HERE}/postgres.sh'",
    "spark": f"python '{HERE}/spark.py'",
    "dbt": f"dbt --quiet build --project-dir '{HERE}/dbt' --profiles-dir '{HERE}/dbt' >&2 && "
    + f"duckdb videos.duckdb -csv -noheader -c '{QUERY.format('stg_videos').replace(SUM, 'views')}'",
    "iceberg": f"python '{HERE}/iceberg.py'",
    "ducklake": f"python '{HERE}/ducklake.py'",
}
# What a second run must not change.
REPEATED = ("iceberg", "ducklake")


def missing(name):
    """Why a recipe cannot be run here; none if it can."""
    if name == "postgres" and "PGHOST" not in os.environ:
        return "there is no PostgreSQL, and it cannot be installed"
    if name == "spark" and not shutil.which("java"):
        return "there is no Java, and it cannot be installed"
    return None


def expected(out):
    """Rows and sum of each region: from the files that the manifests name, checked against the summary."""
    summary = json.loads((out / "_pagehaul/summary.json").read_text(encoding="utf-8"))
    found = defaultdict(lambda: [0, 0])
    for name in (out / "_pagehaul/segments").glob("*.json"):
        for file in json.loads(name.read_text(encoding="utf-8"))["files"]:
            region = unquote(file["path"].split("/")[0].removeprefix("region="))
            of_region = found[None if region == "__HIVE_DEFAULT_PARTITION__" else region]
            of_region[0] += file["rows"]
            table = pq.ParquetFile(out / file["path"]).read([SUM])
            of_region[1] += sum(value or 0 for value in table[SUM].to_pylist())
    assert sum(rows for rows, _ in found.values()) == summary["rows"]["published"], summary
    assert len(found) == summary["regions"], summary
    return {region: tuple(values) for region, values in found.items()}


def environment(directory):
    """What the recipes need beside the export."""
    extension = glob.glob(f"{sys.prefix}/lib/python*/site-packages/duckdb_extension_ducklake/extensions/*/*.duckdb_extension")
    own = {
        "PGDATABASE": directory.name,
        "PAGEHAUL_PARTITION_IN_FILES": "true" if directory.name == "in_files" else "false",
        "VIDEOS": str(directory / "videos"),
        "DBT_TARGET_PATH": str(directory / "dbt-target"),
        "DBT_LOG_PATH": str(directory / "dbt-logs"),
        "DBT_SEND_ANONYMOUS_USAGE_STATS": "false",
        "DUCKLAKE_EXTENSION": extension[0],
        "SPARK_LOCAL_IP": "127.0.0.1",
    }
    return os.environ | own


def run(command, directory):
    """What a recipe prints, by region."""
    ended = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", command],
        cwd=directory, env=environment(directory), stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=300,
    )
    if ended.returncode != 0:
        raise RuntimeError(f"exit code {ended.returncode}: {ended.stdout[-1500:]}{ended.stderr[-3000:]}")
    lines = [line for line in csv.reader(ended.stdout.splitlines()) if len(line) == 3]
    null = ("", "NULL", "\\N")
    return {None if region in null else region: (int(rows), int(views)) for region, rows, views in lines}


def seen_by(name, directory, wanted):
    """What an engine can have of what is wanted."""
    if name == "spark":  # it takes each byte of a directory's decoded name as a character
        return {region and region.encode().decode("latin-1"): values for region, values in wanted.items()}
    if name == "iceberg" and directory.name == "plain":  # it looks at no path
        totals = wanted.values()
        return {None: (sum(rows for rows, _ in totals), sum(views for _, views in totals))}
    return wanted


def check(name, directory, wanted):
    """Fails unless the recipe has what is wanted."""
    wanted = seen_by(name, directory, wanted)
    for _ in range(2 if name in REPEATED else 1):
        found = run(RECIPES[name], directory)
        assert found == wanted, f"found {found}, wanted {wanted}"
    if name == "ducklake":
        check_doubling(directory, sum(rows for rows, _ in wanted.values()))
    return found


def check_doubling(directory, rows):
    """DuckLake adds a file again if it is told to, and then has its rows twice."""
    import duckdb

    database = duckdb.connect()
    database.load_extension(environment(directory)["DUCKLAKE_EXTENSION"])
    database.execute(f"ATTACH 'ducklake:{directory}/ducklake.db' AS lake")
    files = f"{directory}/videos/region=*/*.parquet"
    database.execute("CALL ducklake_add_data_files('lake', 'videos', ?, hive_partitioning => true)", [files])
    (found,) = database.execute("SELECT count(*) FROM lake.videos").fetchone()
    assert found == 2 * rows, f"{found} rows after all files were added again, not {2 * rows}: correct the recipe's text"


def main():
    passed = failed = skipped = 0
    for directory in map(Path, sys.argv[1:]):
        wanted = expected(directory / "videos")
        for name in RECIPES:
            label = f"{directory.name:<9} {name:<14}"
            reason = missing(name)
            if reason:
                print(f"skipped {label} {reason}", flush=True)
                skipped += 1
                continue
            start = time.monotonic()
            try:
                found = check(name, directory, wanted)
            except Exception as error:  # any of them is this recipe's failure
                print(f"failed  {label} {error}", flush=True)
                failed += 1
                continue
            rows, views = (sum(values) for values in zip(*found.values()))
            seconds = time.monotonic() - start
            print(f"ok      {label} {rows:,} rows, {len(found)} regions, sum {views:,} ({seconds:.1f} s)", flush=True)
            passed += 1
    print(f"{passed} passed, {failed} failed, {skipped} skipped")
    sys.exit(1 if failed or (skipped and os.environ.get("CI") == "true") else 0)


main()

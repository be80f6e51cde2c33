"""Reads an export with readers that this project did not write, and compares what they see with what pagehaul says.

    foreign_readers.py OUT SUMMARY      the export's folder; a file whose last line is the run's summary

Ends with an AssertionError at the first difference.
"""

import hashlib
import json
import sys
from collections import Counter
from pathlib import Path

import duckdb
import polars
import pyarrow
import pyarrow.dataset
import pyarrow.parquet

PARTITION = "region"
KEY = ("product_id", "video_id")


def check_manifests(out, summary):
    """The manifests list exactly the files that are there, byte for byte. Gives the rows of each region."""
    listed, rows, columns, schemas = set(), Counter(), set(), set()
    manifests = sorted((out / "_pagehaul/segments").glob("*.json"))
    assert manifests, "no manifest"
    for name in manifests:
        manifest = json.loads(name.read_text(encoding="utf-8"))
        assert manifest["export"] == summary["export"], name
        names = [column for column, _ in manifest["columns"]]
        columns.add(tuple(names))
        rejects = [manifest["rejects"]] if manifest["rejects"] else []
        for entry in manifest["files"] + rejects:
            assert entry["path"] not in listed, f"{entry['path']} is listed twice"
            listed.add(entry["path"])
            content = (out / entry["path"]).read_bytes()
            assert len(content) == entry["bytes"], entry
            assert hashlib.sha256(content).hexdigest() == entry["sha256"], entry
            assert pyarrow.parquet.read_metadata(out / entry["path"]).num_rows == entry["rows"], entry
        for entry in manifest["files"]:
            schema = pyarrow.parquet.read_schema(out / entry["path"])
            assert schema.names == names, entry
            schemas.add(str(schema))
            rows[entry["path"].split("/")[0].removeprefix(f"{PARTITION}=")] += entry["rows"]
    folders = [*out.glob(f"{PARTITION}=*"), *out.glob("_rejects")]
    present = {str(file.relative_to(out)) for folder in folders for file in folder.rglob("*") if file.is_file()}
    assert present == listed, present ^ listed
    assert not any((out / "_pagehaul/staging").iterdir()), "something was left in staging"
    assert (out / "_SUCCESS").exists(), "no _SUCCESS"
    assert {len(names) for names in columns} == {summary["columns"]}, columns
    assert len(schemas) == 1, schemas
    assert len(rows) == summary["regions"], rows
    assert sum(rows.values()) == summary["rows"]["published"], rows
    assert len([name for name in listed if name.startswith(PARTITION)]) == summary["files"]
    return rows


def check_duckdb(out, summary, rows):
    """DuckDB, with the partition as a column of an explicit type."""
    database = duckdb.connect()
    database.execute("SET TimeZone = 'UTC'")
    glob = str(out / f"{PARTITION}=*/*.parquet")
    database.execute(
        f"CREATE VIEW videos AS FROM read_parquet('{glob}', hive_partitioning = true, "
        f"hive_types = {{'{PARTITION}': VARCHAR}})"
    )
    columns = {name: kind for name, kind, *_ in database.execute("DESCRIBE videos").fetchall()}
    assert len(columns) == summary["columns"] + 1, columns
    assert columns[PARTITION] == "VARCHAR", columns
    assert columns["create_time"] == "TIMESTAMP WITH TIME ZONE", columns
    found = dict(database.execute(f"SELECT {PARTITION}, count(*) FROM videos GROUP BY ALL").fetchall())
    assert found == dict(rows), (found, rows)
    key = ", ".join(KEY)
    (keys,) = database.execute(f"SELECT count(*) FROM (SELECT DISTINCT {key} FROM videos)").fetchone()
    assert keys == summary["rows"]["published"], f"{keys} keys"
    # A video's id holds the second in which it was made: a column read in a wrong unit or zone, or values that slipped
    # from one row to another, cannot agree with it.
    (wrong,) = database.execute(
        "SELECT count(*) FROM videos WHERE epoch(create_time) IS DISTINCT FROM video_id::UBIGINT >> 32"
    ).fetchone()
    assert wrong == 0, f"{wrong} rows whose create_time is not the time in their video_id"


def check_pyarrow(out, summary, rows):
    """pyarrow's dataset, which finds the files by itself: it must pass over everything that begins with `_`."""
    partitioning = pyarrow.dataset.partitioning(pyarrow.schema([(PARTITION, pyarrow.string())]), flavor="hive")
    dataset = pyarrow.dataset.dataset(out, format="parquet", partitioning=partitioning)
    assert len(dataset.schema) == summary["columns"] + 1, dataset.schema
    assert dataset.schema.field("create_time").type == pyarrow.timestamp("us", tz="UTC"), dataset.schema
    table = dataset.to_table(columns=[PARTITION, *KEY])
    found = Counter(table[PARTITION].to_pylist())
    assert found == rows, (found, rows)
    keys = table.group_by(list(KEY)).aggregate([]).num_rows
    assert keys == summary["rows"]["published"], f"{keys} keys"


def check_polars(out, summary, rows):
    """Polars, lazily."""
    frame = polars.scan_parquet(
        out / f"{PARTITION}=*/*.parquet", hive_partitioning=True, hive_schema={PARTITION: polars.String}
    )
    schema = frame.collect_schema()
    assert len(schema) == summary["columns"] + 1, schema
    assert schema["create_time"] == polars.Datetime("us", "UTC"), schema
    found = dict(frame.group_by(PARTITION).len().collect().iter_rows())
    assert found == dict(rows), (found, rows)


def check_products(out, summary):
    """The report on products: every one is complete, and their rows are the rows that are there."""
    products = pyarrow.parquet.read_table(out / "_pagehaul/products.parquet").to_pylist()
    assert len(products) == summary["products"]["total"] == summary["products"]["complete"], len(products)
    assert all(product["complete"] and product["error"] is None for product in products)
    assert len({product["product"] for product in products}) == len(products)
    assert sum(product["rows"] for product in products) == summary["rows"]["published"]
    assert sum(product["pages"] for product in products) == summary["pages"]["journaled"]
    assert sum(product["credits"] for product in products) == summary["credits"]["billed"]
    read = dict(
        duckdb.execute(
            "SELECT product_id, count(*) FROM read_parquet(?) GROUP BY ALL", [str(out / f"{PARTITION}=*/*.parquet")]
        ).fetchall()
    )
    assert read == {product["product"]: product["rows"] for product in products if product["rows"]}


def main():
    out, last_line = Path(sys.argv[1]), Path(sys.argv[2]).read_text(encoding="utf-8").splitlines()[-1]
    summary = json.loads(last_line)
    assert json.loads((out / "_pagehaul/summary.json").read_text(encoding="utf-8")) == summary
    rows = check_manifests(out, summary)
    check_duckdb(out, summary, rows)
    check_pyarrow(out, summary, rows)
    check_polars(out, summary, rows)
    check_products(out, summary)
    print(
        f"DuckDB {duckdb.__version__}, pyarrow {pyarrow.__version__} and Polars {polars.__version__} agree with the "
        f"summary: {summary['rows']['published']} rows, {summary['regions']} regions, {summary['columns']} columns"
    )


main()

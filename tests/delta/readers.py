"""The output as a Delta table, read by others while it is written, killed and replaced.

    readers.py PAGEHAUL KILLS

Each reader counts rows and keys by region (and snapshot). Whenever it looks, the table must have whole segments and each key once; at the end,
what the manifests and the summary say.
"""

import glob
import json
import os
import random
import re
import subprocess
import sys
import tempfile
import time
import urllib.parse
from collections import Counter

EXPORT = ["--simulate=products=200,max_videos=400,latency=20ms", "--segment-size", "256KiB", "--qps", "300"]
COMMON = ["--table", "delta", "--progress", "none"]
# Values that a directory, a URL and a log each write in another way.
REGIONS = ["ID", "a/b=c", "100%", "x y", "\u00e9\u0301", "a%2Fb"]
ROW_KEY = ["product_id", "video_id"]


class Local:
    """A table in a directory, as its readers name it. ClickHouse reads only what is below the working directory."""

    storage_options = None
    duckdb_extensions, duckdb_setup = ["delta"], []

    def __init__(self, out, partition=("region",)):
        import pyarrow.fs

        self.partition = list(partition)
        self.url = self.root = out
        self.files = pyarrow.fs.LocalFileSystem()
        self.clickhouse = f"deltaLakeLocal('{os.path.relpath(out)}')"


class Bucket:
    """A table in a bucket of an S3 on this machine."""

    duckdb_extensions = ["httpfs", "delta"]
    partition = ["region"]

    def __init__(self, url, host, key, secret):
        import pyarrow.fs

        self.url, self.root = url, url.removeprefix("s3://")
        self.files = pyarrow.fs.S3FileSystem(
            access_key=key, secret_key=secret, endpoint_override=host, scheme="http", region="us-east-1"
        )
        self.clickhouse = f"deltaLake('http://{host}/{self.root}', '{key}', '{secret}')"
        self.storage_options = {
            "AWS_ACCESS_KEY_ID": key,
            "AWS_SECRET_ACCESS_KEY": secret,
            "AWS_REGION": "us-east-1",
            "AWS_ENDPOINT_URL": f"http://{host}",
            "AWS_ALLOW_HTTP": "true",
        }
        self.duckdb_setup = [
            f"CREATE SECRET (TYPE s3, KEY_ID '{key}', SECRET '{secret}', ENDPOINT '{host}', REGION 'us-east-1', "
            "USE_SSL false, URL_STYLE 'path')"
        ]


def names(table, directory):
    """Files directly below a directory of the output, ascending; nothing where there is none."""
    import pyarrow.fs

    selector = pyarrow.fs.FileSelector(f"{table.root}/{directory}", allow_not_found=True)
    while True:
        try:
            return sorted(file.path for file in table.files.get_file_info(selector) if file.is_file)
        except FileNotFoundError:
            pass  # a temporary file went while the directory was listed


def content(table, path):
    with table.files.open_input_stream(path) as file:
        return file.read().decode()


def with_deltalake(table):
    import deltalake

    opened = deltalake.DeltaTable(table.url, storage_options=table.storage_options)
    columns = [*table.partition, *ROW_KEY]
    found = opened.to_pyarrow_table(columns=columns)
    return by_partition(table, zip(*(found.column(name).to_pylist() for name in columns)))


def with_polars(table):
    import polars

    found = polars.scan_delta(table.url, storage_options=table.storage_options).select(*table.partition, *ROW_KEY)
    return by_partition(table, found.collect().iter_rows())


def with_duckdb(table):
    import duckdb

    connection = duckdb.connect(config={"allow_unsigned_extensions": "true"})
    for name in table.duckdb_extensions:
        [directory] = __import__(f"duckdb_extension_{name}").__path__
        [extension] = glob.glob(f"{directory}/extensions/v{duckdb.__version__}/{name}.duckdb_extension")
        connection.execute(f"LOAD '{extension}'")
    for statement in table.duckdb_setup:
        connection.execute(statement)
    query = f"SELECT {', '.join([*table.partition, *ROW_KEY])} FROM delta_scan('{table.url}')"
    return by_partition(table, connection.execute(query).fetchall())


def with_chdb(table):
    """With ClickHouse's own reader of the log: like `with_the_log`, it shares no code with the kernel that writes."""
    import chdb

    columns = ", ".join([*table.partition, *ROW_KEY])
    query = f"SELECT {columns} FROM {table.clickhouse} SETTINGS allow_delta_kernel_rs = 0"
    lines = str(chdb.query(query, "JSONCompactEachRow")).splitlines()
    return by_partition(table, (tuple(json.loads(line)) for line in lines))


def with_the_log(table):
    """The log as its protocol says, without checkpoints: adds minus removes."""
    import pyarrow.parquet

    live = {}
    for version in names(table, "_delta_log"):
        for line in content(table, version).splitlines() if version.endswith(".json") else []:
            action = json.loads(line)
            if "remove" in action:
                del live[action["remove"]["path"]]
            if "add" in action:
                values = action["add"]["partitionValues"]
                live[action["add"]["path"]] = [values[name] for name in table.partition]
    rows = []
    for path, values in live.items():
        with table.files.open_input_file(f"{table.root}/{urllib.parse.unquote(path)}") as file:
            columns = pyarrow.parquet.ParquetFile(file).read(columns=ROW_KEY)
        rows += ((*values, *key) for key in zip(*(columns.column(name).to_pylist() for name in ROW_KEY)))
    return by_partition(table, rows)


def by_partition(table, rows):
    """Rows by snapshot and region. No key may come twice in a snapshot."""
    rows, region = list(rows), len(table.partition) - 1
    keys = {row[:region] + row[region + 1 :] for row in rows}
    assert len(keys) == len(rows), f"{len(rows)} rows have {len(keys)} keys"
    return Counter(row[: region + 1] for row in rows)


READERS = {
    "log": (with_the_log, ["pyarrow"]),
    "deltalake": (with_deltalake, ["deltalake", "pyarrow"]),
    "polars": (with_polars, ["polars", "deltalake"]),
    "duckdb": (with_duckdb, ["duckdb", "duckdb_extension_delta"]),
    "chdb": (with_chdb, ["chdb"]),
}


class Looks:
    """What each reader saw while the table was written."""

    def __init__(self, table, readers):
        self.table, self.readers = table, readers
        self.totals = {name: [] for name in readers}

    def look(self):
        for name, read in self.readers.items():
            # A file that is being written has another name until it is whole.
            if any(version.endswith(".json") for version in names(self.table, "_delta_log")):
                self.totals[name].append(sum(read(self.table).values()))

    def until_end_of(self, run, seconds=None):
        """Looks until the run ends, or is killed after this time. Returns its exit code."""
        end = time.monotonic() + seconds if seconds else None
        while run.poll() is None:
            self.look()
            if end and time.monotonic() > end:
                run.kill()
        return run.wait()


def manifests(table):
    return [json.loads(content(table, name)) for name in names(table, "_pagehaul/segments") if name.endswith(".json")]


def published(table):
    """Rows by region, each in a tuple, that the manifests have, how many the table may have at a moment, and the files."""
    expected, whole, files = Counter(), {0}, []
    for manifest in manifests(table):
        for file in manifest["files"]:
            expected[(region_of(file["path"]),)] += file["rows"]
            files.append(file["path"])
        whole.add(sum(expected.values()))
    summary = json.loads(content(table, f"{table.root}/_pagehaul/summary.json"))
    assert summary["rows"]["published"] == sum(expected.values()), summary
    assert len(whole) > 4, f"{len(whole) - 1} segments show little"
    return expected, whole, files


def region_of(path):
    value = path.split("/")[0].removeprefix("region=")
    return None if value == "__HIVE_DEFAULT_PARTITION__" else urllib.parse.unquote(value)


def available():
    """The readers that are there, of those that READERS names (default: all); and a line for each of the others."""
    wanted = os.environ.get("READERS", "all").split(",")
    readers, skipped = {}, []
    for name, (read, modules) in READERS.items():
        if wanted != ["all"] and name not in wanted:
            print(f"!! NOT RUN: {name} (READERS)", file=sys.stderr)
            continue
        try:
            for module in modules:
                __import__(module)
            readers[name] = read
        except ImportError as error:
            skipped.append(f"{name}: {error}")
    return readers, skipped


def missing(skipped):
    """Says which readers are not there; a failure where CI=true."""
    for line in skipped:
        print(f"!! SKIPPED: {line}", file=sys.stderr)
    if skipped and os.environ.get("CI") == "true":
        sys.exit("a reader is missing")


def others_rewrite(table, readers, expected, run, common):
    """OPTIMIZE of another writer merges files. What was committed stays, and a replay is refused: it would double rows."""
    import deltalake

    merged = deltalake.DeltaTable(table.url).optimize.compact()["numFilesRemoved"]
    assert merged > 0
    assert run("export", *EXPORT, *common) == 0
    assert run("replay", "--all", *common) == 9
    assert run("export", *EXPORT, *common) == 0
    for name, read in readers.items():
        assert read(table) == expected, name
    print(f"after OPTIMIZE of {merged} files: the same rows, and a replay ends with 9")


def snapshots(program, readers, directory, endpoint):
    """Two snapshots that are exported at the same time are one table."""
    dataset, labels = os.path.join(directory, "dataset"), ["2026-11-26", "2026-11-27"]
    command = [program, "export", *EXPORT, *COMMON, "--endpoint", endpoint, "--out", dataset]
    runs = [subprocess.Popen([*command, "--snapshot", label], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) for label in labels]
    for run in runs:
        message = run.communicate()[1].decode()
        assert run.returncode == 0, message
    expected = Counter()
    for label in labels:
        one, _, _ = published(Local(os.path.join(dataset, f"snapshot={label}")))
        expected.update({(label, *region): rows for region, rows in one.items()})
        assert subprocess.run([program, "verify", "--out", dataset, "--snapshot", label], capture_output=True).returncode == 0
    table = Local(dataset, ["snapshot", "region"])
    for name, read in readers.items():
        found = read(table)
        assert found == expected, f"{name}: {found - expected} too many, {expected - found} missing"
    print(f"{len(labels)} snapshots in one table, {sum(expected.values())} rows: {', '.join(readers)} agree")


def main():
    description = open("config/endpoints/product-videos.toml", encoding="utf-8").read()
    regions = f"partitions = {json.dumps(REGIONS, ensure_ascii=False)}"
    program, kills = os.path.abspath(sys.argv[1]), int(sys.argv[2])
    readers, skipped = available()
    with tempfile.TemporaryDirectory() as directory:
        os.chdir(directory)
        out = os.path.join(directory, "out")
        endpoint = os.path.join(directory, "endpoint.toml")
        with open(endpoint, "w", encoding="utf-8") as file:
            file.write(re.sub("^partitions = .*$", regions, description, count=1, flags=re.MULTILINE))
        common = [*COMMON, "--endpoint", endpoint]
        table = Local(out)
        looks = Looks(table, readers)

        def start(command, *arguments):
            line = [program, command, "--out", out, *arguments]
            return subprocess.Popen(line, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)

        def succeed(run):
            assert looks.until_end_of(run) == 0, run.stderr.read().decode()

        killed = 0
        for _ in range(kills):
            killed += looks.until_end_of(start("export", *EXPORT, *common), random.uniform(0.2, 3)) == -9
        succeed(start("export", *EXPORT, *common))
        during = {name: len(totals) for name, totals in looks.totals.items()}
        expected, whole, old = published(table)
        assert set(expected) == {(region,) for region in REGIONS}, expected

        # Every segment again, each in one commit: nobody sees a row less or twice, whatever version they read.
        succeed(start("replay", "--all", *common))
        assert all(os.path.exists(os.path.join(out, path)) for path in old), "readers of older versions lack files"
        succeed(start("verify"))

        rows = sum(expected.values())
        print(f"{rows} rows, {len(expected)} regions, {len(whole) - 1} segments, {killed} kills")
        for name, read in readers.items():
            before, totals = during[name], looks.totals[name]
            partial = [total for total in totals if total not in whole]
            assert not partial, f"{name} saw {partial} rows, whole segments are {sorted(whole)}"
            less = [total for total in totals[before:] if total != rows]
            assert not less, f"{name} saw {less} rows during the replay"
            found = read(table)
            assert found == expected, f"{name}: {found - expected} too many, {expected - found} missing"
            print(f"{name}: {sum(found.values())} rows, each key once; {before} + {len(totals) - before} looks")
        if "deltalake" in readers:
            others_rewrite(table, readers, expected, lambda *command: start(*command).wait(), common)
        snapshots(program, readers, directory, endpoint)
    missing(skipped)


if __name__ == "__main__":
    main()

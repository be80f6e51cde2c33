"""`pagehaul.read`: what the manifests say, and nothing else."""

import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest
from conftest import export

import pagehaul

pa = pytest.importorskip("pyarrow")

# The same columns, with regions that are no plain names, look like other types, or are none.
REGIONS = ["ID", "NO", "01", "a b", "x/y", "é", "a%20b", "..", ""]


@pytest.fixture
def strange(monkeypatch):
    """The path of an endpoint whose simulator has those regions."""
    root = Path(__file__).parents[2]
    lines = (root / "config/endpoints/product-videos.toml").read_text(encoding="utf-8").splitlines(keepends=True)
    lines = [f"partitions = {json.dumps(REGIONS)}\n" if line.startswith("partitions = ") else line for line in lines]
    path = Path("endpoint.toml")
    path.write_text("".join(lines), encoding="utf-8")
    return path


def arrow_schema(*arguments):
    """The schema that `pagehaul schema --for arrow` prints."""
    program = [pagehaul.find_program(), "schema", "--for", "arrow", *arguments]
    text = subprocess.run(program, check=True, capture_output=True, text=True).stdout
    names: dict = {}
    exec(text[: text.index("partitioning =")], names)
    return names["schema"]


def columns_of(schema):
    return {field.name: field.type for field in schema}


def test_the_rows_are_those_of_the_summary_and_the_columns_those_of_the_schema():
    summary = export()
    table = pagehaul.read("videos").to_table()
    assert table.num_rows == summary.rows > 0
    assert len(set(table["region"].to_pylist())) == summary.regions
    assert columns_of(table.schema) == columns_of(arrow_schema())
    assert pagehaul.read(summary.out, require_complete=True).count_rows() == summary.rows


@pytest.mark.parametrize("in_files", [False, True])
def test_regions_are_text_decoded_or_null(strange, in_files):
    summary = export(endpoint=strange, partition_in_files=in_files)
    rows = pagehaul.read("videos").to_table(columns=["region", "product_id"])
    assert rows.num_rows == summary.rows
    found = {region: rows["region"].to_pylist().count(region) for region in set(rows["region"].to_pylist())}
    assert set(found) == {None, *REGIONS} - {""}
    for region, count in found.items():
        one = pagehaul.read("videos", regions=[region])
        assert one.count_rows() == count
        assert set(one.to_table()["region"].to_pylist()) == {region}
        assert len(list(one.get_fragments())) == sum(1 for _ in one.files) == 1
    assert pagehaul.read("videos", regions=["ID", None]).count_rows() == found["ID"] + found[None]
    assert pagehaul.read("videos", regions="a b").count_rows() == found["a b"]
    nothing = pagehaul.read("videos", regions=["nowhere"]).to_table()
    assert (nothing.num_rows, nothing.schema) == (0, pagehaul.read("videos").schema)


def test_a_filter_on_the_region_opens_only_its_files(strange):
    export(endpoint=strange)
    dataset = pagehaul.read("videos")
    import pyarrow.dataset as ds

    wanted = dataset.to_table(filter=ds.field("region") == "x/y")
    assert set(wanted["region"].to_pylist()) == {"x/y"}
    assert len(list(dataset.get_fragments(ds.field("region") == "x/y"))) == 1
    assert len(list(dataset.get_fragments(ds.field("region").is_null()))) == 1


def test_the_dataset_has_the_columns_that_are_named():
    export()
    for columns in (["video_id"], ["region"], ["total_views_cnt", "region", "video_id"]):
        table = pagehaul.read("videos", columns=columns).to_table()
        assert table.schema.names == columns
        assert table.num_rows == pagehaul.read("videos").count_rows()
    with pytest.raises(ValueError, match="no column views; the export has video_id"):
        pagehaul.read("videos", columns=["views"])
    with pytest.raises(TypeError):
        pagehaul.read("videos", columns="region")
    assert pagehaul.read("videos", regions=["ID"], columns=["video_id"]).to_table().schema.names == ["video_id"]


def test_an_export_with_fewer_columns_has_fewer():
    export(columns=["create_time"])
    assert columns_of(pagehaul.read("videos").schema) == columns_of(arrow_schema("--columns", "create_time"))


def test_files_that_no_manifest_names_are_not_read():
    summary = export()
    directory = next(Path("videos").glob("region=*"))
    file = next(directory.iterdir())
    shutil.copy(file, directory / "copy.parquet")
    (Path("videos") / "region=XX").mkdir()
    shutil.copy(file, Path("videos") / "region=XX" / file.name)
    Path("videos/_pagehaul/segments/000001.json.tmp").write_text("{", encoding="utf-8")
    assert pagehaul.read("videos").count_rows() == summary.rows


def test_an_export_without_rows_is_an_empty_dataset_with_its_columns():
    summary = export(simulate="products=5,max_videos=0", allow_empty=True)
    table = pagehaul.read("videos", require_complete=True).to_table()
    assert (table.num_rows, summary.rows) == (0, 0)
    assert columns_of(table.schema) == columns_of(arrow_schema())


def test_an_unfinished_export_is_read_as_far_as_it_is_published():
    with pytest.raises(pagehaul.LimitReached) as raised:
        export(max_credits=20)
    dataset = pagehaul.read("videos")
    assert dataset.count_rows() == raised.value.summary.rows > 0
    with pytest.raises(pagehaul.NotReadable, match="not complete"):
        pagehaul.read("videos", require_complete=True)


def test_where_there_is_nothing_to_read_the_error_says_what_there_is():
    with pytest.raises(pagehaul.NotReadable, match="there is no export at nowhere"):
        pagehaul.read("nowhere")
    export(out="daily", snapshot="a", keep=1)
    with pytest.raises(pagehaul.NotReadable, match="name one of them, daily/snapshot=LABEL"):
        pagehaul.read("daily")
    assert pagehaul.read("daily/snapshot=a").count_rows() > 0
    second = export(out="daily", snapshot="b", keep=1)
    assert pagehaul.read(second.out).count_rows() == second.rows
    with pytest.raises(pagehaul.NotReadable, match="were removed"):
        pagehaul.read("daily/snapshot=a")
    Path("begun/_pagehaul").mkdir(parents=True)
    with pytest.raises(pagehaul.NotReadable, match="nothing of begun is published"):
        pagehaul.read("begun")
    with pytest.raises(pagehaul.NotReadable, match="knows no such URL"):
        pagehaul.read("az://container/x")


@pytest.mark.parametrize("path", ["../x.parquet", "/etc/passwd", "region=ID/../../x.parquet", "x.parquet", "other=ID/x.parquet",
                                  "region=ID/x.csv", "region=ID/sub/x.parquet", "region=ID\\..\\x.parquet"])
def test_a_manifest_that_names_something_else_is_refused(path):
    export()
    name = Path("videos/_pagehaul/segments/000001.json")
    manifest = json.loads(name.read_text(encoding="utf-8"))
    manifest["files"][0]["path"] = path
    name.write_text(json.dumps(manifest), encoding="utf-8")
    with pytest.raises(pagehaul.NotReadable, match="not a file of an export"):
        pagehaul.read("videos")


def test_a_manifest_of_a_later_version_is_refused():
    export()
    name = Path("videos/_pagehaul/segments/000001.json")
    manifest = json.loads(name.read_text(encoding="utf-8"))
    name.write_text(json.dumps(manifest | {"format": 2}), encoding="utf-8")
    with pytest.raises(pagehaul.NotReadable, match="format 2"):
        pagehaul.read("videos")
    manifest["columns"].append(["new", "Decimal128(9, 2)"])
    name.write_text(json.dumps(manifest), encoding="utf-8")
    with pytest.raises(pagehaul.NotReadable, match="column new is Decimal128"):
        pagehaul.read("videos")


def first_manifest():
    return sorted(Path("videos/_pagehaul/segments").glob("*.json"))[0]


@pytest.mark.parametrize("damage", ["", "[]", "{}", '{"format": 1}', '{"format": 1, "columns": [1], "files": []}', "\\xff"])
def test_a_damaged_manifest_is_refused(damage):
    export()
    first_manifest().write_text(damage, encoding="utf-8")
    with pytest.raises(pagehaul.NotReadable, match="damaged"):
        pagehaul.read("videos")


def test_a_file_that_is_named_twice_counts_once_and_one_that_is_gone_is_named():
    summary = export()
    manifest = json.loads(first_manifest().read_text(encoding="utf-8"))
    manifest["files"].append(manifest["files"][0])
    first_manifest().write_text(json.dumps(manifest), encoding="utf-8")
    assert pagehaul.read("videos").count_rows() == summary.rows
    gone = manifest["files"][0]["path"]
    Path("videos", gone).unlink()
    with pytest.raises(pagehaul.NotReadable, match=gone):
        pagehaul.read("videos")


def test_no_column_is_not_a_choice():
    export()
    with pytest.raises(ValueError, match="columns names none"):
        pagehaul.read("videos", columns=[])


def test_without_pyarrow_the_error_says_what_to_install():
    code = "import sys; sys.modules['pyarrow'] = None; import pagehaul; pagehaul.read('x')"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert ended.returncode == 1
    assert "ImportError: pagehaul.read needs pyarrow: pip install 'pagehaul[arrow]'" in ended.stderr


@pytest.fixture
def bucket(monkeypatch):
    """An S3 bucket of moto's, where moto is: tests/stores.sh installs it."""
    moto = os.environ.get("MOTO", "")
    if not os.access(moto, os.X_OK):
        pytest.skip("moto is not here")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    command = [moto, "-H", "127.0.0.1", "-p", address.partition(":")[2]]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    for _ in range(300):
        try:
            urllib.request.urlopen(urllib.request.Request(f"http://{address}/lake", method="PUT"))
            break
        except OSError:
            time.sleep(0.1)
    for name, value in {"AWS_ACCESS_KEY_ID": "any", "AWS_SECRET_ACCESS_KEY": "any", "AWS_REGION": "us-east-1"}.items():
        monkeypatch.setenv(name, value)
    yield address
    server.terminate()
    server.wait()


def test_an_export_in_a_bucket_is_read_from_there(bucket):
    summary = export(out="s3://lake/videos", state_dir="state", endpoint_url=f"http://{bucket}")
    by_url = pagehaul.read(f"s3://lake/videos?endpoint_override={bucket}&scheme=http", require_complete=True)
    from pyarrow import fs

    filesystem = fs.S3FileSystem(endpoint_override=bucket, scheme="http", region="us-east-1")
    by_path = pagehaul.read("lake/videos", filesystem=filesystem, regions=["ID"])
    assert by_url.count_rows() == summary.rows
    assert 0 < by_path.count_rows() < summary.rows
    with pytest.raises(pagehaul.NotReadable, match="there is no export"):
        pagehaul.read("lake/other", filesystem=filesystem)

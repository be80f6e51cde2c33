"""Exports into object stores, with kills, cuts and a store that errs; each row must be there once, and nothing else.

Each store is started here, on loopback. The rows are read by DuckDB from the objects that the store's own client downloads, and
compared with those of the same export in a local directory.
"""

import argparse
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path

import boto3
import botocore.config
import duckdb
from azure.storage.blob import ContainerClient

from proxy import Proxy

KEY, SECRET = "CANARYKEY", "CANARYSECRET0123"
# Azurite's account and key, which its documentation gives.
ACCOUNT = "devstoreaccount1"
ACCOUNT_KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
BUCKET = "lake"
SMALL = "products=60,max_videos=60"


class S3:
    """A bucket of S3, as its own client sees it."""

    def __init__(self, address):
        self.address, self.out = address, f"s3://{BUCKET}"
        self.env = {"AWS_ACCESS_KEY_ID": KEY, "AWS_SECRET_ACCESS_KEY": SECRET, "AWS_REGION": "us-east-1"}
        config = botocore.config.Config(s3={"addressing_style": "path"}, retries={"max_attempts": 1})
        self.client = boto3.client("s3", endpoint_url=address, aws_access_key_id=KEY, aws_secret_access_key=SECRET,
                                   region_name="us-east-1", config=config)

    def create(self, name=BUCKET):
        self.client.create_bucket(Bucket=name)

    def names(self, prefix):
        pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix=prefix + "/")
        return sorted(found["Key"][len(prefix) + 1:] for page in pages for found in page.get("Contents", []))

    def read(self, prefix, name):
        return self.client.get_object(Bucket=BUCKET, Key=f"{prefix}/{name}")["Body"].read()

    def write(self, prefix, name, content):
        self.client.put_object(Bucket=BUCKET, Key=f"{prefix}/{name}", Body=content)

    def remove(self, prefix, name):
        self.client.delete_object(Bucket=BUCKET, Key=f"{prefix}/{name}")

    def in_parts(self, prefix):
        """Objects whose ETag says that they came in parts."""
        pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix=prefix + "/")
        return [found["Key"] for page in pages for found in page.get("Contents", []) if "-" in found["ETag"]]

    def uploads(self):
        try:
            return self.client.list_multipart_uploads(Bucket=BUCKET).get("Uploads", [])
        except botocore.exceptions.ClientError as error:
            assert error.response["Error"]["Code"] == "NotImplemented", error  # s3s-fs
            return []


class Azure:
    """A container of Azure."""

    def __init__(self, address):
        self.address, self.out = f"{address}/{ACCOUNT}", f"az://{BUCKET}"
        self.env = {"AZURE_STORAGE_ACCOUNT_NAME": ACCOUNT, "AZURE_STORAGE_ACCOUNT_KEY": ACCOUNT_KEY}
        self.client = ContainerClient(account_url=self.address, container_name=BUCKET, credential=ACCOUNT_KEY)

    def create(self):
        self.client.create_container()

    def names(self, prefix):
        return sorted(blob.name[len(prefix) + 1:] for blob in self.client.list_blobs(name_starts_with=prefix + "/"))

    def read(self, prefix, name):
        return self.client.download_blob(f"{prefix}/{name}").readall()

    def write(self, prefix, name, content):
        self.client.upload_blob(f"{prefix}/{name}", content, overwrite=True)

    def remove(self, prefix, name):
        self.client.delete_blob(f"{prefix}/{name}")

    def uploads(self):
        return []  # blocks that were never put together go by themselves after a week


def free_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def start(command, port, **options):
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **options)
    for _ in range(300):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return process
        time.sleep(0.1)
    sys.exit(f"{command[0]} does not listen")


class Pagehaul:
    def __init__(self, program, scratch):
        self.program, self.scratch = program, scratch

    def environment(self, env):
        clean = {name: value for name, value in os.environ.items()
                 if not name.startswith(("AWS_", "AZURE_", "GOOGLE_", "PAGEHAUL_"))}
        return {**clean, **env}

    def command(self, command, store, prefix, state, address=None, more=()):
        return [self.program, command, "--out", f"{store.out}/{prefix}", "--state-dir", str(state),
                "--endpoint-url", address or store.address, *more]

    def run(self, *arguments, env, code=0, **options):
        done = subprocess.run(arguments, env=self.environment(env), capture_output=True, text=True, timeout=300, **options)
        assert done.returncode == code, f"{arguments}: exit {done.returncode}, not {code}\n{done.stdout}\n{done.stderr}"
        assert SECRET not in done.stdout + done.stderr and ACCOUNT_KEY not in done.stdout + done.stderr, arguments
        return done

    def local(self, simulate):
        """The same export in a local directory: what the rows are."""
        out = self.scratch / f"local-{abs(hash(simulate))}"
        if not out.exists():
            self.run(self.program, "export", f"--simulate={simulate}", "--qps", "unlimited", "--out", str(out), env={})
        return out


def rows(files):
    """A view of all rows, without when they were fetched."""
    return f"(SELECT * EXCLUDE (_fetched_at) FROM read_parquet({files!r}, hive_partitioning = true, union_by_name = true))"


def check(pagehaul, store, prefix, state, simulate):
    """The bucket has the rows of a local export and nothing that no manifest names."""
    summary = json.loads(store.read(prefix, "_pagehaul/summary.json"))
    assert summary["status"] == "complete", summary
    names = store.names(prefix)
    manifests = [json.loads(store.read(prefix, name)) for name in names if name.startswith("_pagehaul/segments/")]
    listed = {file["path"] for manifest in manifests for file in manifest["files"]}
    own = {"_SUCCESS", *(f"_pagehaul/{name}" for name in ("export.json", "summary.json", "products.parquet", "report.html"))}
    own |= {name for name in names if name.startswith("_pagehaul/segments/")}
    assert set(names) == listed | own, f"orphans {set(names) - listed - own}, missing {listed - set(names)}"
    assert not store.uploads(), "uploads are left"
    copy = pagehaul.scratch / "copy"
    shutil.rmtree(copy, ignore_errors=True)
    for name in listed:
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        (copy / name).write_bytes(store.read(prefix, name))
    ours, theirs = rows(str(copy / "region=*/*.parquet")), rows(str(pagehaul.local(simulate) / "region=*/*.parquet"))
    count = duckdb.sql(f"SELECT count(*) FROM {ours}").fetchall()[0][0]
    assert count == summary["rows"]["published"], (count, summary["rows"])
    for left, right in ((ours, theirs), (theirs, ours)):
        others = duckdb.sql(f"SELECT count(*) FROM (FROM {left} EXCEPT ALL FROM {right})").fetchall()[0][0]
        assert others == 0, f"{others} rows differ"
    for more in ((), ("--read",)):
        pagehaul.run(*pagehaul.command("verify", store, prefix, state, more=more), env=store.env)
    kept = [path for path in Path(state).rglob("*") if path.is_file() and SECRET.encode() in path.read_bytes()]
    assert not kept, f"the secret is in {kept}"
    return summary


def export(pagehaul, store, prefix, state, simulate, address=None, more=()):
    return pagehaul.command("export", store, prefix, state, address,
                            [f"--simulate={simulate}", "--progress", "none", *(more or ["--qps", "unlimited"])])


def plain(pagehaul, name, store):
    """One export, again, its status, rebuilt, and read."""
    state, prefix = pagehaul.scratch / f"{name}-plain", "plain/videos"
    pagehaul.run(*export(pagehaul, store, prefix, state, SMALL), env=store.env)
    before = check(pagehaul, store, prefix, state, SMALL)
    again = pagehaul.run(*export(pagehaul, store, prefix, state, SMALL), env=store.env)
    assert json.loads(again.stdout)["run"]["requests"] == 0, again.stdout
    pagehaul.run(*pagehaul.command("status", store, prefix, state), env={})
    pagehaul.run(*pagehaul.command("replay", store, prefix, state, more=["--all"]), env=store.env)
    after = check(pagehaul, store, prefix, state, SMALL)
    assert before["rows"] == after["rows"] and before["credits"] == after["credits"], (before, after)
    print(f"{name}: {before['rows']['published']} rows in {before['files']} objects; again: no request; rebuilt: the same rows")


def changed(pagehaul, name, store):
    """What somebody did to the objects is found, and rebuilt from the journal."""
    state, prefix = pagehaul.scratch / f"{name}-plain", "plain/videos"

    def command(command, code, *more):
        return pagehaul.run(*pagehaul.command(command, store, prefix, state, more=more), env=store.env, code=code)

    victim = next(found for found in store.names(prefix) if found.startswith("region="))
    content = bytearray(store.read(prefix, victim))
    content[len(content) // 2] ^= 1
    store.write(prefix, victim, bytes(content))
    for more, says in (((), "has another ETag"), (("--read",), "has another content")):
        found = json.loads(command("verify", 9, *more).stdout)["found"]
        assert len(found) == 1 and victim in found[0] and says in found[0], found
    command("replay", 0)
    assert victim not in store.names(prefix), "it was rebuilt under another name"
    check(pagehaul, store, prefix, state, SMALL)
    victim = next(found for found in store.names(prefix) if found.startswith("region="))
    store.remove(prefix, victim)
    assert "is missing" in command("verify", 9).stdout
    again = pagehaul.run(*export(pagehaul, store, prefix, state, SMALL), env=store.env, code=9)
    assert "replay" in again.stderr and "_SUCCESS" not in store.names(prefix), again.stderr
    command("replay", 0)
    check(pagehaul, store, prefix, state, SMALL)
    print(f"{name}: a changed object and a removed one are found and rebuilt")


def claimed(pagehaul, name, store):
    """A state directory belongs to one output, and an output to the last run: copies and other prefixes are refused."""
    state, prefix = pagehaul.scratch / f"{name}-claimed", "claimed/videos"
    copy, flags = pagehaul.scratch / f"{name}-copy", ["--segment-size", "64KiB", "--qps", "unlimited"]
    first = export(pagehaul, store, prefix, state, SMALL, more=[*flags, "--max-credits", "80"])
    pagehaul.run(*first, env=store.env, code=6)
    before = store.names(prefix)
    elsewhere = export(pagehaul, store, "elsewhere", state, SMALL, more=flags)
    done = pagehaul.run(*elsewhere, env=store.env, code=9)
    assert "is that of the output" in done.stderr and not store.names("elsewhere"), done.stderr
    pagehaul.run(*pagehaul.command("status", store, "elsewhere", state), env={}, code=9)
    shutil.copytree(state, copy)
    rest = export(pagehaul, store, prefix, state, SMALL, more=flags)
    pagehaul.run(*rest, env=store.env)
    content = {found: store.read(prefix, found) for found in store.names(prefix)}
    late = export(pagehaul, store, prefix, copy, SMALL, more=flags)
    done = pagehaul.run(*late, env=store.env, code=9)
    assert "a copy of the state directory" in done.stderr or "older than the output" in done.stderr, done.stderr
    assert content == {found: store.read(prefix, found) for found in store.names(prefix)}, "a copy changed the output"
    check(pagehaul, store, prefix, state, SMALL)
    print(f"{name}: another output and a copied state are refused, nothing changed ({len(before)} objects before, {len(content)} after)")


def large(pagehaul, name, store):
    """Files so large that they go up in parts."""
    state, prefix, simulate = pagehaul.scratch / f"{name}-large", "large/videos", "products=5000,max_videos=400"
    pagehaul.run(*export(pagehaul, store, prefix, state, simulate), env=store.env)
    parts = store.in_parts(prefix)
    assert parts, "no file was large enough"
    summary = check(pagehaul, store, prefix, state, simulate)
    print(f"{name}: {summary['rows']['published']} rows, {len(parts)} objects in parts")


def killed(pagehaul, name, store, target, simulate, kills, seed):
    """The same behind a proxy that errs, killed and cut off at random moments, until it is complete."""
    dice = random.Random(seed)
    state, prefix, in_flight = pagehaul.scratch / f"{name}-killed", "killed/videos", 16
    # So slow that a run outlasts a few deaths.
    more = ["--segment-size", "256KiB", "--max-in-flight", str(in_flight), "--qps", "150"]
    deaths, ends, faults = 0, [], {}
    for life in range(10 * kills + 20):
        proxy = Proxy(target, (seed, life).__hash__(), 0.05 if life < 2 * kills else 0)
        address = store.address.replace(store.address.split("/")[2], proxy.url.split("/")[2])
        command = export(pagehaul, store, prefix, state, simulate, address, more)
        process = subprocess.Popen(command, env=pagehaul.environment(store.env), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        code = None
        if deaths < kills:
            try:
                code = process.wait(dice.uniform(0.05, 2.0))
            except subprocess.TimeoutExpired:
                if dice.random() < 0.3:
                    proxy.cut = True
                    time.sleep(0.5)
                process.send_signal(signal.SIGKILL)
                process.wait()
                deaths += 1
        else:
            code = process.wait(300)
        for fault, times in proxy.done.items():
            faults[fault] = faults.get(fault, 0) + times
        proxy.server.shutdown()
        proxy.server.server_close()
        ends.append(code)
        if code == 0 and deaths >= kills or code == 0 and life > 2 * kills:
            break
        if code == 0:
            deaths = kills  # it was faster than the kills
        assert code in (None, 0, 5), f"exit {code}"
    summary = check(pagehaul, store, prefix, state, simulate)
    credits = summary["credits"]
    local = json.loads((pagehaul.local(simulate) / "_pagehaul/summary.json").read_text())["credits"]["billed"]
    assert credits["in_doubt"] <= len(ends) * in_flight, credits
    # Evidence of where lists end is sampled anew by each run.
    most = local + 3 * len(ends) + len(ends) * in_flight
    assert credits["billed"] <= most, f"{credits} where {most} are allowed"
    print(f"{name}: {ends.count(None)} kills and {ends.count(5)} failed runs of {len(ends)}, faults {faults}; "
          f"{summary['rows']['published']} rows once, {credits['billed']} credits billed ({local} without kills), "
          f"{credits['in_doubt']} in doubt; 0 orphans, 0 uploads left")


def refused(pagehaul, store):
    """What cannot work ends at once, with its exit code, and costs nothing."""
    state = pagehaul.scratch / "refused"
    nowhere = f"http://127.0.0.1:{free_port()}"
    wrong = {**store.env, "AWS_SECRET_ACCESS_KEY": "wrong"}
    # Without credentials the client asks this address in place of the cloud's.
    none = {"AWS_REGION": "us-east-1", "AWS_METADATA_ENDPOINT": nowhere}
    cases = [
        ("no credentials", export(pagehaul, store, "x", state / "1", SMALL), none, 7),
        ("no such store", export(pagehaul, store, "x", state / "2", SMALL, nowhere), store.env, 5),
        ("another export's prefix", export(pagehaul, store, "plain/videos", state / "3", SMALL), store.env, 9),
        ("an unknown option", export(pagehaul, store, "x", state / "4", SMALL, more=["--store-option", "aws_regin=x"]), store.env, 2),
        ("plain http elsewhere", export(pagehaul, store, "x", state / "5", SMALL, "http://store.invalid"), store.env, 2),
    ]
    for about, command, env, code in cases:
        begun = time.monotonic()
        done = pagehaul.run(*command, env=env, code=code)
        seconds = time.monotonic() - begun
        lines = done.stderr.strip().splitlines()
        assert seconds < 30 and any(line.startswith("error: ") for line in lines), (about, seconds, done.stderr)
        print(f"  {about}: exit {code} in {seconds:.1f} s: {[line for line in lines if line.startswith('error')][0][:150]}")
    if wrong_is_refused(store):
        done = pagehaul.run(*export(pagehaul, store, "x", state / "6", SMALL), env=wrong, code=7)
        print(f"  wrong credentials: exit 7: {done.stderr.splitlines()[0][:150]}")
    other = pagehaul.command("export", store, "x", state / "7", more=[f"--simulate={SMALL}", "--progress", "none"])
    other = [argument.replace(f"//{BUCKET}/", "//no-such-bucket/") for argument in other]
    done = pagehaul.run(*other, env=store.env, code=2)
    print(f"  no such bucket: exit 2: {done.stderr.splitlines()[0][:150]}")


def wrong_is_refused(store):
    other = boto3.client("s3", endpoint_url=store.address, aws_access_key_id=KEY, aws_secret_access_key="wrong", region_name="us-east-1")
    try:
        other.list_objects_v2(Bucket=BUCKET)
        return False
    except other.exceptions.ClientError:
        return True


def main():
    arguments = argparse.ArgumentParser()
    for name in ("--pagehaul", "--moto", "--azurite", "--s3s-fs"):
        arguments.add_argument(name)
    arguments.add_argument("--kills", type=int, default=10)
    arguments.add_argument("--products", default="products=400,max_videos=80")
    options = arguments.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        pagehaul = Pagehaul(shutil.which(options.pagehaul) or options.pagehaul, Path(scratch))
        servers = []
        try:
            port = free_port()
            servers.append(start([options.moto, "-H", "127.0.0.1", "-p", str(port)], port))
            moto = S3(f"http://127.0.0.1:{port}")
            moto.create()
            plain(pagehaul, "moto", moto)
            changed(pagehaul, "moto", moto)
            claimed(pagehaul, "moto", moto)
            large(pagehaul, "moto", moto)
            refused(pagehaul, moto)
            killed(pagehaul, "moto", moto, ("127.0.0.1", port), options.products, options.kills, 1)
            if Path(options.azurite).exists():
                port = free_port()
                command = [options.azurite, "--inMemoryPersistence", "--silent", "--skipApiVersionCheck", "--blobHost", "127.0.0.1", "--blobPort", str(port)]
                servers.append(start(command, port))
                azurite = Azure(f"http://127.0.0.1:{port}")
                azurite.create()
                plain(pagehaul, "azurite", azurite)
                changed(pagehaul, "azurite", azurite)
                claimed(pagehaul, "azurite", azurite)
                killed(pagehaul, "azurite", azurite, ("127.0.0.1", port), SMALL, max(options.kills // 3, 1), 2)
            if Path(options.s3s_fs).exists():
                port, root = free_port(), Path(scratch) / "s3s"
                (root / BUCKET).mkdir(parents=True)
                command = [options.s3s_fs, "--host", "127.0.0.1", "--port", str(port), "--access-key", KEY, "--secret-key", SECRET, str(root)]
                servers.append(start(command, port))
                s3s_fs = S3(f"http://127.0.0.1:{port}")
                plain(pagehaul, "s3s-fs", s3s_fs)
                refused(pagehaul, s3s_fs)
        finally:
            for server in servers:
                server.terminate()


main()

"""The script that pagehaul is compared with: what one writes in an afternoon with aiohttp, orjson and pyarrow.

Many products at once, one page after the other in each, a limit of requests a second, retries with backoff, Parquet by
region written as the rows come, typed as pagehaul types them. It is not resumable, journals nothing and forgets what it paid
for when it dies: that is the difference that is not measured here.
"""
import argparse, asyncio, json, os, random, time

import aiohttp, orjson
import pyarrow as pa, pyarrow.compute as pc, pyarrow.parquet as pq

PATH = "/v1/tiktok/product/videos/analytics"
TEXT = ["video_id", "product_id", "user_id", "video_desc", "hash_tag", "ratio", "reflow_cover", "play_addr"]
TEXT_NUMBERS = ["create_time", "height", "width", "data_size"]  # numbers that the API sends as text
NUMBERS = ["duration", "total_views_cnt", "total_digg_cnt", "total_comments_cnt", "total_favorites_cnt",
           "total_shares_cnt", "total_video_sale_cnt"]
RECEIVED = pa.schema([(name, pa.string()) for name in TEXT + TEXT_NUMBERS] + [(name, pa.int64()) for name in NUMBERS]
                     + [("total_video_sale_gmv_amt", pa.float64())])
BATCH = 5_000  # rows of a region that are written at once


class Limit:
    """So many requests a second, evenly; 0 is none."""

    def __init__(self, qps):
        self.gap, self.next = (1 / qps if qps else 0), 0

    async def ready(self):
        if self.gap:
            self.next = max(self.next + self.gap, time.monotonic())
            await asyncio.sleep(self.next - time.monotonic())


class Regions:
    """A Parquet file a region, fed in batches."""

    def __init__(self, out):
        self.out, self.rows, self.writers, self.count = out, {}, {}, 0

    def add(self, rows):
        for row in rows:
            self.rows.setdefault(row.get("region") or "__HIVE_DEFAULT_PARTITION__", []).append(row)
        self.count += len(rows)
        for region in [region for region, rows in self.rows.items() if len(rows) >= BATCH]:
            self.write(region)

    def write(self, region):
        table = pa.Table.from_pylist(self.rows.pop(region), schema=RECEIVED)
        for name in TEXT_NUMBERS:
            column = pc.cast(table[name], pa.int64())
            if name == "create_time":
                column = pc.cast(pc.cast(column, pa.timestamp("s", "UTC")), pa.timestamp("us", "UTC"))
            table = table.set_column(table.schema.get_field_index(name), name, column)
        if region not in self.writers:
            directory = f"{self.out}/region={region}"
            os.makedirs(directory, exist_ok=True)
            self.writers[region] = pq.ParquetWriter(f"{directory}/part-0.parquet", table.schema, compression="zstd")
        self.writers[region].write_table(table)

    def close(self):
        for region in list(self.rows):
            self.write(region)
        for writer in self.writers.values():
            writer.close()


async def page(session, limit, product, number):
    query = {"product_id": product, "page_num": str(number), "page_size": "10"}
    for attempt in range(8):
        await limit.ready()
        try:
            async with session.get(PATH, params=query) as answer:
                if answer.status == 200:
                    body = orjson.loads(await answer.read())
                    if body["code"] == 0:
                        return body["data"]
                elif answer.status not in (429, 500, 502, 503, 504):
                    answer.raise_for_status()
                wait = float(answer.headers.get("Retry-After", 0))
        except (aiohttp.ClientConnectionError, asyncio.TimeoutError):
            wait = 0
        await asyncio.sleep(max(wait, random.uniform(0.5, 1) * min(60, 0.5 * 2**attempt)))
    raise RuntimeError(f"product {product}, page {number}: given up")


async def walk(session, limit, products, regions, last):
    for product in products:
        for number in range(1, last + 1):
            rows = await page(session, limit, product, number)
            regions.add(rows)
            if len(rows) < 10:
                break


async def main(options):
    products = iter(line.strip() for line in open(options.products) if line.strip())
    regions, limit = Regions(options.out), Limit(options.qps)
    headers = {"Authorization": f"Bearer {os.environ['KEYAPI_TOKEN']}"}
    connector = aiohttp.TCPConnector(limit=options.in_flight)
    timeout = aiohttp.ClientTimeout(total=30)
    begun = time.monotonic()
    async with aiohttp.ClientSession(options.base_url, headers=headers, connector=connector, timeout=timeout) as session:
        walkers = (walk(session, limit, products, regions, options.max_pages) for _ in range(options.in_flight))
        await asyncio.gather(*walkers)
    regions.close()
    print(json.dumps({"rows": regions.count, "regions": len(regions.writers), "seconds": time.monotonic() - begun}))


parser = argparse.ArgumentParser()
for flag, kind, value in [("products", str, None), ("base-url", str, None), ("out", str, "videos"), ("qps", float, 0),
                          ("in-flight", int, 64), ("max-pages", int, 100_000)]:
    parser.add_argument(f"--{flag}", type=kind, default=value)
asyncio.run(main(parser.parse_args()))

"""`pagehaul.export`, with the program and with a fake of it."""

import asyncio
import json
import logging
import pickle
import sys
import threading
from datetime import timedelta
from pathlib import Path

import pytest
from conftest import COUNTS, SUMMARY, export

import pagehaul


def test_a_complete_export_returns_its_summary_and_a_second_call_pays_nothing():
    first = export()
    assert (first.status, first.exit_code, first.is_complete, first.cause) == ("complete", 0, True, None)
    assert first.products == first.products_complete == 20
    assert first.requests == first.credits > 0
    assert first.rows == sum(1 for _ in range(first.raw["rows"]["published"]))
    assert first.raw == json.loads(Path("videos/_pagehaul/summary.json").read_text(encoding="utf-8"))
    second = export()
    assert (second.requests, second.rows, second.complete_since) == (0, first.rows, first.complete_since)


@pytest.mark.parametrize("ids", [["1729", "1730"], (1729, 1730), iter([1729, "1730"]), {"1729": 0, "1730": 0}])
def test_ids_are_texts_or_whole_numbers_from_whatever_gives_them(ids):
    assert export(products=ids).products == 2


def test_a_path_names_a_list_and_a_column_of_it():
    Path("list.csv").write_text("name,id\nx,1729\n", encoding="utf-8")
    assert export(products=Path("list.csv"), product_column="id").products == 1


def test_a_number_that_has_lost_digits_is_no_id_and_nothing_is_started():
    for bad in (1.7295e18, None, True, b"1729"):
        with pytest.raises(TypeError, match="a text or a whole number"):
            export(products=[1, bad])
    for products in (b"12", bytearray(b"12"), memoryview(b"12")):
        with pytest.raises(TypeError, match="not bytes"):
            export(products=products)
    with pytest.raises(TypeError, match="a setting is a text"):
        export(columns=b"region")
    with pytest.raises(TypeError, match="product_column"):
        export(products=["1"], product_column="id")
    assert not Path("videos").exists()


def test_an_error_while_the_ids_are_made_starts_nothing():
    def ids():
        yield "1729"
        raise ConnectionError("the database is gone")

    with pytest.raises(ConnectionError, match="is gone"):
        export(products=ids())
    assert not Path("videos").exists()


@pytest.mark.parametrize("bad", ["17\n29", "17\r29", "#17", '"17', "17,29", "17;29", "'17", "../17", "1\x1a7", "1\0007", "é" * 300])
def test_an_id_with_other_characters_stays_one_id_and_is_refused(bad):
    with pytest.raises(pagehaul.UsageError):
        export(products=["1729", bad])
    assert not Path("videos/_SUCCESS").exists()


def test_an_id_that_is_no_unicode_is_refused():
    with pytest.raises(ValueError, match="surrogates"):
        export(products=["\ud800"])


def test_a_long_list_is_whole_before_the_program_starts(fake):
    told = fake(printed=SUMMARY)
    pagehaul.export(products=(str(number) for number in range(200_000)), out="x")
    assert told.started["list"].splitlines() == ["id", *(f'"{number}"' for number in range(200_000))]
    path = next(word for word in told.started["argv"] if word.startswith("--products="))
    assert not Path(path.partition("=")[2]).exists()


def test_settings_become_flags_and_false_a_variable(fake):
    told = fake(printed=SUMMARY)
    pagehaul.export(
        products="list.txt", out=Path("a b"), qps=10, sort="create_time:asc", retry_failed=True, repair=False, columns=["a", "b"],
        max_outage=timedelta(minutes=5), snapshot=None, store_option={"aws_region": "eu-west-1", "b": "c"}, since_check=0.5,
        drop_columns="--evil",
    )
    flags = set(told.started["argv"][2:])
    assert told.started["argv"][1] == "export"
    assert flags == {
        "--products=list.txt", "--out=a b", "--qps=10", "--sort=create_time:asc", "--retry-failed", "--columns=a,b",
        "--max-outage=300000ms", "--store-option=aws_region=eu-west-1,b=c", "--since-check=0.5", "--drop-columns=--evil",
        "--log-format=json", "--progress=plain",
    }
    assert told.started["environment"]["PAGEHAUL_REPAIR"] == "false"


def test_a_switch_that_a_file_sets_is_turned_off_by_false():
    Path("c.toml").write_text("allow_empty = true\n", encoding="utf-8")
    empty = {"simulate": "products=60,max_videos=0", "config": "c.toml", "end": "short-page"}
    assert export(out="first", **empty).rows == 0
    with pytest.raises(pagehaul.ContractError):
        export(out="second", allow_empty=False, **empty)


def test_unknown_settings_are_the_program_s_error_with_its_suggestion():
    with pytest.raises(pagehaul.UsageError, match="--qps'"):
        export(qpss=10)
    with pytest.raises(pagehaul.UsageError, match="PAGEHAUL_RETRY_FAILED"):
        export(retry_faild=False)
    with pytest.raises(pagehaul.UsageError, match="qps"):
        export(qps="many")
    with pytest.raises(pagehaul.UsageError, match="no summary"):
        export(help=True)
    for own in ("log_format", "progress"):
        with pytest.raises(TypeError, match=own):
            export(**{own: "text"})


def test_the_key_is_in_the_child_s_environment_and_nowhere_else(fake, monkeypatch, caplog):
    caplog.set_level(logging.DEBUG)
    told = fake(exit=7, printed={"status": "account", "exit_code": 7, "cause": "401", "next": "look"})
    with pytest.raises(pagehaul.AccountError) as raised:
        pagehaul.export(products="x", out="y", token="sk_live_canary")
    started = told.started
    assert started["environment"]["KEYAPI_TOKEN"] == "sk_live_canary"
    assert "canary" not in repr(started["argv"]) + repr(raised.value) + str(raised.value) + caplog.text
    monkeypatch.setenv("KEYAPI_TOKEN", "sk_live_inherited")
    with pytest.raises(pagehaul.AccountError):
        pagehaul.export(products="x", out="y")
    assert told.started["environment"]["KEYAPI_TOKEN"] == "sk_live_inherited"


CODES = {
    1: pagehaul.InternalError, 2: pagehaul.UsageError, 3: pagehaul.PartialError, 4: pagehaul.BusyError,
    5: pagehaul.TemporaryFailure, 6: pagehaul.LimitReached, 7: pagehaul.AccountError, 8: pagehaul.StorageError,
    9: pagehaul.IntegrityError, 10: pagehaul.ContractError, 130: pagehaul.Interrupted, 143: pagehaul.Interrupted,
    77: pagehaul.PagehaulError,
}


@pytest.mark.parametrize("code", CODES)
def test_each_exit_code_has_its_error_with_cause_next_step_and_summary(fake, code):
    fake(exit=code, printed=SUMMARY | {"exit_code": code, "cause": "why", "next": "what to do"})
    with pytest.raises(pagehaul.PagehaulError) as raised:
        pagehaul.export(out="x")
    error = raised.value
    assert type(error) is CODES[code]
    assert (error.exit_code, error.cause, error.next_step, str(error)) == (code, "why", "what to do", "why; next: what to do")
    assert error.summary.rows == 38
    copy = pickle.loads(pickle.dumps(error))
    assert (type(copy), copy.args, str(copy)) == (type(error), error.args, str(error))


def test_the_error_says_what_the_last_error_line_said_if_there_is_no_result(fake):
    fake(exit=1, lines=[{"level": "ERROR", "message": "bug: it broke"}])
    with pytest.raises(pagehaul.InternalError, match="^bug: it broke$") as raised:
        pagehaul.export(out="x")
    assert raised.value.summary is None
    fake(killed=True)
    with pytest.raises(pagehaul.InternalError, match="signal 9 ended the program"):
        pagehaul.export(out="x")
    fake(exit=5, printed=["no", "object"])
    with pytest.raises(pagehaul.TemporaryFailure, match="exit code 5"):
        pagehaul.export(out="x")


def test_a_partial_export_has_its_summary():
    with pytest.raises(pagehaul.LimitReached) as raised:
        export(max_credits=8)
    assert raised.value.summary.credits == 8
    assert not raised.value.summary.is_complete
    assert export(max_credits=2000).is_complete


def test_an_export_that_somebody_works_on_is_busy():
    slow = {"simulate": "products=20,qps=5", "out": "videos"}
    stop, started, ended = threading.Event(), threading.Event(), []

    def work():
        try:
            pagehaul.export(on_progress=lambda _: started.set(), heartbeat="100ms", stop=stop, **slow)
        except pagehaul.Interrupted as interrupted:
            ended.append(interrupted)

    thread = threading.Thread(target=work)
    thread.start()
    assert started.wait(20)
    try:
        with pytest.raises(pagehaul.BusyError) as raised:
            pagehaul.export(**slow)
    finally:
        stop.set()
        thread.join(20)
    assert raised.value.summary is None
    assert ended[0].exit_code == 130
    assert ended[0].summary.credits > 0


def test_a_run_that_is_stopped_before_it_begins_is_interrupted():
    stop = threading.Event()
    stop.set()
    with pytest.raises(pagehaul.Interrupted) as raised:
        export(simulate="products=20,qps=5", stop=stop)
    assert raised.value.exit_code == 130


def test_fields_that_this_package_does_not_know_are_kept(fake):
    fake(printed=SUMMARY)
    summary = pagehaul.export(out="x")
    assert summary.raw["later"] == {"unknown": 1}
    assert pickle.loads(pickle.dumps(summary)) == summary
    assert "later" not in repr(summary)


def test_full_pipes_stop_nothing(fake, caplog):
    caplog.set_level(logging.INFO)
    fake(noise=5_000, printed=SUMMARY)
    assert pagehaul.export(out="x").rows == 38
    assert len(caplog.records) == 5_000


def test_log_lines_go_to_the_logger_at_their_level_and_those_of_others_as_warnings(fake, caplog):
    caplog.set_level(logging.DEBUG)
    levels = ["TRACE", "DEBUG", "INFO", "WARN"]
    told = fake(printed=SUMMARY, raw="no json %s\x1b[31m", lines=[{"level": level, "message": f"a %s {level}"} for level in levels])
    pagehaul.export(out="x")
    assert [(record.levelno, record.getMessage()) for record in caplog.records] == [
        (10, "a %s TRACE"), (10, "a %s DEBUG"), (20, "a %s INFO"), (30, "a %s WARN"), (30, "no json %s\x1b[31m"),
    ]
    assert told.started["environment"]["RUST_LOG"] == "debug"
    caplog.set_level(logging.WARNING, logger="pagehaul")
    pagehaul.export(out="x")
    assert told.started["environment"]["RUST_LOG"] == "info"


def test_progress_has_the_counters_of_a_run():
    seen = []
    summary = export(simulate="products=12,qps=60", on_progress=seen.append, heartbeat="100ms")
    assert len(seen) > 3
    last = seen[-1]
    assert (last.products, last.products_failed, last.throttled) == (12, 0, 0)
    assert 0 < last.products_done <= 12
    assert 0 < last.pages <= summary.credits
    assert 0 < last.rows <= summary.rows
    assert 0 < last.credits <= summary.credits
    assert 0 < last.seconds < 60
    assert 0 < last.requests_per_second < 200
    assert [one.pages for one in seen] == sorted(one.pages for one in seen)
    assert f"{last.pages} pages" in last.message.replace(",", "")


def test_the_heartbeat_is_a_second_unless_it_is_given(fake):
    told = fake(printed=SUMMARY, lines=[{"level": "INFO", "message": "1/2", **COUNTS}])
    seen = []
    pagehaul.export(out="x", on_progress=seen.append)
    assert "--heartbeat=1s" in told.started["argv"]
    pagehaul.export(out="x", on_progress=seen.append, heartbeat=None)
    assert "--heartbeat=1s" in told.started["argv"]
    assert (seen[0].rows, seen[0].eta_seconds, seen[0].message) == (30, None, "1/2")
    pagehaul.export(out="x", on_progress=seen.append, heartbeat="1m")
    assert "--heartbeat=1m" in told.started["argv"]


def test_an_exception_of_the_callback_stops_the_run_cleanly_once_and_is_raised(fake):
    told = fake(waits=True, counts=COUNTS)

    def fail(_):
        raise LookupError("mine")

    with pytest.raises(LookupError, match="mine"):
        pagehaul.export(out="x", on_progress=fail)
    assert told.signals == ["SIGTERM"]
    assert told.is_gone()


def test_a_run_that_a_callback_stopped_is_resumed_and_pays_nothing_twice():
    calls = []

    def fail(progress):
        calls.append(progress)
        raise LookupError

    slow = {"simulate": "products=12,qps=60", "out": "videos"}
    with pytest.raises(LookupError):
        pagehaul.export(on_progress=fail, heartbeat="200ms", **slow)
    assert len(calls) == 1
    paid = json.loads(Path("videos/_pagehaul/summary.json").read_text(encoding="utf-8"))["credits"]
    assert paid["billed"] > 0
    assert paid["in_doubt"] == 0
    whole = pagehaul.export(**slow)
    assert whole.requests == whole.credits - paid["billed"]


def test_a_logger_that_fails_stops_the_run_and_nothing_hangs(fake):
    told = fake(waits=True, lines=[{"level": "INFO", "message": "x"}])

    class Broken(logging.Handler):
        def emit(self, _):
            raise OSError("no space for logs")

    logger, handler = logging.getLogger("pagehaul"), Broken()
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        with pytest.raises(OSError, match="no space for logs"):
            pagehaul.export(out="x")
    finally:
        logger.removeHandler(handler)
        logger.setLevel(logging.NOTSET)
    assert told.signals == ["SIGTERM"]
    assert told.is_gone()


def test_threads_export_side_by_side():
    results = {}

    def work(number):
        results[number] = export(out=f"videos-{number}", products=[1729 + number])

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sorted(results) == [0, 1, 2, 3]
    assert all(summary.products == 1 for summary in results.values())


def test_a_task_of_asyncio_stops_its_export_when_it_is_cancelled(fake):
    told = fake(waits=True)

    async def work(stop):
        try:
            await asyncio.to_thread(pagehaul.export, out="x", stop=stop)
        except asyncio.CancelledError:
            stop.set()
            raise

    async def main():
        task = asyncio.create_task(work(threading.Event()))
        while not (told.directory / "started.json").exists():
            await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())  # waits for the thread
    assert told.signals == ["SIGINT"]
    assert told.is_gone()


def test_the_program_s_standard_input_is_the_caller_s_only_if_a_setting_reads_it(fake):
    told = fake(printed=SUMMARY, reads=True)
    pagehaul.export(out="x", products="list.txt")
    assert told.started["stdin"] == ""
    assert sys.stdin is not None

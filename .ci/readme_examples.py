"""Runs the reading examples of the README: every fenced block marked `python` or `sql`, in the order of the text.

    readme_examples.py README      in a folder that holds an export under the name that the examples use

Each block runs by itself, as a reader would paste it: SQL in DuckDB. Ends with the code of the first that fails.
"""

import os
import re
import subprocess
import sys
import textwrap
from pathlib import Path

SQL = "import duckdb, sys; print(duckdb.sql(sys.argv[1]))"
# Spark's shell brings `spark` along; nothing else is added to a block. One core and no web server are enough here.
SPARK = """
from pyspark.sql import SparkSession
spark = SparkSession.builder.master("local[1]").config("spark.ui.enabled", False).getOrCreate()
spark.sparkContext.setLogLevel("ERROR")
"""


def blocks(text):
    """Line, language and content of each fenced block that is an example."""
    for found in re.finditer(r"^( *)```(python|sql)\n(.*?)^\1```", text, re.MULTILINE | re.DOTALL):
        yield text.count("\n", 0, found.start()) + 1, found[2], textwrap.dedent(found[3])


def main():
    readme = Path(sys.argv[1])
    examples = list(blocks(readme.read_text(encoding="utf-8")))
    if not examples:
        sys.exit(f"{readme.name} has no reading example")
    for line, language, content in examples:
        print(f"{readme.name}:{line} ({language})", flush=True)
        if language == "sql":
            command = [sys.executable, "-c", SQL, content]
        else:
            is_for_shell = "spark." in content and "SparkSession" not in content
            command = [sys.executable, "-c", (SPARK if is_for_shell else "") + content]
        # Spark looks its own host's name up otherwise, which not every machine knows.
        environment = os.environ | {"SPARK_LOCAL_IP": "127.0.0.1"}
        ended = subprocess.run(command, stdin=subprocess.DEVNULL, env=environment, timeout=240)
        if ended.returncode != 0:
            sys.exit(f"{readme.name}:{line}: the example ended with exit code {ended.returncode}")


main()

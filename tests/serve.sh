#!/usr/bin/env bash
# The metrics of a running export, read by others: promtool and a real Prometheus (Debian's package `prometheus`), and prometheus_client's
# parsers (PyPI). The example alert rules, by promtool. What cannot be had is skipped with a line; with CI=true that is a failure.
#
#   tests/serve.sh [PAGEHAUL]      the program, default pagehaul
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
cache=${XDG_CACHE_HOME:-$HOME/.cache}/pagehaul-ci/serve
client=prometheus_client==0.26.0
mkdir -p "$cache"

missing() {
    printf '!! NOT RUN: %s\n' "$1" >&2
    [[ ${CI:-} != true ]] || exit 1
}

# Debian's package without its service: downloaded and unpacked, not installed.
find_tool() {
    local installed
    if installed=$(command -v "$1"); then echo "$installed"; return; fi
    if [[ ! -x $cache/debian/usr/bin/$1 ]] && command -v apt-get dpkg-deb >/dev/null; then
        (cd "$cache" && apt-get download --quiet --quiet prometheus && dpkg-deb --extract prometheus_*.deb debian) >&2 || true
    fi
    [[ ! -x $cache/debian/usr/bin/$1 ]] || echo "$cache/debian/usr/bin/$1"
}
promtool=$(find_tool promtool) prometheus=$(find_tool prometheus)

python=$cache/python/bin/python wanted="$client, $(python3 --version)"
if [[ $(cat "$cache/made-of" 2>/dev/null) != "$wanted" ]]; then
    rm -rf "$cache/python"
    python3 -m venv "$cache/python" # Debian: the package python3-venv
    if "$python" -m pip install --quiet --no-cache-dir --disable-pip-version-check "$client" >&2; then
        echo "$wanted" >"$cache/made-of"
    else
        missing "$client cannot be installed"
        exit 0
    fi
fi
if [[ $promtool ]]; then
    (cd examples/prometheus && "$promtool" check config prometheus.yml && "$promtool" test rules rules_test.yml)
else
    missing "promtool: the package prometheus cannot be downloaded"
fi
[[ $prometheus ]] || missing "a scrape by Prometheus: the package prometheus cannot be downloaded"
exec "$python" tests/serve/scrape.py "$(command -v "${1:-pagehaul}")" "$promtool" "$prometheus"

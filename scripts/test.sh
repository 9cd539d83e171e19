#!/usr/bin/env bash
# Runs every test of all modules of ours as one run with one summary,
# which is the last thing printed. A skipped test fails the run: what is not
# checked here is checked nowhere.
#
# It expects what `make test` prepares: bin/hf-cache-sync and a filled .cache.
# The tests in test/ find these through HFCS_BIN and HFCS_CACHE.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# gotestsum calls this script back for the events of all modules.
if [[ ${1-} == events ]]; then
	packages=$(go -C test list ./... | grep -v "${HFCS_LEAVE_OUT:-^$}")
	rc=0
	go test -json -race ./... || rc=$?
	# shellcheck disable=SC2086 # A list of words.
	go -C test test -json -count=1 -timeout 30m $packages || rc=$?
	go -C bench test -json ./... || rc=$?
	go -C test/chart test -json -count=1 -timeout 10m ./... || rc=$?
	exit "$rc"
fi

# Wine takes Debian's packages and root, which a developer may not have; CI has.
if ! scripts/wine.sh; then
	[[ -z ${CI-} ]] || exit 1
	echo "test: test/wine is left out" >&2
	export HFCS_LEAVE_OUT='/test/wine$'
fi

export HFCS_BIN=$PWD/bin/hf-cache-sync HFCS_CACHE=$PWD/.cache

events=.cache/test-events.json
rm -f "$events"
.cache/bin/gotestsum --format pkgname --jsonfile "$events" --raw-command -- "$PWD/scripts/test.sh" events

if skipped=$(grep '"Action":"skip".*"Test":"' "$events"); then
	{
		echo "these tests were skipped:"
		sed -E 's/.*"Package":"([^"]*)".*"Test":"([^"]*)".*/  \1 \2/' <<<"$skipped"
	} >&2
	exit 1
fi

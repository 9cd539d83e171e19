#!/usr/bin/env bash
# Runs each fuzz target of the root module for FUZZTIME (30s), FUZZ_JOBS (2) of
# them at once with one worker each, and says at the end which have failed. Go
# keeps the failing input under testdata/fuzz: commit it. What it finds on the way
# stays in Go's cache, so that the next run begins where this one ended.
#
# FUZZ_EVENTS, if it is set, is a file to write the events of `go test -json` to.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# This script calls itself back for one target: package, its folder, the compiled
# tests, name, and a file for the events.
if [[ ${1-} == target ]]; then
	pkg=$2 dir=$3 binary=$4 name=$5 events=$6
	cd "$dir"
	fuzz() {
		# Minimizing what is merely new would take a minute each time.
		go tool test2json -t -p "$pkg" "$binary" -test.v=test2json -test.paniconexit0 -test.parallel 1 -test.run '^$' \
			-test.fuzz "^$name\$" -test.fuzztime "${FUZZTIME:-30s}" -test.fuzzminimizetime 100x \
			-test.fuzzcachedir "$(go env GOCACHE)/fuzz/$pkg" >"$events"
	}
	rc=0
	fuzz || rc=$?
	# On a busy machine the end of the time can meet a worker at work, which Go then
	# takes for a failure, without an input: that says nothing, so it is asked again.
	if ((rc != 0)) && grep -q 'context deadline exceeded' "$events" && ! grep -q 'Failing input' "$events"; then
		rc=0
		fuzz || rc=$?
	fi
	execs=$(grep -o 'execs: [0-9]*' "$events" | tail -n 1 || true)
	echo "fuzz: ${pkg##*/hf-cache-sync/} $name: ${execs:-nothing was run}"
	# A target that runs nothing proves nothing.
	if ((rc != 0)) || [[ -z $execs ]]; then
		sed -nE 's/.*"Output":"(.*)"\}$/\1/p' "$events" | grep -v 'fuzz: elapsed' | sed 's/\\n$//; s/\\"/"/g; s/\\t/\t/g; s/\\u003c/</g; s/\\u003e/>/g; s/\\u0026/\&/g; s/\\\\/\\/g' >&2
		exit 1
	fi
	exit 0
fi

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
# Some targets write files; what a killed worker leaves goes with the rest.
mkdir "$work/tmp"
if [[ -w /dev/shm ]]; then
	TMPDIR=$(mktemp -d -p /dev/shm)
	trap 'rm -rf "$work" "$TMPDIR"' EXIT
else
	TMPDIR=$work/tmp
fi
export TMPDIR

# go test lists a package's targets, then its result line.
go test -list '^Fuzz' ./... |
	awk '/^Fuzz/ { t[n++] = $1 } /^ok/ { for (i = 0; i < n; i++) print $2, t[i]; n = 0 }' >"$work/targets"
n=0
while read -r pkg name; do
	dir=$(go list -f '{{.Dir}}' "$pkg")
	binary=$work/${pkg//\//.}.test
	[[ -e $binary ]] || go test -c -fuzz=. -o "$binary" "$pkg"
	n=$((n + 1))
	echo "$pkg $dir $binary $name $work/$(printf %03d "$n").json"
done <"$work/targets" >"$work/jobs"

rc=0
xargs -P "${FUZZ_JOBS:-2}" -L 1 "$PWD/scripts/fuzz.sh" target <"$work/jobs" || rc=1
if [[ -n ${FUZZ_EVENTS-} ]]; then
	cat "$work"/*.json >"$FUZZ_EVENTS"
fi
if ((rc != 0)); then
	echo "fuzz: the targets above have failed; look at the new files in testdata/fuzz" >&2
fi
exit "$rc"

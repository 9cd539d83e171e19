#!/usr/bin/env bash
# Runs each fuzz target of the root module for FUZZTIME (30s) and stops at the
# first that fails. Go keeps the failing input under testdata/fuzz: commit it.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# go test lists a package's targets, then its result line.
targets=$(go test -list '^Fuzz' ./... |
	awk '/^Fuzz/ { t[n++] = $1 } /^ok/ { for (i = 0; i < n; i++) print $2, t[i]; n = 0 }')

while read -r pkg target; do
	[[ -n $target ]] || continue
	echo "fuzz: $pkg $target"
	go test -run '^$' -fuzz "^$target\$" -fuzztime "${FUZZTIME:-30s}" "$pkg" </dev/null
done <<<"$targets"

#!/usr/bin/env bash
# Runs the tests that try to break something, more often than an ordinary run
# does, and the fuzz targets, and writes what was tried into docs/reliability.md.
# Takes the better part of an hour; FUZZTIME (30s) is each target's share.
#
# It expects what `make test` prepares: bin/hf-cache-sync and a filled .cache.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

export HFCS_BIN=$PWD/bin/hf-cache-sync HFCS_CACHE=$PWD/.cache HFCS_PROOF=1
tests=$PWD/.cache/proof-tests.json fuzz=$PWD/.cache/proof-fuzz.json
rm -f "$tests" "$fuzz"

# What fails is in the page, and the last command says so too. One package at a
# time: some measure memory and count requests, and all of them want the disk.
go -C test test -json -count=1 -p 1 -timeout 60m ./... >"$tests" || true
FUZZ_EVENTS=$fuzz scripts/fuzz.sh || true
go -C test run ./proof/table -page "$PWD/docs/reliability.md" "$tests" "$fuzz"

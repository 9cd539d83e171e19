#!/usr/bin/env bash
# Builds the programs that tools/go.mod pins into .cache/bin, and says nothing
# when they are there already. From cold it takes some minutes.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

bin=$PWD/.cache/bin
names="golangci-lint gotestsum versitygw"

mkdir -p "$bin"
# Two runs at once would write the same files: the second waits.
if command -v flock >/dev/null; then
	exec 9>.cache/tools.lock
	flock 9
fi

# A linter built by an older Go refuses newer code, so the version counts too.
want=$({ cat tools/go.mod tools/go.sum; go version; } | git hash-object --stdin)
if [[ -f $bin/.stamp && $(<"$bin/.stamp") == "$want" ]]; then
	missing=
	for name in $names; do
		[[ -x $bin/$name ]] || missing=1
	done
	[[ -n $missing ]] || exit 0
fi

echo "tools: building $names"
rm -f "$bin/.stamp"
env -u GOOS -u GOARCH GOBIN="$bin" CGO_ENABLED=0 go -C tools install -trimpath tool
for name in $names; do
	[[ -x $bin/$name ]] || { echo "tools: tools/go.mod does not give $name" >&2; exit 1; }
done
echo "$want" >"$bin/.stamp"

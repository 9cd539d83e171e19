#!/usr/bin/env bash
# Builds the programs that tools/go.mod and the modules below tools pin into
# .cache/bin, and says nothing when they are there already. From cold it takes
# some minutes.
#
#   scripts/tools.sh             all of them
#   scripts/tools.sh tools/helm  those of one module
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

bin=$PWD/.cache/bin
only=${1-}

mkdir -p "$bin"
# Two runs at once would write the same files: the second waits.
if command -v flock >/dev/null; then
	exec 9>.cache/tools.lock
	flock 9
fi

# install builds the programs of the module in a folder, if any of the given names
# is missing or was built from other versions, by which the stamp tells.
install() {
	local module=$1 stamp=$2 name want missing=
	shift 2
	[[ -z $only || $only == "$module" ]] || return 0
	# A linter built by an older Go refuses newer code, so the version counts too.
	want=$({ cat "$module/go.mod" "$module/go.sum"; go version; } | git hash-object --stdin)
	for name; do
		[[ -x $bin/$name ]] || missing=1
	done
	if [[ -z $missing && -f $bin/$stamp && $(<"$bin/$stamp") == "$want" ]]; then return; fi
	echo "tools: building $*"
	rm -f "$bin/$stamp"
	env -u GOOS -u GOARCH GOBIN="$bin" CGO_ENABLED=0 go -C "$module" install -trimpath -ldflags='-s -w' tool
	for name; do
		[[ -x $bin/$name ]] || { echo "tools: $module/go.mod does not give $name" >&2; exit 1; }
	done
	echo "$want" >"$bin/$stamp"
}

install tools .stamp golangci-lint gotestsum govulncheck versitygw
install tools/minio .stamp-minio minio
install tools/actionlint .stamp-actionlint actionlint
install tools/helm .stamp-helm helm
install tools/goreleaser .stamp-goreleaser goreleaser

#!/usr/bin/env bash
# Makes what a release has, into dist/; .goreleaser.yaml says what that is.
#
#   scripts/release.sh snapshot    from the work tree as it is, publishing nothing
#   scripts/release.sh check       from the tag that is checked out, publishing nothing
#   scripts/release.sh publish     the same, and publish it; needs GITHUB_TOKEN
#   scripts/release.sh wheels      Python packages, of the archives in dist/
#   scripts/release.sh prepare     what goes beside the binaries; goreleaser calls it
#
# GORELEASER is the program, by default the one that scripts/tools.sh builds.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

goreleaser=${GORELEASER:-$PWD/.cache/bin/goreleaser}
made=$PWD/.cache/release

# What is built by hand here is for this machine, whatever is being built for others.
for_here() {
	env -u GOOS -u GOARCH GOWORK=off CGO_ENABLED=0 "$@"
}

# tool builds the program that makes all that goreleaser does not.
tool() {
	mkdir -p "$made"
	for_here go -C tools build -trimpath -buildvcs=false -o "$made/release" ./release
}

prepare() {
	tool
	for_here go build -trimpath -buildvcs=true -ldflags='-s -w' -o "$made/hf-cache-sync" ./cmd/hf-cache-sync
	# The pages bear the month of the commit.
	SOURCE_DATE_EPOCH=$(git log -1 --format=%ct)
	export SOURCE_DATE_EPOCH
	"$made/release" share -program "$made/hf-cache-sync" -units contrib/systemd -out "$made/share"
}

# build runs goreleaser. All times are the commit's, in the two forms that
# .goreleaser.yaml and the packages take.
build() {
	SOURCE_DATE_EPOCH=$(git log -1 --format=%ct)
	COMMIT_DATE=$(TZ=UTC0 git log -1 --date=format-local:%Y-%m-%dT%H:%M:%SZ --format=%cd)
	export SOURCE_DATE_EPOCH COMMIT_DATE
	"$goreleaser" release --clean --parallelism "$(getconf _NPROCESSORS_ONLN)" "$@"
}

case ${1-} in
snapshot) build --snapshot ;;
check) build --skip=publish,announce ;;
publish) build ;;
wheels)
	tool
	"$made/release" wheels -dist dist -root . -out dist/wheels
	;;
prepare) prepare ;;
*)
	sed -n '2,11s/^# \{0,1\}//p' "${BASH_SOURCE[0]}" >&2
	exit 2
	;;
esac

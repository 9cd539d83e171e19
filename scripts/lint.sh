#!/usr/bin/env bash
# Lints and vets every module that holds our code, and checks that all go.mod
# and go.sum files say exactly what is imported.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

root=$PWD
lint=$root/.cache/bin/golangci-lint

modules=". test test/chart tools"
[[ ! -f bench/go.mod ]] || modules+=" bench"

"$lint" config verify
rc=0
for module in $modules; do
	echo "lint: $module"
	(cd "$module" && "$lint" run --allow-parallel-runners --config "$root/.golangci.yml" ./...) || rc=1
	go -C "$module" vet ./... || rc=1
done
for module in $modules; do
	go -C "$module" mod verify >/dev/null || rc=1
	go -C "$module" mod tidy -diff || rc=1
done
# Workflows: those that GitHub runs and those that are shown. shellcheck, where it
# is installed, reads the scripts in them, and those that users run.
echo "lint: workflows"
command -v shellcheck >/dev/null || echo "lint: shellcheck is not installed: scripts were not checked"
"$root/.cache/bin/actionlint" -pyflakes= .github/workflows/*.yml examples/github-action.yml || rc=1
if command -v shellcheck >/dev/null; then
	shellcheck -x hf-cache-sync .ci/run action/*.sh bench/*.sh examples/slurm/* packaging/docker/*.sh scripts/*.sh || rc=1
fi
# Services, where systemd is there to read them. It warns of keys that it does not
# know and ends well all the same, so any word is one too many. The program that
# they start need not be installed. Those with @ are the system's, the others a
# user's.
if command -v systemd-analyze >/dev/null; then
	echo "lint: contrib/systemd"
	units=$(mktemp -d)
	trap 'rm -rf "$units"' EXIT
	mkdir "$units/system" "$units/user"
	for unit in contrib/systemd/*; do
		name=${unit##*/} kind=user
		[[ $name != *@* ]] || kind=system
		sed 's,^ExecStart=/usr/local/bin/hf-cache-sync,ExecStart=/bin/true,' "$unit" >"$units/$kind/${name/@/@alice}"
	done
	for kind in system user; do
		said=$(XDG_RUNTIME_DIR=$units systemd-analyze --"$kind" verify --man=no "$units/$kind"/* 2>&1) || rc=1
		[[ -z $said ]] || { echo "$said" && rc=1; }
	done
fi
exit "$rc"

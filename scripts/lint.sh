#!/usr/bin/env bash
# Lints and vets every module that holds our code, and checks that all go.mod
# and go.sum files say exactly what is imported.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

root=$PWD
lint=$root/.cache/bin/golangci-lint

modules=". test"
[[ ! -f bench/go.mod ]] || modules+=" bench"

"$lint" config verify
rc=0
for module in $modules; do
	echo "lint: $module"
	(cd "$module" && "$lint" run --config "$root/.golangci.yml" ./...) || rc=1
	go -C "$module" vet ./... || rc=1
done
for module in $modules tools; do
	go -C "$module" mod verify >/dev/null || rc=1
	go -C "$module" mod tidy -diff || rc=1
done
if command -v systemd-analyze >/dev/null; then
	# The units name a binary that is not installed here, and what they get wrong is only warned about.
	units=$(mktemp -d)
	trap 'rm -rf "$units"' EXIT
	for unit in contrib/systemd/*; do
		sed 's|/usr/local/bin/hf-cache-sync|/bin/true|' "$unit" >"$units/${unit##*/}"
	done
	said=$(XDG_RUNTIME_DIR=$units systemd-analyze --user verify "$units"/*.service "$units"/*.timer 2>&1) || rc=1
	if [[ -n $said ]]; then
		echo "$said" >&2
		rc=1
	fi
fi
exit "$rc"

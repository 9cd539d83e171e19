#!/usr/bin/env bash
# Checks what the program is made of: that the modules are those that go.sum
# names, that none of what is linked in has a known vulnerability or a licence
# that asks for more than to be named, that the linter looks for insecure code, and
# that the same source gives the same binary.
#
#   scripts/supply.sh                   all checks
#   scripts/supply.sh licences -write   write the list of what is linked in anew
#
# It expects what `make tools` prepares. GOVULNDB names another database of
# vulnerabilities, such as file:///path; where none can be reached, that check is
# left out, loudly.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

root=$PWD
bin=$root/.cache/bin

licences() {
	env -u GOOS -u GOARCH go -C tools run ./licences -root "$root" "$@"
}

# modules are the folders of all go.mod files of ours.
modules() {
	git ls-files --cached --others --exclude-standard -- go.mod '*/go.mod' | xargs -n 1 dirname
}

verify() {
	local module
	for module in $(modules); do
		go -C "$module" mod verify >/dev/null || { echo "supply: $module: go mod verify failed" >&2; return 1; }
	done
	echo "modules: all as in go.sum: $(modules | tr '\n' ' ')"
}

# vulnerabilities fails on any that the program can reach.
vulnerabilities() {
	local said rc=0
	said=$("$bin/govulncheck" -db "${GOVULNDB:-https://vuln.go.dev}" ./cmd/hf-cache-sync 2>&1) || rc=$?
	if [[ $rc != 0 && $said == *"fetching vulnerabilities:"* ]]; then
		{
			echo "******************************************************************************"
			echo "supply: DATABASE NOT REACHABLE: vulnerabilities were NOT checked in this run."
			echo "supply: run it where vuln.go.dev can be reached, or set GOVULNDB=file:///path"
			echo "******************************************************************************"
		} >&2
		return 0
	fi
	[[ $rc == 0 ]] || { echo "$said" >&2; return 1; }
	echo "vulnerabilities: none known in what the program calls"
}

# insecure says whether gosec is among the linters that scripts/lint.sh runs, by
# what they say of code that it must complain about.
insecure() {
	local dir=internal/supplycheck said
	rm -rf "$dir"
	mkdir "$dir"
	trap 'rm -rf "$root/internal/supplycheck"' RETURN
	cat >"$dir/check.go" <<-'GO'
		// Package supplycheck is here for a moment, to see whether the linter finds what is wrong with it.
		package supplycheck

		import "crypto/md5"

		// Sum is a digest that is broken.
		func Sum(data []byte) [16]byte { return md5.Sum(data) }
	GO
	said=$("$bin/golangci-lint" run --allow-parallel-runners "./$dir/..." 2>&1) || true
	if [[ $said != *"G401"*"gosec"* && $said != *"G501"*"gosec"* ]]; then
		echo "supply: the linter does not run gosec: $said" >&2
		return 1
	fi
	echo "gosec: run by the linter"
}

# reproducible builds the program twice, from two folders and with two caches.
reproducible() {
	local dir n sum first='' size
	dir=$(mktemp -d)
	trap 'chmod -R u+w "$dir"; rm -rf "$dir"' RETURN
	mkdir -p "$dir/one/source" "$dir/another/and/deeper"
	git ls-files -z --cached --others --exclude-standard -- go.mod go.sum cmd internal |
		while IFS= read -r -d '' file; do [[ ! -f $file ]] || printf '%s\0' "$file"; done |
		tar -c --null -T - | tar -x -C "$dir/one/source"
	cp -R "$dir/one/source" "$dir/another/and/deeper/"
	for n in one another/and/deeper; do
		(
			cd "$dir/$n/source"
			export GOCACHE=$dir/$n/cache
			CGO_ENABLED=0 go build -trimpath -buildvcs=false -o "$dir/$n/hf-cache-sync" ./cmd/hf-cache-sync
		)
		sum=$(sha256sum <"$dir/$n/hf-cache-sync")
		size=$(wc -c <"$dir/$n/hf-cache-sync")
		first=${first:-$sum}
		[[ $sum == "$first" ]] || { echo "supply: two builds of one source differ: $first and $sum" >&2; return 1; }
	done
	echo "reproducible: two builds are one, ${size// /} bytes, sha256 ${sum%% *}"
}

if [[ ${1-} == licences ]]; then
	shift
	licences "$@"
	exit
fi
rc=0
verify || rc=1
vulnerabilities || rc=1
insecure || rc=1
licences || rc=1
reproducible || rc=1
exit "$rc"

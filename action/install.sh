#!/usr/bin/env bash
# Fetches the release that input version names, checks it against the release's
# checksums and puts it on the PATH of the steps that follow. The launcher at the
# root of this repository does the fetching.
# shellcheck source=action/lib.sh
source "${BASH_SOURCE[0]%/*}/lib.sh"

version=${INPUT_VERSION:-latest}
one_line version "$version"
# RUNNER_TEMP is the job's own: nothing is run that another job has left.
export XDG_CACHE_HOME=$RUNNER_TEMP/hf-cache-sync
export HF_CACHE_SYNC_RELEASE=$version HF_CACHE_SYNC_FETCH_ONLY=1
said=$RUNNER_TEMP/hf-cache-sync-install.txt
code=0
program=$(sh "${BASH_SOURCE[0]%/*}/../hf-cache-sync" 2>"$said") || code=$?
cat "$said" >&2
[[ $code == 0 ]] || fail "the release was not installed: $(<"$said")" "$code"
dir=${program%/*}
"$program" version
command -v cygpath >/dev/null && dir=$(cygpath -w "$dir")
printf '%s\n' "$dir" >>"$GITHUB_PATH"

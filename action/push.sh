#!/usr/bin/env bash
# Pushes what the job has downloaded, if the action that pulled was told that the
# job may write to the bucket.
# shellcheck source=action/lib.sh
source "${BASH_SOURCE[0]%/*}/lib.sh"

case ${HF_CACHE_SYNC_ACTION_PUSH:-} in
true) ;;
false)
	annotate notice 'nothing is pushed: input push of the action that pulled is not true, or there are no credentials, or this is a pull request from a fork'
	set_output bytes 0
	exit 0
	;;
*) fail 'use hf-cache-sync/hf-cache-sync before hf-cache-sync/hf-cache-sync/action/push: it says what to push, and where' 2 ;;
esac
read_repos "${INPUT_REPOS:-${HF_CACHE_SYNC_ACTION_REPOS:-}}"
((${#repos[@]} > 0)) || fail 'input repos: name at least one repository, one a line' 2

result=$RUNNER_TEMP/hf-cache-sync-push.json
cd "$RUNNER_TEMP"
# What could not be downloaded is not there to be pushed.
there=()
for repo in "${repos[@]}"; do
	id=${repo#hf://} kind=models
	case $id in
	datasets/*/* | spaces/*/* | kernels/*/* | models/*/*) kind=${id%%/*} id=${id#*/} ;;
	esac
	if [[ -d $HF_HUB_CACHE/$kind--${id//\//--} ]]; then
		there+=("$repo")
	else
		annotate notice "$repo is not in the cache: not pushed"
	fi
done
code=0
: >"$result"
if ((${#there[@]} > 0)); then
	hf-cache-sync push --json --yes --cache-dir "$HF_HUB_CACHE" -- "${there[@]}" >"$result" || code=$?
fi
bytes=$(number "$result" uploaded_bytes)
summary '### hf-cache-sync push'
summary ''
summary '| repositories | revisions new | already there | uploaded | ended |'
summary '|---:|---:|---:|---:|---|'
summary "| ${#there[@]} | $(number "$result" manifests) | $(number "$result" revisions_up_to_date) | $(amount "$bytes") | exit code $code |"
set_output bytes "$bytes"
[[ $code == 0 ]] || fail "the push ended with exit code $code; docs/exit-codes.md says what it means" "$code"

#!/usr/bin/env bash
# Pulls what input repos names. Without credentials, as in a pull request from a
# fork, it takes everything from the Hub if input fallback allows that, and never
# fails. It tells action/push.sh, by variables, whether and what to push.
# shellcheck source=action/lib.sh
source "${BASH_SOURCE[0]%/*}/lib.sh"

remote=${INPUT_REMOTE:-${HF_CACHE_SYNC_REMOTE:-}}
for name in REMOTE ENDPOINT REGION FALLBACK PUSH CREDENTIALS; do
	value=INPUT_$name
	one_line "$(tr '[:upper:]' '[:lower:]' <<<"$name")" "${!value:-}"
done
read_repos "${INPUT_REPOS:-}"
((${#repos[@]} > 0)) || fail 'input repos: name at least one repository, one a line' 2
case ${INPUT_FALLBACK:=hf-hub} in
hf-hub | none) ;;
*) fail "input fallback: hf-hub or none, not \"$INPUT_FALLBACK\"" 2 ;;
esac
case ${INPUT_PUSH:=false} in
true | false) ;;
*) fail "input push: true or false, not \"$INPUT_PUSH\"" 2 ;;
esac
case ${INPUT_CREDENTIALS:=env} in
env | machine) ;;
*) fail "input credentials: env or machine, not \"$INPUT_CREDENTIALS\"" 2 ;;
esac
includes=()
while IFS= read -r glob || [[ -n $glob ]]; do
	glob=${glob//$'\r'/}
	[[ -z ${glob//[[:blank:]]/} ]] || includes+=("--include=$glob")
done <<<"${INPUT_INCLUDE:-}"

# have_keys tells whether the bucket can be asked at all. A secret that is not there
# is an empty variable.
have_keys() {
	[[ $remote == file:* || $INPUT_CREDENTIALS == machine ]] && return
	[[ -n ${B2_APPLICATION_KEY_ID:-} && -n ${B2_APPLICATION_KEY:-} ]] && return
	[[ -n ${AWS_ACCESS_KEY_ID:-} && -n ${AWS_SECRET_ACCESS_KEY:-} ]] && return
	[[ -n ${AWS_PROFILE:-}${AWS_WEB_IDENTITY_TOKEN_FILE:-}${AWS_CONTAINER_CREDENTIALS_RELATIVE_URI:-}${AWS_CONTAINER_CREDENTIALS_FULL_URI:-} ]]
}

# hub_cache is where the Hub's clients look, in their own order.
hub_cache() {
	local dir
	if [[ -n ${HF_CACHE_SYNC_CACHE_DIR:-} ]]; then
		dir=$HF_CACHE_SYNC_CACHE_DIR
	elif [[ -n ${HF_HUB_CACHE:-} ]]; then
		dir=$HF_HUB_CACHE
	elif [[ -n ${HUGGINGFACE_HUB_CACHE:-} ]]; then
		dir=$HUGGINGFACE_HUB_CACHE
	elif [[ -n ${HF_HOME:-} ]]; then
		dir=$HF_HOME/hub
	else
		dir=${XDG_CACHE_HOME:-$HOME/.cache}/huggingface/hub
	fi
	case $dir in
	\~/*) dir=$HOME/${dir:2} ;;
	esac
	[[ $dir == /* || $dir == ?:[\\/]* ]] || dir=$PWD/$dir
	if command -v cygpath >/dev/null; then dir=$(cygpath -w "$dir"); fi
	printf '%s' "$dir"
}

cache=$(hub_cache)
one_line cache-dir "$cache"
push=$INPUT_PUSH keys=true
[[ -n ${INPUT_ENDPOINT:-} ]] && export B2_ENDPOINT=$INPUT_ENDPOINT
[[ -n ${INPUT_REGION:-} ]] && export B2_REGION=$INPUT_REGION
if ! have_keys; then
	keys=false push=false
	annotate notice 'there are no credentials for the bucket in the environment, as in a pull request from a fork: it is not asked'
	# With an empty folder as the bucket all comes from the Hub.
	nobody=${RUNNER_TEMP//\\//}/hf-cache-sync-nobody
	mkdir -p "$nobody"
	# On Windows it begins with a drive.
	[[ $nobody == /* ]] || nobody=/$nobody
	remote=file://$nobody
elif [[ -z $remote && -z ${B2_BUCKET:-} ]]; then
	fail 'input remote: name the bucket, as s3://bucket/prefix' 2
fi
if [[ $push == true && -n ${HEAD_REPOSITORY:-} && $HEAD_REPOSITORY != "${GITHUB_REPOSITORY:-}" ]]; then
	push=false
	annotate notice "the pull request is from $HEAD_REPOSITORY: nothing is pushed"
fi

args=(--json --cache-dir "$cache" --fallback "$INPUT_FALLBACK" ${includes[@]+"${includes[@]}"})
[[ -z $remote ]] || args+=(--remote "$remote")
# What comes from the Hub goes to the bucket at once, and jobs that start together
# share one download.
[[ $push == true && $INPUT_FALLBACK == hf-hub ]] && args+=(--backfill)

hit=true bytes=0 worst=0
summary '### hf-cache-sync pull'
summary ''
summary '| repository | commit | files | downloaded | of it from the Hub | offline |'
summary '|---|---|---:|---:|---:|---|'
result=$RUNNER_TEMP/hf-cache-sync-pull.json
# The folder has no configuration file: what a branch brings along does not say where
# the credentials go.
cd "$RUNNER_TEMP"
for item in "${repos[@]}"; do
	repo=$item revision=()
	if [[ $item == *@* ]]; then
		repo=${item%%@*} revision=(--revision "${item#*@}")
	fi
	if [[ $keys == false && $INPUT_FALLBACK == none ]]; then
		hit=false
		summary "| \`$item\` | | | | | not pulled: no credentials |"
		continue
	fi
	echo "::group::pull $item"
	code=0
	hf-cache-sync pull "${args[@]}" ${revision[@]+"${revision[@]}"} -- "$repo" >"$result" || code=$?
	echo '::endgroup::'
	got=$(number "$result" downloaded_bytes) hub=$(number "$result" hub_bytes)
	offline=$(word "$result" offline) commit=$(word "$result" commit)
	bytes=$((bytes + got))
	[[ $code == 0 && $(number "$result" hub_blobs) == 0 && $offline != partial ]] || hit=false
	state=$offline
	if [[ $code != 0 ]]; then
		state="failed, exit code $code"
		if [[ $keys == false && $code == [34567] ]]; then
			annotate warning "$item was not pulled (exit code $code), and without credentials that is no failure"
		elif [[ $code == 5 && $INPUT_FALLBACK == none ]]; then
			state='not in the bucket'
		else
			annotate error "pull $item: exit code $code; docs/exit-codes.md says what it means"
			worst=$code
		fi
	fi
	summary "| \`$item\` | ${commit:+\`${commit:0:12}\`} | $(number "$result" files) | $(amount "$got") | $(amount "$hub") | $state |"
done
summary ''
if [[ $push == true ]]; then
	summary 'What the job downloads from here on goes to the bucket if action/push follows.'
else
	summary 'Nothing is pushed.'
fi

set_output cache-hit "$hit"
set_output bytes "$bytes"
set_output hub-cache "$cache"
set_env HF_HUB_CACHE "$cache"
set_env HF_CACHE_SYNC_ACTION_PUSH "$push"
set_env HF_CACHE_SYNC_ACTION_REPOS "$(printf '%s\n' "${repos[@]%%@*}")"
if [[ $keys == true ]]; then
	[[ -z $remote ]] || set_env HF_CACHE_SYNC_REMOTE "$remote"
	[[ -z ${INPUT_ENDPOINT:-} ]] || set_env B2_ENDPOINT "$INPUT_ENDPOINT"
	[[ -z ${INPUT_REGION:-} ]] || set_env B2_REGION "$INPUT_REGION"
fi
exit "$worst"

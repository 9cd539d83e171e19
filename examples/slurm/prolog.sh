#!/bin/sh
# A Slurm prolog that brings models to a node before its first job starts, once for
# all jobs that start together. docs/slurm.md is its manual. In slurm.conf:
#
#   Prolog=/etc/slurm/prolog.d/*
#   PrologFlags=Alloc
#
# It always ends with 0, because a prolog that fails drains the node: a bucket that
# cannot be reached must not. A job that needs the models finds out for itself.
#
# /etc/hf-cache-sync/slurm.conf, which only root may write, says what and where; it
# is shell text:
#
#   HF_CACHE_SYNC_REMOTE, B2_ENDPOINT and the keys    the bucket, as everywhere
#   HF_HUB_CACHE       the cache, on a disk of the node
#   PRELOAD            what is always brought, as org/name or org/name@revision
#   PRELOAD_COMMENT    1: also what a job asks for with --comment=hf:org/name,org/other
#   PRELOAD_FALLBACK   hf-hub: what the bucket lacks comes from the Hub (none)
#   PRELOAD_USER       who owns the cache, if not root
#   PRELOAD_SECONDS    for how long a job is held up at most (600)
#   PRELOAD_MINUTES    for how long the bucket is not asked again (10)
#   PRELOAD_STATE      a folder for the lock, and for what was brought (/run/hf-cache-sync)
PATH=/usr/local/bin:/usr/bin:/bin${HF_PRELOAD_PATH:+:$HF_PRELOAD_PATH}
export PATH
set -uf

conf=${HF_PRELOAD_CONF:-/etc/hf-cache-sync/slurm.conf}
PRELOAD='' PRELOAD_COMMENT='' PRELOAD_FALLBACK=none PRELOAD_USER='' PRELOAD_SECONDS=600 PRELOAD_MINUTES=10 PRELOAD_STATE=/run/hf-cache-sync
if [ -r "$conf" ]; then
	set -a
	# shellcheck disable=SC1090 # The file is the site's.
	. "$conf"
	set +a
fi
mkdir -p "$PRELOAD_STATE" || exit 0
# No configuration file lies there.
cd "$PRELOAD_STATE" || exit 0
log=$PRELOAD_STATE/log

say() {
	printf '%s job %s: %s\n' "$(date -u +%Y-%m-%dT%H:%M:%SZ)" "${SLURM_JOB_ID:-?}" "$1" >>"$log"
}

# asked prints what the comment of the job names. It is text of the job's owner, and
# this runs as root, so that a name is a name or is left out.
asked() {
	[ "$PRELOAD_COMMENT" = 1 ] || return 0
	case ${SLURM_JOB_COMMENT:-} in
	hf:*) printf '%s\n' "${SLURM_JOB_COMMENT#hf:}" | tr -s ', ' '\n' | grep -E '^[A-Za-z0-9][A-Za-z0-9._/-]*(@[A-Za-z0-9][A-Za-z0-9._/-]*)?$' | head -n 20 ;;
	esac
}

# bring pulls one repository, unless it was brought a moment ago.
bring() {
	left=$((deadline - $(date +%s)))
	stamp=$PRELOAD_STATE/done.$(printf '%s' "$1" | tr '/' '+')
	if [ -n "$(find "$stamp" -mmin "-$PRELOAD_MINUTES" 2>/dev/null)" ]; then
		say "$1: there already"
		return
	fi
	if [ "$left" -le 0 ]; then
		say "$1: no time is left"
		return
	fi
	repo=${1%%@*} revision=main
	case $1 in *@*) revision=${1#*@} ;; esac
	set -- "$1" hf-cache-sync pull --no-progress --fallback "$PRELOAD_FALLBACK" --revision "$revision" -- "$repo"
	name=$1
	shift
	[ -z "$PRELOAD_USER" ] || set -- runuser -u "$PRELOAD_USER" -- "$@"
	code=0
	timeout "$left" "$@" >>"$log" 2>&1 || code=$?
	say "$name: exit code $code"
	[ "$code" != 0 ] || : >"$stamp"
}

deadline=$(($(date +%s) + PRELOAD_SECONDS))
exec 9>"$PRELOAD_STATE/lock"
# Jobs that start together wait for the one that came first.
if ! flock -w "$PRELOAD_SECONDS" 9; then
	say 'another job has held the lock for too long'
	exit 0
fi
for item in $PRELOAD $(asked); do
	# What is started must not keep the lock, should it outlive this script.
	bring "$item" 9>&-
done
exit 0

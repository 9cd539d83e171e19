# shellcheck shell=bash
# What the steps of the action have in common; they source it. Inputs come in as
# INPUT_<NAME> and are text of strangers: they are compared and passed on, quoted,
# and never become part of a command's text.
set -euo pipefail

# fail ends the step: what, and an exit code.
fail() {
	annotate error "$1"
	exit "${2:-1}"
}

# annotate writes a message where the runner shows it. The runner reads commands
# line by line, so what is not one line is escaped as it asks for.
annotate() {
	local text=$2
	text=${text//'%'/%25}
	text=${text//$'\r'/%0D}
	text=${text//$'\n'/%0A}
	printf '::%s title=hf-cache-sync::%s\n' "$1" "$text"
}

# one_line fails unless an input is a single line of text: only the lists may be more.
one_line() {
	case $2 in
	*[[:cntrl:]]*) fail "input $1: it has more than one line, or a control character" 2 ;;
	esac
}

# set_output and set_env hand a value on. The mark around it is random, so that no
# value can end it and go on with names of its own.
set_output() { hand_on "$GITHUB_OUTPUT" "$1" "$2"; }
set_env() { hand_on "$GITHUB_ENV" "$1" "$2"; }

hand_on() {
	local mark
	mark=end_$(od -An -N16 -tx1 /dev/urandom | tr -d ' \n')
	printf '%s<<%s\n%s\n%s\n' "$2" "$mark" "$3" "$mark" >>"$1"
}

# read_repos fills the array repos from a list, one a line. What a revision may be
# called on the Hub is more than this takes; a name of odd signs can be said by its
# commit.
read_repos() {
	local line
	repos=()
	while IFS= read -r line || [[ -n $line ]]; do
		line=${line//$'\r'/}
		line=${line#"${line%%[![:blank:]]*}"}
		line=${line%"${line##*[![:blank:]]}"}
		[[ -n $line ]] || continue
		[[ $line =~ ^[A-Za-z0-9][A-Za-z0-9._:/@+-]*$ ]] || fail "input repos: not a repository: \"$line\"" 2
		repos+=("$line")
	done <<<"$1"
}

# number prints a number at the top of the JSON object in a file, or 0.
number() {
	local found
	found=$(sed -n "s/^  \"$2\": \([0-9][0-9]*\),*\$/\1/p" "$1" | head -n 1)
	printf '%s' "${found:-0}"
}

# word is number for a text of plain signs.
word() {
	sed -n "s/^  \"$2\": \"\([A-Za-z0-9._-]*\)\",*\$/\1/p" "$1" | head -n 1
}

# amount writes bytes for people.
amount() {
	awk -v n="$1" 'BEGIN {
		split("B kB MB GB TB", unit, " ")
		for (i = 1; n >= 1000 && i < 5; i++) n /= 1000
		printf(i == 1 ? "%d %s" : "%.1f %s", n, unit[i])
	}'
}

# summary adds a line to the job's page.
summary() { printf '%s\n' "$1" >>"$GITHUB_STEP_SUMMARY"; }

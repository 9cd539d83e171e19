#!/bin/sh
# What KServe calls to fetch a model: storage-initializer hf://org/name[:revision] /mnt/models
#
# KServe wants the model's files in the folder itself. The cache is made in a hidden
# folder below it, and the folder gets a link to each file of the snapshot. The links are
# relative, so they hold wherever the volume is mounted.
set -eu

if [ $# -ne 2 ]; then
	echo "usage: storage-initializer hf://org/name[:revision] FOLDER" >&2
	exit 2
fi
case $1 in
hf://*) ;;
*)
	echo "storage-initializer: $1 does not begin with hf://" >&2
	exit 2
	;;
esac
name=${1#hf://} revision=main folder=$2
case $name in
*[:@]*) # KServe writes a colon, the Hub's own tools an at sign
	revision=${name#*[:@]}
	name=${name%%[:@]*}
	;;
esac
export HF_HUB_CACHE="$folder/.hf-cache/hub" XDG_STATE_HOME="$folder/.hf-cache/state" XDG_CACHE_HOME="$folder/.hf-cache/read"

hf-cache-sync pull "hf://$name" --revision "$revision" --require-complete

repo=models--$(echo "$name" | sed 's,/,--,g')
found=
for snapshot in "$HF_HUB_CACHE/$repo/snapshots"/*; do
	[ -z "$found" ] || { echo "storage-initializer: $folder holds more than one revision" >&2; exit 1; }
	found=${snapshot##*/}
done
cd "$folder"
for file in ".hf-cache/hub/$repo/snapshots/$found"/* ".hf-cache/hub/$repo/snapshots/$found"/.[!.]*; do
	[ -e "$file" ] || continue # the pattern itself, where nothing matches
	ln -sf "$file" "${file##*/}"
done

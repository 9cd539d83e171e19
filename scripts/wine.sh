#!/usr/bin/env bash
# Puts Wine below .cache/wine, for test/wine: the packages of Debian 13, unpacked
# into a root of their own, since Go's file functions want more of Windows than
# older ones have. Nothing is installed on the machine. Needs apt and root.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

wine=10.0~repack-6
suite=trixie
top=$PWD/.cache/wine
want=$(sha256sum "${BASH_SOURCE[0]}" | cut -d ' ' -f 1)
[[ $(cat "$top/.stamp" 2>/dev/null || true) != "$want" ]] || exit 0

if [[ $(uname -sm) != "Linux x86_64" ]] || ! command -v apt-get >/dev/null || ((EUID != 0)); then
	echo "wine: test/wine needs Debian's packages for amd64, and root for a root of their own" >&2
	exit 1
fi
echo "wine: unpacking Wine $wine"
rm -rf "$top"
mkdir -p "$top"/apt/{lists,cache/archives}/partial "$top/debs" "$top/root"/{proc,dev,tmp,home,work}

# The mirror is the one that this machine uses.
# shellcheck disable=SC2016 # apt fills it in.
mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' | grep '/debian/$' | head -n 1 || true)
[[ -n $mirror ]] || { echo "wine: apt-get knows no mirror of Debian; run: apt-get update" >&2; exit 1; }
echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror $suite main" >"$top/apt/sources.list"
fetch() {
	apt-get -qq -o Dir::Etc::SourceList="$top/apt/sources.list" -o Dir::Etc::SourceParts=- -o Dir::State::Lists="$top/apt/lists" \
		-o Dir::Cache="$top/apt/cache" -o APT::Sandbox::User=root -o Acquire::Languages=none -o Acquire::Retries=3 "$@"
}
fetch update
(cd "$top/debs" && fetch download "wine64=$wine" "libwine=$wine" libc6 libgcc-s1 libc-bin libunwind8 liblzma5 zlib1g libz-mingw-w64)
for deb in "$top"/debs/*.deb; do
	dpkg-deb -x "$deb" "$top/root"
done
rm -rf "$top/apt" "$top/debs"

cd "$top/root"
for dir in lib lib64; do
	[[ -e $dir || ! -d usr/$dir ]] || ln -s "usr/$dir" "$dir"
done
# What the packages' own scripts would do.
ln -sf wineserver64 usr/lib/wine/wineserver
cp usr/x86_64-w64-mingw32/lib/zlib1.dll usr/lib/x86_64-linux-gnu/wine/x86_64-windows/

cat >"$top/run.sh" <<'IN'
#!/bin/sh
# run.sh WORK COMMAND...: runs a program for Windows, to which the folder WORK is
# Z:\work. Nothing that it starts outlives it.
set -eu
if [ "${1-}" != --inside ]; then
	exec unshare --mount --pid --fork --kill-child "$0" --inside "$(cd "$(dirname "$0")" && pwd)/root" "$@"
fi
root=$2 work=$3
shift 3
mount --rbind /proc "$root/proc"
mount --rbind /dev "$root/dev"
mount --bind "$work" "$root/work"
cd /
export LC_ALL=C.UTF-8 WINEDEBUG=-all WINEPREFIX=/home/prefix WINEDLLOVERRIDES="mscoree,mshtml=" HOME=/home
PATH=$PATH:/usr/sbin:/sbin
code=0
chroot "$root" /usr/lib/wine/wine64 "$@" || code=$?
chroot "$root" /usr/lib/wine/wineserver64 -k || true # It writes what it knows, and ends.
chroot "$root" /usr/lib/wine/wineserver64 -w
exit "$code"
IN
chmod +x "$top/run.sh"
mkdir "$top/nothing"
# It ends badly, because there are no 32-bit programs. What it has made counts.
timeout 300 "$top/run.sh" "$top/nothing" wineboot --init >"$top/wineboot.log" 2>&1 || true
if [[ ! -s $top/root/home/prefix/.update-timestamp || ! -s $top/root/home/prefix/system.reg ]]; then
	tail -n 20 "$top/wineboot.log" >&2
	echo "wine: it could not be set up" >&2
	exit 1
fi
echo "$want" >"$top/.stamp"

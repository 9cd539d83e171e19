#!/usr/bin/env bash
# Times push and pull on one versitygw beside the Python tool 0.1.0 and cp -r, one run each, all on one memory-backed file system.
# Figures of one run on one machine: compare them with each other and with nothing else. `make test` installs what it needs.
set -euo pipefail
top=$(cd "$(dirname "$0")/.." && pwd)
work=$(mktemp -d "${BENCH_DIR:-/dev/shm}/hf-cache-sync-bench.XXXXXX")
port=${BENCH_PORT:-17070}
ours=$top/bin/hf-cache-sync
python=$top/.cache/venv/py-hf-cache-sync/bin/hf-cache-sync

mkdir -p "$work/gateway"
"$top/.cache/bin/versitygw" --access bench --secret bench-secret --port "127.0.0.1:$port" --keep-alive --quiet posix "$work/gateway" >"$work/gateway.log" 2>&1 &
gateway=$!
trap 'kill $gateway 2>/dev/null; rm -rf "$work"' EXIT
until (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; do
  kill -0 $gateway || { cat "$work/gateway.log" >&2; exit 1; }
done

export AWS_ACCESS_KEY_ID=bench AWS_SECRET_ACCESS_KEY=bench-secret AWS_REGION=us-east-1
export B2_ENDPOINT=http://127.0.0.1:$port B2_REGION=us-east-1

# run <label> <command...>: wall seconds, processor seconds, peak memory in MB.
run() {
  local label=$1
  shift
  /usr/bin/time -o "$work/time" -f '%e %U %S %M' "$@" >"$work/out" 2>&1 || { cat "$work/out" >&2; exit 1; }
  awk -v label="$label" '{printf "%-34s %8.2f s  %8.2f CPU-s  %6.0f MB\n", label, $1, $2 + $3, $4 / 1024}' "$work/time"
}

measure() { # <name> <files> <bytes of each>
  local name=$1 source=$work/$1
  python3 "$top/bench/makecache.py" "$source/hub" "bench/$name" "$2" "$3"
  echo "== $2 x $3 bytes"
  run "cp -r" cp -r "$source" "$work/copy"
  rm -rf "$work/copy"
  mkdir "$work/gateway/ours-$name" "$work/gateway/python-$name"
  run "hf-cache-sync push" env HF_HUB_CACHE="$source/hub" "$ours" push --yes --remote "s3://ours-$name"
  run "hf-cache-sync push, nothing new" env HF_HUB_CACHE="$source/hub" "$ours" push --yes --remote "s3://ours-$name"
  run "hf-cache-sync pull" env HF_HUB_CACHE="$work/pulled/hub" "$ours" pull "bench/$name" --remote "s3://ours-$name"
  rm -rf "$work/pulled"
  export B2_BUCKET=python-$name
  run "Python 0.1.0 push" env HF_HOME="$source" HF_HUB_CACHE="$source/hub" "$python" push
  run "Python 0.1.0 pull" env HF_HOME="$work/pulled" HF_HUB_CACHE="$work/pulled/hub" "$python" pull "bench/$name"
  unset B2_BUCKET
  rm -rf "$work/pulled" "$source" "$work/gateway/ours-$name" "$work/gateway/python-$name"
}

measure large 1 "$((2 << 30))"
measure small 5000 16384

#!/usr/bin/env bash
# Measures hf-cache-sync beside the field and writes README.md, results.json and
# img. Arguments go to the harness: run.sh -help lists them. `make bench` builds
# what this needs.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

./install.sh
exec go run . "$@"

#!/bin/bash
# Vets and tests every example; each is a module of its own.
set -euo pipefail
cd "$(dirname "$0")/.."
# The examples start clusters: the program is built once for all of them.
bin=$(mktemp -d)
trap 'rm -rf "$bin"' EXIT
go build -o "$bin/quorate" ./cmd/quorate
export QUORATE_BINARY="$bin/quorate"

for mod in examples/*/go.mod; do
  [ -e "$mod" ] || continue
  dir=$(dirname "$mod")
  echo "== $dir"
  (cd "$dir" && go vet ./... && go test -timeout 10m ./...)
done

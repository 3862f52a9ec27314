#!/bin/bash
# Vets and tests every example; each is a module of its own.
set -euo pipefail
cd "$(dirname "$0")/.."
for mod in examples/*/go.mod; do
  [ -e "$mod" ] || continue
  dir=$(dirname "$mod")
  echo "== $dir"
  (cd "$dir" && go vet ./... && go test -timeout 10m ./...)
done

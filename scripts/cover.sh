#!/bin/bash
# Coverage of each package by its own tests, generated files left out.
# Usage: scripts/cover.sh [package ...]   (default: the ones with a floor)
set -euo pipefail
cd "$(dirname "$0")/.."
packages=("$@")
[ ${#packages[@]} -gt 0 ] || packages=(fsm raftnode coordinator participant api)
mkdir -p build/cover
for pkg in "${packages[@]}"; do
  out=build/cover/${pkg//\//-}.out
  # A package's own subpackages that hold hand-written code count with it.
  list=$(go list "./$pkg/..." | grep -v -e /logpb -e '/api/v1$' -e test$ | paste -sd,)
  go test -timeout 15m -coverpkg="$list" -coverprofile="$out.all" "./$pkg/..." >"$out.log" 2>&1 || {
    cat "$out.log" >&2
    exit 1
  }
  grep -v -e '\.pb\.go:' -e '\.pb\.gw\.go:' "$out.all" >"$out"
  printf '%-14s %s\n' "$pkg" "$(go tool cover -func="$out" | tail -1 | awk '{print $NF}')"
done

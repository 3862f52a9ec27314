#!/bin/bash
# Fails when a Go file is not as gofmt writes it.
set -euo pipefail
cd "$(dirname "$0")/.."
unformatted=$(git ls-files -z --cached --others --exclude-standard -- '*.go' | xargs -0 ls -d 2>/dev/null | xargs gofmt -l)
if [ -n "$unformatted" ]; then
  printf 'not formatted (run gofmt -w on them):\n%s\n' "$unformatted" >&2
  exit 1
fi

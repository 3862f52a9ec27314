#!/bin/bash
# Fails when a .proto file or generated code was changed without the other. It
# compares with the sums that `make generate` noted, so it costs no build of the
# generators.
set -euo pipefail
cd "$(dirname "$0")/.."
if ! diff <(scripts/generated-sum.sh) api/generated.sha256 >/dev/null; then
  echo "generated code is not fresh: run make generate and commit the result. Changed since:" >&2
  diff <(scripts/generated-sum.sh) api/generated.sha256 | sed -n 's/^< [0-9a-f]*  /  /p' >&2
  exit 1
fi

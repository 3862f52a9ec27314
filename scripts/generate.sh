#!/bin/bash
# Generates the code of the .proto files with the buf and plugins on PATH (make
# generate puts the pinned ones there) and notes what it made from what.
set -euo pipefail
cd "$(dirname "$0")/.."
buf lint
buf generate
buf generate --template buf.gen.log.yaml
buf generate --template buf.gen.dtm.yaml
scripts/generated-sum.sh >api/generated.sha256

#!/bin/bash
# Prints the SHA-256 of everything that generated code is made from and of the
# generated code itself, one file a line.
set -euo pipefail
cd "$(dirname "$0")/.."
export LC_ALL=C
ls buf.yaml buf.gen.yaml buf.gen.log.yaml buf.gen.dtm.yaml \
  api/v1/*.proto api/v1/*.yaml api/v1/*.pb.go api/v1/*.pb.gw.go api/v1/*.swagger.json \
  api/dtm/dtmpb/*.proto api/dtm/dtmpb/*.pb.go \
  fsm/logpb/*.proto fsm/logpb/*.pb.go | sort | xargs sha256sum

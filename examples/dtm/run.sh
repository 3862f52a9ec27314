#!/bin/bash
# Starts a private Postgres and a cluster of three processes, and plays everything
# there is, with DTM's client. From a checkout, with Go and Debian's postgresql and
# mariadb-server; arguments go to the program (-v, -only saga).
set -euo pipefail
cd "$(dirname "$0")"
bin=$(mktemp -d)
trap 'rm -rf "$bin"' EXIT
go build -C ../.. -o "$bin/quorate" ./cmd/quorate
go build -C ../.. -o "$bin/with" ./internal/testdb/with
go build -o "$bin/dtm" .
"$bin/with" -- "$bin/dtm" -quorate "$bin/quorate" "$@"

#!/bin/bash
# chaos-disks.sh CUTS CASES: cut the power of nodes CUTS times and damage the data
# of stopped ones CASES times, with each log store, and of databases; note the
# figures in docs/chaos-ledger.md. Power can be cut as root only; elsewhere it is
# said to be not possible.
set -euo pipefail
cd "$(dirname "$0")/.."
cuts=${1:?cuts} cases=${2:?cases}
summaries=$PWD/bin/disks-$(date -u +%Y%m%dT%H%M%S)
mkdir -p "$summaries"
red=0
for store in boltdb wal; do
  go test ./chaos/disks -count=1 -timeout 120m -run 'TestPowerLoss|TestCorruption' -v \
    -store "$store" -cuts "$cuts" -corruptions "$cases" -summary "$summaries" >"$summaries/$store.log" 2>&1 || red=1
  grep -E '^(---|ok|FAIL)' "$summaries/$store.log"
done
go run ./internal/tools/ledger "$summaries"/*.json
echo "summaries and logs in $summaries"
exit "$red"

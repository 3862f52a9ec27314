#!/bin/bash
# Runs the demo on private Postgres and MariaDB servers, N times, and stops at
# the first red run. Usage: scripts/demo-databases.sh [N]
# TRANSFERS and KILLS change the size of a run.
set -euo pipefail
cd "$(dirname "$0")/.."
export RUNS=${1:-1} TRANSFERS=${TRANSFERS:-2000} KILLS=${KILLS:-5}
exec go run ./internal/testdb/with -- bash -euo pipefail -c '
  for run in $(seq "$RUNS"); do
    echo "== run $run of $RUNS: $TRANSFERS transfers, $KILLS leaders and a bank killed, Postgres and MariaDB" >&2
    bin/quorate demo --postgres "$QUORATE_TEST_POSTGRES" --mysql "$QUORATE_TEST_MYSQL" \
      --transfers "$TRANSFERS" --kills "$KILLS" --kill-leader random --kill-participant -o json
  done
  echo "== $RUNS of $RUNS green" >&2'

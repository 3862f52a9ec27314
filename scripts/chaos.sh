#!/bin/bash
# chaos.sh MINUTES [FILE]: break clusters for so long, one short run after the
# other, each with another seed and its share of the faults, and note every
# run's verdict in docs/chaos-ledger.md. A red run's directory stays, the others
# go on, and the end is red.
#
# Runs are short so that each history is judged while it is small, and so that a
# red one is read in minutes.
set -uo pipefail
cd "$(dirname "$0")/.."
minutes=${1:?minutes}
summaries=${2:-bin/chaos-$(date -u +%Y%m%dT%H%M%S).jsonl}
until=$((SECONDS + minutes * 60))
mkdir -p "$(dirname "$summaries")"
: >"$summaries"
trap 'exit 130' INT TERM
# The runs' data lie here: on a disk, and where nobody tidies up meanwhile.
export TMPDIR=$PWD/bin/chaos-runs
mkdir -p "$TMPDIR"

# What each run hurts, in turn.
plans=(
  "--workloads registers --faults kill"
  "--workloads registers --faults kill,partition --nodes 5"
  "--workloads registers --faults kill,pause"
  "--workloads registers --faults partition,link"
  "--workloads registers --faults kill,pause,partition"
  "--workloads bank --bank-rate 100 --databases installed --faults participant,database,kill,pause"
  "--workloads registers --faults disk,power,corrupt,kill"
  ""
  "--workloads registers --faults kill,pause,partition,link,duplicate"
  "--faults kill,participant,disk,corrupt,member"
  "--workloads modes --modes all --faults step,kill,pause,branch,database"
  "--workloads registers,modes --modes all --faults step,partition,link,member,disk"
)
red=0 runs=0
while left=$((until - SECONDS)) && [ "$left" -gt 10 ]; do
  duration=$((left < 120 ? left : 120))
  plan=${plans[$((runs % ${#plans[@]}))]}
  runs=$((runs + 1))
  printf '\n=== run %d, %s s left: %s\n' "$runs" "$left" "${plan:-every fault}"
  # shellcheck disable=SC2086 # a plan is several words
  if ! bin/quorate chaos --duration "${duration}s" $plan -o json >>"$summaries"; then
    red=$((red + 1))
  fi
done
[ -s "$summaries" ] && go run ./internal/tools/ledger "$summaries"
printf '%d runs, %d red; summaries in %s\n' "$runs" "$red" "$summaries"
[ "$red" -eq 0 ]

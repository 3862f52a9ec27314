#!/bin/bash
# Plays scenes with DTM's Python and Java SDKs, unchanged, against a cluster of three
# processes. Needs Go, Python 3 with venv, a JDK of 11 or later, Maven, and their registries.
# With --record DIR the exchanges are kept: api/dtm/testdata/sdk is made by it.
set -euo pipefail
cd "$(dirname "$0")"
dir=$(mktemp -d)
dev=
trap '[ -z "$dev" ] || { kill -INT "$dev"; wait "$dev" || true; }; rm -rf "$dir"' EXIT
go build -C ../../.. -o "$dir/quorate" ./cmd/quorate
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" -q --disable-pip-version-check install dtmcli==1.7.7.0 requests==2.32.5 pymysql==1.1.2
mvn -q -B dependency:copy-dependencies -DoutputDirectory="$dir/jars"
javac -proc:none -cp "$dir/jars/*" -d "$dir/classes" Scenes.java
port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
"$dir/quorate" dev --data-dir "$dir/data" --port "$port" >"$dir/dev.log" 2>&1 &
dev=$!
address=
for _ in $(seq 600); do
  address=$(sed -n 's|^  HTTP *http://\([^ ]*\).*|\1|p' "$dir/dev.log" | head -1)
  [ -n "$address" ] && grep -q '^  Pids' "$dir/dev.log" && break
  sleep 0.1
done
[ -n "$address" ] || { cat "$dir/dev.log"; exit 1; }
"$dir/venv/bin/python" scenes.py "$address" --java "java -cp '$dir/jars/*:$dir/classes' Scenes" "$@"

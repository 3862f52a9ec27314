#!/bin/bash
# Makes sure that what the tests need is on the machine: a C compiler for the
# race detector, curl for the README's tour, and a Postgres, a MariaDB and a Redis
# that the tests start privately.
#
# On Debian (and its kin), as root, it installs what is missing. Elsewhere
# QUORATE_TEST_POSTGRES, QUORATE_TEST_MYSQL and QUORATE_TEST_REDIS may name servers to
# use instead; with neither it fails and says what to install. It never lets a test skip.
set -euo pipefail

have_gcc() { command -v gcc >/dev/null || command -v "${CC:-cc}" >/dev/null; }
have_postgres() {
  [ -n "${QUORATE_TEST_POSTGRES:-}" ] && return
  command -v postgres >/dev/null || compgen -G '/usr/lib/postgresql/*/bin/postgres' >/dev/null
}
have_mysql() {
  [ -n "${QUORATE_TEST_MYSQL:-}" ] && return
  command -v mariadbd >/dev/null || [ -x /usr/sbin/mariadbd ]
}
have_redis() {
  [ -n "${QUORATE_TEST_REDIS:-}" ] && return
  command -v redis-server >/dev/null && command -v redis-cli >/dev/null
}

missing=()
have_gcc || missing+=(gcc libc6-dev)
command -v curl >/dev/null || missing+=(curl)
have_postgres || missing+=(postgresql)
have_mysql || missing+=(mariadb-server)
have_redis || missing+=(redis-server redis-tools)
[ ${#missing[@]} -eq 0 ] && exit 0

if ! command -v apt-get >/dev/null || [ "$(id -u)" -ne 0 ]; then
  cat >&2 <<EOF
make test: this machine lacks: ${missing[*]}
  On Debian or Ubuntu:  sudo apt-get install ${missing[*]}
  Elsewhere: install gcc, curl, PostgreSQL >= 13, MariaDB >= 10.6 and Redis >= 6 with your package manager, or name servers
  that the tests may write to:
    QUORATE_TEST_POSTGRES='postgres://user:pass@host:5432/db'   (max_prepared_transactions > 0)
    QUORATE_TEST_MYSQL='user:pass@tcp(host:3306)/db'
    QUORATE_TEST_REDIS='redis://:pass@host:6379/0'      (appendonly yes, appendfsync always)
EOF
  exit 1
fi

echo "installing for the tests: ${missing[*]}" >&2
export DEBIAN_FRONTEND=noninteractive
# The packages would start servers of their own. The tests never use those: keep
# them from starting, unless this machine already has a policy about it.
policy=/usr/sbin/policy-rc.d
if [ ! -e $policy ]; then
  trap 'rm -f $policy' EXIT
  printf '#!/bin/sh\nexit 101\n' >$policy
  chmod 755 $policy
fi
for attempt in 1 2 3; do
  if apt-get update -qq && apt-get install -y -qq --no-install-recommends "${missing[@]}" </dev/null >&2; then
    break
  fi
  [ $attempt -lt 3 ] || { echo "make test: apt-get could not install ${missing[*]}" >&2; exit 1; }
done

have_gcc && have_postgres && have_mysql && have_redis || {
  echo "make test: installed ${missing[*]}, yet a program is still missing" >&2
  exit 1
}

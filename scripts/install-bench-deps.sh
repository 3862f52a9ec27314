#!/bin/bash
# Makes sure that what `make bench` measures beside is on the machine: etcd, of Debian's
# package, whose server it starts itself. As root, on Debian and its kin, it installs
# what is missing; elsewhere it says what to do.
set -euo pipefail

command -v etcd >/dev/null && exit 0
if ! command -v apt-get >/dev/null || [ "$(id -u)" -ne 0 ]; then
  cat >&2 <<EOM
make bench: there is no program etcd on this machine, beside which decide and submit are measured.
  On Debian or Ubuntu:  sudo apt-get install etcd-server
  Elsewhere: put a release of https://github.com/etcd-io/etcd on the PATH
EOM
  exit 1
fi

echo "installing for the benchmark: etcd-server" >&2
export DEBIAN_FRONTEND=noninteractive
# The package would start a server of its own: keep it from starting, unless this
# machine already has a policy about it.
policy=/usr/sbin/policy-rc.d
if [ ! -e $policy ]; then
  trap 'rm -f $policy' EXIT
  printf '#!/bin/sh\nexit 101\n' >$policy
  chmod 755 $policy
fi
for attempt in 1 2 3; do
  if apt-get update -qq && apt-get install -y -qq --no-install-recommends etcd-server </dev/null >&2; then
    break
  fi
  [ $attempt -lt 3 ] || { echo "make bench: apt-get could not install etcd-server" >&2; exit 1; }
done
command -v etcd >/dev/null || { echo "make bench: installed etcd-server, yet there is no program etcd" >&2; exit 1; }

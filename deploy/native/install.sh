#!/usr/bin/env bash
# The servers of a site without Docker, and of the tests: Mosquitto from the system's packages, Apache Kafka from Maven
# Central, InfluxDB built from its Go module. For the tests alone, a Raspberry Pi that is emulated: Debian's Python for
# arm64, the wheels of vitalloom[edge], QEMU. Each is made once, into a cache of this user, and named after what it was
# made of.
#   install.sh [mosquitto] [kafka] [influxdb] [pi] [systemd]      all of them if none is named
set -euo pipefail
here="$(cd "$(dirname "$0")" && pwd)"
cache="${VITALLOOM_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/vitalloom}/services"
mkdir -p "$cache"
exec 9>"$cache/.lock"

say() { echo "services: $*" >&2; }

# need COMMAND PACKAGE WHY: a command, or its Debian package where that can be installed without asking.
need() {
  # `type -P`: the functions below have the same names.
  if type -P "$1" >/dev/null || [ -x "/usr/sbin/$1" ]; then return 0; fi
  if [ -n "$2" ] && type -P apt-get >/dev/null && [ "$(id -u)" = 0 ]; then
    apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq $2 >/dev/null && return 0
  fi
  say "$3 needs \`$1\`, which is not installed${2:+ (Debian, Raspberry Pi OS: sudo apt-get install $2)}"
  exit 1
}

# The folder that something made of these files lies in.
made_of() { echo "$cache/$1-$(cat "$here/$1_server"/* | sha256sum | cut -c1-16)"; }

mosquitto() { need mosquitto mosquitto "the MQTT broker"; }

kafka() {
  local to; to="$(made_of kafka)"
  [ -e "$to/ready" ] && return 0
  need java openjdk-17-jre-headless "Apache Kafka"
  need mvn maven "Apache Kafka"
  say "fetching Apache Kafka (43 MB) ..."
  rm -rf "$to" && mkdir -p "$to"
  mvn -q -B -f "$here/kafka_server/pom.xml" dependency:copy-dependencies -DincludeScope=runtime \
    -DoutputDirectory="$to/lib" >&2
  cp "$here/kafka_server/log4j2.xml" "$to/"
  touch "$to/ready"
}

influxdb() {
  local to toolchain; to="$(made_of influxdb)"
  [ -e "$to/ready" ] && return 0
  need go "" "InfluxDB (https://go.dev/dl, 1.24 or newer)"
  need cargo "" "InfluxDB (https://rustup.rs)"
  need cc gcc "InfluxDB"
  say "building InfluxDB 2.7 (five minutes, once) ..."
  rm -rf "$to" && mkdir -p "$to/bin"
  cp "$here/influxdb_server"/* "$to/"
  # Its query engine is Rust, and names a compiler that is years old; the one that is here is meant.
  toolchain="$(rustup show active-toolchain 2>/dev/null | cut -d' ' -f1 || true)"
  (
    cd "$to"
    export GOTOOLCHAIN=local GOBIN="$to/bin" PKG_CONFIG="$to/bin/pkg-config" RUSTC_WRAPPER="$to/rustc.sh"
    if [ -n "$toolchain" ]; then export RUSTUP_TOOLCHAIN="$toolchain"; fi
    go install github.com/influxdata/pkg-config@v0.2.14
    go build -trimpath -ldflags='-s -w' -o "$to/bin/influxd" .
  ) >"$to/build.log" 2>&1 || { tail -20 "$to/build.log" >&2; say "InfluxDB could not be built; the whole log: $to/build.log"; exit 1; }
  touch "$to/ready"
}

# An arm64 system in a folder, without root and without touching this machine's own packages.
pi() {
  local to host python; host="$(dpkg --print-architecture 2>/dev/null || echo amd64)"; to="$(made_of pi)"
  [ -e "$to/ready" ] && return 0
  need apt-get "" "the emulated Pi (a Debian or Ubuntu)"
  need dpkg-deb dpkg "the emulated Pi"
  [ -r /usr/share/keyrings/debian-archive-keyring.gpg ] || {
    say "the emulated Pi needs Debian's keys (sudo apt-get install debian-archive-keyring)"
    exit 1
  }
  python="${PYTHON:-$here/../../.venv/bin/python}"; [ -x "$python" ] || python=python3
  say "fetching an arm64 Python and its wheels for the emulated Pi (130 MB) ..."
  rm -rf "$to" && mkdir -p "$to/root/proc" "$to/root/sys/devices/system/cpu" "$to/work"
  debian "$to/work/arm64" arm64
  debian "$to/work/host" "$host"
  (
    cd "$to/work"
    APT_CONFIG=arm64/apt.conf apt-get install -y -q --download-only --no-install-recommends \
      $(cat "$here/pi_server/debian.txt")
    for deb in arm64/archives/*.deb; do dpkg-deb -x "$deb" "$to/root"; done
    APT_CONFIG=host/apt.conf apt-get download -q qemu-user-static
    dpkg-deb -x qemu-user-static*.deb qemu
    mv qemu/usr/bin/qemu-aarch64-static "$to/"
    "$python" -m pip install --quiet --no-deps --no-compile --only-binary=:all: --target "$to/site" \
      --implementation cp --python-version 3.11 \
      $(for one in 2_17 2_27 2_28 2_34; do echo "--platform manylinux_${one}_aarch64"; done) \
      --platform manylinux2014_aarch64 -r "$here/pi_server/requirements.txt"
  ) >"$to/build.log" 2>&1 || { tail -20 "$to/build.log" >&2; say "the emulated Pi could not be made; the whole log: $to/build.log"; exit 1; }
  # onnxruntime looks at the processor here, and would find that of this machine.
  cp "$here/pi_server/cpuinfo" "$to/root/proc/cpuinfo"
  echo 0-3 | tee "$to/root/sys/devices/system/cpu/possible" >"$to/root/sys/devices/system/cpu/present"
  QEMU_LD_PREFIX="$to/root" QEMU_CPU=cortex-a53 "$to/qemu-aarch64-static" "$to/root/usr/bin/python3.11" \
    -m compileall -q "$to/site" >>"$to/build.log" 2>&1 || true
  rm -rf "$to/work" "$to/root/usr/share"
  touch "$to/ready"
}

# Where this machine gets Debian 12 from.
archive() {
  local ask=(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 'Release: bookworm' 'Component: main') found
  found="$("${ask[@]}" | head -1)"
  if [ -z "$found" ] && [ "$(id -u)" = 0 ]; then
    apt-get update -qq >&2
    found="$("${ask[@]}" | head -1)"
  fi
  [ -n "$found" ] || { say "the emulated Pi is made of Debian 12, which this machine's apt does not know"; return 1; }
  echo "$found"
}

# debian FOLDER ARCHITECTURE: an apt that knows Debian 12 for this architecture and lives in this folder alone.
debian() {
  local from
  from="$(archive)"
  mkdir -p "$1/lists/partial" "$1/archives/partial"
  : >"$1/status"
  echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $from bookworm main" >"$1/sources.list"
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

systemd() { need systemd-analyze systemd "the check of the unit files"; }

flock 9
for one in "${@:-mosquitto kafka influxdb pi systemd}"; do
  for name in $one; do "$name"; done
done

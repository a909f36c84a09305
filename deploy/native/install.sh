#!/usr/bin/env bash
# The servers of a site without Docker, and of the tests: Mosquitto from the system's packages, Apache Kafka from Maven
# Central, InfluxDB built from its Go module. Each is made once, into a cache of this user, and named after what it was
# made of.
#   install.sh [mosquitto] [kafka] [influxdb]      all of them if none is named
set -euo pipefail
here="$(cd "$(dirname "$0")" && pwd)"
cache="${VITALLOOM_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/vitalloom}/services"
mkdir -p "$cache"
exec 9>"$cache/.lock"

say() { echo "services: $*" >&2; }

# need COMMAND PACKAGE WHY: a command, or its Debian package where that can be installed without asking.
need() {
  command -v "$1" >/dev/null || [ -x "/usr/sbin/$1" ] && return 0
  if [ -n "$2" ] && command -v apt-get >/dev/null && [ "$(id -u)" = 0 ]; then
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

flock 9
for one in "${@:-mosquitto kafka influxdb}"; do
  for name in $one; do "$name"; done
done

#!/usr/bin/env bash
# The real services that the tests talk to. Installs Mosquitto from the system's packages where that is possible without asking.
set -euo pipefail
if command -v mosquitto >/dev/null || [ -x /usr/sbin/mosquitto ]; then
  exit 0
fi
if command -v apt-get >/dev/null && [ "$(id -u)" = 0 ]; then
  apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq mosquitto >/dev/null
  # The package starts a broker of its own on some systems; the tests start theirs.
  exit 0
fi
echo "the tests need Mosquitto: install it (Debian, Raspberry Pi OS: sudo apt-get install mosquitto; macOS: brew install mosquitto)" >&2
exit 1

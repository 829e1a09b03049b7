#!/usr/bin/env bash
# Runs Stripe's own client libraries against the sandbox.
#
#   scripts/test-official.sh SANDBOX_BINARY [ARGUMENTS before the address]
#
# such as `scripts/test-official.sh target/debug/examples/sandbox` or
# `scripts/test-official.sh target/debug/recurd sandbox --listen`. The libraries are installed once, under target/.
set -euo pipefail

if [ $# -lt 1 ]; then
  echo "usage: $0 SANDBOX_BINARY [ARGUMENTS before the address]" >&2
  exit 2
fi
root=$(cd "$(dirname "$0")/.." && pwd)
flows=$root/tests/official
kit=${CARGO_TARGET_DIR:-$root/target}/official
mkdir -p "$kit/node"

if ! cmp -s "$flows/requirements.txt" "$kit/requirements.txt"; then
  python3 -m venv "$kit/venv"
  "$kit/venv/bin/pip" install --quiet --disable-pip-version-check -r "$flows/requirements.txt"
  cp "$flows/requirements.txt" "$kit/requirements.txt"
fi
if ! cmp -s "$flows/package.json" "$kit/node/package.json"; then
  cp "$flows/package.json" "$kit/node/package.json.new"
  (cd "$kit/node" && cp package.json.new package.json && npm install --silent --no-audit --no-fund) || {
    rm -f "$kit/node/package.json"
    exit 1
  }
fi

log=$kit/sandbox.log
"$@" 127.0.0.1:0 >"$log" 2>&1 &
sandbox=$!
trap 'kill "$sandbox" 2>/dev/null || true' EXIT
url=
for _ in $(seq 100); do
  url=$(grep -o 'http://[0-9.:]*' "$log" | head -n 1 || true)
  [ -n "$url" ] && break
  kill -0 "$sandbox" 2>/dev/null || break
  sleep 0.1
done
if [ -z "$url" ]; then
  echo "the sandbox did not start:" >&2
  cat "$log" >&2
  exit 1
fi

"$kit/venv/bin/python" "$flows/python_flow.py" "$url"
NODE_FLOW_MODULES="$kit/node" node "$flows/node_flow.mjs" "$url"

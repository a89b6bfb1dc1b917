#!/usr/bin/env bash
# Sets up whatever the tests need and runs them all. On Debian, missing servers are installed by apt-get (as root);
# elsewhere, install PostgreSQL 15, RabbitMQ 3.10, NATS 2.9, Prometheus with its push gateway and node exporter,
# amqp-tools, tmux, Python 3, Node.js 18 with npm, and groff first.
set -euo pipefail
cd "$(dirname "$0")/.."

missing=()
ls /usr/lib/postgresql/*/bin/postgres >/dev/null 2>&1 || command -v postgres >/dev/null || missing+=(postgresql)
[ -x /usr/lib/rabbitmq/bin/rabbitmq-server ] || missing+=(rabbitmq-server)
command -v nats-server >/dev/null || missing+=(nats-server)
command -v promtool >/dev/null || missing+=(prometheus)
command -v prometheus-pushgateway >/dev/null || missing+=(prometheus-pushgateway)
command -v prometheus-node-exporter >/dev/null || missing+=(prometheus-node-exporter)
command -v amqp-publish >/dev/null || missing+=(amqp-tools)
command -v setpriv >/dev/null || missing+=(util-linux)
# The screen is tried in a real terminal.
command -v tmux >/dev/null || missing+=(tmux)
# The reference worker runs scripts of it.
command -v python3 >/dev/null || missing+=(python3)
# The AsyncAPI document and the manual are held against tools that read them.
command -v node >/dev/null || missing+=(nodejs)
command -v npm >/dev/null || missing+=(npm)
command -v groff >/dev/null || missing+=(groff-base)

if [ ${#missing[@]} -gt 0 ]; then
    if ! command -v apt-get >/dev/null || [ "$(id -u)" -ne 0 ]; then
        echo "missing: ${missing[*]}; install them, or run this as root on Debian" >&2
        exit 1
    fi
    echo "installing ${missing[*]}"
    # The tests start servers of their own on free ports; the packages' services stay off.
    policy=/usr/sbin/policy-rc.d
    if [ ! -e "$policy" ]; then
        printf '#!/bin/sh\nexit 101\n' >"$policy"
        chmod 755 "$policy"
        trap 'rm -f /usr/sbin/policy-rc.d' EXIT
    fi
    export DEBIAN_FRONTEND=noninteractive
    apt-get update -qq
    apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
fi

# The contract is held against a parser of AsyncAPI documents, docker-compose.yml against the schema of such files.
parser=target/asyncapi
if ! cmp -s tests/contract/parser/package-lock.json "$parser/node_modules/.lock"; then
    mkdir -p "$parser"
    cp tests/contract/parser/package.json tests/contract/parser/package-lock.json "$parser"
    npm ci --prefix "$parser" --ignore-scripts --no-audit --no-fund
    cp "$parser/package-lock.json" "$parser/node_modules/.lock"
fi

cargo test --locked --no-fail-fast "$@"

#!/usr/bin/env bash
# Gives a command real neighbours, PostgreSQL and SMTP, and takes them away afterwards.
#
#   scripts/test-env.sh [--durable] [--] COMMAND [ARG...]
#
#   --durable   fsync and synchronous commits on, as in production: for benchmarks. Tests run without.
#               The cluster lies in $TMPDIR (default /tmp): for a benchmark that must be a real disk.
#
# COMMAND finds in its environment:
#   RECURD_TEST_POSTGRES_URL       a superuser's, so that each test can make its own database
#   RECURD_TEST_SMTP_URL           plain
#   RECURD_TEST_SMTP_STARTTLS_URL  STARTTLS and a login, both required
#   RECURD_TEST_SMTPS_URL          TLS from the first byte, and a login
#   RECURD_TEST_SMTP_CA_FILE       the authority that signed the server's certificate (localhost, 127.0.0.1)
#   RECURD_TEST_SMTP_DIR           where each accepted mail lies as an .eml file; see smtp_server.py
#   RECURD_TEST_CHROMIUM           a browser; unset when there is none (RECURD_INSTALL_CHROMIUM=1 installs Debian's)
#
# A RECURD_TEST_POSTGRES_URL, RECURD_TEST_SMTP_URL or RECURD_TEST_CHROMIUM that is set already is used as it is.
# Exit status: the command's, or 1 when an environment could not be made.
set -euo pipefail
# shellcheck source=scripts/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

# Limit: initdb and the first start take seconds; a busy machine may need some more.
START_SECS_MAX=90
# Limit: a fast shutdown of a small cluster takes under a second.
STOP_SECS_MAX=20
# Each try takes another free port, since another process may have been quicker.
PORT_TRIES_MAX=5
# Limit: every test has its own database and pool, and runners start one test per core.
CONNECTIONS_MAX=300

usage() { sed -n '2,/^set /{/^#/s/^# \{0,1\}//p}' "$0"; }

main() {
    local durable=no
    while [ $# -gt 0 ]; do
        case $1 in
        --durable) durable=yes ;;
        --help | -h) usage && exit 0 ;;
        --) shift && break ;;
        -*) say "unknown option $1" && usage >&2 && exit 2 ;;
        *) break ;;
        esac
        shift
    done
    [ $# -gt 0 ] || { usage >&2 && exit 2; }

    started=() # "SIGNAL PID" of our own processes, stopped in reverse order
    scene=     # our temporary directory
    trap tear_down EXIT
    scene=$(mktemp -d "${TMPDIR:-/tmp}/recurd-test.XXXXXX")
    chmod 711 "$scene" # the cluster's user must get through to its own part

    set_up_postgres "$durable"
    set_up_smtp
    set_up_chromium
    run "$@"
}

# The command gets our terminal and its signals; TERM sent to us alone is passed on.
run() {
    local status interrupted=yes
    (
        trap - INT QUIT # bash lets background commands ignore them
        exec "$@"
    ) <&0 &
    local command=$!
    trap 'interrupted=yes; kill -TERM "$command" 2>/dev/null' TERM HUP
    trap 'interrupted=yes' INT
    # A signal ends wait early, with a status that is not the command's.
    while [ $interrupted = yes ]; do
        interrupted=no status=0
        wait "$command" || status=$?
    done
    exit "$status"
}

tear_down() {
    local status=$? i
    trap - EXIT
    trap '' INT TERM HUP
    for ((i = ${#started[@]} - 1; i >= 0; i--)); do
        # shellcheck disable=SC2086  # two words
        stop ${started[i]}
    done
    if [ -n "$scene" ]; then rm -rf "$scene"; fi
    exit "$status"
}

stop() {
    local signal=$1 pid=$2
    kill -s "$signal" "$pid" 2>/dev/null || return 0
    wait_for "$STOP_SECS_MAX" gone "$pid" || {
        say "process $pid did not stop within $STOP_SECS_MAX s: killed"
        kill -KILL "$pid" 2>/dev/null || true
    }
    wait "$pid" 2>/dev/null || true
}
gone() { ! kill -0 "$1" 2>/dev/null; }

# in_background SIGNAL LOG COMMAND...: sets $pid. It runs in a session of its own, so that Ctrl-C does not reach it
# before the tests have ended. SIGNAL stops it, and --pdeathsig sends that too if we die without a chance to clean up.
in_background() {
    local signal=$1 log=$2
    shift 2
    setsid setpriv --pdeathsig "$signal" "$@" >>"$log" 2>&1 </dev/null &
    pid=$!
    started+=("$signal $pid")
}

# ---- PostgreSQL ----

set_up_postgres() {
    if [ -n "${RECURD_TEST_POSTGRES_URL:-}" ]; then
        say "PostgreSQL: the one in RECURD_TEST_POSTGRES_URL"
        return
    fi
    local bin
    bin=$(postgres_bin) || { apt_install postgresql && bin=$(postgres_bin); } ||
        die "no PostgreSQL 13 or newer, neither in PATH nor below /usr/lib/postgresql"
    find_postgres_user
    make_cluster "$bin"
    start_cluster "$bin" "$1"
    say "PostgreSQL: $("$bin/postgres" --version), port $postgres_port, durable: $1"
    export RECURD_TEST_POSTGRES_URL="postgres://recurd:$postgres_password@127.0.0.1:$postgres_port/postgres"
}

# The newest installation that is complete. Debian keeps its programs out of PATH.
postgres_bin() {
    local dir version
    for dir in $(printf '%s\n' /usr/lib/postgresql/*/bin | sort -rV) "$(dirname "$(command -v initdb || echo /none/-)")"; do
        [ -x "$dir/initdb" ] && [ -x "$dir/postgres" ] || continue
        version=$("$dir/postgres" --version | grep -oE '[0-9]+' | head -n 1)
        [ "$version" -ge 13 ] && echo "$dir" && return
    done
    return 1
}

# PostgreSQL refuses to run as root.
find_postgres_user() {
    postgres_as=()
    [ "$(id -u)" = 0 ] || return 0
    local name
    for name in postgres nobody; do
        id "$name" >/dev/null 2>&1 || continue
        postgres_as=(--reuid "$(id -u "$name")" --regid "$(id -g "$name")" --clear-groups)
        return
    done
    die "PostgreSQL does not run as root, and there is neither a user postgres nor nobody"
}

make_cluster() {
    postgres_password=$(od -An -N16 -tx1 /dev/urandom | tr -d ' \n')
    mkdir -m 700 "$scene/pg"
    echo "$postgres_password" >"$scene/pg/password"
    if [ ${#postgres_as[@]} -gt 0 ]; then chown -R "${postgres_as[1]}:${postgres_as[3]}" "$scene/pg"; fi
    # Durability is decided at the start; syncing an empty cluster now would only take time.
    (cd "$scene/pg" && timeout "$START_SECS_MAX" setpriv "${postgres_as[@]}" -- "$1/initdb" -D "$scene/pg/data" \
        -U recurd --pwfile "$scene/pg/password" -A scram-sha-256 -E UTF8 --locale=C --no-sync) \
        >"$scene/initdb.log" 2>&1 </dev/null || { cat "$scene/initdb.log" >&2 && die "initdb failed: see above"; }
}

start_cluster() {
    local bin=$1 pid try log=$scene/postgres.log
    local -a settings=(-c listen_addresses=127.0.0.1 -c "unix_socket_directories=$scene/pg"
        -c "max_connections=$CONNECTIONS_MAX")
    [ "$2" = yes ] || settings+=(-c fsync=off -c synchronous_commit=off -c full_page_writes=off)
    for ((try = 1; try <= PORT_TRIES_MAX; try++)); do
        postgres_port=$(free_port)
        # INT is PostgreSQL's fast shutdown.
        in_background INT "$log" "${postgres_as[@]}" -- \
            "$bin/postgres" -D "$scene/pg/data" -p "$postgres_port" "${settings[@]}"
        wait_for "$START_SECS_MAX" ready_or_gone "$bin" "$pid" || break
        gone "$pid" || return 0
        unset 'started[-1]'
        grep -q 'could not create any TCP/IP sockets' "$log" || break
    done
    cat "$log" >&2
    die "PostgreSQL did not start: see above"
}

# Asked through our own socket: the port might be answered by somebody else's server.
ready_or_gone() { gone "$2" || "$1/pg_isready" -q -h "$scene/pg" -p "$postgres_port"; }

free_port() {
    local port
    while :; do
        port=$((20000 + RANDOM % 12000)) # below the range from which Linux gives ports to outgoing connections
        (: <"/dev/tcp/127.0.0.1/$port") 2>/dev/null || { echo "$port" && return; }
    done
}

# ---- SMTP ----

set_up_smtp() {
    if [ -n "${RECURD_TEST_SMTP_URL:-}" ]; then
        say "SMTP: the one in RECURD_TEST_SMTP_URL"
        return
    fi
    local python pid plain starttls smtps login="mailer:smtp-test-password"
    python=$(python_venv smtp aiosmtpd==1.4.6) || exit 1
    make_certificate
    mkdir "$scene/mail"
    in_background TERM "$scene/smtp.log" -- "$python" "$ROOT/scripts/smtp_server.py" --mail-dir "$scene/mail" \
        --cert "$scene/server.pem" --key "$scene/server.key" --user "${login%%:*}" --password "${login#*:}" \
        --ready "$scene/smtp.ready"
    wait_for "$START_SECS_MAX" smtp_ready_or_gone "$pid" || say "the SMTP server is slow"
    [ -e "$scene/smtp.ready" ] || { cat "$scene/smtp.log" >&2 && die "the SMTP server did not start: see above"; }
    read -r plain starttls smtps <"$scene/smtp.ready"
    say "SMTP: $plain $starttls $smtps, mails in $scene/mail"
    export RECURD_TEST_SMTP_URL="smtp://127.0.0.1:${plain#*=}"
    export RECURD_TEST_SMTP_STARTTLS_URL="smtp://$login@localhost:${starttls#*=}?tls=required"
    export RECURD_TEST_SMTPS_URL="smtps://$login@localhost:${smtps#*=}"
    export RECURD_TEST_SMTP_CA_FILE="$scene/ca.pem"
    export RECURD_TEST_SMTP_DIR="$scene/mail"
}

smtp_ready_or_gone() { [ -e "$scene/smtp.ready" ] || gone "$1"; }

# An authority and a server certificate: rustls refuses a certificate that is both.
make_certificate() {
    have openssl || apt_install openssl
    local -a fresh=(-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes)
    {
        openssl req -x509 "${fresh[@]}" -days 2 -subj "/CN=recurd test authority" \
            -addext keyUsage=critical,keyCertSign -keyout "$scene/ca.key" -out "$scene/ca.pem"
        openssl req "${fresh[@]}" -subj "/CN=localhost" -keyout "$scene/server.key" -out "$scene/server.csr"
        openssl x509 -req -days 2 -in "$scene/server.csr" -CA "$scene/ca.pem" -CAkey "$scene/ca.key" -CAcreateserial \
            -extfile <(echo "subjectAltName=DNS:localhost,IP:127.0.0.1") -out "$scene/server.pem"
    } >"$scene/openssl.log" 2>&1 || { cat "$scene/openssl.log" >&2 && die "openssl made no certificate: see above"; }
}

# ---- Chromium ----

set_up_chromium() {
    [ -n "${RECURD_TEST_CHROMIUM:-}" ] && return
    if ! find_chromium && [ "${RECURD_INSTALL_CHROMIUM:-}" = 1 ]; then
        apt_install chromium
        find_chromium || die "Debian's chromium is installed, but not in PATH"
    fi
    if [ -n "${RECURD_TEST_CHROMIUM:-}" ]; then
        say "Chromium: $RECURD_TEST_CHROMIUM"
    else
        skipped "no Chromium, so no browser test: install it, or set RECURD_INSTALL_CHROMIUM=1"
    fi
}

find_chromium() {
    local name
    for name in chromium chromium-browser google-chrome google-chrome-stable; do
        RECURD_TEST_CHROMIUM=$(command -v "$name") && export RECURD_TEST_CHROMIUM && return
    done
    unset RECURD_TEST_CHROMIUM
    return 1
}

main "$@"

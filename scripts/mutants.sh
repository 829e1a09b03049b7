#!/usr/bin/env bash
# Breaks src/billing in every way that cargo-mutants knows, one at a time, and sees whether billing's own tests notice.
#
#   scripts/mutants.sh [CARGO-MUTANTS-ARG...]       such as --shard 0/4, -F inquiry
#
# Building the whole program for each of a thousand mutants would take a day. billing needs nothing else of it, so it is
# copied into a crate of its own below target/mutants, which builds in seconds. What survived stands in
# target/mutants/mutants.out/missed.txt. Exit status: cargo mutants' (2: some survived).
set -euo pipefail
# shellcheck source=scripts/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

CARGO=${CARGO:-cargo}
OUT=${CARGO_TARGET_DIR:-$ROOT/target}/mutants
CRATE=$OUT/crate
# Limit: the tests take seconds; a mutant that takes ten times as long goes round in circles.
TEST_SECS_MAX=60

main() {
    "$CARGO" mutants --version >/dev/null 2>&1 || die "needs cargo-mutants: run 'cargo install cargo-mutants --locked'"
    make_crate
    cd "$CRATE"
    # Not the program's own target directory: the little crate has the same name, since snapshots are named after it.
    unset CARGO_TARGET_DIR
    export INSTA_UPDATE=no INSTA_WORKSPACE_ROOT=$CRATE
    local tool=cargo
    # It stops at the first test that fails.
    if "$CARGO" nextest --version >/dev/null 2>&1; then tool=nextest; fi
    # In place, since this is a copy already: what the crate depends on is built once.
    "$CARGO" mutants --output "$OUT" --in-place --test-tool "$tool" --timeout "$TEST_SECS_MAX" --colors never "$@"
}

make_crate() {
    # A run that was interrupted may have left a half-written cache, which then does not link.
    rm -rf "$CRATE/src" "$CRATE/target/debug/incremental"
    mkdir -p "$CRATE/src"
    cp -r "$ROOT/src/billing" "$CRATE/src/"
    cp -r "$ROOT/data" "$ROOT/Cargo.lock" "$CRATE/"
    {
        printf '[package]\nname = "recurd"\nversion = "0.0.0"\nedition = "2024"\npublish = false\n\n[workspace]\n\n[dependencies]\n'
        dependencies jiff schemars serde thiserror uuid
        printf '\n[dev-dependencies]\n'
        dependencies insta proptest
        # Tests that go through whole worlds run ten times faster, and compiling little takes little.
        printf '\n[profile.dev]\nopt-level = 1\ndebug = false\n\n[profile.dev.package."*"]\nopt-level = 2\n'
    } >"$CRATE/Cargo.toml"
    cat >"$CRATE/src/lib.rs" <<'RUST'
//! The core alone, to be broken.
macro_rules! mutant {
    ($bug:ident) => {
        false
    };
}
pub mod billing;
RUST
}

# As the program's own manifest names them.
dependencies() {
    local name
    for name in "$@"; do
        grep -m 1 -E "^$name = " "$ROOT/Cargo.toml" || die "Cargo.toml does not name $name"
    done
}

main "$@"

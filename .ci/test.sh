#!/usr/bin/env bash
# Everything that must hold before a change lands: format, lints, unused dependencies, documentation, unit, doc and
# end-to-end tests, and damaged input for every decoder.
# Stops at the first part that fails, and always ends with one line 'N passed, N failed' over all test runners.
set -euo pipefail
cd "$(dirname "$0")/.."
log=target/test.log
passed=0
failed=0
complete=no

finish() {
    local status=$?
    if [ "$status" -ne 0 ] || [ "$complete" != yes ]; then
        [ "$failed" -gt 0 ] || failed=1
        [ "$status" -ne 0 ] || status=1
    fi
    echo "$passed passed, $failed failed"
    exit "$status"
}
trap finish EXIT

part() { printf '\n== %s\n' "$*" >&2; }

# Runs a test command, shows its output, and adds up its 'test result:' lines.
run_tests() {
    local status=0 counts
    "$@" 2>&1 | tee "$log" || status=$?
    counts=$(sed -n 's/^test result: .* \([0-9]*\) passed; \([0-9]*\) failed.*/\1 \2/p' "$log" |
        awk '{ p += $1; f += $2 } END { print p + 0, f + 0 }')
    passed=$((passed + ${counts% *}))
    failed=$((failed + ${counts#* }))
    [ "$status" -eq 0 ] || return "$status"
    [ "$failed" -eq 0 ]
}

part "set-up"
.ci/setup.sh test
# Always the same path from here on, whatever libtorch it leads to.
export LIBTORCH="$PWD/target/libtorch"

part "format"
cargo fmt --all --check

part "lints"
cargo clippy --release --locked --workspace --all-targets -- -D warnings

part "unused dependencies"
.ci/unused.sh

part "documentation"
RUSTDOCFLAGS="-D warnings" cargo doc --release --locked --workspace --no-deps --quiet

part "build"
# The programs that the end-to-end tests run, too: built with the features of the tests, so that nothing is built twice.
cargo test --release --locked --workspace --no-run

part "tests"
# A minute of damage for each decoder, unless something else is asked for.
export SQUALL_FUZZ_SECONDS="${SQUALL_FUZZ_SECONDS:-60}"
run_tests cargo test --release --locked --workspace --no-fail-fast

[ "$passed" -gt 0 ] || { echo "no test ran" >&2; exit 1; }
complete=yes

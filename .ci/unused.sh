#!/usr/bin/env bash
# Fails if a crate names a library that its code does not use. Needs what `.ci/setup.sh check` brings.
set -euo pipefail
cd "$(dirname "$0")/.."
PATH="$PWD/target/tools/bin:$PATH" exec cargo machete fields models operators connectors pipeline tests

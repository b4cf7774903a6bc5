#!/usr/bin/env bash
# Puts into target/ what Squall needs and cargo does not bring: libtorch, Apache Kafka's jars, Python, a tool of cargo's.
#
#   .ci/setup.sh build   what `make build` and `make demo` need: compilers, libraries, libtorch
#   .ci/setup.sh check   that, and what `make check` needs: rustfmt, clippy, cargo-machete
#   .ci/setup.sh test    that, and what the end-to-end tests need: Java, Kafka, Python packages, strace
#   .ci/setup.sh bench   what build needs, and a PyTorch to compare with
#
# Nothing outside the clone is touched but package caches and, for root on Debian or Ubuntu, system packages. Each step
# is written under a temporary name and renamed when complete, so a run that was cut short is simply repeated.
set -euo pipefail
cd "$(dirname "$0")/.."
what=${1:-test}
case $what in build | check | test | bench) ;; *) echo "usage: $0 [build|check|test|bench]" >&2; exit 2 ;; esac

torch_version=2.11.0
cudart_version=13.0.96
cupti_version=13.0.85
machete_version=0.9.2

mkdir -p target
exec 9>target/.setup.lock
flock 9

say() { echo "setup: $*" >&2; }
has() { command -v "$1" >/dev/null 2>&1; }
at_least() { [ "$(printf '%s\n%s\n' "$2" "$1" | sort -V | head -n1)" = "$2" ]; }

java_major() { java -version 2>&1 | sed -n 's/.* version "\([0-9]*\).*/\1/p' | head -n1; }

has_headers='import os, sys, sysconfig; sys.exit(not os.path.exists(sysconfig.get_path("include") + "/Python.h"))'

# Debian packages that are missing, one a line. What is checked is the thing itself, not the package, so that whatever
# was installed in another way counts.
missing_packages() {
    has gcc || echo gcc
    has g++ || echo g++
    has make || echo make
    has pkg-config || echo pkg-config
    pkg-config --exists openssl 2>/dev/null || echo libssl-dev
    pkg-config --exists hdf5 2>/dev/null || pkg-config --exists hdf5-serial 2>/dev/null || echo libhdf5-dev
    pkg-config --exists netcdf 2>/dev/null || echo libnetcdf-dev
    has python3 || echo python3
    python3 -c 'import venv, ensurepip' 2>/dev/null || echo python3-venv
    if [ "$what" = test ]; then
        # One of the tests' packages comes as source.
        python3 -c "$has_headers" 2>/dev/null || echo python3-dev
        local major
        major=$(has java && java_major || true)
        [ "${major:-0}" -ge 17 ] || echo openjdk-17-jre-headless
        has mvn || echo maven
        # One test looks at the program's system calls.
        has strace || echo strace
    fi
}

# Tools that no Debian package brings in the version needed: what is missing, with what to do about it.
missing_tools() {
    local rust
    rust=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml)
    if ! has cargo || ! has rustc; then
        echo "Rust $rust or newer: install it with rustup"
    elif ! at_least "$(rustc --version | cut -d' ' -f2)" "$rust"; then
        echo "Rust $rust or newer (found $(rustc --version | cut -d' ' -f2)): rustup update stable"
    fi
    if { [ "$what" = check ] || [ "$what" = test ]; } && has cargo; then
        cargo fmt --version >/dev/null 2>&1 || echo "rustfmt: rustup component add rustfmt"
        cargo clippy --version >/dev/null 2>&1 || echo "clippy: rustup component add clippy"
    fi
    if [ "$what" = test ] && has python3 && ! python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
        echo "Python 3.11 or newer (found $(python3 --version | cut -d' ' -f2)) as python3"
    fi
    case $(uname -sm) in
    "Linux x86_64" | "Linux aarch64") ;;
    *) [ -n "${LIBTORCH:-}" ] || echo "LIBTORCH: the folder of a libtorch $torch_version for $(uname -sm), set by you" ;;
    esac
}

system() {
    local packages tools
    packages=$(missing_packages | tr '\n' ' ')
    if [ -n "$packages" ] && [ "$(id -u)" = 0 ] && has apt-get; then
        say "installing $packages"
        export DEBIAN_FRONTEND=noninteractive
        { apt-get update -qq && apt-get install -y -qq --no-install-recommends $packages; } </dev/null >target/apt.log 2>&1 ||
            { tail -n 20 target/apt.log >&2; say "apt-get failed (target/apt.log)"; }
        packages=$(missing_packages | tr '\n' ' ')
    fi
    tools=$(missing_tools)
    [ -n "$packages$tools" ] || return 0
    {
        echo "Squall needs what is missing here:"
        [ -z "$tools" ] || sed 's/^/  - /' <<<"$tools"
        if [ -n "$packages" ]; then
            printf '  - %s\n' $packages
            echo "On Debian or Ubuntu this brings the packages:"
            echo "  sudo apt-get update && sudo apt-get install -y $packages"
        fi
    } >&2
    exit 1
}

# A bare environment is enough to fetch libtorch with its pip; the tests' packages come on top.
python_environment() {
    [ -x target/venv/bin/python ] && target/venv/bin/python -c 'import pip' 2>/dev/null && return 0
    say "making the Python environment target/venv"
    rm -rf target/venv
    python3 -m venv target/venv
}

python_packages() {
    local stamp
    stamp=$(sha256sum .ci/requirements.txt)
    [ "$(cat target/venv/squall-stamp 2>/dev/null)" = "$stamp" ] && return 0
    say "installing the tests' Python packages"
    # All that they need is in the list, but what they can do without.
    pip install --no-deps -r .ci/requirements.txt
    echo "$stamp" >target/venv/squall-stamp
}

pip() { target/venv/bin/python -m pip --disable-pip-version-check --no-input -q "$@"; }

# Any wheel for Linux carries the same C++ libraries, so one Python tag serves every Python.
wheel_flags() {
    local glibc
    echo "--only-binary=:all: --implementation cp --python-version 3.11"
    for glibc in $(seq 28 -1 17); do echo "--platform manylinux_2_${glibc}_$(uname -m)"; done
    echo "--platform manylinux2014_$(uname -m) --platform linux_$(uname -m)"
}

libtorch() {
    local kind=cpu stamp
    if [ -n "${LIBTORCH:-}" ] && [ "$(readlink -f "$LIBTORCH")" != "$(readlink -f target/libtorch)" ]; then
        [ -e "$LIBTORCH/lib/libtorch_cpu.so" ] || { say "LIBTORCH=$LIBTORCH holds no lib/libtorch_cpu.so"; exit 1; }
        say "using the libtorch in LIBTORCH=$LIBTORCH"
        rm -rf target/libtorch
        ln -s "$(readlink -f "$LIBTORCH")" target/libtorch
        return 0
    fi
    nvidia-smi -L >/dev/null 2>&1 && kind=cuda
    stamp="torch $torch_version $kind $(uname -m)"
    [ "$(cat target/libtorch/squall-stamp 2>/dev/null)" = "$stamp" ] && return 0
    # A link without a stamp was made from an earlier LIBTORCH, or by hand: it is the user's choice.
    [ -L target/libtorch ] && [ ! -e target/libtorch/squall-stamp ] && [ -e target/libtorch/lib/libtorch_cpu.so ] && return 0
    rm -rf target/libtorch.part
    "libtorch_$kind"
    echo "$torch_version" >target/libtorch.part/build-version
    echo "$stamp" >target/libtorch.part/squall-stamp
    check_libraries target/libtorch.part/lib/libtorch_cpu.so
    rm -rf target/libtorch
    mv -T target/libtorch.part target/libtorch
}

# The wheel is made for CUDA, but its CPU library stands alone with two small CUDA libraries. libtorch.so itself would
# pull in the GPU's, so an empty one takes its place.
libtorch_cpu() {
    say "fetching libtorch $torch_version for the CPU (530 MB, once)"
    rm -rf target/libtorch.wheels && mkdir -p target/libtorch.wheels
    pip download --no-deps $(wheel_flags) -d target/libtorch.wheels \
        "torch==$torch_version" "nvidia-cuda-runtime==$cudart_version" "nvidia-cuda-cupti==$cupti_version"
    target/venv/bin/python .ci/unpack_libtorch.py target/libtorch.wheels target/libtorch.part
    gcc -shared -Wl,-soname,libtorch.so -o target/libtorch.part/lib/libtorch.so -x c /dev/null
    rm -rf target/libtorch.wheels
}

# All of it, with the CUDA libraries beside it where its own run path looks for them.
libtorch_cuda() {
    say "fetching libtorch $torch_version for CUDA (3 GB, once)"
    rm -rf target/libtorch.site
    pip install --target target/libtorch.site $(wheel_flags) "torch==$torch_version"
    ln -s libtorch.site/torch target/libtorch.part
}

check_libraries() {
    local lost
    lost=$(LD_LIBRARY_PATH=$(dirname "$1") ldd "$1" | grep 'not found' || true)
    [ -z "$lost" ] || { say "libtorch lacks libraries:"; echo "$lost" >&2; exit 1; }
}

machete() {
    local stamp="cargo-machete $machete_version"
    [ "$(cat target/tools/squall-stamp 2>/dev/null)" = "$stamp" ] && return 0
    say "building cargo-machete $machete_version (once)"
    # Unoptimised: it is built in a third of the time, and reads a few hundred files once.
    cargo install --quiet --locked --debug --root target/tools --target-dir target/tools/build \
        cargo-machete --version "$machete_version"
    rm -rf target/tools/build
    echo "$stamp" >target/tools/squall-stamp
}

pytorch() {
    local stamp="torch $torch_version"
    [ "$(cat target/torch-venv/squall-stamp 2>/dev/null)" = "$stamp" ] && return 0
    say "installing PyTorch $torch_version (3 GB, once)"
    rm -rf target/torch-venv
    python3 -m venv target/torch-venv
    target/torch-venv/bin/python -m pip --disable-pip-version-check --no-input -q install "torch==$torch_version" numpy
    echo "$stamp" >target/torch-venv/squall-stamp
}

kafka() {
    local stamp
    stamp=$(sha256sum .ci/kafka/pom.xml)
    [ "$(cat target/kafka/squall-stamp 2>/dev/null)" = "$stamp" ] && return 0
    say "fetching Apache Kafka's jars (43 MB, once)"
    rm -rf target/kafka.part target/kafka
    mvn -q -B -Dstyle.color=never -f .ci/kafka/pom.xml dependency:copy-dependencies -DincludeScope=runtime \
        -DoutputDirectory="$PWD/target/kafka.part/libs" </dev/null
    echo "$stamp" >target/kafka.part/squall-stamp
    mv -T target/kafka.part target/kafka
}

# Runs steps side by side; fails if one does, once all have ended.
together() {
    local step pid failed=0 pids=()
    for step in "$@"; do
        "$step" &
        pids+=($!)
    done
    for pid in "${pids[@]}"; do wait "$pid" || failed=1; done
    return "$failed"
}

system
python_environment
libtorch
case $what in
check) machete ;;
test)
    # What compiles, what downloads, and both: together they take as long as the longest.
    together machete kafka python_packages
    ;;
bench) pytorch ;;
esac

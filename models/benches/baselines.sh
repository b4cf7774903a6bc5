#!/bin/sh
# `make bench-baselines`: Squall beside other programs, each pair in one run on the same cores.
#
#   steps          24 members, 12 leads, of two events: seconds, peak memory, CRPS at each lead; beside pysteps
#   extrapolation  motion and 12 leads, of the same events; beside pysteps
#   scores         nanoseconds a value on one thread; beside scores, scoringrules and SciPy
#   replay         an archive through Kafka with persistence: times real time
#
# PARTS="steps scores" runs some of them, MEMBERS and LEADS set their size. The first two need SQUALL_DATA.
set -eu
cd "$(dirname "$0")/../.."
parts=${PARTS:-steps extrapolation scores replay}
files="radar_mch_20150515.nc radar_fmi_20160928.nc"
python=$PWD/target/venv/bin/python
extra=$PWD/target/bench-python
examples=target/release/examples

# What other programs are fastest with is kept out of the tests' environment.
stamp="$("$python" --version) $(sha256sum models/benches/requirements.txt)"
if [ "$(cat "$extra/squall-stamp" 2>/dev/null)" != "$stamp" ]; then
    echo "installing what pysteps and scoringrules are fastest with into $extra (once)" >&2
    rm -rf "$extra"
    "$python" -m pip --disable-pip-version-check --no-input -q install --no-deps --target "$extra" \
        -r models/benches/requirements.txt
    echo "$stamp" >"$extra/squall-stamp"
fi
export PYTHONPATH="$extra"

if [ -z "${SQUALL_DATA:-}" ]; then
    echo "SQUALL_DATA is not set: it must name the folder that holds $files." >&2
    echo "STEPS and extrapolation are left out, and a simulated storm is replayed." >&2
else
    for file in $files; do
        [ -r "$SQUALL_DATA/$file" ] || { echo "SQUALL_DATA=$SQUALL_DATA holds no $file" >&2; exit 2; }
    done
fi

failed=0
for part in $parts; do
    printf '\n== %s\n' "$part"
    case $part in
    steps | extrapolation)
        if [ -z "${SQUALL_DATA:-}" ]; then
            echo "left out: SQUALL_DATA is not set"
        elif [ "$part" = extrapolation ]; then
            "$examples/baseline_speed" "$python" $files || failed=1
        else
            for file in $files; do
                # Threads are one a member in both programs, not within an operation.
                OMP_NUM_THREADS=1 "$examples/steps_speed" "$file" "${MEMBERS:-24}" "${LEADS:-12}" "$python" || failed=1
            done
        fi
        ;;
    scores) "$examples/scores_speed" "$python" || failed=1 ;;
    replay) target/release/replay || failed=1 ;;
    *) echo "PARTS: there is no part $part" >&2; exit 2 ;;
    esac
done
exit $failed

# Shared by the scripts beside it. Sourced, not run.
set -euo pipefail
repo=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
state=${PAAS_STATE:-$repo/.paas}
cache=${PAAS_CACHE:-$state/cache}
target=${CARGO_TARGET_DIR:-$repo/target}
export PAAS_CACHE=$cache
mkdir -p "$state" "$cache"

say() { printf '=====> %s\n' "$*" >&2; }
fail() { printf ' !     %s\n' "$*" >&2; exit 1; }

# Runs a named part and notes how long it took, for the table at the end.
timings=()
timed() {
    local name=$1 start end
    shift
    start=$(date +%s.%N)
    "$@"
    end=$(date +%s.%N)
    timings+=("$(printf '%-28s %7.1f s' "$name" "$(echo "$end $start" | awk '{print $1 - $2}')")")
}
show_timings() {
    [ ${#timings[@]} -eq 0 ] || printf '       %s\n' "${timings[@]}" >&2
}

# A Python with the packages of a file (NAME FILE [pip's flags]), in a folder of the cache that is named by what it should
# hold; afterwards $python is it.
python_with() {
    local name=$1 wanted=$2 folder
    shift 2
    folder=$cache/$name-$( (python3 --version; cat "$wanted") | sha256sum | cut -c1-12)
    if [ ! -f "$folder/complete" ]; then
        say "Installing the Python packages of ${wanted#"$repo/"}"
        rm -rf "$folder"
        python3 -m venv "$folder" >&2 || fail "python3-venv is missing: run scripts/setup test"
        "$folder/bin/pip" install --quiet --disable-pip-version-check "$@" -r "$wanted" >&2
        touch "$folder/complete"
    fi
    python=$folder/bin/python
}

# What builds in Docker need is made while our own programs are, which waits for the network half of its time: its answer goes
# into this file. `images_made` waits for the rest; `images_unwanted` is for who ends before.
making_images=
make_images() {
    "$repo/buildpacks/make-images" >"$1" &
    making_images=$!
}
images_made() {
    local made=0
    wait "$making_images" || made=$?
    making_images=
    return "$made"
}
images_unwanted() { [ -z "$making_images" ] || kill "$making_images" 2>/dev/null || true; }

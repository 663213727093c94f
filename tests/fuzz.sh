#!/usr/bin/env bash
# Fuzzes libwavenet with libFuzzer under the address and undefined-behaviour sanitizers, each target for SECONDS:
#
#     tests/fuzz.sh [SECONDS]      default 60
#
# Needs CMake, and Clang as CLANG (default clang++). Without Clang, the corpus is run once under the sanitizers of the
# default compiler. An input that fails is left in the current folder, as crash-*; libwavenet/tests/corpus is not changed.
set -euo pipefail
seconds=${1:-60} clang=${CLANG:-clang++}
tests=$(cd "$(dirname "$0")/../libwavenet/tests" && pwd)
build=$(mktemp -d)
trap 'rm -rf "$build"' EXIT
targets=(model stream)

compile() {  # options of CMake
    cmake -S "$tests/.." -B "$build" -DCMAKE_BUILD_TYPE=Release -DWAVENET_SHARED=OFF "$@" > "$build.log" ||
        { cat "$build.log"; exit 1; }
    cmake --build "$build" --parallel --target "${targets[@]/#/fuzz_}" > "$build.log" || { cat "$build.log"; exit 1; }
    rm "$build.log"
}

if command -v "$clang" > /dev/null; then
    compile -DCMAKE_CXX_COMPILER="$clang" -DWAVENET_FUZZ=ON
    for target in "${targets[@]}"; do
        mkdir "$build/$target" # receives what is found
        "$build/fuzz_$target" -max_total_time="$seconds" -max_len=20000 -malloc_limit_mb=64 -rss_limit_mb=2048 -timeout=10 \
            -verbosity=0 -print_final_stats=1 "$build/$target" "$tests/corpus/$target"
    done
else
    echo "no $clang: the corpus only"
    compile -DWAVENET_TESTS=ON -DCMAKE_CXX_FLAGS="-g -fsanitize=address,undefined -fno-sanitize-recover=all"
    for target in "${targets[@]}"; do "$build/fuzz_$target" "$tests/corpus/$target"/*; done
fi

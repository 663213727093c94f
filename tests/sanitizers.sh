#!/usr/bin/env bash
# Runs the native engine under the address, undefined-behaviour and thread sanitizers:
#
#     tests/sanitizers.sh
#
# - programs without Python (libwavenet/tests/stress.cpp and conditioning.cpp) under all three;
# - tests of the extension, built under the address and undefined-behaviour sanitizers.
#
# Needs GCC, CMake and an environment in which the tests run (PYTHON, default python), with nanobind and without an editable
# installation of wavenet, which would be tested instead.
set -euo pipefail
cd "$(dirname "$0")/.."
python=${PYTHON:-python}
build=$(mktemp -d)
trap 'rm -rf "$build"' EXIT

compile() {  # folder, sanitizers, sources, target, options of CMake
    cmake -S "$3" -B "$build/$1" -DCMAKE_BUILD_TYPE=Release \
        -DCMAKE_CXX_FLAGS="-g -fsanitize=$2 -fno-sanitize-recover=all -fno-omit-frame-pointer" "${@:5}" > "$build/$1.log"
    cmake --build "$build/$1" --parallel --target "$4" >> "$build/$1.log"
}

export UBSAN_OPTIONS=print_stacktrace=1
stress() {  # sanitizers, arguments of the program
    echo "== stress programs: $1"
    compile "stress-$1" "$1" libwavenet stress -DWAVENET_TESTS=ON -DWAVENET_SHARED=OFF
    "$build/stress-$1/stress" "${@:2}"
    cmake --build "$build/stress-$1" --target conditioning >> "$build/stress-$1.log"
    "$build/stress-$1/conditioning"
}
stress address,undefined
stress thread best  # ten times slower: only with the best kernels

echo "== Python tests: address,undefined"
compile extension address,undefined wavenet/engine _native -DPython_EXECUTABLE="$(command -v "$python")" \
    -Dnanobind_DIR="$("$python" -m nanobind --cmake_dir)"
mkdir "$build/path"
cp -r wavenet "$build/path/"
cp "$build"/extension/_native*.so "$build/path/wavenet/engine/"
# Python itself leaks by design; memory that is freed stays poisoned for a while, which tests of memory must not count
export ASAN_OPTIONS=detect_leaks=0:quarantine_size_mb=1
export LD_PRELOAD="$(gcc -print-file-name=libasan.so) $(gcc -print-file-name=libstdc++.so)" PYTHONPATH="$build/path"
"$python" -P -c 'import sys, wavenet.engine._native as n; sys.exit(not n.__file__.startswith(sys.argv[1]))' "$build" || {
    echo "an editable installation of wavenet hides the extension with sanitizers: use an environment without one" >&2
    exit 1
}
"$python" -m pytest tests/test_native.py tests/test_native_{analysis,conditioner,frames,sampling,processes}.py

#!/bin/sh
# SPDX-License-Identifier: MIT
# Installs into an empty folder, builds the examples against what was installed through pkg-config, runs them, and checks
# that the shared library exports trine_* and nothing else. Arguments: source folder, build folder.
set -eu

source_folder=${1:?source folder}
build=${2:?build folder}
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT

if ! DESTDIR="$place" meson install -C "$build" --no-rebuild >"$place/log" 2>&1; then
    cat "$place/log"
    exit 1
fi
pc=$(find "$place" -name trine.pc)
library=$(find "$place" -name 'libtrine.so')
program=$(find "$place" -type f -path '*/bin/trine')
for found in "$pc" "$library" "$program"; do
    if [ ! -e "$found" ]; then
        echo "not installed: library, program or pkg-config file"
        exit 1
    fi
done
libraries=$(dirname "$library")

foreign=$(nm -D --defined-only "$library" | awk '{print $NF}' | sed 's/@.*//' | grep -v '^trine_' || true)
if [ -n "$foreign" ]; then
    echo "exported, but not trine_*:"
    echo "$foreign"
    exit 1
fi
if nm -D --defined-only "$library" | grep -q ' trine__'; then
    echo "private functions (trine__*) are exported"
    exit 1
fi
nm -D --defined-only "$library" | grep -q ' trine_version' || {
    echo "trine_version is not exported"
    exit 1
}

export PKG_CONFIG_SYSROOT_DIR="$place"
PKG_CONFIG_PATH=$(dirname "$pc")
export PKG_CONFIG_PATH
# shellcheck disable=SC2046  # pkg-config prints a list of words
for example in compare finetune; do
    ${CC:-cc} -std=c11 -Wall -Wextra -Werror "$source_folder/examples/$example.c" -o "$place/$example" \
        $(pkg-config --cflags --libs trine)
done

# It runs against the installed library: two images, and the figure of an image with itself.
export LD_LIBRARY_PATH="$libraries"
mkdir -p "$place/data/a" "$place/data/b"
for class in a b; do
    for i in 1 2; do
        {
            printf 'P6\n32 32\n255\n'
            yes "$class$i trine" | head -c 3072
        } >"$place/data/$class/$i.ppm"
    done
done
"$program" --version
"$program" train --arch resnet20_cifar --data "$place/data" --epochs 1 --batch 2 --out "$place/w.safetensors" --quiet
same=$("$place/compare" "$place/w.safetensors" "$place/data/a/1.ppm" "$place/data/a/1.ppm")
other=$("$place/compare" "$place/w.safetensors" "$place/data/a/1.ppm" "$place/data/b/1.ppm")
echo "compare: $same with itself, $other with another"
[ "$same" = 1.0000 ]
if "$place/compare" "$place/missing" "$place/data/a/1.ppm" "$place/data/b/1.ppm" 2>"$place/error"; then
    echo "missing weights were not noticed"
    exit 1
fi
grep -q missing "$place/error"

# The example's recipe is that of the program: the same tensors.
"$place/finetune" "$place/w.safetensors" "$place/data" "$place/data" "$place/by_example.safetensors" 2
"$program" finetune --weights "$place/w.safetensors" --data "$place/data" --steps 2 --out "$place/by_program.safetensors" --quiet
"$program" inspect "$place/by_example.safetensors" "$place/by_program.safetensors" | tee "$place/difference"
grep -q ' 0 differ' "$place/difference"

#!/bin/sh
# SPDX-License-Identifier: MIT
# The law of the layers, read off the sources: includes point down only, tools and examples see public headers only,
# one file sets kernel arguments, one file includes CLBlast, no operator names a vendor. Argument: the source folder.
set -u

cd "${1:?source folder}" || exit 1
failures=0

# Report every line of stdin (FILE:...) as a breach of the rule.
breach() {
    while IFS= read -r line; do
        echo "$1: $line"
        echo x >>"$marks"
    done
}
marks=$(mktemp)
trap 'rm -f "$marks"' EXIT

# check_layer FOLDER ALLOWED...: quoted includes with a folder must begin with an allowed one.
check_layer() {
    folder=$1
    shift
    allowed=$(echo "$*" | tr ' ' '|')
    grep -rnE '^[[:space:]]*#[[:space:]]*include[[:space:]]*"[^"]*/' "$folder" --include='*.c' --include='*.h' |
        grep -vE "include[[:space:]]*\"($allowed)/" | breach "$folder may include $* only"
    grep -rnE '^[[:space:]]*#[[:space:]]*include[[:space:]]*"\.\.' "$folder" --include='*.c' --include='*.h' |
        breach "no include goes up by .."
}

check_layer src/base base trine
check_layer src/io base io trine
check_layer src/rt base rt trine
check_layer src/op base rt op trine
check_layer src/net base rt op net trine
check_layer src/learn base io rt op net learn trine
check_layer tools trine
check_layer examples trine
check_layer include/trine trine

# An include without a folder names a neighbour.
grep -rnE '^[[:space:]]*#[[:space:]]*include[[:space:]]*"[^"/]*"' src tools examples --include='*.c' --include='*.h' |
    while IFS=: read -r file line text; do
        header=$(printf '%s\n' "$text" | sed 's/.*"\(.*\)".*/\1/')
        [ -f "$(dirname "$file")/$header" ] || echo "$file:$line: $header"
    done | breach "a plain include names a file of the same folder"

grep -rln 'clSetKernelArg' src tools examples | grep -v '^src/rt/launch\.c$' | breach "clSetKernelArg is src/rt/launch.c's"
grep -rlniE '#[[:space:]]*include[[:space:]]*[<"]clblast' src tools examples | grep -v '^src/rt/blas\.c$' |
    breach "CLBlast is src/rt/blas.c's"
grep -rlE '#[[:space:]]*include[[:space:]]*<CL/' src tools examples | grep -v '^src/rt/' | breach "OpenCL is src/rt's"
grep -rnwiE 'nvidia|amd|intel|pocl|apple|qualcomm|mesa' src/op src/net | breach "no vendor in operators and networks"
grep -rnE '\b(exit|abort|printf|puts|perror)[[:space:]]*\(' src --include='*.c' | grep -vE '\b(v?s?n?printf|fprintf)\b.*format' |
    grep -E '[^a-z_](exit|abort|printf|puts|perror)[[:space:]]*\(' | breach "the library never prints or exits"

failures=$(wc -l <"$marks")
[ "$failures" -eq 0 ] || exit 1
echo "the layers hold"

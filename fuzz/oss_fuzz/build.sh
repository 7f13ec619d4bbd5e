#!/bin/bash -eu
# SPDX-License-Identifier: GPL-2.0-only
# What OSS-Fuzz and ClusterFuzzLite run in their image. SRC, OUT, WORK, CC, CFLAGS, SANITIZER and
# compile_python_fuzzer are theirs; the kernel's files are in $SRC/linux (kernel.sh).

cd "$SRC/cleanrace"
pip3 install .

# The preloaded library must be of the Atheris that is packed, which pip may just have replaced.
case $SANITIZER in
address) preloaded=asan_with_fuzzer.so ;;
undefined) preloaded=ubsan_with_fuzzer.so ;;
*) preloaded= ;;
esac
if [ -n "$preloaded" ]; then
	cp "$(python3 -c 'import atheris; print(atheris.path())')/$preloaded" \
		"$OUT/sanitizer_with_fuzzer.so"
fi

prepared=$WORK/cleanrace
python3 fuzz/oss_fuzz/pack.py --kernel "$SRC/linux" --into "$prepared"

# Left out is what only other programs of fuzz/ need.
compile_python_fuzzer fuzz/oss_fuzz/fuzz_cleancache.py \
	--paths="$SRC/cleanrace" \
	--hidden-import=_cffi_backend \
	--exclude-module=build \
	--exclude-module=hypothesis \
	--exclude-module=atheris.custom_crossover \
	--add-binary="$prepared/packed/_cleanrace.so:packed" \
	--add-binary="$prepared/packed/mutate.so:packed" \
	--add-data="$prepared/packed/info.json:packed" \
	--add-data="$SRC/cleanrace/corpus/litmus:corpus/litmus" \
	--add-data="$SRC/cleanrace/corpus/findings:corpus/findings"

cp "$prepared"/fuzz_cleancache* "$OUT"

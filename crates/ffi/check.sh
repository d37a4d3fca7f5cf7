#!/bin/sh
# Builds the library, looks through its symbols, compiles its header as C and C++, compares the
# layouts, runs what a caller can do wrong and the example. Needs gcc, g++ and binutils.
set -eu
cd "$(dirname "$0")"
target=${CARGO_TARGET_DIR:+$CARGO_TARGET_DIR/ffi}
target=${target:-$PWD/target}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

cargo fmt --check
cargo clippy --quiet --locked --all-targets --target-dir "$target" -- -D warnings
cargo test --quiet --locked --target-dir "$target" >"$work/log" 2>&1 || { cat "$work/log" >&2; exit 1; }
cargo build --quiet --locked --release --target-dir "$target"
lib=$target/release/libidentmap_ffi.a

# As crates/nostd-check does it: what can be reached from C, without std, alloc and libc but for the
# five functions that compiler_builtins has on a bare target.
roots=$(sed -n 's/^.*\(identmap_[a-z_]*\)(.*$/\1/p' include/identmap.h | sort -u | sed '/^identmap_status_$/d')
set --
for root in $roots; do set -- "$@" -u "$root"; done
ld -r --gc-sections "$@" -o "$work/all.o" "$lib"
objcopy -R .llvmbc -R .llvmcmd "$work/all.o"
nm "$work/all.o" >"$work/symbols"
if grep -E '__rust_(alloc|dealloc|realloc)|__rdl_|__rg_|[0-9]+(std|alloc)[0-9]+[a-z]|_ZN(3std|5alloc)|(malloc|free|pthread_.*|_Unwind_.*)$' "$work/symbols"; then
	echo "ffi: the symbols above belong to std, alloc or libc" >&2
	exit 1
fi
if nm -u "$work/all.o" | grep -Ev ' (memcpy|memmove|memset|memcmp|bcmp|rust_eh_personality)$'; then
	echo "ffi: the symbols above are missing" >&2
	exit 1
fi
# Every function that is exported is in the header, and the other way round.
nm "$work/all.o" | sed -n 's/^.* T \(identmap_.*\)$/\1/p' | sort >"$work/exported"
grep -ho 'extern "C" fn identmap_[a-z_]*' src/ffi.rs | sed 's/.* //' | sort >"$work/written"
diff "$work/written" "$work/exported"
echo "$roots" | diff - "$work/exported"

flags="-Wall -Wextra -Wpedantic -Werror -g -Iinclude"
cc -c -o "$work/hosted.o" tests/hosted.c
for test in layout misuse; do
	cc -std=c11 $flags -o "$work/$test-c" "tests/$test.c" "$work/hosted.o" "$lib"
	g++ -std=c++17 -x c++ $flags -c -o "$work/$test.o" "tests/$test.c"
	g++ -o "$work/$test-cpp" "$work/$test.o" "$work/hosted.o" "$lib"
done
for language in c cpp; do
	"$work/layout-$language" | diff tests/layout.txt -
	"$work/misuse-$language"
done
cc -std=c11 $flags -o "$work/plan" examples/c/plan.c "$work/hosted.o" "$lib"
"$work/plan" | diff examples/c/plan.txt -
echo "ffi: $(wc -l <"$work/exported") functions, as C11 and C++17; $(wc -c <"$lib") bytes; layouts, misuse and example as expected"

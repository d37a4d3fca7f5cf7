#!/bin/sh
# Builds the core without std, looks through its symbols, runs it. See README.md.
set -eu
cd "$(dirname "$0")"
target=${CARGO_TARGET_DIR:-$PWD/target}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

for features in "" x86_64; do
	for profile in dev release; do
		cargo build --quiet --locked --target-dir "$target" --profile "$profile" --features "$features"
		case $profile in dev) out=debug ;; *) out=release ;; esac
		lib=$target/$out/libnostd_check.a

		# What is left when everything that cannot be reached is dropped.
		ld -r --gc-sections -u identmap_nostd_check -o "$work/all.o" "$lib"
		# nm trips over bitcode.
		objcopy -R .llvmbc -R .llvmcmd "$work/all.o"
		nm "$work/all.o" >"$work/symbols"
		if grep -E '__rust_(alloc|dealloc|realloc)|__rdl_|__rg_|[0-9]+(std|alloc)[0-9]+[a-z]|_ZN(3std|5alloc)|(malloc|free|pthread_.*|_Unwind_.*)$' "$work/symbols"; then
			echo "nostd-check: the symbols above belong to std, alloc or libc" >&2
			exit 1
		fi
		# A bare target's compiler_builtins has these five; nothing else may be missing, but for
		# what the unwinding tables name: the host's core was built to unwind, a bare one's is not.
		if nm -u "$work/all.o" | grep -Ev ' (memcpy|memmove|memset|memcmp|bcmp|rust_eh_personality)$'; then
			echo "nostd-check: the symbols above are missing" >&2
			exit 1
		fi
		cc -o "$work/run" main.c "$lib"
		"$work/run" || { echo "nostd-check: step $? failed" >&2; exit 1; }
		echo "nostd-check: $profile${features:+ with $features}: $(wc -l <"$work/symbols") symbols, none of std or alloc; it runs"
	done
done

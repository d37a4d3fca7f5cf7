#!/bin/sh
# Runs every fuzz target, two at a time, and prints a table. See README.md.
#   fuzz/run.sh SECONDS [TARGET...]
set -eu
cd "$(dirname "$0")"
seconds=${1:?"usage: fuzz/run.sh SECONDS [TARGET...]"}
shift
targets=${*:-$(sed -n 's/^name = "\(.*\)"$/\1/p' Cargo.toml | tail -n +2 | sort)}
build=${CARGO_TARGET_DIR:-$PWD/target}
host=$(rustc -vV | sed -n 's/^host: //p')

if ! command -v cargo-fuzz >/dev/null; then
	echo "fuzz/run.sh: cargo-fuzz is not installed: cargo install --locked cargo-fuzz" >&2
	exit 2
fi
# `-s none`: no sanitizer, so that stable will do; there is no unsafe code to watch.
(cd .. && cargo fuzz build -s none --target-dir "$build") >&2

# Real texts to begin with, cut down to what the target adds itself.
seed() {
	mkdir -p "corpus/$1" "artifacts/$1" logs
	case $1 in
	parse_sysfs) printf '0/start 0x0\n0/end 0x9ffff\n0/type System RAM\n1/phys_addr 0x1000\n1/num_pages 0x8f\n1/type 0x7\n1/attribute 0xf\n' >"corpus/$1/both" ;;
	parse_*) cp -n ../testdata/machines/*.txt "corpus/$1/" ;;
	range_text) printf '0x0000000000001000-0x000000000009ffff' >"corpus/$1/dmesg" && printf '4G+512M' >"corpus/$1/size" ;;
	verdict)
		# Kernels that are not known, then a text; and a pair that decides something.
		for file in ../testdata/machines/*.txt; do
			{ printf '\000\000\000' && cat "$file"; } >"corpus/$1/any-${file##*/}"
			{ printf '\006\006\020' && cat "$file"; } >"corpus/$1/6.12-${file##*/}"
		done
		;;
	live)
		# Its format: kind, length in two bytes, content. Kind 0 is the log, 1 is /proc/iomem.
		for file in ../testdata/machines/uv-2019-* ../testdata/machines/001-* ../testdata/machines/laptop-*; do
			{ printf '\000\377\177' && head -c 32767 "$file"; } >"corpus/$1/log-${file##*/}"
			{ printf '\001\377\177' && head -c 32767 "$file"; } >"corpus/$1/iomem-${file##*/}"
		done
		;;
	bundle)
		cp -n ../testdata/bundles/*.json "corpus/$1/"
		# Small, and with one of everything; the target adds the checksum.
		cat >"corpus/$1/text" <<-'END'
			{"schema":"identmap.bundle/1","made_by":"x","redacted":false,"left_out":["a"],"text":["~",3,"BIOS-e820: [mem 0x0-0xfff] usable"],
			"memory":[{"what":"acpi-rsdp","start":"0x1000","base64":"AAEC"}],"tables":[{"image":"crash","not_read":"no"},
			{"image":"kexec","root":"0x1000","levels":4,"maxphyaddr":46,"pdpe1gb":true,"encryption_mask":"0x0","counts":[1,1,1,1,0],"segments":[["0x0","0xfff"]],
			"leaves":[{"virt":"0x0","phys":"0x0","page":"2M","count":3,"flags":"0xe3","rights":[true,false,true]}]}]}
		END
		cat >"corpus/$1/live" <<-'END'
			{"schema":"identmap.bundle/1","made_by":"x","redacted":false,"left_out":[],"memory":[],"tables":[],"cpuid":[{"leaf":"0x1","subleaf":"0x0","registers":["0x0","0x1","0x2","0x3"]}],
			"live":{"/sys/firmware/efi":true,"dmesg":{"unreadable":"no"},"/proc/iomem":null,"/proc/cmdline":"quiet","/sys/kernel/boot_params/data":{"zeros":70},"kernel config":{"base64":"AAEC"},
			"/sys/firmware/memmap":{"files":{"0":{"start":"0x0","end":"0xfff","type":{"unreadable":"no"}},"1":{"start":"0x1000"}}},"/sys/class/dmi/id":{"files":{"sys_vendor":"a"}},"/sys/firmware/sgi_uv":null}}
		END
		;;
	dumps) cp -n ../testdata/dumps/*.txt "corpus/$1/" ;;
	# Zero, and the hand-made one is taken unchanged.
	btf | core_file) printf '\000' >"corpus/$1/whole" ;;
	kallsyms) printf 'ffffffff82000010 D phys_base\nffffffff82000018 B kexec_image\nffffffffc0000000 b pfn_mapped\t[m]\n0000000000000000 b vmemmap_base\n' >"corpus/$1/some" ;;
	loaded_image) for kernel in 0 1 2 3 4 5 6 7; do printf "\\00$kernel" >"corpus/$1/kernel-$kernel"; done ;;
	kernel_file) for file in 0 1 2 3 4 5 6 7 8; do printf "\\00$file" >"corpus/$1/made-$file"; done ;;
	live_boot_params) [ -e "corpus/$1/zero" ] || head -c 4096 /dev/zero >"corpus/$1/zero" ;;
	esac
	[ ! -d "regressions/$1" ] || find "regressions/$1" -type f -exec cp -n {} "corpus/$1/" \;
}

longest() {
	case $1 in
	plan | tables | loaded_image | decode_tables) echo 512 ;;
	btf | core_file | kernel_file) echo 4096 ;;
	range_text) echo 80 ;;
	*) echo 32768 ;;
	esac
}

run() {
	seed "$1"
	RUST_BACKTRACE=0 "$build/$host/release/$1" -max_total_time="$seconds" -max_len="$(longest "$1")" -timeout=20 \
		-rss_limit_mb=2048 -print_final_stats=1 -artifact_prefix="artifacts/$1/" "corpus/$1" >"logs/$1" 2>&1 || true
}

line() {
	execs=$(sed -n 's/^stat::number_of_executed_units: *//p' "logs/$1" | tail -n 1)
	# A run that failed has no final line: its last report counts.
	[ -n "$execs" ] || execs=$(sed -n 's/^#\([0-9]*\).*/\1/p' "logs/$1" | tail -n 1)
	cov=$(sed -n 's/.* cov: \([0-9]*\).*/\1/p' "logs/$1" | tail -n 1)
	crashes=$(find "artifacts/$1" -type f | wc -l)
	printf '%-20s %12s %8s %8s\n' "$1" "${execs:-?}" "${cov:-?}" "$crashes"
}

set -- $targets
while [ $# -gt 0 ]; do
	run "$1" &
	first=$!
	if [ $# -gt 1 ]; then
		shift
		run "$1" &
		wait $! || true
	fi
	wait "$first" || true
	shift
done

printf '%-20s %12s %8s %8s\n' target execs cov crashes
found=0
for target in $targets; do
	line "$target"
	[ -z "$(find "artifacts/$target" -type f)" ] || found=1
done
if [ "$found" = 1 ]; then
	echo "The tests to paste are in fuzz/logs; the inputs in fuzz/artifacts." >&2
fi
exit "$found"

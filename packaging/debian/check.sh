#!/bin/sh
# Installs a .deb in a clean root, uses it, removes it, and looks for what is left. Needs root.
#
# usage: check.sh DEB ROOT.tar [REPORTS]
#
# REPORTS: a directory for what was seen: check.txt, bundle.json, report.html.
set -eu

deb=$(realpath "$1")
tar=$(realpath "$2")
keep=${3:+$(realpath "$3")}
root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT
trap 'exit 130' INT TERM HUP

fail() {
	echo "check.sh: $*" >&2
	exit 1
}

inside() {
	chroot "$root" /usr/bin/env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C.UTF-8 DEBIAN_FRONTEND=noninteractive "$@"
}

# Without the databases of dpkg, apt and man, logs and caches, which every package changes.
files() {
	(cd "$root" && find . -path ./var/lib/dpkg -prune -o -path ./var/lib/apt -prune -o -path ./var/log -prune \
		-o -path ./var/cache -prune -o -path ./dev -prune -o -path ./tmp -prune -o -print) | sort
}

tar -C "$root" --exclude=./dev/* -xf "$tar"
[ -e "$root/dev/null" ] || mknod -m 666 "$root/dev/null" c 1 3
files >"$root/tmp/before"
cp "$deb" "$root/tmp/identmap.deb"

inside apt-get install -y --no-install-recommends /tmp/identmap.deb >"$root/tmp/log" 2>&1 ||
	{ cat "$root/tmp/log" >&2; fail "apt-get install: failed"; }
cmp -s "$root/tmp/before" "$root/dev/null" && fail "the list of files is empty"
inside dpkg --verify identmap | grep . && fail "dpkg --verify: the files above are not as packed"

# A verdict, from what is known to what can be acted on (docs/install.md goes the same way).
answers() {
	wanted=$1 word=$2 file=$3
	shift 3
	status=0
	inside identmap check "$@" >"$root/tmp/$file" || status=$?
	[ "$status" = "$wanted" ] && grep -q "^$word " "$root/tmp/$file" && return
	cat "$root/tmp/$file" >&2
	fail "check $*: status $status, not $wanted, or not $word"
}
table=0xc7a01018+360
answers 3 UNKNOWN check-1.txt sample:laptop-2024 --consumer 6.12.30
answers 1 UNSAFE check-2.txt sample:laptop-2024 --consumer 6.12.30 --producer 6.7.6 --sev on --config-table $table
answers 0 SAFE check-3.txt sample:laptop-2024 --consumer 6.12.30 --producer 6.12.30 --sev on --la57 off --config-table $table
# A bundle to attach; it is read like the machine.
inside identmap capture sample:laptop-2024 -o /tmp/bundle.json >"$root/tmp/capture.txt" 2>&1
answers 1 UNSAFE again.txt /tmp/bundle.json --consumer 6.12.30 --producer 6.7.6 --sev on --config-table $table
# A report to read.
inside identmap report /tmp/bundle.json --consumer 6.12.30 --producer 6.7.6 --sev on --config-table $table \
	-o /tmp/report.html >"$root/tmp/report.txt" 2>&1
grep -q '</html>' "$root/tmp/report.html" || fail "the report is not a whole HTML file"
# The engine is in it.
inside identmap preflight --help >"$root/dev/null" || fail "no preflight"

for page in 8:identmap 8:identmap-check 5:identmap-bundle 5:identmap-json; do
	inside man -w "${page%%:*}" "${page#*:}" >"$root/dev/null" || fail "no manual page ${page#*:}(${page%%:*})"
	inside man -l --warnings "$(inside man -w "${page%%:*}" "${page#*:}")" >"$root/tmp/page" 2>"$root/tmp/warnings" ||
		fail "man ${page#*:}"
	[ -s "$root/tmp/warnings" ] && { cat "$root/tmp/warnings" >&2; fail "groff warns of ${page#*:}"; }
	grep -q "${page#*:}" "$root/tmp/page" || fail "${page#*:} prints nothing"
done
for command in $(inside identmap --help | sed -n '/^Commands:/,/^$/s/^  \([a-z]*\) .*/\1/p'); do
	[ "$command" = help ] || inside man -w 8 "identmap-$command" >"$root/dev/null" || fail "no manual page identmap-$command(8)"
done
inside bash -c '. /usr/share/bash-completion/completions/identmap && complete -p identmap' >"$root/dev/null" ||
	fail "bash has no completion"
[ -z "$keep" ] || cp "$root"/tmp/*.txt "$root/tmp/bundle.json" "$root/tmp/report.html" "$keep"

inside apt-get purge -y identmap >"$root/tmp/log" 2>&1 || { cat "$root/tmp/log" >&2; fail "apt-get purge: failed"; }
files >"$root/tmp/after"
diff "$root/tmp/before" "$root/tmp/after" || fail "the files above were left behind or taken along"
echo "deb: installed, used and purged in a clean root; nothing is left"

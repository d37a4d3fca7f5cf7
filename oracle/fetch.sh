#!/usr/bin/env bash
# Fetches Linux's own arch/x86/mm/ident_map.c out of Debian's linux-source packages.
#
#   oracle/fetch.sh            every series below
#   oracle/fetch.sh 6.1 7.x    only these
#
# Each file goes to CACHE/linux-source/SERIES/ident_map.c, with the exact package version beside it
# in package.txt. CACHE is the repository's .cache (ignored by git), or $IDENTMAP_CACHE. What is
# there already is not fetched again. Nothing else stays on the disk, and nothing of the system's
# own apt state is touched, so any user can run it. Mirrors and signatures: tools/apt-private.sh.
#
# Exit status: 0 all there; 1 a series could not be had (the others are fetched all the same);
# 2 usage, or the machine cannot do it at all.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=../tools/apt-private.sh
source "$here/../tools/apt-private.sh"

readonly ALL_SERIES=(5.10 6.1 6.12 7.x)

main() {
    local cache series failed=()
    command -v xz >/dev/null || die "xz is not installed (package: xz-utils)"
    cache=${IDENTMAP_CACHE:-$here/../.cache}/linux-source
    [[ $# -gt 0 ]] || set -- "${ALL_SERIES[@]}"
    for series in "$@"; do
        apt_private_kernel_suites "$series" >/dev/null || die "no such series: $series (there are: ${ALL_SERIES[*]})"
    done
    mkdir -p "$cache"
    cache=$(cd "$cache" && pwd)

    for series in "$@"; do
        apt_private_step "$series" "$cache/$series" fetch "$series" || failed+=("$series")
    done
    if [[ ${#failed[@]} -gt 0 ]]; then
        say "not fetched: ${failed[*]}"
        exit 1
    fi
}

# The package's name as an extended regular expression.
pattern_of() {
    case $1 in
        7.x) echo '^linux-source-7\.[0-9]+$' ;;
        *) echo "^linux-source-${1//./\\.}\$" ;;
    esac
}

fetch() {
    local series=$1 into=$2 package deb version work="$scratch/source-$1"
    # shellcheck disable=SC2046 # suites are words
    apt_private_newest "$series" "$(pattern_of "$series")" "$work" $(apt_private_kernel_suites "$series") || return 1
    version=$(dpkg-deb -f "$deb" Version) || return 1
    extract "$deb" "$package" "$work/ident_map.c" || return 1
    mkdir -p "$into" || return 1
    mv "$work/ident_map.c" "$into/ident_map.c" || return 1
    echo "$package $version" | apt_private_complete "$into" || return 1
    rm -rf "$work"
}

# One file out of the tar.xz inside the .deb, streamed. The inner tar stops at the file, so what
# stands before it in the pipe ends with a broken pipe: its status says nothing (apt has checked
# the package's hash); the inner tar's own does, and the file found.
extract() {
    local deb=$1 name=$2 to=$3 status
    set +o pipefail
    dpkg-deb --fsys-tarfile "$deb" 2>/dev/null |
        tar -xO "./usr/src/$name.tar.xz" 2>/dev/null |
        tar -xJO --occurrence=1 "$name/arch/x86/mm/ident_map.c" >"$to"
    status=$?
    set -o pipefail
    [[ $status -eq 0 ]] && grep -q kernel_ident_mapping_init "$to" || {
        say "$name: arch/x86/mm/ident_map.c cannot be had from $(basename "$deb")"
        return 1
    }
}

main "$@"

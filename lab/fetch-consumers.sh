#!/usr/bin/env bash
# Fetches kernels of other builds, and images that are no kernels, for `identmap-truth consumers`.
#
#   lab/fetch-consumers.sh             every one that is not there yet
#   lab/fetch-consumers.sh NAME...     only these
#   lab/fetch-consumers.sh --renew     newer ones, if the archive has any
#
#   CACHE/consumers/NAME/      vmlinuz, package.txt (name and version): 5 to 15 MB each
#
# CACHE and where packages come from: as in lab/fetch.sh. Of a package only the image is kept.
#
# Exit status: 0 all there; 1 something could not be had (the others are fetched all the same);
# 2 usage, or the machine cannot do it at all.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=../tools/apt-private.sh
source "$here/../tools/apt-private.sh"

# NAME | suites | packages, an extended regular expression | the image in them, a pattern of find -path
readonly CONSUMERS='
bullseye-generic   | bullseye bullseye-security | ^linux-image-5\.10\.0-[0-9]+-amd64-unsigned$              | */vmlinuz*
bullseye-rt        | bullseye bullseye-security | ^linux-image-5\.10\.0-[0-9]+-rt-amd64-unsigned$           | */vmlinuz*
bullseye-6.1       | bullseye-security          | ^linux-image-6\.1\.0-0\.deb11\.[0-9]+-amd64-unsigned$     | */vmlinuz*
bookworm-generic   | bookworm bookworm-security | ^linux-image-6\.1\.0-[0-9]+-amd64-unsigned$               | */vmlinuz*
bookworm-rt        | bookworm bookworm-security | ^linux-image-6\.1\.0-[0-9]+-rt-amd64-unsigned$            | */vmlinuz*
bookworm-backports | bookworm-backports         | ^linux-image-6\.[0-9.]+[^-]*-amd64-unsigned$              | */vmlinuz*
trixie-generic     | trixie trixie-security     | ^linux-image-6\.12\.[0-9]+[^-]*-amd64-unsigned$           | */vmlinuz*
trixie-rt          | trixie trixie-security     | ^linux-image-6\.12\.[0-9]+[^-]*-rt-amd64-unsigned$        | */vmlinuz*
trixie-backports   | trixie-backports           | ^linux-binary-7\.[0-9.]+[^-]*-amd64$                      | */vmlinuz*
sid-generic        | sid                        | ^linux-binary-7\.[0-9.]+[^-]*-amd64$                      | */vmlinuz*
memtest86+         | trixie bookworm            | ^memtest86[+]$                                            | */boot/m*x64*
ipxe               | trixie bookworm            | ^ipxe$                                                    | */ipxe.lkrn
memdisk            | trixie bookworm            | ^syslinux-common$                                         | */memdisk
'

main() {
    local renew='' name suites pattern path wanted=' ' failed=()
    while [[ $# -gt 0 ]]; do
        case $1 in
            --renew) renew=yes ;;
            -*) die "no such option: $1" ;;
            *)
                grep -qE "^${1//[^a-z0-9.-]/.} *\|" <<<"$CONSUMERS" || die "no such consumer: $1"
                wanted+="$1 "
                ;;
        esac
        shift
    done
    cache=${IDENTMAP_CACHE:-$here/../.cache}
    mkdir -p "$cache/consumers"
    cache=$(cd "$cache" && pwd)
    # A regular expression may hold a |, so fields are parted by one between blanks.
    while IFS=$'\t' read -r name suites pattern path; do
        [[ $wanted == ' ' || $wanted == *" $name "* ]] || continue
        [[ -z $renew ]] || rm -f "$cache/consumers/$name/package.txt"
        apt_private_step "$name" "$cache/consumers/$name" fetch_image "$name" "$suites" "$pattern" "$path" </dev/null ||
            failed+=("$name")
    done < <(sed -nE 's/ +\| +/\t/gp' <<<"$CONSUMERS")
    if [[ ${#failed[@]} -gt 0 ]]; then
        say "not fetched: ${failed[*]}"
        exit 1
    fi
}

fetch_image() {
    local name=$1 suites=$2 pattern=$3 path=$4 into=$5 package deb image version work="$scratch/image-$1"
    # shellcheck disable=SC2086 # suites are words
    apt_private_newest "$name" "$pattern" "$work" $suites || return 1
    # Only the image: a generic kernel's package unpacks to hundreds of megabytes.
    image=$(dpkg-deb --fsys-tarfile "$deb" | tar -t | find_path "$path" | head -n 1) || true
    [[ -n $image ]] || {
        say "$name: no $path in $package"
        return 1
    }
    version=$(dpkg-deb -f "$deb" Version) || return 1
    mkdir -p "$into" || return 1
    dpkg-deb --fsys-tarfile "$deb" | tar -xO "$image" >"$into/vmlinuz" || return 1
    rm -rf "$work"
    echo "$package $version" | apt_private_complete "$into" || return 1
}

# Lines of standard input that a shell pattern matches.
find_path() {
    local line
    while read -r line; do
        # shellcheck disable=SC2254 # a pattern is wanted
        case $line in $1) [[ $line == */ ]] || echo "$line" ;; esac
    done
}

main "$@"

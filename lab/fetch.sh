#!/usr/bin/env bash
# Fetches what the lab boots: Debian's kernels, the guest's user space, QEMU and firmware.
#
#   lab/fetch.sh               everything that is not there yet
#   lab/fetch.sh 6.1 7.x       only these kernels (and what every guest needs)
#   lab/fetch.sh --renew       newer kernels, if the archive has any
#
#   CACHE/kernels/SERIES/      vmlinuz, config, efivarfs.ko, package.txt (name and version)
#   CACHE/guest/               busybox, kexec and its libraries, as they lie in the initramfs
#   CACHE/makedumpfile/        makedumpfile, its loader and libraries
#   CACHE/stub/                systemd's EFI stub, for unified kernel images
#   CACHE/qemu.txt             versions of QEMU and the firmware packages
#
# CACHE is the repository's .cache (ignored by git), or $IDENTMAP_CACHE. QEMU and the firmware are
# the machine's own packages: as root they are installed, otherwise the command to run is shown.
# The system's apt state is not touched for the rest.
#
# Exit status: 0 all there; 1 something could not be had (the others are fetched all the same);
# 2 usage, or the machine cannot do it at all.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=../tools/apt-private.sh
source "$here/../tools/apt-private.sh"

readonly ALL_SERIES=(5.10 6.1 6.12 7.x)
readonly HOST_PACKAGES=(qemu-system-x86 ovmf seabios)

main() {
    local renew='' series wanted=() failed=()
    while [[ $# -gt 0 ]]; do
        case $1 in
            --renew) renew=yes ;;
            -*) die "no such option: $1" ;;
            *)
                apt_private_kernel_suites "$1" >/dev/null || die "no such series: $1 (there are: ${ALL_SERIES[*]})"
                wanted+=("$1")
                ;;
        esac
        shift
    done
    [[ ${#wanted[@]} -gt 0 ]] || wanted=("${ALL_SERIES[@]}")
    cache=${IDENTMAP_CACHE:-$here/../.cache}
    mkdir -p "$cache/kernels"
    cache=$(cd "$cache" && pwd)

    host_packages || failed+=(qemu)
    apt_private_step guest "$cache/guest" fetch_guest || failed+=(guest)
    apt_private_step makedumpfile "$cache/makedumpfile" fetch_makedumpfile || failed+=(makedumpfile)
    apt_private_step stub "$cache/stub" fetch_stub || failed+=(stub)
    for series in "${wanted[@]}"; do
        # A kernel fetched before its module was of interest is fetched again.
        [[ -z $renew && -s $cache/kernels/$series/efivarfs.ko ]] || rm -f "$cache/kernels/$series/package.txt"
        apt_private_step "$series" "$cache/kernels/$series" fetch_kernel "$series" || failed+=("$series")
    done
    if [[ ${#failed[@]} -gt 0 ]]; then
        say "not fetched: ${failed[*]}"
        exit 1
    fi
}

# The name of a series' package. 7.x is split in two packages: the image alone is in linux-binary-*,
# and it lies under usr/lib/modules.
pattern_of() {
    case $1 in
        7.x) echo '^linux-binary-7\.[0-9]+\.[0-9]+[^-]*-cloud-amd64$' ;;
        6.12) echo '^linux-image-6\.12\.[0-9]+[^-]*-cloud-amd64-unsigned$' ;;
        *) echo "^linux-image-${1//./\\.}\\.0-[0-9]+-cloud-amd64-unsigned\$" ;;
    esac
}

fetch_kernel() {
    local series=$1 into=$2 package deb image config module version work="$scratch/kernel-$1"
    # shellcheck disable=SC2046 # suites are words
    apt_private_newest "$series" "$(pattern_of "$series")" "$work" $(apt_private_kernel_suites "$series") || return 1
    dpkg -x "$deb" "$work/root" || return 1
    image=$(find "$work/root" -name 'vmlinuz*' -type f | head -n 1)
    config=$(find "$work/root" \( -name 'config-*' -o -path '*/modules/*/config' \) -type f | head -n 1)
    [[ -n $image ]] || {
        say "$series: no vmlinuz in $package"
        return 1
    }
    # Where the image has a package of its own, the modules have another.
    if [[ $package == linux-binary-* ]]; then
        apt_private_download "$work/modules" "linux-modules-${package#linux-binary-}" || return 1
        dpkg -x "$(find "$work/modules" -name '*.deb' | head -n 1)" "$work/root" || return 1
    fi
    module=$(find "$work/root" -name 'efivarfs.ko*' -type f | head -n 1)
    [[ -n $module ]] || {
        say "$series: no efivarfs.ko beside $package"
        return 1
    }
    version=$(dpkg-deb -f "$deb" Version) || return 1
    mkdir -p "$into" || return 1
    cp "$image" "$into/vmlinuz" || return 1
    case $module in
        *.xz) xz -dc "$module" >"$into/efivarfs.ko" || return 1 ;;
        *) cp "$module" "$into/efivarfs.ko" || return 1 ;;
    esac
    [[ -z $config ]] || cp "$config" "$into/config" || return 1
    echo "$package $version" | apt_private_complete "$into" || return 1
    rm -rf "$work"
}

# busybox is static; kexec is not, and brings its libraries.
fetch_guest() {
    local into=$1 work="$scratch/guest" codename
    codename=$(. /etc/os-release && echo "${VERSION_CODENAME:-}")
    case $codename in
        bookworm | trixie | forky | duke) ;;
        *) codename=bookworm ;;
    esac
    apt_private_suites "$codename" "$codename-security" || return 1
    unpack_with_libraries "$work" kexec-tools busybox-static || return 1
    rm -rf "$into" || return 1
    mkdir -p "$into/bin" "$into/lib64" "$into/lib" || return 1
    cp "$(find "$work/root" -path '*bin/busybox' | head -n 1)" "$into/bin/busybox" || return 1
    cp "$(find "$work/root" -path '*bin/kexec' | head -n 1)" "$into/bin/kexec" || return 1
    copy_loader_and_libraries "$work/root" "$into/bin/kexec" "$into/lib64" "$into/lib" || return 1
    versions_of "$work" busybox-static kexec-tools | apt_private_complete "$into" || return 1
    rm -rf "$work"
}

# The newest there is, with the C library that it wants: how it reads a dump depends on the kernel's version.
fetch_makedumpfile() {
    local into=$1 work="$scratch/makedumpfile"
    apt_private_suites trixie sid || return 1
    unpack_with_libraries "$work" makedumpfile || return 1
    rm -rf "$into" || return 1
    mkdir -p "$into/lib" || return 1
    cp "$(find "$work/root" -path '*bin/makedumpfile' -type f | head -n 1)" "$into/makedumpfile" || return 1
    copy_loader_and_libraries "$work/root" "$into/makedumpfile" "$into" "$into/lib" || return 1
    versions_of "$work" makedumpfile | apt_private_complete "$into" || return 1
    rm -rf "$work"
}

fetch_stub() {
    local into=$1 work="$scratch/stub"
    apt_private_suites trixie || return 1
    say "downloading systemd-boot-efi"
    apt_private_download "$work" systemd-boot-efi || return 1
    for deb in "$work"/*.deb; do dpkg -x "$deb" "$work/root" || return 1; done
    mkdir -p "$into" || return 1
    cp "$(find "$work/root" -name linuxx64.efi.stub -type f | head -n 1)" "$into/" || return 1
    versions_of "$work" systemd-boot-efi | apt_private_complete "$into" || return 1
    rm -rf "$work"
}

# Downloads PACKAGE and the closure of the library packages it depends on, and OTHER packages without
# theirs, and unpacks all of them into WORK/root.
unpack_with_libraries() {
    local work=$1 package dep deb seen=' ' queue=("$2") packages=("${@:3}")
    while [[ ${#queue[@]} -gt 0 ]]; do
        package=${queue[0]}
        queue=("${queue[@]:1}")
        [[ $seen != *" $package "* ]] || continue
        seen+="$package "
        packages+=("$package")
        while read -r dep; do
            case $dep in lib* | zlib*) queue+=("$dep") ;; esac
        done < <(apt-cache "${apt_options[@]}" depends "$package" | sed -nE 's/^ *\|?(Pre)?Depends: ([a-z0-9.+-]+)$/\2/p')
    done
    say "downloading ${#packages[@]} packages: ${*:2} and libraries"
    apt_private_download "$work" "${packages[@]}" || return 1
    for deb in "$work"/*.deb; do dpkg -x "$deb" "$work/root" || return 1; done
}

# Copies the loader below ROOT and those libraries that it asks for to run PROGRAM.
copy_loader_and_libraries() {
    local root=$1 program=$2 loader_into=$3 into=$4 dirs
    dirs=$(find "$root" -type d -name x86_64-linux-gnu -path '*lib/*' | paste -sd:)
    cp -L "$(find "$root" -name 'ld-linux-x86-64.so.2' -type f | head -n 1)" "$loader_into/" || return 1
    "$loader_into/ld-linux-x86-64.so.2" --library-path "$dirs" --list "$program" >"$scratch/libraries" || return 1
    if grep 'not found' "$scratch/libraries" >&2; then
        say "the libraries of ${program##*/} are not complete"
        return 1
    fi
    awk '$2 == "=>" && $1 !~ /ld-linux/ { print $3 }' "$scratch/libraries" | xargs cp -L -t "$into/" || return 1
}

# One line: name and version of each PACKAGE as downloaded into WORK.
versions_of() {
    local work=$1 package deb
    shift
    for package in "$@"; do
        deb=$(find "$work" -maxdepth 1 -name "${package}_*.deb" | head -n 1)
        echo "$package $(dpkg-deb -f "$deb" Version)"
    done | paste -sd' '
}

# QEMU and firmware: the machine's own.
host_packages() {
    local package missing=() as_root=()
    for package in "${HOST_PACKAGES[@]}"; do
        dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing+=("$package")
    done
    if [[ ${#missing[@]} -gt 0 ]]; then
        if [[ $(id -u) -ne 0 ]]; then
            sudo -n true 2>/dev/null || {
                say "qemu: not installed; run: sudo apt-get install --no-install-recommends ${missing[*]}"
                return 1
            }
            as_root=(sudo -n)
        fi
        say "qemu: installing ${missing[*]}"
        "${as_root[@]}" apt-get -q update >/dev/null 2>&1 || true
        "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive \
            apt-get -qy install --no-install-recommends "${missing[@]}" >"$cache/qemu.log" 2>&1 || {
            say "qemu: could not be installed:"
            grep '^E:' "$cache/qemu.log" | sed -E "s/^/    /; $hide_hosts; s/ *\[IP:[^]]*\]//" >&2
            return 1
        }
        rm -f "$cache/qemu.log"
    fi
    dpkg-query -W -f '${Package} ${Version}\n' "${HOST_PACKAGES[@]}" | sort | paste -sd' ' >"$cache/qemu.txt" || return 1
    say "qemu: $(<"$cache/qemu.txt")"
}

main "$@"

#!/usr/bin/env bash
# Fetches Linux's own arch/x86/mm/ident_map.c out of Debian's linux-source packages.
#
#   oracle/fetch.sh            every series below
#   oracle/fetch.sh 6.1 7.x    only these
#
# Each file goes to CACHE/linux-source/SERIES/ident_map.c, with the exact package version beside it
# in package.txt. CACHE is the repository's .cache (ignored by git), or $IDENTMAP_CACHE. What is
# there already is not fetched again. Nothing else stays on the disk, and nothing of the system's
# own apt state is touched, so any user can run it.
#
# The mirrors are the ones this machine's own apt sources name. Packages are taken only from suites
# whose signature the installed archive keyring confirms; there is no way round that here.
#
# Exit status: 0 all there; 1 a series could not be had (the others are fetched all the same);
# 2 usage, or the machine cannot do it at all.
set -euo pipefail

readonly ALL_SERIES=(5.10 6.1 6.12 7.x)

main() {
    local here cache series failed=()
    here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
    cache=${IDENTMAP_CACHE:-$here/../.cache}/linux-source
    [[ $# -gt 0 ]] || set -- "${ALL_SERIES[@]}"
    for series in "$@"; do
        suites_of "$series" >/dev/null || die "no such series: $series (there are: ${ALL_SERIES[*]})"
    done
    mkdir -p "$cache"
    cache=$(cd "$cache" && pwd)

    for series in "$@"; do
        if [[ -s $cache/$series/ident_map.c && -s $cache/$series/package.txt ]]; then
            say "$series: cached, $(<"$cache/$series/package.txt")"
            continue
        fi
        prepare
        # A subshell, so that one series out of reach does not take the others with it; its status
        # is kept in a variable because `set -e` is off inside the condition of an `if`.
        local status=0
        (set -e; fetch "$series" "$cache/$series") || status=$?
        [[ $status -eq 0 ]] || failed+=("$series")
    done
    if [[ ${#failed[@]} -gt 0 ]]; then
        say "not fetched: ${failed[*]}"
        exit 1
    fi
}

# The package's name as an extended regular expression, and where it is looked for. Suites are in
# order of preference only among equals: the highest version wins.
pattern_of() {
    case $1 in
        7.x) echo '^linux-source-7\.[0-9]+$' ;;
        *) echo "^linux-source-${1//./\\.}\$" ;;
    esac
}
suites_of() {
    case $1 in
        5.10) echo bullseye bullseye-security ;;
        6.1) echo bookworm bookworm-security ;;
        6.12) echo trixie trixie-security ;;
        7.x) echo trixie-backports sid ;;
        *) return 1 ;;
    esac
}

fetch() {
    local series=$1 into=$2 work="$scratch/$1" suite uri name deb version
    mkdir -p "$work"/{lists/partial,cache/archives/partial,deb}
    chmod -R a+rX "$work"
    for suite in $(suites_of "$series"); do
        case $suite in
            *-security) uri=$security_mirror ;;
            *) uri=$main_mirror ;;
        esac
        [[ -n $uri ]] || continue
        echo "deb [arch=amd64 signed-by=$keyring] $uri $suite main" >>"$work/sources.list"
    done

    local options=(
        -q -o Dir::Etc::sourcelist="$work/sources.list" -o Dir::Etc::sourceparts=-
        -o Dir::State::Lists="$work/lists" -o Dir::Cache="$work/cache"
        -o Dir::Etc::preferences=/dev/null -o Dir::Etc::preferencesparts=/dev/null
        -o APT::Architecture=amd64 -o APT::Architectures=amd64
        -o Acquire::Languages=none -o Acquire::Retries=3 -o Acquire::AllowInsecureRepositories=false
    )
    # apt-get update ends with 0 when some suites failed, and with 100 when all did: what counts is
    # whether a package is found afterwards, and if none is, what apt said.
    apt-get "${options[@]}" update >"$work/update.log" 2>&1 || true
    name=$(apt-cache "${options[@]}" search --names-only "$(pattern_of "$series")" |
        cut -d' ' -f1 | sort -V | tail -n 1)
    if [[ -z $name ]]; then
        if grep -qE 'NO_PUBKEY|EXPKEYSIG|is not signed|verif|signature' "$work/update.log"; then
            say "$series: the signature of $(suites_of "$series") cannot be checked with $keyring;"
            say "  not trusted without it. A newer package debian-archive-keyring may have the key. apt said:"
        else
            say "$series: no package matches $(pattern_of "$series") in $(suites_of "$series"). apt said:"
        fi
        grep -E '^(W|E|Err)' "$work/update.log" | sed -E "s/^/  /; $hide_hosts" >&2 || true
        return 1
    fi
    if grep -qE '^(W|E|Err)' "$work/update.log"; then
        say "$series: some of $(suites_of "$series") could not be read; going on with what could:"
        grep -E '^(W|E)' "$work/update.log" | sed -E "s/^/  /; $hide_hosts" >&2 || true
    fi

    say "$series: downloading $name"
    (cd "$work/deb" && apt-get "${options[@]}" download "$name") >"$work/download.log" 2>&1 || {
        say "$series: apt-get download $name failed:"
        sed -E "s/^/  /; $hide_hosts" "$work/download.log" >&2
        return 1
    }
    deb=$(find "$work/deb" -name '*.deb' | head -n 1)
    version=$(dpkg-deb -f "$deb" Version)
    extract "$deb" "$name" "$work/ident_map.c"
    rm -rf "$work/deb"

    mkdir -p "$into"
    mv "$work/ident_map.c" "$into/ident_map.c"
    echo "$name $version" >"$into/package.txt"
    say "$series: $name $version"
}

# One file out of the tar.xz inside the .deb, streamed. The inner tar stops at the file, so what
# stands before it in the pipe ends with a broken pipe: its status says nothing (apt has checked
# the package's hash), the file found is what counts.
extract() {
    local deb=$1 name=$2 to=$3
    set +o pipefail
    dpkg-deb --fsys-tarfile "$deb" 2>/dev/null |
        tar -xO "./usr/src/$name.tar.xz" 2>/dev/null |
        tar -xJO --occurrence=1 "$name/arch/x86/mm/ident_map.c" >"$to"
    set -o pipefail
    grep -q kernel_ident_mapping_init "$to" || {
        say "$name: arch/x86/mm/ident_map.c is not where it was expected in $(basename "$deb")"
        return 1
    }
}

# Once, and only if something has to be fetched: tools, keyring, mirrors, a scratch directory.
prepare() {
    [[ -z ${scratch:-} ]] || return 0
    local tool found
    for tool in apt-get apt-cache dpkg-deb tar xz awk; do
        command -v "$tool" >/dev/null || die "$tool is not installed (packages: apt dpkg tar xz-utils mawk)"
    done
    for found in /usr/share/keyrings/debian-archive-keyring.{gpg,pgp}; do
        [[ -r $found ]] && keyring=$found && break
    done
    [[ -n ${keyring:-} ]] || die "no archive keyring: install debian-archive-keyring"

    main_mirror=$(own_sources | awk '$2 !~ /-security$|\/updates$/ { print $1 }' | best_mirror)
    security_mirror=$(own_sources | awk '$2 ~ /-security$|\/updates$/ { print $1 }' | best_mirror)
    [[ -n $main_mirror ]] || die "no Debian mirror in /etc/apt/sources.list or sources.list.d"
    # Without one of its own, a mirror usually carries the security archive as a sibling.
    [[ -n $security_mirror ]] || security_mirror=$(sed -nE 's#/debian/?$#/debian-security#p' <<<"$main_mirror")

    scratch=$(mktemp -d "${TMPDIR:-/var/tmp}/identmap-fetch.XXXXXX")
    trap 'rm -rf "$scratch"' EXIT
    chmod 755 "$scratch" # apt drops to the user _apt when it runs as root
}

# The machine's own apt sources as lines "URI SUITE", Debian suites with the component main only.
own_sources() {
    {
        sed -nE 's/^[[:space:]]*deb[[:space:]]+(\[[^]]*\][[:space:]]*)?//p' \
            /etc/apt/sources.list /etc/apt/sources.list.d/*.list 2>/dev/null |
            awk '{ for (i = 3; i <= NF; i++) if ($i == "main") print $1, $2 }' || true
        # deb822: paragraphs of "Field: value", a value going on over indented lines.
        cat /etc/apt/sources.list.d/*.sources 2>/dev/null | awk '
            function flush(   i, j, n, m, u, s) {
                if (f["types"] ~ /(^| )deb( |$)/ && f["enabled"] !~ /no|false/ &&
                    (" " f["components"] " ") ~ / main /) {
                    n = split(f["uris"], u, " "); m = split(f["suites"], s, " ")
                    for (i = 1; i <= n; i++) for (j = 1; j <= m; j++) print u[i], s[j]
                }
                split("", f)
            }
            /^#/ { next }
            /^[[:space:]]*$/ { flush(); next }
            /^[[:space:]]/ { sub(/^[[:space:]]+/, ""); f[key] = f[key] " " $0; next }
            { key = tolower($0); sub(/:.*/, "", key); sub(/^[^:]*:[[:space:]]*/, ""); f[key] = $0 }
            END { flush() }' || true
    } | awk '$2 ~ /^(bullseye|bookworm|trixie|forky|duke|sid|stable|oldstable|oldoldstable|testing|unstable)([-\/](updates|security|backports))?$/'
}

# Other archives use Debian's suite names too, so an address that ends as Debian's do comes first.
best_mirror() {
    awk '{ sub(/\/$/, "", $1) }
         $1 ~ /\/debian(-security)?$|^mirror\+/ { if (!good) good = $1 }
         !any { any = $1 }
         END { print good ? good : any }'
}

readonly hide_hosts='s#([a-z+]+://)[^/ ]+#\1…#g'
say() { printf '%s\n' "$*" >&2; }
die() {
    say "fetch.sh: $*"
    exit 2
}

main "$@"

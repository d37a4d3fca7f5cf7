# shellcheck shell=bash
# Debian packages of any suite, without touching the system's apt state. To be sourced.
#
#   apt_private_begin             tools, keyring, mirrors, a scratch directory ($scratch, removed at exit)
#   apt_private_suites SUITE...   read these suites' package lists; later calls look only there
#   apt_private_matching REGEX    package names that match (extended regular expression), newest first
#   apt_private_download DIR PACKAGE...
#   apt_private_newest NAME REGEX DIR SUITE...       download the newest that matches; sets $package and $deb
#   apt_private_kernel_suites SERIES                 where a kernel series is: 5.10, 6.1, 6.12 or 7.x
#   apt_private_step NAME DIR FUNCTION ARGUMENT...   run FUNCTION ARGUMENT... DIR, unless DIR/package.txt is there
#
# Functions return 1 when something fails. They are called where `set -e` has no effect (left of `||`),
# so each of their steps, and each step of what apt_private_step runs, says `|| return 1` itself.
#
# The mirrors are the ones this machine's own apt sources name, in either format; a machine that is
# not Debian says them in IDENTMAP_DEBIAN_MIRROR (and IDENTMAP_DEBIAN_SECURITY_MIRROR). Packages are
# taken only from suites whose signature the installed archive keyring confirms.

say() { printf '%s\n' "$*" >&2; }
die() {
    say "${0##*/}: $*"
    exit 2
}
readonly hide_hosts='s#([a-z+]+://)[^/ ]+#\1…#g'

# What is fetched is complete when its package.txt is there, which is therefore written last, by a
# rename. In a subshell, so that one thing out of reach does not take the others with it.
apt_private_step() {
    local name=$1 into=$2
    shift 2
    if [[ -s $into/package.txt ]]; then
        say "$name: cached, $(head -n 1 "$into/package.txt")"
        return 0
    fi
    apt_private_begin
    (trap - EXIT; "$@" "$into") || return 1
    [[ -s $into/package.txt ]] || {
        say "$name: fetched, but its package.txt is not there"
        return 1
    }
    say "$name: $(head -n 1 "$into/package.txt")"
}

# Writes package.txt from standard input.
apt_private_complete() {
    local into=$1
    cat >"$into/package.txt.new" && [[ -s $into/package.txt.new ]] &&
        mv "$into/package.txt.new" "$into/package.txt"
}

apt_private_begin() {
    [[ -z ${scratch:-} ]] || return 0
    local tool found
    for tool in apt-get apt-cache dpkg dpkg-deb tar awk sort; do
        command -v "$tool" >/dev/null || die "$tool is not installed (packages: apt dpkg tar mawk coreutils)"
    done
    for found in /usr/share/keyrings/debian-archive-keyring.{gpg,pgp}; do
        [[ -r $found ]] && keyring=$found && break
    done
    [[ -n ${keyring:-} ]] || die "no archive keyring: install debian-archive-keyring"

    main_mirror=${IDENTMAP_DEBIAN_MIRROR:-$(apt_own_sources | awk '$2 !~ /-security$|\/updates$/ { print $1 }' | apt_best_mirror)}
    security_mirror=${IDENTMAP_DEBIAN_SECURITY_MIRROR:-$(apt_own_sources | awk '$2 ~ /-security$|\/updates$/ { print $1 }' | apt_best_mirror)}
    [[ -n $main_mirror ]] ||
        die "no Debian mirror in /etc/apt/sources.list or sources.list.d; set IDENTMAP_DEBIAN_MIRROR"
    # Without one of its own, a mirror usually carries the security archive as a sibling.
    [[ -n $security_mirror ]] || security_mirror=$(sed -nE 's#/debian/?$#/debian-security#p' <<<"$main_mirror")

    scratch=$(mktemp -d "${TMPDIR:-/var/tmp}/identmap-apt.XXXXXX") || die "no scratch directory"
    trap 'rm -rf "$scratch"' EXIT
    chmod 755 "$scratch" # apt drops to the user _apt when it runs as root
}

apt_private_suites() {
    local work="$scratch/${1//\//_}" suite uri
    mkdir -p "$work"/{lists/partial,cache/archives/partial} || return 1
    : >"$work/sources.list" || return 1
    for suite in "$@"; do
        case $suite in
            *-security) uri=$security_mirror ;;
            *) uri=$main_mirror ;;
        esac
        [[ -n $uri ]] || continue
        echo "deb [arch=amd64 signed-by=$keyring] $uri $suite main" >>"$work/sources.list" || return 1
    done
    apt_options=(
        -q -o Dir::Etc::sourcelist="$work/sources.list" -o Dir::Etc::sourceparts=-
        -o Dir::State::Lists="$work/lists" -o Dir::Cache="$work/cache" -o Dir::State::status=/dev/null
        -o Dir::Etc::preferences=/dev/null -o Dir::Etc::preferencesparts=/dev/null
        -o APT::Architecture=amd64 -o APT::Architectures=amd64
        -o APT::Update::Post-Invoke-Success=
        -o Acquire::Languages=none -o Acquire::Retries=3 -o Acquire::AllowInsecureRepositories=false
        -o Acquire::IndexTargets::deb::DEP-11::DefaultEnabled=false
    )
    # apt-get update ends with 0 when some suites failed and with 100 when all did; what counts is
    # whether a package is found afterwards, and if none is, what apt said.
    apt_log=$work/update.log
    apt-get "${apt_options[@]}" update >"$apt_log" 2>&1 || true
    if grep -qE '^(W|E|Err)' "$apt_log"; then
        say "  of $*, this could not be read:"
        grep -E '^(W|E)' "$apt_log" | sed -E "s/^/    /; $hide_hosts; s/ *\[IP:[^]]*\]//" >&2 || true
        if grep -qE 'NO_PUBKEY|EXPKEYSIG|is not signed|verif|signature' "$apt_log"; then
            say "  a newer package debian-archive-keyring may have the key"
        fi
    fi
}

apt_private_matching() {
    apt-cache "${apt_options[@]}" pkgnames | grep -E "$1" | sort -rV
}

apt_private_download() {
    local into=$1
    shift
    mkdir -p "$into" || return 1
    chmod 777 "$into" || return 1 # apt drops to the user _apt when it runs as root
    (cd "$into" && apt-get "${apt_options[@]}" download "$@") >"$scratch/download.log" 2>&1 || {
        say "  apt-get download failed:"
        grep '^E:' "$scratch/download.log" | sed -E "s/^/    /; $hide_hosts; s/ *\[IP:[^]]*\]//" >&2
        return 1
    }
}

# An archive's lists may name what its pool has lost already: then the one before is taken.
apt_private_newest() {
    local name=$1 regex=$2 into=$3
    shift 3
    apt_private_suites "$@" || return 1
    for package in $(apt_private_matching "$regex" | head -n 8); do
        say "$name: downloading $package"
        if apt_private_download "$into" "$package"; then
            deb=$(find "$into" -maxdepth 1 -name '*.deb' | head -n 1)
            [[ -z $deb ]] || return 0
        fi
    done
    say "$name: no package that matches $regex can be had from $*"
    return 1
}

# Suites are in order of preference only among equals: the highest version wins.
apt_private_kernel_suites() {
    case $1 in
        5.10) echo bullseye bullseye-security ;;
        6.1) echo bookworm bookworm-security ;;
        6.12) echo trixie trixie-security ;;
        7.x) echo trixie-backports sid ;;
        *) return 1 ;;
    esac
}

# The machine's own apt sources as lines "URI SUITE", Debian suites with the component main only.
apt_own_sources() {
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
apt_best_mirror() {
    awk '{ sub(/\/$/, "", $1) }
         $1 ~ /\/debian(-security)?$|^mirror\+/ { if (!good) good = $1 }
         !any { any = $1 }
         END { print good ? good : any }'
}


#!/usr/bin/env bash
# The whole lab, from nothing: fetches what is missing, builds our own binary for the guests, runs
# the matrix. Arguments go to `identmap-lab run`, or to the command they begin with:
#
#   lab/run.sh                        everything, two guests at once
#   lab/run.sh --filter 6.1+kdump     see `identmap-lab list`
#   lab/run.sh ci                     a sample that has everything once, compared with the model
#   lab/run.sh kexec --markdown       boots with a map of our own, beside kexec-tools: docs/kexec-lab.md
#   lab/run.sh kexec --sample         of these, what is run for every change
#   lab/run.sh compare --markdown     the results that are there, as docs/lab-tables.md
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cd "$here/.."

command=run
case ${1-} in run | ci | compare | kexec) command=$1 && shift ;; esac

[[ $command == compare ]] || "$here/fetch.sh"
# With --target, so that the flag is for the binary alone and not for build scripts and macros.
target=x86_64-unknown-linux-gnu
RUSTFLAGS='-C target-feature=+crt-static' cargo build --locked --release -p identmap-cli --target "$target"
guest_binary=$(cargo metadata --format-version 1 --no-deps | sed -E 's/.*"target_directory":"([^"]*)".*/\1/')/$target/release/identmap
exec cargo run --locked -q -p identmap-lab -- "$command" --guest-bin "$guest_binary" "$@"

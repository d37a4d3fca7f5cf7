#!/bin/bash
# identmap in an initramfs made by dracut: for those who kexec from there (ZFSBootMenu, LinuxBoot) and for emergency
# shells. One file without libraries if it is the static binary.
#
# To install: copy this directory to /usr/lib/dracut/modules.d/, then dracut --force --add identmap.

# Only where it is asked for.
check() {
	require_binaries identmap || return 1
	return 255
}

depends() {
	return 0
}

install() {
	inst_multiple identmap
	inst_multiple -o reboot-if-safe timeout
}

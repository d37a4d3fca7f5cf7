#!/bin/sh
# Runs the recipes in this directory by the programs they are for, in a private Debian root: the hook by mkinitramfs, the
# module by dracut, the units by systemd-analyze, the role by ansible-playbook, the plugin by sos. Needs root.
#
# usage: check-recipes.sh IDENTMAP ROOT.tar [IMAGES]
#
# IDENTMAP is the static binary, ROOT.tar the root that `cargo xtask ci package` makes. IMAGES: a directory for what the lab
# boots (`identmap-lab kexec packaged`): both initramfs, and a system with systemd.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
binary=$(realpath "$1")
tar=$(realpath "$2")
images=${3:+$(mkdir -p "$3" && realpath "$3")}
root=$(mktemp -d "${TMPDIR:-/var/tmp}/identmap-recipes.XXXXXX")
away() {
	for mount in dev/shm sys proc; do
		! mountpoint -q "$root/$mount" || umount "$root/$mount"
	done
	# Whatever is still mounted is not to be emptied.
	rm -rf --one-file-system "$root"
}
trap away EXIT
# A shell that a signal ends runs no EXIT trap: the mounts would stay.
trap 'exit 130' INT TERM HUP

fail() {
	echo "check-recipes.sh: $*" >&2
	exit 1
}

inside() {
	chroot "$root" /usr/bin/env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C.UTF-8 HOME=/root DEBIAN_FRONTEND=noninteractive \
		ANSIBLE_ROLES_PATH=/root/ansible/roles ANSIBLE_NOCOLOR=1 ANSIBLE_LOCALHOST_WARNING=0 "$@"
}

tar -C "$root" --exclude=./dev/* -xf "$tar"
for node in null:3 zero:5 urandom:9; do
	[ -e "$root/dev/${node%:*}" ] || mknod -m 666 "$root/dev/${node%:*}" c 1 "${node#*:}"
done
mkdir -p "$root/dev/shm"
mount -t tmpfs tmpfs "$root/dev/shm"
mount -t proc proc "$root/proc"
mount -t sysfs -o ro sysfs "$root/sys"
set -- initramfs-tools dracut-core systemd systemd-sysv dbus kmod busybox linux-image-cloud-amd64 ansible-core sosreport
{
	inside apt-get update -q && inside apt-get install -qy --no-install-recommends "$@"
} >"$root/tmp/log" 2>&1 || {
	tail "$root/tmp/log" >&2
	fail "apt-get install: failed"
}
install -m 755 "$binary" "$root/usr/bin/identmap"
install -m 755 "$here/bin/reboot-if-safe" "$root/usr/sbin/"
release=$(basename "$root"/lib/modules/*)

# initramfs-tools and dracut: identmap is in it, and is what was given.
install -D -m 755 "$here/initramfs-tools/hooks/identmap" "$root/etc/initramfs-tools/hooks/identmap"
install -D -m 755 "$here/dracut/95identmap/module-setup.sh" "$root/usr/lib/dracut/modules.d/95identmap/module-setup.sh"
if [ -n "$images" ]; then
	# A way in, before the root file system is looked for.
	install -D -m 755 "$here/../lab/guest/agent" "$root/lab/agent"
	mkdir -p "$root/etc/initramfs-tools/scripts/init-premount" "$root/usr/lib/dracut/modules.d/96lab"
	cat >"$root/etc/initramfs-tools/hooks/lab" <<-'END'
		#!/bin/sh
		[ "${1-}" != prereqs ] || exit 0
		. /usr/share/initramfs-tools/hook-functions
		mkdir -p "$DESTDIR/lab" && cp /lab/agent "$DESTDIR/lab/"
	END
	cat >"$root/etc/initramfs-tools/scripts/init-premount/lab" <<-'END'
		#!/bin/sh
		[ "${1-}" = prereqs ] || /lab/agent
	END
	cat >"$root/usr/lib/dracut/modules.d/96lab/module-setup.sh" <<-'END'
		check() { return 255; }
		install() {
			inst_multiple busybox /lab/agent
			inst_hook cmdline 01 "$moddir/lab.sh"
		}
	END
	echo /lab/agent >"$root/usr/lib/dracut/modules.d/96lab/lab.sh"
	chmod 755 "$root/etc/initramfs-tools/hooks/lab" "$root/etc/initramfs-tools/scripts/init-premount/lab"
fi
inside mkinitramfs -o /tmp/initramfs-tools.img "$release" >"$root/tmp/log" 2>&1 || {
	cat "$root/tmp/log" >&2
	fail "mkinitramfs: failed"
}
inside unmkinitramfs /tmp/initramfs-tools.img /tmp/unpacked
cmp "$binary" "$(find "$root/tmp/unpacked" -path '*sbin/identmap')" || fail "mkinitramfs: no identmap, or another"
inside dracut --no-hostonly --force --no-kernel --add "identmap${images:+ lab}" /tmp/dracut.img "$release" >"$root/tmp/log" 2>&1 || {
	cat "$root/tmp/log" >&2
	fail "dracut: failed"
}
for file in usr/bin/identmap usr/sbin/reboot-if-safe; do
	inside lsinitrd -f "$file" /tmp/dracut.img | cmp - "$root/$file" || fail "dracut: no $file, or another"
done
echo "recipes: identmap is in the initramfs of mkinitramfs and of dracut"

# systemd. The pages that Documentation= names come with the package.
cp "$here"/systemd/*.service "$here"/prometheus/identmap-metrics.* "$root/lib/systemd/system/"
cp -r "$here"/systemd/*.service.d "$root/lib/systemd/system/"
status=0
inside sh -c 'cd /lib/systemd/system && systemd-analyze verify --man=no identmap-*.service identmap-*.timer systemd-kexec.service' \
	>"$root/tmp/log" 2>&1 || status=$?
if [ "$status" != 0 ] || [ -s "$root/tmp/log" ]; then
	cat "$root/tmp/log" >&2
	fail "systemd-analyze verify: status $status, or not silent"
fi
# It can say no.
sed 's/^Type=oneshot/Type=onceonly/' "$here/systemd/identmap-check.service" >"$root/lib/systemd/system/wrong.service"
inside systemd-analyze verify --man=no /lib/systemd/system/wrong.service 2>&1 | grep -q onceonly ||
	fail "systemd-analyze verify takes anything"
rm "$root/lib/systemd/system/wrong.service"
echo "recipes: systemd-analyze verify has nothing to say"

# Ansible: the verdict decides, and a fault of the check is none.
cp -r "$here/ansible" "$root/root/"
inside ansible-playbook --syntax-check -i localhost, /root/ansible/reboot.yml >"$root/tmp/log" 2>&1 || {
	cat "$root/tmp/log" >&2
	fail "ansible-playbook --syntax-check: failed"
}
printf '%s\n' '- hosts: localhost' '  connection: local' '  gather_facts: false' '  roles: [identmap]' >"$root/root/play.yml"
play() {
	wanted=$1 said=$2 options=$3 more=${4-}
	status=0
	inside ansible-playbook -i localhost, /root/play.yml \
		-e "{\"ansible_become\": false, \"identmap_options\": [$options]$more}" >"$root/tmp/log" 2>&1 || status=$?
	[ "$status" = "$wanted" ] && grep -q "$said" "$root/tmp/log" && grep -q 'changed=0 ' "$root/tmp/log" && return
	cat "$root/tmp/log" >&2
	fail "ansible-playbook with $options: status $status, not $wanted, or no '$said'"
}
machine='"sample:laptop-2024", "--consumer", "6.12.30"'
known="$machine, \"--sev\", \"on\", \"--config-table\", \"0xc7a01018+360\", \"--producer\""
play 0 'ok=4 ' "$known, \"6.12.30\""
play 2 'kexec is unsafe: EFI configuration table: ' "$known, \"6.7.6\""
play 2 'kexec is unknown: ' "$machine"
play 0 'ok=4 ' "$machine" ', "identmap_accept": ["safe", "unknown"]'
play 2 'must be one or more of: safe, unknown, unsafe' "$machine" ', "identmap_accept": ["any"]'
play 2 'unexpected argument' '"--nonsense"'
echo "recipes: ansible-playbook fails where it has to, and changes nothing"

# sos.
plugins=$(dirname "$(find "$root/usr/lib/python3" -path '*sos/report/plugins/kdump.py')")
cp "$here/sos/identmap.py" "$plugins/"
inside sos report --batch -o identmap --tmp-dir /tmp >"$root/tmp/log" 2>&1 || {
	cat "$root/tmp/log" >&2
	fail "sos report: failed"
}
mkdir "$root/tmp/sos"
tar -C "$root/tmp/sos" --strip-components=1 -xf "$(find "$root/tmp" -maxdepth 1 -name 'sosreport-*.tar.?z')"
for file in check.json bundle.json identmap_check_--color_never; do
	[ -s "$root/tmp/sos/sos_commands/identmap/$file" ] || fail "sos report: no $file"
done
cp "$root/tmp/sos/sos_commands/identmap/bundle.json" "$root/tmp/"
status=0
inside identmap check -q /tmp/bundle.json || status=$?
case $status in 0 | 1 | 3) ;; *) fail "sos report: the bundle is none (status $status)" ;; esac
echo "recipes: sos report has identmap's answers and a bundle"

[ -n "$images" ] || exit 0
cp "$root/tmp/initramfs-tools.img" "$root/tmp/dracut.img" "$images/"
cp "$root/boot/vmlinuz-$release" "$images/vmlinuz"

# A system with systemd whose root is the initramfs: the units are enabled, and the lab's agent is one of them. It must not
# mount over what systemd has mounted.
umount "$root/dev/shm" "$root/sys" "$root/proc"
rm -rf "$root"/tmp/* "$root"/var/lib/apt/* "$root"/var/cache/* "$root"/usr/share/doc "$root"/usr/share/man "$root"/usr/share/locale \
	"$root"/usr/lib/modules "$root"/usr/lib/python3* "$root"/usr/lib/dracut "$root"/boot/initrd* "$root"/usr/share/perl*
sed '/busybox mount/d; /--install/d' "$here/../lab/guest/agent" >"$root/lab/agent"
printf '%s\n' '[Unit]' 'After=identmap-check.service identmap-kdump.service' '[Service]' 'ExecStart=/lab/agent' \
	'StandardInput=null' 'KillMode=mixed' '[Install]' 'WantedBy=multi-user.target' >"$root/lib/systemd/system/lab.service"
inside systemctl -q enable identmap-check.service identmap-kdump.service lab.service
ln -sf /lib/systemd/systemd "$root/init"
inside sh -c 'cd / && find . -xdev ! -path ./dev/shm | sort | cpio --quiet -o -H newc' >"$images/system.cpio"
gzip -1 <"$images/system.cpio" >"$images/system.img"
rm "$images/system.cpio"
echo "$release" >"$images/package.txt"
echo "recipes: images in $images"

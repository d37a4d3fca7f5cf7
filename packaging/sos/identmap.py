# identmap for sos: what it says of the machine, and a redacted bundle that every command of identmap reads.
#
# To install: copy to the directory sos/report/plugins of the installed sos, under this name; then
# `sos report -o identmap`.

from sos.report.plugins import (DebianPlugin, Plugin, RedHatPlugin, SuSEPlugin,
                                UbuntuPlugin)


class Identmap(Plugin, DebianPlugin, RedHatPlugin, SuSEPlugin, UbuntuPlugin):

    short_desc = 'identity map checks for kexec and kdump'

    plugin_name = 'identmap'
    profiles = ('boot', 'hardware', 'kernel')
    packages = ('identmap',)
    commands = ('identmap',)

    def setup(self):
        # All of these read, and change nothing. 1 and 3 are answers, no failures.
        self.add_cmd_output([
            'identmap --version',
            'identmap check --color never',
            'identmap check --panic --color never',
            'identmap ranges --color never',
            'identmap status --color never',
            'identmap tables --live --color never',
        ], timeout=60)
        self.add_cmd_output(
            'identmap check --json', suggest_filename='check.json', timeout=60)
        # What identifies the machine is left out by identmap itself.
        self.add_cmd_output(
            'identmap capture --quiet --output -', suggest_filename='bundle.json',
            timeout=60)

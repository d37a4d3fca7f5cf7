# Print an optspec for argparse to handle cmd's options that are independent of any subcommand.
function __fish_identmap_global_optspecs
    string join \n J/json q/quiet b/bytes color= h/help V/version
end

function __fish_identmap_needs_command
    # Figure out if the current invocation already has a command.
    set -l cmd (commandline -opc)
    set -e cmd[1]
    argparse -s (__fish_identmap_global_optspecs) -- $cmd 2>/dev/null
    or return
    if set -q argv[1]
        # Also print the command, so this can be used to figure out what it is.
        echo $argv[1]
        return 1
    end
    return 0
end

function __fish_identmap_using_subcommand
    set -l cmd (__fish_identmap_needs_command)
    test -z "$cmd"
    and return 1
    contains -- $cmd[1] $argv
end

complete -c identmap -n "__fish_identmap_needs_command" -l color -d 'When to use colours; `NO_COLOR` is honoured' -r -f -a "auto\t''
always\t''
never\t''"
complete -c identmap -n "__fish_identmap_needs_command" -s J -l json -d 'Print JSON'
complete -c identmap -n "__fish_identmap_needs_command" -s q -l quiet -d 'Print nothing; the exit status tells'
complete -c identmap -n "__fish_identmap_needs_command" -s b -l bytes -d 'Print sizes in bytes'
complete -c identmap -n "__fish_identmap_needs_command" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c identmap -n "__fish_identmap_needs_command" -s V -l version -d 'Print version'
complete -c identmap -n "__fish_identmap_needs_command" -f -a "check" -d 'Say whether the jump is safe: the go/no-go before kexec'
complete -c identmap -n "__fish_identmap_needs_command" -f -a "diagnose" -d 'Say which missing ranges are necessary: the least set that helps'
complete -c identmap -n "__fish_identmap_needs_command" -f -a "matrix" -d 'Compare policies, nogbpages and consumers: the small OK/FAIL table'
complete -c identmap -n "__fish_identmap_needs_command" -f -a "explain" -d 'Say whether an address is mapped, level by level, and why'
complete -c identmap -n "__fish_identmap_needs_command" -f -a "report" -d 'Write one HTML file: verdict, pictures, hand-over, tables, facts'
complete -c identmap -n "__fish_identmap_needs_command" -f -a "needs" -d 'List what must be mapped for the jump, and by which leaf it is'
complete -c identmap -n "__fish_identmap_needs_command" -f -a "ranges" -d 'List the machine\'s memory, one range a line'
complete -c identmap -n "__fish_identmap_needs_command" -f -a "map" -d 'Plan an identity map from ranges, or from a machine'
complete -c identmap -n "__fish_identmap_needs_command" -f -a "tables" -d 'Decode real page tables: of a loaded image, a core file, raw memory'
complete -c identmap -n "__fish_identmap_needs_command" -f -a "diff" -d 'Say what differs between two machines, firmwares or boots'
complete -c identmap -n "__fish_identmap_needs_command" -f -a "known" -d 'List combinations of kernels and machines that are known to fail'
complete -c identmap -n "__fish_identmap_needs_command" -f -a "load" -d 'Load a kernel with page tables of our own'
complete -c identmap -n "__fish_identmap_needs_command" -f -a "status" -d 'Say what is loaded'
complete -c identmap -n "__fish_identmap_needs_command" -f -a "exec" -d 'Jump into the kernel that is loaded'
complete -c identmap -n "__fish_identmap_needs_command" -f -a "unload" -d 'Unload what is loaded'
complete -c identmap -n "__fish_identmap_needs_command" -f -a "triage" -d 'Say what a failed jump likely was, and how to see the next one'
complete -c identmap -n "__fish_identmap_needs_command" -f -a "decode" -d 'Explain why an image was not loaded; and register dumps'
complete -c identmap -n "__fish_identmap_needs_command" -f -a "capture" -d 'Put what a machine tells into one file, without what identifies it'
complete -c identmap -n "__fish_identmap_needs_command" -f -a "fleet" -d 'Judge thousands of machines in one run, and group what is found'
complete -c identmap -n "__fish_identmap_needs_command" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c identmap -n "__fish_identmap_using_subcommand check" -l producer -d 'The kernel you kexec from, as uname -r prints it' -r
complete -c identmap -n "__fish_identmap_using_subcommand check" -l consumer -d 'The kernel you kexec to [default: any kernel since 5.10]' -r
complete -c identmap -n "__fish_identmap_using_subcommand check" -l uv -d 'Whether this is an HPE UV system' -r -f -a "on\t''
off\t''"
complete -c identmap -n "__fish_identmap_using_subcommand check" -l sev -d 'Whether CPUID 0x8000001F.EAX[1] (SEV) is set' -r -f -a "on\t''
off\t''"
complete -c identmap -n "__fish_identmap_using_subcommand check" -l la57 -d 'Whether the processor can run with 5 paging levels (CPUID 7.ECX[16], la57)' -r -f -a "on\t''
off\t''"
complete -c identmap -n "__fish_identmap_using_subcommand check" -l map -d 'Suppose that the producer requests this range too, as if firmware had described it (repeatable)' -r
complete -c identmap -n "__fish_identmap_using_subcommand check" -l system-table -d 'Where the EFI system table lies' -r
complete -c identmap -n "__fish_identmap_using_subcommand check" -l config-table -d 'Where the EFI configuration-table array lies (ADDR, or a range)' -r
complete -c identmap -n "__fish_identmap_using_subcommand check" -s k -l kernel -d 'Run the first instructions of FILE, a bzImage, under the map: what it touches then replaces the rules about kernels (feature `preflight`)' -r -F
complete -c identmap -n "__fish_identmap_using_subcommand check" -l cpu -d 'The processor: amd-sev, amd-nosev or intel, with -nogb (no 1G pages) or -la57 (5 levels) behind; 5 levels and a hypervisor that the machine tells of stay [default: the machine\'s]' -r
complete -c identmap -n "__fish_identmap_using_subcommand check" -l cmdline -d 'The kernel\'s command line' -r
complete -c identmap -n "__fish_identmap_using_subcommand check" -l initrd-size -d 'Room to keep for an initrd, in bytes (K, M and G are understood)' -r
complete -c identmap -n "__fish_identmap_using_subcommand check" -l fail-on -d 'From which severity on the exit status is 1 (3 for what cannot be told)' -r -f -a "error\t''
warning\t''
info\t''
never\t''"
complete -c identmap -n "__fish_identmap_using_subcommand check" -l timeout -d 'Give up after SECONDS, with exit status 3: cannot tell. 0 waits for ever [default: 60; 300 where a kernel is run; 0 for standard input]' -r
complete -c identmap -n "__fish_identmap_using_subcommand check" -l picture -d 'Draw the address space too: auto draws on a terminal' -r -f -a "auto\t''
always\t''
never\t''"
complete -c identmap -n "__fish_identmap_using_subcommand check" -l color -d 'When to use colours; `NO_COLOR` is honoured' -r -f -a "auto\t''
always\t''
never\t''"
complete -c identmap -n "__fish_identmap_using_subcommand check" -l nogbpages -d 'Suppose nogbpages on the producer\'s command line'
complete -c identmap -n "__fish_identmap_using_subcommand check" -s p -l panic -d 'Check the crash kernel\'s image (kexec -p) instead'
complete -c identmap -n "__fish_identmap_using_subcommand check" -s J -l json -d 'Print JSON'
complete -c identmap -n "__fish_identmap_using_subcommand check" -s q -l quiet -d 'Print nothing; the exit status tells'
complete -c identmap -n "__fish_identmap_using_subcommand check" -s b -l bytes -d 'Print sizes in bytes'
complete -c identmap -n "__fish_identmap_using_subcommand check" -s h -l help -d 'Print help'
complete -c identmap -n "__fish_identmap_using_subcommand diagnose" -l producer -d 'The kernel you kexec from, as uname -r prints it' -r
complete -c identmap -n "__fish_identmap_using_subcommand diagnose" -l consumer -d 'The kernel you kexec to [default: any kernel since 5.10]' -r
complete -c identmap -n "__fish_identmap_using_subcommand diagnose" -l uv -d 'Whether this is an HPE UV system' -r -f -a "on\t''
off\t''"
complete -c identmap -n "__fish_identmap_using_subcommand diagnose" -l sev -d 'Whether CPUID 0x8000001F.EAX[1] (SEV) is set' -r -f -a "on\t''
off\t''"
complete -c identmap -n "__fish_identmap_using_subcommand diagnose" -l la57 -d 'Whether the processor can run with 5 paging levels (CPUID 7.ECX[16], la57)' -r -f -a "on\t''
off\t''"
complete -c identmap -n "__fish_identmap_using_subcommand diagnose" -l map -d 'Suppose that the producer requests this range too, as if firmware had described it (repeatable)' -r
complete -c identmap -n "__fish_identmap_using_subcommand diagnose" -l system-table -d 'Where the EFI system table lies' -r
complete -c identmap -n "__fish_identmap_using_subcommand diagnose" -l config-table -d 'Where the EFI configuration-table array lies (ADDR, or a range)' -r
complete -c identmap -n "__fish_identmap_using_subcommand diagnose" -l cpu -d 'The processor: amd-sev, amd-nosev or intel, with -nogb (no 1G pages) or -la57 (5 levels) behind; 5 levels and a hypervisor that the machine tells of stay [default: the machine\'s]' -r
complete -c identmap -n "__fish_identmap_using_subcommand diagnose" -l cmdline -d 'The kernel\'s command line' -r
complete -c identmap -n "__fish_identmap_using_subcommand diagnose" -l initrd-size -d 'Room to keep for an initrd, in bytes (K, M and G are understood)' -r
complete -c identmap -n "__fish_identmap_using_subcommand diagnose" -l color -d 'When to use colours; `NO_COLOR` is honoured' -r -f -a "auto\t''
always\t''
never\t''"
complete -c identmap -n "__fish_identmap_using_subcommand diagnose" -l nogbpages -d 'Suppose nogbpages on the producer\'s command line'
complete -c identmap -n "__fish_identmap_using_subcommand diagnose" -s J -l json -d 'Print JSON'
complete -c identmap -n "__fish_identmap_using_subcommand diagnose" -s q -l quiet -d 'Print nothing; the exit status tells'
complete -c identmap -n "__fish_identmap_using_subcommand diagnose" -s b -l bytes -d 'Print sizes in bytes'
complete -c identmap -n "__fish_identmap_using_subcommand diagnose" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c identmap -n "__fish_identmap_using_subcommand matrix" -s o -l output -d 'Print the list alone, with these columns (COL,… or +COL,… beside the usual ones)' -r
complete -c identmap -n "__fish_identmap_using_subcommand matrix" -l producer -d 'The kernel you kexec from, as uname -r prints it' -r
complete -c identmap -n "__fish_identmap_using_subcommand matrix" -l consumer -d 'The kernel you kexec to [default: any kernel since 5.10]' -r
complete -c identmap -n "__fish_identmap_using_subcommand matrix" -l uv -d 'Whether this is an HPE UV system' -r -f -a "on\t''
off\t''"
complete -c identmap -n "__fish_identmap_using_subcommand matrix" -l sev -d 'Whether CPUID 0x8000001F.EAX[1] (SEV) is set' -r -f -a "on\t''
off\t''"
complete -c identmap -n "__fish_identmap_using_subcommand matrix" -l la57 -d 'Whether the processor can run with 5 paging levels (CPUID 7.ECX[16], la57)' -r -f -a "on\t''
off\t''"
complete -c identmap -n "__fish_identmap_using_subcommand matrix" -l map -d 'Suppose that the producer requests this range too, as if firmware had described it (repeatable)' -r
complete -c identmap -n "__fish_identmap_using_subcommand matrix" -l system-table -d 'Where the EFI system table lies' -r
complete -c identmap -n "__fish_identmap_using_subcommand matrix" -l config-table -d 'Where the EFI configuration-table array lies (ADDR, or a range)' -r
complete -c identmap -n "__fish_identmap_using_subcommand matrix" -s k -l kernel -d 'A column for this kernel, a bzImage, of which each cell is a run of its first instructions (repeatable; feature `preflight`)' -r -F
complete -c identmap -n "__fish_identmap_using_subcommand matrix" -l cpu -d 'The processor: amd-sev, amd-nosev or intel, with -nogb (no 1G pages) or -la57 (5 levels) behind; 5 levels and a hypervisor that the machine tells of stay [default: the machine\'s]' -r
complete -c identmap -n "__fish_identmap_using_subcommand matrix" -l cmdline -d 'The kernel\'s command line' -r
complete -c identmap -n "__fish_identmap_using_subcommand matrix" -l initrd-size -d 'Room to keep for an initrd, in bytes (K, M and G are understood)' -r
complete -c identmap -n "__fish_identmap_using_subcommand matrix" -l color -d 'When to use colours; `NO_COLOR` is honoured' -r -f -a "auto\t''
always\t''
never\t''"
complete -c identmap -n "__fish_identmap_using_subcommand matrix" -s n -l noheadings -d 'Print the list alone, without the line of headings'
complete -c identmap -n "__fish_identmap_using_subcommand matrix" -s r -l raw-output -d 'Print the list alone, one space between cells'
complete -c identmap -n "__fish_identmap_using_subcommand matrix" -s P -l pairs -d 'Print the list alone, as NAME="value"'
complete -c identmap -n "__fish_identmap_using_subcommand matrix" -l nogbpages -d 'Suppose nogbpages on the producer\'s command line'
complete -c identmap -n "__fish_identmap_using_subcommand matrix" -s J -l json -d 'Print JSON'
complete -c identmap -n "__fish_identmap_using_subcommand matrix" -s q -l quiet -d 'Print nothing; the exit status tells'
complete -c identmap -n "__fish_identmap_using_subcommand matrix" -s b -l bytes -d 'Print sizes in bytes'
complete -c identmap -n "__fish_identmap_using_subcommand matrix" -s h -l help -d 'Print help'
complete -c identmap -n "__fish_identmap_using_subcommand explain" -l request -d 'Map this range (repeatable, order kept)' -r
complete -c identmap -n "__fish_identmap_using_subcommand explain" -l requests-file -d 'Read requests from FILE, one range a line, # comments (- for standard input)' -r
complete -c identmap -n "__fish_identmap_using_subcommand explain" -l forbid -d 'Never reach a byte of this range (repeatable)' -r
complete -c identmap -n "__fish_identmap_using_subcommand explain" -l policy -d 'The rule that picks leaf sizes [default: the producer\'s, or exact]' -r -f -a "round-out\t''
exact\t''
exact-on-uv\t''
guarded\t''"
complete -c identmap -n "__fish_identmap_using_subcommand explain" -l slack -d 'How far guarded may reach beyond the requests' -r -f -a "none\t''
ram\t''
any\t''"
complete -c identmap -n "__fish_identmap_using_subcommand explain" -l levels -d 'Paging levels [default: what the machine uses, or 4]' -r -f -a "4\t''
5\t''"
complete -c identmap -n "__fish_identmap_using_subcommand explain" -l gbpages -d 'Whether 1G leaves may be used [default: what the machine does, or on]' -r -f -a "on\t''
off\t''"
complete -c identmap -n "__fish_identmap_using_subcommand explain" -l maxphyaddr -d 'Bits of a physical address (MAXPHYADDR) [default: the machine\'s, or 52]' -r
complete -c identmap -n "__fish_identmap_using_subcommand explain" -l producer -d 'The kernel you kexec from, as uname -r prints it' -r
complete -c identmap -n "__fish_identmap_using_subcommand explain" -l consumer -d 'The kernel you kexec to [default: any kernel since 5.10]' -r
complete -c identmap -n "__fish_identmap_using_subcommand explain" -l uv -d 'Whether this is an HPE UV system' -r -f -a "on\t''
off\t''"
complete -c identmap -n "__fish_identmap_using_subcommand explain" -l sev -d 'Whether CPUID 0x8000001F.EAX[1] (SEV) is set' -r -f -a "on\t''
off\t''"
complete -c identmap -n "__fish_identmap_using_subcommand explain" -l la57 -d 'Whether the processor can run with 5 paging levels (CPUID 7.ECX[16], la57)' -r -f -a "on\t''
off\t''"
complete -c identmap -n "__fish_identmap_using_subcommand explain" -l map -d 'Suppose that the producer requests this range too, as if firmware had described it (repeatable)' -r
complete -c identmap -n "__fish_identmap_using_subcommand explain" -l system-table -d 'Where the EFI system table lies' -r
complete -c identmap -n "__fish_identmap_using_subcommand explain" -l config-table -d 'Where the EFI configuration-table array lies (ADDR, or a range)' -r
complete -c identmap -n "__fish_identmap_using_subcommand explain" -l color -d 'When to use colours; `NO_COLOR` is honoured' -r -f -a "auto\t''
always\t''
never\t''"
complete -c identmap -n "__fish_identmap_using_subcommand explain" -l nogbpages -d 'Suppose nogbpages on the producer\'s command line'
complete -c identmap -n "__fish_identmap_using_subcommand explain" -s J -l json -d 'Print JSON'
complete -c identmap -n "__fish_identmap_using_subcommand explain" -s q -l quiet -d 'Print nothing; the exit status tells'
complete -c identmap -n "__fish_identmap_using_subcommand explain" -s b -l bytes -d 'Print sizes in bytes'
complete -c identmap -n "__fish_identmap_using_subcommand explain" -s h -l help -d 'Print help'
complete -c identmap -n "__fish_identmap_using_subcommand report" -s o -l output -d 'Write the report to FILE (- for standard output) [default: standard output, unless it is a terminal]' -r -F
complete -c identmap -n "__fish_identmap_using_subcommand report" -l title -d 'The heading [default: the machine\'s own name]' -r
complete -c identmap -n "__fish_identmap_using_subcommand report" -l date -d 'Print this as the date of the report; none is printed without it' -r
complete -c identmap -n "__fish_identmap_using_subcommand report" -s k -l kernel -d 'Run the first instructions of FILE, a bzImage, under the map, and put where they end into the time line (feature `preflight`)' -r -F
complete -c identmap -n "__fish_identmap_using_subcommand report" -l cpu -d 'The processor: amd-sev, amd-nosev or intel, with -nogb (no 1G pages) or -la57 (5 levels) behind; 5 levels and a hypervisor that the machine tells of stay [default: the machine\'s]' -r
complete -c identmap -n "__fish_identmap_using_subcommand report" -l cmdline -d 'The kernel\'s command line' -r
complete -c identmap -n "__fish_identmap_using_subcommand report" -l initrd-size -d 'Room to keep for an initrd, in bytes (K, M and G are understood)' -r
complete -c identmap -n "__fish_identmap_using_subcommand report" -l producer -d 'The kernel you kexec from, as uname -r prints it' -r
complete -c identmap -n "__fish_identmap_using_subcommand report" -l consumer -d 'The kernel you kexec to [default: any kernel since 5.10]' -r
complete -c identmap -n "__fish_identmap_using_subcommand report" -l uv -d 'Whether this is an HPE UV system' -r -f -a "on\t''
off\t''"
complete -c identmap -n "__fish_identmap_using_subcommand report" -l sev -d 'Whether CPUID 0x8000001F.EAX[1] (SEV) is set' -r -f -a "on\t''
off\t''"
complete -c identmap -n "__fish_identmap_using_subcommand report" -l la57 -d 'Whether the processor can run with 5 paging levels (CPUID 7.ECX[16], la57)' -r -f -a "on\t''
off\t''"
complete -c identmap -n "__fish_identmap_using_subcommand report" -l map -d 'Suppose that the producer requests this range too, as if firmware had described it (repeatable)' -r
complete -c identmap -n "__fish_identmap_using_subcommand report" -l system-table -d 'Where the EFI system table lies' -r
complete -c identmap -n "__fish_identmap_using_subcommand report" -l config-table -d 'Where the EFI configuration-table array lies (ADDR, or a range)' -r
complete -c identmap -n "__fish_identmap_using_subcommand report" -l color -d 'When to use colours; `NO_COLOR` is honoured' -r -f -a "auto\t''
always\t''
never\t''"
complete -c identmap -n "__fish_identmap_using_subcommand report" -l full -d 'Leave nothing out: serial numbers and names too. Not for public places'
complete -c identmap -n "__fish_identmap_using_subcommand report" -s p -l panic -d 'Report on the crash kernel\'s image (kexec -p) instead'
complete -c identmap -n "__fish_identmap_using_subcommand report" -l nogbpages -d 'Suppose nogbpages on the producer\'s command line'
complete -c identmap -n "__fish_identmap_using_subcommand report" -s J -l json -d 'Print JSON'
complete -c identmap -n "__fish_identmap_using_subcommand report" -s q -l quiet -d 'Print nothing; the exit status tells'
complete -c identmap -n "__fish_identmap_using_subcommand report" -s b -l bytes -d 'Print sizes in bytes'
complete -c identmap -n "__fish_identmap_using_subcommand report" -s h -l help -d 'Print help'
complete -c identmap -n "__fish_identmap_using_subcommand needs" -s k -l kernel -d 'Run the first instructions of FILE, a bzImage, under the map: what it touches stands instead of the rules about kernels (feature `preflight`)' -r -F
complete -c identmap -n "__fish_identmap_using_subcommand needs" -l timeout -d 'Give up after SECONDS, with exit status 3: cannot tell. 0 waits for ever [default: 60; 300 where a kernel is run; 0 for standard input]' -r
complete -c identmap -n "__fish_identmap_using_subcommand needs" -s o -l output -d 'Print the list alone, with these columns (COL,… or +COL,… beside the usual ones)' -r
complete -c identmap -n "__fish_identmap_using_subcommand needs" -l cpu -d 'The processor: amd-sev, amd-nosev or intel, with -nogb (no 1G pages) or -la57 (5 levels) behind; 5 levels and a hypervisor that the machine tells of stay [default: the machine\'s]' -r
complete -c identmap -n "__fish_identmap_using_subcommand needs" -l cmdline -d 'The kernel\'s command line' -r
complete -c identmap -n "__fish_identmap_using_subcommand needs" -l initrd-size -d 'Room to keep for an initrd, in bytes (K, M and G are understood)' -r
complete -c identmap -n "__fish_identmap_using_subcommand needs" -l producer -d 'The kernel you kexec from, as uname -r prints it' -r
complete -c identmap -n "__fish_identmap_using_subcommand needs" -l consumer -d 'The kernel you kexec to [default: any kernel since 5.10]' -r
complete -c identmap -n "__fish_identmap_using_subcommand needs" -l uv -d 'Whether this is an HPE UV system' -r -f -a "on\t''
off\t''"
complete -c identmap -n "__fish_identmap_using_subcommand needs" -l sev -d 'Whether CPUID 0x8000001F.EAX[1] (SEV) is set' -r -f -a "on\t''
off\t''"
complete -c identmap -n "__fish_identmap_using_subcommand needs" -l la57 -d 'Whether the processor can run with 5 paging levels (CPUID 7.ECX[16], la57)' -r -f -a "on\t''
off\t''"
complete -c identmap -n "__fish_identmap_using_subcommand needs" -l map -d 'Suppose that the producer requests this range too, as if firmware had described it (repeatable)' -r
complete -c identmap -n "__fish_identmap_using_subcommand needs" -l system-table -d 'Where the EFI system table lies' -r
complete -c identmap -n "__fish_identmap_using_subcommand needs" -l config-table -d 'Where the EFI configuration-table array lies (ADDR, or a range)' -r
complete -c identmap -n "__fish_identmap_using_subcommand needs" -l color -d 'When to use colours; `NO_COLOR` is honoured' -r -f -a "auto\t''
always\t''
never\t''"
complete -c identmap -n "__fish_identmap_using_subcommand needs" -s p -l panic -d 'What the crash kernel\'s image needs (kexec -p)'
complete -c identmap -n "__fish_identmap_using_subcommand needs" -l all -d 'List the rules too by which nothing is needed here'
complete -c identmap -n "__fish_identmap_using_subcommand needs" -l each -d 'One line for each range that something may lie in, with what the map makes of it there'
complete -c identmap -n "__fish_identmap_using_subcommand needs" -s n -l noheadings -d 'Print the list alone, without the line of headings'
complete -c identmap -n "__fish_identmap_using_subcommand needs" -s r -l raw-output -d 'Print the list alone, one space between cells'
complete -c identmap -n "__fish_identmap_using_subcommand needs" -s P -l pairs -d 'Print the list alone, as NAME="value"'
complete -c identmap -n "__fish_identmap_using_subcommand needs" -l nogbpages -d 'Suppose nogbpages on the producer\'s command line'
complete -c identmap -n "__fish_identmap_using_subcommand needs" -s J -l json -d 'Print JSON'
complete -c identmap -n "__fish_identmap_using_subcommand needs" -s q -l quiet -d 'Print nothing; the exit status tells'
complete -c identmap -n "__fish_identmap_using_subcommand needs" -s b -l bytes -d 'Print sizes in bytes'
complete -c identmap -n "__fish_identmap_using_subcommand needs" -s h -l help -d 'Print help'
complete -c identmap -n "__fish_identmap_using_subcommand ranges" -s o -l output -d 'Print the list alone, with these columns (COL,… or +COL,… beside the usual ones)' -r
complete -c identmap -n "__fish_identmap_using_subcommand ranges" -l producer -d 'The kernel you kexec from, as uname -r prints it' -r
complete -c identmap -n "__fish_identmap_using_subcommand ranges" -l consumer -d 'The kernel you kexec to [default: any kernel since 5.10]' -r
complete -c identmap -n "__fish_identmap_using_subcommand ranges" -l uv -d 'Whether this is an HPE UV system' -r -f -a "on\t''
off\t''"
complete -c identmap -n "__fish_identmap_using_subcommand ranges" -l sev -d 'Whether CPUID 0x8000001F.EAX[1] (SEV) is set' -r -f -a "on\t''
off\t''"
complete -c identmap -n "__fish_identmap_using_subcommand ranges" -l la57 -d 'Whether the processor can run with 5 paging levels (CPUID 7.ECX[16], la57)' -r -f -a "on\t''
off\t''"
complete -c identmap -n "__fish_identmap_using_subcommand ranges" -l map -d 'Suppose that the producer requests this range too, as if firmware had described it (repeatable)' -r
complete -c identmap -n "__fish_identmap_using_subcommand ranges" -l system-table -d 'Where the EFI system table lies' -r
complete -c identmap -n "__fish_identmap_using_subcommand ranges" -l config-table -d 'Where the EFI configuration-table array lies (ADDR, or a range)' -r
complete -c identmap -n "__fish_identmap_using_subcommand ranges" -l color -d 'When to use colours; `NO_COLOR` is honoured' -r -f -a "auto\t''
always\t''
never\t''"
complete -c identmap -n "__fish_identmap_using_subcommand ranges" -s n -l noheadings -d 'Print the list alone, without the line of headings'
complete -c identmap -n "__fish_identmap_using_subcommand ranges" -s r -l raw-output -d 'Print the list alone, one space between cells'
complete -c identmap -n "__fish_identmap_using_subcommand ranges" -s P -l pairs -d 'Print the list alone, as NAME="value"'
complete -c identmap -n "__fish_identmap_using_subcommand ranges" -l nogbpages -d 'Suppose nogbpages on the producer\'s command line'
complete -c identmap -n "__fish_identmap_using_subcommand ranges" -s J -l json -d 'Print JSON'
complete -c identmap -n "__fish_identmap_using_subcommand ranges" -s q -l quiet -d 'Print nothing; the exit status tells'
complete -c identmap -n "__fish_identmap_using_subcommand ranges" -s b -l bytes -d 'Print sizes in bytes'
complete -c identmap -n "__fish_identmap_using_subcommand ranges" -s h -l help -d 'Print help'
complete -c identmap -n "__fish_identmap_using_subcommand map" -l request -d 'Map this range (repeatable, order kept)' -r
complete -c identmap -n "__fish_identmap_using_subcommand map" -l requests-file -d 'Read requests from FILE, one range a line, # comments (- for standard input)' -r
complete -c identmap -n "__fish_identmap_using_subcommand map" -l forbid -d 'Never reach a byte of this range (repeatable)' -r
complete -c identmap -n "__fish_identmap_using_subcommand map" -l policy -d 'The rule that picks leaf sizes [default: the producer\'s, or exact]' -r -f -a "round-out\t''
exact\t''
exact-on-uv\t''
guarded\t''"
complete -c identmap -n "__fish_identmap_using_subcommand map" -l slack -d 'How far guarded may reach beyond the requests' -r -f -a "none\t''
ram\t''
any\t''"
complete -c identmap -n "__fish_identmap_using_subcommand map" -l levels -d 'Paging levels [default: what the machine uses, or 4]' -r -f -a "4\t''
5\t''"
complete -c identmap -n "__fish_identmap_using_subcommand map" -l gbpages -d 'Whether 1G leaves may be used [default: what the machine does, or on]' -r -f -a "on\t''
off\t''"
complete -c identmap -n "__fish_identmap_using_subcommand map" -l maxphyaddr -d 'Bits of a physical address (MAXPHYADDR) [default: the machine\'s, or 52]' -r
complete -c identmap -n "__fish_identmap_using_subcommand map" -l producer -d 'The kernel you kexec from, as uname -r prints it' -r
complete -c identmap -n "__fish_identmap_using_subcommand map" -l consumer -d 'The kernel you kexec to [default: any kernel since 5.10]' -r
complete -c identmap -n "__fish_identmap_using_subcommand map" -l uv -d 'Whether this is an HPE UV system' -r -f -a "on\t''
off\t''"
complete -c identmap -n "__fish_identmap_using_subcommand map" -l sev -d 'Whether CPUID 0x8000001F.EAX[1] (SEV) is set' -r -f -a "on\t''
off\t''"
complete -c identmap -n "__fish_identmap_using_subcommand map" -l la57 -d 'Whether the processor can run with 5 paging levels (CPUID 7.ECX[16], la57)' -r -f -a "on\t''
off\t''"
complete -c identmap -n "__fish_identmap_using_subcommand map" -l map -d 'Suppose that the producer requests this range too, as if firmware had described it (repeatable)' -r
complete -c identmap -n "__fish_identmap_using_subcommand map" -l system-table -d 'Where the EFI system table lies' -r
complete -c identmap -n "__fish_identmap_using_subcommand map" -l config-table -d 'Where the EFI configuration-table array lies (ADDR, or a range)' -r
complete -c identmap -n "__fish_identmap_using_subcommand map" -l raw -d 'Write the tables to FILE' -r -F
complete -c identmap -n "__fish_identmap_using_subcommand map" -l base -d 'Physical address of the first table in FILE (the root; what CR3 shall hold)' -r
complete -c identmap -n "__fish_identmap_using_subcommand map" -l picture -d 'Draw the address space too: auto draws on a terminal' -r -f -a "auto\t''
always\t''
never\t''"
complete -c identmap -n "__fish_identmap_using_subcommand map" -s o -l output -d 'Print the list alone, with these columns (COL,… or +COL,… beside the usual ones)' -r
complete -c identmap -n "__fish_identmap_using_subcommand map" -l color -d 'When to use colours; `NO_COLOR` is honoured' -r -f -a "auto\t''
always\t''
never\t''"
complete -c identmap -n "__fish_identmap_using_subcommand map" -l nogbpages -d 'Suppose nogbpages on the producer\'s command line'
complete -c identmap -n "__fish_identmap_using_subcommand map" -s n -l noheadings -d 'Print the list alone, without the line of headings'
complete -c identmap -n "__fish_identmap_using_subcommand map" -s r -l raw-output -d 'Print the list alone, one space between cells'
complete -c identmap -n "__fish_identmap_using_subcommand map" -s P -l pairs -d 'Print the list alone, as NAME="value"'
complete -c identmap -n "__fish_identmap_using_subcommand map" -s J -l json -d 'Print JSON'
complete -c identmap -n "__fish_identmap_using_subcommand map" -s q -l quiet -d 'Print nothing; the exit status tells'
complete -c identmap -n "__fish_identmap_using_subcommand map" -s b -l bytes -d 'Print sizes in bytes'
complete -c identmap -n "__fish_identmap_using_subcommand map" -s h -l help -d 'Print help'
complete -c identmap -n "__fish_identmap_using_subcommand tables" -l piece -d 'A piece of memory whose first byte is at ADDR, as QEMU\'s pmemsave writes (repeatable)' -r
complete -c identmap -n "__fish_identmap_using_subcommand tables" -l kallsyms -d 'Read the image that is loaded in a core file: /proc/kallsyms of the kernel in it' -r -F
complete -c identmap -n "__fish_identmap_using_subcommand tables" -l btf -d 'And its /sys/kernel/btf/vmlinux' -r -F
complete -c identmap -n "__fish_identmap_using_subcommand tables" -l cr3 -d 'Physical address of the top table (CR3; its flag bits are passed over)' -r
complete -c identmap -n "__fish_identmap_using_subcommand tables" -l base -d 'Physical address of the first byte of a raw image' -r
complete -c identmap -n "__fish_identmap_using_subcommand tables" -l cpu -d 'Whose CR3 to take, where a core file has several processors\'' -r
complete -c identmap -n "__fish_identmap_using_subcommand tables" -l levels -d 'Paging levels [default: what the source tells, or 4]' -r -f -a "4\t''
5\t''"
complete -c identmap -n "__fish_identmap_using_subcommand tables" -l maxphyaddr -d 'Bits of a physical address (MAXPHYADDR) [default: this processor\'s with --live, or 52]' -r
complete -c identmap -n "__fish_identmap_using_subcommand tables" -l encryption-bit -d 'The bit of an entry that marks encrypted memory (C-bit) [default: what the source tells, or none]' -r
complete -c identmap -n "__fish_identmap_using_subcommand tables" -l at -d 'Walk this virtual address too, level by level' -r
complete -c identmap -n "__fish_identmap_using_subcommand tables" -s o -l output -d 'Print the list alone, with these columns (COL,… or +COL,… beside the usual ones)' -r
complete -c identmap -n "__fish_identmap_using_subcommand tables" -l color -d 'When to use colours; `NO_COLOR` is honoured' -r -f -a "auto\t''
always\t''
never\t''"
complete -c identmap -n "__fish_identmap_using_subcommand tables" -l live -d 'The image that is loaded now (what is done without FILE)'
complete -c identmap -n "__fish_identmap_using_subcommand tables" -s p -l panic -l crash -d 'With a loaded image: the crash kernel\'s (kexec -p)'
complete -c identmap -n "__fish_identmap_using_subcommand tables" -s n -l noheadings -d 'Print the list alone, without the line of headings'
complete -c identmap -n "__fish_identmap_using_subcommand tables" -s r -l raw-output -d 'Print the list alone, one space between cells'
complete -c identmap -n "__fish_identmap_using_subcommand tables" -s P -l pairs -d 'Print the list alone, as NAME="value"'
complete -c identmap -n "__fish_identmap_using_subcommand tables" -s J -l json -d 'Print JSON'
complete -c identmap -n "__fish_identmap_using_subcommand tables" -s q -l quiet -d 'Print nothing; the exit status tells'
complete -c identmap -n "__fish_identmap_using_subcommand tables" -s b -l bytes -d 'Print sizes in bytes'
complete -c identmap -n "__fish_identmap_using_subcommand tables" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c identmap -n "__fish_identmap_using_subcommand diff" -l color -d 'When to use colours; `NO_COLOR` is honoured' -r -f -a "auto\t''
always\t''
never\t''"
complete -c identmap -n "__fish_identmap_using_subcommand diff" -s J -l json -d 'Print JSON'
complete -c identmap -n "__fish_identmap_using_subcommand diff" -s q -l quiet -d 'Print nothing; the exit status tells'
complete -c identmap -n "__fish_identmap_using_subcommand diff" -s b -l bytes -d 'Print sizes in bytes'
complete -c identmap -n "__fish_identmap_using_subcommand diff" -s h -l help -d 'Print help'
complete -c identmap -n "__fish_identmap_using_subcommand known" -l producer -d 'Only those that this kernel, as uname -r prints it, can do to the next one' -r
complete -c identmap -n "__fish_identmap_using_subcommand known" -l consumer -d 'Only those that this kernel can suffer' -r
complete -c identmap -n "__fish_identmap_using_subcommand known" -s o -l output -d 'Print the list alone, with these columns (COL,… or +COL,… beside the usual ones)' -r
complete -c identmap -n "__fish_identmap_using_subcommand known" -l color -d 'When to use colours; `NO_COLOR` is honoured' -r -f -a "auto\t''
always\t''
never\t''"
complete -c identmap -n "__fish_identmap_using_subcommand known" -s n -l noheadings -d 'Print the list alone, without the line of headings'
complete -c identmap -n "__fish_identmap_using_subcommand known" -s r -l raw-output -d 'Print the list alone, one space between cells'
complete -c identmap -n "__fish_identmap_using_subcommand known" -s P -l pairs -d 'Print the list alone, as NAME="value"'
complete -c identmap -n "__fish_identmap_using_subcommand known" -s J -l json -d 'Print JSON'
complete -c identmap -n "__fish_identmap_using_subcommand known" -s q -l quiet -d 'Print nothing; the exit status tells'
complete -c identmap -n "__fish_identmap_using_subcommand known" -s b -l bytes -d 'Print sizes in bytes'
complete -c identmap -n "__fish_identmap_using_subcommand known" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c identmap -n "__fish_identmap_using_subcommand load" -l initrd -d 'Its initrd (repeatable: they are joined in this order)' -r -F
complete -c identmap -n "__fish_identmap_using_subcommand load" -l command-line -d 'Its command line' -r
complete -c identmap -n "__fish_identmap_using_subcommand load" -l append -d 'Words behind the command line; before a -- in it, as what is behind that is for init' -r
complete -c identmap -n "__fish_identmap_using_subcommand load" -l policy -d 'The rule that picks leaf sizes' -r -f -a "round-out\t''
exact\t''
exact-on-uv\t''
guarded\t''"
complete -c identmap -n "__fish_identmap_using_subcommand load" -l slack -d 'How far guarded may reach beyond the requests' -r -f -a "none\t''
ram\t''
any\t''"
complete -c identmap -n "__fish_identmap_using_subcommand load" -l forbid -d 'Never map a byte of this range, and put nothing into it (repeatable)' -r
complete -c identmap -n "__fish_identmap_using_subcommand load" -l levels -d 'Paging levels [default: what the running kernel uses]' -r -f -a "4\t''
5\t''"
complete -c identmap -n "__fish_identmap_using_subcommand load" -l gbpages -d 'Whether 1G leaves may be used [default: what the machine has]' -r -f -a "on\t''
off\t''"
complete -c identmap -n "__fish_identmap_using_subcommand load" -l serial -d 'Where a failed verification is told: an I/O port, or none [default: by the command line\'s console=]' -r
complete -c identmap -n "__fish_identmap_using_subcommand load" -l source -d 'Plan for this machine instead: FILE, -, or sample:NAME; implies --dry-run' -r
complete -c identmap -n "__fish_identmap_using_subcommand load" -l producer -d 'The kernel you kexec from, as uname -r prints it' -r
complete -c identmap -n "__fish_identmap_using_subcommand load" -l consumer -d 'The kernel you kexec to [default: any kernel since 5.10]' -r
complete -c identmap -n "__fish_identmap_using_subcommand load" -l uv -d 'Whether this is an HPE UV system' -r -f -a "on\t''
off\t''"
complete -c identmap -n "__fish_identmap_using_subcommand load" -l sev -d 'Whether CPUID 0x8000001F.EAX[1] (SEV) is set' -r -f -a "on\t''
off\t''"
complete -c identmap -n "__fish_identmap_using_subcommand load" -l la57 -d 'Whether the processor can run with 5 paging levels (CPUID 7.ECX[16], la57)' -r -f -a "on\t''
off\t''"
complete -c identmap -n "__fish_identmap_using_subcommand load" -l map -d 'Suppose that the producer requests this range too, as if firmware had described it (repeatable)' -r
complete -c identmap -n "__fish_identmap_using_subcommand load" -l system-table -d 'Where the EFI system table lies' -r
complete -c identmap -n "__fish_identmap_using_subcommand load" -l config-table -d 'Where the EFI configuration-table array lies (ADDR, or a range)' -r
complete -c identmap -n "__fish_identmap_using_subcommand load" -l color -d 'When to use colours; `NO_COLOR` is honoured' -r -f -a "auto\t''
always\t''
never\t''"
complete -c identmap -n "__fish_identmap_using_subcommand load" -l reuse-cmdline -d 'Take the running kernel\'s command line'
complete -c identmap -n "__fish_identmap_using_subcommand load" -s p -l panic -d 'Load it as the crash kernel, which starts when the running one panics'
complete -c identmap -n "__fish_identmap_using_subcommand load" -s s -l kexec-file-syscall -d 'Use `kexec_file_load`: the kernel verifies signatures, and the map is its own'
complete -c identmap -n "__fish_identmap_using_subcommand load" -s c -l kexec-syscall -d 'Use `kexec_load`: the map is ours'
complete -c identmap -n "__fish_identmap_using_subcommand load" -s a -l kexec-syscall-auto -d 'Use what the running kernel allows, ours first [default]'
complete -c identmap -n "__fish_identmap_using_subcommand load" -l no-verify -d 'Do not verify the segments before the jump'
complete -c identmap -n "__fish_identmap_using_subcommand load" -s n -l dry-run -d 'Print every segment and the map, and load nothing'
complete -c identmap -n "__fish_identmap_using_subcommand load" -s f -l force -d 'Load what the check calls unsafe'
complete -c identmap -n "__fish_identmap_using_subcommand load" -l nogbpages -d 'Suppose nogbpages on the producer\'s command line'
complete -c identmap -n "__fish_identmap_using_subcommand load" -s J -l json -d 'Print JSON'
complete -c identmap -n "__fish_identmap_using_subcommand load" -s q -l quiet -d 'Print nothing; the exit status tells'
complete -c identmap -n "__fish_identmap_using_subcommand load" -s b -l bytes -d 'Print sizes in bytes'
complete -c identmap -n "__fish_identmap_using_subcommand load" -s h -l help -d 'Print help'
complete -c identmap -n "__fish_identmap_using_subcommand status" -l color -d 'When to use colours; `NO_COLOR` is honoured' -r -f -a "auto\t''
always\t''
never\t''"
complete -c identmap -n "__fish_identmap_using_subcommand status" -s J -l json -d 'Print JSON'
complete -c identmap -n "__fish_identmap_using_subcommand status" -s q -l quiet -d 'Print nothing; the exit status tells'
complete -c identmap -n "__fish_identmap_using_subcommand status" -s b -l bytes -d 'Print sizes in bytes'
complete -c identmap -n "__fish_identmap_using_subcommand status" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c identmap -n "__fish_identmap_using_subcommand exec" -l color -d 'When to use colours; `NO_COLOR` is honoured' -r -f -a "auto\t''
always\t''
never\t''"
complete -c identmap -n "__fish_identmap_using_subcommand exec" -l now -d 'Jump at once: nothing is stopped, synced or unmounted'
complete -c identmap -n "__fish_identmap_using_subcommand exec" -s J -l json -d 'Print JSON'
complete -c identmap -n "__fish_identmap_using_subcommand exec" -s q -l quiet -d 'Print nothing; the exit status tells'
complete -c identmap -n "__fish_identmap_using_subcommand exec" -s b -l bytes -d 'Print sizes in bytes'
complete -c identmap -n "__fish_identmap_using_subcommand exec" -s h -l help -d 'Print help'
complete -c identmap -n "__fish_identmap_using_subcommand unload" -l color -d 'When to use colours; `NO_COLOR` is honoured' -r -f -a "auto\t''
always\t''
never\t''"
complete -c identmap -n "__fish_identmap_using_subcommand unload" -s p -l panic -d 'The crash kernel'
complete -c identmap -n "__fish_identmap_using_subcommand unload" -s J -l json -d 'Print JSON'
complete -c identmap -n "__fish_identmap_using_subcommand unload" -s q -l quiet -d 'Print nothing; the exit status tells'
complete -c identmap -n "__fish_identmap_using_subcommand unload" -s b -l bytes -d 'Print sizes in bytes'
complete -c identmap -n "__fish_identmap_using_subcommand unload" -s h -l help -d 'Print help'
complete -c identmap -n "__fish_identmap_using_subcommand triage" -l saw -d 'What was seen' -r -f -a "firmware-reset\t'The firmware\'s screen: the machine reset'
hang\t'Nothing more, and no answer, neither on the network nor to keys'
dark-but-pings\t'A dark or frozen screen, but the machine answers on the network'
old-kernel\t'The kernel that was left, or the boot loader\'s default, is running'
corruption\t'The new kernel runs, but memory is damaged: initramfs, ACPI, TPM log, random crashes'
panic\t'The new kernel said something before it died'
no-dump\t'A crash, and no dump (supposes --panic)'"
complete -c identmap -n "__fish_identmap_using_subcommand triage" -l producer -d 'The kernel you kexec from, as uname -r prints it' -r
complete -c identmap -n "__fish_identmap_using_subcommand triage" -l consumer -d 'The kernel you kexec to [default: any kernel since 5.10]' -r
complete -c identmap -n "__fish_identmap_using_subcommand triage" -l uv -d 'Whether this is an HPE UV system' -r -f -a "on\t''
off\t''"
complete -c identmap -n "__fish_identmap_using_subcommand triage" -l sev -d 'Whether CPUID 0x8000001F.EAX[1] (SEV) is set' -r -f -a "on\t''
off\t''"
complete -c identmap -n "__fish_identmap_using_subcommand triage" -l la57 -d 'Whether the processor can run with 5 paging levels (CPUID 7.ECX[16], la57)' -r -f -a "on\t''
off\t''"
complete -c identmap -n "__fish_identmap_using_subcommand triage" -l map -d 'Suppose that the producer requests this range too, as if firmware had described it (repeatable)' -r
complete -c identmap -n "__fish_identmap_using_subcommand triage" -l system-table -d 'Where the EFI system table lies' -r
complete -c identmap -n "__fish_identmap_using_subcommand triage" -l config-table -d 'Where the EFI configuration-table array lies (ADDR, or a range)' -r
complete -c identmap -n "__fish_identmap_using_subcommand triage" -l color -d 'When to use colours; `NO_COLOR` is honoured' -r -f -a "auto\t''
always\t''
never\t''"
complete -c identmap -n "__fish_identmap_using_subcommand triage" -l nogbpages -d 'Suppose nogbpages on the producer\'s command line'
complete -c identmap -n "__fish_identmap_using_subcommand triage" -s p -l panic -d 'It was the crash kernel (kexec -p)'
complete -c identmap -n "__fish_identmap_using_subcommand triage" -s J -l json -d 'Print JSON'
complete -c identmap -n "__fish_identmap_using_subcommand triage" -s q -l quiet -d 'Print nothing; the exit status tells'
complete -c identmap -n "__fish_identmap_using_subcommand triage" -s b -l bytes -d 'Print sizes in bytes'
complete -c identmap -n "__fish_identmap_using_subcommand triage" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c identmap -n "__fish_identmap_using_subcommand decode" -l message -d 'In place of a log: what kexec(8) said, or an errno (its name, text or number)' -r
complete -c identmap -n "__fish_identmap_using_subcommand decode" -l machine -d 'The machine it happened on: live, FILE (a bundle or a boot log), or sample:NAME' -r
complete -c identmap -n "__fish_identmap_using_subcommand decode" -l producer -d 'The kernel you kexec from, as uname -r prints it' -r
complete -c identmap -n "__fish_identmap_using_subcommand decode" -l consumer -d 'The kernel you kexec to [default: any kernel since 5.10]' -r
complete -c identmap -n "__fish_identmap_using_subcommand decode" -l uv -d 'Whether this is an HPE UV system' -r -f -a "on\t''
off\t''"
complete -c identmap -n "__fish_identmap_using_subcommand decode" -l sev -d 'Whether CPUID 0x8000001F.EAX[1] (SEV) is set' -r -f -a "on\t''
off\t''"
complete -c identmap -n "__fish_identmap_using_subcommand decode" -l la57 -d 'Whether the processor can run with 5 paging levels (CPUID 7.ECX[16], la57)' -r -f -a "on\t''
off\t''"
complete -c identmap -n "__fish_identmap_using_subcommand decode" -l map -d 'Suppose that the producer requests this range too, as if firmware had described it (repeatable)' -r
complete -c identmap -n "__fish_identmap_using_subcommand decode" -l system-table -d 'Where the EFI system table lies' -r
complete -c identmap -n "__fish_identmap_using_subcommand decode" -l config-table -d 'Where the EFI configuration-table array lies (ADDR, or a range)' -r
complete -c identmap -n "__fish_identmap_using_subcommand decode" -l color -d 'When to use colours; `NO_COLOR` is honoured' -r -f -a "auto\t''
always\t''
never\t''"
complete -c identmap -n "__fish_identmap_using_subcommand decode" -s p -l panic -d 'It happened on the way to the crash kernel (kexec -p)'
complete -c identmap -n "__fish_identmap_using_subcommand decode" -l nogbpages -d 'Suppose nogbpages on the producer\'s command line'
complete -c identmap -n "__fish_identmap_using_subcommand decode" -s J -l json -d 'Print JSON'
complete -c identmap -n "__fish_identmap_using_subcommand decode" -s q -l quiet -d 'Print nothing; the exit status tells'
complete -c identmap -n "__fish_identmap_using_subcommand decode" -s b -l bytes -d 'Print sizes in bytes'
complete -c identmap -n "__fish_identmap_using_subcommand decode" -s h -l help -d 'Print help'
complete -c identmap -n "__fish_identmap_using_subcommand capture" -s o -l output -d 'Write the bundle to FILE (- for standard output) [default: standard output, unless it is a terminal]' -r -F
complete -c identmap -n "__fish_identmap_using_subcommand capture" -l color -d 'When to use colours; `NO_COLOR` is honoured' -r -f -a "auto\t''
always\t''
never\t''"
complete -c identmap -n "__fish_identmap_using_subcommand capture" -l full -d 'Leave nothing out: serial numbers and addresses too. Not for public places'
complete -c identmap -n "__fish_identmap_using_subcommand capture" -l show -d 'Say what the bundle would hold and what would be left out, and write none'
complete -c identmap -n "__fish_identmap_using_subcommand capture" -s J -l json -d 'Print JSON'
complete -c identmap -n "__fish_identmap_using_subcommand capture" -s q -l quiet -d 'Print nothing; the exit status tells'
complete -c identmap -n "__fish_identmap_using_subcommand capture" -s b -l bytes -d 'Print sizes in bytes'
complete -c identmap -n "__fish_identmap_using_subcommand capture" -s h -l help -d 'Print help'
complete -c identmap -n "__fish_identmap_using_subcommand fleet" -l format -d 'What to print: a summary, a line of JSON for each machine, or what monitors and test tools read' -r -f -a "text\t'A summary by hardware, firmware and cause'
json\t'A line of JSON for each machine'
prometheus\t'Metrics for Prometheus\' textfile collector'
junit\t'`JUnit`\'s XML'
tap\t'The Test Anything Protocol'"
complete -c identmap -n "__fish_identmap_using_subcommand fleet" -s o -l output -d 'Write to FILE, which is replaced in one step when all of it is written' -r -F
complete -c identmap -n "__fish_identmap_using_subcommand fleet" -l producer -d 'The kernel they kexec from, as uname -r prints it, instead of the one they run' -r
complete -c identmap -n "__fish_identmap_using_subcommand fleet" -l consumer -d 'The kernel they kexec to [default: any kernel since 5.10]' -r
complete -c identmap -n "__fish_identmap_using_subcommand fleet" -l fail-on -d 'From which severity on the exit status is 1 (3 for what cannot be told)' -r -f -a "error\t''
warning\t''
info\t''
never\t''"
complete -c identmap -n "__fish_identmap_using_subcommand fleet" -l timeout -d 'Count a machine as unreadable that takes longer than SECONDS. 0 waits for ever [default: 60; 0 for standard input]' -r
complete -c identmap -n "__fish_identmap_using_subcommand fleet" -l depth -d 'How deep to look into directories' -r
complete -c identmap -n "__fish_identmap_using_subcommand fleet" -l jobs -d 'How many machines to judge at once [default: one for each processor]' -r
complete -c identmap -n "__fish_identmap_using_subcommand fleet" -l color -d 'When to use colours; `NO_COLOR` is honoured' -r -f -a "auto\t''
always\t''
never\t''"
complete -c identmap -n "__fish_identmap_using_subcommand fleet" -l nogbpages -d 'Suppose nogbpages on the producer\'s command line'
complete -c identmap -n "__fish_identmap_using_subcommand fleet" -s p -l panic -d 'Judge the crash kernel\'s image (kexec -p) instead'
complete -c identmap -n "__fish_identmap_using_subcommand fleet" -s J -l json -d 'Print JSON'
complete -c identmap -n "__fish_identmap_using_subcommand fleet" -s q -l quiet -d 'Print nothing; the exit status tells'
complete -c identmap -n "__fish_identmap_using_subcommand fleet" -s b -l bytes -d 'Print sizes in bytes'
complete -c identmap -n "__fish_identmap_using_subcommand fleet" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c identmap -n "__fish_identmap_using_subcommand help; and not __fish_seen_subcommand_from check diagnose matrix explain report needs ranges map tables diff known load status exec unload triage decode capture fleet help" -f -a "check" -d 'Say whether the jump is safe: the go/no-go before kexec'
complete -c identmap -n "__fish_identmap_using_subcommand help; and not __fish_seen_subcommand_from check diagnose matrix explain report needs ranges map tables diff known load status exec unload triage decode capture fleet help" -f -a "diagnose" -d 'Say which missing ranges are necessary: the least set that helps'
complete -c identmap -n "__fish_identmap_using_subcommand help; and not __fish_seen_subcommand_from check diagnose matrix explain report needs ranges map tables diff known load status exec unload triage decode capture fleet help" -f -a "matrix" -d 'Compare policies, nogbpages and consumers: the small OK/FAIL table'
complete -c identmap -n "__fish_identmap_using_subcommand help; and not __fish_seen_subcommand_from check diagnose matrix explain report needs ranges map tables diff known load status exec unload triage decode capture fleet help" -f -a "explain" -d 'Say whether an address is mapped, level by level, and why'
complete -c identmap -n "__fish_identmap_using_subcommand help; and not __fish_seen_subcommand_from check diagnose matrix explain report needs ranges map tables diff known load status exec unload triage decode capture fleet help" -f -a "report" -d 'Write one HTML file: verdict, pictures, hand-over, tables, facts'
complete -c identmap -n "__fish_identmap_using_subcommand help; and not __fish_seen_subcommand_from check diagnose matrix explain report needs ranges map tables diff known load status exec unload triage decode capture fleet help" -f -a "needs" -d 'List what must be mapped for the jump, and by which leaf it is'
complete -c identmap -n "__fish_identmap_using_subcommand help; and not __fish_seen_subcommand_from check diagnose matrix explain report needs ranges map tables diff known load status exec unload triage decode capture fleet help" -f -a "ranges" -d 'List the machine\'s memory, one range a line'
complete -c identmap -n "__fish_identmap_using_subcommand help; and not __fish_seen_subcommand_from check diagnose matrix explain report needs ranges map tables diff known load status exec unload triage decode capture fleet help" -f -a "map" -d 'Plan an identity map from ranges, or from a machine'
complete -c identmap -n "__fish_identmap_using_subcommand help; and not __fish_seen_subcommand_from check diagnose matrix explain report needs ranges map tables diff known load status exec unload triage decode capture fleet help" -f -a "tables" -d 'Decode real page tables: of a loaded image, a core file, raw memory'
complete -c identmap -n "__fish_identmap_using_subcommand help; and not __fish_seen_subcommand_from check diagnose matrix explain report needs ranges map tables diff known load status exec unload triage decode capture fleet help" -f -a "diff" -d 'Say what differs between two machines, firmwares or boots'
complete -c identmap -n "__fish_identmap_using_subcommand help; and not __fish_seen_subcommand_from check diagnose matrix explain report needs ranges map tables diff known load status exec unload triage decode capture fleet help" -f -a "known" -d 'List combinations of kernels and machines that are known to fail'
complete -c identmap -n "__fish_identmap_using_subcommand help; and not __fish_seen_subcommand_from check diagnose matrix explain report needs ranges map tables diff known load status exec unload triage decode capture fleet help" -f -a "load" -d 'Load a kernel with page tables of our own'
complete -c identmap -n "__fish_identmap_using_subcommand help; and not __fish_seen_subcommand_from check diagnose matrix explain report needs ranges map tables diff known load status exec unload triage decode capture fleet help" -f -a "status" -d 'Say what is loaded'
complete -c identmap -n "__fish_identmap_using_subcommand help; and not __fish_seen_subcommand_from check diagnose matrix explain report needs ranges map tables diff known load status exec unload triage decode capture fleet help" -f -a "exec" -d 'Jump into the kernel that is loaded'
complete -c identmap -n "__fish_identmap_using_subcommand help; and not __fish_seen_subcommand_from check diagnose matrix explain report needs ranges map tables diff known load status exec unload triage decode capture fleet help" -f -a "unload" -d 'Unload what is loaded'
complete -c identmap -n "__fish_identmap_using_subcommand help; and not __fish_seen_subcommand_from check diagnose matrix explain report needs ranges map tables diff known load status exec unload triage decode capture fleet help" -f -a "triage" -d 'Say what a failed jump likely was, and how to see the next one'
complete -c identmap -n "__fish_identmap_using_subcommand help; and not __fish_seen_subcommand_from check diagnose matrix explain report needs ranges map tables diff known load status exec unload triage decode capture fleet help" -f -a "decode" -d 'Explain why an image was not loaded; and register dumps'
complete -c identmap -n "__fish_identmap_using_subcommand help; and not __fish_seen_subcommand_from check diagnose matrix explain report needs ranges map tables diff known load status exec unload triage decode capture fleet help" -f -a "capture" -d 'Put what a machine tells into one file, without what identifies it'
complete -c identmap -n "__fish_identmap_using_subcommand help; and not __fish_seen_subcommand_from check diagnose matrix explain report needs ranges map tables diff known load status exec unload triage decode capture fleet help" -f -a "fleet" -d 'Judge thousands of machines in one run, and group what is found'
complete -c identmap -n "__fish_identmap_using_subcommand help; and not __fish_seen_subcommand_from check diagnose matrix explain report needs ranges map tables diff known load status exec unload triage decode capture fleet help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'

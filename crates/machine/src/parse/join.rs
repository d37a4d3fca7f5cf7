//! One boot in two parts, put together.

use super::boot::{Boot, push_note, push_range};
use crate::model::{Cpu, Efi, Lost, Machine, MapOrigin, Note};

/// Puts together what is one boot in two parts: consoles that start late (`earlyprintk=xdbc`) print the
/// beginning of the log after its end. Two boots of one machine share entries; two parts share no byte.
pub(super) fn join_parts(boots: &mut Vec<Boot>) {
    let mut at = 1;
    while at < boots.len() {
        let (first, second) = (&boots[at - 1], &boots[at]);
        let headless = !first.heading && !first.banner && first.bios_entries() > 0;
        if headless && second.heading && second.bios_entries() > 0 && disjoint(first, second) {
            let beginning = boots.remove(at);
            prepend(&mut boots[at - 1], beginning);
        } else {
            at += 1;
        }
    }
}

fn disjoint(a: &Boot, b: &Boot) -> bool {
    let entries = |boot: &Boot| {
        let mut list: Vec<(u64, u64)> = boot
            .map(MapOrigin::BiosE820)
            .into_iter()
            .flat_map(|m| &m.entries)
            .map(|e| (e.start, e.last))
            .collect();
        list.sort_unstable();
        list
    };
    let (a, b) = (entries(a), entries(b));
    let mut all = [a, b].concat();
    all.sort_unstable();
    all.windows(2).all(|w| w[0].1 < w[1].0)
}

/// Fields of the later part count; what it does not say is taken from the beginning. Named one by one, so that
/// none can be forgotten.
macro_rules! take {
    ($mine:expr; or: $($option:ident)*; all: $($list:ident)*) => {
        $($mine.$option = $mine.$option.take().or($option);)*
        $(for item in $list {
            if !$mine.$list.contains(&item) {
                $mine.$list.push(item);
            }
        })*
    };
}

/// Takes in the beginning of this boot's log, which was found after it.
fn prepend(boot: &mut Boot, beginning: Boot) {
    let Boot {
        machine,
        first_line,
        banner,
        heading,
        runtime_heading,
        extended_map_broken,
        madt_oem,
        saw_dmar,
        saw_ivrs,
        efi_entries: _,
        in_map: _,
        other_line: _,
        dropped_line,
    } = beginning;
    boot.banner |= banner;
    boot.heading |= heading;
    boot.runtime_heading |= runtime_heading;
    boot.extended_map_broken |= extended_map_broken;
    boot.madt_oem = boot.madt_oem.take().or(madt_oem);
    boot.saw_dmar |= saw_dmar;
    boot.saw_ivrs |= saw_ivrs;
    boot.dropped_line = boot.dropped_line.or(dropped_line);
    prepend_machine(&mut boot.machine, machine);
    let text = "the map continues here, out of order; no byte is in both parts, so they are taken for one boot";
    boot.note(Note { line: first_line, text: text.to_owned(), unreadable: false });
}

fn prepend_machine(mine: &mut Machine, beginning: Machine) {
    #[rustfmt::skip]
    let Machine {
        // Of the whole text, not of a boot.
        source: _, iomem: _, segments: _,
        hardware, firmware, kernel, kernel_banner, kernel_is_32bit, cmdline, maps, updates, lost, last_pfn, ram_kib,
        efi, cpu, uv, direct_gbpages, nogbpages, crash_kernels, setup_data, acpi_tables, rsdp, cc_blob, ramdisk,
        mp_table, screen, graphics, lockdown, secure_boot, mp_wakeup, kexec_loaded, kexec_crash_loaded, rmp,
        poisoned, kho_scratch, notes,
    } = beginning;
    for map in maps {
        match mine.maps.iter_mut().find(|m| m.origin == map.origin) {
            Some(mine) => {
                mine.entries.extend(map.entries);
                mine.entries.sort_by_key(|e| e.start);
            }
            None => mine.maps.push(map),
        }
    }
    // They were made after the whole map was printed, though their lines stand before some of it.
    for update in &mut mine.updates {
        update.line = 0;
    }
    mine.updates.splice(0..0, updates);
    mine.last_pfn = mine.last_pfn.max(last_pfn);
    for page in poisoned {
        push_range(&mut mine.poisoned, page);
    }
    take!(mine;
        or: hardware firmware kernel kernel_banner kernel_is_32bit cmdline ram_kib uv direct_gbpages nogbpages rsdp
            cc_blob ramdisk mp_table screen graphics lockdown secure_boot mp_wakeup kexec_loaded
            kexec_crash_loaded rmp;
        all: crash_kernels setup_data acpi_tables kho_scratch);
    prepend_efi(&mut mine.efi, efi);
    prepend_cpu(&mut mine.cpu, cpu);
    let Lost { map, firmware_memmap, kexec_ranges, iomem, efi_map, efi_runtime_map, boot_params } =
        lost;
    mine.lost.map |= map;
    mine.lost.firmware_memmap |= firmware_memmap;
    mine.lost.kexec_ranges |= kexec_ranges;
    mine.lost.iomem |= iomem;
    mine.lost.efi_map |= efi_map;
    mine.lost.efi_runtime_map |= efi_runtime_map;
    mine.lost.boot_params |= boot_params;
    for note in notes {
        push_note(&mut mine.notes, note);
    }
}

fn prepend_efi(mine: &mut Efi, beginning: Efi) {
    let Efi {
        booted,
        version,
        is_64bit,
        system_table,
        config_table,
        memmap,
        fw_vendor,
        runtime,
        tables,
        memory_map,
        runtime_map,
    } = beginning;
    take!(mine;
        or: booted version is_64bit system_table config_table memmap fw_vendor runtime;
        all: tables);
    // Of one in two parts, the second has lost its beginning: that is known by its numbers.
    for (mine, map) in [(&mut mine.memory_map, memory_map), (&mut mine.runtime_map, runtime_map)] {
        if mine.is_empty() {
            *mine = map;
        }
    }
}

fn prepend_cpu(mine: &mut Cpu, beginning: Cpu) {
    let Cpu {
        vendor,
        model,
        pdpe1gb,
        la57,
        la57_active,
        maxphyaddr,
        sev,
        sme_active,
        encrypted_guest,
        guest_encryption,
        snp_host,
        snp_api,
        tdx_host,
        tdx_pw_mce,
        hypervisor,
    } = beginning;
    take!(mine;
        or: vendor model pdpe1gb la57 la57_active maxphyaddr sev sme_active encrypted_guest guest_encryption
            snp_host snp_api tdx_host tdx_pw_mce hypervisor;
        all:);
}

//! The causes, each with its rule.

use std::fmt::Write;

use identmap_linux::Kind;
use identmap_machine::Machine;

use super::{Cause, Likelihood, Saw};
use crate::{Audit, Confidence, Finding, Severity, Verdict};

/// All causes that lead to what was seen.
pub(super) fn of(saw: Saw, machine: &Machine, audit: &Audit, kind: Kind) -> Vec<Cause> {
    let case = Case { saw, machine, audit, kind };
    let causes: Vec<Option<Cause>> = match saw {
        Saw::FirmwareReset => vec![
            Some(case.gap()),
            case.exposure(),
            case.level_change(),
            case.encryption(),
            Some(case.not_the_map()),
            Some(watchdog()),
        ],
        Saw::Hang => vec![
            case.exposure(),
            Some(case.gap()),
            case.encryption(),
            Some(case.no_display()),
            Some(case.not_the_map()),
            Some(devices()),
        ],
        Saw::DarkButPings => vec![Some(case.no_display()), Some(network_of_firmware())],
        Saw::OldKernel => {
            vec![Some(case.not_loaded()), Some(case.reset_unseen()), Some(boot_path())]
        }
        Saw::Corruption => vec![Some(case.overwritten()), case.exposure(), Some(devices())],
        Saw::Panic => vec![Some(case.overwritten()), Some(decode_it()), Some(devices())],
        Saw::NoDump => vec![
            case.kdump("no-crash-kernel", "no memory was reserved for a crash kernel"),
            case.kdump("crash-image", "no crash image was loaded"),
            Some(case.gap()),
            case.kdump("crash-kernel-size", "the crash kernel ran out of memory"),
            case.kdump(
                "crash-kernel-low",
                "the crash kernel's devices had no memory they can reach",
            ),
            case.kdump("kdump-service", "nothing had loaded the crash image after the last boot"),
            case.exposure(),
            Some(dump_elsewhere()),
        ],
    };
    causes.into_iter().flatten().collect()
}

struct Case<'a> {
    saw: Saw,
    machine: &'a Machine,
    audit: &'a Audit,
    kind: Kind,
}

fn cause(
    id: &'static str,
    likelihood: Likelihood,
    what: &str,
    why: impl Into<String>,
    confirm: &str,
) -> Cause {
    let (what, confirm) = (what.to_owned(), confirm.to_owned());
    Cause { id, likelihood, what, why: why.into(), confirm, findings: Vec::new() }
}

impl Case<'_> {
    /// Findings with one of these ids that are more than a remark, worst first.
    fn findings(&self, ids: &[&str]) -> Vec<usize> {
        let all = self.audit.findings.iter().enumerate();
        all.filter(|(_, f)| ids.contains(&f.id) && f.severity > Severity::Info)
            .map(|(index, _)| index)
            .collect()
    }

    fn at(&self, findings: &[usize]) -> Option<&Finding> {
        self.audit.findings.get(*findings.first()?)
    }

    /// How likely a cause is that findings speak for, if it leads to just what was seen.
    fn likelihood(&self, findings: &[usize]) -> Likelihood {
        match self.at(findings) {
            None => Likelihood::Unlikely,
            Some(worst) if worst.verdict() == Verdict::Unsafe => Likelihood::Likely,
            Some(_) => Likelihood::Possible,
        }
    }

    fn place(&self, findings: &[usize]) -> String {
        self.at(findings).map_or_else(String::new, |worst| match worst.range {
            Some(range) => format!("{} at {range}", worst.what),
            None => worst.what.clone(),
        })
    }

    fn gap(&self) -> Cause {
        let what = "the identity map lacked something";
        let findings = self.findings(&["gap"]);
        if findings.is_empty() {
            let why =
                "by what is known of the machine, everything that the next kernel reads was mapped";
            let confirm = "identmap check says what that rests on";
            return cause("gap", Likelihood::Unlikely, what, why, confirm);
        }
        let mut likelihood = self.likelihood(&findings);
        let sure = if likelihood == Likelihood::Likely {
            "the identity map surely lacks this"
        } else {
            "it cannot be told whether the next kernel reads this and the identity map lacks it"
        };
        let place = self.place(&findings);
        let mut why =
            format!("{sure}: {place}. A page fault there, without a handler, is a triple fault");
        match self.saw {
            Saw::Hang => {
                why += "; that resets the machine, and only looks like a hang if the firmware does not \
                        come back, or if the kernel that was left has CONFIG_KEXEC_DEBUG, whose handler stops";
                likelihood = likelihood.min(Likelihood::Possible);
            }
            Saw::NoDump => why += ": the machine resets instead of writing a dump",
            _ => why += ", which resets the machine at once",
        }
        let confirm = "with nogbpages off, or from a kernel with the other policy, it works or fails otherwise \
                       (identmap matrix); a dump of kexec's debug handler names the address (identmap decode)";
        Cause { findings, ..cause("gap", likelihood, what, why, confirm) }
    }

    fn exposure(&self) -> Option<Cause> {
        let findings = self.findings(&["exposure", "conflict"]);
        // Without such memory there is nothing to think of.
        self.at(&findings)?;
        let why = format!(
            "the identity map reaches memory that must not be reached: {}. The processor may touch it by \
             speculation alone, and the machine halts, resets or poisons memory",
            self.place(&findings)
        );
        let confirm = "boot the running kernel with nogbpages, or take one with the exact policy: if it was this, \
                       it is gone; the firmware's event log (BMC, SEL) may hold the error";
        let likelihood = self.likelihood(&findings);
        Some(Cause {
            findings,
            ..cause(
                "exposure",
                likelihood,
                "the identity map reached what it must not",
                why,
                confirm,
            )
        })
    }

    fn level_change(&self) -> Option<Cause> {
        let findings = self.findings(&["level-change"]);
        self.at(&findings)?;
        let why = "where the kernel that was left runs with 5 levels, one that goes down to 4 resets, unless it \
                   has the fix of 2025";
        let confirm = "boot the kernel that is left with no5lvl and try again";
        let likelihood = Likelihood::Possible;
        let what = "the change from 5 to 4 paging levels";
        Some(Cause { findings, ..cause("level-change", likelihood, what, why, confirm) })
    }

    fn encryption(&self) -> Option<Cause> {
        let cpu = &self.machine.cpu;
        let on = cpu.encrypted_guest == Some(true) || cpu.sme_active == Some(true);
        on.then(|| {
            let why = "memory is encrypted: what one kernel wrote encrypted and the next reads plain is noise";
            let confirm = "try without mem_encrypt=on, or in a guest without SEV or TDX";
            cause("encryption", Likelihood::Possible, "memory encryption", why, confirm)
        })
    }

    /// It reset or hung, and nothing of the map explains it.
    fn not_the_map(&self) -> Cause {
        let reset = self.saw == Saw::FirmwareReset;
        let likelihood = match self.audit.verdict {
            Verdict::Safe => Likelihood::Possible,
            Verdict::Unknown | Verdict::Unsafe => Likelihood::CannotTell,
        };
        let why = if reset {
            "a triple fault anywhere before the new kernel has its exception handlers resets the machine just so: \
             code that is damaged in memory, a driver of the old kernel that still writes, the new kernel itself"
        } else {
            "the new kernel may have died before its console was there: then nothing tells a hang from a kernel \
             that waits"
        };
        let confirm = "the same new kernel, started by the boot loader with the same command line: if it fails \
                       there too, it was not kexec";
        let what = "the new kernel's early start, not the map";
        cause("early-boot", likelihood, what, why, confirm)
    }

    fn no_display(&self) -> Cause {
        let words = || self.machine.cmdline.iter().flat_map(|line| line.split_whitespace());
        let has = |name: &str| words().any(|word| word == name);
        let serial_only = words()
            .rfind(|word| word.starts_with("console="))
            .is_some_and(|last| last.starts_with("console=ttyS"));
        let (mut likelihood, mut why) = match self.saw {
            Saw::DarkButPings => (
                Likelihood::Likely,
                "the machine answers, so the jump went well: only its screen is lost. The graphics driver of the \
                 old kernel leaves the hardware in a mode that the firmware's framebuffer, which the new kernel \
                 is told of, no longer shows"
                    .to_owned(),
            ),
            _ => (
                Likelihood::CannotTell,
                "a lost screen looks like a hang; whether it answers on the network was not said, or the network \
                 is not up either"
                    .to_owned(),
            ),
        };
        if serial_only {
            likelihood = Likelihood::Likely.min(likelihood.max(Likelihood::Possible));
            why += "; the last console= names a serial port: there is the log, the screen stays dark by intent";
        }
        if has("nomodeset") && self.saw == Saw::DarkButPings {
            likelihood = Likelihood::Possible;
            why += "; but the old kernel ran with nomodeset, so no graphics driver should have changed the mode";
        }
        let confirm = "log in over the network and read dmesg: \"simple-framebuffer\", \"efifb\" and the graphics \
                       driver's lines say what drives the screen; try the new kernel without nomodeset, with its \
                       graphics driver in the initramfs";
        cause("display", likelihood, "only the display is lost", why, confirm)
    }

    fn not_loaded(&self) -> Cause {
        let (loaded, file) = match self.kind {
            Kind::Kexec => (self.machine.kexec_loaded, "/sys/kernel/kexec_loaded"),
            Kind::Kdump => (self.machine.kexec_crash_loaded, "/sys/kernel/kexec_crash_loaded"),
        };
        let (likelihood, why) = match loaded {
            Some(false) => (
                Likelihood::Likely,
                format!("{file} was 0 when this was captured: no image was loaded"),
            ),
            Some(true) => (
                Likelihood::Unlikely,
                format!("{file} was 1 when this was captured: an image was loaded then"),
            ),
            None => (Likelihood::CannotTell, format!("{file} is not in what was given")),
        };
        let why = why
            + "; systemctl kexec without an image, and reboot scripts, fall back to the firmware";
        let confirm = "kexec -l, read the file just before the jump, and the log of kexec-load.service or of the \
                       unit that loads";
        cause("not-loaded", likelihood, "no image was loaded", why, confirm)
    }

    fn reset_unseen(&self) -> Cause {
        let likelihood = match self.audit.verdict {
            Verdict::Unsafe => Likelihood::Likely,
            Verdict::Unknown => Likelihood::Possible,
            Verdict::Safe => Likelihood::CannotTell,
        };
        let findings = self.findings(&["gap", "exposure", "conflict", "level-change"]);
        let mut why = "a jump that ends in a reset looks like this to whom nobody shows the firmware's screen: the \
                       boot loader starts its default"
            .to_owned();
        if let Some(worst) = self.at(&findings) {
            let _ =
                write!(why, ", and there is a reason for a reset: {} ({})", worst.what, worst.id);
        }
        let confirm = "how long it took: a jump takes seconds, firmware takes longer; the boot loader's and the \
                       firmware's log; then identmap triage --saw firmware-reset";
        let what = "the machine reset and booted the default";
        Cause { findings, ..cause("reset-unseen", likelihood, what, why, confirm) }
    }

    fn overwritten(&self) -> Cause {
        let findings: Vec<usize> = {
            let all = self.audit.findings.iter().enumerate();
            all.filter(|(_, f)| matches!(f.id, "overlap" | "map-lint" | "conflict"))
                .map(|(i, _)| i)
                .collect()
        };
        let (likelihood, mut why) = if findings.is_empty() {
            (
                Likelihood::CannotTell,
                "the machine's maps agree with each other as far as they are known".to_owned(),
            )
        } else {
            let worst = &self.audit.findings[findings[0]];
            (
                Likelihood::Possible,
                format!(
                    "the machine's maps contradict each other or themselves: {} ({})",
                    worst.what, worst.id
                ),
            )
        };
        why += "; where they are wrong about what is free, an image, an initramfs or a page table is put over \
                something alive";
        let confirm = "identmap diff SOURCE compares the maps; boot with memmap= around the range in question";
        let what = "something was put over memory in use";
        Cause { findings, ..cause("overwritten", likelihood, what, why, confirm) }
    }

    fn kdump(&self, id: &'static str, what: &str) -> Option<Cause> {
        let all = self.audit.findings.iter().enumerate();
        let findings: Vec<usize> = all
            .filter(|(_, f)| f.id == id && f.severity > Severity::Info)
            .map(|(index, _)| index)
            .collect();
        let finding = self.at(&findings)?;
        let likelihood = match (finding.severity, finding.confidence) {
            (Severity::Error, Confidence::Certain | Confidence::Likely) => Likelihood::Likely,
            _ => Likelihood::Possible,
        };
        let mut confirm = "identmap check -p on the machine".to_owned();
        if let Some(remedy) = &finding.remedy {
            let _ = write!(confirm, "; against it: {remedy}");
        }
        let why = finding.why.clone();
        Some(Cause { findings, ..cause(id, likelihood, what, why, &confirm) })
    }
}

fn watchdog() -> Cause {
    let why = "a watchdog that the old kernel armed goes on counting; the reset then comes after its time, 10 \
               seconds to some minutes, not at once";
    let confirm = "count the seconds between the last line and the reset; stop the watchdog before (systemd: \
                   RuntimeWatchdogSec=0, KExecWatchdogSec=0)";
    cause("watchdog", Likelihood::CannotTell, "a hardware watchdog", why, confirm)
}

fn devices() -> Cause {
    let why = "a device that the old kernel did not stop goes on writing to memory, or waits in a state that the new \
               driver does not expect";
    let confirm = "unload drivers one by one before the jump (graphics and network first); intel_iommu=on or \
                   amd_iommu=on stops what still writes";
    cause("devices", Likelihood::CannotTell, "a device in the wrong state", why, confirm)
}

fn network_of_firmware() -> Cause {
    let why = "a management controller that shares the network port answers pings too";
    let confirm = "does ssh answer, and with which kernel (uname -r, uptime)?";
    cause(
        "bmc",
        Likelihood::CannotTell,
        "not the machine answers, but its controller",
        why,
        confirm,
    )
}

fn boot_path() -> Cause {
    let why = "reboot and systemctl reboot go through the firmware unless an image is loaded and the distribution's \
               scripts use it; and systemctl kexec loads the boot loader's default entry, which may be the old kernel";
    let confirm = "journalctl -b -1 -u kexec.target -u systemd-kexec.service: was it reached? kexec -l by hand, then \
                   systemctl kexec";
    cause("boot-path", Likelihood::CannotTell, "another way of rebooting was taken", why, confirm)
}

fn decode_it() -> Cause {
    let why = "what it said names the exception and the address";
    let confirm = "identmap decode LOG --machine SOURCE";
    cause("told", Likelihood::CannotTell, "what the new kernel said", why, confirm)
}

fn dump_elsewhere() -> Cause {
    let why = "the crash kernel may have run and failed to write: no such disk, no network, no space, or it wrote \
               somewhere else";
    let confirm = "crash on purpose and watch its console; the dump's directory and target are in /etc/kdump.conf \
                   or /etc/default/kdump-tools";
    cause("dump-target", Likelihood::CannotTell, "the dump could not be written", why, confirm)
}

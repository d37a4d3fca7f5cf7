//! What will be seen after the jump, and where: said before, since a dark screen looks like a dead machine.

use identmap_machine::{Machine, Screen};

use crate::{Confidence, Finding, Severity};

const SOURCE: &str = "Linux arch/x86/kernel/kexec-bzimage64.c, setup_boot_parameters(), 5.10.262 to 7.3.4; \
                      drivers/firmware/sysfb.c, sysfb_disable()";

/// One line, where anything is known of screen or console. It never changes a verdict.
pub(crate) fn of_machine(machine: &Machine) -> Option<Finding> {
    let cmdline = machine.cmdline.as_deref().unwrap_or_default();
    let words = || cmdline.split_ascii_whitespace();
    let by_wire = words().filter_map(|word| word.strip_prefix("console=")).rfind(|console| {
        ["ttyS", "hvc", "ttyUSB", "xvc"].iter().any(|port| console.starts_with(port))
    });
    let wire = by_wire.map(|console| {
        let port = console.split(',').next().unwrap_or(console);
        format!(
            "the console on {port} goes on, if the next kernel's command line has console={console}"
        )
    });
    let nomodeset = words().any(|word| word == "nomodeset");
    let native = machine.graphics.as_deref().filter(|_| !nomodeset);
    let (what, confidence, screen) = match (native, machine.screen) {
        (Some(driver), _) => (
            "the screen will be dark for a while, or stay dark",
            Confidence::Likely,
            Some(format!(
                "{driver} drives the screen and has changed its mode: the framebuffer of firmware's, which the next \
                 kernel is told of, is mostly not shown any more, until that kernel loads {driver} itself; a dark \
                 screen does not say that the jump failed"
            )),
        ),
        (None, Some(Screen::Framebuffer)) => (
            "the screen goes on after the jump",
            Confidence::Likely,
            Some(
                "no graphics driver has been seen to change the mode, and the framebuffer of firmware's is handed over \
                 by kexec_file_load and identmap load (kexec_load by kexec(8): if it finds it by /dev/fb0)"
                    .to_owned(),
            ),
        ),
        (None, Some(Screen::Text)) => (
            "the screen goes on after the jump",
            Confidence::Likely,
            Some("it is in VGA's text mode, which the next kernel finds as it is".to_owned()),
        ),
        (None, None) if by_wire.is_some() => {
            ("the console is not the screen", Confidence::Certain, None)
        }
        (None, None) => return None,
    };
    let keep = match native {
        Some(driver) if by_wire.is_none() => Some(format!(
            "to see it: {driver} in the next kernel's initramfs; or nomodeset for this kernel; or a console that is no \
             screen: console=ttyS0,115200, netconsole (identmap triage lists what fits)"
        )),
        _ => None,
    };
    let why: Vec<String> = screen.into_iter().chain(wire).chain(keep).collect();
    let why = why.join("; ");
    Some(Finding::new("display", Severity::Info, confidence, what, why).link(SOURCE))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(screen: Option<Screen>, graphics: Option<&str>, cmdline: &str) -> Option<Finding> {
        of_machine(&Machine {
            screen,
            graphics: graphics.map(str::to_owned),
            cmdline: Some(cmdline.to_owned()),
            ..Machine::default()
        })
    }

    #[test]
    fn a_driver_that_changed_the_mode_leaves_a_dark_screen() {
        let what = |screen, graphics, cmdline| line(screen, graphics, cmdline).map(|f| f.what);
        let framebuffer = Some(Screen::Framebuffer);
        let dark = Some("the screen will be dark for a while, or stay dark".to_owned());
        let on = Some("the screen goes on after the jump".to_owned());
        assert_eq!(what(framebuffer, Some("i915"), "quiet"), dark);
        assert_eq!(what(None, Some("amdgpu"), ""), dark);
        assert_eq!(what(framebuffer, Some("i915"), "nomodeset"), on);
        assert_eq!(what(framebuffer, None, ""), on);
        assert_eq!(what(Some(Screen::Text), None, ""), on);
        assert_eq!(what(None, None, "quiet"), None, "nothing is known");
        assert_eq!(
            what(None, None, "console=tty0 console=ttyS1,9600"),
            Some("the console is not the screen".to_owned())
        );
    }

    #[test]
    fn a_console_on_a_wire_is_named_and_is_enough() {
        let dark = line(None, Some("nouveau"), "console=ttyS0,115200 console=tty0").unwrap();
        assert!(dark.why.contains("console=ttyS0,115200"), "{}", dark.why);
        assert!(!dark.why.contains("to see it"), "{}", dark.why);
        assert_eq!((dark.severity, dark.verdict()), (Severity::Info, crate::Verdict::Safe));
        let alone = line(None, Some("nouveau"), "").unwrap();
        assert!(alone.why.contains("to see it: nouveau in"), "{}", alone.why);
    }
}

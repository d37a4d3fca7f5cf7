//! What `check` says of the screen before the jump.

use serde_json::Value;

use crate::support::check_log;

/// What, and the verdict.
fn display(name: &str, log: &str, args: &[&str]) -> (Option<String>, Value) {
    let report = check_log(&format!("display-{name}"), log, args);
    let found = report["findings"].as_array().unwrap().iter().find(|f| f["id"] == "display");
    assert!(found.is_none_or(|f| f["severity"] == "info"));
    (found.map(|f| f["what"].as_str().unwrap().to_owned()), report["verdict"].clone())
}

#[test]
fn lines_of_the_log_decide_and_no_verdict_follows() {
    let dark = "the screen will be dark for a while, or stay dark";
    let on = "the screen goes on after the jump";
    let (nothing, verdict) = display("nothing", "", &[]);
    assert_eq!(nothing, None);
    for (name, log, expected) in [
        ("i915", "[    2.1] [drm] Initialized i915 1.6.0 for 0000:00:02.0 on minor 0\n", dark),
        (
            "ast",
            "[    2.1] efifb: framebuffer at 0x91000000, using 3072k, total 3072k\n[    3.0] [drm] Initialized ast 0.1.0 for 0000:04:00.0 on minor 0\n",
            dark,
        ),
        (
            "simple",
            "[    1.1] [drm] Initialized simpledrm 1.0.0 for simple-framebuffer.0 on minor 0\n",
            on,
        ),
        ("vesa", "vesafb: framebuffer at 0xfd000000, mapped to 0x0000000000000000\n", on),
        ("text", "[    0.0] Console: colour VGA+ 80x25\n", on),
        (
            "nomodeset",
            "Kernel command line: nomodeset\n[drm] Initialized simpledrm 1.0.0 for simple-framebuffer.0 on minor 0\n",
            on,
        ),
    ] {
        let (what, same) = display(name, log, &[]);
        assert_eq!((what.as_deref(), same), (Some(expected), verdict.clone()), "{name}");
        assert_eq!(
            display(name, log, &["--panic"]).0,
            None,
            "a crash kernel's console is another matter"
        );
    }
    // A device for compute is no screen.
    let npu = "[drm] Initialized intel_vpu 1.0.0 for 0000:00:0b.0 on minor 0\n";
    assert_eq!(display("npu", npu, &[]).0, None);
}

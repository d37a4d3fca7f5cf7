mod cpu; mod gdb; mod kernels; mod qemu; mod rom; mod scenario; mod world;
use std::time::Duration;
fn main() {
    let cache = std::path::PathBuf::from(std::env::var("IDENTMAP_CACHE").unwrap());
    let ks = kernels::all(&cache).unwrap();
    let profile = cpu::Cpu::Amd.profile().unwrap();
    println!("{profile:?}");
    let want = std::env::args().nth(1).unwrap();
    let k = ks.iter().find(|k| k.name == want).unwrap();
    let mut s = scenario::Scenario::new(&k.name, "whole");
    if let Some(a) = std::env::args().nth(2) { let n: u64 = u64::from_str_radix(&a, 16).unwrap(); s.holes.push(scenario::Hole::At(scenario::Anchor::Kernel, n, 4096)); }
    let c = s.compare(&k.read().unwrap(), profile, Duration::from_secs(90)).unwrap();
    println!("{c:#?}");
}

//! The samples by name, as a user has them.

/// All of them.
pub(crate) const SAMPLES: [&str; 12] = [
    "uv-2019",
    "uv-2023",
    "laptop-2024",
    "poweredge-r7625",
    "epyc-rmp",
    "epyc-1536g",
    "epyc-crashkernel",
    "intel-brickland",
    "desktop-x870e",
    "ec2-t3",
    "bios-x8sie",
    "qemu-ovmf",
];

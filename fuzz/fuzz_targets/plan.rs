#![no_main]

use identmap_fuzz::plan::Case;

libfuzzer_sys::fuzz_target!(
    init: identmap_fuzz::print_test_on_panic(|input| Case::from_bytes(input).to_string()),
    |input: &[u8]| {
        identmap_fuzz::run(input, |input| Case::from_bytes(input).check());
    }
);

#![no_main]

libfuzzer_sys::fuzz_target!(
    init: identmap_fuzz::print_test_on_panic(|input| {
        identmap_fuzz::paste_call("dumps::check", input)
    }),
    |input: &[u8]| {
        identmap_fuzz::run(input, identmap_fuzz::dumps::check);
    }
);

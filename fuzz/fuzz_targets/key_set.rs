//! Key sets of other issuers.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    countersign_jose::fuzzing::key_set(bytes);
});

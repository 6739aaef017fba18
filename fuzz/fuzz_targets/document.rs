//! Discovery documents of other issuers.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    countersign_discovery::fuzzing::document(bytes);
});

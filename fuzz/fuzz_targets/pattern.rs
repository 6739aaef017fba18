//! Subject matches, and what they make of a subject.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    countersign_domain::fuzzing::pattern(bytes);
});

//! Claim conditions, and what they make of a token.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    countersign_domain::fuzzing::condition(bytes);
});

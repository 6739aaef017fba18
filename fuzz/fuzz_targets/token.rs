//! Tokens as they are presented.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    countersign_jose::fuzzing::token(bytes);
});

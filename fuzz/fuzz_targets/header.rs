//! Headers of tokens, decoded.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    countersign_jose::fuzzing::header(bytes);
});

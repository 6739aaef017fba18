//! Bodies of the token endpoint.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    exchange_gateway::fuzzing::form(bytes);
});

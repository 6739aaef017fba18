//! The fingerprint of RSA keys made by Infineon's RSALib (CVE-2017-15361, "ROCA").
//!
//! That library made primes of the form `k·M + (65537^a mod M)`, `M` being the product of the first primes. So modulo each small
//! prime the modulus is a power of 65537. A modulus made otherwise passes for one with a probability of about 2^-27.

/// The odd ones of the first 39 primes, whose product divides `M` for every size of key.
const PRIMES: [u32; 38] = [
    3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37, 41, 43, 47, 53, 59, 61, 67, 71, 73, 79, 83, 89, 97, 101, 103, 107, 109, 113, 127,
    131, 137, 139, 149, 151, 157, 163, 167,
];

/// Whether a big-endian modulus has the fingerprint.
pub(crate) fn has_fingerprint(modulus: &[u8]) -> bool {
    PRIMES.iter().all(|&prime| {
        let remainder = modulus.iter().fold(0, |remainder, &byte| (remainder << 8 | u32::from(byte)) % prime);
        is_power_of_65537(remainder, prime)
    })
}

/// Whether `remainder` is a power of 65537 modulo `prime`.
fn is_power_of_65537(remainder: u32, prime: u32) -> bool {
    let generator = 65537 % prime;
    let mut power = 1;
    loop {
        if power == remainder {
            return true;
        }
        power = power * generator % prime;
        // The powers repeat from one on, since a prime other than 65537 itself never divides them.
        if power == 1 {
            return false;
        }
    }
}

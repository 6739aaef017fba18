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

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// 65537^128, of 2049 bits: a power of 65537 modulo every prime, like every product of two primes that RSALib made.
    pub(crate) fn vulnerable() -> Vec<u8> {
        let mut number = vec![1_u8];
        for _ in 0..128 {
            // Times 65537: the number shifted by two bytes, plus the number.
            let mut product = [number.as_slice(), &[0, 0]].concat();
            let mut carry = 0_u16;
            for index in 0..product.len() {
                let position = product.len() - 1 - index;
                let addend = number.len().checked_sub(index + 1).map_or(0, |from_end| number[from_end]);
                let sum = u16::from(product[position]) + u16::from(addend) + carry;
                product[position] = sum.to_be_bytes()[1];
                carry = sum >> 8;
            }
            if carry > 0 {
                product.insert(0, 1);
            }
            number = product;
        }
        number
    }

    #[test]
    fn s09_powers_of_65537_have_the_fingerprint() {
        let number = vulnerable();
        assert_eq!((number.len(), number[0], *number.last().unwrap()), (257, 1, 1));
        assert!(has_fingerprint(&number));
    }

    #[test]
    fn s09_other_numbers_do_not_have_it() {
        let mut number = vulnerable();
        *number.last_mut().unwrap() += 2;
        assert!(!has_fingerprint(&number));
        // Every byte counts.
        for index in [0, 1, 100, 255] {
            let mut number = vulnerable();
            number[index] ^= 4;
            assert!(!has_fingerprint(&number), "{index}");
        }
        assert!(!has_fingerprint(&[0xff; 256]));
        // Divisible by 3: zero is no power of anything.
        assert!(!has_fingerprint(&[3]));
    }
}

//! Documents that are small on the wire and large in whoever reads them.

/// 100 MiB of spaces in one deflate block of about 100 KiB (RFC 1951): a literal, then repeats of 258 bytes at distance 1.
pub fn gzip_bomb() -> Vec<u8> {
    const REPEATS: usize = 100 * 1_024 * 1_024 / 258;
    let mut bomb = GZIP_HEADER.to_vec();
    let mut bits = Bits::default();
    bits.push(0b1, 1); // the last block
    bits.push(0b01, 2); // with the fixed Huffman codes
    bits.push_code(0x30 + u32::from(b' '), 8);
    for _ in 0..REPEATS {
        bits.push_code(0b1100_0101, 8); // length 258
        bits.push_code(0, 5); // distance 1
    }
    bits.push_code(0, 7); // the end of the block
    bomb.extend(bits.finish());
    // The checksum is never reached by a reader with a limit.
    bomb.extend([0; 8]);
    bomb
}

/// Bytes in gzip, in stored blocks: honest, if not shorter.
pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut gzip = GZIP_HEADER.to_vec();
    let mut blocks = bytes.chunks(usize::from(u16::MAX)).peekable();
    while let Some(block) = blocks.next() {
        let length = u16::try_from(block.len()).expect("a chunk is no longer than asked for");
        gzip.push(u8::from(blocks.peek().is_none()));
        gzip.extend(length.to_le_bytes());
        gzip.extend((!length).to_le_bytes());
        gzip.extend(block);
    }
    gzip.extend(crc32(bytes).to_le_bytes());
    gzip.extend(u32::try_from(bytes.len()).expect("documents are short").to_le_bytes());
    gzip
}

/// A key set with a member that nests so deep.
pub fn deep_json(levels: usize) -> Vec<u8> {
    [br#"{"keys":[],"x":"#.as_slice(), &b"[".repeat(levels), &b"]".repeat(levels), b"}"].concat()
}

/// A key set with a member that holds so many values.
pub fn wide_json(values: usize) -> Vec<u8> {
    [br#"{"keys":[],"x":[0"#.as_slice(), &b",0".repeat(values.saturating_sub(1)), b"]}"].concat()
}

/// Deflate, no name, no time, an unknown system (RFC 1952, section 2.3).
const GZIP_HEADER: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff];

/// The checksum of RFC 1952, section 8, bit by bit.
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| crc >> 1 ^ if crc & 1 == 1 { 0xedb8_8320 } else { 0 })
    })
}

/// Bits in the order of deflate: from the least significant of each byte.
#[derive(Default)]
struct Bits {
    bytes: Vec<u8>,
    used: u32,
}

impl Bits {
    fn push(&mut self, bits: u32, count: u32) {
        for index in 0..count {
            if self.used.is_multiple_of(8) {
                self.bytes.push(0);
            }
            if bits >> index & 1 == 1
                && let Some(last) = self.bytes.last_mut()
            {
                *last |= 1 << (self.used % 8);
            }
            self.used += 1;
        }
    }

    /// Huffman codes are written from their most significant bit.
    fn push_code(&mut self, code: u32, count: u32) {
        for index in (0..count).rev() {
            self.push(code >> index & 1, 1);
        }
    }

    fn finish(self) -> Vec<u8> {
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What `gzip -dc` makes of it, and whether it was content.
    fn unzip(bytes: &[u8]) -> (Vec<u8>, bool) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("document.gz");
        std::fs::write(&path, bytes).unwrap();
        let output = std::process::Command::new("gzip").arg("-dc").arg(&path).output().unwrap();
        (output.stdout, output.status.success())
    }

    #[test]
    fn a_bomb_is_small_and_blows_up() {
        let bomb = gzip_bomb();
        assert!(bomb.len() < 1_000_000, "{}", bomb.len());
        // The checksum is wrong, so gzip complains, after having written everything.
        let (blown_up, _) = unzip(&bomb);
        assert!(blown_up.len() > 100_000_000, "{}", blown_up.len());
        assert!(blown_up.iter().all(|byte| *byte == b' '));
    }

    #[test]
    fn honest_gzip_unpacks_to_what_was_packed() {
        for length in [1, 300, 70_000] {
            let bytes: Vec<u8> = (0..length).map(|index: u32| index.to_le_bytes()[0]).collect();
            assert_eq!(unzip(&gzip(&bytes)), (bytes, true));
        }
    }

    #[test]
    fn json_bombs_are_json() {
        let wide: serde_json::Value = serde_json::from_slice(&wide_json(20_000)).unwrap();
        assert_eq!(wide["x"].as_array().unwrap().len(), 20_000);
        let deep: serde_json::Value = serde_json::from_slice(&deep_json(100)).unwrap();
        assert!(deep["x"].is_array());
        assert_eq!(deep_json(40_000).len(), 80_016);
    }
}

//! Bodies and their encoding, up to the limit.

use std::io::{self, Read as _};

use flate2::bufread::GzDecoder;
use http::HeaderMap;
use http::header::CONTENT_ENCODING;
use http_body_util::BodyExt as _;
use hyper::body::Incoming;

use super::RequestError;
use crate::fetch::{FetchError, MAX_BYTES};

/// Reads a body. The limit holds for the bytes that come and for what they decode to: a bomb ends where it would begin to hurt, and
/// nobody encodes to make a document longer.
pub(super) async fn read(headers: &HeaderMap, mut body: Incoming) -> Result<Vec<u8>, FetchError> {
    let mut bytes = Vec::new();
    while let Some(frame) = body.frame().await {
        // Trailers say nothing that is asked.
        let Ok(data) = frame.map_err(RequestError::Exchange)?.into_data() else { continue };
        if bytes.len() + data.len() > MAX_BYTES {
            return Err(FetchError::TooLong);
        }
        bytes.extend_from_slice(&data);
    }
    // Another encoding was not asked for and is not undone.
    if headers.get(CONTENT_ENCODING).is_some_and(|encoding| encoding.as_bytes().eq_ignore_ascii_case(b"gzip")) {
        decoded(&bytes)
    } else {
        Ok(bytes)
    }
}

/// What gzip makes of this, which is one member and nothing behind it.
fn decoded(encoded: &[u8]) -> Result<Vec<u8>, FetchError> {
    let mut bytes = Vec::new();
    let limit = u64::try_from(MAX_BYTES).unwrap_or(u64::MAX);
    let mut decoder = GzDecoder::new(encoded).take(limit + 1);
    decoder.read_to_end(&mut bytes).map_err(RequestError::Encoding)?;
    if bytes.len() > MAX_BYTES {
        return Err(FetchError::TooLong);
    }
    if !decoder.into_inner().into_inner().is_empty() {
        return Err(RequestError::Encoding(io::ErrorKind::InvalidData.into()).into());
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use flate2::Compression;
    use flate2::write::GzEncoder;

    use super::*;

    fn encoded(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn s41_a_hundred_kibibytes_are_decoded_and_one_byte_more_is_not() {
        let longest = vec![b' '; MAX_BYTES];
        assert_eq!(decoded(&encoded(&longest)).unwrap(), longest);
        assert!(matches!(decoded(&encoded(&vec![b' '; MAX_BYTES + 1])), Err(FetchError::TooLong)));
    }

    #[test]
    fn what_is_less_or_more_than_one_member_is_nothing() {
        let whole = encoded(br#"{"keys":[]}"#);
        assert_eq!(decoded(&whole).unwrap(), br#"{"keys":[]}"#);
        for length in 0..whole.len() {
            assert!(matches!(decoded(&whole[..length]), Err(FetchError::Http(RequestError::Encoding(_)))), "{length}");
        }
        for behind in [b"x".as_slice(), &[0; 512], &whole] {
            assert!(decoded(&[&whole, behind].concat()).is_err(), "{behind:?}");
        }
        let mut altered = whole;
        altered[12] ^= 1;
        assert!(decoded(&altered).is_err());
    }
}

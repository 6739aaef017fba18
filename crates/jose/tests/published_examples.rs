//! The examples of RFC 7515, RFC 7520, RFC 7797, RFC 8037 and RFC 9449.

#![expect(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

use std::collections::BTreeSet;

use countersign_jose::{KeySet, MalformedToken, SignatureAlgorithm, VerifyError, verify_signature};
use serde_json::{Value, json};

/// A published signature: who published it, the algorithm, the public key, the compact JWS, and its payload.
struct Example {
    section: &'static str,
    algorithm: SignatureAlgorithm,
    jwk: Value,
    compact: String,
    payload: &'static str,
}

const RFC_7515_PAYLOAD: &str = "{\"iss\":\"joe\",\r\n \"exp\":1300819380,\r\n \"http://example.com/is_root\":true}";

const RFC_7520_PAYLOAD: &str = "It’s a dangerous business, Frodo, going out your door. You step onto the road, and if you don't keep your feet, \
     there’s no knowing where you might be swept off to.";

const RFC_7520_PAYLOAD_SEGMENT: &str = "SXTigJlzIGEgZGFuZ2Vyb3VzIGJ1c2luZXNzLCBGcm9kbywgZ29pbmcgb3V0IHlvdXIgZG9vci4gWW91IHN0ZXAgb250byB0\
    aGUgcm9hZCwgYW5kIGlmIHlvdSBkb24ndCBrZWVwIHlvdXIgZmVldCwgdGhlcmXigJlzIG5vIGtub3dpbmcgd2hlcmUgeW91\
    IG1pZ2h0IGJlIHN3ZXB0IG9mZiB0by4";

fn rfc_7520_rsa_key() -> Value {
    let n = "n4EPtAOCc9AlkeQHPzHStgAbgs7bTZLwUBZdR8_KuKPEHLd4rHVTeT-O-XV2jRojdNhxJWTDvNd7nqQ0VEiZQHz_AJmSCpMa\
        JMRBSFKrKb2wqVwGU_NsYOYL-QtiWN2lbzcEe6XC0dApr5ydQLrHqkHHig3RBordaZ6Aj-oBHqFEHYpPe7Tpe-OfVfHd1E6c\
        S6M1FZcD1NNLYD5lFHpPI9bTwJlsde3uhGqC0ZCuEHg8lhzwOHrtIQbS0FVbb9k3-tVTU4fg_3L_vniUFAKwuCLqKnS2BYwd\
        q_mzSnbLY7h_qixoR7jig3__kRhuaxwUkRz5iaiQkqgc5gHdrNP5zw";
    json!({"kty": "RSA", "kid": "bilbo.baggins@hobbiton.example", "use": "sig", "n": n, "e": "AQAB"})
}

fn rfc_7515_compact(header: &str, signature: &str) -> String {
    let payload = "eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ";
    format!("{header}.{payload}.{signature}")
}

fn rfc_7520_compact(header: &str, signature: &str) -> String {
    format!("{header}.{RFC_7520_PAYLOAD_SEGMENT}.{signature}")
}

fn examples() -> Vec<Example> {
    vec![
        Example {
            section: "RFC 7515, appendix A.2",
            algorithm: SignatureAlgorithm::Rs256,
            jwk: json!({"kty": "RSA", "e": "AQAB", "n": RFC_7515_MODULUS}),
            compact: rfc_7515_compact("eyJhbGciOiJSUzI1NiJ9", RFC_7515_RS256),
            payload: RFC_7515_PAYLOAD,
        },
        Example {
            section: "RFC 7515, appendix A.3",
            algorithm: SignatureAlgorithm::Es256,
            jwk: json!({
                "kty": "EC",
                "crv": "P-256",
                "x": "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU",
                "y": "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0",
            }),
            compact: rfc_7515_compact(
                "eyJhbGciOiJFUzI1NiJ9",
                "DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q",
            ),
            payload: RFC_7515_PAYLOAD,
        },
        Example {
            section: "RFC 7515, appendix A.4",
            algorithm: SignatureAlgorithm::Es512,
            jwk: json!({
                "kty": "EC",
                "crv": "P-521",
                "x": "AekpBQ8ST8a8VcfVOTNl353vSrDCLLJXmPk06wTjxrrjcBpXp5EOnYG_NjFZ6OvLFV1jSfS9tsz4qUxcWceqwQGk",
                "y": "ADSmRA43Z1DSNx_RvcLI87cdL07l6jQyyBXMoxVg_l2Th-x3S1WDhjDly79ajL4Kkd0AZMaZmh9ubmf63e3kyMj2",
            }),
            compact: format!("eyJhbGciOiJFUzUxMiJ9.UGF5bG9hZA.{RFC_7515_ES512}"),
            payload: "Payload",
        },
        Example {
            section: "RFC 7520, section 4.1",
            algorithm: SignatureAlgorithm::Rs256,
            jwk: rfc_7520_rsa_key(),
            compact: rfc_7520_compact("eyJhbGciOiJSUzI1NiIsImtpZCI6ImJpbGJvLmJhZ2dpbnNAaG9iYml0b24uZXhhbXBsZSJ9", RFC_7520_RS256),
            payload: RFC_7520_PAYLOAD,
        },
        Example {
            section: "RFC 7520, section 4.2",
            algorithm: SignatureAlgorithm::Ps384,
            jwk: rfc_7520_rsa_key(),
            compact: rfc_7520_compact("eyJhbGciOiJQUzM4NCIsImtpZCI6ImJpbGJvLmJhZ2dpbnNAaG9iYml0b24uZXhhbXBsZSJ9", RFC_7520_PS384),
            payload: RFC_7520_PAYLOAD,
        },
        Example {
            section: "RFC 7520, section 4.3",
            algorithm: SignatureAlgorithm::Es512,
            jwk: json!({
                "kty": "EC",
                "kid": "bilbo.baggins@hobbiton.example",
                "use": "sig",
                "crv": "P-521",
                "x": "AHKZLLOsCOzz5cY97ewNUajB957y-C-U88c3v13nmGZx6sYl_oJXu9A5RkTKqjqvjyekWF-7ytDyRXYgCF5cj0Kt",
                "y": "AdymlHvOiLxXkEhayXQnNCvDX4h9htZaCJN34kfmC6pV5OhQHiraVySsUdaQkAgDPrwQrJmbnX9cwlGfP-HqHZR1",
            }),
            compact: rfc_7520_compact("eyJhbGciOiJFUzUxMiIsImtpZCI6ImJpbGJvLmJhZ2dpbnNAaG9iYml0b24uZXhhbXBsZSJ9", RFC_7520_ES512),
            payload: RFC_7520_PAYLOAD,
        },
        // The first of three signatures, in the compact serialisation. Its header leaves the key id out.
        Example {
            section: "RFC 7520, section 4.8",
            algorithm: SignatureAlgorithm::Rs256,
            jwk: rfc_7520_rsa_key(),
            compact: rfc_7520_compact("eyJhbGciOiJSUzI1NiJ9", RFC_7520_RS256_WITHOUT_KID),
            payload: RFC_7520_PAYLOAD,
        },
        Example {
            section: "RFC 8037, appendix A.4",
            algorithm: SignatureAlgorithm::EdDsa,
            jwk: json!({"kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}),
            compact: format!("eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc.{RFC_8037_EDDSA}"),
            payload: "Example of Ed25519 signing",
        },
    ]
}

fn key_set(jwks: &[Value]) -> KeySet {
    KeySet::parse(json!({"keys": jwks}).to_string().as_bytes()).unwrap()
}

fn refusal(text: &str, jwks: &[Value]) -> Option<VerifyError> {
    verify_signature(text, &key_set(jwks), &BTreeSet::from(SignatureAlgorithm::ALL)).err()
}

#[test]
fn published_signatures_verify() {
    for Example { section, algorithm, jwk, compact, payload } in examples() {
        let keys = key_set(&[jwk]);
        let verified = verify_signature(&compact, &keys, &BTreeSet::from([algorithm]));
        assert_eq!(verified.map(|bytes| String::from_utf8(bytes).unwrap()).as_deref(), Ok(payload), "{section}");
    }
}

#[test]
fn published_signatures_do_not_verify_over_another_payload() {
    for Example { section, algorithm, jwk, compact, .. } in examples() {
        let keys = key_set(&[jwk]);
        let [header, _, signature] = compact.split('.').collect::<Vec<_>>().try_into().unwrap();
        let altered = format!("{header}.QW5vdGhlciBwYXlsb2Fk.{signature}");
        let verified = verify_signature(&altered, &keys, &BTreeSet::from([algorithm]));
        assert_eq!(verified, Err(VerifyError::BadSignature), "{section}");
    }
}

#[test]
fn s01_published_signatures_in_the_json_serialisations_are_refused() {
    for Example { section, jwk, compact, .. } in examples() {
        let [header, payload, signature] = compact.split('.').collect::<Vec<_>>().try_into().unwrap();
        let flattened = json!({"payload": payload, "protected": header, "signature": signature});
        let general = json!({"payload": payload, "signatures": [{"protected": header, "signature": signature}]});
        // RFC 7520, sections 4.6 and 4.7: part of the header, or all of it, is not signed.
        let unprotected = json!({"payload": payload, "header": {"kid": jwk["kid"]}, "protected": header, "signature": signature});
        for text in [flattened, general, unprotected] {
            // A key id of the RFCs has two dots in it, so that three segments are found, none of them base64url.
            let refusal = refusal(&text.to_string(), std::slice::from_ref(&jwk));
            assert!(matches!(refusal, Some(VerifyError::Malformed(_))), "{section} {text}");
        }
        // RFC 7515, appendix F, and RFC 7520, section 4.5: the payload is elsewhere.
        let detached = format!("{header}..{signature}");
        assert_eq!(refusal(&detached, &[jwk]), Some(VerifyError::BadSignature), "{section}");
    }
}

#[test]
fn s03_s05_the_published_hmac_and_unsigned_examples_are_refused() {
    let rfc_7515 =
        json!({"kty": "oct", "k": "AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow"});
    let rfc_7520 = json!({
        "kty": "oct",
        "kid": "018c0ae5-4d9b-471b-bfd6-eef314bc7037",
        "use": "sig",
        "alg": "HS256",
        "k": "hJtXIZ2uSN5kbQfbtTNWbpdmhkV8FJG-Onbc6mxCcYg",
    });
    let keys = [rfc_7515, rfc_7520];
    assert!(key_set(&keys).is_empty());
    for (section, text) in [
        (
            "RFC 7515, appendix A.1",
            rfc_7515_compact("eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9", "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"),
        ),
        ("RFC 7515, appendix A.5", rfc_7515_compact("eyJhbGciOiJub25lIn0", "")),
        ("RFC 7515, appendix A.5, with a signature", rfc_7515_compact("eyJhbGciOiJub25lIn0", "QQ")),
        (
            "RFC 7520, section 4.4",
            rfc_7520_compact(
                "eyJhbGciOiJIUzI1NiIsImtpZCI6IjAxOGMwYWU1LTRkOWItNDcxYi1iZmQ2LWVlZjMxNGJjNzAzNyJ9",
                "s0h6KThzkfBBBkLspW1h84VsJZFTsPPqMDA7g1Md7p0",
            ),
        ),
        ("RFC 7797, section 4.1", "eyJhbGciOiJIUzI1NiJ9.JC4wMg.5mvfOroL-g7HyqJoozehmsaqmvTYGEq5jTI1gVvoEoQ".to_owned()),
    ] {
        let expected = if text.ends_with('.') { MalformedToken::Segments } else { MalformedToken::Algorithm };
        assert_eq!(refusal(&text, &keys), Some(VerifyError::Malformed(expected)), "{section}");
    }
}

#[test]
fn s07_published_unencoded_payloads_are_refused() {
    let header = "eyJhbGciOiJIUzI1NiIsImI2NCI6ZmFsc2UsImNyaXQiOlsiYjY0Il19";
    for (text, expected) in [
        // RFC 7797, section 4.2, and its payload put back in.
        (format!("{header}..A5dxf2s96_n5FLueVuW1Z_vh161FwXZC4YLPff6dmDY"), MalformedToken::Extension),
        (format!("{header}.$.02.A5dxf2s96_n5FLueVuW1Z_vh161FwXZC4YLPff6dmDY"), MalformedToken::Segments),
        // The same header over a payload that could be base64url.
        (format!("{header}.hello.xsz-SVW1Jtg1IiB5GN-ln0jj2w994q2hTPdPT0bZeQ4"), MalformedToken::Extension),
    ] {
        assert_eq!(refusal(&text, &[]), Some(VerifyError::Malformed(expected)), "{text}");
    }
}

#[test]
fn s06_a_published_token_that_brings_its_own_key_is_judged_by_ours() {
    // The DPoP proof of RFC 9449, section 4.1.
    let own = json!({
        "kty": "EC",
        "x": "l8tFrhx-34tV3hRICRDY9zCkDlpBhF42UQUfWVAWBFs",
        "y": "9VE4jf_Ok_o64zbTTlcuNJajHmt6v9TDVrU0CdvGRDA",
        "crv": "P-256",
    });
    let mut other = own.clone();
    other["x"] = json!("f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU");
    other["y"] = json!("x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0");
    assert_eq!(refusal(RFC_9449_PROOF, &[own]), None);
    assert_eq!(refusal(RFC_9449_PROOF, &[other]), Some(VerifyError::BadSignature));
    assert_eq!(refusal(RFC_9449_PROOF, &[]), Some(VerifyError::UnknownKey));
}

const RFC_7515_MODULUS: &str = "ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-4qPCJrcS2mJPMEzP1Pt0Bm4d4Ql\
    L-yRT-SFd2lZS-pCgNMsD1W_YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-bSf63kpaSHSXndS5z5rexMdbBYUs\
    LA9e-KXBdQOS-UTo7WTBEMa2R2CapHg665xsmtdVMTBQY4uDZlxvb3qCo5ZwKh9kG4LT6_I5IhlJH7aGhyxXFvUK-DWNmoud\
    F8NAco9_h9iaGNj8q2ethFkMLs91kzk2PAcDTW9gb54h4FRWyuXpoQ";

const RFC_7515_RS256: &str = "cC4hiUPoj9Eetdgtv3hF80EGrhuB__dzERat0XF9g2VtQgr9PJbu3XOiZj5RZmh7AAuHIm4Bh-0Qc_lF5YKt_O8W2Fp5jujG\
    bds9uJdbF9CUAr7t1dnZcAcQjbKBYNX4BAynRFdiuB--f_nZLgrnbyTyWzO75vRK5h6xBArLIARNPvkSjtQBMHlb1L07Qe7K\
    0GarZRmB_eSN9383LcOLn6_dO--xi12jzDwusC-eOkHWEsqtFZESc6BfI7noOPqvhJ1phCnvWh6IeYI2w9QOYEUipUTI8np6\
    LbgGY9Fs98rqVt5AXLIhWkWywlVmtVrBp0igcN_IoypGlUPQGe77Rw";

const RFC_7515_ES512: &str = "AdwMgeerwtHoh-l192l60hp9wAHZFVJbLfD_UxMi70cwnZOYaRI1bKPWROc-mZZqwqT2SI-KGDKB34XO0aw_7XdtAG8GaSwF\
    KdCAPZgoXD2YBJZCPEX3xKpRwcdOO8KpEHwJjyqOgzDO7iKvU8vcnwNrmxYbSW9ERBXukOXolLzeO_Jn";

const RFC_7520_RS256: &str = "MRjdkly7_-oTPTS3AXP41iQIGKa80A0ZmTuV5MEaHoxnW2e5CZ5NlKtainoFmKZopdHM1O2U4mwzJdQx996ivp83xuglII7P\
    NDi84wnB-BDkoBwA78185hX-Es4JIwmDLJK3lfWRa-XtL0RnltuYv746iYTh_qHRD68BNt1uSNCrUCTJDt5aAE6x8wW1Kt9e\
    Ro4QPocSadnHXFxnt8Is9UzpERV0ePPQdLuW3IS_de3xyIrDaLGdjluPxUAhb6L2aXic1U12podGU0KLUQSE_oI-ZnmKJ3F4\
    uOZDnd6QZWJushZ41Axf_fcIe8u9ipH84ogoree7vjbU5y18kDquDg";

const RFC_7520_PS384: &str = "cu22eBqkYDKgIlTpzDXGvaFfz6WGoz7fUDcfT0kkOy42miAh2qyBzk1xEsnk2IpN6-tPid6VrklHkqsGqDqHCdP6O8TTB5dD\
    DItllVo6_1OLPpcbUrhiUSMxbbXUvdvWXzg-UD8biiReQFlfz28zGWVsdiNAUf8ZnyPEgVFn442ZdNqiVJRmBqrYRXe8P_ij\
    Q7p8Vdz0TTrxUeT3lm8d9shnr2lfJT8ImUjvAA2Xez2Mlp8cBE5awDzT0qI0n6uiP1aCN_2_jLAeQTlqRHtfa64QQSUmFAAj\
    VKPbByi7xho0uTOcbH510a6GYmJUAfmWjwZ6oD4ifKo8DYM-X72Eaw";

const RFC_7520_ES512: &str = "AE_R_YZCChjn4791jSQCrdPZCNYqHXCTZH0-JZGYNlaAjP2kqaluUIIUnC9qvbu9Plon7KRTzoNEuT4Va2cmL1eJAQy3mtPB\
    u_u_sDDyYjnAMDxXPn7XrT0lw-kvAD890jl8e2puQens_IEKBpHABlsbEPX6sFY8OcGDqoRuBomu9xQ2";

const RFC_8037_EDDSA: &str = "hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg";

const RFC_7520_RS256_WITHOUT_KID: &str = "MIsjqtVlOpa71KE-Mss8_Nq2YH4FGhiocsqrgi5NvyG53uoimic1tcMdSg-qptrzZc7CG6Svw2Y13TDIqHzTUrL_lR2ZFcry\
    NFiHkSw129EghGpwkpxaTn_THJTCglNbADko1MZBCdwzJxwqZc-1RlpO2HibUYyXSwO97BSe0_evZKdjvvKSgsIqjytKSeAM\
    bhMBdMma622_BG5t4sdbuCHtFjp9iJmkio47AIwqkZV1aIZsv33uPUqBBCXbYoQJwt7mxPftHmNlGoOSMxR_3thmXTCm4US-\
    xiNOyhbm8afKK64jU6_TPtQHiJeQJxz9G3Tx-083B745_AfYOnlC9w";

const RFC_9449_PROOF: &str = "eyJ0eXAiOiJkcG9wK2p3dCIsImFsZyI6IkVTMjU2IiwiandrIjp7Imt0eSI6IkVDIiwieCI6Imw4dEZyaHgtMzR0VjNoUklD\
    UkRZOXpDa0RscEJoRjQyVVFVZldWQVdCRnMiLCJ5IjoiOVZFNGpmX09rX282NHpiVFRsY3VOSmFqSG10NnY5VERWclUwQ2R2\
    R1JEQSIsImNydiI6IlAtMjU2In19.eyJqdGkiOiItQndDM0VTYzZhY2MybFRjIiwiaHRtIjoiUE9TVCIsImh0dSI6Imh0dHBz\
    Oi8vc2VydmVyLmV4YW1wbGUuY29tL3Rva2VuIiwiaWF0IjoxNTYyMjYyNjE2fQ.2-GxA6T8lP4vfrg8v-FdWP0A0zdrj8igi\
    MLvqRMUvwnQg4PtFLbdLXiOSsX0x7NVY-FNyJK70nfbV37xRZT3Lg";

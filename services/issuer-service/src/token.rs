//! The PKCS #11 token of the settings, in a binary that has the feature.

use std::sync::Arc;

use countersign_jose::KeyDevice;
use countersign_jose::sealed::KeyEncryptionKey;
use issuer_service::Pkcs11;

/// What a token gives.
pub(crate) struct Opened {
    pub(crate) key_device: Option<Arc<dyn KeyDevice>>,
    pub(crate) key_encryption_key: Option<KeyEncryptionKey>,
}

#[cfg(feature = "pkcs11")]
pub(crate) fn open(settings: &Pkcs11) -> anyhow::Result<Opened> {
    use anyhow::Context as _;
    use countersign_pkcs11::{Token, TokenSettings};
    use countersign_runtime::secret;

    let Pkcs11 { module, token_label, pin_file, key_encryption_key_label, keeps_access_token_keys: _ } = settings;
    let Some(module) = module.clone() else { return Ok(Opened { key_device: None, key_encryption_key: None }) };
    let pin = secret::read_text(pin_file.as_deref().context("pkcs11.pin_file must be given")?)?;
    let token =
        Token::open(TokenSettings { module, token_label: token_label.clone(), pin }).context("cannot open the PKCS #11 token")?;
    let label = Some(key_encryption_key_label).filter(|label| !label.is_empty());
    let key_encryption_key = label.map(|label| token.key_encryption_key(label)).transpose().context("no key-encryption key")?;
    Ok(Opened { key_device: Some(Arc::new(token)), key_encryption_key })
}

#[cfg(not(feature = "pkcs11"))]
pub(crate) fn open(settings: &Pkcs11) -> anyhow::Result<Opened> {
    // The check of settings says it before, with everything else that is wrong.
    anyhow::ensure!(settings.module.is_none(), "this binary was built without the feature `pkcs11`");
    Ok(Opened { key_device: None, key_encryption_key: None })
}

//! Who speaks: commands and statuses may be signed, each key for its organisations only.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::sync::Arc;

use ring::hmac;

/// The headers that a signed message has.
pub const KEY: &str = "muster-key";
pub const SIGNATURE: &str = "muster-signature";

/// The keys that are known.
#[derive(Clone, Debug, Default)]
pub struct Keys {
    keys: BTreeMap<String, Arc<Key>>,
    /// Whoever does not sign is refused.
    pub required: bool,
}

/// A secret that is shared with somebody, and for whom he may speak.
#[derive(Debug)]
pub struct Key {
    id: String,
    secret: hmac::Key,
    organizations: BTreeSet<String>,
}

/// Whom a message comes from.
#[derive(Clone, Debug)]
pub enum Speaker {
    /// Nobody signed it, and nobody has to.
    Anybody,
    /// A key, for its organisations.
    Of(Arc<Key>),
}

impl Speaker {
    /// The id of the key that signed.
    pub fn key(&self) -> Option<&str> {
        match self {
            Speaker::Anybody => None,
            Speaker::Of(key) => Some(&key.id),
        }
    }

    /// Whether it may speak for an organisation; `None` is all of them.
    pub fn speaks_for(&self, organization: Option<&str>) -> Result<(), String> {
        let Speaker::Of(key) = self else {
            return Ok(());
        };
        let Key {
            id: key,
            organizations,
            ..
        } = key.as_ref();
        match organization {
            Some(organization) if organizations.contains(organization) => Ok(()),
            Some(organization) => Err(format!(
                "the key `{key}` does not speak for organization `{organization}`"
            )),
            None => Err(format!(
                "the key `{key}` does not speak for all organizations; name one of its own in `organization`"
            )),
        }
    }
}

impl Keys {
    pub fn new(required: bool) -> Keys {
        Keys {
            keys: BTreeMap::new(),
            required,
        }
    }

    pub fn add(&mut self, id: &str, secret: &[u8], organizations: &[String]) {
        let key = Key {
            id: id.to_owned(),
            secret: hmac::Key::new(hmac::HMAC_SHA256, secret),
            organizations: organizations.iter().cloned().collect(),
        };
        self.keys.insert(id.to_owned(), Arc::new(key));
    }

    /// Who signed a body. A signature that does not fit is refused also where none is required.
    pub fn speaker(&self, headers: &[(String, String)], body: &[u8]) -> Result<Speaker, String> {
        let header = |name: &str| {
            let mut named = headers
                .iter()
                .filter(|(known, _)| known.eq_ignore_ascii_case(name));
            named.next().map(|(_, value)| value.as_str())
        };
        let (id, signature) = match (header(KEY), header(SIGNATURE)) {
            (None, None) if !self.required => return Ok(Speaker::Anybody),
            (None, None) => {
                return Err(format!(
                    "it is not signed; signatures are required (headers `{KEY}` and `{SIGNATURE}`)"
                ));
            }
            (Some(id), Some(signature)) => (id, signature),
            (Some(_), None) => return Err(format!("the header `{SIGNATURE}` is missing")),
            (None, Some(_)) => return Err(format!("the header `{KEY}` is missing")),
        };
        let Some(key) = self.keys.get(id) else {
            return Err("the key that the header names is not known".to_owned());
        };
        let signature = from_hex(signature).ok_or_else(|| {
            format!("the header `{SIGNATURE}` is not the hex of an HMAC-SHA256: 64 digits")
        })?;
        // In constant time.
        hmac::verify(&key.secret, body, &signature)
            .map_err(|_| format!("the signature does not fit the body and the key `{id}`"))?;
        Ok(Speaker::Of(key.clone()))
    }

    /// The headers for a body, signed with one of the keys.
    pub fn sign(&self, id: &str, body: &[u8]) -> Option<[(String, String); 2]> {
        let key = self.keys.get(id)?;
        let signature = hmac::sign(&key.secret, body);
        let mut hex = String::with_capacity(64);
        for byte in signature.as_ref() {
            let _ = write!(hex, "{byte:02x}");
        }
        Some([(KEY.to_owned(), id.to_owned()), (SIGNATURE.to_owned(), hex)])
    }
}

fn from_hex(text: &str) -> Option<[u8; 32]> {
    let digits = text.as_bytes();
    if digits.len() != 64 {
        return None;
    }
    let mut bytes = [0; 32];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        let pair = std::str::from_utf8(pair).ok()?;
        *byte = u8::from_str_radix(pair, 16).ok()?;
    }
    Some(bytes)
}

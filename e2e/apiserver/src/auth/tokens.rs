//! Service account tokens: signed claims bound to a service account and, optionally, to a pod.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::hmac;
use serde_json::{Value, json};

use super::User;
use crate::store::{GroupResource, Key, Store};

/// Issues and checks tokens.
pub struct Tokens {
    key: hmac::Key,
}

/// Issuer of the tokens.
pub const ISSUER: &str = "https://kubernetes.default.svc.cluster.local";

/// What a token is issued for.
pub struct Grant<'a> {
    /// Namespace of the service account.
    pub namespace: &'a str,
    /// The service account object.
    pub account: &'a Value,
    /// Audiences; the API server's own when empty.
    pub audiences: &'a [String],
    /// Kind, name and uid of the object the token dies with.
    pub bound: Option<(String, String, String)>,
    /// Seconds until it expires.
    pub seconds: i64,
}

impl Tokens {
    /// With a new key.
    pub fn new() -> Self {
        let secret: [u8; 32] = rand::random();
        Self { key: hmac::Key::new(hmac::HMAC_SHA256, &secret) }
    }

    /// Issues a token; `now` in seconds since the epoch.
    pub fn issue(&self, grant: &Grant<'_>, now: i64) -> String {
        let name = grant.account["metadata"]["name"].as_str().unwrap_or_default();
        let mut kubernetes = json!({
            "namespace": grant.namespace,
            "serviceaccount": {"name": name, "uid": grant.account["metadata"]["uid"]},
        });
        if let Some((kind, name, uid)) = &grant.bound {
            kubernetes[kind.to_lowercase()] = json!({"name": name, "uid": uid});
        }
        let audiences =
            if grant.audiences.is_empty() { vec![ISSUER.to_owned()] } else { grant.audiences.to_vec() };
        let claims = json!({
            "aud": audiences, "exp": now + grant.seconds, "iat": now, "nbf": now, "iss": ISSUER,
            "jti": uuid::Uuid::new_v4().to_string(),
            "kubernetes.io": kubernetes,
            "sub": format!("system:serviceaccount:{}:{name}", grant.namespace),
        });
        let head = URL_SAFE_NO_PAD.encode(json!({"alg": "HS256", "typ": "JWT"}).to_string());
        let signed = format!("{head}.{}", URL_SAFE_NO_PAD.encode(claims.to_string()));
        let tag = hmac::sign(&self.key, signed.as_bytes());
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(tag.as_ref()))
    }

    /// Who a token speaks for, with its audiences; `None` for a token that is not (or no longer) good.
    pub fn check(&self, token: &str, store: &Store, now: i64) -> Option<(User, Vec<String>)> {
        let (signed, tag) = token.rsplit_once('.')?;
        let tag = URL_SAFE_NO_PAD.decode(tag).ok()?;
        hmac::verify(&self.key, signed.as_bytes(), &tag).ok()?;
        let (_, claims) = signed.split_once('.')?;
        let claims: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(claims).ok()?).ok()?;
        if claims["exp"].as_i64()? <= now {
            return None;
        }
        let kubernetes = &claims["kubernetes.io"];
        let namespace = kubernetes["namespace"].as_str()?;
        let account = &kubernetes["serviceaccount"];
        let lives = |resource: &str, reference: &Value| {
            let key = Key {
                gr: GroupResource::new("", resource),
                namespace: namespace.into(),
                name: reference["name"].as_str().unwrap_or_default().into(),
            };
            store.get(&key).is_some_and(|o| o["metadata"]["uid"] == reference["uid"])
        };
        if !lives("serviceaccounts", account) {
            return None;
        }
        let mut user = User::service_account(namespace, account["name"].as_str()?, account["uid"].as_str()?);
        for (claim, resource, extra) in [("pod", "pods", "pod"), ("secret", "secrets", "secret")] {
            let Some(reference) = kubernetes.get(claim) else { continue };
            if !lives(resource, reference) {
                return None;
            }
            for part in ["name", "uid"] {
                let value = reference[part].as_str().unwrap_or_default().to_owned();
                user.extra.insert(format!("authentication.kubernetes.io/{extra}-{part}"), vec![value]);
            }
        }
        let audiences =
            claims["aud"].as_array()?.iter().filter_map(|a| a.as_str().map(str::to_owned)).collect();
        Some((user, audiences))
    }
}

impl Default for Tokens {
    fn default() -> Self {
        Self::new()
    }
}

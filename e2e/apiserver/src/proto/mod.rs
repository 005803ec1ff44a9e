//! Bodies in the protobuf form that typed clients send for built-in kinds: decoded to JSON by a table of field
//! numbers (`messages.txt`: message, then `name=number:type`, `*` for repeated, `map:` for maps with text keys).

use std::collections::HashMap;
use std::sync::OnceLock;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chrono::{DateTime, SecondsFormat};
use serde_json::{Map, Value};

/// Content type of the form.
pub const MEDIA_TYPE: &str = "application/vnd.kubernetes.protobuf";

const MAGIC: &[u8] = b"k8s\0";

/// Structures whose fields stand in their parent.
const INLINE: &[&str] = &[
    "volumeSource",
    "handler",
    "localObjectReference",
    "ingressRuleValue",
    "ephemeralContainerCommon",
    "persistentVolumeSource",
];

/// Numbers and flags that say something even when they are zero; all others are as good as absent.
const MEANINGFUL_ZERO: &[&str] = &[
    "replicas",
    "automountServiceAccountToken",
    "suspend",
    "immutable",
    "backoffLimit",
    "activeDeadlineSeconds",
    "ttlSecondsAfterFinished",
    "terminationGracePeriodSeconds",
    "gracePeriodSeconds",
    "expirationSeconds",
    "parallelism",
    "completions",
    "runAsUser",
    "runAsGroup",
    "fsGroup",
    "runAsNonRoot",
    "readOnlyRootFilesystem",
    "allowPrivilegeEscalation",
    "privileged",
    "optional",
    "controller",
    "blockOwnerDeletion",
    "partition",
    "enableServiceLinks",
    "revisionHistoryLimit",
    "successfulJobsHistoryLimit",
    "failedJobsHistoryLimit",
    "orphanDependents",
    "leaseTransitions",
    "tolerationSeconds",
    "port",
];

struct Field {
    name: &'static str,
    ty: &'static str,
    repeated: bool,
    map: bool,
}

type Messages = HashMap<&'static str, HashMap<u64, Field>>;

fn messages() -> &'static Messages {
    static TABLE: OnceLock<Messages> = OnceLock::new();
    TABLE.get_or_init(|| {
        let mut table = HashMap::new();
        for line in include_str!("messages.txt").lines() {
            let mut words = line.split(' ');
            let message = words.next().unwrap_or_default();
            let fields = words.filter_map(|word| {
                let (name, rest) = word.split_once('=')?;
                let (number, ty) = rest.split_once(':')?;
                let (repeated, ty) = ty.strip_prefix('*').map_or((false, ty), |t| (true, t));
                let (map, ty) = ty.strip_prefix("map:").map_or((false, ty), |t| (true, t));
                Some((number.parse().ok()?, Field { name, ty, repeated, map }))
            });
            table.insert(message, fields.collect());
        }
        table
    })
}

/// One field on the wire.
enum Wire<'a> {
    Number(u64),
    Bytes(&'a [u8]),
    Double(f64),
}

fn varint(data: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (first, rest) = data.split_first()?;
        *data = rest;
        value |= u64::from(first & 0x7f) << shift;
        if first & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

fn take<'a>(data: &mut &'a [u8], length: usize) -> Option<&'a [u8]> {
    let (head, rest) = data.split_at_checked(length)?;
    *data = rest;
    Some(head)
}

fn fields(mut data: &[u8]) -> Option<Vec<(u64, Wire<'_>)>> {
    let mut out = Vec::new();
    while !data.is_empty() {
        let tag = varint(&mut data)?;
        let value = match tag & 7 {
            0 => Wire::Number(varint(&mut data)?),
            1 => Wire::Double(f64::from_le_bytes(take(&mut data, 8)?.try_into().ok()?)),
            2 => {
                let length = usize::try_from(varint(&mut data)?).ok()?;
                Wire::Bytes(take(&mut data, length)?)
            }
            5 => {
                take(&mut data, 4)?;
                continue;
            }
            _ => return None,
        };
        out.push((tag >> 3, value));
    }
    Some(out)
}

fn scalar(ty: &str, wire: &Wire<'_>) -> Option<Value> {
    Some(match (ty, wire) {
        ("string", Wire::Bytes(text)) => String::from_utf8_lossy(text).into_owned().into(),
        ("bytes", Wire::Bytes(data)) => STANDARD.encode(data).into(),
        ("bool", Wire::Number(flag)) => (*flag != 0).into(),
        ("int32" | "int64" | "uint32" | "uint64", Wire::Number(number)) => number.cast_signed().into(),
        ("double", Wire::Double(number)) => Value::from(*number),
        (message, Wire::Bytes(data)) => return decode(message, data),
        _ => return None,
    })
}

fn special(message: &str, data: &[u8]) -> Option<Option<Value>> {
    let number = |wanted: u64| -> Option<i64> {
        fields(data)?.into_iter().find_map(|(n, w)| match w {
            Wire::Number(v) if n == wanted => Some(v.cast_signed()),
            _ => None,
        })
    };
    let bytes = |wanted: u64| -> Option<&[u8]> {
        fields(data)?.into_iter().find_map(|(n, w)| match w {
            Wire::Bytes(v) if n == wanted => Some(v),
            _ => None,
        })
    };
    let text = |wanted| bytes(wanted).map(|b| Value::from(String::from_utf8_lossy(b).into_owned()));
    match message {
        "apis.meta.v1.Time" | "apis.meta.v1.MicroTime" => {
            if data.is_empty() {
                return Some(None);
            }
            let nanos = u32::try_from(number(2).unwrap_or(0)).ok()?;
            let time = DateTime::from_timestamp(number(1).unwrap_or(0), nanos)?;
            let format =
                if message.ends_with("MicroTime") { SecondsFormat::Micros } else { SecondsFormat::Secs };
            Some(Some(time.to_rfc3339_opts(format, true).into()))
        }
        "api.resource.Quantity" => Some(text(1)),
        "util.intstr.IntOrString" => {
            Some(if number(1) == Some(1) { text(3) } else { Some(number(2).unwrap_or(0).into()) })
        }
        "runtime.RawExtension" | "apis.meta.v1.FieldsV1" => {
            Some(bytes(1).and_then(|raw| serde_json::from_slice(raw).ok()))
        }
        "apis.meta.v1.Verbs" | "authorization.v1.ExtraValue" | "authentication.v1.ExtraValue" => {
            let list = fields(data)?.into_iter().filter_map(|(_, wire)| scalar("string", &wire));
            Some(Some(list.collect()))
        }
        _ => None,
    }
}

fn silent(name: &str, value: &Value) -> bool {
    match value {
        Value::String(text) => text.is_empty(),
        Value::Bool(false) => !MEANINGFUL_ZERO.contains(&name),
        Value::Number(n) => n.as_i64() == Some(0) && !MEANINGFUL_ZERO.contains(&name),
        _ => false,
    }
}

/// Decodes a message of the table.
fn decode(message: &str, data: &[u8]) -> Option<Value> {
    if let Some(value) = special(message, data) {
        return value;
    }
    let table = messages().get(message)?;
    let mut object = Map::new();
    for (number, wire) in fields(data)? {
        let Some(field) = table.get(&number) else { continue };
        if field.map {
            let Wire::Bytes(entry) = wire else { continue };
            let (mut key, mut value) = (String::new(), None);
            for (n, w) in fields(entry)? {
                match (n, &w) {
                    (1, Wire::Bytes(text)) => key = String::from_utf8_lossy(text).into_owned(),
                    (2, _) => value = scalar(field.ty, &w),
                    _ => {}
                }
            }
            let slot = object.entry(field.name).or_insert_with(|| Value::Object(Map::new()));
            slot[key] = value.unwrap_or_else(|| Value::from(""));
            continue;
        }
        let Some(value) = scalar(field.ty, &wire) else { continue };
        if field.repeated {
            if let Value::Array(list) = object.entry(field.name).or_insert_with(|| Value::Array(Vec::new())) {
                list.push(value);
            }
        } else if INLINE.contains(&field.name) {
            if let Value::Object(inner) = value {
                object.extend(inner);
            }
        } else if !silent(field.name, &value) {
            object.insert(field.name.into(), value);
        }
    }
    Some(Value::Object(object))
}

/// The package of a group's messages.
fn package(api_version: &str) -> String {
    match api_version.split_once('/') {
        None => format!("core.{api_version}"),
        Some((group, version)) => format!("{}.{version}", group.split('.').next().unwrap_or_default()),
    }
}

/// Decodes a body; the error says what is wrong with it.
pub fn body(data: &[u8]) -> Result<Value, String> {
    let data = data.strip_prefix(MAGIC).ok_or("the body does not start with the protobuf mark")?;
    let broken = || "the body is not a protobuf message".to_owned();
    let (mut api_version, mut kind, mut raw) = (String::new(), String::new(), &data[..0]);
    for (number, wire) in fields(data).ok_or_else(broken)? {
        match (number, wire) {
            (1, Wire::Bytes(meta)) => {
                for (n, w) in fields(meta).ok_or_else(broken)? {
                    if let Wire::Bytes(text) = w {
                        let text = String::from_utf8_lossy(text).into_owned();
                        if n == 1 { api_version = text } else { kind = text }
                    }
                }
            }
            (2, Wire::Bytes(bytes)) => raw = bytes,
            _ => {}
        }
    }
    let own = format!("{}.{kind}", package(&api_version));
    let name = if messages().contains_key(own.as_str()) { own } else { format!("apis.meta.v1.{kind}") };
    let mut value = decode(&name, raw)
        .filter(Value::is_object)
        .ok_or_else(|| format!("no kind {kind:?} is registered for version {api_version:?}"))?;
    value["apiVersion"] = api_version.into();
    value["kind"] = kind.into();
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn every_field_has_its_place_in_the_json_form() {
        let mut lost = Vec::new();
        for (message, fields) in messages() {
            let Some(form) = crate::schema::builtin::definition(&format!("io.k8s.api.{message}")) else {
                continue;
            };
            for field in fields.values() {
                let known = form.properties.contains_key(field.name);
                if known == INLINE.contains(&field.name) {
                    lost.push(format!("{message}.{}", field.name));
                }
            }
        }
        lost.sort();
        assert_eq!(lost, [] as [String; 0]);
    }

    #[test]
    fn a_secret_as_a_typed_client_sends_it() {
        let mut data = b"k8s\0".to_vec();
        data.extend(hex::decode("0a0c0a02763112065365637265").unwrap());
        data.extend(
            hex::decode("74121d0a110a017312001a0022002a0032003800420012060a01611201621a001a002200").unwrap(),
        );
        assert_eq!(
            body(&data).unwrap(),
            json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}, "data": {"a": "Yg=="}})
        );
        assert!(body(b"{}").is_err());
        assert!(body(b"k8s\0\x0a\xff").is_err());
    }
}

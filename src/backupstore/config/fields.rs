//! How Go's `encoding/json` writes the fields, with the two forms its `,string` tag makes.

use std::fmt;

use serde::{
    Deserialize, Deserializer, Serializer,
    de::{Error as _, Visitor},
};

/// Reads `null` as the empty value.
pub fn or_default<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(input: D) -> Result<T, D::Error> {
    Ok(Option::deserialize(input)?.unwrap_or_default())
}

/// A size or count as a string of digits: `"67108864"`. Plain numbers are read too. Longhorn's are signed 64-bit.
pub mod digits {
    use super::{Deserializer, Serializer, Unsigned};

    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands over a reference")]
    pub fn serialize<S: Serializer>(value: &u64, output: S) -> Result<S::Ok, S::Error> {
        output.collect_str(value)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(input: D) -> Result<u64, D::Error> {
        input.deserialize_any(Unsigned)
    }
}

struct Unsigned;

impl Visitor<'_> for Unsigned {
    type Value = u64;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a number from 0 to 9223372036854775807")
    }

    fn visit_u64<E: serde::de::Error>(self, value: u64) -> Result<u64, E> {
        if i64::try_from(value).is_ok() { Ok(value) } else { Err(E::invalid_value(unsigned(value), &self)) }
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<u64, E> {
        let value = text.parse().map_err(|_| E::invalid_value(serde::de::Unexpected::Str(cut(text)), &self))?;
        self.visit_u64(value)
    }

    fn visit_unit<E>(self) -> Result<u64, E> {
        Ok(0)
    }
}

fn unsigned(value: u64) -> serde::de::Unexpected<'static> {
    serde::de::Unexpected::Unsigned(value)
}

/// The start of a text that may be long.
fn cut(text: &str) -> &str {
    text.char_indices().nth(40).map_or(text, |(at, _)| &text[..at])
}

/// A string that is JSON inside a JSON string: `"\"lz4\""`. The plain form is read too.
pub mod quoted {
    use super::{Deserialize as _, Deserializer, Serializer, cut};

    pub fn serialize<S: Serializer>(value: &str, output: S) -> Result<S::Ok, S::Error> {
        output.serialize_str(&serde_json::Value::from(value).to_string())
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(input: D) -> Result<String, D::Error> {
        let text = Option::<String>::deserialize(input)?.unwrap_or_default();
        if !text.starts_with('"') {
            return Ok(text);
        }
        serde_json::from_str(&text).map_err(|_| {
            <D::Error as serde::de::Error>::custom(format_args!("{:?} is not a quoted string", cut(&text)))
        })
    }
}

/// A map written as `null` when empty, as Go writes one that was never made.
pub mod map {
    use std::collections::BTreeMap;

    use super::Serializer;

    pub fn serialize<S: Serializer>(map: &BTreeMap<String, String>, output: S) -> Result<S::Ok, S::Error> {
        if map.is_empty() { output.serialize_none() } else { output.collect_map(map) }
    }

    pub use super::or_default as deserialize;
}

/// A block's checksum, read without keeping the text.
impl<'de> Deserialize<'de> for crate::backupstore::block::Checksum {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        struct Hex;

        impl Visitor<'_> for Hex {
            type Value = crate::backupstore::block::Checksum;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a block checksum of 64 lower-case hex digits")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Self::Value, E> {
                text.parse().map_err(E::custom)
            }
        }

        input.deserialize_str(Hex)
    }
}

/// The value of `backup-block-size`: a Kubernetes quantity; missing, empty and 0 mean 2 MiB.
pub fn block_size(quantity: Option<&str>) -> Result<u64, String> {
    use crate::backupstore::block::{DEFAULT_BLOCK_SIZE, LARGE_BLOCK_SIZE};

    let text = quantity.unwrap_or_default();
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let unit = match unit {
        "" => 1,
        "k" => 1000,
        "Ki" => 1 << 10,
        "M" => 1_000_000,
        "Mi" => 1 << 20,
        _ => 0,
    };
    match number.parse::<u64>().ok().and_then(|number| number.checked_mul(unit)) {
        None if text.is_empty() => Ok(DEFAULT_BLOCK_SIZE),
        Some(0) if unit != 0 => Ok(DEFAULT_BLOCK_SIZE),
        Some(size @ (DEFAULT_BLOCK_SIZE | LARGE_BLOCK_SIZE)) => Ok(size),
        _ => Err(format!("block size {:?} is neither 2 MiB nor 16 MiB", cut(text))),
    }
}

/// Reads an object field of no interest without keeping it.
pub fn ignored<'de, D: Deserializer<'de>, T: Default>(input: D) -> Result<T, D::Error> {
    serde::de::IgnoredAny::deserialize(input).map_err(D::Error::custom)?;
    Ok(T::default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn block_sizes_are_quantities() {
        for (text, size) in [
            (None, 2 << 20),
            (Some(""), 2 << 20),
            (Some("0"), 2 << 20),
            (Some("2097152"), 2 << 20),
            (Some("2Mi"), 2 << 20),
            (Some("2048Ki"), 2 << 20),
            (Some("16777216"), 16 << 20),
            (Some("16Mi"), 16 << 20),
        ] {
            assert_eq!(block_size(text), Ok(size), "{text:?}");
        }
        for text in ["1", "-1", "4Mi", "2M", "2Xi", "Mi", "99999999999999999999", "9999999999999999Mi", "0Xi"] {
            assert!(block_size(Some(text)).is_err(), "{text}");
        }
    }
}

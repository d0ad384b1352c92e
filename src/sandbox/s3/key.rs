//! Which file an object lies in.
//!
//! Most keys are relative paths and lie there, so that a person can look into a bucket with `ls`. S3 knows more keys
//! than a file system has paths: `a//b`, `../x`, `a/`, segments over 255 bytes, and `a` beside `a/b`. Those lie under
//! an [`encoded`] name in a folder of their own.

use std::{fmt::Write, path::PathBuf};

use base64::{Engine, prelude::BASE64_URL_SAFE};

/// The longest file name of common file systems, in bytes.
const NAME_LIMIT: usize = 255;
/// Encoded keys are cut into folders of this length, and a last part that ends in [`END`].
const PIECE: usize = 200;
const END: char = '=';

/// The key as a relative path, if it can be one.
pub(super) fn plain(key: &str) -> Option<PathBuf> {
    let fits = |name: &str| !matches!(name, "" | "." | "..") && name.len() <= NAME_LIMIT && !name.contains('\0');
    key.split('/').all(fits).then(|| PathBuf::from(key))
}

/// A relative path for any key, from which [`decoded`] gets it back: everything but letters, digits, `-` and `_` as
/// `%XX`, so that no name is hidden, special, or the folder of another.
pub(super) fn encoded(key: &str) -> PathBuf {
    let mut name = String::with_capacity(key.len() + key.len() / 2);
    for byte in key.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' => name.push(byte.into()),
            // Writing to a String cannot fail.
            _ => {
                let _ = write!(name, "%{byte:02X}");
            }
        }
    }
    let mut path = PathBuf::new();
    let mut rest = name.as_str();
    while rest.len() > PIECE {
        let (piece, more) = rest.split_at(PIECE);
        path.push(piece);
        rest = more;
    }
    path.push(format!("{rest}{END}"));
    path
}

/// The key of an encoded path with its separators removed; `None` for what is not one.
pub(super) fn decoded(name: &str) -> Option<String> {
    let mut rest = name.strip_suffix(END)?.bytes();
    let mut key = Vec::with_capacity(name.len());
    while let Some(byte) = rest.next() {
        if byte == b'%' {
            let digits = [rest.next()?, rest.next()?];
            key.push(u8::from_str_radix(std::str::from_utf8(&digits).ok()?, 16).ok()?);
        } else {
            key.push(byte);
        }
    }
    String::from_utf8(key).ok()
}

/// As `encoding-type=url` wants it in listings: RFC 3986 percent-encoding with `/` kept.
pub(super) fn url_encoded(text: &str) -> String {
    text.bytes().fold(String::with_capacity(text.len()), |mut url, byte| {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'/' => url.push(byte.into()),
            _ => {
                let _ = write!(url, "%{byte:02X}");
            }
        }
        url
    })
}

/// A page's last name as a token that XML and URLs carry unharmed.
pub(super) fn to_token(name: &str) -> String {
    BASE64_URL_SAFE.encode(name)
}

/// The name of [`to_token`].
pub(super) fn from_token(token: &str) -> Option<String> {
    String::from_utf8(BASE64_URL_SAFE.decode(token).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_real_paths_are_plain() {
        assert_eq!(plain("a/b c/ü.cfg"), Some(PathBuf::from("a/b c/ü.cfg")));
        for key in ["", "/a", "a/", "a//b", ".", "..", "a/../b", "a/./b", "a\0b", &"x".repeat(256)] {
            assert_eq!(plain(key), None, "{key:?}");
        }
    }

    #[test]
    fn every_key_survives_encoding() {
        for key in ["a/b", "../x", "a//b/", "100%=", "\0\u{1}\n", "ü", &"é/".repeat(340), &"x".repeat(1024)] {
            let path = encoded(key);
            assert!(path.iter().all(|name| name.len() <= NAME_LIMIT && name != ".." && name != "."), "{path:?}");
            let name: String = path.iter().map(|name| name.to_str().unwrap()).collect();
            assert_eq!(decoded(&name).as_deref(), Some(key));
        }
        // 200 and 201 characters: one is not the folder of the other.
        assert_ne!(encoded(&"x".repeat(200)).iter().next(), encoded(&"x".repeat(201)).iter().next());
    }

    #[test]
    fn foreign_names_are_no_keys() {
        for name in ["", "x", "%=", "%4=", "%ZZ=", "%FF="] {
            assert_eq!(decoded(name), None, "{name}");
        }
    }
}

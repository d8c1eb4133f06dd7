//! What goes into the child and comes out of it: a line with the declared type and the bytes; JSON.

use std::io::{self, BufRead, Read};

use domain::limit::ATTACHMENT_MAX_BYTES;

use crate::MediaType;

/// Stands for no declared type.
const UNDECLARED: &str = "-";
/// Bytes of the first line.
const LINE_MAX: u64 = 128;

/// The line before the bytes.
pub(crate) fn head(declared: Option<MediaType>) -> String {
    format!("{}\n", declared.map_or(UNDECLARED, MediaType::as_str))
}

/// Reads what the parent sent, to its end. A byte more than an attachment may have is read and no further.
pub(crate) fn read(input: impl BufRead) -> io::Result<(Option<MediaType>, Vec<u8>)> {
    let mut input = input;
    let mut line = String::new();
    (&mut input).take(LINE_MAX).read_line(&mut line)?;
    let declared = match line.trim_end_matches('\n') {
        UNDECLARED => None,
        name => Some(MediaType::parse(name).ok_or(io::ErrorKind::InvalidData)?),
    };
    let mut bytes = Vec::new();
    input.take(ATTACHMENT_MAX_BYTES + 1).read_to_end(&mut bytes)?;
    Ok((declared, bytes))
}

/// Bytes within JSON.
pub(crate) mod base64 {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    use serde::{Deserialize, Deserializer, Serializer};

    pub(crate) fn serialize<S: Serializer>(
        bytes: &Option<Vec<u8>>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        match bytes {
            Some(bytes) => serializer.serialize_some(&STANDARD.encode(bytes)),
            None => serializer.serialize_none(),
        }
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<Vec<u8>>, D::Error> {
        let text = Option::<String>::deserialize(deserializer)?;
        text.map(|text| STANDARD.decode(text).map_err(serde::de::Error::custom)).transpose()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_sent_is_read() {
        for declared in MediaType::ALL.map(Some).into_iter().chain([None]) {
            let sent = [head(declared).as_bytes(), b"\n-\nbytes\0"].concat();
            assert_eq!(read(&sent[..]).unwrap(), (declared, b"\n-\nbytes\0".to_vec()));
        }
        assert!(read(&b"text/html\nbytes"[..]).is_err());
        assert!(read(&[b'a'; 1_000][..]).is_err());
    }

    #[test]
    fn no_more_is_read_than_shows_that_it_is_too_much() {
        let sent = head(None).into_bytes();
        let (_, bytes) = read(io::BufReader::new((&sent[..]).chain(io::repeat(b'a')))).unwrap();
        assert_eq!(bytes.len() as u64, ATTACHMENT_MAX_BYTES + 1);
    }
}

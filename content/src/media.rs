//! The types of content that an attachment may have.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A type of content that a task may be given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum MediaType {
    /// `image/png`
    Png,
    /// `image/jpeg`
    Jpeg,
    /// `text/plain`
    Text,
    /// `text/csv`
    Csv,
    /// `text/markdown`
    Markdown,
    /// `application/json`
    Json,
    /// `application/pdf`
    Pdf,
    /// `text/x-log`
    Log,
}

impl MediaType {
    /// All of them, in the order in which people are told of them.
    pub const ALL: [Self; 8] =
        [Self::Png, Self::Jpeg, Self::Text, Self::Csv, Self::Markdown, Self::Json, Self::Pdf, Self::Log];

    /// The type that a `Content-Type` names. Parameters are allowed; a `charset` has to be UTF-8, for nothing else is
    /// read. `None` is for every other type.
    pub fn parse(content_type: &str) -> Option<Self> {
        let mut parts = content_type.split(';');
        let essence = parts.next().unwrap_or_default().trim();
        let media = Self::ALL.into_iter().find(|media| media.as_str().eq_ignore_ascii_case(essence))?;
        for parameter in parts {
            let parameter = parameter.trim();
            if parameter.is_empty() {
                continue;
            }
            let (name, value) = parameter.split_once('=')?;
            let value = value.trim().trim_matches('"');
            if name.trim().eq_ignore_ascii_case("charset") && !value.eq_ignore_ascii_case("utf-8") {
                return None;
            }
        }
        Some(media)
    }

    /// As a content type without parameters.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Png => "image/png",
            Self::Jpeg => "image/jpeg",
            Self::Text => "text/plain",
            Self::Csv => "text/csv",
            Self::Markdown => "text/markdown",
            Self::Json => "application/json",
            Self::Pdf => "application/pdf",
            Self::Log => "text/x-log",
        }
    }

    /// Whether it is a picture: what the model is shown rather than told.
    pub const fn is_image(self) -> bool {
        match self {
            Self::Png | Self::Jpeg => true,
            Self::Text | Self::Csv | Self::Markdown | Self::Json | Self::Pdf | Self::Log => false,
        }
    }

    /// Whether its bytes are text as they are.
    pub const fn is_text(self) -> bool {
        match self {
            Self::Text | Self::Csv | Self::Markdown | Self::Json | Self::Log => true,
            Self::Png | Self::Jpeg | Self::Pdf => false,
        }
    }

    /// The type that the extension of a file's name stands for; the bytes may prove it wrong.
    pub fn of_name(filename: &str) -> Option<Self> {
        let (stem, extension) = filename.rsplit_once('.')?;
        if stem.is_empty() || stem.ends_with(['/', '\\']) {
            return None;
        }
        Some(match extension.to_ascii_lowercase().as_str() {
            "png" => Self::Png,
            "jpg" | "jpeg" => Self::Jpeg,
            "txt" => Self::Text,
            "log" => Self::Log,
            "csv" => Self::Csv,
            "md" | "markdown" => Self::Markdown,
            "json" => Self::Json,
            "pdf" => Self::Pdf,
            _ => return None,
        })
    }
}

impl fmt::Display for MediaType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl Serialize for MediaType {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for MediaType {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).ok_or_else(|| {
            let known: Vec<_> = Self::ALL.iter().map(|media| media.as_str()).collect();
            serde::de::Error::custom(format!(
                "`{text}` is no content type of an attachment; use one of {}",
                known.join(", ")
            ))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_content_type_may_have_parameters_but_one_charset() {
        for media in MediaType::ALL {
            assert_eq!(MediaType::parse(media.as_str()), Some(media));
            assert_eq!(MediaType::parse(&media.as_str().to_uppercase()), Some(media));
        }
        for (text, expected) in [
            ("text/plain; charset=utf-8", Some(MediaType::Text)),
            ("Text/Plain ;Charset=\"UTF-8\"", Some(MediaType::Text)),
            ("text/csv; header=present;", Some(MediaType::Csv)),
            ("text/plain; charset=utf-16", None),
            ("text/plain; charset=latin1; charset=utf-8", None),
            ("text/plain; charset", None),
            ("text/html", None),
            ("image/svg+xml", None),
            ("text/plain, image/png", None),
            ("", None),
            (";", None),
        ] {
            assert_eq!(MediaType::parse(text), expected, "{text}");
        }
    }

    #[test]
    fn a_name_stands_for_a_type_by_its_extension() {
        for (name, expected) in [
            ("a.png", Some(MediaType::Png)),
            ("a.JPG", Some(MediaType::Jpeg)),
            ("a.b.jpeg", Some(MediaType::Jpeg)),
            ("notes.txt", Some(MediaType::Text)),
            ("build.log", Some(MediaType::Log)),
            ("t.csv", Some(MediaType::Csv)),
            ("README.md", Some(MediaType::Markdown)),
            ("README.markdown", Some(MediaType::Markdown)),
            ("dir/x.json", Some(MediaType::Json)),
            ("p.PDF", Some(MediaType::Pdf)),
            ("png", None),
            (".png", None),
            ("dir/.png", None),
            ("a.svg", None),
            ("a.", None),
        ] {
            assert_eq!(MediaType::of_name(name), expected, "{name}");
        }
    }

    #[test]
    fn it_is_written_as_its_content_type() {
        for media in MediaType::ALL {
            let json = serde_json::to_string(&media).unwrap();
            assert_eq!(json, format!("{:?}", media.as_str()));
            assert_eq!(serde_json::from_str::<MediaType>(&json).unwrap(), media);
        }
        let error = serde_json::from_str::<MediaType>("\"text/html\"").unwrap_err().to_string();
        assert!(
            error.starts_with("`text/html` is no content type of an attachment; use one of image/png,"),
            "{error}"
        );
    }
}

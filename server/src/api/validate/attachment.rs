//! Attachments of a request: each with its own code, so that a program knows which rule a file broke. Nothing is looked
//! at beyond what is written; the bytes are looked at elsewhere.

use base64::Engine as _;
use content::MediaType;
use domain::{Attachment, AttachmentKind, AttachmentSource, limit};
use orchestrator::attachment::{fits, types};
use protocol::rest::{AttachmentRequest, ErrorCode};
use sha2::{Digest, Sha256};
use url::Url;

use super::ApiError;

/// Bytes that came within a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inline {
    /// Which attachment of the task's.
    pub place: usize,
    /// The bytes.
    pub bytes: Vec<u8>,
}

/// The attachments that are asked for, and the bytes that came with them.
pub fn read(given: &[AttachmentRequest]) -> Result<(Vec<Attachment>, Vec<Inline>), ApiError> {
    if given.len() > limit::ATTACHMENTS_MAX {
        let max = limit::ATTACHMENTS_MAX;
        let count = given.len();
        return Err(ApiError::invalid(format!("attachments: {count} are given, at most {max} are allowed")));
    }
    let (mut attachments, mut inline) = (Vec::new(), Vec::new());
    for (place, one) in given.iter().enumerate() {
        let (attachment, bytes) = At(place).read(one)?;
        attachments.push(attachment);
        inline.extend(bytes.map(|bytes| Inline { place, bytes }));
    }
    let within: usize = inline.iter().map(|i| i.bytes.len()).sum();
    if within > limit::ATTACHMENTS_INLINE_TOTAL_MAX_BYTES {
        let max = limit::ATTACHMENTS_INLINE_TOTAL_MAX_BYTES;
        let what = format!(
            "attachments: {within} bytes are sent within the request, at most {max} may be; leave `data` out of the larger ones and give `expected_size_bytes`, then upload them"
        );
        return Err(ApiError::new(ErrorCode::AttachmentInlineTooLarge, what));
    }
    let announced: u64 = attachments.iter().map(announced).sum();
    if announced > limit::ATTACHMENTS_TOTAL_MAX_BYTES {
        let max = limit::ATTACHMENTS_TOTAL_MAX_BYTES;
        let what = format!("attachments: they have {announced} bytes together, at most {max} are allowed");
        return Err(ApiError::new(ErrorCode::AttachmentsTotalTooLarge, what));
    }
    Ok((attachments, inline))
}

fn announced(attachment: &Attachment) -> u64 {
    match attachment.source {
        AttachmentSource::Inline { size_bytes, .. } | AttachmentSource::Presigned { size_bytes } => {
            size_bytes
        }
        AttachmentSource::UrlFetch { .. } => 0,
    }
}

/// The place of an attachment in the list, for messages.
struct At(usize);

impl At {
    fn refused(&self, code: ErrorCode, field: &str, why: impl std::fmt::Display) -> ApiError {
        let at = self.0;
        match field {
            "" => ApiError::new(code, format!("attachments[{at}]: {why}")),
            field => ApiError::new(code, format!("attachments[{at}].{field}: {why}")),
        }
    }

    fn invalid(&self, field: &str, why: impl std::fmt::Display) -> ApiError {
        self.refused(ErrorCode::ValidationError, field, why)
    }

    fn read(&self, one: &AttachmentRequest) -> Result<(Attachment, Option<Vec<u8>>), ApiError> {
        let kind = match one.kind.as_str() {
            "image" => AttachmentKind::Image,
            "file" => AttachmentKind::File,
            "url" => AttachmentKind::Url,
            other => {
                let other = domain::event::preview(other, 40);
                return Err(self.invalid("type", format!("must be image, file or url, got {other:?}")));
            }
        };
        let media = one.content_type.as_deref().map(|given| self.media(given)).transpose()?;
        if let Some(media) = media {
            fits(kind, media)
                .map_err(|why| self.refused(ErrorCode::AttachmentInvalidType, "content_type", why))?;
        }
        let (source, bytes) = match (kind, &one.url, &one.data) {
            (AttachmentKind::Url, Some(url), None) => (self.address(url)?, None),
            (AttachmentKind::Url, None, _) => {
                return Err(self.invalid("url", "an attachment of type url needs it"));
            }
            (AttachmentKind::Url, Some(_), Some(_)) => {
                return Err(self.invalid("data", "an attachment of type url has none; it is fetched"));
            }
            (_, Some(_), Some(_)) => return Err(self.invalid("url", "give `url` or `data`, not both")),
            (_, Some(_), None) => return Err(self.invalid("url", "it belongs to the type `url`")),
            (_, None, Some(data)) => {
                let bytes = self.decoded(data)?;
                let sha256 = hex::encode(Sha256::digest(&bytes));
                (AttachmentSource::Inline { size_bytes: bytes.len() as u64, sha256 }, Some(bytes))
            }
            (_, None, None) => (self.upload(one, media)?, None),
        };
        if one.expected_size_bytes.is_some() && !matches!(source, AttachmentSource::Presigned { .. }) {
            return Err(self.invalid(
                "expected_size_bytes",
                "it belongs to an attachment that is uploaded, without data and url",
            ));
        }
        let filename = self.filename(one, media, &source)?;
        let content_type = media.map(|media| media.as_str().to_owned());
        Ok((Attachment { kind, filename, content_type, source }, bytes))
    }

    fn media(&self, given: &str) -> Result<MediaType, ApiError> {
        MediaType::parse(given).ok_or_else(|| {
            let given = domain::event::preview(given, 80);
            let why = format!("{given:?} is no type of an attachment; {}", types());
            self.refused(ErrorCode::AttachmentInvalidType, "content_type", why)
        })
    }

    fn address(&self, given: &str) -> Result<AttachmentSource, ApiError> {
        if given.chars().count() > limit::ATTACHMENT_URL_MAX_CHARS {
            let max = limit::ATTACHMENT_URL_MAX_CHARS;
            return Err(self.invalid("url", format!("at most {max} characters are allowed")));
        }
        let url = Url::parse(given).map_err(|e| self.invalid("url", format!("it is no URL: {e}")))?;
        if url.scheme() != "https" {
            return Err(self.invalid("url", format!("only https:// is fetched, got {}://", url.scheme())));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(self.invalid("url", "it must hold no user name and no password"));
        }
        Ok(AttachmentSource::UrlFetch { url: url.to_string() })
    }

    fn decoded(&self, data: &str) -> Result<Vec<u8>, ApiError> {
        let max = limit::ATTACHMENT_INLINE_MAX_BYTES;
        let too_large = |bytes: usize| {
            let why = format!(
                "{bytes} bytes are too many within a request, at most {max} are allowed; leave `data` out and give `expected_size_bytes`, then upload it"
            );
            self.refused(ErrorCode::AttachmentInlineTooLarge, "data", why)
        };
        // Before it is decoded, so that what is refused costs nothing.
        if data.len() / 4 * 3 > max + 3 {
            return Err(too_large(data.len() / 4 * 3));
        }
        let bytes = base64::engine::general_purpose::STANDARD.decode(data).map_err(|e| {
            self.refused(ErrorCode::AttachmentInvalidContent, "data", format!("it is no base64: {e}"))
        })?;
        match bytes.len() {
            0 => Err(self.refused(ErrorCode::AttachmentInvalidContent, "data", "it is empty")),
            bytes if bytes > max => Err(too_large(bytes)),
            _ => Ok(bytes),
        }
    }

    fn upload(
        &self,
        one: &AttachmentRequest,
        media: Option<MediaType>,
    ) -> Result<AttachmentSource, ApiError> {
        if media.is_none() {
            return Err(
                self.invalid("content_type", format!("an attachment to upload needs it; {}", types()))
            );
        }
        let Some(size) = one.expected_size_bytes else {
            let why = "give `data` (base64), or `expected_size_bytes` to upload it";
            return Err(self.invalid("expected_size_bytes", why));
        };
        let max = limit::ATTACHMENT_MAX_BYTES;
        match u64::try_from(size) {
            Ok(size_bytes) if (1..=max).contains(&size_bytes) => {
                Ok(AttachmentSource::Presigned { size_bytes })
            }
            Ok(size) if size > max => {
                let why = format!("{size} bytes are too many, at most {max} are allowed");
                Err(self.refused(ErrorCode::AttachmentTooLarge, "expected_size_bytes", why))
            }
            _ => Err(self.invalid("expected_size_bytes", format!("must be 1 to {max}, got {size}"))),
        }
    }

    /// Its name: the given one, the last part of its address, or its number.
    fn filename(
        &self,
        one: &AttachmentRequest,
        media: Option<MediaType>,
        source: &AttachmentSource,
    ) -> Result<String, ApiError> {
        if let Some(name) = &one.filename {
            content::check_name(name)
                .map_err(|why| self.refused(ErrorCode::AttachmentInvalidFilename, "filename", why))?;
            return Ok(name.clone());
        }
        if let AttachmentSource::UrlFetch { url } = source {
            let last =
                Url::parse(url).ok().and_then(|url| Some(url.path_segments()?.next_back()?.to_owned()));
            if let Some(last) = last.filter(|last| content::check_name(last).is_ok()) {
                return Ok(last);
            }
        }
        let ending = media.map(|media| format!(".{}", extension(media))).unwrap_or_default();
        Ok(format!("attachment-{}{ending}", self.0 + 1))
    }
}

/// The usual ending of a name.
fn extension(media: MediaType) -> &'static str {
    match media {
        MediaType::Png => "png",
        MediaType::Jpeg => "jpg",
        MediaType::Text => "txt",
        MediaType::Csv => "csv",
        MediaType::Markdown => "md",
        MediaType::Json => "json",
        MediaType::Pdf => "pdf",
        MediaType::Log => "log",
    }
}

#[cfg(test)]
mod tests {
    use axum::response::IntoResponse as _;

    use super::*;

    fn request(json: serde_json::Value) -> AttachmentRequest {
        serde_json::from_value(json).unwrap()
    }

    fn told(json: serde_json::Value) -> (ErrorCode, String) {
        let error = read(&[request(json)]).unwrap_err();
        let said = (error.code(), format!("{error:?}"));
        assert_eq!(error.into_response().status(), 400);
        said
    }

    fn base64(bytes: usize) -> String {
        base64::engine::general_purpose::STANDARD.encode(vec![b'a'; bytes])
    }

    #[test]
    fn every_way_in_is_read() {
        let given = [
            serde_json::json!({ "type": "file", "filename": "a.txt", "data": "aGk=" }),
            serde_json::json!({ "type": "image", "content_type": "image/png", "expected_size_bytes": 10_485_760 }),
            serde_json::json!({ "type": "url", "url": "https://x.example/d/shot.png?x=1" }),
            serde_json::json!({ "type": "url", "url": "https://x.example/" }),
            serde_json::json!({ "type": "file", "data": base64(limit::ATTACHMENT_INLINE_MAX_BYTES) }),
        ];
        let (all, inline) = read(&given.map(request)).unwrap();
        let names: Vec<&str> = all.iter().map(|a| a.filename.as_str()).collect();
        assert_eq!(names, ["a.txt", "attachment-2.png", "shot.png", "attachment-4", "attachment-5"]);
        assert_eq!(inline.iter().map(|i| i.place).collect::<Vec<_>>(), [0, 4]);
        assert_eq!(inline[0].bytes, b"hi");
        assert_eq!(all[1].source, AttachmentSource::Presigned { size_bytes: 10_485_760 });
    }

    /// D-115: every fault had one code.
    #[test]
    fn each_rule_has_its_code_and_names_its_field() {
        use ErrorCode::*;
        let file = |more: serde_json::Value| {
            let mut one = serde_json::json!({ "type": "file" });
            one.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            one
        };
        for (given, code, words) in [
            (serde_json::json!({ "type": "video" }), ValidationError, "attachments[0].type"),
            (serde_json::json!({ "type": "url" }), ValidationError, "attachments[0].url"),
            (
                serde_json::json!({ "type": "url", "url": "http://x.example/a" }),
                ValidationError,
                "only https",
            ),
            (
                serde_json::json!({ "type": "url", "url": "https://u:p@x.example/a" }),
                ValidationError,
                "no password",
            ),
            (serde_json::json!({ "type": "url", "url": "/etc/passwd" }), ValidationError, "no URL"),
            (
                serde_json::json!({ "type": "url", "url": "https://x/a", "data": "aGk=" }),
                ValidationError,
                "data",
            ),
            (file(serde_json::json!({ "url": "https://x/a" })), ValidationError, "type `url`"),
            (file(serde_json::json!({ "url": "https://x/a", "data": "aGk=" })), ValidationError, "not both"),
            (file(serde_json::json!({})), ValidationError, "content_type"),
            (
                file(serde_json::json!({ "content_type": "text/plain" })),
                ValidationError,
                "expected_size_bytes",
            ),
            (
                file(serde_json::json!({ "content_type": "text/plain", "expected_size_bytes": 0 })),
                ValidationError,
                "1 to",
            ),
            (
                file(serde_json::json!({ "content_type": "text/plain", "expected_size_bytes": 10_485_761 })),
                AttachmentTooLarge,
                "10485760",
            ),
            (
                file(serde_json::json!({ "content_type": "image/gif", "data": "aGk=" })),
                AttachmentInvalidType,
                "image/gif",
            ),
            (
                file(serde_json::json!({ "content_type": "image/png", "data": "aGk=" })),
                AttachmentInvalidType,
                "type `image`",
            ),
            (
                serde_json::json!({ "type": "image", "content_type": "text/plain", "data": "aGk=" }),
                AttachmentInvalidType,
                "no image",
            ),
            (file(serde_json::json!({ "data": "a*" })), AttachmentInvalidContent, "base64"),
            (file(serde_json::json!({ "data": "" })), AttachmentInvalidContent, "empty"),
            (
                file(serde_json::json!({ "data": base64(limit::ATTACHMENT_INLINE_MAX_BYTES + 1) })),
                AttachmentInlineTooLarge,
                "512000",
            ),
            (
                file(serde_json::json!({ "data": base64(limit::ATTACHMENT_INLINE_MAX_BYTES * 3) })),
                AttachmentInlineTooLarge,
                "512000",
            ),
            (
                file(serde_json::json!({ "data": "aGk=", "filename": "../a" })),
                AttachmentInvalidFilename,
                "filename",
            ),
            (
                file(serde_json::json!({ "data": "aGk=", "filename": ".env" })),
                AttachmentInvalidFilename,
                "filename",
            ),
            (
                file(serde_json::json!({ "data": "aGk=", "expected_size_bytes": 2 })),
                ValidationError,
                "expected_size_bytes",
            ),
        ] {
            let (got, text) = told(given.clone());
            assert_eq!(got, code, "{given}: {text}");
            assert!(text.contains(words), "{given}: {text}");
        }
    }

    #[test]
    fn sums_are_bounded() {
        let inline = request(
            serde_json::json!({ "type": "file", "data": base64(limit::ATTACHMENT_INLINE_MAX_BYTES) }),
        );
        assert!(read(&vec![inline.clone(); 6]).is_ok());
        assert_eq!(read(&vec![inline.clone(); 7]).unwrap_err().code(), ErrorCode::AttachmentInlineTooLarge);
        let upload = request(serde_json::json!({
            "type": "file", "content_type": "text/plain", "expected_size_bytes": 10_485_760,
        }));
        assert!(read(&vec![upload.clone(); 5]).is_ok());
        assert_eq!(read(&vec![upload; 6]).unwrap_err().code(), ErrorCode::AttachmentsTotalTooLarge);
        assert_eq!(read(&vec![inline; 11]).unwrap_err().code(), ErrorCode::ValidationError);
    }
}

//! What an answer of the service means, in words of the seam, and what a person can do.
//!
//! Of an answer only its status, code and message are told: its other fields repeat the request, with session tokens
//! among its headers.

use std::error::Error;
use std::time::Duration;

use object_store::client::{HttpError, HttpErrorKind};
use objects::ObjectError;

/// Characters of a service's message that are told.
const MESSAGE_MAX: usize = 300;

/// The bucket and what is below it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) bucket: String,
    pub(crate) prefix: String,
    pub(crate) region: String,
}

impl Place {
    /// The whole name of what is called `name` below the prefix.
    pub(crate) fn name(&self, name: &str) -> String {
        match self.prefix.as_str() {
            "" => name.to_owned(),
            prefix => format!("{prefix}/{name}"),
        }
    }

    /// The name below the prefix of what is called `name` in the bucket.
    pub(crate) fn below<'a>(&self, name: &'a str) -> Option<&'a str> {
        match self.prefix.as_str() {
            "" => Some(name),
            prefix => name.strip_prefix(prefix)?.strip_prefix('/'),
        }
    }

    pub(crate) fn uri(&self, name: &str) -> String {
        format!("s3://{}/{}", self.bucket, self.name(name))
    }
}

/// Why something was not done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Cause {
    /// There is no such object.
    Absent,
    /// There is no room.
    Full(String),
    /// A person must act.
    Refused(String),
    /// It may pass.
    Unavailable(String),
}

impl Cause {
    pub(crate) fn error(self, doing: String) -> ObjectError {
        match self {
            Cause::Absent => ObjectError::Unavailable { doing, reason: "it is not there any more".into() },
            Cause::Full(reason) => ObjectError::NotWritable { doing, reason },
            Cause::Refused(reason) => ObjectError::Refused { doing, reason },
            Cause::Unavailable(reason) => ObjectError::Unavailable { doing, reason },
        }
    }
}

/// What the service said, or did not.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Answer {
    /// A status with what its body says.
    Status(u16, Told),
    /// A redirection to nowhere.
    Elsewhere,
    /// None in time.
    Late,
    /// The connection could not be made.
    Unreachable(String),
    /// The connection or the answer broke.
    Broken(String),
    /// A list has a name that is no path.
    Foreign(String),
}

/// The code and the message of a body; empty where it has none.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Told {
    code: String,
    message: String,
}

pub(crate) fn of(error: &object_store::Error, place: &Place, patience: Duration) -> Cause {
    judge(&answer(error), place, patience)
}

/// Reads what the crate below says: the kinds of its errors, and of a status the words, which it keeps in a text only.
fn answer(error: &(dyn Error + 'static)) -> Answer {
    let mut last = error.to_string();
    for error in chain(error) {
        if let Some(http) = error.downcast_ref::<HttpError>() {
            let deepest = chain(error).last().map(ToString::to_string);
            let deepest = short(&deepest.unwrap_or_default());
            return match http.kind() {
                HttpErrorKind::Timeout => Answer::Late,
                HttpErrorKind::Connect => Answer::Unreachable(deepest),
                _ => Answer::Broken(deepest),
            };
        }
        last = error.to_string();
        if error.is::<object_store::path::Error>() {
            return Answer::Foreign(short(&last));
        }
        if let Some(rest) = last.strip_prefix("Server returned non-2xx status code: ") {
            let status = rest.get(..3).and_then(|number| number.parse().ok()).unwrap_or(0);
            return Answer::Status(status, told(rest));
        }
        if let Some(body) = last.strip_prefix("Server returned error response: ") {
            return Answer::Status(503, told(body));
        }
        if last.starts_with("Received redirect without LOCATION") {
            return Answer::Elsewhere;
        }
    }
    Answer::Broken(short(&last))
}

/// An error and what it comes from.
fn chain<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    let mut next = Some(error);
    std::iter::from_fn(move || {
        let error = next?;
        next = error.source();
        Some(error)
    })
}

fn judge(answer: &Answer, place: &Place, patience: Duration) -> Cause {
    let (bucket, region) = (&place.bucket, &place.region);
    let (status, told) = match answer {
        Answer::Status(status, told) => (*status, told),
        Answer::Elsewhere => return Cause::Refused(elsewhere(region, "")),
        Answer::Late => {
            return Cause::Unavailable(format!(
                "no answer within {} s (objects.s3.timeout_s)",
                patience.as_secs_f64()
            ));
        }
        Answer::Unreachable(why) => {
            return Cause::Unavailable(format!("the service cannot be reached: {why}"));
        }
        Answer::Broken(why) => return Cause::Unavailable(format!("the answer broke off: {why}")),
        Answer::Foreign(why) => {
            return Cause::Refused(format!(
                "an object is there that is not of this server, and whose name is no path ({why}): remove it, or set \
                 objects.s3.prefix to a prefix of its own"
            ));
        }
    };
    let said = said(status, told);
    match (status, told.code.as_str()) {
        (_, "NoSuchBucket") => Cause::Refused(format!(
            "the bucket {bucket} is not there ({said}): make it, or correct objects.s3.bucket"
        )),
        (_, "InvalidBucketName") => Cause::Refused(format!("{said}: correct objects.s3.bucket")),
        (404, "" | "NoSuchKey" | "NotFound") => Cause::Absent,
        (_, "RequestTimeTooSkewed" | "RequestExpired") => Cause::Refused(format!(
            "{said}: the clock of this machine is wrong, or the service's; set it (NTP), they may differ by 15 minutes"
        )),
        (_, "InvalidAccessKeyId") => Cause::Refused(format!("{said}: correct objects.s3.access_key_id")),
        (_, "SignatureDoesNotMatch") => Cause::Refused(format!(
            "{said}: objects.s3.secret_access_key does not belong to the access key, or a proxy changes requests"
        )),
        (_, "ExpiredToken" | "InvalidToken" | "TokenRefreshRequired") => {
            Cause::Refused(format!("{said}: give a new objects.s3.session_token with its keys"))
        }
        (301 | 302 | 307, _)
        | (
            _,
            "AuthorizationHeaderMalformed"
            | "PermanentRedirect"
            | "TemporaryRedirect"
            | "IllegalLocationConstraintException",
        ) => Cause::Refused(elsewhere(region, &said)),
        (507, _)
        | (
            _,
            "QuotaExceeded" | "XMinioStorageFull" | "XMinioAdminBucketQuotaExceeded" | "InsufficientCapacity",
        ) => Cause::Full(said),
        (401 | 403, _) => Cause::Refused(format!(
            "{said}: the credentials need s3:GetObject, s3:PutObject, s3:DeleteObject and s3:AbortMultipartUpload on \
             the objects of {}, and s3:ListBucket on the bucket {bucket}",
            place.uri("")
        )),
        (405 | 501, _) => Cause::Refused(format!("{said}: the service cannot do what is asked")),
        (_, "NoSuchUpload") | (408 | 409 | 412 | 429, _) | (500.., _) => Cause::Unavailable(said),
        (400..500, _) => Cause::Refused(said),
        (_, _) => Cause::Unavailable(said),
    }
}

fn elsewhere(region: &str, said: &str) -> String {
    let said = if said.is_empty() { String::new() } else { format!("{said}: ") };
    format!(
        "{said}the bucket is in another region than {region}; correct objects.s3.region (or objects.s3.endpoint)"
    )
}

fn said(status: u16, told: &Told) -> String {
    match (told.code.as_str(), told.message.as_str()) {
        ("", _) => format!("status {status}"),
        (code, "") => format!("status {status} {code}"),
        (code, message) => format!("status {status} {code}, {}", message.trim_end_matches('.')),
    }
}

fn told(body: &str) -> Told {
    let field = |name: &str| {
        let (_, rest) = body.split_once(&format!("<{name}>"))?;
        Some(rest.split_once(&format!("</{name}>"))?.0)
    };
    let text = |field: Option<&str>| {
        let plain = [("&quot;", "\""), ("&apos;", "'"), ("&lt;", "<"), ("&gt;", ">"), ("&amp;", "&")];
        let text = field.unwrap_or_default().to_owned();
        short(&plain.iter().fold(text, |text, (from, to)| text.replace(from, to)))
    };
    Told { code: text(field("Code")), message: text(field("Message")) }
}

/// One line that is not long.
fn short(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(MESSAGE_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place() -> Place {
        Place { bucket: "traces".into(), prefix: "team".into(), region: "eu-central-1".into() }
    }

    fn judged(status: u16, body: &str) -> Cause {
        judge(&Answer::Status(status, told(body)), &place(), Duration::from_secs(30))
    }

    #[test]
    fn an_answer_tells_whether_to_wait_to_act_or_that_nothing_is_there() {
        let body = |code: &str| format!("<Error><Code>{code}</Code><Message>Words.</Message></Error>");
        let judged = |status, code: &str| match judged(status, &body(code)) {
            Cause::Absent => "absent".to_owned(),
            Cause::Full(reason) => format!("full: {reason}"),
            Cause::Refused(reason) => format!("refused: {reason}"),
            Cause::Unavailable(reason) => format!("unavailable: {reason}"),
        };
        for (status, code, words) in [
            (404, "NoSuchKey", "absent"),
            (404, "NoSuchBucket", "refused: the bucket traces is not there"),
            (404, "NoSuchUpload", "unavailable: status 404 NoSuchUpload"),
            (403, "AccessDenied", "s3:PutObject"),
            (403, "RequestTimeTooSkewed", "the clock"),
            (403, "InvalidAccessKeyId", "objects.s3.access_key_id"),
            (403, "SignatureDoesNotMatch", "objects.s3.secret_access_key"),
            (400, "ExpiredToken", "objects.s3.session_token"),
            (400, "AuthorizationHeaderMalformed", "another region than eu-central-1"),
            (301, "PermanentRedirect", "another region than eu-central-1"),
            (400, "EntityTooLarge", "refused: status 400 EntityTooLarge, Words"),
            (507, "XMinioStorageFull", "full: status 507"),
            (501, "NotImplemented", "the service cannot do"),
            (429, "TooManyRequests", "unavailable: status 429"),
            (500, "InternalError", "unavailable: status 500 InternalError, Words"),
            (503, "SlowDown", "unavailable: status 503"),
        ] {
            let said = judged(status, code);
            assert!(said.contains(words), "{status} {code}: {said}");
        }
        assert_eq!(
            super::judge(&Answer::Status(404, Told::default()), &place(), Duration::ZERO),
            Cause::Absent
        );
    }

    #[test]
    fn of_a_body_only_code_and_message_are_told() {
        let body = "<?xml version=\"1.0\"?><Error><Code>SignatureDoesNotMatch</Code><Message>It&apos;s &amp;lt;</Message>\
            <AWSAccessKeyId>AKIA</AWSAccessKeyId><CanonicalRequest>x-amz-security-token:t0ken</CanonicalRequest></Error>";
        assert_eq!(told(body), Told { code: "SignatureDoesNotMatch".into(), message: "It's &lt;".into() });
        let Cause::Refused(reason) = judged(403, body) else { panic!("refused") };
        assert!(!reason.contains("t0ken") && !reason.contains("AKIA"), "{reason}");
        assert_eq!(told("<html>no</html>"), Told::default());
    }

    #[test]
    fn names_are_below_the_prefix() {
        let place = place();
        assert_eq!(place.uri("a/b"), "s3://traces/team/a/b");
        assert_eq!(place.below("team/a/b"), Some("a/b"));
        assert_eq!((place.below("teams/a"), place.below("other")), (None, None));
    }
}

//! What a PDF would do when opened, and what else it carries.

use lopdf::{Dictionary, Document, Object};

use crate::Refusal;

/// Refuses a document of which any object runs something, sends something or is a file of its own. All objects are
/// looked at, also those that nothing refers to: another reader may find a way to them.
///
/// Links to web pages and within the document are no such things.
pub(super) fn check(document: &Document) -> Result<(), Refusal> {
    match document.objects.values().find_map(|object| of_object(document, object)) {
        Some(what) => Err(Refusal::ActivePdf(what.into())),
        None => Ok(()),
    }
}

/// Objects are as deep as the reader lets them be (100).
fn of_object(document: &Document, object: &Object) -> Option<&'static str> {
    match object {
        Object::Array(items) => items.iter().find_map(|item| of_object(document, item)),
        Object::Dictionary(dictionary) => of_dictionary(document, dictionary),
        Object::Stream(stream) => of_dictionary(document, &stream.dict),
        Object::Null
        | Object::Boolean(_)
        | Object::Integer(_)
        | Object::Real(_)
        | Object::Name(_)
        | Object::String(..)
        | Object::Reference(_) => None,
    }
}

fn of_dictionary(document: &Document, dictionary: &Dictionary) -> Option<&'static str> {
    let name = |key: &[u8]| {
        dictionary.get(key).ok().and_then(|value| document.dereference(value).ok()).and_then(|(_, value)| {
            match value {
                Object::Name(name) => Some(name.as_slice()),
                _ => None,
            }
        })
    };
    let has = |key: &[u8]| dictionary.get(key).is_ok_and(|value| !matches!(value, Object::Null));
    by_key(has)
        .or_else(|| name(b"S").and_then(action))
        .or_else(|| name(b"Type").and_then(kind))
        .or_else(|| name(b"Subtype").and_then(kind))
        .or_else(|| dictionary.iter().find_map(|(_, value)| of_object(document, value)))
}

fn by_key(has: impl Fn(&[u8]) -> bool) -> Option<&'static str> {
    [
        (&b"JS"[..], "JavaScript"),
        (b"JavaScript", "JavaScript"),
        (b"XFA", "an XFA form (a program of its own)"),
        (b"EmbeddedFiles", "embedded files"),
        (b"EF", "an embedded file"),
        (b"RichMediaContent", "rich media"),
        (b"RichMediaSettings", "rich media"),
    ]
    .into_iter()
    .find_map(|(key, what)| has(key).then_some(what))
}

/// Actions that do more than to show another place.
fn action(name: &[u8]) -> Option<&'static str> {
    Some(match name {
        b"JavaScript" => "JavaScript",
        b"Launch" => "an action that starts a program (Launch)",
        b"SubmitForm" => "an action that sends a form (SubmitForm)",
        b"ImportData" => "an action that reads a file (ImportData)",
        b"GoToE" => "an action that opens an embedded file (GoToE)",
        b"Rendition" | b"Movie" | b"Sound" => "an action that plays media",
        b"RichMediaExecute" => "rich media",
        b"GoTo3DView" => "a 3D model",
        _ => return None,
    })
}

fn kind(name: &[u8]) -> Option<&'static str> {
    Some(match name {
        b"EmbeddedFile" | b"FileAttachment" => "an embedded file",
        b"RichMedia" => "rich media",
        b"Movie" | b"Sound" | b"Screen" => "media",
        b"3D" => "a 3D model",
        _ => return None,
    })
}

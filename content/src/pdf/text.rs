//! The text that a PDF shows: of its pages, of the forms drawn on them, and of its annotations.
//!
//! It is what is screened and what may be shown to a model, so nothing that a reader would show is left out on purpose:
//! also what is white on white or off the page.

use std::collections::HashMap;

use domain::limit::{ATTACHMENT_PDF_MAX_TEXT_BYTES, ATTACHMENT_PDF_MAX_UNPACKED_BYTES};
use lopdf::content::{Content, Operation};
use lopdf::{Dictionary, Document, Encoding, Object, Stream, decode_text_string};

use super::page::{Page, dictionary};
use super::{bad, refusal, within};
use crate::Refusal;

/// How deep forms may lie in forms.
const FORMS_DEPTH_MAX: usize = 12;
/// What one more stream costs of the budget, however small it is.
const STREAM_COST: usize = 1_024;
/// Space between two parts of a line, in thousandths of the size of letters, from which on it is a space.
const GAP: f32 = 180.0;

/// Lets fonts that say which characters their codes are be read by that and not by their encoding.
pub(super) fn prefer_unicode(document: &mut Document) {
    for object in document.objects.values_mut() {
        if let Object::Dictionary(font) = object
            && font.has_type(b"Font")
            && font.has(b"ToUnicode")
        {
            font.remove(b"Encoding");
        }
    }
}

pub(super) fn extract(document: &Document, pages: &[Page<'_>]) -> Result<String, Refusal> {
    let mut reader = Reader {
        document,
        fonts: HashMap::new(),
        text: String::new(),
        budget: ATTACHMENT_PDF_MAX_UNPACKED_BYTES,
    };
    for page in pages {
        let resources = Resources { own: page.resources, outer: None };
        let content = reader.content(page.dictionary)?;
        reader.draw(&content, &resources, 0)?;
        reader.annotations(page.dictionary, &resources)?;
        reader.line();
    }
    let end = reader.text.trim_end().len();
    reader.text.truncate(end);
    Ok(reader.text)
}

/// What names in a content stream stand for: those of a form, else those of what it is drawn on.
struct Resources<'a, 'o> {
    own: Option<&'a Dictionary>,
    outer: Option<&'o Resources<'a, 'o>>,
}

struct Reader<'a> {
    document: &'a Document,
    /// By where their dictionary is: each is read once. `None` is for one that cannot be read.
    fonts: HashMap<*const Dictionary, Option<Encoding<'a>>>,
    text: String,
    /// Bytes that may still be unpacked.
    budget: usize,
}

impl<'a> Reader<'a> {
    /// All content of a page: pieces that are one when put together.
    fn content(&mut self, page: &'a Dictionary) -> Result<Vec<u8>, Refusal> {
        let mut content = Vec::new();
        let mut pieces = vec![page.get(b"Contents").unwrap_or(&Object::Null)];
        let mut number = 0;
        while number < pieces.len() {
            match self.document.dereference(pieces[number]) {
                Ok((_, Object::Stream(stream))) => {
                    content.extend_from_slice(&self.unpack(stream)?);
                    content.push(b'\n');
                }
                // An array in an array is none of the format's.
                Ok((_, Object::Array(items))) if number == 0 => pieces.extend(items),
                _ => (),
            }
            number += 1;
        }
        Ok(content)
    }

    fn unpack(&mut self, stream: &Stream) -> Result<Vec<u8>, Refusal> {
        self.spend(STREAM_COST)?;
        let content = stream.get_plain_content_with_limit(self.budget).map_err(|error| refusal(&error))?;
        self.spend(content.len())?;
        Ok(content)
    }

    fn spend(&mut self, cost: usize) -> Result<(), Refusal> {
        self.budget = self.budget.checked_sub(cost).ok_or_else(|| bad("it unpacks to too much"))?;
        Ok(())
    }

    /// Follows the operations of a content stream, as far as text depends on them.
    fn draw(&mut self, content: &[u8], resources: &Resources<'a, '_>, depth: usize) -> Result<(), Refusal> {
        if depth > FORMS_DEPTH_MAX {
            return Err(bad("its forms lie too deep in one another"));
        }
        // A reader that goes on behind what cannot be read would show what is not screened.
        Content::decode_strict(content).map_err(|_| bad("what it shows cannot be read to its end"))?;
        let mut font: Option<*const Dictionary> = None;
        // The line that text stands on, as the last matrix said.
        let mut baseline = None;
        for operation in Content::decode_iter(content) {
            let Operation { operator, operands } = operation.map_err(|error| refusal(&error))?;
            match operator.as_str() {
                "Tf" => font = self.font(operands.first(), resources)?,
                "Tj" => self.show(font, &operands)?,
                "TJ" => self.show(font, &operands)?,
                "'" | "\"" => {
                    self.line();
                    self.show(font, operands.get(operands.len().saturating_sub(1)..).unwrap_or_default())?;
                }
                "T*" => self.line(),
                "Td" | "TD" => match number(operands.get(1)) {
                    0.0 => self.space(),
                    _ => self.line(),
                },
                "Tm" => {
                    let at = number(operands.get(5));
                    if baseline.replace(at) == Some(at) { self.space() } else { self.line() }
                }
                "ET" => self.line(),
                "Do" => self.form(operands.first(), resources, depth)?,
                _ => (),
            }
        }
        Ok(())
    }

    fn font(
        &mut self,
        name: Option<&Object>,
        resources: &Resources<'a, '_>,
    ) -> Result<Option<*const Dictionary>, Refusal> {
        let Some(Object::Dictionary(font)) = self.named(b"Font", name, resources) else { return Ok(None) };
        let key: *const Dictionary = font;
        if !self.fonts.contains_key(&key) {
            if let Ok((_, Object::Stream(map))) =
                font.get(b"ToUnicode").and_then(|map| self.document.dereference(map))
            {
                self.unpack(map)?;
            }
            let encoding =
                font.get_font_encoding_with_limit(self.document, ATTACHMENT_PDF_MAX_UNPACKED_BYTES);
            self.fonts.insert(key, encoding.ok().filter(|encoding| reads(font, encoding)));
        }
        Ok(Some(key))
    }

    /// What a name of a kind of resource stands for.
    fn named(&self, kind: &[u8], name: Option<&Object>, resources: &Resources<'a, '_>) -> Option<&'a Object> {
        let name = name?.as_name().ok()?;
        let mut resources = Some(resources);
        while let Some(Resources { own, outer }) = resources {
            let named =
                own.and_then(|own| dictionary(self.document, own, kind)).and_then(|all| all.get(name).ok());
            if let Some(named) = named {
                return self.document.dereference(named).ok().map(|(_, object)| object);
            }
            resources = *outer;
        }
        None
    }

    fn form(
        &mut self,
        name: Option<&Object>,
        outer: &Resources<'a, '_>,
        depth: usize,
    ) -> Result<(), Refusal> {
        match self.named(b"XObject", name, outer) {
            Some(Object::Stream(form)) => self.draw_form(form, outer, depth),
            _ => Ok(()),
        }
    }

    fn draw_form(
        &mut self,
        form: &'a Stream,
        outer: &Resources<'a, '_>,
        depth: usize,
    ) -> Result<(), Refusal> {
        if !matches!(form.dict.get(b"Subtype"), Ok(Object::Name(kind)) if kind == b"Form") {
            return Ok(());
        }
        let content = self.unpack(form)?;
        let own = dictionary(self.document, &form.dict, b"Resources");
        self.draw(&content, &Resources { own, outer: Some(outer) }, depth + 1)
    }

    /// What is stuck onto a page: what it says, what it is filled in with and how it looks.
    fn annotations(&mut self, page: &'a Dictionary, outer: &Resources<'a, '_>) -> Result<(), Refusal> {
        let document = self.document;
        let Ok((_, Object::Array(annotations))) =
            page.get(b"Annots").and_then(|annotations| document.dereference(annotations))
        else {
            return Ok(());
        };
        for annotation in annotations {
            self.spend(STREAM_COST)?;
            let Ok((_, Object::Dictionary(annotation))) = document.dereference(annotation) else { continue };
            for key in [&b"Contents"[..], b"T", b"V"] {
                let value = annotation.get(key).and_then(|value| document.dereference(value));
                if let Some(said) = value.ok().and_then(|(_, value)| decode_text_string(value).ok()) {
                    self.line();
                    self.text.push_str(&said.replace(unwanted, ""));
                    within(&self.text)?;
                }
            }
            self.line();
            let looks = dictionary(document, annotation, b"AP").and_then(|looks| looks.get(b"N").ok());
            match looks.and_then(|looks| document.dereference(looks).ok()).map(|(_, looks)| looks) {
                Some(Object::Stream(form)) => self.draw_form(form, outer, 0)?,
                // One for each state of a button.
                Some(Object::Dictionary(states)) => {
                    for (_, state) in states.iter() {
                        if let Ok((_, Object::Stream(form))) = document.dereference(state) {
                            self.draw_form(form, outer, 0)?;
                        }
                    }
                }
                _ => (),
            }
        }
        Ok(())
    }

    fn show(&mut self, font: Option<*const Dictionary>, operands: &[Object]) -> Result<(), Refusal> {
        for operand in operands {
            match operand {
                Object::String(bytes, _) => self.write(font, bytes)?,
                Object::Array(items) => {
                    for item in items {
                        match item {
                            Object::String(bytes, _) => self.write(font, bytes)?,
                            item if number(Some(item)) < -GAP => self.space(),
                            _ => (),
                        }
                    }
                }
                _ => (),
            }
        }
        Ok(())
    }

    fn write(&mut self, font: Option<*const Dictionary>, bytes: &[u8]) -> Result<(), Refusal> {
        // Each code is a character at least: more of them is too much, whatever they are.
        if bytes.len() > 4 * ATTACHMENT_PDF_MAX_TEXT_BYTES {
            return Err(Refusal::PdfTooMuchText { bytes: bytes.len() });
        }
        if let Some(Some(encoding)) = font.and_then(|font| self.fonts.get(&font)) {
            let from = self.text.len();
            // A code without a character is no text; what was read until then is.
            let _ = encoding.write_to_string(bytes, &mut self.text);
            if self.text[from..].contains(unwanted) {
                let wanted = self.text.split_off(from).replace(unwanted, "");
                self.text.push_str(&wanted);
            }
        }
        within(&self.text)
    }

    fn line(&mut self) {
        let end = self.text.trim_end_matches(' ').len();
        self.text.truncate(end);
        if !self.text.is_empty() && !self.text.ends_with('\n') {
            self.text.push('\n');
        }
    }

    fn space(&mut self) {
        if !self.text.is_empty() && !self.text.ends_with([' ', '\n']) {
            self.text.push(' ');
        }
    }
}

/// Whether codes of the font are read by this encoding. The reader falls back to one of single bytes, which those of a
/// composite font are not: what that gives is noise, and noise passes any screen.
fn reads(font: &Dictionary, encoding: &Encoding<'_>) -> bool {
    let composite = matches!(font.get(b"Subtype"), Ok(Object::Name(kind)) if kind == b"Type0");
    match encoding {
        Encoding::UnicodeMapEncoding(_) | Encoding::SimpleEncoding(_) => true,
        Encoding::OneByteEncoding(_) | Encoding::Differences(_) => !composite,
    }
}

/// Characters that a font may map codes to, and that no text has.
fn unwanted(c: char) -> bool {
    c.is_control() && !matches!(c, '\n' | '\t')
}

fn number(object: Option<&Object>) -> f32 {
    object.and_then(|object| object.as_float().ok()).unwrap_or_default()
}

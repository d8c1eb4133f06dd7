//! The pages of a PDF, in order.

use std::collections::HashSet;

use domain::limit::ATTACHMENT_PDF_MAX_PAGES;
use lopdf::{Dictionary, Document, Object, ObjectId};

use super::bad;
use crate::Refusal;

/// Nodes of the tree that pages hang on.
const NODES_MAX: usize = 10_000;
/// How deep that tree may be.
const DEPTH_MAX: usize = 64;

/// A page with what it has of its own or of the nodes above it.
pub(super) struct Page<'a> {
    pub(super) dictionary: &'a Dictionary,
    pub(super) resources: Option<&'a Dictionary>,
}

/// Walks the tree of pages. A node that is met twice is refused: it leads back to itself, or is drawn many times over.
pub(super) fn pages(document: &Document) -> Result<Vec<Page<'_>>, Refusal> {
    let catalog = document.catalog().map_err(|_| bad("it has no catalog"))?;
    let root = catalog.get(b"Pages").and_then(Object::as_reference).map_err(|_| bad("it has no pages"))?;
    let mut seen = HashSet::new();
    let mut pages = Vec::new();
    // Nodes still to look at, the next one last.
    let mut open: Vec<(ObjectId, usize, Option<&Dictionary>)> = vec![(root, 0, None)];
    while let Some((id, depth, inherited)) = open.pop() {
        if !seen.insert(id) {
            return Err(bad("its tree of pages leads back to itself"));
        }
        if seen.len() > NODES_MAX || depth > DEPTH_MAX {
            return Err(bad("its tree of pages is too large"));
        }
        let Ok(node) = document.get_dictionary(id) else { return Err(bad("a page of it is missing")) };
        let resources = dictionary(document, node, b"Resources").or(inherited);
        match node.get(b"Kids").and_then(|kids| document.dereference(kids)).map(|(_, kids)| kids) {
            Ok(Object::Array(kids)) => {
                if open.len() + kids.len() > NODES_MAX {
                    return Err(bad("its tree of pages is too large"));
                }
                for kid in kids.iter().rev() {
                    let kid = kid.as_reference().map_err(|_| bad("a page of it is missing"))?;
                    open.push((kid, depth + 1, resources));
                }
            }
            _ => pages.push(Page { dictionary: node, resources }),
        }
        if pages.len() > ATTACHMENT_PDF_MAX_PAGES as usize {
            return Err(Refusal::PdfTooManyPages { pages: pages.len() as u32 });
        }
    }
    if pages.is_empty() {
        return Err(bad("it has no pages"));
    }
    Ok(pages)
}

/// The dictionary at a key, directly or by reference.
pub(super) fn dictionary<'a>(
    document: &'a Document,
    of: &'a Dictionary,
    key: &[u8],
) -> Option<&'a Dictionary> {
    let value = of.get(key).ok()?;
    document.dereference(value).ok()?.1.as_dict().ok()
}

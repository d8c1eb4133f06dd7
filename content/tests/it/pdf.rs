//! PDFs: what they say, and what they would do.

use content::{Checked, MediaType, Refusal, check};
use domain::limit::{ATTACHMENT_PDF_MAX_PAGES, ATTACHMENT_PDF_MAX_TEXT_BYTES};

use crate::made::{bomb, one_page, packed, pages, pdf, pdf_of, shows, stream, zip};

fn checked(bytes: &[u8]) -> Result<Checked, Refusal> {
    check(Some(MediaType::Pdf), bytes)
}

fn text(bytes: &[u8]) -> String {
    checked(bytes).unwrap().text.unwrap()
}

fn refused(bytes: &[u8]) -> String {
    match checked(bytes) {
        Err(Refusal::BadPdf(why)) => why,
        other => panic!("{other:?}"),
    }
}

#[test]
fn its_text_is_read() {
    let checked = checked(&pdf("Hello, world")).unwrap();
    assert_eq!(checked.media, MediaType::Pdf);
    assert_eq!(checked.text.as_deref(), Some("Hello, world"));
    assert_eq!((checked.tokens, checked.size, checked.clean), (3, None, None));
}

#[test]
fn lines_and_words_are_told_apart() {
    let content =
        b"BT /F1 12 Tf 72 720 Td (one) Tj ( two) Tj 0 -14 Td [(th) 20 (ree) -400 (four)] TJ T* (five) Tj \
        (six) ' 1 2 (seven) \" 1 0 0 1 72 500 Tm (eight) Tj 1 0 0 1 99 500 Tm (nine) Tj 40 0 Td (ten) Tj ET";
    let file = pdf_of(&one_page("", "", stream("", content), &[]), "");
    assert_eq!(text(&file), "one two\nthree four\nfive\nsix\nseven\neight nine ten");
}

#[test]
fn it_is_read_wherever_it_stands() {
    let form = |content: &[u8]| stream("/Type/XObject/Subtype/Form/BBox[0 0 9 9]", content);
    let hidden = "1 1 1 rg BT /F1 1 Tf -999 -999 Td (white, and off the page) Tj ET /X6 Do";
    let annotation = "/Annots[<</Type/Annot/Subtype/Text/Contents(a note)>><</Subtype/Widget/V(filled in)/AP<</N 7 0 R>>>>]";
    let objects = one_page(
        "",
        annotation,
        stream("/Filter/FlateDecode", &packed(hidden.as_bytes())),
        &[form(b"BT /F1 9 Tf (in a form) Tj ET"), form(b"BT /F1 9 Tf (as it looks) Tj ET")],
    );
    assert_eq!(
        text(&pdf_of(&objects, "")),
        "white, and off the page\nin a form\na note\nfilled in\nas it looks"
    );
}

#[test]
fn a_font_says_which_characters_its_codes_are() {
    let map = b"/CIDInit /ProcSet findresource begin\n12 dict begin\nbegincmap\n/CIDSystemInfo\n<< /Registry (Adobe)\n\
        /Ordering (UCS)\n/Supplement 0\n>> def\n/CMapName /Adobe-Identity-UCS def\n/CMapType 2 def\n\
        1 begincodespacerange\n<0000> <FFFF>\nendcodespacerange\n\
        2 beginbfchar\n<0001> <0048>\n<0002> <0069>\nendbfchar\n\
        endcmap\nCMapName currentdict /CMap defineresource pop\nend\nend\n";
    let mut objects = one_page("", "", stream("", b"BT /F1 9 Tf <00010002> Tj ET"), &[stream("", map)]);
    objects[3] = b"<</Type/Font/Subtype/Type0/BaseFont/A/Encoding/Identity-H/ToUnicode 6 0 R>>".to_vec();
    assert_eq!(text(&pdf_of(&objects, "")), "Hi");
}

#[test]
fn pages_are_bounded() {
    let most = ATTACHMENT_PDF_MAX_PAGES as usize;
    let said = text(&pages(most));
    assert!(said.starts_with("Page 1\nPage 2\n") && said.ends_with("Page 50"), "{said}");
    for count in [most + 1, 5_000] {
        assert_eq!(checked(&pages(count)), Err(Refusal::PdfTooManyPages { pages: 51 }));
    }
}

#[test]
fn text_is_bounded_and_never_cut() {
    let most = ATTACHMENT_PDF_MAX_TEXT_BYTES;
    // The end of the text adds a line's end, which is taken away again only afterwards.
    let of = |bytes: usize| {
        let content = packed(&shows(&"a".repeat(bytes)));
        pdf_of(&one_page("", "", stream("/Filter/FlateDecode", &content), &[]), "")
    };
    assert_eq!(text(&of(most)).len(), most);
    assert_eq!(checked(&of(most + 1)), Err(Refusal::PdfTooMuchText { bytes: most + 1 }));
    let often = shows("abcdefgh").repeat(most / 8);
    let often = pdf_of(&one_page("", "", stream("/Filter/FlateDecode", &packed(&often)), &[]), "");
    assert!(matches!(checked(&often), Err(Refusal::PdfTooMuchText { .. })));
}

#[test]
fn pictures_of_pages_are_no_text() {
    for content in
        ["", "q 612 0 0 792 0 0 cm /X6 Do Q", "BT /F1 9 Tf (  ) Tj ET", "BT /Unknown 9 Tf (text) Tj ET"]
    {
        let image = stream(
            "/Type/XObject/Subtype/Image/Width 1/Height 1/ColorSpace/DeviceGray/BitsPerComponent 8",
            b"a",
        );
        let file = pdf_of(&one_page("", "", stream("", content.as_bytes()), &[image]), "");
        assert_eq!(checked(&file), Err(Refusal::PdfWithoutText), "{content}");
    }
}

#[test]
fn what_acts_or_carries_is_refused_by_name() {
    let javascript = "<</S/JavaScript/JS(app.alert(1))>>";
    let mut found = String::new();
    for (catalog, page, more) in [
        (format!("/OpenAction{javascript}"), "", ""),
        ("/OpenAction 6 0 R".into(), "", javascript),
        ("/OpenAction 6 0 R".into(), "", "<</S/#4aava#53cript/#4aS(1)>>"),
        (format!("/AA<</WC{javascript}>>"), "", ""),
        ("/Names<</JavaScript<</Names[(a) 6 0 R]>>>>".into(), "", "<<>>"),
        (String::new(), "/AA<</O<</S/Launch/F(cmd.exe)>>>>", ""),
        (String::new(), "/Annots[<</Subtype/Link/A<</S/Launch/Win<</F(x)>>>>>>]", ""),
        (String::new(), "/Annots[<</Subtype/Link/A<</S/SubmitForm/F(http://x)>>>>]", ""),
        (String::new(), "/Annots[<</Subtype/Link/A<</S/ImportData/F(x)>>>>]", ""),
        (String::new(), "/Annots[<</Subtype/Link/A<</S/URI/URI(x)/Next[<</S/Launch>>]>>>>]", ""),
        (String::new(), "/Annots[<</Subtype/FileAttachment>>]", ""),
        (String::new(), "/Annots[<</Subtype/RichMedia>>]", ""),
        (String::new(), "/Annots[<</Subtype/Screen>>]", ""),
        (String::new(), "/Annots[<</Subtype/3D>>]", ""),
        ("/Names<</EmbeddedFiles 6 0 R>>".into(), "", "<<>>"),
        (String::new(), "", "<</Type/Filespec/F(x)/EF<</F 5 0 R>>>>"),
        (String::new(), "", "<</Type/EmbeddedFile>>"),
        ("/AcroForm<</XFA[(template) 6 0 R]>>".into(), "", "<<>>"),
    ] {
        let more: Vec<_> = if more.is_empty() { vec![] } else { vec![more.as_bytes().to_vec()] };
        let file = pdf_of(&one_page(&catalog, page, stream("", &shows("hello")), &more), "");
        match checked(&file) {
            Err(Refusal::ActivePdf(what)) => found.push_str(&format!("{what}\n")),
            other => panic!("{catalog} {page} {more:?}: {other:?}"),
        }
    }
    insta::assert_snapshot!(found);
}

#[test]
fn links_and_places_are_no_actions() {
    for (catalog, page) in [
        ("/OpenAction[3 0 R/XYZ null null 0]", ""),
        ("/OpenAction<</S/GoTo/D[3 0 R/Fit]>>", ""),
        ("/AcroForm<</Fields[]/XFA null>>", ""),
        ("", "/Annots[<</Subtype/Link/A<</S/URI/URI(https://example.com)>>>>]"),
    ] {
        let file = pdf_of(&one_page(catalog, page, stream("", &shows("hello")), &[]), "");
        assert_eq!(text(&file), "hello");
    }
}

#[test]
fn an_encrypted_one_is_refused() {
    let handler = b"<</Filter/Standard/V 1/R 2/O(12345678901234567890123456789012)/U(12345678901234567890123456789012)/P -4>>";
    let objects = one_page("", "", stream("", &shows("hello")), &[handler.to_vec()]);
    for trailer in [
        "/Encrypt 6 0 R/ID[(a)(a)]",
        "/Encrypt<</Filter/Standard/V 1>>",
        "/Encrypt<</Filter/Own>>/ID[(a)(a)]",
    ] {
        assert_eq!(checked(&pdf_of(&objects, trailer)), Err(Refusal::EncryptedPdf), "{trailer}");
    }
}

#[test]
fn a_file_that_is_something_else_too_is_refused() {
    let sound = pdf("hello");
    assert_eq!(refused(&[&sound[..], b"PK"].concat()), "something follows its end");
    assert_eq!(refused(&[&sound[..], &zip(b"")].concat()), "something follows its end");
    assert_eq!(
        checked(&[&sound[..], &zip(b"%%EOF")].concat()),
        Err(Refusal::ActivePdf("a ZIP archive at its end".into()))
    );
    assert_eq!(text(&[&sound[..], b"\r\n\0\0"].concat()), "hello");
    let behind = [&b"text before "[..], &sound].concat();
    assert!(matches!(checked(&behind), Err(Refusal::WrongType { .. })));
}

#[test]
fn a_cut_one_is_refused() {
    let sound = pdf("hello");
    for end in (5..sound.len() - 2).step_by(7) {
        assert!(checked(&sound[..end]).is_err(), "cut at {end}");
    }
}

#[test]
fn what_leads_back_to_itself_ends() {
    let of = |pages: &str| {
        let mut objects = one_page("", "", stream("", &shows("hello")), &[]);
        objects[1] = pages.as_bytes().to_vec();
        pdf_of(&objects, "")
    };
    let loops = "its tree of pages leads back to itself";
    assert_eq!(refused(&of("<</Type/Pages/Kids[2 0 R]>>")), loops);
    assert_eq!(refused(&of("<</Type/Pages/Kids[3 0 R 3 0 R]>>")), loops);
    assert_eq!(refused(&of("<</Type/Pages/Kids[]>>")), "it has no pages");
    assert_eq!(refused(&of("<</Type/Pages/Kids[99 0 R]>>")), "a page of it is missing");
    let kids = "3 0 R ".repeat(20_000);
    assert_eq!(refused(&of(&format!("<</Type/Pages/Kids[{kids}]>>"))), "its tree of pages is too large");
    // A form that draws itself; a font and a page that are each other.
    let itself = stream("/Type/XObject/Subtype/Form", b"/X6 Do /X6 Do");
    let file = pdf_of(&one_page("", "", stream("", b"/X6 Do"), &[itself]), "");
    assert_eq!(refused(&file), "its forms lie too deep in one another");
    let mut objects = one_page("", "", stream("", &shows("hello")), &[]);
    objects[3] = b"4 0 R".to_vec();
    assert_eq!(checked(&pdf_of(&objects, "")), Err(Refusal::PdfWithoutText));
}

#[test]
fn what_unpacks_to_too_much_is_refused() {
    // Content, a map of a font, and a group of objects.
    let bomb = bomb(65 << 20);
    let huge = stream("/Filter/FlateDecode", &bomb);
    let too_much = "it unpacks to too much";
    assert_eq!(refused(&pdf_of(&one_page("", "", huge.clone(), &[]), "")), too_much);
    let mut objects = one_page("", "", stream("", &shows("hello")), &[huge]);
    objects[3] = b"<</Type/Font/Subtype/Type1/BaseFont/A/ToUnicode 6 0 R>>".to_vec();
    assert_eq!(refused(&pdf_of(&objects, "")), too_much);
    let twice = packed(&bomb);
    let twice = stream("/Filter[/FlateDecode/FlateDecode]", &twice);
    assert_eq!(refused(&pdf_of(&one_page("", "", twice, &[]), "")), too_much);
    // Many small forms, each of which draws the next one many times.
    let mut more = Vec::new();
    for number in 6..16 {
        let next = format!("/Type/XObject/Subtype/Form/Resources<</XObject<</N {} 0 R>>>>", number + 1);
        more.push(stream(&next, &b"/N Do ".repeat(100)));
    }
    more.push(stream("/Type/XObject/Subtype/Form", b""));
    assert_eq!(refused(&pdf_of(&one_page("", "", stream("", b"/X6 Do"), &more), "")), too_much);
}

#[test]
fn what_is_nested_deep_does_not_break_the_reader() {
    for (open, close) in [("[", "]"), ("<</A", ">>"), ("(", ")")] {
        let deep = format!("{}{}", open.repeat(10_000), close.repeat(10_000));
        for file in [
            pdf_of(&one_page("", "", stream("", &shows("hello")), &[deep.clone().into_bytes()]), ""),
            pdf_of(&one_page(&format!("/Deep {deep}"), "", stream("", &shows("hello")), &[]), ""),
            pdf_of(&one_page("", "", stream("", format!("{deep} Tj").as_bytes()), &[]), ""),
        ] {
            // Whether the rest is readable without it is the reader's to say.
            assert!(matches!(checked(&file), Ok(_) | Err(Refusal::BadPdf(_) | Refusal::PdfWithoutText)));
        }
    }
}

/// Codes of two bytes each, read one by one, would be noise that nobody can screen.
#[test]
fn codes_that_nothing_explains_are_no_text() {
    let mut objects = one_page("", "", stream("", b"BT /F1 9 Tf <0041004200430044> Tj ET"), &[]);
    objects[3] = b"<</Type/Font/Subtype/Type0/BaseFont/A/Encoding/Identity-H>>".to_vec();
    assert_eq!(checked(&pdf_of(&objects, "")), Err(Refusal::PdfWithoutText));
}

/// A reader that goes on behind it would show what nobody screened.
#[test]
fn what_is_shown_is_read_to_its_end_or_not_at_all() {
    for garbage in ["}", ")", ">>", "<</A", "BI /W 1 ID"] {
        let content = format!("BT /F1 9 Tf (shown) Tj {garbage} (hidden) Tj ET");
        let file = pdf_of(&one_page("", "", stream("", content.as_bytes()), &[]), "");
        assert_eq!(refused(&file), "what it shows cannot be read to its end", "{garbage}");
    }
}

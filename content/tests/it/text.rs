//! Text, and what only looks like it.

use content::{MediaType, Refusal, check};
use domain::limit::ATTACHMENT_MAX_BYTES;

use crate::made;

#[test]
fn text_is_taken_as_it_is() {
    for (declared, bytes, media, text, tokens) in [
        (None, &b"hello"[..], MediaType::Text, "hello", 2),
        (None, b"{\"a\":1}", MediaType::Json, "{\"a\":1}", 2),
        (None, b"[not json", MediaType::Text, "[not json", 3),
        (Some(MediaType::Log), b"\x1b[31mred\x1b[0m\r\n", MediaType::Log, "\x1b[31mred\x1b[0m\r\n", 4),
        (Some(MediaType::Csv), b"a;b\n1;2", MediaType::Csv, "a;b\n1;2", 2),
        (Some(MediaType::Markdown), b"# T\n<p>x</p>", MediaType::Markdown, "# T\n<p>x</p>", 3),
        (Some(MediaType::Text), b"{\"a\":1}", MediaType::Text, "{\"a\":1}", 2),
        (Some(MediaType::Text), b"\xef\xbb\xbfmarked", MediaType::Text, "marked", 2),
        (Some(MediaType::Json), b"\xef\xbb\xbf [1] ", MediaType::Json, " [1] ", 2),
    ] {
        let checked = check(declared, bytes).unwrap();
        assert_eq!((checked.media, checked.text.as_deref(), checked.tokens), (media, Some(text), tokens));
        assert_eq!((checked.size, checked.clean), (None, None));
    }
}

#[test]
fn a_file_has_between_one_byte_and_ten_mebibytes() {
    assert_eq!(check(None, b""), Err(Refusal::Empty));
    let mut bytes = vec![b'a'; ATTACHMENT_MAX_BYTES as usize];
    assert!(check(None, &bytes).is_ok());
    bytes.push(b'a');
    assert_eq!(check(None, &bytes), Err(Refusal::TooLarge { bytes: ATTACHMENT_MAX_BYTES + 1 }));
}

#[test]
fn all_of_a_text_is_text() {
    for (bytes, at) in [
        (&b"a\0"[..], 1),
        (b"ab\xff", 2),
        (b"\xc3", 0),
        (b"caf\xe9", 3),
        (b"\xed\xa0\x80", 0),
        (b"\xc0\x80", 0),
    ] {
        for declared in [None, Some(MediaType::Text), Some(MediaType::Csv), Some(MediaType::Json)] {
            assert_eq!(check(declared, bytes), Err(Refusal::NotText { at }), "{declared:?} {bytes:?}");
        }
    }
    let mut bytes = vec![b'a'; 64 * 1024];
    bytes.extend_from_slice(b"\0\x01\x02");
    assert_eq!(check(None, &bytes), Err(Refusal::NotText { at: 64 * 1024 }));
}

#[test]
fn json_is_json() {
    let Err(Refusal::BadJson(why)) = check(Some(MediaType::Json), b"{\"a\": }") else { panic!() };
    assert_eq!(why, "expected value at line 1 column 7");
    let deep = "[".repeat(100_000);
    let Err(Refusal::BadJson(why)) = check(Some(MediaType::Json), deep.as_bytes()) else { panic!() };
    assert!(why.contains("100 deep"), "{why}");
    assert_eq!(check(None, deep.as_bytes()).unwrap().media, MediaType::Text);
}

#[test]
fn what_is_declared_is_what_the_bytes_are() {
    let (png, jpeg, pdf) = (made::png(2, 2), made::jpeg(8, 8), made::pdf("hello"));
    let all = [
        (png.as_slice(), MediaType::Png),
        (&jpeg, MediaType::Jpeg),
        (&pdf, MediaType::Pdf),
        (b"[1]", MediaType::Json),
        (b"text", MediaType::Text),
    ];
    for (bytes, found) in all {
        assert_eq!(check(None, bytes).unwrap().media, found);
        for declared in MediaType::ALL {
            let text = declared.is_text() && found.is_text();
            match check(Some(declared), bytes) {
                Ok(checked) => {
                    assert_eq!(checked.media, declared);
                    assert!(declared == found || text, "{declared} was taken for {found}");
                }
                Err(Refusal::BadJson(_)) => assert_eq!((declared, found), (MediaType::Json, MediaType::Text)),
                Err(refusal) => {
                    assert_eq!(refusal, Refusal::WrongType { declared, found: Some(found) });
                    assert!(declared != found && !text, "{declared} was not taken for {found}");
                }
            }
        }
    }
    let garbage = check(Some(MediaType::Png), b"\x01\x02\xff");
    assert_eq!(garbage, Err(Refusal::WrongType { declared: MediaType::Png, found: None }));
}

#[test]
fn a_disguise_is_named() {
    let zip = made::zip(b"");
    let mut svg = b"<?xml version=\"1.0\"?><!DOCTYPE svg><svg onload=\"alert(1)\"/>".to_vec();
    let mut found = String::new();
    let mut disguises = vec![
        zip,
        b"PK\x03\x04\x14\0".to_vec(),
        [&b"\x1f\x8b"[..], &made::bomb(1 << 20)].concat(),
        b"\x7fELF\x02\x01\x01".to_vec(),
        b"MZ\x90\0\x03".to_vec(),
        b"GIF89a/*\x01*/=1;alert(1)".to_vec(),
        b"RIFF$$$$WEBPVP8 ".to_vec(),
        b"<!doctype HTML>\n<script>alert(1)</script>".to_vec(),
        b"\xef\xbb\xbf \n<html>".to_vec(),
        b"{\\rtf1\\ansi}".to_vec(),
        b"%!PS-Adobe-3.0".to_vec(),
        b"h\0i\0".to_vec(),
        b"\xff\xfeh\0i\0".to_vec(),
        b"\0\0\0\x20ftypavif".to_vec(),
        b"SQLite format 3\0".to_vec(),
    ];
    disguises.push(std::mem::take(&mut svg));
    for bytes in disguises {
        let refused = check(Some(MediaType::Text), &bytes).unwrap_err();
        assert_eq!(check(None, &bytes).unwrap_err(), refused);
        found.push_str(&format!("{refused}\n"));
    }
    insta::assert_snapshot!(found);
}

/// People read all of them.
#[test]
fn every_refusal_is_a_sentence() {
    let refusals = [
        Refusal::Empty,
        Refusal::WrongType { declared: MediaType::Text, found: Some(MediaType::Png) },
        Refusal::WrongType { declared: MediaType::Png, found: None },
        Refusal::Foreign { is: "a ZIP archive".into() },
        Refusal::TooLarge { bytes: 10_485_761 },
        Refusal::NotText { at: 8_192 },
        Refusal::BadJson("expected value at line 1 column 7".into()),
        Refusal::BadImage("it is cut off".into()),
        Refusal::ImageTooLarge { width: 60_000, height: 60_000 },
        Refusal::BadPdf("it is cut off".into()),
        Refusal::EncryptedPdf,
        Refusal::PdfWithoutText,
        Refusal::PdfTooManyPages { pages: 51 },
        Refusal::PdfTooMuchText { bytes: 1_048_577 },
        Refusal::ActivePdf("JavaScript".into()),
        Refusal::TooSlow,
        Refusal::TooCostly,
    ];
    let lines = refusals.iter().map(|refusal| {
        let json = serde_json::to_string(refusal).unwrap();
        assert_eq!(serde_json::from_str::<Refusal>(&json).unwrap(), *refusal);
        format!("{refusal}\n    {json}\n")
    });
    insta::assert_snapshot!(lines.collect::<String>());
}

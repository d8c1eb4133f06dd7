//! The child under its bounds, and a parent that lives on.

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::Duration;

use content::{InspectError, Inspector, MediaType, Refusal, check};
use domain::limit::{ATTACHMENT_IMAGE_MAX_PIXELS, ATTACHMENT_INSPECTIONS_AT_ONCE};

use crate::made;

fn inspector() -> Inspector {
    Inspector::new(PathBuf::from(env!("CARGO_BIN_EXE_content-inspect")))
}

#[tokio::test]
async fn the_child_says_what_is_said_here() {
    let inspector = inspector();
    let comment = made::chunk(b"tEXt", b"Comment\0hello");
    let rows = made::chunk(b"IDAT", &made::packed(&made::rows(8, 8)));
    let files = [
        (None, made::png(8, 8)),
        (None, made::png_of(&[made::header(8, 8), comment, rows])),
        (None, made::jpeg(64, 64)),
        (None, made::pdf("Hello, world")),
        (Some(MediaType::Csv), b"a;b\n".to_vec()),
        (Some(MediaType::Json), b"{".to_vec()),
        (Some(MediaType::Text), made::png(8, 8)),
        (Some(MediaType::Pdf), made::pages(51)),
        (None, made::png(8, 8)[..40].to_vec()),
        (None, Vec::new()),
    ];
    for (declared, bytes) in files {
        let here = check(declared, &bytes);
        assert_eq!(inspector.check(declared, bytes).await.unwrap(), here);
    }
}

#[tokio::test]
async fn the_largest_pictures_fit_into_its_memory() {
    let (width, height) = (8_000, (ATTACHMENT_IMAGE_MAX_PIXELS / 8_000) as u32);
    let png = made::png_of(&[
        made::header_of(width, height, 1, 0, 0),
        made::chunk(b"IDAT", &made::bomb((width as usize / 8 + 1) * height as usize)),
    ]);
    for file in [png, made::jpeg(width as u16, height as u16)] {
        let patient = inspector().with_patience(Duration::from_secs(120));
        let checked = patient.check(None, file).await.unwrap().unwrap();
        assert_eq!(checked.size, Some((width, height)));
    }
}

/// Five million numbers in ten megabytes: each takes its reader a hundred bytes and more.
#[tokio::test]
async fn one_that_takes_too_much_memory_ends_the_child_alone() {
    let numbers = format!("/A[{}]", "0 ".repeat(5_000_000));
    let content = made::stream("", &made::shows("hello"));
    let bomb = made::pdf_of(&made::one_page(&numbers, "", content, &[]), "");
    let inspector = inspector();
    let patient = inspector.clone().with_patience(Duration::from_secs(120));
    assert_eq!(patient.check(None, bomb).await.unwrap(), Err(Refusal::TooCostly));
    let text = inspector.check(None, made::pdf("still here")).await.unwrap().unwrap().text;
    assert_eq!(text.as_deref(), Some("still here"));
}

#[tokio::test]
async fn one_that_takes_too_long_is_ended() {
    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join("never");
    std::fs::write(&program, "#!/bin/sh\nexec sleep 1000\n").unwrap();
    std::fs::set_permissions(&program, PermissionsExt::from_mode(0o755)).unwrap();
    let impatient = Inspector::new(program).with_patience(Duration::from_millis(50));
    // More than may be looked at at once: who was given up holds no place.
    for _ in 0..2 * ATTACHMENT_INSPECTIONS_AT_ONCE {
        assert_eq!(impatient.check(None, made::png(8, 8)).await.unwrap(), Err(Refusal::TooSlow));
    }
}

#[tokio::test]
async fn a_program_that_is_none_is_this_machines_fault() {
    let png = made::png(8, 8);
    let missing = Inspector::new("/nowhere/at/all".into()).check(None, png.clone()).await;
    assert!(matches!(missing, Err(InspectError::Start { .. })), "{missing:?}");
    let other = Inspector::new("/bin/false".into()).check(None, png.clone()).await;
    assert!(matches!(other, Err(InspectError::Ended(_))), "{other:?}");
    let nonsense = Inspector::new("/bin/echo".into()).check(None, png).await;
    assert!(matches!(nonsense, Err(InspectError::Answer(_) | InspectError::Talk(_))), "{nonsense:?}");
}
